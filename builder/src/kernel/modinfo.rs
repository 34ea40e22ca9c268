//! What a kernel module says about itself.
//!
//! A module is a relocatable ELF file; its section `.modinfo` is a list of `key=value` strings, each
//! ended by NUL (<https://docs.kernel.org/kbuild/modules.html>, `include/linux/module.h`). Built-in
//! modules have theirs in `modules.builtin.modinfo`, as `name.key=value`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use object::{Object as _, ObjectSection as _};

/// Suffixes of module files, by compression.
const SUFFIXES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// Why a module could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModInfoError {
    /// The file could not be read or decompressed.
    #[error("reading the module")]
    Io(#[from] io::Error),
    /// The content is not an ELF file.
    #[error("the module is not an ELF file")]
    Elf(#[from] object::Error),
    /// ELF, but no kernel module.
    #[error("the file has no .modinfo section: it is not a kernel module")]
    NoModInfo,
}

/// The parts of `.modinfo` that decide what must be kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// The module's name, with `_`.
    pub name: Option<String>,
    /// Modules whose symbols it uses, with `_`.
    pub depends: Vec<String>,
    /// Modules that are loaded before or after it when they exist: names or aliases (`crypto-crc32c`).
    pub softdeps: Vec<String>,
    /// Firmware that it may ask for, below the firmware folder; may hold globs (`ath10k/*`).
    pub firmware: Vec<String>,
    /// Patterns of device ids and service names that load it.
    pub aliases: Vec<String>,
    /// The kernel that it was built for and the options that must agree.
    pub vermagic: Option<String>,
}

impl ModInfo {
    /// Reads an uncompressed module.
    pub fn of_module(elf: &[u8]) -> Result<Self, ModInfoError> {
        let file = object::File::parse(elf)?;
        let section = file.section_by_name(".modinfo").ok_or(ModInfoError::NoModInfo)?;
        Ok(Self::of_section(section.data()?))
    }

    /// Reads a module file, compressed or not.
    pub fn of_file(path: &Path) -> Result<Self, ModInfoError> {
        Self::of_module(&read(path)?)
    }

    /// Reads the content of a `.modinfo` section.
    pub fn of_section(section: &[u8]) -> Self {
        let mut info = Self::default();
        for (key, value) in strings(section) {
            info.set(&key, &value);
        }
        info
    }

    /// Reads `modules.builtin.modinfo`: one entry per built-in module.
    pub fn of_builtin(content: &[u8]) -> BTreeMap<String, Self> {
        let mut builtin = BTreeMap::<String, Self>::new();
        for (key, value) in strings(content) {
            if let Some((name, key)) = key.split_once('.') {
                builtin.entry(canonical(name)).or_default().set(key, &value);
            }
        }
        builtin
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "name" => self.name = Some(canonical(value)),
            "depends" => self.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(canonical)),
            "softdep" => self.softdeps.extend(softdeps(value)),
            // `weakdep` names what the module may load by itself later (kmod 33, Linux 6.12).
            "weakdep" => self.softdeps.extend(value.split_whitespace().map(str::to_owned)),
            "firmware" => self.firmware.push(value.to_owned()),
            "alias" => self.aliases.push(value.to_owned()),
            "vermagic" => self.vermagic = Some(value.trim_end().to_owned()),
            _ => {}
        }
    }
}

/// `pre: a b post: c` → a, b, c. Words before any marker count too, as a few modules forget it.
fn softdeps(value: &str) -> impl Iterator<Item = String> {
    value.split_whitespace().filter(|word| !matches!(*word, "pre:" | "post:")).map(str::to_owned)
}

fn strings(section: &[u8]) -> impl Iterator<Item = (String, String)> {
    section.split(|byte| *byte == 0).filter_map(|string| {
        let string = String::from_utf8_lossy(string);
        let (key, value) = string.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    })
}

/// A module's name as the kernel has it: `-` and `_` are the same to modprobe.
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module in the file `igc.ko.xz`; nothing when the file is no module.
pub fn name_of_file(file: &str) -> Option<String> {
    let file = file.rsplit('/').next().unwrap_or(file);
    Some(canonical(file.strip_suffix(suffix(file)?)?))
}

