//! The folder of a running machine, removed even when its owner is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Error, Result, process};

/// Set to keep the folders of all machines.
const KEEP: &str = "LARDER_KEEP";

/// Waits until its standard input closes, which happens when the owner drops it or dies in whatever way, and then
/// removes the folder. Ctrl-C reaches the whole foreground group, hence the trap.
const SCRIPT: &str = r#"trap "" INT TERM HUP; while read -r line; do :; done; rm -rf -- "$1""#;

/// A temporary folder. Statics are not dropped when a process ends, and a killed process drops nothing, so a small
/// shell does the removal.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    remover: Option<Child>,
}

impl Keeper {
    /// Makes a folder with a short path: unix sockets in it may have 107 bytes in all (unix(7)).
    pub(crate) fn new() -> Result<Self> {
        let path = tempfile::Builder::new().prefix("larder-vm-").tempdir().map_err(Error::file)?.keep();
        // Sandboxes bind folders under their real names.
        let path = fs_err::canonicalize(path).map_err(Error::file)?;
        if std::env::var_os(KEEP).is_some() {
            return Ok(Self { path, remover: None });
        }
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "larder-vm-remover"]).arg(&path);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let remover = process::spawn(shell).map_err(|source| Error::Start { program: "/bin/sh".into(), source })?;
        Ok(Self { path, remover: Some(remover) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(remover) = &mut self.remover {
            drop(remover.stdin.take());
            let _ = remover.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_keeper() {
        let keeper = Keeper::new().expect("makes a folder");
        let path = keeper.path().to_owned();
        fs_err::write(path.join("file"), "x").expect("writes");
        drop(keeper);
        assert!(!path.exists());
    }
}
