//! Where a path of a package goes: checked, and moved to `/usr` where trixie's layout wants it.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};

/// Top-level folders that are symlinks into `/usr` on a merged-/usr system. A package that still ships
/// files below them gets its files below `/usr`, where dpkg would write through the symlink.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A path as the archive has it (`./bin/sh`), as a clean path relative to the root; empty for the root.
pub fn clean(raw: &[u8]) -> anyhow::Result<PathBuf> {
    let text = std::str::from_utf8(raw).with_context(|| format!("`{}` is not UTF-8", String::from_utf8_lossy(raw)))?;
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            _ => bail!("`{}` leads outside of the package", text.escape_debug()),
        }
    }
    if text.contains('\0') || text.contains('\n') {
        bail!("`{}` contains a control character", text.escape_debug());
    }
    Ok(path)
}

/// `bin/sh` → `usr/bin/sh`. The entry `bin` itself moves when it is a folder: `base-files` ships the
/// symlinks under these very names.
pub fn merge_usr(path: PathBuf, is_folder: bool) -> PathBuf {
    let mut components = path.components();
    let merged = components.next().is_some_and(|top| MERGED.iter().any(|name| top.as_os_str() == *name));
    let inside = components.next().is_some();
    if merged && (inside || is_folder) { Path::new("usr").join(path) } else { path }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (raw, path) in
            [("./", ""), ("./usr/bin/", "usr/bin"), ("usr//bin/./sh", "usr/bin/sh"), ("./etc/...", "etc/...")]
        {
            assert_eq!(clean(raw.as_bytes()).unwrap(), Path::new(path), "{raw}");
        }
        for raw in ["/etc/passwd", "../x", "./usr/../../x", "usr/..", "./a\nb"] {
            assert!(clean(raw.as_bytes()).is_err(), "{raw}");
        }
        assert!(clean(b"./\xff").is_err());
    }

    #[test]
    fn files_in_the_old_top_level_folders_move_to_usr() {
        for (path, folder, moved) in [
            ("bin/sh", false, "usr/bin/sh"),
            ("lib", true, "usr/lib"),
            ("lib", false, "lib"),
            ("library/x", false, "library/x"),
            ("usr/bin/sh", false, "usr/bin/sh"),
            ("etc/bin/x", false, "etc/bin/x"),
        ] {
            assert_eq!(merge_usr(path.into(), folder), Path::new(moved), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_path_stays_inside(raw in "[./a-z]{0,20}") {
            if let Ok(path) = clean(raw.as_bytes()) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
