//! Gets entries to the disk while the build goes on.
//!
//! A build computes, then waits for the disk, unless somebody writes back meanwhile what the first stages
//! have made. One thread does, with one `syncfs` for all entries that were made since the last.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fs_err as fs;

use super::entries;

/// Entries that are made within this time share a sync; hundreds of packages come at once.
const GATHER: Duration = Duration::from_millis(500);

/// The entries of a process on their way to the disk.
#[derive(Debug)]
pub(super) struct Syncer {
    /// The store's folder.
    folder: PathBuf,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    made: Vec<PathBuf>,
    closing: bool,
}

impl Syncer {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, queue: Arc::default(), thread: Mutex::default() }
    }

    /// Takes over an entry that has got its name and its state.
    pub(super) fn add(&self, entry: PathBuf) {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).made.push(entry);
        self.queue.changed.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (folder, queue) = (self.folder.clone(), self.queue.clone());
            // Without the thread the entries are good until the next boot.
            *thread = thread::Builder::new().name("sync".into()).spawn(move || run(&folder, &queue)).ok();
        }
    }
}

impl Drop for Syncer {
    /// Waits for the disk.
    fn drop(&mut self) {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).closing = true;
        self.queue.changed.notify_one();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // It has panicked at worst, and then the entries are good until the next boot.
        let _ = thread.map(JoinHandle::join);
    }
}

fn run(folder: &PathBuf, queue: &Queue) {
    while let Some(made) = queue.next() {
        let synced = fs::File::open(folder).is_ok_and(|folder| nix::unistd::syncfs(folder.file()).is_ok());
        for entry in made.iter().filter(|_| synced) {
            // Failing leaves the boot id: the entry is good until the next boot.
            let _ = entries::mark_durable(entry);
        }
    }
}

impl Queue {
    /// What was made since the last call; `None` when no more is to come.
    fn next(&self) -> Option<Vec<PathBuf>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let some = |waiting: &mut Waiting| waiting.made.is_empty() && !waiting.closing;
        let waiting = self.changed.wait_while(waiting, some).unwrap_or_else(PoisonError::into_inner);
        let more = |waiting: &mut Waiting| !waiting.closing;
        let gathered = self.changed.wait_timeout_while(waiting, GATHER, more);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let made = std::mem::take(&mut waiting.made);
        (!made.is_empty()).then_some(made)
    }
}
