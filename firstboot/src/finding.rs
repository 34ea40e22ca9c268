//! What the appliance has to tell its owner.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Works, yet something has to be done.
    Warning,
    /// Does not work.
    Failure,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Stable name, for machines and for searching: `zfs-not-loaded`.
    pub id: Cow<'static, str>,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong and what it means, in a sentence or two.
    pub message: String,
    /// What to do next.
    pub next: Cow<'static, str>,
}

impl fmt::Display for Finding {
    /// Two lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  next: {}", self.id, self.message, self.next)
    }
}
