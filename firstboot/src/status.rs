//! What the appliance knows about itself: whoever looks for something writes down what was found, and `firstboot status`
//! reads it all.
//!
//! `/run/larder/findings/TOPIC.json` is a list of [`Finding`]s as of this boot; a topic that found nothing has an empty
//! list, one that has not looked yet has no file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::finding::Finding;

/// Folder of the lists, relative to the root.
const FOLDER: &str = "run/larder/findings";

/// Writes down what was found about `topic`, in place of what was found before.
pub fn record(root: &Path, topic: &str, findings: &[Finding]) -> anyhow::Result<()> {
    let path = path(root, topic);
    fs_err::create_dir_all(root.join(FOLDER))?;
    // Whoever reads meanwhile gets the old list or the new one.
    let new = path.with_extension("new");
    fs_err::write(&new, serde_json::to_vec_pretty(findings)?)?;
    Ok(fs_err::rename(new, path)?)
}

/// What was found about `topic`; nothing when nobody has looked since the start.
///
/// # Errors
/// The list cannot be read.
pub fn recorded(root: &Path, topic: &str) -> anyhow::Result<Option<Vec<Finding>>> {
    let path = path(root, topic);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// What was found about all topics, in their order.
///
/// # Errors
/// A list cannot be read.
pub fn all(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let Ok(folder) = std::fs::read_dir(root.join(FOLDER)) else { return Ok(Vec::new()) };
    let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut topics: Vec<_> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    topics.sort();
    let lists = topics.iter().map(|topic| recorded(root, topic)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(lists.into_iter().flatten().flatten().collect())
}

fn path(root: &Path, topic: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{topic}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn what_was_written_down_is_read_back_and_replaced() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(recorded(root.path(), "hardware").unwrap(), None);
        let finding = Finding {
            id: "less-memory".into(),
            severity: Severity::Warning,
            message: "there is less".into(),
            next: "add some".into(),
        };
        record(root.path(), "hardware", std::slice::from_ref(&finding)).unwrap();
        assert_eq!(recorded(root.path(), "hardware").unwrap(), Some(vec![finding]));
        assert_eq!(all(root.path()).unwrap().len(), 1);
        record(root.path(), "hardware", &[]).unwrap();
        assert_eq!(recorded(root.path(), "hardware").unwrap(), Some(Vec::new()));
        assert_eq!(all(root.path()).unwrap(), []);
    }

    #[test]
    fn a_damaged_list_is_an_error_and_no_good_news() {
        let root = tempfile::tempdir().unwrap();
        record(root.path(), "hardware", &[]).unwrap();
        std::fs::write(path(root.path(), "hardware"), "[{").unwrap();
        assert!(recorded(root.path(), "hardware").is_err());
    }
}
