//! The list of an image's files, in the format of mtree(5): type, mode, owner, size, digest and link target of each.
//!
//! ```text
//! #mtree
//! /set type=file uid=0 gid=0 mode=0644
//! ./etc type=dir mode=0755
//! ./etc/hostname size=7 sha256digest=…
//! ./lib type=link mode=0777 link=usr/lib
//! ```
//!
//! One path a line, sorted, so that two lists can be compared by eye; mtree(8) and bsdtar(1) read it. Times are left
//! out: all of an image are the same. So are extended attributes, for which the format has no word.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rayon::prelude::*;
use serde::Serialize;

use crate::hash::Hash;

const SIGNATURE: &str = "#mtree";
/// What most files have; `/set` says it once.
const COMMON: Entry = Entry { kind: Kind::File, mode: 0o644, uid: 0, gid: 0, size: None, sha256: None, target: None };

/// The files of an image, by their paths without a leading slash; the root itself is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileList(pub BTreeMap<PathBuf, Entry>);

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Bytes of a regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest of a regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Hash>,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
}

/// Kinds of file, by mtree's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Regular file.
    File,
    /// Folder.
    Dir,
    /// Symbolic link.
    Link,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

impl Kind {
    const NAMES: [(&'static str, Self); 7] = [
        ("file", Self::File),
        ("dir", Self::Dir),
        ("link", Self::Link),
        ("fifo", Self::Fifo),
        ("socket", Self::Socket),
        ("char", Self::Char),
        ("block", Self::Block),
    ];

    fn of(kind: std::fs::FileType) -> Self {
        match kind {
            dir if dir.is_dir() => Self::Dir,
            link if link.is_symlink() => Self::Link,
            fifo if fifo.is_fifo() => Self::Fifo,
            socket if socket.is_socket() => Self::Socket,
            char if char.is_char_device() => Self::Char,
            block if block.is_block_device() => Self::Block,
            _ => Self::File,
        }
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("file", |(name, _)| name)
    }
}

impl FileList {
    /// Lists a folder as the root of an image; reads every file.
    pub fn of_tree(root: &Path) -> anyhow::Result<Self> {
        let found = walkdir::WalkDir::new(root).into_iter().collect::<Result<Vec<_>, _>>()?;
        let entry = |found: walkdir::DirEntry| {
            let path = found.path().strip_prefix(root)?.to_owned();
            Ok((path, Entry::of(&found)?))
        };
        Ok(Self(found.into_par_iter().map(entry).collect::<anyhow::Result<_>>()?))
    }

    /// The list's text.
    pub fn render(&self) -> String {
        let mut text = format!("{SIGNATURE}\n/set type=file uid=0 gid=0 mode=0644\n");
        for (path, entry) in &self.0 {
            entry.render(path, &mut text);
        }
        text
    }

    /// Reads a list that [`FileList::render`] wrote.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().enumerate();
        anyhow::ensure!(lines.next().is_some_and(|(_, line)| line == SIGNATURE), "it does not start with {SIGNATURE}");
        let mut entries = BTreeMap::new();
        for (number, line) in lines.filter(|(_, line)| line.starts_with('.')) {
            let (path, entry) = Entry::parse(line).with_context(|| format!("line {}", number + 1))?;
            entries.insert(path, entry);
        }
        Ok(Self(entries))
    }
}

impl Entry {
    fn of(found: &walkdir::DirEntry) -> anyhow::Result<Self> {
        let metadata = found.metadata()?;
        let kind = Kind::of(metadata.file_type());
        let is_file = kind == Kind::File;
        Ok(Self {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: is_file.then_some(metadata.len()),
            sha256: is_file.then(|| Hash::of_file(found.path())).transpose()?,
            target: (kind == Kind::Link).then(|| fs_err::read_link(found.path())).transpose()?,
        })
    }

    fn render(&self, path: &Path, text: &mut String) {
        text.push('.');
        if !path.as_os_str().is_empty() {
            text.push('/');
            encode(path, text);
        }
        let Self { kind, mode, uid, gid, size, sha256, target } = self;
        let mut word = |name: &str, value: String| {
            let _ = write!(text, " {name}={value}");
        };
        if *kind != COMMON.kind {
            word("type", kind.name().to_owned());
        }
        for (name, value, common) in [("uid", uid, COMMON.uid), ("gid", gid, COMMON.gid)] {
            if *value != common {
                word(name, value.to_string());
            }
        }
        if *mode != COMMON.mode {
            word("mode", format!("0{mode:o}"));
        }
        if let Some(size) = size {
            word("size", size.to_string());
        }
        if let Some(sha256) = sha256 {
            word("sha256digest", sha256.to_string());
        }
        if let Some(target) = target {
            text.push_str(" link=");
            encode(target, text);
        }
        text.push('\n');
    }

