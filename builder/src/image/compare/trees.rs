//! The first difference of two extracted file systems, in the order of paths.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Path and difference.
pub(super) fn first_difference(one: &Path, two: &Path) -> Result<Option<(String, String)>> {
    let (left, right) = (list(one)?, list(two)?);
    let mut paths: Vec<&PathBuf> = left.keys().chain(right.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in &paths {
        let what = match (left.get(*path), right.get(*path)) {
            (Some(a), Some(b)) => node(&one.join(path), a, &two.join(path), b)?,
            _ => Some("only one of the images has it".to_owned()),
        };
        if let Some(what) = what {
            return Ok(Some((path.display().to_string(), what)));
        }
    }
    // Times last: whatever else differs explains more.
    let times = paths.iter().filter_map(|path| Some((path, left.get(*path)?.mtime(), right.get(*path)?.mtime())));
    let found = times.into_iter().find(|(_, a, b)| a != b);
    Ok(found.map(|(path, a, b)| (path.display().to_string(), format!("time {a} and {b}"))))
}

fn list(top: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut list = BTreeMap::new();
    for entry in walkdir::WalkDir::new(top) {
        let entry = entry?;
        list.insert(entry.path().strip_prefix(top)?.to_owned(), entry.metadata()?);
    }
    Ok(list)
}

fn node(path: &Path, metadata: &Metadata, other_path: &Path, other: &Metadata) -> Result<Option<String>> {
    let pairs = [
        ("mode", [metadata, other].map(|metadata| format!("{:o}", metadata.mode()))),
        ("owner", [metadata, other].map(|metadata| format!("{}:{}", metadata.uid(), metadata.gid()))),
        ("device", [metadata, other].map(|metadata| metadata.rdev().to_string())),
    ];
    for (what, [a, b]) in pairs {
        if a != b {
            return Ok(Some(format!("{what} {a} and {b}")));
        }
    }
    if metadata.is_symlink() {
        let (a, b) = (fs_err::read_link(path)?, fs_err::read_link(other_path)?);
        return Ok((a != b).then(|| format!("link to {} and {}", a.display(), b.display())));
    }
    if metadata.is_file() {
        let (a, b) = (fs_err::read(path)?, fs_err::read(other_path)?);
        return Ok((a != b).then(|| super::bytes(&a, &b)));
    }
    Ok(None)
}
