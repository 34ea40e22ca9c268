//! Refusals in words.

use crate::report::Mistake;

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
pub(super) fn conflict(tree: &str) -> Mistake {
    let tree = PHRASES.iter().fold(tree.to_owned(), |tree, (theirs, ours)| tree.replace(theirs, ours));
    let lines: Vec<String> = without_repetitions(&tree)
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("  {line}"))
        .collect();
    Mistake::new(format!("the profile's packages cannot be installed together:\n{}", lines.join("\n")))
        .hint("change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes")
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
