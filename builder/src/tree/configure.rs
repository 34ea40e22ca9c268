//! Running maintainer scripts, by dpkg itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::namespace::{RootTree, Sandbox};

/// Programs that are others while packages are configured: path, and the exit status that is all they do.
const STAND_INS: [(&str, u8); 2] = [
    // invoke-rc.d(8): 101 forbids the action, so that no service starts while the image is made.
    ("usr/sbin/policy-rc.d", 101),
    // It enables the packages' units one by one, in Perl, a third of the time of all scripts, and for nothing: which units
    // are enabled is for the presets to say, once the overlays are in place.
    ("usr/bin/deb-systemd-helper", 0),
];

/// Configures the composed `tree`; every change lands in the folder `into` (an overlay's upper layer).
/// `epoch` (seconds) is the time that scripts are asked to write.
pub fn configure(lowers: &[PathBuf], epoch: i64, scratch: &Path, into: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(into)?;
    for (path, status) in STAND_INS {
        write_program(&into.join(path), &format!("#!/bin/sh\nexit {status}\n"))?;
    }
    let root = RootTree { lowers: lowers.to_vec(), upper: Some((into.to_owned(), scratch.join("work"))) };
    let sandbox = Sandbox::new(root)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("DEBCONF_NOWARNINGS", "yes")
        // Scripts that ask systemd are answered as in a chroot: edit links, start nothing.
        .env("SYSTEMD_OFFLINE", "1")
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    sandbox
        .command("/usr/bin/dpkg")
        // The solver has seen to dependencies; kernels and firmware, which are not in this tree, may be among them.
        .args(["--force-depends", "--configure", "--pending"])
        .run()
        .context("configuring the packages")?;
    STAND_INS.iter().try_for_each(|(path, _)| fs_err::remove_file(into.join(path)))?;
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

fn write_program(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::create_dir_all(path.parent().unwrap_or(path))?;
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
