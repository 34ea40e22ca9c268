//! Users, groups and their passwords: passwd(5), group(5), shadow(5), gshadow(5).

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Lint, Root};

/// The users and groups of the image.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Accounts {
    pub(super) fn read(root: &Root) -> anyhow::Result<Self> {
        let names = |path| -> anyhow::Result<BTreeMap<u32, String>> {
            let table = Table::read(root, path)?;
            Ok(table.rows().filter_map(|row| Some((row.get(2)?.parse().ok()?, (*row.first()?).to_owned()))).collect())
        };
        Ok(Self { users: names("etc/passwd")?, groups: names("etc/group")? })
    }

    pub(super) fn has_user(&self, id: u32) -> bool {
        self.users.contains_key(&id)
    }

    pub(super) fn has_group(&self, id: u32) -> bool {
        self.groups.contains_key(&id)
    }

    pub(super) fn has_user_named(&self, name: &str) -> bool {
        self.users.values().any(|user| user == name)
    }

    pub(super) fn has_group_named(&self, name: &str) -> bool {
        self.groups.values().any(|group| group == name)
    }

    /// The user's name, else the number.
    pub(super) fn user(&self, id: u32) -> String {
        self.users.get(&id).map_or_else(|| id.to_string(), String::clone)
    }

    /// The group's name, else the number.
    pub(super) fn group(&self, id: u32) -> String {
        self.groups.get(&id).map_or_else(|| id.to_string(), String::clone)
    }
}

/// A table of lines with fields between colons.
struct Table(String);

impl Table {
    fn read(root: &Root, path: &str) -> anyhow::Result<Self> {
        root.text(path).map(Self)
    }

    fn rows(&self) -> impl Iterator<Item = Vec<&str>> {
        self.0.lines().filter(|line| !line.trim().is_empty()).map(|line| line.split(':').collect())
    }
}

pub(super) const PASSWORDS: Lint = Lint {
    name: "passwords",
    protects_from: "a login that everybody who has the image knows",
    check: |root| {
        let mut found = Vec::new();
        for (path, shadowed) in
            [("etc/passwd", true), ("etc/group", true), ("etc/shadow", false), ("etc/gshadow", false)]
        {
            let of_groups = ["etc/group", "etc/gshadow"].contains(&path);
            for row in Table::read(root, path)?.rows() {
                let (name, password) = (row.first().unwrap_or(&""), *row.get(1).unwrap_or(&""));
                let locked = !password.is_empty() && password.bytes().all(|byte| matches!(byte, b'*' | b'!'));
                let message = match password {
                    "x" if shadowed => continue,
                    _ if locked => continue,
                    // A group without a password cannot be entered by one.
                    "" if of_groups => continue,
                    "" => format!("{name} needs no password"),
                    _ => format!("{name} has a password"),
                };
                found.push(Finding::new(path, message, "lock it with `*`; passwords are set on each machine"));
            }
        }
        Ok(found)
    },
};

pub(super) const ACCOUNTS: Lint = Lint {
    name: "accounts",
    protects_from: "users that share a number, lack their group or cannot log in for want of a shell",
    check: |root| {
        let accounts = Accounts::read(root)?;
        let mut found = Vec::new();
        for (path, fields) in [("etc/passwd", 7), ("etc/group", 4)] {
            let table = Table::read(root, path)?;
            let (whole, broken): (Vec<_>, Vec<_>) =
                table.rows().partition(|row| row.len() == fields && row[2].parse::<u32>().is_ok());
            let broken = broken.iter().map(|row| row.join(":"));
            let mut faults: Vec<_> =
                broken.map(|line| format!("`{line}` has not {fields} fields with a number in the third")).collect();
            faults.extend(repeated(&whole));
            if path == "etc/passwd" {
                faults.extend(whole.iter().flat_map(|row| unable(root, &accounts, row)));
            }
            const MEND: &str = "mend the account where it is made: a package's script, or an overlay";
            found.extend(faults.into_iter().map(|fault| Finding::new(path, fault, MEND)));
        }
        Ok(found)
    },
};

/// Names and numbers that are there twice.
fn repeated(rows: &[Vec<&str>]) -> Vec<String> {
    let (mut names, mut owners) = (BTreeSet::new(), BTreeMap::new());
    let mut faults = Vec::new();
    for (name, id) in rows.iter().map(|row| (row[0], row[2])) {
        if !names.insert(name) {
            faults.push(format!("{name} is there twice"));
        }
        if let Some(other) = owners.insert(id, name) {
            faults.push(format!("{other} and {name} share the number {id}"));
        }
    }
    faults
}

/// What a user lacks to log in.
fn unable(root: &Root, accounts: &Accounts, row: &[&str]) -> Vec<String> {
    let (name, group, shell) = (row[0], row[3], row[6]);
    let no_group = !group.parse().is_ok_and(|group| accounts.has_group(group));
    // Without a shell it is /bin/sh (passwd(5)).
    let no_shell = !shell.is_empty() && !root.is_executable(shell);
    let group = no_group.then(|| format!("the group {group} of {name} does not exist"));
    group.into_iter().chain(no_shell.then(|| format!("the shell {shell} of {name} does not exist"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn password_hashes_and_missing_passwords_are_found() {
        let tree = Tree::new()
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nold:$1$aa$bb:1:1::/:/bin/sh\nopen::2:2::/:/bin/sh\n")
            .file("etc/group", "root:x:0:\nusers::100:\n")
            .file("etc/shadow", "root:*:1::::::\na:!:1::::::\nb:!*:1::::::\nc:$y$j9T$salt$hash:1::::::\nd::1::::::\ne:!$y$hash:1::::::\n")
            .file("etc/gshadow", "root:*::\nstaff:$6$hash::\nusers:!::\n");
        assert_eq!(
            tree.findings(&PASSWORDS),
            [
                "/etc/gshadow: staff has a password",
                "/etc/passwd: old has a password",
                "/etc/passwd: open needs no password",
                "/etc/shadow: c has a password",
                "/etc/shadow: d needs no password",
                "/etc/shadow: e has a password",
            ]
        );
    }

    #[test]
    fn accounts_that_cannot_work_are_found() {
        let tree = Tree::new()
            .program("usr/bin/sh", "")
            .link("bin", "usr/bin")
            .file("etc/group", "root:x:0:\nusers:x:100:\nstaff:x:100:\n")
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1:7::/:/bin/zsh\nbob:x:1:100::/:/bin/sh\nbob:x:3:100::/:\nshort:x:4\n");
        assert_eq!(
            tree.findings(&ACCOUNTS),
            [
                "/etc/group: users and staff share the number 100",
                "/etc/passwd: `short:x:4` has not 7 fields with a number in the third",
                "/etc/passwd: ann and bob share the number 1",
                "/etc/passwd: bob is there twice",
                "/etc/passwd: the group 7 of ann does not exist",
                "/etc/passwd: the shell /bin/zsh of ann does not exist",
            ]
        );
    }
}
