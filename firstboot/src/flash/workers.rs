//! Several pieces at once: while one is decompressed or hashed, others are on their way to the disk.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Piece;
use super::error::Cause;
use super::memory::Buffer;
use super::plan::PIECE;

/// Pieces under way. Enough to keep a disk busy while others are being prepared; each costs memory for a piece.
const WORKERS: usize = 4;

/// Calls `work` for each piece, in their order as far as several at once have one, with a buffer as long as the piece.
/// After an error no piece is begun; the first error is returned.
pub(super) fn each(
    pieces: &[Piece],
    work: impl Fn(usize, &Piece, &mut [u8]) -> Result<(), Cause> + Sync,
) -> Result<(), Cause> {
    let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let worker = || {
        let mut buffer = Buffer::new(PIECE as usize);
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(number) else { return };
            if let Err(cause) = work(number, piece, &mut buffer[..piece.length]) {
                stop.store(true, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
            }
        }
    };
    std::thread::scope(|threads| {
        (0..WORKERS.min(pieces.len())).for_each(|_| drop(threads.spawn(worker)));
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(cause) => Err(cause),
        None => Ok(()),
    }
}
