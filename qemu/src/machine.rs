//! A PC that is switched off, and how to put one together.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::keeper::Keeper;
use crate::launcher::Launcher;
use crate::vm::{Attendance, Vm};
use crate::{Disk, Error, Result, guest, tpm};

const GIB: u64 = 1 << 30;

/// What the image lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootMedium {
    /// A USB stick: how an appliance is first started.
    #[default]
    Usb,
    /// An NVMe disk: the quickest for the firmware to read.
    Nvme,
    /// A SATA disk.
    Sata,
    /// An SD card in an SDHCI slot, in place of an eMMC: QEMU's cannot be plugged by users ("soldered on board"), but
    /// the guest's drivers (sdhci-pci, mmc_block) and device names are the same. OVMF has no driver for it, so QEMU
    /// hands the UKI over, see [`MachineBuilder::kernel`]; the boot loader is left out.
    Mmc,
}

impl FromStr for BootMedium {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "usb" => Ok(Self::Usb),
            "nvme" => Ok(Self::Nvme),
            "sata" => Ok(Self::Sata),
            "mmc" => Ok(Self::Mmc),
            other => Err(format!("{other:?} is no boot medium: usb, nvme, sata or mmc")),
        }
    }
}

/// A TCP port of the guest that can be reached on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on the host.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

/// What a machine consists of; see the methods.
pub struct MachineBuilder {
    image: PathBuf,
    medium: BootMedium,
    medium_size: u64,
    disks: Vec<u64>,
    targets: Vec<(BootMedium, u32)>,
    forwards: Vec<Forward>,
    kernel: Option<PathBuf>,
    log: Option<PathBuf>,
    hardware: Hardware,
}

/// What QEMU's command line is made from, apart from disks.
pub(crate) struct Hardware {
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) tpm: bool,
    pub(crate) agent: bool,
    pub(crate) kernel: bool,
    pub(crate) credentials: Vec<(String, String)>,
    pub(crate) kernel_arguments: Vec<String>,
}

impl MachineBuilder {
    /// Size of the boot medium: that of the smallest target, an 8 GB eMMC. An SD card must be a power of two.
    pub const MEDIUM_SIZE: u64 = 8 * GIB;

    /// How the image reaches the machine; a USB stick if not said.
    #[must_use]
    pub fn medium(mut self, medium: BootMedium) -> Self {
        self.medium = medium;
        self
    }

    /// Lets the firmware start this UKI (or kernel) instead of what it finds on the boot medium.
    #[must_use]
    pub fn kernel(mut self, uki: impl Into<PathBuf>) -> Self {
        self.kernel = Some(uki.into());
        self
    }

    /// Size of the boot medium in bytes.
    #[must_use]
    pub fn medium_size(mut self, bytes: u64) -> Self {
        self.medium_size = bytes;
        self
    }

    /// Adds `count` empty NVMe disks of `bytes` each.
    #[must_use]
    pub fn disks(mut self, count: usize, bytes: u64) -> Self {
        self.disks.extend(std::iter::repeat_n(bytes, count));
        self
    }

    /// Adds an empty disk that the system can be installed to, as large as the boot medium, with logical sectors of 512 or
    /// 4096 bytes (SATA: 512).
    #[must_use]
    pub fn target(mut self, medium: BootMedium, sector: u32) -> Self {
        self.targets.push((medium, sector));
        self
    }

