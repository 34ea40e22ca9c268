//! Hosts on which an ordinary user cannot have a namespace: what larder says there.
//!
//! Each test plays such a host in namespaces of its own: another /etc/subuid, other programs in PATH, no further
//! user namespaces.

use std::os::unix::fs::PermissionsExt;

use crate::bench::{Bench, LARDER};

/// Somebody whom no host knows.
const USER: &str = "54321";

/// A host for one command of the user [`USER`].
struct Host {
    bench: Bench,
    /// Wraps the command, in a shell.
    around: &'static str,
}

impl Host {
    /// With these ranges of subordinate ids, and with these programs in PATH (names and texts).
    fn new(ranges: &str, programs: &[(&str, &str)]) -> Self {
        let bench = Bench::new();
        fs_err::write(bench.folder("etc").join("ranges"), ranges).unwrap();
        let bin = bench.folder("bin");
        fs_err::copy(LARDER, bin.join("larder")).unwrap();
        for (name, text) in programs {
            fs_err::write(bin.join(name), text).unwrap();
            fs_err::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        // The folder of a test is its user's alone.
        fs_err::set_permissions(bench.folder("bin").parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
        Self { bench, around: r#"exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@""# }
    }

    /// What larder says when it needs a namespace.
    fn complaint(&self) -> String {
        let bin = self.bench.folder("bin");
        let script = format!(
            "user={USER} bin={bin}\n\
             for file in /etc/subuid /etc/subgid; do mount --bind {ranges} $file || exit 99; done\n\
             set -- /usr/bin/env -i PATH={bin} HOME={home} {bin}/larder cache size\n{around}",
            bin = bin.display(),
            ranges = self.bench.folder("etc").join("ranges").display(),
            home = self.bench.folder("home").display(),
            around = self.around,
        );
        let flags: &[&str] = if nix::unistd::geteuid().is_root() { &["-m"] } else { &["-m", "-r", "--map-auto"] };
        let mut command = self.bench.in_environment("unshare", flags);
        command.args(["sh", "-c", &script]);
        let said = self.bench.ends(&mut command, 1);
        assert_eq!(said.stdout, "");
        said.stderr
    }
}

/// Programs that are there, and not reached.
const TOOLS: [(&str, &str); 2] = [("newuidmap", "#!/bin/sh\nexit 1\n"), ("newgidmap", "#!/bin/sh\nexit 1\n")];
const RANGE: &str = "54321:200000:65536\n";

#[test]
fn without_newuidmap_the_package_that_has_it_is_named() {
    insta::assert_snapshot!(Host::new(RANGE, &[]).complaint(), @r"
    error: the program `newuidmap` is not in PATH; it maps an ordinary user's subordinate ids

    hint: Debian, Ubuntu: sudo apt install uidmap
    Fedora: sudo dnf install shadow-utils
    Arch: sudo pacman -S shadow
    Or run larder as root.
    ");
}

#[test]
fn without_a_range_the_command_that_gives_one_is_named() {
    insta::assert_snapshot!(Host::new("ann:100000:65536\n54321:165536:1000\n", &TOOLS).complaint(), @r"
    error: /etc/subuid: no range of at least 65535 ids for the user 54321

    hint: Debian, Ubuntu, Fedora, Arch: sudo usermod --add-subuids 166536-232071 --add-subgids 166536-232071 54321
    Or run larder as root.
    ");
}

#[test]
fn a_newuidmap_that_may_not_map_is_quoted() {
    let refuses = "#!/bin/sh\necho 'newuidmap: write to uid_map failed: Operation not permitted' >&2\nexit 1\n";
    insta::assert_snapshot!(Host::new(RANGE, &[("newuidmap", refuses), TOOLS[1]]).complaint(), @r"
    error: `newuidmap` failed: newuidmap: write to uid_map failed: Operation not permitted

    hint: it must be set-user-id root or have the file capability for it, on a file system that is not mounted `nosuid`: install its package again
    Debian, Ubuntu: sudo apt install --reinstall uidmap
    Fedora: sudo dnf reinstall shadow-utils
    Arch: sudo pacman -S shadow
    In a container: run larder outside of it, or as root.
    ");
}

#[test]
fn a_host_that_allows_no_user_namespaces_is_told_how_to() {
    let mut host = Host::new(RANGE, &TOOLS);
    // The limit is the namespace's own: the host's stays as it is (namespaces(7), /proc/sys/user).
    host.around = r#"exec unshare -U --map-user="$user" --map-group="$user" --keep-caps \
        sh -c 'echo 0 > /proc/sys/user/max_user_namespaces || exit 99; exec "$@"' sh "$@""#;
    insta::assert_snapshot!(host.complaint(), @r"
    error: this host allows no further user namespaces (user.max_user_namespaces is 0)

    hint: Debian, Ubuntu, Fedora, Arch: echo 'user.max_user_namespaces = 15000' | sudo tee /etc/sysctl.d/60-larder.conf; sudo sysctl --system
    ");
}
