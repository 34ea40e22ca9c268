//! What the firmware hashes of an EFI program before it starts it: its Authenticode digest.
//!
//! Offsets are of the PE/COFF specification; what is hashed, in which order, is of EDK II's DxeTpm2MeasureBootLib.

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::pcr::Digest;

/// Where the DOS header says that the PE header is.
const PE_POINTER: usize = 0x3c;
/// From the PE header: `PE\0\0`, then the COFF header.
const SECTIONS: usize = 6;
const OPTIONAL_SIZE: usize = 20;
const OPTIONAL: usize = 24;
/// From the optional header of PE32+.
const PE32_PLUS: u16 = 0x20b;
const HEADERS_SIZE: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORIES: usize = 108;
const CERTIFICATES: usize = 144;
/// Index of the certificates among the directories.
const CERTIFICATES_INDEX: u32 = 4;
/// A section's header, and what is in it.
const SECTION: usize = 40;
const VIRTUAL_SIZE: usize = 8;
const RAW_SIZE: usize = 16;
const RAW_POINTER: usize = 20;

/// An EFI program.
#[derive(Debug, Clone, Copy)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    optional: usize,
    sections: usize,
    section_count: usize,
}

impl<'a> Pe<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// It is no PE32+.
    pub fn parse(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let pe = u32_at(bytes, PE_POINTER)? as usize;
        ensure!(
            bytes.starts_with(b"MZ") && bytes.get(pe..).is_some_and(|pe| pe.starts_with(b"PE\0\0")),
            "this is no EFI program"
        );
        let optional = pe + OPTIONAL;
        ensure!(u16_at(bytes, optional)? == PE32_PLUS, "this is no EFI program of 64 bits");
        let sections = optional + usize::from(u16_at(bytes, pe + OPTIONAL_SIZE)?);
        Ok(Self { bytes, optional, sections, section_count: u16_at(bytes, pe + SECTIONS)?.into() })
    }

    /// What the firmware adds to register 4.
    ///
    /// # Errors
    /// A header points outside of the file.
    pub fn authenticode(&self) -> anyhow::Result<Digest> {
        let (bytes, optional) = (self.bytes, self.optional);
        let headers = u32_at(bytes, optional + HEADERS_SIZE)? as usize;
        let has_certificates = u32_at(bytes, optional + DIRECTORIES)? > CERTIFICATES_INDEX;
        let (entry, certificates) = if has_certificates {
            (optional + CERTIFICATES, u32_at(bytes, optional + CERTIFICATES + 4)? as usize)
        } else {
            (headers, 0)
        };
        let checksum = optional + CHECKSUM;
        let mut hash = Sha256::new();
        hash.update(slice(bytes, 0, checksum)?);
        hash.update(slice(bytes, checksum + 4, entry)?);
        if has_certificates {
            hash.update(slice(bytes, entry + 8, headers)?);
        }
        let mut sections = (0..self.section_count).map(|i| self.raw(i)).collect::<anyhow::Result<Vec<_>>>()?;
        sections.retain(|(_, size)| *size > 0);
        sections.sort_by_key(|(start, _)| *start);
        for (start, size) in &sections {
            hash.update(slice(bytes, *start, start + size)?);
        }
        let hashed = headers + sections.iter().map(|(_, size)| size).sum::<usize>();
        let end = bytes.len().checked_sub(certificates).context("its certificates are longer than itself")?;
        if hashed < end {
            hash.update(slice(bytes, hashed, end)?);
        }
        Ok(hash.finalize().into())
    }

    /// The content of a section, such as `.linux` of a UKI.
    ///
    /// # Errors
    /// A header points outside of the file.
    pub fn section(&self, name: &str) -> anyhow::Result<Option<&'a [u8]>> {
        let Some((start, size)) = self.section_range(name)? else { return Ok(None) };
        slice(self.bytes, start as usize, (start + size) as usize).map(Some)
    }

    /// Where a section begins in the file, and its length; of the file only the headers have to be at hand.
    ///
    /// # Errors
    /// The headers are cut off.
    pub fn section_range(&self, name: &str) -> anyhow::Result<Option<(u64, u64)>> {
        for i in 0..self.section_count {
            let header = self.sections + i * SECTION;
            let found = slice(self.bytes, header, header + 8)?;
            if found.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.iter().all(|byte| *byte == 0)) {
                let (start, raw) = self.raw(i)?;
                let size = raw.min(u32_at(self.bytes, header + VIRTUAL_SIZE)? as usize);
                return Ok(Some((start as u64, size as u64)));
            }
        }
        Ok(None)
    }

    /// Where a section is in the file, and its length there.
    fn raw(&self, i: usize) -> anyhow::Result<(usize, usize)> {
        let header = self.sections + i * SECTION;
        Ok((u32_at(self.bytes, header + RAW_POINTER)? as usize, u32_at(self.bytes, header + RAW_SIZE)? as usize))
    }
}

