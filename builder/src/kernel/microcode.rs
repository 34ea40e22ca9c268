//! Microcode: what mends the processors before anything else runs.
//!
//! The kernel looks for it in an uncompressed archive in front of the initrd, as it has not even found its own memory yet
//! (Documentation/arch/x86/microcode.rst); systemd-stub puts the UKI's section `.ucode` there:
//!
//! ```text
//! kernel/x86/microcode/GenuineIntel.bin   files of intel-ucode/, one after the other
//!                      AuthenticAMD.bin   files of amd-ucode/, one after the other
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::firmware::FirmwareIndex;
use crate::initrd::cpio;
use crate::report::Mistake;

/// Folder of the packages -> file of the archive.
const MAKERS: [(&str, &str); 2] = [("intel-ucode", "GenuineIntel.bin"), ("amd-ucode", "AuthenticAMD.bin")];

/// The archive of the microcode that `wanted` (globs below the firmware folder) matches; nothing where nothing is wanted.
///
/// # Errors
/// A [`Mistake`] for a glob that matches nothing, or that is not about microcode.
pub fn archive(index: &FirmwareIndex, wanted: &[String], origin: &str) -> Result<Option<Vec<u8>>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut files = BTreeMap::<&str, Vec<u8>>::new();
    for (path, source) in index.plan(&BTreeMap::new(), wanted, origin)?.keep {
        let maker = path.split('/').next();
        let Some((_, file)) = MAKERS.iter().find(|(folder, _)| Some(*folder) == maker) else {
            return Err(Mistake::new(format!("{origin}: `{path}` is no microcode"))
                .hint("microcode is in `intel-ucode` and `amd-ucode`; other firmware belongs into `kernel.firmware`")
                .into());
        };
        files.entry(file).or_default().extend(fs_err::read(source)?);
    }
    let mut archive = cpio::Writer::new(Vec::new());
    let folder = Path::new("kernel/x86/microcode");
    for parent in folder.ancestors().filter(|path| *path != Path::new("")).collect::<BTreeSet<_>>() {
        archive.folder(parent)?;
    }
    for (name, content) in files {
        archive.file(&folder.join(name), &content, false)?;
    }
    Ok(Some(archive.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> (tempfile::TempDir, FirmwareIndex) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("intel-ucode/06-9c-00", "Jasper"),
            ("intel-ucode/06-be-00", "Twin"),
            ("amd-ucode/microcode_amd_fam19h.bin", "Zen"),
            ("amd-ucode/microcode_amd_fam19h.bin.asc", "signature"),
            ("i915/tgl_huc.bin", "video"),
        ] {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        let index = FirmwareIndex::open([root.path()]).unwrap();
        (root, index)
    }

    fn made(wanted: &[&str]) -> Result<Option<Vec<u8>>> {
        let wanted: Vec<String> = wanted.iter().map(|glob| (*glob).to_owned()).collect();
        archive(&packages().1, &wanted, "profile `nas`")
    }

    #[test]
    fn each_maker_gets_one_uncompressed_file_where_the_kernel_looks() {
        let bytes = made(&["intel-ucode/*", "amd-ucode/*.bin"]).unwrap().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let folder = text.find("kernel/x86\0").unwrap();
        assert!(folder < text.find("kernel/x86/microcode\0").unwrap(), "parents come first");
        assert!(text.contains("kernel/x86/microcode/GenuineIntel.bin\0JasperTwin"), "{text}");
        assert!(text.contains("kernel/x86/microcode/AuthenticAMD.bin\0Zen"), "{text}");
        assert!(!text.contains("signature"));
    }

    #[test]
    fn nothing_wanted_is_no_archive() {
        assert_eq!(made(&[]).unwrap(), None);
    }

    #[test]
    fn what_is_no_microcode_or_not_there_is_refused() {
        let complaint = |wanted: &[&str]| crate::report::render(&made(wanted).unwrap_err());
        insta::assert_snapshot!(complaint(&["i915/*"]), @r"
        error: profile `nas`: `i915/tgl_huc.bin` is no microcode

        hint: microcode is in `intel-ucode` and `amd-ucode`; other firmware belongs into `kernel.firmware`
        ");
        insta::assert_snapshot!(complaint(&["intel-ucode/06-bf-00"]), @r"
        error: profile `nas`: `intel-ucode/06-bf-00` matches no firmware of the profile's packages

        hint: did you mean intel-ucode/06-be-00 or intel-ucode/06-9c-00? else add the package that ships it
        ");
    }
}
