//! A story: one machine from its first boot to its end.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use larder_qemu::{HostTools, LarderTools, Launcher, Machine, MachineBuilder, Vm};

use crate::{Slot, build};

/// Bound for a boot: an emulated one takes a minute, two at a time on a busy host several.
pub const BOOT: Duration = Duration::from_secs(600);

/// What a machine needs besides itself: its name and the right to run.
#[derive(Debug)]
pub struct Story {
    name: String,
    _slot: Slot,
}

/// A running machine of a story.
#[derive(Debug)]
pub struct TestVm {
    vm: Vm,
    story: Story,
}

impl Story {
    /// Begins a story; `name` is that of its console log. Waits until fewer than two VMs run.
    pub fn begin(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), _slot: Slot::take()? })
    }

    /// A machine with the image under test and the guest agent; `more` adds what the story needs.
    pub fn machine(&self, more: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Result<Machine> {
        self.machine_with(&build::image()?, more)
    }

    /// The same with another image.
    pub fn machine_with(&self, image: &Path, more: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Result<Machine> {
        let log = build::target_folder()?.join("vm-logs").join(format!("{}.log", self.name));
        if let Some(folder) = log.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(&log, "")?;
        let builder = Machine::with_image(image).agent().log_to(log);
        more(builder).build(launcher()?).context("putting the machine together")
    }

    /// Switches it on and does not wait for anything.
    pub fn start(self, machine: Machine) -> Result<TestVm> {
        Ok(TestVm { vm: machine.boot()?, story: self })
    }

    /// Boots until the agent answers.
    pub fn boot(self, machine: Machine) -> Result<TestVm> {
        let mut vm = machine.boot()?;
        vm.wait_ready(BOOT)?;
        Ok(TestVm { vm, story: self })
    }
}

impl TestVm {
    /// Waits until systemd has nothing left to start; an error names the units that failed.
    pub fn settle(&mut self) -> Result<()> {
        let state = self.run_within("systemctl is-system-running --wait", BOOT)?.text;
        if state.trim() == "running" {
            return Ok(());
        }
        let failed = self.run("systemctl --failed --no-legend --plain")?.text;
        let why = self.run("for u in $(systemctl --failed --no-legend --plain | cut -d' ' -f1); do systemctl status --no-pager --full -n 20 $u; done")?.text;
        let jobs = self.run("systemctl list-jobs --no-pager --no-legend")?.text;
        bail!("the system is {}\nfailed units:\n{failed}\njobs:\n{jobs}\n{why}", state.trim());
    }

    /// Shuts down and gives the machine back, with the right to boot it again.
    pub fn shut_down(self) -> Result<(Story, Machine)> {
        Ok((self.story, self.vm.shut_down(BOOT)?))
    }

    /// Cuts the power.
    pub fn power_cut(self) -> (Story, Machine) {
        (self.story, self.vm.power_cut())
    }

    /// A command whose output must be exactly `expected`, apart from white space around it.
    pub fn expect(&mut self, command: &str, expected: &str) -> Result<()> {
        let text = self.check(command)?;
        ensure!(text.trim() == expected, "`{command}` said {:?} instead of {expected:?}", text.trim());
        Ok(())
    }
}

impl Deref for TestVm {
    type Target = Vm;

    fn deref(&self) -> &Vm {
        &self.vm
    }
}

impl DerefMut for TestVm {
    fn deref_mut(&mut self) -> &mut Vm {
        &mut self.vm
    }
}

/// One VM for several tests of a binary: a boot takes a minute where the CPU is emulated.
///
/// A static is never dropped; the VM ends, and its folder goes, with the test process (see `larder-qemu`'s launchers).
#[derive(Debug)]
pub struct SharedVm(OnceLock<Result<Mutex<TestVm>, String>>);

impl SharedVm {
    /// Not booted yet.
    #[expect(clippy::new_without_default, reason = "only for statics")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The VM, for one test at a time; the first one boots it.
    pub fn get(&self, boot: impl FnOnce() -> Result<TestVm>) -> Result<MutexGuard<'_, TestVm>> {
        let booted = self.0.get_or_init(|| boot().map(Mutex::new).map_err(|error| format!("{error:#}")));
        match booted {
            // A test that failed says nothing about the machine.
            Ok(vm) => Ok(vm.lock().unwrap_or_else(PoisonError::into_inner)),
            Err(error) => bail!("the VM of these tests does not boot: {error}"),
        }
    }
}

fn launcher() -> Result<Arc<dyn Launcher>> {
    match std::env::var("LARDER_TEST_TOOLS").as_deref() {
        Ok("host") => Ok(Arc::new(HostTools)),
        Ok(other) if !other.is_empty() => {
            bail!("LARDER_TEST_TOOLS is {other:?}; it may be host, or absent")
        }
        _ => Ok(Arc::new(LarderTools { larder: build::larder()? })),
    }
}
