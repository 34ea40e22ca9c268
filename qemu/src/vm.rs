//! A PC that is switched on.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::guest::{Guest, Output};
use crate::machine::Machine;
use crate::process::{self, Owned};
use crate::stall::Stall;
use crate::{Acceleration, Console, Error, Qmp, Result, qemu_args, tpm};

const QEMU: &str = "qemu-system-x86_64";

/// QEMU opens its sockets before the guest runs; entering a tools tree comes first, and may mean unpacking it.
const START: Duration = Duration::from_secs(300);

/// Bound for a command in an emulated guest that should be immediate.
const COMMAND: Duration = Duration::from_secs(120);

/// A hot-plug port waits 5 s for a second press of its attention button before it lets go (PCIe 6.7.1.5).
const UNPLUG: Duration = Duration::from_secs(120);

const AGENT: &str = "MachineBuilder::agent was called for this machine";

/// Who is at the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attendance {
    /// Nobody: it goes to the log only.
    Unattended,
    /// A person at our terminal.
    Terminal,
}

/// A PC that is switched on. Dropping it is a power cut.
pub struct Vm {
    // Declared first, dropped first: QEMU must have ended before its folder goes.
    watch: Watch,
    qmp: Qmp,
    guest: Option<Guest>,
    tpm: Option<Owned>,
    machine: Machine,
}

impl Vm {
    pub(crate) fn start(machine: Machine, attendance: Attendance) -> Result<Self> {
        let folder = machine.folder().to_owned();
        let acceleration = Acceleration::detect(machine.launcher.as_ref())?;
        let tpm = machine.hardware.tpm.then(|| tpm::start(&machine.launcher, &folder)).transpose()?;
        for socket in [qemu_args::qmp_socket(&folder), Guest::socket(&folder)] {
            let _ = fs_err::remove_file(socket);
        }
        let mut watch = Watch::start(&machine, acceleration, attendance)?;
        let qmp = Qmp::new(watch.connect(&qemu_args::qmp_socket(&folder))?)?;
        let guest =
            machine.hardware.agent.then(|| watch.connect(&Guest::socket(&folder)).and_then(Guest::new)).transpose()?;
        Ok(Self { watch, qmp, guest, tpm, machine })
    }

    /// The serial console.
    pub fn console(&self) -> &Console {
        &self.watch.console
    }

    /// QEMU's own controls: reset, freeze, power button.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The machine; its disks belong to the guest now.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Waits until the guest answers: systemd runs and has reached basic.target.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let guest = self.guest.as_mut().expect(AGENT);
        let (watch, qmp) = (&mut self.watch, &mut self.qmp);
        let mut stall = Stall::new(&watch.console);
        let alive = || stall.mend(qmp).and_then(|()| guest.hello(None));
        watch.until("sign of life from the guest agent", timeout, alive).map(drop)
    }

    /// Waits until the console shows `needle` and gives that line. A dead guest is no error here: its last words may
    /// be what is waited for.
    pub fn wait_console(&mut self, needle: &str, timeout: Duration) -> Result<String> {
        let console = self.watch.console.clone();
        let what = format!("line with {needle:?} on the console");
        let (qmp, mut stall) = (&mut self.qmp, Stall::new(&console));
        self.watch.until_even_dead(&what, timeout, || stall.mend(qmp).map(|()| console.line_with(needle)))
    }

    /// Runs a shell command in the guest, as root.
    pub fn run(&mut self, command: &str) -> Result<Output> {
        self.run_within(command, COMMAND)
    }

    /// Like [`Vm::run`], for commands that take their time.
    pub fn run_within(&mut self, command: &str, timeout: Duration) -> Result<Output> {
        let (watch, guest) = self.agent();
        let id = guest.send(command)?;
        watch.until(&format!("answer to `{command}`"), timeout, || guest.answer(id))
    }

    /// Runs a shell command in the guest that must succeed, and gives its output.
    pub fn check(&mut self, command: &str) -> Result<String> {
        self.check_within(command, COMMAND)
    }

    /// Like [`Vm::check`], for commands that take their time.
    pub fn check_within(&mut self, command: &str, timeout: Duration) -> Result<String> {
        let output = self.run_within(command, timeout)?;
        if output.success() {
            return Ok(output.text);
        }
        let console = self.watch.console.tail();
        Err(Error::Guest { command: command.into(), status: output.status, output: output.text, console })
    }

    /// Reboots the guest and waits until it answers again.
    pub fn reboot(&mut self, timeout: Duration) -> Result<()> {
        let (watch, guest) = self.agent();
        let old = guest.boot_id.clone();
        guest.send("systemctl reboot")?;
        watch.until("sign of life after the reboot", timeout, || guest.hello(old.as_deref())).map(drop)
    }

    /// Waits until the guest answers after a restart that it makes by itself, be it because its kernel has panicked.
    pub fn wait_restart(&mut self, timeout: Duration) -> Result<()> {
        let (watch, guest) = self.agent();
        let old = guest.boot_id.clone();
        watch.until_even_dead("sign of life after a restart", timeout, || guest.hello(old.as_deref()))?;
        // The kernel that panicked is no more.
        self.watch.console.begin_anew();
        Ok(())
    }

    /// Pulls NVMe disk `index` out of the running machine. The slot's button is pressed and the guest's driver lets
    /// go, so requests under way end in order; what is on the disk stays there.
    pub fn pull_disk(&mut self, index: usize) -> Result<()> {
        self.qmp.device_del(&qemu_args::disk_id(index), UNPLUG)
    }

    /// Pulls target `index` out of the running machine: on USB at once, whatever is being written.
    pub fn pull_target(&mut self, index: usize) -> Result<()> {
        self.qmp.device_del(&qemu_args::target_id(index), UNPLUG)
    }

    /// Puts a pulled disk back into its slot.
    pub fn plug_disk(&mut self, index: usize) -> Result<()> {
        self.qmp.device_add(qemu_args::nvme_device(index, &self.machine.disks[index]))
    }

    /// Cuts the power now; the crate's documentation says what that loses.
    pub fn power_cut(mut self) -> Machine {
        self.watch.qemu.kill();
        self.off()
    }

    /// Shuts the guest down, by its agent or by the power button, and waits until it is off.
    pub fn shut_down(mut self, timeout: Duration) -> Result<Machine> {
        match &mut self.guest {
            Some(guest) if guest.boot_id.is_some() => guest.send("systemctl poweroff").map(drop)?,
            _ => self.qmp.system_powerdown()?,
        }
        self.watch.ended("the guest to switch itself off", timeout)?;
        Ok(self.off())
    }

    /// Waits, however long it takes, until the guest is off or a person has ended QEMU.
    pub fn wait_off(mut self) -> Result<(Machine, ExitStatus)> {
        let status = self.watch.qemu.wait()?;
        if !status.success() {
            return Err(self.watch.ended_early("the guest to switch itself off", status));
        }
        Ok((self.off(), status))
    }

    fn off(self) -> Machine {
        let Self { watch, qmp, tpm, machine, .. } = self;
        drop(watch);
        qmp.wait_end();
        drop(tpm);
        machine
    }

    #[expect(clippy::expect_used, reason = "a programming mistake, not a state of the world")]
    fn agent(&mut self) -> (&mut Watch, &mut Guest) {
        let guest = self.guest.as_mut().expect(AGENT);
        (&mut self.watch, guest)
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("machine", &self.machine)
            .field("console", &self.watch.console)
            .finish_non_exhaustive()
    }
}

