//! What makes one machine this machine, and must therefore be made on it.

use std::path::Path;

use memchr::memmem;

use super::root::Kind;
use super::{Finding, Lint, Root};
use crate::path_glob;

/// Where machines keep who they are, and what that is.
const IDENTITIES: &[(&str, &str)] = &[
    ("etc/adjtime", "the drift of this machine's clock"),
    ("etc/hostid", "the host id, by which ZFS tells machines apart"),
    ("etc/iscsi/initiatorname.iscsi", "the name of an iSCSI initiator"),
    ("etc/krb5.keytab", "keys of a Kerberos host"),
    ("etc/nvme/{hostid,hostnqn}", "the name of an NVMe host"),
    ("etc/ssh/ssh_host_*", "an SSH host key"),
    ("etc/ssl/private/*", "a TLS key"),
    ("etc/udev/rules.d/70-persistent-net.rules", "network addresses of a machine"),
    ("etc/wireguard/*", "keys of a WireGuard tunnel"),
    ("etc/zfs/zpool.cache", "the pools of a machine"),
    ("etc/credstore*/*", "a credential"),
    ("{root,home/*}/.*_history", "what somebody typed"),
    ("{root,home/*}/.ssh/*", "somebody's SSH keys"),
    ("var/lib/NetworkManager/*", "networks that a machine has seen"),
    ("var/lib/bluetooth/**", "devices that a machine has met"),
    ("var/lib/dbus/machine-id", "a machine id"),
    ("var/lib/dhcp*/*", "leases of a machine"),
    ("var/lib/samba/private/**", "passwords and keys of a file server"),
    ("var/lib/systemd/credential.secret", "the key of this machine's credentials"),
    ("var/lib/systemd/{random-seed,timers/*}", "the state of a machine"),
    ("var/lib/tailscale/**", "keys of a Tailscale node"),
    ("var/lib/urandom/random-seed", "a random seed"),
];

const MADE_ON_EACH_MACHINE: &str = "remove it (`files.remove`): each machine makes its own";

pub(super) const MACHINE_IDENTITY: Lint = Lint {
    name: "machine-identity",
    protects_from: "two machines that take each other for themselves, and keys that everybody has",
    check: |root| {
        let globs = path_glob::set(IDENTITIES.iter().map(|(glob, _)| *glob))?;
        let mut found = Vec::new();
        for (path, node) in root.nodes().filter(|(_, node)| node.kind != Kind::Folder) {
            // A link, as to /etc/machine-id, holds no identity itself.
            if let (Some(&index), Kind::File { .. }) = (globs.matches(path).first(), &node.kind) {
                found.push(Finding::new(path, format!("is {}", IDENTITIES[index].1), MADE_ON_EACH_MACHINE));
            } else if may_hold_keys(root, path, node.written) && holds_key(root, path)? {
                found.push(Finding::new(path, "holds a private key", MADE_ON_EACH_MACHINE));
            }
        }
        found.extend(machine_id(root)?);
        Ok(found)
    },
};

/// machine-id(5), "Initialization": an empty file, or the word that makes the next boot a first boot.
fn machine_id(root: &Root) -> anyhow::Result<Option<Finding>> {
    const PATH: &str = "etc/machine-id";
    const MEND: &str = "let an overlay bring it as an empty file";
    Ok(match root.read(PATH)? {
        Some(id) if matches!(id.trim_ascii(), b"" | b"uninitialized") => None,
        Some(_) => Some(Finding::new(PATH, "is a machine id", MEND)),
        None if root.get("usr/lib/systemd/systemd").is_some() => Some(Finding::new(
            PATH,
            "is not there: on a read-only root systemd needs the file to put an id over it",
            MEND,
        )),
        None => None,
    })
}

/// Configuration and state, and whatever a program wrote: packages ship keys only as examples.
fn may_hold_keys(root: &Root, path: &Path, written: bool) -> bool {
    const PLACES: [&str; 4] = ["etc", "home", "root", "var"];
    let is_file = matches!(root.get(path).map(|node| &node.kind), Some(Kind::File { .. }));
    is_file && (PLACES.iter().any(|place| path.starts_with(place)) || written && !path.starts_with("usr/lib/modules"))
}

/// PEM (RFC 7468), of whichever kind. A program that can read keys has the words too, but no key after them.
fn holds_key(root: &Root, path: &Path) -> anyhow::Result<bool> {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    let content = root.read(path)?.unwrap_or_default();
    let mut labels = memmem::find_iter(&content, LABEL);
    Ok(labels.any(|at| {
        let line = content[..at].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let begins = line.starts_with(b"-----BEGIN ");
        let after = content[at + LABEL.len()..].trim_ascii_start();
        begins && after.first().is_some_and(u8::is_ascii_alphanumeric)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn what_makes_a_machine_itself_is_found() {
        let tree = Tree::new()
            .file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
            .file("etc/hostid", "abcd")
            .file("etc/nvme/hostnqn", "nqn")
            .file("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA")
            .file("etc/ssh/sshd_config", "")
            .link("var/lib/dbus/machine-id", "/etc/machine-id")
            .file("var/lib/systemd/random-seed", "seed")
            .file("var/lib/systemd/credential.secret", "secret")
            .file("root/.ssh/authorized_keys", "ssh-ed25519 AAAA")
            .file("home/ann/.bash_history", "ls")
            .file("etc/app/server.pem", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n")
            .file("usr/bin/app", "-----BEGIN \0PRIVATE KEY-----\0no key");
        assert_eq!(
            tree.findings(&MACHINE_IDENTITY),
            [
                "/etc/app/server.pem: holds a private key",
                "/etc/hostid: is the host id, by which ZFS tells machines apart",
                "/etc/machine-id: is a machine id",
                "/etc/nvme/hostnqn: is the name of an NVMe host",
                "/etc/ssh/ssh_host_ed25519_key.pub: is an SSH host key",
                "/home/ann/.bash_history: is what somebody typed",
                "/root/.ssh/authorized_keys: is somebody's SSH keys",
                "/var/lib/systemd/credential.secret: is the key of this machine's credentials",
                "/var/lib/systemd/random-seed: is the state of a machine",
            ]
        );
    }

    #[test]
    fn the_file_of_the_machine_id_is_there_and_holds_none() {
        for id in ["", "uninitialized\n"] {
            assert_eq!(Tree::new().file("etc/machine-id", id).findings(&MACHINE_IDENTITY), Vec::<String>::new());
        }
        let tree = Tree::new().program("usr/lib/systemd/systemd", "");
        assert_eq!(
            tree.findings(&MACHINE_IDENTITY),
            ["/etc/machine-id: is not there: on a read-only root systemd needs the file to put an id over it"]
        );
    }
}
