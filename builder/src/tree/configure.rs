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
    Ok(())
}

fn write_program(path: &PathBuf, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::write(path, text)?;
    fs_err::set_permissions(path, PermissionsExt::from_mode(0o755))
}
