//! Refusals in words.

use std::fmt::{self, Write as _};

use crate::report::Mistake;

/// Bytes of an explanation that anybody may want to read.
const READABLE: usize = 8 << 10;

/// resolvo's phrases in the words of Debian's relations. Its first line says what our own says.
const PHRASES: [(&str, &str); 8] = [
    ("The following packages are incompatible\n", ""),
    ("cannot be installed because there are no viable options:", "cannot be installed:"),
    ("can be installed with any of the following options:", "could be:"),
    (" would require", " needs"),
    (" would constrain", " excludes"),
    (", for which no candidates were found.", ", which no suite has"),
    (", which conflicts with the versions reported above.", ", which rules out the versions above"),
    (", which conflicts with any installable versions previously reported", ""),
];

/// The solver's tree of reasons as a mistake.
pub(super) fn conflict(tree: &dyn fmt::Display) -> Mistake {
    let tree = PHRASES.iter().fold(beginning(tree), |tree, (theirs, ours)| tree.replace(theirs, ours));
    let lines: Vec<String> = without_repetitions(&tree)
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("  {line}"))
        .collect();
    Mistake::new(format!("the profile's packages cannot be installed together:\n{}", lines.join("\n")))
        .hint("change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes")
}

/// Where packages that need each other clash, resolvo 0.12.2 goes round in circles and never ends (`fmt_graph` in its
/// conflict.rs follows a package again that it is still inside of).
fn beginning(tree: &dyn fmt::Display) -> String {
    struct Beginning(String);
    impl fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            if self.0.len() + text.len() > READABLE {
                return Err(fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut text = Beginning(String::new());
    if write!(text, "{tree}").is_err() {
        let whole_lines = text.0.rfind('\n').map_or(0, |end| end + 1);
        text.0.truncate(whole_lines);
        text.0.push_str("and so on\n");
    }
    text.0
}

/// The solver names a leaf once for each version that it stands for; of equal siblings the last stays.
fn without_repetitions(tree: &str) -> Vec<&str> {
    let lines: Vec<(usize, &str, &str)> = tree
        .lines()
        .map(|line| {
            let content = line.trim_start_matches(['│', '├', '└', '─', ' ']);
            (line.chars().count() - content.chars().count(), content, line)
        })
        .collect();
    let repeated = |number: usize| {
        let (depth, content, _) = lines[number];
        let rest = &lines[number + 1..];
        let is_leaf = rest.first().is_none_or(|next| next.0 <= depth);
        is_leaf && rest.iter().take_while(|line| line.0 >= depth).any(|line| (line.0, line.1) == (depth, content))
    };
    (0..lines.len()).filter(|number| !repeated(*number)).map(|number| lines[number].2).collect()
}

/// No package of that name; the nearest ones are. Counted by edits, not by [`crate::suggest`]'s common
/// beginnings, for half of all packages begin with `lib`.
pub(super) fn unknown<'a>(wanted: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Mistake {
    let mut near: Vec<(usize, &str)> = known
        .filter(|other| other.len().abs_diff(name.len()) <= 2)
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 5)
        .collect();
    near.sort_unstable();
    near.truncate(3);
    let mistake = Mistake::new(format!("no archive of the profile has a package `{wanted}`"));
    let names: Vec<&str> = near.into_iter().map(|(_, name)| name).collect();
    if names.is_empty() {
        mistake.hint("search packages.debian.org for its name in trixie, or add the archive or component that has it")
    } else {
        mistake.hint(format!("did you mean {}?", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("├─ a 1 would require\n")?;
            }
        }
    }

    #[test]
    fn reasons_that_go_round_in_circles_end_somewhere() {
        let text = conflict(&Endless).to_string();
        assert!(text.len() < 2 * READABLE && text.ends_with("and so on"), "{text}");
        assert!(text.contains("a 1 needs"), "{text}");
    }
}