    /// Memory in MiB; 2048 if not said.
    #[must_use]
    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.hardware.memory_mib = memory;
        self
    }

    /// Number of CPUs; 2 if not said.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.hardware.cpus = cpus;
        self
    }

    /// Whether there is a TPM 2.0; there is if not said.
    #[must_use]
    pub fn tpm(mut self, tpm: bool) -> Self {
        self.hardware.tpm = tpm;
        self
    }

    /// Makes a TCP port of the guest reachable on 127.0.0.1, under a free port if `host` is `None`.
    #[must_use]
    pub fn forward(mut self, host: Option<u16>, guest: u16) -> Self {
        self.forwards.push(Forward { host: host.unwrap_or(0), guest });
        self
    }

    /// Gives systemd in the guest a credential (systemd.system-credentials(7)).
    #[must_use]
    pub fn credential(mut self, name: &str, value: &str) -> Self {
        self.hardware.credentials.push((name.into(), value.into()));
        self
    }

    /// Appends to the kernel command line of a UKI; systemd-stub takes it while Secure Boot is off.
    #[must_use]
    pub fn kernel_argument(mut self, argument: &str) -> Self {
        self.hardware.kernel_arguments.push(argument.into());
        self
    }

    /// Brings in the agent behind [`Vm::run`].
    #[must_use]
    pub fn agent(mut self) -> Self {
        self.hardware.agent = true;
        self
    }

    /// Where the console's log goes; otherwise it lies, and goes, with the machine.
    #[must_use]
    pub fn log_to(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Makes the disks.
    pub fn build(mut self, launcher: Arc<dyn Launcher>) -> Result<Machine> {
        if self.medium == BootMedium::Mmc && self.kernel.is_none() {
            return Err(Error::MmcWithoutKernel);
        }
        let keeper = Keeper::new()?;
        let folder = keeper.path();
        let boot = Disk::copy_of(&self.image, folder.join("boot.img"), "larder-boot".into(), self.medium_size)?;
        let disk = |(i, size)| Disk::create(folder.join(format!("disk{i}.img")), format!("larder-disk{i}"), size);
        let disks = self.disks.into_iter().enumerate().map(disk).collect::<Result<Vec<_>>>()?;
        let target = |(i, &(medium, sector))| {
            let disk =
                Disk::create(folder.join(format!("target{i}.img")), format!("larder-target{i}"), self.medium_size)?;
            Ok(Target { disk, medium, sector })
        };
        let targets = self.targets.iter().enumerate().map(target).collect::<Result<Vec<_>>>()?;
        self.hardware.kernel = self.kernel.is_some();
        if let Some(kernel) = self.kernel {
            fs_err::copy(kernel, kernel_path(folder)).map_err(Error::file)?;
        }
        copy_firmware_variables(launcher.as_ref(), folder)?;
        self.forwards.iter_mut().filter(|forward| forward.host == 0).try_for_each(|forward| {
            forward.host = free_port().map_err(Error::io("looking for a free port"))?;
            Ok::<_, Error>(())
        })?;
        if self.hardware.agent {
            self.hardware.credentials.extend(guest::credentials());
        }
        let console = self.log.unwrap_or_else(|| folder.join("console.log"));
        Ok(Machine {
            boot,
            disks,
            disks_out: Vec::new(),
            targets,
            start: Start { target: None, is_medium_in: true },
            medium: self.medium,
            forwards: self.forwards,
            console,
            hardware: self.hardware,
            launcher,
            keeper,
        })
    }
}

/// A disk that the system can be installed to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The disk.
    pub disk: Disk,
    /// How it is connected.
    pub medium: BootMedium,
    /// Bytes of a logical sector.
    pub sector: u32,
}

impl Target {
    /// The path under which udev shows it in the guest.
    pub fn by_id(&self) -> String {
        let serial = self.disk.serial();
        let name = match self.medium {
            BootMedium::Usb => format!("usb-QEMU_QEMU_HARDDISK_{serial}-0:0"),
            BootMedium::Nvme => format!("nvme-QEMU_NVMe_Ctrl_{serial}"),
            BootMedium::Sata => format!("ata-QEMU_HARDDISK_{serial}"),
            // An SD card cannot be given a serial number.
            BootMedium::Mmc => "mmc-QEMU__0xdeadbeef".to_owned(),
        };
        format!("/dev/disk/by-id/{name}")
    }
}

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// Number of a target; the boot medium otherwise.
    pub(crate) target: Option<usize>,
    /// Whether the boot medium is connected.
    pub(crate) is_medium_in: bool,
}

/// A PC that is switched off. Its folder goes with it, unless the environment has `LARDER_KEEP`.
pub struct Machine {
    pub(crate) boot: Disk,
    pub(crate) disks: Vec<Disk>,
    /// Numbers of the disks that are not plugged in.
    pub(crate) disks_out: Vec<usize>,
    pub(crate) targets: Vec<Target>,
    pub(crate) start: Start,
    pub(crate) medium: BootMedium,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) console: PathBuf,
    pub(crate) hardware: Hardware,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) keeper: Keeper,
}

