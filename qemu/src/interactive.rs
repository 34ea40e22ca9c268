//! A VM for a person: `larder try`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

use crate::launcher::Launcher;
use crate::{BootMedium, Machine, Result};

/// To be said before the guest has the terminal.
pub const HOW_TO_LEAVE: &str = "Ctrl-A X ends the VM, Ctrl-A H shows what else Ctrl-A can do";

/// The machine that a person wants.
#[derive(Debug, Clone)]
pub struct TryOptions {
    /// The image; it is not written to.
    pub image: PathBuf,
    /// What it lies on.
    pub medium: BootMedium,
    /// The image's UKI, which an MMC needs besides the image.
    pub kernel: Option<PathBuf>,
    /// Number of NVMe disks.
    pub disks: usize,
    /// Size of each, in bytes.
    pub disk_size: u64,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// Ports of the guest and where they appear on 127.0.0.1 (a free port if `None`).
    pub forwards: Vec<(Option<u16>, u16)>,
    /// Where the console is logged, if it is to outlast the VM.
    pub log: Option<PathBuf>,
}

impl TryOptions {
    /// A small NAS: three disks of 4 GiB, two CPUs, 2 GiB of memory, started from a USB stick.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            medium: BootMedium::Usb,
            kernel: None,
            disks: 3,
            disk_size: 4 << 30,
            memory_mib: 2048,
            cpus: 2,
            forwards: Vec::new(),
            log: None,
        }
    }
}

/// Boots the image at our terminal and returns when the VM has ended. Before it starts, `say` gets the lines that a
/// person should read.
pub fn try_image(launcher: Arc<dyn Launcher>, options: &TryOptions, say: &mut dyn FnMut(&str)) -> Result<()> {
    let mut builder = Machine::with_image(&options.image)
        .medium(options.medium)
        .disks(options.disks, options.disk_size)
        .memory_mib(options.memory_mib)
        .cpus(options.cpus);
    for (host, guest) in &options.forwards {
        builder = builder.forward(*host, *guest);
    }
    if let Some(kernel) = &options.kernel {
        builder = builder.kernel(kernel);
    }
    if let Some(log) = &options.log {
        builder = builder.log_to(log);
    }
    let machine = builder.build(launcher)?;
    for forward in machine.forwards() {
        say(&format!("port {} of the VM is 127.0.0.1:{}", forward.guest, forward.host));
    }
    say(HOW_TO_LEAVE);
    let _terminal = Terminal::remember();
    machine.boot_attended()?.wait_off().map(drop)
}

/// The terminal's settings, put back when dropped: QEMU does that itself unless it is killed.
struct Terminal(Option<Termios>);

impl Terminal {
    fn remember() -> Self {
        Self(io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, settings);
        }
    }
}
