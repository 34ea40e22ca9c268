//! An image as `larder flash` reads it: from any place, without unpacking it first.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use firstboot::flash::{Content, Source};
use firstboot::verity::{self, Region, VerityError};

use super::frames::Frames;
use super::inspect;

/// An image of either kind.
#[derive(Debug)]
pub enum Image {
    /// `.img`
    Plain(File),
    /// `.img.zst`
    Compressed(Frames),
}

impl Image {
    /// Opens an `.img` or `.img.zst`. A compressed one that another program has made is unpacked into an unnamed file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let file = inspect::open_file(path)?;
        if !inspect::is_compressed(&file) {
            return Ok(Self::Plain(file));
        }
        let damaged = |error: io::Error| inspect::damaged(path).because(error);
        match Frames::open(file).map_err(damaged)? {
            Some(frames) => Ok(Self::Compressed(frames)),
            None => Ok(Self::Plain(inspect::open(path)?)),
        }
    }

    /// Whether the root is what its hash vouches for. Of a compressed image, each frame's checksum is looked at when it is
    /// decompressed; a plain one has nothing else to tell that it is whole.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, content: &Content<'_>, path: &Path) -> Result<()> {
        let Self::Plain(file) = self else { return Ok(()) };
        let region = |start| Region { file, start };
        match verity::verify(region(content.root.start), region(content.tree.start), &content.root_hash) {
            Ok(_) => Ok(()),
            Err(error @ VerityError::Io(..)) => Err(error).context("reading the image"),
            Err(error) => Err(inspect::damaged(path).because(error).into()),
        }
    }
}

impl Source for Image {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => Source::read_at(file, buffer, offset),
            Self::Compressed(frames) => frames.read_at(buffer, offset),
        }
    }
}
