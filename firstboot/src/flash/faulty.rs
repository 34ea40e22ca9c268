//! A device in memory that does what devices do when they fail.

use std::io;
use std::sync::{Mutex, MutexGuard};

use super::Device;

/// What is on the device before anything is written to it.
pub(super) const OLD: u8 = 0xa5;

/// What goes wrong. Operations (reads, writes, flushes) are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// This operation fails; a write is half done.
    FailsAt(usize),
    /// From this operation on everything fails: the stick was pulled out, or the power cut. Of what was not flushed, each
    /// sector may have been stored or not, as the bits say.
    DiesAt(usize, u64),
    /// No room from this byte on, and it says so.
    FullAt(u64),
    /// No room from this byte on, and it says nothing.
    DropsFrom(u64),
    /// Address bits are ignored: this byte is the first one again.
    WrapsAt(u64),
    /// It stores something else in this sector.
    Garbles(u64),
}

#[derive(Debug)]
pub(super) struct Faulty {
    size: u64,
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stored: Vec<u8>,
    /// Not flushed: offset and content of sectors, in the order of writing.
    pending: Vec<(usize, Vec<u8>)>,
    operations: usize,
    is_dead: bool,
}

const SECTOR: usize = 512;

impl Faulty {
    pub(super) fn new(size: u64, fault: Fault) -> Self {
        let stored = vec![OLD; size as usize];
        Self { size, fault, state: Mutex::new(State { stored, pending: Vec::new(), operations: 0, is_dead: false }) }
    }

    /// What is on it after it lost its power.
    pub(super) fn into_stored(self) -> Vec<u8> {
        let mut state = self.state.into_inner().unwrap();
        if !state.is_dead {
            state.keep(|_| true);
        }
        state.stored
    }

    pub(super) fn operations(&self) -> usize {
        self.state.lock().unwrap().operations
    }

    /// Counts; whether this very operation is to fail, unless all do.
    fn begin(&self) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.state.lock().unwrap();
        let number = state.operations;
        state.operations += 1;
        if let Fault::DiesAt(at, bits) = self.fault
            && number >= at
        {
            if !state.is_dead {
                state.is_dead = true;
                state.keep(|i| bits.rotate_left(i as u32 % 64) & 1 == 1);
            }
            return Err(io::Error::from_raw_os_error(nix::errno::Errno::ENODEV as i32));
        }
        Ok((state, self.fault == Fault::FailsAt(number)))
    }

    /// Where an offset really is.
    fn place(&self, offset: usize) -> Option<usize> {
        match self.fault {
            Fault::DropsFrom(end) if offset as u64 >= end => None,
            Fault::WrapsAt(end) => Some(offset % end as usize),
            _ => Some(offset),
        }
    }
}

impl State {
    fn keep(&mut self, is_kept: impl Fn(usize) -> bool) {
        for (number, (offset, content)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if is_kept(number) {
                self.stored[offset..offset + content.len()].copy_from_slice(&content);
            }
        }
    }
}

impl Device for Faulty {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        SECTOR as u32
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        assert!(
            offset.is_multiple_of(SECTOR as u64)
                && data.len().is_multiple_of(SECTOR)
                && offset + data.len() as u64 <= self.size
        );
        assert_eq!(data.as_ptr().addr() % SECTOR, 0);
        let (mut state, fails) = self.begin()?;
        let is_full = |at: usize| matches!(self.fault, Fault::FullAt(end) if at as u64 >= end);
        for (i, sector) in data.chunks(SECTOR).enumerate() {
            let at = offset as usize + i * SECTOR;
            if is_full(at) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if fails && i * SECTOR >= data.len() / 2 {
                break;
            }
            let mut sector = sector.to_owned();
            if self.fault == Fault::Garbles(at as u64) {
                sector[77] ^= 4;
            }
            state.pending.extend(self.place(at).map(|place| (place, sector)));
        }
        if fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut state, fails) = self.begin()?;
        if fails {
            return Err(io::ErrorKind::Other.into());
        }
        // The device itself knows what it has not stored yet; what that does to a later loss of power does not change.
        let pending = std::mem::take(&mut state.pending);
        let mut view: std::collections::BTreeMap<usize, &[u8]> = std::collections::BTreeMap::new();
        view.extend(pending.iter().map(|(at, content)| (*at, content.as_slice())));
        for (i, sector) in data.chunks_mut(SECTOR).enumerate() {
            match self.place(offset as usize + i * SECTOR) {
                Some(place) => {
                    let length = sector.len();
                    sector.copy_from_slice(
                        view.get(&place).copied().unwrap_or(&state.stored[place..place + SECTOR])[..length].as_ref(),
                    );
                }
                None => sector.fill(0),
            }
        }
        state.pending = pending;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let (mut state, fails) = self.begin()?;
        if fails {
            return Err(io::ErrorKind::Other.into());
        }
        state.keep(|_| true);
        Ok(())
    }
}
