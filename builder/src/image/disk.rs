//! Puts the parts of an image together: `larder-PROFILE-VERSION.img`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use firstboot::verity::RootHash;
use fs_err::File;

use super::esp::{self, BootFiles};
use super::gpt::{self, Layout, MIB};
use super::sparse;
use super::version::Version;
use crate::report::Mistake;

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Version of the image.
    pub version: &'a Version,
    /// The root file system.
    pub root_erofs: &'a Path,
    /// Its hash tree.
    pub root_verity: &'a Path,
    /// Root hash of the tree, which must be on the UKI's command line.
    pub root_hash: RootHash,
    /// The unified kernel image.
    pub uki: &'a Path,
    /// systemd-bootx64.efi.
    pub boot_loader: &'a Path,
    /// Content of loader.conf.
    pub loader_conf: &'a str,
}

/// Raise when the same parts give another image: partition table, file systems, what is on them.
pub const REVISION: u32 = 2;

/// Writes the image to `out`, which appears only when it is complete; syncing it is the caller's, who may
/// have something to do meanwhile.
pub fn assemble(parts: &Parts<'_>, out: &Path) -> Result<()> {
    refuse_oversized(parts)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file is private otherwise; an image is as public as the umask says.
    let mut image = tempfile::Builder::new()
        .prefix(".larder-image-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("creating the image in {}", folder.display()))?;
    fill(parts, image.as_file_mut()).with_context(|| format!("writing {}", out.display()))?;
    image
        .persist(out)
        .map_err(|error| error.error)
        .with_context(|| format!("renaming the image to {}", out.display()))?;
    Ok(())
}

fn fill(parts: &Parts<'_>, image: &mut std::fs::File) -> Result<()> {
    let root_size = fs_err::metadata(parts.root_erofs)?.len();
    let layout = Layout::new(parts.version, &parts.root_hash, root_size);
    layout.write(image)?;
    for (source, partition) in [(parts.root_erofs, &layout.root), (parts.root_verity, &layout.verity)] {
        sparse::copy(File::open(source)?.file(), image, partition.start)
            .with_context(|| format!("copying {} into the image", source.display()))?;
    }
    let files = BootFiles {
        version: parts.version,
        uki: parts.uki,
        boot_loader: parts.boot_loader,
        loader_conf: parts.loader_conf,
    };
    esp::write_esp(image, &layout.esp, &files)?;
    esp::write_seed(image, &layout.seed)
}

/// Sizes are checked first: a part that is too large would run into the next partition.
fn refuse_oversized(parts: &Parts<'_>) -> Result<()> {
    let size = |path: &Path| Ok::<_, anyhow::Error>(fs_err::metadata(path)?.len());
    let largest_uki = esp::largest_uki(size(parts.boot_loader)?);
    let limits = [
        ("root file system", parts.root_erofs, gpt::ROOT_SIZE, "its slot"),
        ("hash tree", parts.root_verity, gpt::VERITY_SIZE, "its partition"),
        ("kernel image", parts.uki, largest_uki, "a third of the ESP (it holds three)"),
    ];
    for (what, path, limit, place) in limits {
        let size = size(path)?;
        if size > limit {
            let (size, limit) = (mebibytes(size), mebibytes(limit));
            let problem = format!("the {what} takes {size} MiB, but {place} has room for {limit} MiB");
            return Err(Mistake::new(problem).hint("take packages, modules or firmware out of the profile").into());
        }
    }
    Ok(())
}

/// Rounded up, so that what is too large also looks it.
fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(MIB);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
