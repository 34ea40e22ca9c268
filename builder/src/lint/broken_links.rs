//! Symbolic links that lead nowhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::root::Kind;
use super::{Finding, Lint, Root};

/// What the kernel and the boot fill: nothing can be said about it here.
const VOLATILE: [&str; 4] = ["dev", "proc", "run", "sys"];

pub(super) const BROKEN_LINKS: Lint = Lint {
    name: "broken-links",
    protects_from: "links to files that the image does not have",
    check: |root| {
        let made_at_boot = made_at_boot(root)?;
        let mut found = Vec::new();
        for (path, node) in root.nodes() {
            let Kind::Link(target) = &node.kind else { continue };
            let Err(end) = root.resolve(path) else { continue };
            if VOLATILE.iter().any(|folder| end.starts_with(folder)) || made_at_boot.contains(&end) {
                continue;
            }
            let message = match root.get(&end).map(|node| &node.kind) {
                Some(Kind::Link(_)) => format!("leads to {}, round and round", target.display()),
                _ => format!("leads to {}, but there is no /{}", target.display(), end.display()),
            };
            found.push(Finding::new(
                path,
                message,
                "bring what it leads to, remove it (`files.remove`), or let a file of tmpfiles.d make its target",
            ));
        }
        Ok(found)
    },
};

/// Paths that systemd-tmpfiles makes at each boot (tmpfiles.d(5)).
fn made_at_boot(root: &Root) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    for folder in ["usr/lib/tmpfiles.d", "etc/tmpfiles.d"] {
        for (name, _) in root.entries(folder).filter(|(name, _)| name.ends_with(".conf")) {
            let text = root.text(Path::new(folder).join(name))?;
            paths.extend(text.lines().filter_map(made_by_line));
        }
    }
    Ok(paths)
}

/// The path of a line that makes a file, a folder or a link.
fn made_by_line(line: &str) -> Option<PathBuf> {
    let mut words = line.split_whitespace();
    let (kind, path) = (words.next()?, words.next()?);
    let makes = kind.starts_with(['f', 'F', 'd', 'D', 'v', 'q', 'Q', 'L', 'C']);
    // `!` lines are for boot alone, which is meant here; `%` stands for what is known at boot only.
    (makes && !path.contains('%')).then(|| path.trim_start_matches('/').into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let tree = Tree::new()
            .file("usr/bin/real", "")
            .link("bin", "usr/bin")
            .link("etc/good", "/bin/real")
            .link("etc/null", "/dev/null")
            .link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
            .link("etc/made", "/var/lib/made")
            .link("etc/bad", "../usr/bin/unreal")
            .link("etc/circle", "circle")
            .file("usr/lib/tmpfiles.d/x.conf", "# comment\nd /var/lib/made 0755 root root -\nr /usr/bin/unreal\n");
        assert_eq!(
            tree.findings(&BROKEN_LINKS),
            [
                "/etc/bad: leads to ../usr/bin/unreal, but there is no /usr/bin/unreal",
                "/etc/circle: leads to circle, round and round",
            ]
        );
    }
}
