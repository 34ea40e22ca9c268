//! Wrong tries cost time: one second, then twice as much each time, up to a minute.
//!
//! How many there were since the start of the machine is in `/run/larder/tries.json`: ending the program, or asking in
//! several sessions at once, makes nothing faster. A try is counted before it is made, for the same reason.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Denied, Opened};

/// Relative to the root.
const FOLDER: &str = "run/larder";
const FILE: &str = "tries.json";
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// The count of wrong tries of a system.
#[derive(Debug, Clone)]
pub struct Throttle {
    root: PathBuf,
}

/// What is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tries {
    /// Wrong ones since the last right one.
    wrong: u32,
    /// When the last one was made, in seconds since the start of the machine.
    at: u64,
}

impl Throttle {
    /// That of the system below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Waits as long as it has to be, by `wait`, which is also told when there is nothing to wait for; then makes a try.
    ///
    /// # Errors
    /// What the try gives; or the count cannot be kept.
    pub fn attempt(
        &self,
        wait: impl FnOnce(Duration),
        attempt: impl FnOnce() -> Result<Opened, Denied>,
    ) -> Result<Opened, Denied> {
        let mut file = self.open()?;
        // Other sessions queue here.
        file.lock().context("waiting for other tries")?;
        let before = read(&mut file)?;
        wait(before.wait(self.uptime()?));
        write(&mut file, Tries { wrong: before.wrong.saturating_add(1), at: self.uptime()? })?;
        let result = attempt();
        match &result {
            Ok(_) => write(&mut file, Tries::default())?,
            Err(Denied::Wrong(_) | Denied::Tpm(_)) => {}
            // Nothing was learnt from it.
            Err(Denied::Fault(_)) => write(&mut file, before)?,
        }
        result
    }

    fn open(&self) -> anyhow::Result<File> {
        let folder = self.root.join(FOLDER);
        fs_err::create_dir_all(&folder)?;
        let mut options = fs_err::OpenOptions::new();
        Ok(options.read(true).write(true).create(true).truncate(false).open(folder.join(FILE))?.into_parts().0)
    }

    fn uptime(&self) -> anyhow::Result<u64> {
        uptime(&self.root)
    }
}

/// Whole seconds since the start (proc_uptime(5)): the time of day may be set meanwhile.
fn uptime(root: &Path) -> anyhow::Result<u64> {
    let text = fs_err::read_to_string(root.join("proc/uptime"))?;
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    seconds.with_context(|| format!("/proc/uptime says {text:?}"))
}

impl Tries {
    fn wait(self, now: u64) -> Duration {
        let Some(doublings) = self.wrong.checked_sub(1) else { return Duration::ZERO };
        let delay = 1_u64.checked_shl(doublings).map_or(LONGEST, Duration::from_secs).min(LONGEST);
        delay.saturating_sub(Duration::from_secs(now.saturating_sub(self.at)))
    }
}

fn read(file: &mut File) -> anyhow::Result<Tries> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Damaged, it counts as many: whoever can write there need not guess.
    Ok(if text.is_empty() {
        Tries::default()
    } else {
        serde_json::from_str(&text).unwrap_or(Tries { wrong: 7, at: 0 })
    })
}

fn write(file: &mut File, tries: Tries) -> anyhow::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    Ok(file.write_all(&serde_json::to_vec(&tries)?)?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::key::{PoolKey, Way};

    struct Clock(tempfile::TempDir);

    impl Clock {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("proc")).unwrap();
            let clock = Self(folder);
            clock.set(100);
            clock
        }

        fn set(&self, now: u64) {
            std::fs::write(self.0.path().join("proc/uptime"), format!("{now}.25 7.00\n")).unwrap();
        }

        /// How long a try has to wait that then gives `result`.
        fn wait_of(&self, result: Result<Opened, Denied>) -> u64 {
            let waited = Cell::new(None);
            let _ = Throttle::at(self.0.path()).attempt(|wait| waited.set(Some(wait.as_secs())), || result);
            waited.get().unwrap()
        }
    }

    fn wrong() -> Result<Opened, Denied> {
        Err(Denied::Wrong(None))
    }

    fn right() -> Result<Opened, Denied> {
        Ok(Opened { key: PoolKey::generate().unwrap(), slot: Way::Passphrase.into(), way: Way::Passphrase })
    }

    #[test]
    fn each_wrong_try_doubles_the_wait_up_to_a_minute() {
        let clock = Clock::new();
        let waits: Vec<_> = (0..10).map(|_| clock.wait_of(wrong())).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn time_that_has_passed_counts() {
        let clock = Clock::new();
        (0..4).for_each(|_| _ = clock.wait_of(wrong()));
        clock.set(105);
        assert_eq!(clock.wait_of(wrong()), 3);
        clock.set(1000);
        assert_eq!(clock.wait_of(wrong()), 0);
    }

    #[test]
    fn a_right_one_clears_the_count_and_a_fault_does_not_raise_it() {
        let clock = Clock::new();
        (0..3).for_each(|_| _ = clock.wait_of(wrong()));
        assert_eq!(clock.wait_of(Err(Denied::Fault(anyhow::anyhow!("no memory")))), 4);
        assert_eq!(clock.wait_of(right()), 4);
        assert_eq!(clock.wait_of(wrong()), 0);
    }

    #[test]
    fn a_try_that_was_cut_off_has_counted() {
        let clock = Clock::new();
        let throttle = Throttle::at(clock.0.path());
        let cut = std::panic::catch_unwind(|| throttle.attempt(drop, || panic!("killed")).map(drop));
        assert!(cut.is_err());
        assert_eq!(clock.wait_of(wrong()), 1);
    }

    #[test]
    fn a_damaged_count_is_no_free_try() {
        let clock = Clock::new();
        clock.wait_of(wrong());
        std::fs::write(clock.0.path().join("run/larder/tries.json"), "{").unwrap();
        clock.set(10);
        assert_eq!(clock.wait_of(wrong()), 50);
    }
}
