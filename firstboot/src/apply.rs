//! Settings come into force on a running system.
//!
//! Everything is looked at before anything is changed: settings that are wrong leave the system as it was.

use std::path::Path;

use anyhow::Context as _;

use crate::finding::Finding;
use crate::render::{Changes, Templates, Values};
use crate::settings::{FILE_NAME, Settings, without_secrets};
use crate::state::State;
use crate::status;

/// What findings about the settings are filed under.
pub const TOPIC: &str = "settings";

/// Settings that are right, and what they change.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The settings.
    pub settings: Settings,
    /// What they change.
    pub changes: Changes,
    /// Their text without secrets.
    kept: String,
}

impl Prepared {
    /// Looks at the settings in `text`, a file that people know as `name`, and at the system below `root`.
    ///
    /// # Errors
    /// The settings are wrong, which is a [`crate::report::Mistake`]; or a template is, or the system cannot be read.
    pub fn new(root: &Path, text: &str, name: &str) -> anyhow::Result<Self> {
        let settings = Settings::parse(text, name)?;
        let wanted = Templates::read(root)?.render(&Values::from(&settings))?;
        let changes = Changes::between(root, wanted)?;
        Ok(Self { settings, changes, kept: without_secrets(text)? })
    }

    /// Puts them into force, and keeps them for the next start. Gives what has not gone as it should, which
    /// `firstboot status` knows from then on.
    ///
    /// # Errors
    /// A file cannot be written; then none has changed. Or the settings cannot be kept.
    pub fn put_into_force(&self, root: &Path) -> anyhow::Result<Vec<Finding>> {
        self.changes.write(root)?;
        let findings = self.changes.tell_units();
        self.keep(&State::at(root)).context("keeping the settings for the next start")?;
        status::record(root, TOPIC, &findings)?;
        Ok(findings)
    }

    /// Puts the copy without secrets on the state partition.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, state: &State) -> anyhow::Result<()> {
        match state.read(FILE_NAME)? {
            Some(old) if old == self.kept.as_bytes() => Ok(()),
            _ => state.write(FILE_NAME, self.kept.as_bytes()),
        }
    }

    /// Their text without secrets.
    pub fn kept(&self) -> &str {
        &self.kept
    }
}
