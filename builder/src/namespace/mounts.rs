//! Overlay mounts inside the process's own mount namespace.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags};

use crate::report::Mistake;

/// A mounted overlay; unmounted on drop.
#[derive(Debug)]
pub struct OverlayMount {
    target: PathBuf,
}

impl OverlayMount {
    /// Mounts `lowers` (topmost first) at `target`: read-only, or writable into `upper` = (upper, work).
    pub fn new(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> anyhow::Result<Self> {
        mount_overlay(lowers, upper, target)?;
        Ok(Self { target: target.to_owned() })
    }

    /// Where the merged tree is.
    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for OverlayMount {
    fn drop(&mut self) {
        // The namespace goes with the process, so a failure here leaves nothing behind.
        let _ = nix::mount::umount2(&self.target, MntFlags::MNT_DETACH);
    }
}

pub(super) fn mount_overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path) -> anyhow::Result<()> {
    let mut lower = lowers.iter().map(|path| option_path(path)).collect::<Result<Vec<_>, _>>()?;
    if upper.is_none() && lower.len() == 1 {
        // overlayfs refuses a single lower folder without an upper one; the target itself, empty, is a second.
        lower.push(option_path(target)?);
    }
    // userxattr: a user namespace may not write trusted.* (overlayfs.rst, "user xattr").
    let mut options = format!("userxattr,lowerdir={}", lower.join(":"));
    if let Some((upper, work)) = upper {
        // volatile: fsync(2) does nothing. Whatever an overlay of larder's is for is thrown away when it fails, and synced
        // as a whole when it is kept; dpkg alone would wait for the disk a thousand times.
        options.push_str(&format!(",volatile,upperdir={},workdir={}", option_path(upper)?, option_path(work)?));
    }
    nix::mount::mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mounting an overlay at {} ({options})", target.display()))
}

/// mount(2) splits options at commas, overlayfs splits folders at colons.
fn option_path(path: &Path) -> Result<String, Mistake> {
    let text = path.to_string_lossy();
    if text.contains([',', ':', '\\']) {
        return Err(Mistake::new(format!("{text}: a path of the cache may not contain `,`, `:` or `\\`"))
            .hint("set LARDER_CACHE_DIR to another folder"));
    }
    Ok(text.into_owned())
}
