//! Where QEMU, swtpm and the firmware come from.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of the UEFI firmware, as the launched programs see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The code: mapped read-only.
    pub code: PathBuf,
    /// The template of the variable store: copied for every machine.
    pub vars: PathBuf,
}

impl Firmware {
    /// Debian's `ovmf`, variant without Secure Boot enforcement: it needs no SMM, which is slow to emulate.
    fn debian() -> Self {
        Self { code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(), vars: "/usr/share/OVMF/OVMF_VARS_4M.fd".into() }
    }
}

/// Gives the commands that run a VM's programs.
pub trait Launcher: Debug + Send + Sync {
    /// A command that runs `program`, which can read and write the folders `shared` under their own paths.
    /// The program must die with the process that started it.
    fn command(&self, program: &str, shared: &[&Path]) -> Command;

    /// The UEFI firmware that comes with this QEMU.
    fn firmware(&self) -> Firmware {
        Firmware::debian()
    }
}

/// The host's own QEMU, from `PATH`; for people who have one.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostTools;

impl Launcher for HostTools {
    fn command(&self, program: &str, _shared: &[&Path]) -> Command {
        // QEMU has no option for "die with my parent", but util-linux can ask the kernel for it before it becomes QEMU:
        // PR_SET_PDEATHSIG survives execve (prctl(2)).
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    }

    fn firmware(&self) -> Firmware {
        let fedora = Firmware {
            code: "/usr/share/edk2/ovmf/OVMF_CODE_4M.fd".into(),
            vars: "/usr/share/edk2/ovmf/OVMF_VARS_4M.fd".into(),
        };
        let arch = Firmware {
            code: "/usr/share/edk2/x64/OVMF_CODE.4m.fd".into(),
            vars: "/usr/share/edk2/x64/OVMF_VARS.4m.fd".into(),
        };
        [fedora, arch].into_iter().find(|firmware| firmware.code.exists()).unwrap_or_else(Firmware::debian)
    }
}

/// QEMU from larder's locked tools tree, entered by `larder tools run vm`: nothing is installed on the host.
#[derive(Debug, Clone)]
pub struct LarderTools {
    /// The larder program.
    pub larder: PathBuf,
}

impl Launcher for LarderTools {
    fn command(&self, program: &str, shared: &[&Path]) -> Command {
        let mut command = Command::new(&self.larder);
        // The host's network: ports are forwarded from its 127.0.0.1.
        command.args(["tools", "run", "vm", "--network"]);
        for folder in shared {
            command.arg("--bind").arg(folder);
        }
        command.arg("--").arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larder_tools_bind_the_shared_folders_and_separate_the_program() {
        let tools = LarderTools { larder: "/bin/larder".into() };
        let command = tools.command("swtpm", &[Path::new("/tmp/a"), Path::new("/tmp/b")]);
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args, ["tools", "run", "vm", "--network", "--bind", "/tmp/a", "--bind", "/tmp/b", "--", "swtpm"]);
    }
}
