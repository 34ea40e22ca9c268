//! Can this host run guests on its own CPU?

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::launcher::Launcher;
use crate::{Error, Result, process};

/// Overrides the detection: `kvm` or `tcg`.
const OVERRIDE: &str = "LARDER_ACCEL";

/// A boot sector: `mov dx,0xf4; mov al,0x2a; out dx,al; hlt; jmp -3`. The port is `isa-debug-exit`'s, which ends QEMU
/// with status `2 * value + 1`: a positive signal that a guest can execute instructions.
const PROBE: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x2a, 0xee, 0xf4, 0xeb, 0xfd];
const PROBE_STATUS: i32 = 0x2a * 2 + 1;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// The CPU.
    Kvm,
    /// QEMU's emulation, 5 to 20 times slower.
    Tcg,
}

impl Acceleration {
    /// Finds out once per process; `LARDER_ACCEL=kvm|tcg` decides otherwise.
    pub fn detect(launcher: &dyn Launcher) -> Result<Self> {
        static FOUND: OnceLock<Acceleration> = OnceLock::new();
        match std::env::var(OVERRIDE).as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok(other) if !other.is_empty() => return Err(Error::Acceleration(other.to_owned())),
            _ => {}
        }
        if let Some(found) = FOUND.get() {
            return Ok(*found);
        }
        let found = if kvm_is_offered() && guest_runs(launcher, Self::Kvm)? { Self::Kvm } else { Self::Tcg };
        Ok(*FOUND.get_or_init(|| found))
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// KVM opens, and the CPU can do it. Some containers' /dev/kvm opens on a CPU without vmx or svm and then kills every
/// guest ("KVM internal error").
fn kvm_is_offered() -> bool {
    let opens = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    opens && fs_err::read_to_string("/proc/cpuinfo").is_ok_and(|cpuinfo| can_virtualise(&cpuinfo))
}

fn can_virtualise(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Runs the boot sector above.
fn guest_runs(launcher: &dyn Launcher, acceleration: Acceleration) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("larder-probe-").tempdir().map_err(Error::file)?;
    let disk = folder.path().join("probe.img");
    fs_err::write(&disk, boot_sector()).map_err(Error::file)?;
    let mut command = launcher.command("qemu-system-x86_64", &[folder.path()]);
    command.args(["-machine", "pc", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(acceleration.arguments());
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    command.arg("-drive").arg(drive(&disk));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut qemu = process::start("qemu-system-x86_64", command)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(status) = qemu.ended()? {
            return Ok(status.code() == Some(PROBE_STATUS));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn drive(disk: &Path) -> String {
    format!("if=ide,format=raw,file={}", crate::qemu_args::escaped(disk))
}

fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..PROBE.len()].copy_from_slice(&PROBE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_without_vmx_and_svm_cannot_virtualise() {
        assert!(can_virtualise("model name\t: x\nflags\t\t: fpu vmx sse\n"));
        assert!(!can_virtualise("flags\t\t: fpu sse hypervisor\nvmx flags\t: ept\n"));
    }
}
