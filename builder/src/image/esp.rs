//! The two FAT volumes of an image, written in process: the ESP and the seed partition.
//!
//! ```text
//! ESP   EFI/BOOT/BOOTX64.EFI                 systemd-boot, where firmware looks by itself
//!       EFI/systemd/systemd-bootx64.efi      the same, where bootctl(1) updates it
//!       EFI/Linux/larder_VERSION+3.efi       the UKI, with three tries left (Boot Loader Specification)
//!       loader/loader.conf
//! seed  README.txt, nas-example.toml        what belongs here
//! ```
//!
//! The same files give the same bytes: time stamps are fixed and the volume id is derived.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};
use firstboot::fat::{self, Format, Purpose};
use firstboot::layout::{MIB, TRIES, UKI_FOLDER};
use firstboot::seed;

use super::gpt::{self, Partition};
use super::version::Version;

/// UKIs that the ESP must have room for: both slots' and the one being downloaded.
const UKIS: u64 = 3;
/// Room for FATs, directories, loader.conf and what firmware and random-seed add.
const OVERHEAD: u64 = 4 * MIB;

/// What goes on the ESP.
#[derive(Debug, Clone, Copy)]
pub struct BootFiles<'a> {
    /// Names the UKI.
    pub version: &'a Version,
    /// The unified kernel image.
    pub uki: &'a Path,
    /// systemd-bootx64.efi.
    pub boot_loader: &'a Path,
    /// Content of loader.conf.
    pub loader_conf: &'a str,
}

/// The largest UKI of which three fit next to a boot loader of `boot_loader` bytes.
pub fn largest_uki(boot_loader: u64) -> u64 {
    gpt::ESP_SIZE.saturating_sub(OVERHEAD + 2 * boot_loader.next_multiple_of(4096)) / UKIS / 4096 * 4096
}

/// Formats and fills the ESP in `image`, which must read as zeros there.
pub fn write_esp(image: &File, partition: &Partition, files: &BootFiles<'_>) -> Result<()> {
    let uki = format!("{UKI_FOLDER}{}", files.version.uki_name(TRIES));
    fat::write(image, partition.range(), &format(partition, Purpose::System), |volume| {
        let copy = |path: &str, source: &Path| volume.add(path, &mut fs_err::File::open(source)?);
        copy("EFI/BOOT/BOOTX64.EFI", files.boot_loader)?;
        copy("EFI/systemd/systemd-bootx64.efi", files.boot_loader)?;
        volume.add("loader/loader.conf", &mut files.loader_conf.as_bytes())?;
        copy(&uki, files.uki)
    })
    .context("writing the ESP")
}

/// Formats the seed partition in `image` and explains in it what it is for.
pub fn write_seed(image: &File, partition: &Partition) -> Result<()> {
    fat::write(image, partition.range(), &format(partition, Purpose::Data), |volume| {
        seed::FILES.iter().try_for_each(|(path, content)| volume.add(path, &mut content.as_bytes()))
    })
    .context("writing the seed partition")
}

/// The volume is labelled as its partition; its id follows from the partition's.
fn format(partition: &Partition, purpose: Purpose) -> Format<'_> {
    let [a, b, c, d, ..] = *partition.id.as_bytes();
    let before = (partition.start / gpt::SECTOR) as u32;
    let label = if purpose == Purpose::System { "ESP" } else { &partition.label };
    Format { purpose, label, id: u32::from_be_bytes([a, b, c, d]), sector: gpt::SECTOR as u32, before }
}