/// The suffix of a module file (`.ko.xz`); nothing when the file is no module.
pub fn suffix(file: &str) -> Option<&'static str> {
    SUFFIXES.into_iter().find(|suffix| file.ends_with(suffix))
}

/// The module's bytes, decompressed as its suffix says.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs_err::read(path)?;
    let mut module = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => liblzma::read::XzDecoder::new_multi_decoder(&*file).read_to_end(&mut module),
        Some("zst") => zstd::Decoder::new(&*file)?.read_to_end(&mut module),
        Some("gz") => flate2::read::MultiGzDecoder::new(&*file).read_to_end(&mut module),
        _ => return Ok(file),
    }
    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(module)
}

#[cfg(test)]
#[path = "../../tests/support/module.rs"]
mod support;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) use super::support::module;

    #[test]
    fn a_module_says_what_it_needs() {
        let elf = module(&[
            "license=GPL",
            "name=btrfs",
            "depends=raid6_pq,xor,zstd-compress",
            "softdep=pre: sha256 crypto-crc32c post: zram",
            "firmware=ath10k/*",
            "alias=fs-btrfs",
            "vermagic=6.12.107+deb13-amd64 SMP preempt mod_unload modversions ",
        ]);
        let info = ModInfo::of_module(&elf).unwrap();
        assert_eq!(
            info,
            ModInfo {
                name: Some("btrfs".into()),
                depends: vec!["raid6_pq".into(), "xor".into(), "zstd_compress".into()],
                softdeps: vec!["sha256".into(), "crypto-crc32c".into(), "zram".into()],
                firmware: vec!["ath10k/*".into()],
                aliases: vec!["fs-btrfs".into()],
                vermagic: Some("6.12.107+deb13-amd64 SMP preempt mod_unload modversions".into()),
            }
        );
    }

    #[test]
    fn an_empty_depends_names_no_module() {
        assert_eq!(ModInfo::of_section(b"depends=\0").depends, Vec::<String>::new());
    }

    #[test]
    fn compressed_modules_are_read_as_plain_ones() {
        let folder = tempfile::tempdir().unwrap();
        let elf = module(&["name=igc", "depends=ptp"]);
        let path = folder.path().join("igc.ko.xz");
        let mut encoder = liblzma::read::XzEncoder::new(&*elf, 1);
        let mut compressed = Vec::new();
        encoder.read_to_end(&mut compressed).unwrap();
        fs_err::write(&path, &compressed).unwrap();
        assert_eq!(ModInfo::of_file(&path).unwrap().depends, ["ptp"]);

        fs_err::write(&path, &compressed[..compressed.len() - 9]).unwrap();
        let error = ModInfo::of_file(&path).unwrap_err();
        assert!(matches!(error, ModInfoError::Io(_)), "a truncated module is refused: {error:?}");
    }

    #[test]
    fn a_file_that_is_no_module_is_refused() {
        assert!(matches!(ModInfo::of_module(b"#!/bin/sh\n"), Err(ModInfoError::Elf(_))));
    }

    #[test]
    fn builtin_modules_are_told_apart_by_their_prefix() {
        let builtin = ModInfo::of_builtin(
            b"xxhash-x.alias=crypto-xxhash\0crc32c_generic.alias=crypto-crc32c\0xxhash-x.license=GPL\0",
        );
        assert_eq!(builtin["xxhash_x"].aliases, ["crypto-xxhash"]);
        assert_eq!(builtin["crc32c_generic"].aliases, ["crypto-crc32c"]);
    }

    #[test]
    fn file_names_give_module_names() {
        assert_eq!(name_of_file("kernel/drivers/net/phy/phy-core.ko.xz").as_deref(), Some("phy_core"));
        assert_eq!(name_of_file("igc.ko").as_deref(), Some("igc"));
        assert_eq!(name_of_file("modules.order"), None);
    }
}
