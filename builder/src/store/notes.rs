//! Notes: small files about something outside of the store, such as what a build left in an output
//! folder. Unlike an entry a note is replaced when there is something newer to say. It is not synced, so a
//! power cut may leave the one before, or an empty one; a reader must take what it cannot make sense of for
//! no note at all, and find out anew.

use std::io::Write as _;

use anyhow::Context as _;
use fs_err as fs;

use super::{Store, files};
use crate::hash::Hash;

/// What a note is about; the folder's name carries the version of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// The recipes of the last build of a profile.
    LastBuild,
    /// The files of a build in an output folder.
    Published,
    /// The newest release of a suite that was verified.
    Release,
}

impl Note {
    fn folder(self) -> &'static str {
        match self {
            Self::LastBuild => "last-build-v1",
            Self::Published => "published-v1",
            Self::Release => "releases-v1",
        }
    }
}

impl Store {
    /// What was noted about a subject; counts as a use for [`super::Exclusive::prune`].
    pub fn note(&self, kind: Note, subject: &Hash) -> Option<Vec<u8>> {
        let path = self.folder().join(kind.folder()).join(subject.to_string());
        let content = fs::read(&path).ok()?;
        files::stamp(&path, &fs::symlink_metadata(&path).ok()?);
        Some(content)
    }

    /// Replaces what was noted about a subject. Whoever reads meanwhile sees the old or the new one.
    pub fn set_note(&self, kind: Note, subject: &Hash, content: &[u8]) -> anyhow::Result<()> {
        let mut file = self.temporary_file()?;
        file.write_all(content)?;
        let folder = self.folder().join(kind.folder());
        fs::create_dir_all(&folder)?;
        file.persist(folder.join(subject.to_string())).map_err(|error| error.error).context("keeping a note")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_replaced_and_pruned_like_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = || Some(folder.path().to_owned());
        let subject = Hash::of("out");
        let store = Store::open(root()).unwrap();
        assert_eq!(store.note(Note::Published, &subject), None);
        for content in ["one", "two"] {
            store.set_note(Note::Published, &subject, content.as_bytes()).unwrap();
            assert_eq!(store.note(Note::Published, &subject).unwrap(), content.as_bytes());
        }
        assert_eq!(store.note(Note::LastBuild, &subject), None);
        drop(store);
        let freed = Store::exclusive(root()).unwrap().prune(std::time::Duration::ZERO).unwrap();
        assert_eq!(freed.count, 1);
        assert_eq!(Store::open(root()).unwrap().note(Note::Published, &subject), None);
    }
}