/// QEMU's process and the guest's console: what every wait keeps an eye on.
struct Watch {
    qemu: Owned,
    console: Console,
    stderr: std::path::PathBuf,
}

impl Watch {
    fn start(machine: &Machine, acceleration: Acceleration, attendance: Attendance) -> Result<Self> {
        let folder = machine.folder();
        let stderr = folder.join("qemu.log");
        let log_folder = machine.console.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(log_folder).map_err(Error::file)?;
        let console = Console::new(&machine.console);
        let mut command = machine.launcher.command(QEMU, &[folder, log_folder]);
        command.args(qemu_args::arguments(machine, acceleration, attendance)?);
        let (stdin, stdout) = match attendance {
            Attendance::Terminal => (Stdio::inherit(), Stdio::inherit()),
            Attendance::Unattended => (Stdio::null(), Stdio::null()),
        };
        command.stdin(stdin).stdout(stdout).stderr(fs_err::File::create(&stderr).map_err(Error::file)?.into_file());
        Ok(Self { qemu: process::start(QEMU, command)?, console, stderr })
    }

    fn connect(&mut self, socket: &Path) -> Result<UnixStream> {
        self.until("socket of QEMU", START, || match UnixStream::connect(socket) {
            Ok(stream) => Ok(Some(stream)),
            Err(_) => Ok(None),
        })
    }

    /// Asks `probe` until it has something, the guest dies or time is up.
    fn until<T>(&mut self, what: &str, timeout: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let console = self.console.clone();
        let fatal =
            move || console.fatal_line().map(|line| Error::Died { what: what.into(), line, console: console.tail() });
        self.until_even_dead(what, timeout, || {
            let found = probe()?;
            if found.is_none()
                && let Some(error) = fatal()
            {
                Err(error)
            } else {
                Ok(found)
            }
        })
    }

    /// The same without a look for the guest's last words.
    fn until_even_dead<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut probe: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        loop {
            // The state of the process comes first: it may have said what we wait for and then ended.
            let ended = self.qemu.ended()?;
            if let Some(found) = probe()? {
                return Ok(found);
            }
            if let Some(status) = ended {
                return Err(self.ended_early(what, status));
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout { what: what.into(), after: timeout, console: self.console.tail() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ended(&mut self, what: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.qemu.ended()?.is_none() {
            if Instant::now() >= deadline {
                return Err(Error::Timeout { what: what.into(), after: timeout, console: self.console.tail() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn ended_early(&self, what: &str, status: ExitStatus) -> Error {
        let stderr = fs_err::read_to_string(&self.stderr).unwrap_or_default().trim().to_owned();
        Error::Ended { what: what.into(), status, stderr, console: self.console.tail() }
    }
}
