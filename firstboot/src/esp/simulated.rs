//! A folder of UKIs in memory, which loses what was not synced when the power goes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use super::{Esp, FileEntry};
use crate::verity::RootHash;

type Files = BTreeMap<String, Vec<u8>>;

/// What is said when a step cannot be done any more.
pub(crate) type Clock<'a> = &'a dyn Fn() -> io::Result<()>;

/// The folder.
pub(crate) struct Simulated<'a> {
    state: RefCell<State>,
    /// Is asked before every step that changes something.
    clock: Clock<'a>,
    pub(crate) capacity: u64,
}

#[derive(Debug, Default)]
struct State {
    stored: Files,
    seen: Files,
    pending: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Rename(String, String),
    Remove(String),
}

/// A UKI of which only the command line is looked at; `filler` makes it different.
pub(crate) fn uki(root_hash: &RootHash, filler: &[u8]) -> Vec<u8> {
    let line = format!("console=ttyS0 roothash={root_hash}");
    crate::tpm::pe::tests::program(&[(".cmdline", line.as_bytes()), (".initrd", filler)])
}

impl<'a> Simulated<'a> {
    pub(crate) fn new(files: Files, clock: Clock<'a>) -> Self {
        let state = State { seen: files.clone(), stored: files, pending: Vec::new() };
        Self { state: RefCell::new(state), clock, capacity: 64 << 20 }
    }

    /// What is there now, for whoever looks.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.borrow().seen.keys().cloned().collect()
    }

    pub(crate) fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.state.borrow().seen.get(name).cloned()
    }

    /// What is there after a loss of power: of the steps since the last sync, some, as the bits say, in their order.
    pub(crate) fn after_power_cut(self, bits: u64) -> Files {
        let mut state = self.state.into_inner();
        for (i, step) in state.pending.iter().enumerate() {
            if bits.rotate_left(i as u32 % 64) & 1 == 1 {
                // What depends on a step that was lost is lost, too.
                let _ = apply(&mut state.stored, step);
            }
        }
        state.stored
    }

    fn step(&self, step: Step) -> io::Result<()> {
        // The step during which the power goes may be done all the same.
        let alive = (self.clock)();
        let mut state = self.state.borrow_mut();
        if let Step::Write(name, offset, data) = &step {
            let others: usize = state.seen.iter().filter(|(other, _)| *other != name).map(|(_, file)| file.len()).sum();
            if others as u64 + offset + data.len() as u64 > self.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        apply(&mut state.seen, &step)?;
        state.pending.push(step);
        alive
    }
}

fn apply(files: &mut Files, step: &Step) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    match step {
        Step::Write(name, offset, data) => {
            let file = files.entry(name.clone()).or_default();
            let end = *offset as usize + data.len();
            file.resize(file.len().max(end), 0);
            file[*offset as usize..end].copy_from_slice(data);
        }
        Step::Truncate(name, size) => files.get_mut(name).ok_or_else(missing)?.truncate(*size as usize),
        Step::Rename(from, to) => {
            if files.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = files.remove(from).ok_or_else(missing)?;
            files.insert(to.clone(), file);
        }
        Step::Remove(name) => drop(files.remove(name).ok_or_else(missing)?),
    }
    Ok(())
}

impl Esp for Simulated<'_> {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let state = self.state.borrow();
        Ok(state.seen.iter().map(|(name, file)| FileEntry { name: name.clone(), size: file.len() as u64 }).collect())
    }

    fn free(&self) -> io::Result<u64> {
        let used: usize = self.state.borrow().seen.values().map(Vec::len).sum();
        Ok(self.capacity.saturating_sub(used as u64))
    }

    fn read_at(&self, name: &str, data: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.borrow();
        let file = state.seen.get(name).ok_or(io::ErrorKind::NotFound)?;
        let part = file.get(offset as usize..).and_then(|rest| rest.get(..data.len()));
        data.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, name: &str, data: &[u8], offset: u64) -> io::Result<()> {
        self.step(Step::Write(name.to_owned(), offset, data.to_owned()))
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        if self.state.borrow().seen.contains_key(name) { self.sync() } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn truncate(&self, name: &str, size: u64) -> io::Result<()> {
        self.step(Step::Truncate(name.to_owned(), size))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(Step::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step(Step::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        (self.clock)()?;
        let mut state = self.state.borrow_mut();
        state.stored = state.seen.clone();
        state.pending.clear();
        Ok(())
    }
}
