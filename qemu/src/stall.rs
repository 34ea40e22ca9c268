//! A fault of the emulator, and what helps.
//!
//! On a busy host QEMU's emulation (10.0, `tcg,thread=multi`) now and then loses the timer of a guest's second processor in the
//! first seconds of its kernel. Nothing goes on there from then on; the kernel says so every twenty seconds. No image is to
//! blame for that, and a reset helps, as nothing has been written yet.

use crate::{Console, Qmp, Result};

/// What the kernel says (`rcu_check_gp_kthread_starvation` in kernel/rcu/tree_stall.h).
const LOST_TIMER: &str = "rcu_preempt kthread timer wakeup didn't happen";
/// What the initrd says first: from here on a stall is somebody else's fault.
const BEGUN: &str = "larder: the system is on";
/// A machine that needs more than this has another fault.
const RESETS: u32 = 3;

/// Looks after a machine that starts.
#[derive(Debug)]
pub(crate) struct Stall {
    console: Console,
    /// Lines about it that are from before the last reset.
    seen: usize,
    resets: u32,
}

impl Stall {
    pub(crate) fn new(console: &Console) -> Self {
        Self { console: console.clone(), seen: 0, resets: 0 }
    }

    /// Resets the machine when its emulated processor has stopped.
    pub(crate) fn mend(&mut self, qmp: &mut Qmp) -> Result<()> {
        if self.resets == RESETS {
            return Ok(());
        }
        let text = self.console.text();
        let lines = text.matches(LOST_TIMER).count();
        if lines > self.seen && !text.contains(BEGUN) {
            eprintln!(
                "the emulator has lost a processor's timer: the machine is reset ({})",
                self.console.path().display()
            );
            qmp.system_reset()?;
            self.resets += 1;
        }
        self.seen = lines;
        Ok(())
    }
}
