//! Profiles for the tests of other modules.

use super::Profile;
use crate::project::Project;

/// The profile `nas` with this text behind its first lines, and nothing inherited.
pub(crate) fn profile(text: &str) -> Profile {
    let folder = tempfile::tempdir().unwrap();
    for name in ["overlays", "profiles"] {
        fs_err::create_dir(folder.path().join(name)).unwrap();
    }
    fs_err::write(folder.path().join("profiles/base.toml"), "schema = 1\n").unwrap();
    let text = format!("schema = 1\ninherits = \"base\"\n{text}");
    fs_err::write(folder.path().join("profiles/nas.toml"), text).unwrap();
    Profile::load(&Project::find(Some(folder.path()), folder.path()).unwrap(), "nas").unwrap()
}
