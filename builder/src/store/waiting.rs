//! Waiting for another larder, and saying so.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::progress::Progress;

/// How long a lock may take before a person hears of it: most are held for a moment only.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a lock is tried until then.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes locks; tells each reason to wait once.
#[derive(Debug)]
pub(super) struct Waiting {
    progress: Progress,
    told: Mutex<HashSet<String>>,
}

impl Waiting {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, told: Mutex::default() }
    }

    /// Locks the file for this process alone; `why` is what a person is told when that takes long.
    pub(super) fn lock(&self, file: &File, why: impl FnOnce() -> String) -> io::Result<()> {
        if self.tried(|| file.try_lock(), why)? { Ok(()) } else { file.lock() }
    }

    /// The same for a lock that others may share.
    pub(super) fn lock_shared(&self, file: &File, why: impl FnOnce() -> String) -> io::Result<()> {
        if self.tried(|| file.try_lock_shared(), why)? { Ok(()) } else { file.lock_shared() }
    }

    fn tried(&self, lock: impl Fn() -> Result<(), TryLockError>, why: impl FnOnce() -> String) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            match lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => break,
            }
        }
        let why = why();
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone()) {
            self.progress.note(why);
        }
        Ok(false)
    }
}
