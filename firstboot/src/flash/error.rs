//! What can go wrong while a disk is written, and what to do about it.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::Device;
use crate::disk::Size;
use crate::report::Mistake;

/// A disk was not written.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct FlashError {
    /// What went wrong.
    pub cause: Cause,
    /// What became of the start of the disk.
    pub head: Head,
}

/// The first MiB of a disk after a failure: whether anything could start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing was written at all.
    Untouched,
    /// It is zeros: nothing starts.
    Erased,
    /// It could not be erased.
    Unknown,
}

/// What was to be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Writing to it.
    Writing,
    /// Reading from it.
    Reading,
    /// Having it write what it has in its own memory.
    Flushing,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The image cannot be read, or is damaged.
    #[error("the image cannot be read at byte {offset}: {source}")]
    Source {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The device refuses.
    #[error("{doing} at byte {offset}: {}", if *gone { "it is not there any more".to_owned() } else { source.to_string() })]
    Device {
        /// What was to be done.
        doing: Doing,
        /// Where.
        offset: u64,
        /// Whether the device is not there any more. Then the kernel may say anything: that it is full, as it has no
        /// room at all now.
        gone: bool,
        /// Why.
        source: io::Error,
    },
    /// It has not kept what was written.
    #[error("what was read back at byte {0} is not what was written there")]
    Differs(u64),
    /// It has less room than it says.
    #[error("the disk says that it has {}, but what is written behind {} replaces what is before", Size(*claimed), Size(*real))]
    Wraps {
        /// Bytes that it says it has.
        claimed: u64,
        /// Where it starts again from the beginning.
        real: u64,
    },
    /// It has less room than it says.
    #[error("the disk says that it has {}, but does not keep what is written at byte {at}", Size(*claimed))]
    Drops {
        /// Bytes that it says it has.
        claimed: u64,
        /// What is lost.
        at: u64,
    },
    /// It is another one.
    #[error("the disk has {found} bytes instead of {expected}")]
    Changed {
        /// Bytes that it had.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
}

impl Cause {
    pub(super) fn device(device: &dyn Device, doing: Doing, offset: u64, source: io::Error) -> Self {
        Self::Device { doing, offset, gone: is_gone(&source) || device.is_gone(), source }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::Source { .. } => "compare the image with its .SHA256SUMS file, and download or build it again",
            Self::Device { gone: true, .. } => {
                "was it pulled out? plug it in and start again; try another port or cable"
            }
            Self::Device { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "what is behind this device is full: free some room there"
            }
            Self::Device { .. } | Self::Differs(_) => {
                "try another port or cable; if it fails again the disk is worn out or broken: take another one"
            }
            Self::Wraps { .. } | Self::Drops { .. } => "this disk is a forgery or broken: do not use it, for anything",
            Self::Changed { .. } => "start again",
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writing => "the disk cannot be written",
            Self::Reading => "the disk cannot be read",
            Self::Flushing => "the disk does not store what it was given",
        })
    }
}

impl From<FlashError> for Mistake {
    fn from(error: FlashError) -> Self {
        let left = match error.head {
            Head::Untouched => "nothing was written",
            Head::Erased => "its start is erased, so nothing half-written can start from it",
            Head::Unknown => "its start could not be erased: it must not be started from before it was written anew",
        };
        Self::new(format!("{}; {left}", error.cause)).hint(error.cause.next())
    }
}

/// What the kernel says of a device that was pulled out.
fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::ENODEV, Errno::ENXIO, Errno::ENOMEDIUM, Errno::ESHUTDOWN].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|code| gone.contains(&code))
}
