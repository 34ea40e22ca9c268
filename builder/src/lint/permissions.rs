//! Owners, modes and kinds of files.

use super::accounts::Accounts;
use super::root::{Kind, Node};
use super::{Finding, Lint};

pub(super) const SETUID: Lint = Lint {
    name: "setuid",
    protects_from: "programs that run with more rights than whoever starts them",
    check: |root| {
        let accounts = Accounts::read(root)?;
        let found =
            root.files().filter_map(|(path, node)| Some(Finding::new(path, privilege(node, &accounts)?, PRIVILEGED)));
        Ok(found.collect())
    },
};

const PRIVILEGED: &str = "take the bits away (`files.drop-setuid`) or the file out (`files.remove`)";

/// The rights that a file gives to whoever starts it.
fn privilege(node: &Node, accounts: &Accounts) -> Option<String> {
    let Kind::File { capable, .. } = node.kind else { return None };
    let mode = node.mode;
    let mut rights = Vec::new();
    if mode & 0o4000 != 0 {
        rights.push(format!("runs as user {} (mode {mode:04o})", accounts.user(node.owner)));
    }
    // Without the right to execute for the group, the bit means mandatory locking (chmod(2)).
    if mode & 0o2010 == 0o2010 {
        rights.push(format!("runs with group {} (mode {mode:04o})", accounts.group(node.group)));
    }
    if capable {
        rights.push("has file capabilities".to_owned());
    }
    (!rights.is_empty()).then(|| rights.join(", "))
}

pub(super) const WORLD_WRITABLE: Lint = Lint {
    name: "world-writable",
    protects_from: "files and folders that every user may change",
    check: |root| {
        let found = root.nodes().filter(|(_, node)| {
            // Links have no mode of their own; in a sticky folder everybody may change what is his only.
            let sticky = node.kind == Kind::Folder && node.mode & 0o1000 != 0;
            node.mode & 0o002 != 0 && !sticky && !matches!(node.kind, Kind::Link(_))
        });
        let found = found.map(|(path, node)| {
            Finding::new(
                path,
                format!("every user may write to it (mode {:04o})", node.mode),
                "set its mode in the overlay.toml of its overlay, or leave the file out (`files.exclude`)",
            )
        });
        Ok(found.collect())
    },
};

pub(super) const UNOWNED_IDS: Lint = Lint {
    name: "unowned-ids",
    protects_from: "files that belong to whichever user or group gets the number next",
    check: |root| {
        let accounts = Accounts::read(root)?;
        let mut found = Vec::new();
        for (path, node) in root.nodes() {
            for (what, id, known) in [
                ("user", node.owner, accounts.has_user(node.owner)),
                ("group", node.group, accounts.has_group(node.group)),
            ] {
                if !known {
                    found.push(Finding::new(
                        path,
                        format!("belongs to {what} {id}, which is not in /etc"),
                        "set its owner in the overlay.toml of its overlay, or bring the package that makes the account",
                    ));
                }
            }
        }
        Ok(found)
    },
};

pub(super) const SPECIAL_FILES: Lint = Lint {
    name: "special-files",
    protects_from: "device nodes, pipes and sockets, which are made at boot or not at all",
    check: |root| {
        let found = root.nodes().filter_map(|(path, node)| match node.kind {
            Kind::Special(what) => Some(Finding::new(path, format!("is {what}"), "remove it (`files.remove`)")),
            _ => None,
        });
        Ok(found.collect())
    },
};

#[cfg(test)]
mod tests {
    use super::super::Root;
    use super::super::testing::{Tree, findings};
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n";

    fn owned_by_root(tree: &Tree) -> Root {
        let mut root = tree.root();
        let paths: Vec<_> = root.nodes().map(|(path, _)| path.display().to_string()).collect();
        for path in paths {
            let node = root.node_mut(&path);
            (node.owner, node.group) = (0, 0);
        }
        root
    }

    #[test]
    fn programs_with_more_rights_than_their_caller_are_found() {
        let tree = Tree::new()
            .file("etc/passwd", PASSWD)
            .file("etc/group", "shadow:x:42:\n")
            .program("usr/bin/su", "")
            .program("usr/bin/chage", "")
            .program("usr/bin/ping", "")
            .program("usr/bin/true", "")
            .file("usr/share/locked", "");
        let mut root = owned_by_root(&tree);
        // Set here and not on the disk: whoever runs this test may not own the files as these owners.
        root.node_mut("usr/bin/su").mode = 0o4755;
        root.node_mut("usr/bin/chage").mode = 0o2755;
        root.node_mut("usr/bin/chage").group = 42;
        root.node_mut("usr/share/locked").mode = 0o2644;
        root.node_mut("usr/bin/ping").kind = Kind::File { head: Vec::new(), capable: true };
        assert_eq!(
            findings(&SETUID, &root),
            [
                "/usr/bin/chage: runs with group shadow (mode 2755)",
                "/usr/bin/ping: has file capabilities",
                "/usr/bin/su: runs as user root (mode 4755)",
            ]
        );
    }

    #[test]
    fn what_everybody_may_write_to_is_found() {
        let tree = Tree::new()
            .file("etc/open", "")
            .mode("etc/open", 0o666)
            .folder("tmp")
            .mode("tmp", 0o1777)
            .folder("srv")
            .mode("srv", 0o777)
            .link("etc/link", "open")
            .file("etc/closed", "");
        assert_eq!(
            tree.findings(&WORLD_WRITABLE),
            ["/etc/open: every user may write to it (mode 0666)", "/srv: every user may write to it (mode 0777)"]
        );
    }

    #[test]
    fn files_of_accounts_that_do_not_exist_are_found() {
        let tree = Tree::new().file("etc/passwd", PASSWD).file("etc/group", "root:x:0:\n").file("srv/x", "");
        let mut root = owned_by_root(&tree);
        assert_eq!(findings(&UNOWNED_IDS, &root), Vec::<String>::new());
        (root.node_mut("srv/x").owner, root.node_mut("srv/x").group) = (4711, 815);
        assert_eq!(
            findings(&UNOWNED_IDS, &root),
            [
                "/srv/x: belongs to group 815, which is not in /etc",
                "/srv/x: belongs to user 4711, which is not in /etc"
            ]
        );
    }

    #[test]
    fn pipes_sockets_and_devices_are_found() {
        let tree = Tree::new();
        nix::unistd::mkfifo(&tree.at("etc/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(tree.at("etc/socket")).unwrap();
        assert_eq!(tree.findings(&SPECIAL_FILES), ["/etc/pipe: is a named pipe", "/etc/socket: is a socket"]);
    }
}
