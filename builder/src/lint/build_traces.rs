//! What a build left of itself in the files that programs wrote while the image was made: its time, its paths, its
//! machine. Files that packages and overlays ship are as they are, whoever builds.
//!
//! File *times* need no lint: `mkfs.erofs --all-time` gives every file the same one. A story in a virtual machine
//! looks at all of them.

use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use super::root::Node;
use super::{Finding, Lint, Root};

/// What of the machine that builds must not be in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its folders: the store, the sources, the user's home.
    pub folders: Vec<PathBuf>,
    /// Its name.
    pub host: String,
    /// Who builds.
    pub user: String,
}

/// Names that are in many images by right.
const COMMON_HOSTS: [&str; 4] = ["debian", "host", "larder", "localhost"];

pub(super) const TIMESTAMPS: Lint = Lint {
    name: "timestamps",
    protects_from: "the time of the build in generated files, which makes every build another one",
    check: |root| {
        in_written_files(root, |path, node, content| {
            let time = time_in(content, node.changed)?;
            Ok(time.map(|time| {
                const MEND: &str = "let its maker follow SOURCE_DATE_EPOCH, or remove the file (`files.remove`)";
                Finding::new(path, format!("holds the time of its making: `{time}`"), MEND)
            }))
        })
    },
};

pub(super) const BUILD_PATHS: Lint = Lint {
    name: "build-paths",
    protects_from: "names of the machine, the user and the folders of the build in generated files",
    check: |root| {
        let names = names(root);
        let searcher = AhoCorasick::new(&names)?;
        in_written_files(root, |path, _, content| {
            let mut matches = searcher.find_overlapping_iter(content);
            let found = matches.find(|found| is_word(content, found.start(), found.end()));
            Ok(found.map(|found| {
                const MEND: &str =
                    "let its maker leave it out (--remap-path-prefix), or remove the file (`files.remove`)";
                let name = &names[found.pattern().as_usize()];
                Finding::new(path, format!("names what is of the building machine: `{name}`"), MEND)
            }))
        })
    },
};

