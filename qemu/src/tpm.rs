//! The virtual TPM 2.0: swtpm, whose state lasts as long as the machine.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::launcher::Launcher;
use crate::process::{self, Owned};
use crate::{Error, Result};

/// Starts swtpm and waits for its socket. It ends with QEMU's connection (`--terminate`).
pub(crate) fn start(launcher: &Arc<dyn Launcher>, folder: &Path) -> Result<Owned> {
    let state = folder.join("tpm");
    fs_err::create_dir_all(&state).map_err(Error::file)?;
    let socket = socket(folder);
    let _ = fs_err::remove_file(&socket);
    let log = fs_err::File::create(folder.join("swtpm.log")).map_err(Error::file)?.into_file();
    let mut command = launcher.command("swtpm", &[folder]);
    // Without swtpm_setup: TPM2_Startup manufactures a fresh state when there is none (swtpm(8)).
    command.args(["socket", "--tpm2", "--terminate", "--flags", "not-need-init,startup-clear"]);
    command.arg("--tpmstate").arg(format!("dir={}", state.display()));
    command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut tpm = process::start("swtpm", command)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !socket.exists() {
        if let Some(status) = tpm.ended()? {
            let stderr = fs_err::read_to_string(folder.join("swtpm.log")).unwrap_or_default();
            return Err(Error::Program { program: "swtpm".into(), status, stderr });
        }
        if Instant::now() > deadline {
            return Err(Error::io("waiting for swtpm's socket")(std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(tpm)
}

pub(crate) fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("tpm.sock")
}
