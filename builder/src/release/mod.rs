//! From a build to what appliances update themselves with: signed releases, on any static web server.
//!
//! The formats are in [`firstboot::update`]; here is who makes them.

pub mod delta;
pub mod keys;
pub mod passphrase;
pub mod publish;
pub mod serve;
pub mod site;

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

/// Writes a file that everybody may read; what was there is there or the new one, whenever the power goes.
///
/// # Errors
/// `fill` fails, or it cannot be written.
fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(writing)?;
    fill(&mut file)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error).with_context(writing)?;
    Ok(fs_err::File::open(folder)?.sync_all()?)
}
