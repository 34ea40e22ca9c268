//! From power-on to multi-user, on the same virtual machine for both images.
//!
//! The signal is the same, too: a unit that comes in by a credential of the machine, so that neither image knows of it,
//! is started by multi-user.target once that is reached, and writes a line to the console.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, LarderTools, Machine};

/// What the unit writes.
const SIGNAL: &str = "bench-reached-multi-user";

/// Without default dependencies: a target waits for the units that it wants, unless they say otherwise
/// (systemd.target(5)), and this one waits for the target.
const UNIT: &str = "\
[Unit]
Description=Says that multi-user.target is reached
DefaultDependencies=no
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo bench-reached-multi-user >/dev/ttyS0'
";

const DROPIN: &str = "[Unit]\nWants=bench-signal.service\n";

/// Ten times what an emulated machine needs.
const PATIENCE: Duration = Duration::from_secs(600);

/// One boot.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    /// From the machine's first instruction to the signal.
    pub(crate) seconds: f64,
    /// What systemd says of it: seconds in firmware, loader, kernel, initrd and userspace.
    pub(crate) phases: String,
    /// Units that failed.
    pub(crate) failed: Vec<String>,
}

/// Boots a fresh copy of the image.
pub(crate) fn boot(larder: &Path, image: &Path, log: &Path) -> Result<Boot> {
    fs_err::write(log, "")?;
    let machine = Machine::with_image(image)
        .medium(BootMedium::Nvme)
        .agent()
        .credential("systemd.extra-unit.bench-signal.service", UNIT)
        .credential("systemd.unit-dropin.multi-user.target~bench", DROPIN)
        .log_to(log)
        .build(Arc::new(LarderTools { larder: larder.to_owned() }))
        .context("putting the machine together")?;
    nix::unistd::sync();
    let mut vm = machine.boot()?;
    let power_on = Instant::now();
    vm.wait_console(SIGNAL, PATIENCE)?;
    let seconds = power_on.elapsed().as_secs_f64();
    vm.wait_ready(PATIENCE)?;
    // Both are to be what they claim: a verified root, ZFS, and multi-user for good.
    let state = vm.run_within("systemctl is-system-running --wait", PATIENCE)?.text;
    ensure!(["running", "degraded"].contains(&state.trim()), "the system is {state:?}");
    vm.check("systemctl is-active multi-user.target")?;
    vm.check("modprobe zfs")?;
    vm.check("ls /sys/block/*/dm/uuid | xargs cat | grep CRYPT-VERITY-")?;
    let failed = vm.check("systemctl --failed --no-legend --plain | cut -d' ' -f1")?;
    let phases = vm.check("systemd-analyze time | head -n1")?;
    drop(vm);
    Ok(Boot { seconds, phases: phases.trim().to_owned(), failed: failed.lines().map(str::to_owned).collect() })
}

/// The longest phase of `Startup finished in 1.2s (firmware) + 2.3s (kernel) = 3.5s`.
pub(crate) fn longest_phase(line: &str) -> Option<(String, f64)> {
    let phases = line.split_once(" in ")?.1.split(" = ").next()?.split(" + ").filter_map(|phase| {
        let (time, name) = phase.trim().split_once(" (")?;
        Some((name.trim_end_matches(')').to_owned(), seconds(time)?))
    });
    phases.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// `1min 2.345s`, `345ms`.
fn seconds(text: &str) -> Option<f64> {
    text.split_whitespace()
        .map(|part| {
            let units = [("min", 60.0), ("ms", 0.001), ("us", 0.000_001), ("s", 1.0)];
            let (number, factor) = units.iter().find_map(|(unit, factor)| Some((part.strip_suffix(unit)?, factor)))?;
            Some(number.parse::<f64>().ok()? * factor)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_phase_of_a_boot_is_found() {
        let line = "Startup finished in 2.5s (firmware) + 800ms (loader) + 6.1s (kernel) + 1min 1.5s (initrd) + 9s (userspace) = 1min 20s ";
        assert_eq!(longest_phase(line), Some(("initrd".into(), 61.5)));
        assert_eq!(longest_phase("Bootup is not yet finished"), None);
    }

    #[test]
    fn the_unit_writes_the_signal() {
        assert!(UNIT.contains(SIGNAL));
    }
}
