//! systemd's units: those that are enabled exist, and the image's own systemd understands all of them.

mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::accounts::Accounts;
use super::root::Kind;
use super::{Finding, Lint, Root};

/// Where systemd looks for units, the most important first (systemd.unit(5), "Unit File Load Path").
const FOLDERS: [&str; 3] = ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// Kinds of units that files define.
const KINDS: [&str; 9] = ["automount", "mount", "path", "scope", "service", "slice", "socket", "target", "timer"];

pub(super) const UNITS: Lint = Lint {
    name: "units",
    protects_from: "services that do not start: units with mistakes, enabled units that are missing",
    check: |root| {
        let mut found = missing(root);
        found.extend(unknown_accounts(root)?);
        if root.is_executable("usr/bin/systemd-analyze")
            && let Some(sandbox) = &root.sandbox
        {
            found.extend(verify::verify(root, sandbox)?);
        }
        Ok(found)
    },
};

/// Enabled units, and those that other units' folders want, which nothing defines.
fn missing(root: &Root) -> Vec<Finding> {
    let wanted = enabled(root).into_iter().filter(|(_, path)| path.is_none()).map(|(name, _)| name);
    let wanted: BTreeSet<_> = wanted.collect();
    let links = links(root).filter(|(_, name)| wanted.contains(*name));
    links
        .map(|(path, name)| {
            Finding::new(
                path,
                format!("enables {name}, which does not exist"),
                "bring the unit, or let a preset disable it",
            )
        })
        .collect()
}

/// All units that start with something else, by the links in `*.wants`, `*.requires` and `*.upholds`: name and file.
pub(super) fn enabled(root: &Root) -> BTreeMap<String, Option<PathBuf>> {
    links(root).map(|(_, name)| (name.to_owned(), file_of(root, name))).collect()
}

/// Links in folders of wants: path and name of the unit.
fn links(root: &Root) -> impl Iterator<Item = (&PathBuf, &str)> {
    FOLDERS.iter().flat_map(|folder| root.below(folder)).filter_map(|(path, node)| {
        let folder = path.parent()?.extension()?;
        let wants = ["wants", "requires", "upholds"].iter().any(|kind| folder == *kind);
        let name = path.file_name()?.to_str()?;
        (wants && matches!(node.kind, Kind::Link(_)) && is_unit(name)).then_some((path, name))
    })
}

/// The file that defines a unit, itself or as an instance of a template; a masked unit has one too.
fn file_of(root: &Root, name: &str) -> Option<PathBuf> {
    let template = name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
    let names = [Some(name.to_owned()), template];
    names.into_iter().flatten().find_map(|name| {
        FOLDERS.iter().map(|folder| Path::new(folder).join(&name)).find(|path| root.get(path).is_some())
    })
}

fn is_unit(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind))
}

/// Files that define units, their drop-ins too; neither links nor empty files, which mask.
fn definitions(root: &Root) -> impl Iterator<Item = &PathBuf> {
    FOLDERS.iter().flat_map(|folder| root.below(folder)).filter_map(|(path, node)| {
        let name = path.file_name()?.to_str()?;
        (matches!(node.kind, Kind::File { .. }) && (is_unit(name) || name.ends_with(".conf"))).then_some(path)
    })
}

/// Users and groups of services that nobody makes: the service ends with 217/USER or 216/GROUP.
fn unknown_accounts(root: &Root) -> anyhow::Result<Vec<Finding>> {
    let accounts = Accounts::read(root)?;
    let mut found = Vec::new();
    for path in definitions(root) {
        let text = root.text(path)?;
        if text.lines().any(|line| matches!(line.trim(), "DynamicUser=yes" | "DynamicUser=true" | "DynamicUser=1")) {
            continue;
        }
        for line in text.lines() {
            let Some((key, name)) = line.trim().split_once('=') else { continue };
            // `%i` is known when the unit starts; a number needs no name.
            let literal = !name.is_empty() && !name.contains('%') && name.parse::<u32>().is_err();
            let known = match key {
                "User" => accounts.has_user_named(name),
                "Group" => accounts.has_group_named(name),
                _ => continue,
            };
            if literal && !known {
                let message = format!("runs as {} {name}, which does not exist", key.to_lowercase());
                found.push(Finding::new(path, message, "bring the package whose scripts make the account"));
            }
        }
    }
    Ok(found)
}

