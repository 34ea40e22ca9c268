//! The UKIs on the EFI system partition: which systems can be started, and how often each may still be tried.
//!
//! Their names are all the state there is about what is started next. A boot loader that starts a system takes one of its
//! tries ([`name`]); the system gives itself all of them back once it knows that it is good, every time: so one that was good
//! and fails later gives way to the other one, too. A rename changes one entry of one folder and is all or nothing, while
//! EFI variables can be lost and FAT files that are edited in place can be torn.

mod counting;
mod folder;
mod name;
#[cfg(test)]
pub(crate) mod simulated;

use std::io;

use anyhow::Context as _;

pub use counting::{Rename, Systems};
pub use folder::Folder;
pub use name::{Tries, UkiName};

use crate::command_line;
use crate::tpm::pe::Pe;
use crate::verity::RootHash;

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// The folder of UKIs. What is done outlasts a power cut only after [`Esp::sync`]; until then each step may have happened or
/// not, in any order.
pub trait Esp {
    /// The files in it; none where no ESP is mounted.
    ///
    /// # Errors
    /// It cannot be read.
    fn list(&self) -> io::Result<Vec<FileEntry>>;
    /// Bytes that are free.
    ///
    /// # Errors
    /// It does not say.
    fn free(&self) -> io::Result<u64>;
    /// Fills `data` from a file.
    ///
    /// # Errors
    /// It is too short, or cannot be read.
    fn read_at(&self, name: &str, data: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes to a file, which is made if it is not there.
    ///
    /// # Errors
    /// Not all of it was written.
    fn write_at(&self, name: &str, data: &[u8], offset: u64) -> io::Result<()>;
    /// Has a file stored, and then read anew from where it was stored.
    ///
    /// # Errors
    /// It is not stored.
    fn forget(&self, name: &str) -> io::Result<()>;
    /// Cuts a file to its first `size` bytes.
    ///
    /// # Errors
    /// It is not there.
    fn truncate(&self, name: &str, size: u64) -> io::Result<()>;
    /// Gives a file another name, which none has.
    ///
    /// # Errors
    /// One has it, or the file is not there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// It is not there.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when everything outlasts a power cut.
    ///
    /// # Errors
    /// It may not.
    fn sync(&self) -> io::Result<()>;
}

/// Largest header of a UKI: all its sections are listed in the first page, and the stub is larger than this.
const HEADER: u64 = 4096;
/// Longest command line that is read (the kernel's COMMAND_LINE_SIZE on x86).
const COMMAND_LINE: u64 = 2048;

/// The systems that can be started, and which of them runs.
///
/// # Errors
/// The ESP cannot be read.
pub fn systems(esp: &dyn Esp, running: &RootHash) -> anyhow::Result<Systems> {
    let mut systems = Systems::default();
    for FileEntry { name: file, size } in esp.list().context("reading the ESP")? {
        let Some(name) = UkiName::parse(&file) else { continue };
        // What is damaged starts nothing, and is not what runs.
        let is_running = root_hash(esp, &file, size).is_ok_and(|hash| hash == Some(*running));
        match &mut systems.running {
            running @ None if is_running => *running = Some(name),
            _ => systems.others.push(name),
        }
    }
    systems.others.sort_by(|one, other| one.version.order(&other.version));
    Ok(systems)
}

/// The root hash in the command line of the UKI `file`, which has `size` bytes.
///
/// # Errors
/// It cannot be read, or is no UKI.
pub fn root_hash(esp: &dyn Esp, file: &str, size: u64) -> anyhow::Result<Option<RootHash>> {
    let mut header = vec![0; HEADER.min(size) as usize];
    esp.read_at(file, &mut header, 0)?;
    let Some((start, length)) = Pe::parse(&header)?.section_range(".cmdline")? else { return Ok(None) };
    let mut line = vec![0; length.min(COMMAND_LINE) as usize];
    esp.read_at(file, &mut line, start)?;
    Ok(command_line::parse(String::from_utf8_lossy(&line).trim_end_matches('\0')).ok())
}

/// Gives a file its new name, for good.
///
/// # Errors
/// The ESP cannot be written.
pub fn rename(esp: &dyn Esp, Rename { from, to }: &Rename) -> anyhow::Result<()> {
    // So that nothing else is on its way to the disk while the folder changes.
    esp.sync()
        .and_then(|()| esp.rename(from, to))
        .and_then(|()| esp.sync())
        .with_context(|| format!("renaming {from} to {to}"))
}

#[cfg(test)]
mod tests {
    use super::simulated::{Simulated, uki};
    use super::*;

    fn hash(byte: u8) -> RootHash {
        RootHash::from([byte; 32])
    }

    fn esp() -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut damaged = uki(&hash(2), b"");
        damaged.truncate(700);
        [
            ("larder_1+3.efi", uki(&hash(1), b"one")),
            ("larder_2+2-1.efi", uki(&hash(2), b"two")),
            ("larder_0+3.efi", damaged),
            ("other.efi", uki(&hash(2), b"other")),
            ("LARDER.NEW", Vec::new()),
        ]
        .map(|(name, content)| (name.to_owned(), content))
        .into()
    }

    #[test]
    fn the_running_system_is_the_one_whose_command_line_has_its_root_hash() {
        let esp = Simulated::new(esp(), &|| Ok(()));
        let systems = systems(&esp, &hash(2)).unwrap();
        assert_eq!(systems.running.unwrap().to_string(), "larder_2+2-1.efi");
        assert_eq!(systems.others.iter().map(|name| name.version.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    }

    #[test]
    fn a_system_that_was_started_from_elsewhere_is_not_there() {
        let esp = Simulated::new(esp(), &|| Ok(()));
        assert_eq!(systems(&esp, &hash(9)).unwrap().running, None);
    }

    #[test]
    fn wherever_the_power_goes_while_a_start_is_counted_as_good_its_system_is_there() {
        for cut in 0..5 {
            for bits in [0, !0] {
                let count = std::cell::Cell::new(0);
                let clock = || {
                    count.set(count.get() + 1);
                    if count.get() > cut { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
                };
                let before = Simulated::new(esp(), &clock);
                let _ = rename(&before, &systems(&before, &hash(2)).unwrap().mark_good().unwrap());
                let after = Simulated::new(before.after_power_cut(bits), &|| Ok(()));
                let running = systems(&after, &hash(2)).unwrap().running.unwrap();
                assert!(["larder_2+2-1.efi", "larder_2+3.efi"].contains(&&*running.to_string()), "{running}");
                assert_eq!(after.content(&running.to_string()).unwrap(), uki(&hash(2), b"two"));
            }
        }
    }
}