/// What is found in the content of files that programs wrote while the image was made.
fn in_written_files(
    root: &Root,
    look: impl Fn(&Path, &Node, &[u8]) -> anyhow::Result<Option<Finding>> + Sync,
) -> anyhow::Result<Vec<Finding>> {
    let written = root.files().filter(|(_, node)| node.written).par_bridge();
    let found: anyhow::Result<Vec<_>> =
        written.map(|(path, node)| look(path, node, &root.read(path)?.unwrap_or_default())).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// How the day and the second of `changed` may be written down in `content`.
fn time_in(content: &[u8], changed: i64) -> anyhow::Result<Option<String>> {
    let day = Timestamp::from_second(changed)?.to_zoned(TimeZone::UTC);
    let mut patterns: Vec<String> = [
        "%Y-%m-%d",
        "%Y/%m/%d",
        "%Y%m%d",
        "%d.%m.%Y",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d %b %Y",
        "%-d %b %Y",
        "%b %d, %Y",
        "%b %-d, %Y",
        "%d %B %Y",
        "%-d %B %Y",
        "%B %-d, %Y",
        // C's __DATE__
        "%b %e %Y",
        // date(1): `Sun Nov 22 20:13:42 UTC 2026`
        "%a %b %e",
    ]
    .iter()
    .map(|format| day.strftime(format).to_string())
    .collect();
    let dates = patterns.len();
    // Seconds since 1970 have ten digits; five of them last for a day and more.
    const LASTS: i64 = 100_000;
    patterns.extend([changed - LASTS, changed].map(|second| (second / LASTS).to_string()));
    for found in AhoCorasick::new(&patterns)?.find_overlapping_iter(content) {
        let (start, end) = (found.start(), found.end());
        if found.pattern().as_usize() < dates {
            if is_number(content, start, end) {
                return Ok(Some(patterns[found.pattern().as_usize()].clone()));
            }
        } else if let Some(second) = second_at(content, start)
            && (second - changed).abs() < 86_400
        {
            return Ok(Some(second.to_string()));
        }
    }
    Ok(None)
}

/// Whether no further digit is beside: `120261122` is not the day 2026-11-22.
fn is_number(content: &[u8], start: usize, end: usize) -> bool {
    let digit = |at: Option<usize>| at.and_then(|at| content.get(at)).is_some_and(u8::is_ascii_digit);
    !digit(start.checked_sub(1)) && !digit(Some(end))
}

/// The number of ten digits that starts here.
fn second_at(content: &[u8], start: usize) -> Option<i64> {
    let end = start + 10;
    let digits = content.get(start..end).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    is_number(content, start, end).then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// What to look for: whole words, and none that an image may hold by right.
fn names(root: &Root) -> Vec<String> {
    let Machine { folders, host, user } = &root.machine;
    let mut names: Vec<String> =
        folders.iter().filter(|folder| is_telling(root, folder)).map(|folder| folder.display().to_string()).collect();
    let own = host.len() > 3 && !COMMON_HOSTS.contains(&&**host) && !is_file_name(root, host);
    names.extend(own.then(|| host.clone()));
    names.extend((!host.is_empty() && !user.is_empty()).then(|| format!("{user}@{host}")));
    names
}

/// `/root` and `/tmp` are folders of the image too: only what is not there is of the building machine.
fn is_telling(root: &Root, folder: &Path) -> bool {
    folder.is_absolute() && root.resolve(folder).is_err()
}

/// A machine may be called like a program or a package.
fn is_file_name(root: &Root, word: &str) -> bool {
    root.nodes().any(|(path, _)| path.file_name().is_some_and(|name| name.eq_ignore_ascii_case(word)))
}

/// Whether the match is not a part of a longer word.
fn is_word(content: &[u8], start: usize, end: usize) -> bool {
    let part = |at: Option<usize>| {
        at.and_then(|at| content.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    !part(start.checked_sub(1)) && !part(Some(end))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, findings};
    use super::*;

    /// Sunday, 2026-11-22, 20:13:42.
    const MADE: i64 = 1_795_378_422;

    #[test]
    fn the_day_and_the_second_of_the_making_are_found() {
        let found = |text: &str| time_in(text.as_bytes(), MADE).unwrap();
        for text in [
            "# made 2026-11-22",
            "20261122",
            "Sun Nov 22 20:13:42 UTC 2026",
            "22 Nov 2026",
            "x 1795378000 y",
            "Nov 22 2026",
        ] {
            assert!(found(text).is_some(), "{text}");
        }
        for text in ["2026-11-21", "120261122", "17953780001", "1795000000", "1754697600", "Nov 22", ""] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn files_that_programs_wrote_with_their_time_are_found() {
        let tree = Tree::new()
            .file("var/lib/x/stamp", "2026-11-22\n")
            .file("usr/share/doc/news", "2026-11-22\n")
            .file("etc/calm", "no time\n");
        let mut root = tree.root();
        for path in ["var/lib/x/stamp", "usr/share/doc/news", "etc/calm"] {
            root.node_mut(path).changed = MADE;
        }
        root.node_mut("usr/share/doc/news").written = false;
        assert_eq!(findings(&TIMESTAMPS, &root), ["/var/lib/x/stamp: holds the time of its making: `2026-11-22`"]);
    }

    #[test]
    fn names_of_the_building_machine_are_found() {
        let machine = |host: &str| Machine {
            folders: vec!["/home/ann/.cache/larder".into(), "/root".into()],
            host: host.into(),
            user: "ann".into(),
        };
        let tree = Tree::new()
            .folder("root")
            .file("etc/a", "built in /home/ann/.cache/larder/v1\n")
            .file("etc/b", "ann@workhorse\n")
            .file("etc/c", "workhorses\n")
            .file("etc/d", "HOME=/root\n")
            .file("usr/bin/make", "make\n");
        assert_eq!(
            findings(&BUILD_PATHS, &tree.root_on(machine("workhorse"))),
            [
                "/etc/a: names what is of the building machine: `/home/ann/.cache/larder`",
                "/etc/b: names what is of the building machine: `ann@workhorse`",
            ]
        );
        let quiet = findings(&BUILD_PATHS, &tree.root_on(machine("make")));
        assert_eq!(quiet, ["/etc/a: names what is of the building machine: `/home/ann/.cache/larder`"]);
    }
}