pub(super) const DUPLICATE_UNITS: Lint = Lint {
    name: "duplicate-units",
    protects_from: "a unit that is hidden by another one of its name, security fixes included",
    check: |root| {
        let mut files = BTreeMap::<&str, Vec<&PathBuf>>::new();
        for path in definitions(root) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_drop_in =
                path.parent().is_some_and(|folder| !FOLDERS.iter().any(|place| folder == Path::new(place)));
            // An empty file masks a unit: that is meant.
            if is_unit(name) && !is_drop_in && !root.text(path)?.trim().is_empty() {
                files.entry(name).or_default().push(path);
            }
        }
        let found = files.values().filter_map(|paths| {
            let (winner, hidden) = paths.split_first()?;
            let hidden = hidden.first()?;
            Some(Finding::new(
                *winner,
                format!("hides /{}", hidden.display()),
                "write a drop-in (NAME.service.d/*.conf) instead, which says only what is to be different",
            ))
        });
        Ok(found.collect())
    },
};

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn an_enabled_unit_that_does_not_exist_is_found() {
        let tree = Tree::new()
            .file("usr/lib/systemd/system/good.service", "[Service]\n")
            .file("usr/lib/systemd/system/getty@.service", "[Service]\n")
            .link("etc/systemd/system/multi-user.target.wants/good.service", "/usr/lib/systemd/system/good.service")
            .link("etc/systemd/system/getty.target.wants/getty@tty1.service", "/usr/lib/systemd/system/getty@.service")
            .link("etc/systemd/system/multi-user.target.wants/gone.service", "/usr/lib/systemd/system/gone.service")
            .link("usr/lib/systemd/system/sysinit.target.requires/lost.mount", "../lost.mount");
        assert_eq!(
            tree.findings(&UNITS),
            [
                "/etc/systemd/system/multi-user.target.wants/gone.service: enables gone.service, which does not exist",
                "/usr/lib/systemd/system/sysinit.target.requires/lost.mount: enables lost.mount, which does not exist",
            ]
        );
    }

    #[test]
    fn a_service_of_an_unknown_account_is_found() {
        let tree = Tree::new()
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
            .file("etc/group", "root:x:0:\n")
            .file("usr/lib/systemd/system/a.service", "[Service]\nUser=root\nGroup=nas\n")
            .file("usr/lib/systemd/system/b.service", "[Service]\nUser=b\nDynamicUser=yes\n")
            .file("usr/lib/systemd/system/c@.service", "[Service]\nUser=%i\n")
            .file("usr/lib/systemd/system/d.service.d/x.conf", "[Service]\nUser=d\n");
        assert_eq!(
            tree.findings(&UNITS),
            [
                "/usr/lib/systemd/system/a.service: runs as group nas, which does not exist",
                "/usr/lib/systemd/system/d.service.d/x.conf: runs as user d, which does not exist",
            ]
        );
    }

    #[test]
    fn a_unit_that_hides_another_is_found() {
        let tree = Tree::new()
            .file("usr/lib/systemd/system/a.service", "[Service]\n")
            .file("etc/systemd/system/a.service", "[Service]\nUser=x\n")
            .file("usr/lib/systemd/system/b.mount", "[Mount]\n")
            .file("etc/systemd/system/b.mount", "")
            .file("usr/lib/systemd/system/c.service", "[Service]\n")
            .link("etc/systemd/system/c.service", "/dev/null")
            .file("etc/systemd/system/c.service.d/x.conf", "[Service]\n");
        assert_eq!(
            tree.findings(&DUPLICATE_UNITS),
            ["/etc/systemd/system/a.service: hides /usr/lib/systemd/system/a.service"]
        );
    }
}
