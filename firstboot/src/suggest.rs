//! The nearest right names for a misspelt one.

/// Up to three of `known` that look most like `wanted`: the hint for a misspelt name.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    const ALIKE: f64 = 0.75;
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|(score_a, name_a), (score_b, name_b)| score_b.total_cmp(score_a).then(name_a.cmp(name_b)));
    scored.dedup_by_key(|(_, name)| *name);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// What to say when no file is named `word`: the nearest right name, or all of them.
pub fn nearest_or_all(word: &str, names: &[String], what: &str) -> String {
    match nearest(word, names.iter().map(String::as_str)).first() {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("there are no {what}"),
        None => format!("{what}: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_what_looks_like_it_and_nonsense_finds_nothing() {
        assert_eq!(nearest("modulse", ["firmware", "modules"]), ["modules"]);
        assert_eq!(nearest("xyz", ["firmware", "modules"]), Vec::<&str>::new());
        assert_eq!(nearest_or_all("xyz", &["base".to_owned(), "qemu".to_owned()], "profiles"), "profiles: base, qemu");
    }
}
