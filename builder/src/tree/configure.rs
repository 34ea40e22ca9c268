//! Running maintainer scripts, by dpkg itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::namespace::{RootTree, Sandbox};

/// invoke-rc.d(8): 101 forbids the action, so that no service starts while the image is made.
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// Configures the composed `tree`; every change lands in the folder `into` (an overlay's upper layer).
/// `epoch` (seconds) is the time that scripts are asked to write.
pub fn configure(tree: &Path, epoch: i64, scratch: &Path, into: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(into)?;
    let policy = into.join("usr/sbin/policy-rc.d");
    fs_err::create_dir_all(into.join("usr/sbin"))?;
    write_program(&policy, POLICY)?;
    let root = RootTree { lowers: vec![tree.to_owned()], upper: Some((into.to_owned(), scratch.join("work"))) };
    let sandbox = Sandbox::new(root)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("DEBCONF_NOWARNINGS", "yes")
        // Scripts that ask systemd are answered as in a chroot: edit links, start nothing.
        .env("SYSTEMD_OFFLINE", "1")
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    sandbox
        .command("/usr/bin/dpkg")
        // The tree is thrown away when this fails, so dpkg need not sync after each file.
        .args(["--force-unsafe-io", "--configure", "--pending"])
        .run()
        .context("configuring the packages")?;
    fs_err::remove_file(policy)?;
    let status = fs_err::read_to_string(into.join("var/lib/dpkg/status"))?;
    let unfinished = unfinished(&status);
    anyhow::ensure!(unfinished.is_empty(), "dpkg has not configured {}", unfinished.join(", "));
    Ok(())
}

/// Packages of dpkg's status file that are not installed as they should be: dpkg itself is content with some that
/// wait for a trigger.
fn unfinished(status: &str) -> Vec<&str> {
    let stanzas = status.split("\n\n").filter(|stanza| !stanza.trim().is_empty());
    let unfinished = stanzas.filter(|stanza| !stanza.lines().any(|line| line == "Status: install ok installed"));
    unfinished.map(|stanza| stanza.trim().lines().next().unwrap_or_default().trim_start_matches("Package: ")).collect()
}

fn write_program(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::write(path, text)?;
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_are_not_configured_are_named() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\n\n\
            Package: b\nStatus: install ok half-configured\n\nPackage: c\nStatus: install ok triggers-awaited\n\n";
        assert_eq!(unfinished(status), ["b", "c"]);
    }
}
