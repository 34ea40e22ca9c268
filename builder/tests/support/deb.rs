//! Makes packages, proper and hostile ones. Names are written raw: tar's own setters refuse `..`.

use std::io::Write as _;

use tar::EntryType;

/// An `ar` archive.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100644, content.len()).unwrap();
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// One entry of a tar archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub kind: EntryType,
    pub mode: u32,
    pub owner: u64,
    pub content: Vec<u8>,
    pub target: String,
}

pub fn file(name: &str, content: &str) -> Entry {
    Entry { content: content.into(), mode: 0o644, ..node(name, EntryType::Regular) }
}

pub fn folder(name: &str) -> Entry {
    node(name, EntryType::Directory)
}

pub fn symlink(name: &str, target: &str) -> Entry {
    Entry { target: target.into(), mode: 0o777, ..node(name, EntryType::Symlink) }
}

pub fn hard_link(name: &str, target: &str) -> Entry {
    Entry { target: target.into(), ..node(name, EntryType::Link) }
}

pub fn node(name: &str, kind: EntryType) -> Entry {
    Entry { name: name.into(), kind, mode: 0o755, owner: 0, content: Vec::new(), target: String::new() }
}

pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.as_old_mut().linkname[..entry.target.len()].copy_from_slice(entry.target.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner);
        header.set_gid(entry.owner);
        header.set_mtime(1_700_000_000);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub fn compress(suffix: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match suffix {
        ".xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut out, 6);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        ".zst" => out = zstd::encode_all(data, 3).unwrap(),
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap();
        }
        _ => out = data.to_owned(),
    }
    out
}

/// A package with these files, compressed by xz.
pub fn deb(entries: &[Entry]) -> Vec<u8> {
    deb_with(".xz", &compress(".xz", &tar(entries)))
}

pub fn deb_with(suffix: &str, data: &[u8]) -> Vec<u8> {
    deb_of("Package: test\n", suffix, data)
}

/// A package with this control file and data archive.
pub fn deb_of(control: &str, suffix: &str, data: &[u8]) -> Vec<u8> {
    let control = compress(suffix, &tar(&[folder("./"), file("./control", control)]));
    ar(&[
        ("debian-binary", b"2.0\n"),
        (&format!("control.tar{suffix}"), &control),
        (&format!("data.tar{suffix}"), data),
    ])
}