    fn parse(line: &str) -> anyhow::Result<(PathBuf, Self)> {
        let mut words = line.split(' ');
        let path = words.next().unwrap_or_default();
        let mut entry = COMMON;
        for word in words {
            let (name, value) = word.split_once('=').with_context(|| format!("`{word}` has no value"))?;
            match name {
                "type" => {
                    let found = Kind::NAMES.iter().find(|(name, _)| *name == value);
                    entry.kind = found.with_context(|| format!("`{value}` is no type"))?.1;
                }
                "mode" => entry.mode = u32::from_str_radix(value, 8)?,
                "uid" => entry.uid = value.parse()?,
                "gid" => entry.gid = value.parse()?,
                "size" => entry.size = Some(value.parse()?),
                "sha256digest" => entry.sha256 = Some(value.parse()?),
                "link" => entry.target = Some(decode(value)?),
                _ => anyhow::bail!("`{name}` is not known"),
            }
        }
        let path = path.trim_start_matches('.').strip_prefix('/').unwrap_or_default();
        Ok((decode(path)?, entry))
    }
}

/// vis(3)'s octal form for everything that is not plain.
fn encode(path: &Path, text: &mut String) {
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'+' | b':' | b'@' | b',' | b'%' | b'~' | b'$' => text.push(char::from(byte)),
            letter if letter.is_ascii_alphanumeric() => text.push(char::from(letter)),
            other => {
                let _ = write!(text, "\\{other:03o}");
            }
        }
    }
}

fn decode(text: &str) -> anyhow::Result<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let number = escaped.get(..3).with_context(|| format!("`{text}` ends within an escape"))?;
        bytes.push(u8::from_str_radix(number, 8).with_context(|| format!("`\\{number}` is no byte"))?);
        rest = &escaped[3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tree_is_listed_with_what_makes_a_file_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs_err::create_dir(path("etc")).unwrap();
        fs_err::write(path("etc/host name"), "larder\n").unwrap();
        symlink("usr/lib", path("lib")).unwrap();
        for (name, mode) in [("", 0o755), ("etc", 0o2775), ("etc/host name", 0o600)] {
            fs_err::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let mut list = FileList::of_tree(root.path()).unwrap();
        // Whoever runs the test owns them.
        list.0.values_mut().for_each(|entry| (entry.uid, entry.gid) = (0, 0));
        insta::assert_snapshot!(list.render(), @r"
        #mtree
        /set type=file uid=0 gid=0 mode=0644
        . type=dir mode=0755
        ./etc type=dir mode=02775
        ./etc/host\040name mode=0600 size=7 sha256digest=1c0792ea4ba709b7e75e1256030bb914ce9c716cf08736567f4f0af74cc5863a
        ./lib type=link mode=0777 link=usr/lib
        ");
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let error = |text: &str| format!("{:#}", FileList::parse(text).unwrap_err());
        assert_eq!(error("./etc\n"), "it does not start with #mtree");
        assert_eq!(error("#mtree\n./etc colour=red\n"), "line 2: `colour` is not known");
        assert_eq!(error("#mtree\n. type=dir\n./a\\0\n"), "line 3: `a\\0` ends within an escape");
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let numbers = (0..=0o7777_u32, any::<u32>(), any::<u32>());
        let kind = proptest::sample::select(Kind::NAMES.to_vec());
        (
            kind,
            numbers,
            proptest::option::of(any::<u64>()),
            proptest::option::of(any::<[u8; 32]>()),
            proptest::option::of(name()),
        )
            .prop_map(|((_, kind), (mode, uid, gid), size, sha256, target)| Entry {
                kind,
                mode,
                uid,
                gid,
                size,
                sha256: sha256.map(Hash::from),
                target,
            })
    }

    fn name() -> impl Strategy<Value = PathBuf> {
        proptest::collection::vec(1..=255_u8, 1..20)
            .prop_map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in proptest::collection::btree_map(name(), entry(), 0..8)) {
            let list = FileList(entries);
            prop_assert_eq!(FileList::parse(&list.render()).unwrap(), list);
        }

        #[test]
        fn any_text_is_read_or_refused_and_never_panics(text in "(#mtree\n)?(\\./[a-z\\\\0-9]{0,6}( [a-z0-9]{1,12}=[a-z0-9\\\\é]{0,6}){0,3}\n){0,4}") {
            let _ = FileList::parse(&text);
        }
    }
}