impl Machine {
    /// A machine that boots `image`, of which it gets a copy.
    pub fn with_image(image: impl Into<PathBuf>) -> MachineBuilder {
        MachineBuilder {
            image: image.into(),
            medium: BootMedium::default(),
            medium_size: MachineBuilder::MEDIUM_SIZE,
            disks: Vec::new(),
            targets: Vec::new(),
            forwards: Vec::new(),
            kernel: None,
            log: None,
            hardware: Hardware {
                memory_mib: 2048,
                cpus: 2,
                tpm: true,
                agent: false,
                kernel: false,
                credentials: Vec::new(),
                kernel_arguments: Vec::new(),
            },
        }
    }

    /// Switches it on, unattended.
    pub fn boot(self) -> Result<Vm> {
        Vm::start(self, Attendance::Unattended)
    }

    /// Switches it on, with the console at our terminal.
    pub fn boot_attended(self) -> Result<Vm> {
        Vm::start(self, Attendance::Terminal)
    }

    /// Where disks and sockets are.
    pub fn folder(&self) -> &Path {
        self.keeper.path()
    }

    /// Where the console is logged.
    pub fn console_log(&self) -> &Path {
        &self.console
    }

    /// The medium that the image was copied to.
    pub fn boot_medium(&self) -> &Disk {
        &self.boot
    }

    /// The NVMe disks.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// The disks that the system can be installed to.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Has the firmware start the boot medium (`None`) or a target. An MMC needs a kernel as well, see [`Machine::kernel`].
    pub fn start_from(&mut self, target: Option<usize>) {
        self.start.target = target;
    }

    /// Pulls out the boot medium, or plugs it in.
    pub fn set_medium_in(&mut self, is_in: bool) {
        self.start.is_medium_in = is_in;
    }

    /// Takes out all targets but one, which becomes number 0.
    pub fn keep_target(&mut self, target: usize) {
        self.targets = self.targets.drain(target..=target).collect();
    }

    /// Pulls an NVMe disk out, or plugs it in again; all are in at first.
    pub fn set_disk_in(&mut self, index: usize, is_in: bool) {
        self.disks_out.retain(|out| *out != index);
        if !is_in {
            self.disks_out.push(index);
        }
    }

    /// Takes the TPM out of the machine, or puts it in again: the same one.
    pub fn set_tpm(&mut self, is_in: bool) {
        self.hardware.tpm = is_in;
    }

    /// Puts a new TPM in place of the one that was there, as another board has.
    pub fn replace_tpm(&self) -> Result<()> {
        tpm::forget(self.folder())
    }

    /// What is appended to the kernel command line from now on; see [`MachineBuilder::kernel_argument`].
    pub fn kernel_arguments(&mut self, arguments: &[&str]) {
        self.hardware.kernel_arguments = arguments.iter().map(|&argument| argument.into()).collect();
    }

    /// Whether the firmware is handed a kernel.
    pub fn is_kernel_given(&self) -> bool {
        self.hardware.kernel
    }

    /// Lets the firmware start this UKI instead of what it finds on a disk; see [`MachineBuilder::kernel`].
    pub fn kernel(&mut self, uki: Option<&Path>) -> Result<()> {
        self.hardware.kernel = uki.is_some();
        if let Some(uki) = uki {
            fs_err::copy(uki, kernel_path(self.folder())).map_err(Error::file)?;
        }
        Ok(())
    }

    /// The ports that can be reached from here.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }
}

// Without the credentials, which may be secrets.
impl fmt::Debug for MachineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineBuilder").field("image", &self.image).finish_non_exhaustive()
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("folder", &self.folder()).finish_non_exhaustive()
    }
}

/// The copy of a kernel that is started without a boot loader.
pub(crate) fn kernel_path(folder: &Path) -> PathBuf {
    folder.join("kernel.efi")
}

/// The template lies where the firmware does, perhaps in a tools tree; so `cp` runs there, too.
fn copy_firmware_variables(launcher: &dyn Launcher, folder: &Path) -> Result<()> {
    let mut cp = launcher.command("cp", &[folder]);
    cp.arg("--no-preserve=mode").arg(launcher.firmware().vars).arg(folder.join("vars.fd"));
    let output = cp.output().map_err(|source| Error::Start { program: "cp".into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Program { program: "copying the firmware's variables".into(), status: output.status, stderr })
}

/// Nobody guarantees that it stays free until QEMU binds it; then QEMU says so and ends.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
