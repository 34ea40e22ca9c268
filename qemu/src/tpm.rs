//! The virtual TPM 2.0: swtpm, whose state lasts as long as the machine.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::launcher::Launcher;
use crate::process::{self, Owned};
use crate::{Error, Result};

/// TPM2_PCR_Allocate (TPM 2.0 library, part 3, 22.5), authorised by the platform's empty password: all registers of
/// SHA-256, none of SHA-1, SHA-384 and SHA-512. It counts from the next start of the TPM on.
const SHA256_ONLY: [u8; 55] = *b"\
    \x80\x02\x00\x00\x00\x37\x00\x00\x01\x2b\x40\x00\x00\x0c\
    \x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\
    \x00\x00\x00\x04\x00\x04\x03\x00\x00\x00\x00\x0b\x03\xff\xff\xff\
    \x00\x0c\x03\x00\x00\x00\x00\x0d\x03\x00\x00\x00";
/// Header (tag, size, code), size of the parameters, "allocated".
const ANSWER: usize = 15;
const DONE: [u8; 4] = [0; 4];

/// Bound for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts swtpm and waits for its socket. It ends with QEMU's connection (`--terminate`).
pub(crate) fn start(launcher: &Arc<dyn Launcher>, folder: &Path) -> Result<Owned> {
    if !state(folder).exists() {
        manufacture(launcher, folder)?;
    }
    serve(launcher, folder, "--ctrl", &socket(folder))
}

pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("tpm.sock")
}

fn state(folder: &Path) -> PathBuf {
    folder.join("tpm")
}

/// Forgets the TPM: the next start has a new one, with other seeds.
pub(crate) fn forget(folder: &Path) -> Result<()> {
    match fs_err::remove_dir_all(state(folder)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(error)),
        _ => Ok(()),
    }
}

/// Makes a TPM as they are sold, with one bank of registers. swtpm's own has four active, for each of which the firmware
/// hashes the whole kernel image, twice: on an emulated CPU that takes as long as the kernel's start.
fn manufacture(launcher: &Arc<dyn Launcher>, folder: &Path) -> Result<()> {
    fs_err::create_dir_all(state(folder)).map_err(Error::file)?;
    let socket = folder.join("tpm-setup.sock");
    let mut tpm = serve(launcher, folder, "--server", &socket)?;
    let talk = || -> std::io::Result<[u8; ANSWER]> {
        let mut stream = connect(&socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&SHA256_ONLY)?;
        let mut answer = [0; ANSWER];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(Error::io("setting up the TPM"))?;
    if answer[6..10] != DONE || answer[14] != 1 {
        return Err(Error::Tpm(answer.to_vec()));
    }
    tpm.wait().map(drop)
}

/// The socket has its name a moment before swtpm listens on it.
fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Starts swtpm and waits until it listens on `socket`: for QEMU (`--ctrl`) or for commands (`--server`).
fn serve(launcher: &Arc<dyn Launcher>, folder: &Path, channel: &str, socket: &Path) -> Result<Owned> {
    let _ = fs_err::remove_file(socket);
    let log = folder.join("swtpm.log");
    let mut command = launcher.command("swtpm", &[folder]);
    // Without swtpm_setup: TPM2_Startup manufactures a fresh state when there is none (swtpm(8)).
    command.args(["socket", "--tpm2", "--terminate", "--flags", "not-need-init,startup-clear"]);
    command.arg("--tpmstate").arg(format!("dir={}", state(folder).display()));
    command.arg(channel).arg(format!("type=unixio,path={}", socket.display()));
    let stderr = fs_err::File::create(&log).map_err(Error::file)?.into_file();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut tpm = process::start("swtpm", command)?;
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        if let Some(status) = tpm.ended()? {
            let stderr = fs_err::read_to_string(&log).unwrap_or_default();
            return Err(Error::Program { program: "swtpm".into(), status, stderr });
        }
        if Instant::now() > deadline {
            return Err(Error::io("waiting for swtpm's socket")(std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(tpm)
}
