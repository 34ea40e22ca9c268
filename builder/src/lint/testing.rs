//! Small roots for the tests of lints.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{Finding, Layers, Lint, Machine, Root};

/// A tree in a temporary folder; all of it counts as written by a build.
pub(super) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        fs_err::write(self.at(path), content).unwrap();
        self.mode(path, 0o644)
    }

    pub(super) fn program(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.file(path, content).mode(path, 0o755)
    }

    pub(super) fn folder(self, path: &str) -> Self {
        fs_err::create_dir_all(self.at(path)).unwrap();
        self
    }

    pub(super) fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.at(path)).unwrap();
        self
    }

    pub(super) fn mode(self, path: &str, mode: u32) -> Self {
        fs_err::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(super) fn root(&self) -> Root {
        self.root_on(Machine::default())
    }

    pub(super) fn root_on(&self, machine: Machine) -> Root {
        let folders = [self.folder.path().to_owned()];
        Root::walk(self.folder.path(), Layers { folders: &folders, written: &folders }, machine, None).unwrap()
    }

    /// What a lint finds: path and message.
    pub(super) fn findings(&self, lint: &Lint) -> Vec<String> {
        findings(lint, &self.root())
    }
}

/// What a lint finds: path and message, sorted.
pub(super) fn findings(lint: &Lint, root: &Root) -> Vec<String> {
    let mut found: Vec<_> = (lint.check)(root).unwrap().iter().map(Finding::to_string).collect();
    found.sort();
    found
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(!self.remedy.is_empty() && Path::new(&self.path).is_absolute(), "{self:?}");
        write!(f, "{}: {}", self.path, self.message)
    }
}
