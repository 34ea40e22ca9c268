//! What an image calls itself: os-release(5), as the builder writes it.

use std::path::Path;

use anyhow::Context as _;

/// A value of the image below `root`.
///
/// # Errors
/// The file cannot be read, or has no such line.
pub fn value(root: &Path, key: &str) -> anyhow::Result<String> {
    let text = fs_err::read_to_string(root.join("usr/lib/os-release"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.map(|value| value.trim_matches('"').to_owned()).with_context(|| format!("os-release has no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_and_without_quotes() {
        let root = tempfile::tempdir().unwrap();
        assert!(value(root.path(), "IMAGE_ID").is_err());
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        let text = "ID=debian\nIMAGE_ID=\"larder-qemu\"\nIMAGE_VERSION=1.0\n";
        std::fs::write(root.path().join("usr/lib/os-release"), text).unwrap();
        assert_eq!(value(root.path(), "IMAGE_ID").unwrap(), "larder-qemu");
        assert_eq!(value(root.path(), "IMAGE_VERSION").unwrap(), "1.0");
        assert!(value(root.path(), "IMAGE").is_err());
    }
}
