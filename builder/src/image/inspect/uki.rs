//! What is in a unified kernel image: a PE file whose sections are kernel, initrd and command line
//! (<https://uapi-group.org/specifications/specs/unified_kernel_image/>).

use anyhow::{Context as _, Result};
use firstboot::verity::RootHash;
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};
use serde::Serialize;

/// Text sections are a few hundred bytes; anything longer is not one.
const MAX_TEXT: usize = 64 << 10;

/// What a UKI says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uki {
    /// `PRETTY_NAME` of its os-release.
    pub name: Option<String>,
    /// `VERSION_ID` or, failing that, `IMAGE_VERSION` of its os-release.
    pub version: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Kernel command line.
    pub command_line: Option<String>,
    /// Sections in the order of the file.
    pub sections: Vec<Section>,
}

/// A section of a UKI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Name, with its dot.
    pub name: String,
    /// Bytes that it takes in memory, which is what it really contains.
    pub size: u64,
}

impl Uki {
    /// Parses a UKI.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let file = PeFile64::parse(content).context("reading the PE headers")?;
        let text = |name: &str| -> Option<String> {
            let section = file.section_by_name(name)?;
            let data = section.data().ok()?;
            // The data in the file is padded; the size in memory is not.
            let size = data.len().min(usize::try_from(section.size()).ok()?).min(MAX_TEXT);
            let text = String::from_utf8_lossy(&data[..size]);
            Some(text.trim_end_matches(['\0', '\n', ' ']).to_owned())
        };
        let os_release = text(".osrel").unwrap_or_default();
        let mut sections = Vec::new();
        for section in file.sections() {
            sections.push(Section {
                name: section.name().context("reading a section's name")?.to_owned(),
                size: section.size(),
            });
        }
        Ok(Self {
            name: field(&os_release, "PRETTY_NAME"),
            version: field(&os_release, "VERSION_ID").or_else(|| field(&os_release, "IMAGE_VERSION")),
            kernel: text(".uname"),
            command_line: text(".cmdline"),
            sections,
        })
    }

    /// The root hash on the command line; the last one counts, as in systemd.
    pub fn root_hash(&self) -> Option<RootHash> {
        let words = self.command_line.as_deref()?.split_ascii_whitespace();
        words.filter_map(|word| word.strip_prefix("roothash=")).next_back()?.parse().ok()
    }
}

/// Value of a field of os-release(5), without its quotes.
fn field(os_release: &str, name: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// A minimal PE file with the given sections, for tests.
#[cfg(test)]
pub(in crate::image) fn fake(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEADERS: usize = 0x400;
    const ALIGNMENT: usize = 512;
    let mut file = vec![0; HEADERS];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &(sections.len() as u16).to_le_bytes());
    put(0x54, &240u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 108, &16u32.to_le_bytes());
    let mut end = HEADERS;
    for (i, (name, content)) in sections.iter().enumerate() {
        let header = 0x148 + 40 * i;
        let padded = content.len().next_multiple_of(ALIGNMENT);
        put(header, name.as_bytes());
        for (at, value) in [(8, content.len()), (12, end), (16, padded), (20, end)] {
            put(header + at, &(value as u32).to_le_bytes());
        }
        end += padded;
    }
    for (_, content) in sections {
        file.extend_from_slice(content);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sections_and_root_hash_are_read() {
        let command_line = format!("console=ttyS0 roothash={} quiet\0", "ab".repeat(32));
        let content = fake(&[
            (".osrel", b"PRETTY_NAME=\"larder 1.0\"\nIMAGE_VERSION=1.0\n"),
            (".cmdline", command_line.as_bytes()),
            (".uname", b"6.12.107-amd64"),
            (".linux", &[1; 3000]),
        ]);
        let uki = Uki::parse(&content).unwrap();
        assert_eq!(uki.name.as_deref(), Some("larder 1.0"));
        assert_eq!(uki.version.as_deref(), Some("1.0"));
        assert_eq!(uki.kernel.as_deref(), Some("6.12.107-amd64"));
        assert_eq!(uki.root_hash(), Some(RootHash::from([0xab; 32])));
        assert_eq!(uki.sections[3], Section { name: ".linux".into(), size: 3000 });
    }

    #[test]
    fn a_command_line_without_a_proper_root_hash_has_none() {
        let parse = |line: &str| Uki::parse(&fake(&[(".cmdline", line.as_bytes())])).unwrap().root_hash();
        assert_eq!(parse("quiet"), None);
        assert_eq!(parse("roothash=abc"), None);
    }

    proptest! {
        #[test]
        fn damaged_files_do_not_make_the_parser_panic(at in 0usize..0x500, byte: u8, length in 0usize..0x800) {
            let mut content = fake(&[(".osrel", b"ID=x"), (".cmdline", b"quiet")]);
            content[at] = byte;
            let _ = Uki::parse(&content[..length.min(content.len())]);
        }
    }
}