fn slice(bytes: &[u8], start: usize, end: usize) -> anyhow::Result<&[u8]> {
    bytes.get(start..end).context("this EFI program is cut off or damaged")
}

fn u16_at(bytes: &[u8], at: usize) -> anyhow::Result<u16> {
    Ok(u16::from_le_bytes(slice(bytes, at, at + 2)?.try_into()?))
}

fn u32_at(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    Ok(u32::from_le_bytes(slice(bytes, at, at + 4)?.try_into()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const PE: usize = 0x80;
    const HEADERS: usize = 0x400;

    /// A program with these sections, as far as it is looked at.
    pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, b"MZ");
        put(PE_POINTER, &(PE as u32).to_le_bytes());
        put(PE, b"PE\0\0");
        put(PE + SECTIONS, &(sections.len() as u16).to_le_bytes());
        put(PE + OPTIONAL_SIZE, &240_u16.to_le_bytes());
        put(PE + OPTIONAL, &PE32_PLUS.to_le_bytes());
        put(PE + OPTIONAL + HEADERS_SIZE, &(HEADERS as u32).to_le_bytes());
        put(PE + OPTIONAL + DIRECTORIES, &16_u32.to_le_bytes());
        for (i, (name, content)) in sections.iter().enumerate() {
            let header = PE + OPTIONAL + 240 + i * SECTION;
            let start = bytes.len() as u32;
            let raw = content.len().next_multiple_of(512);
            let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
            put(header, name.as_bytes());
            put(header + VIRTUAL_SIZE, &(content.len() as u32).to_le_bytes());
            put(header + RAW_SIZE, &(raw as u32).to_le_bytes());
            put(header + RAW_POINTER, &start.to_le_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(start as usize + raw, 0);
        }
        bytes
    }

    fn authenticode(bytes: &[u8]) -> Digest {
        Pe::parse(bytes).unwrap().authenticode().unwrap()
    }

    #[test]
    fn everything_counts_but_the_checksum_and_a_signature() {
        let bytes = program(&[(".text", b"code"), (".linux", b"kernel")]);
        let digest = authenticode(&bytes);
        let optional = PE + OPTIONAL;
        let uncounted =
            (optional + CHECKSUM..optional + CHECKSUM + 4).chain(optional + CERTIFICATES..optional + CERTIFICATES + 4);
        for at in uncounted {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(authenticode(&changed), digest, "{at}");
        }
        let mut changed = bytes.clone();
        changed[HEADERS + 600] ^= 1;
        assert_ne!(authenticode(&changed), digest);
        let mut signed = bytes;
        signed[optional + CERTIFICATES + 4..optional + CERTIFICATES + 8].copy_from_slice(&8_u32.to_le_bytes());
        signed.extend_from_slice(b"SIGNEDBY");
        assert_eq!(authenticode(&signed), digest);
    }

    #[test]
    fn a_section_has_its_length_without_padding() {
        let bytes = program(&[(".text", b"code"), (".linux", b"kernel")]);
        let pe = Pe::parse(&bytes).unwrap();
        assert_eq!(pe.section(".linux").unwrap(), Some(&b"kernel"[..]));
        assert_eq!(pe.section(".lin").unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
            let mut bytes = program(&[(".text", b"code"), (".linux", b"kernel")]);
            let (at, cut) = (at.index(HEADERS), cut.index(bytes.len()));
            bytes[at] = value;
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Ok(pe) = Pe::parse(bytes) {
                    let _ = (pe.authenticode(), pe.section(".linux"));
                }
            }
        }
    }
}
