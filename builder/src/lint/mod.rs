//! Lints: what the finished root of an image must not have.
//!
//! The root is walked once ([`Root`]); each [`Lint`] looks at it and says what it found. A finding fails the
//! build, unless the profile accepts it by name, with a reason ([`Skip`]). What a profile accepts and no lint
//! finds any more is reported too, so that the list stays true.

mod accounts;
mod broken_links;
mod build_traces;
mod devices;
mod elf;
mod firmware;
mod identity;
mod kernel_modules;
mod leftovers;
mod paths;
mod permissions;
mod report;
mod resolver;
mod root;
mod skip;
mod units;

#[cfg(test)]
mod testing;

use std::borrow::Cow;
use std::path::Path;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

pub use build_traces::Machine;
pub use report::{Accepted, Outcome, Report};
pub use root::{Layers, Root};
pub use skip::Skip;

/// Raise when a lint finds something else than before in the same root.
pub const REVISION: u32 = 3;

/// One thing that is looked for.
#[derive(Debug)]
pub struct Lint {
    /// What profiles call it.
    pub name: &'static str,
    /// What would happen without it: completes "protects from …".
    pub protects_from: &'static str,
    check: fn(&Root) -> anyhow::Result<Vec<Finding>>,
}

/// Something that should not be in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: absolute, as it is in the image.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    pub remedy: Cow<'static, str>,
}

/// All lints, in the order of their names.
pub static LINTS: &[Lint] = &[
    accounts::ACCOUNTS,
    broken_links::BROKEN_LINKS,
    build_traces::BUILD_PATHS,
    devices::DEVICES,
    units::DUPLICATE_UNITS,
    elf::ELF,
    paths::FILE_NAMES,
    firmware::FIRMWARE,
    paths::FOREIGN_PATHS,
    paths::HIDDEN_FILES,
    elf::INTERPRETERS,
    kernel_modules::KERNEL_MODULES,
    leftovers::LEFTOVERS,
    identity::MACHINE_IDENTITY,
    accounts::PASSWORDS,
    resolver::RESOLVER,
    permissions::SETUID,
    permissions::SPECIAL_FILES,
    build_traces::TIMESTAMPS,
    units::UNITS,
    permissions::UNOWNED_IDS,
    permissions::WORLD_WRITABLE,
];

/// Looks for everything at once.
///
/// # Errors
/// A lint cannot do its work: a file cannot be read, a tool does not run. What lints find is in the outcome.
pub fn run(root: &Root, skips: &[Skip]) -> anyhow::Result<Outcome> {
    let found: anyhow::Result<Vec<_>> =
        LINTS.par_iter().map(|lint| (lint.check)(root).map(|findings| (lint, findings))).collect();
    Ok(Outcome::judge(root.len(), found?, skips))
}

impl Finding {
    /// `path` is relative to the root, as everywhere but in what people read.
    fn new(
        path: &(impl AsRef<Path> + ?Sized),
        message: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { path: format!("/{}", path.as_ref().display()), message: message.into(), remedy: remedy.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_kebab_case_and_each_says_what_it_is_for() {
        assert!(LINTS.windows(2).all(|pair| pair[0].name < pair[1].name), "the lints are not in order");
        for Lint { name, protects_from, .. } in LINTS {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert!(!protects_from.is_empty() && !protects_from.ends_with('.'), "{name}: {protects_from}");
        }
    }
}
