//! What makes this appliance itself, on the pool as well: so that a new boot medium gets it back.
//!
//! The state partition is one cheap stick; the pool is several disks that are looked after. Settings and identity lie on both.

use std::path::Path;

use anyhow::Context as _;

use super::SYSTEM_FOLDER;
use crate::identity;
use crate::settings::FILE_NAME;
use crate::state::State;

/// Files of the state partition that have a copy on the pool. None of them holds a secret.
fn files() -> impl Iterator<Item = &'static str> {
    identity::FILES.into_iter().chain([FILE_NAME])
}

/// Copies what has changed to the pool, whose data must be mounted.
///
/// # Errors
/// Something cannot be read or written.
pub fn put_on_pool(root: &Path) -> anyhow::Result<()> {
    let (state, copies) = (State::at(root), copies(root));
    for name in files() {
        let Some(content) = state.read(name)? else { continue };
        if copies.read(name)?.as_ref() != Some(&content) {
            copies.write(name, &content).context("keeping a copy on the pool")?;
        }
    }
    Ok(())
}

/// Takes settings and identity from the pool, whose data must be mounted, in place of those that a new boot medium has.
///
/// # Errors
/// Something cannot be read or written.
pub fn take_from_pool(root: &Path) -> anyhow::Result<()> {
    let (state, copies) = (State::at(root), copies(root));
    for name in files() {
        if let Some(content) = copies.read(name)? {
            state.write(name, &content)?;
        }
    }
    Ok(())
}

fn copies(root: &Path) -> State {
    State::in_folder(root.join(&SYSTEM_FOLDER[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_boot_medium_gets_settings_and_identity_back() {
        let root = tempfile::tempdir().unwrap();
        let state = State::at(root.path());
        state.write(FILE_NAME, b"schema = 1\n").unwrap();
        state.write("hostid", b"1234").unwrap();
        put_on_pool(root.path()).unwrap();
        state.write(FILE_NAME, b"schema = 1 # another\n").unwrap();
        state.remove("hostid").unwrap();
        take_from_pool(root.path()).unwrap();
        assert_eq!(state.read(FILE_NAME).unwrap().unwrap(), b"schema = 1\n");
        assert_eq!(state.read("hostid").unwrap().unwrap(), b"1234");
    }
}
