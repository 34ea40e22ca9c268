//! Chooses the firmware of an image: what kept modules name, and what the profile adds.
//!
//! Modules name files below the firmware folder, sometimes as patterns (`ath10k/*`). Debian's firmware
//! packages link names to each other, files and folders alike (`rtl_nic/…`, `intel/ice/ddp/ice.pkg`), so
//! a name is kept together with every link on the way and the file at its end. A module often names
//! firmware of every revision of its chip, also ones that nobody ships: those are told, and the lint `firmware` judges them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

use super::modinfo;
use crate::path_glob;
use crate::report::Mistake;
use crate::suggest::nearest;

/// As many as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Suffixes under which the kernel also looks for a name (`CONFIG_FW_LOADER_COMPRESS`).
const COMPRESSED: [&str; 2] = [".xz", ".zst"];

/// All firmware that the unpacked packages offer.
#[derive(Debug, Default)]
pub struct FirmwareIndex {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    source: PathBuf,
    /// Where a link leads, as written.
    link: Option<PathBuf>,
}

/// What to keep below `usr/lib/firmware`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirmwarePlan {
    /// Path below the firmware folder -> the file or link to copy.
    pub keep: BTreeMap<String, PathBuf>,
    /// Named by kept modules, shipped by no package.
    pub missing: Vec<MissingFirmware>,
}

/// Firmware that nobody ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFirmware {
    /// The name or pattern, as the modules have it.
    pub name: String,
    /// The modules that name it.
    pub modules: BTreeSet<String>,
}

impl FirmwareIndex {
    /// Indexes firmware folders (`data/usr/lib/firmware` of each unpacked package); where two have the
    /// same path, the later one counts, as it would on disk.
    pub fn open<P: AsRef<Path>>(folders: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut index = Self::default();
        for folder in folders {
            let folder = folder.as_ref();
            for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
                let entry = entry.with_context(|| format!("listing the firmware in {}", folder.display()))?;
                if entry.file_type().is_dir() {
                    continue;
                }
                let link = entry.path_is_symlink().then(|| fs_err::read_link(entry.path())).transpose()?;
                let path = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
                index.entries.insert(path, Entry { source: entry.path().to_owned(), link });
            }
        }
        Ok(index)
    }

    /// Chooses the firmware that modules name (`Selection::firmware`) and that the profile's `extra`
    /// patterns match. A pattern of `extra` that matches nothing is a mistake, `origin` says whose.
    pub fn plan(
        &self,
        named: &BTreeMap<String, BTreeSet<String>>,
        extra: &[String],
        origin: &str,
    ) -> Result<FirmwarePlan> {
        let mut plan = FirmwarePlan::default();
        for (name, modules) in named {
            if !self.keep_matching(name, &mut plan.keep) {
                plan.missing.push(MissingFirmware { name: name.clone(), modules: modules.clone() });
            }
        }
        for pattern in extra {
            path_glob::parse(pattern).map_err(|error| {
                Mistake::new(format!("{origin}: `{pattern}` is not a valid pattern")).because(error)
            })?;
            if !self.keep_matching(pattern, &mut plan.keep) {
                let alike = nearest(pattern, self.entries.keys().map(String::as_str));
                let next = match alike.as_slice() {
                    [] => "add the package that ships it, or remove the entry".to_owned(),
                    alike => format!("did you mean {}? else add the package that ships it", alike.join(" or ")),
                };
                return Err(Mistake::new(format!(
                    "{origin}: `{pattern}` matches no firmware of the profile's packages"
                ))
                .hint(next)
                .into());
            }
        }
        Ok(plan)
    }

    /// Adds what a name or pattern stands for; false when that is nothing.
    fn keep_matching(&self, name: &str, keep: &mut BTreeMap<String, PathBuf>) -> bool {
        let exact = std::iter::once(String::new()).chain(COMPRESSED.map(str::to_owned));
        let mut found = exact.fold(false, |found, suffix| found | self.keep_resolved(&format!("{name}{suffix}"), keep));
        if !found && let Ok(pattern) = path_glob::parse(name) {
            let pattern = pattern.compile_matcher();
            for path in self.entries.keys().filter(|path| pattern.is_match(without_compression(path))) {
                found |= self.keep_resolved(path, keep);
            }
        }
        found
    }

    /// Keeps the file at the end of `path` and every link on the way; false, and nothing kept, when
    /// the way ends nowhere.
    fn keep_resolved(&self, path: &str, keep: &mut BTreeMap<String, PathBuf>) -> bool {
        let mut on_the_way = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            if let Some(entry) = self.entries.get(&path).filter(|entry| entry.link.is_none()) {
                on_the_way.push((path, entry));
                keep.extend(on_the_way.into_iter().map(|(path, entry)| (path, entry.source.clone())));
                return true;
            }
            let Some((link, entry)) = self.first_link(&path) else { return false };
            let Some(next) = entry.link.as_deref().and_then(|target| resolve(&link, target, &path[link.len()..]))
            else {
                return false;
            };
            on_the_way.push((link, entry));
            path = next;
        }
        false
    }

    /// The link that `path` meets first: itself or a folder above it.
    fn first_link(&self, path: &str) -> Option<(String, &Entry)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).find_map(|prefix| {
            let entry = self.entries.get(prefix).filter(|entry| entry.link.is_some())?;
            Some((prefix.to_owned(), entry))
        })
    }
}

/// What kept modules name, without what only the modules `by_device` name: those drive many chips, and the profile
/// says which of them there are and what they need.
pub fn without_other_chips<'a>(
    named: BTreeMap<String, BTreeSet<String>>,
    by_device: impl IntoIterator<Item = &'a String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let by_device: BTreeSet<String> = by_device.into_iter().map(|module| modinfo::canonical(module)).collect();
    let of_others = |(file, modules): (String, BTreeSet<String>)| {
        let modules: BTreeSet<_> = modules.difference(&by_device).cloned().collect();
        (!modules.is_empty()).then_some((file, modules))
    };
    named.into_iter().filter_map(of_others).collect()
}

impl FirmwarePlan {
    /// Copies files and links to `root/usr/lib/firmware`.
    pub fn write(&self, root: &Path) -> Result<()> {
        let folder = root.join("usr/lib/firmware");
        for (path, source) in &self.keep {
            let to = folder.join(path);
            fs_err::create_dir_all(to.parent().unwrap_or(&folder))?;
            if source.is_symlink() {
                symlink(fs_err::read_link(source)?, &to).with_context(|| format!("linking {}", to.display()))?;
            } else {
                fs_err::copy(source, &to)?;
            }
        }
        Ok(())
    }
}

fn without_compression(path: &str) -> &str {
    COMPRESSED.iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path)
}

/// Where `link` → `target` leads, with `rest` of the path behind it; nothing outside the firmware folder.
fn resolve(link: &str, target: &Path, rest: &str) -> Option<String> {
    let base = match target.strip_prefix("/usr/lib/firmware").or_else(|_| target.strip_prefix("/lib/firmware")) {
        Ok(inside) => inside.to_owned(),
        Err(_) if target.is_absolute() => return None,
        Err(_) => Path::new(link).parent()?.join(target),
    };
    let mut parts = Vec::new();
    for component in base.join(rest.trim_start_matches('/')).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?.to_owned()),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;

    fn packages() -> (tempfile::TempDir, FirmwareIndex) {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        let put = |path: PathBuf| {
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "firmware").unwrap();
        };
        put(one.join("intel/ice/ddp/ice-1.3.pkg"));
        put(one.join("i915/adlp_guc_70.bin"));
        put(two.join("ath10k/QCA6174/board.bin"));
        put(two.join("ath10k/notes.bin"));
        put(two.join("rtl_nic/rtl8168h-2.fw.xz"));
        symlink("ice-1.3.pkg", one.join("intel/ice/ddp/ice.pkg")).unwrap();
        symlink("ice/ddp/ice.pkg", one.join("intel/any.pkg")).unwrap();
        symlink("../ath10k/QCA6174", one.join("i915/board")).unwrap();
        symlink("loop", one.join("loop")).unwrap();
        symlink("../../outside", one.join("outside")).unwrap();
        let index = FirmwareIndex::open([&one, &two]).unwrap();
        (root, index)
    }

    fn kept(named: &[&str], extra: &[&str]) -> (Vec<String>, Vec<String>) {
        let (_root, index) = packages();
        let named = named.iter().map(|name| ((*name).to_owned(), BTreeSet::from(["module".to_owned()]))).collect();
        let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
        let plan = index.plan(&named, &extra, "test").unwrap();
        (plan.keep.into_keys().collect(), plan.missing.into_iter().map(|missing| missing.name).collect())
    }

    #[test]
    fn a_link_is_kept_with_all_that_it_leads_to() {
        let (keep, missing) = kept(&["intel/any.pkg"], &[]);
        assert_eq!(keep, ["intel/any.pkg", "intel/ice/ddp/ice-1.3.pkg", "intel/ice/ddp/ice.pkg"]);
        assert!(missing.is_empty());
    }

    #[test]
    fn a_folder_may_be_a_link_into_another_package() {
        let (keep, _) = kept(&["i915/board/board.bin"], &[]);
        assert_eq!(keep, ["ath10k/QCA6174/board.bin", "i915/board"]);
    }

    #[test]
    fn patterns_stop_at_folders_and_double_stars_do_not() {
        assert_eq!(kept(&["ath10k/*"], &[]).0, ["ath10k/notes.bin"]);
        assert_eq!(kept(&[], &["ath10k/**"]).0, ["ath10k/QCA6174/board.bin", "ath10k/notes.bin"]);
    }

    #[test]
    fn compressed_firmware_stands_for_its_plain_name() {
        assert_eq!(kept(&["rtl_nic/rtl8168h-2.fw"], &[]).0, ["rtl_nic/rtl8168h-2.fw.xz"]);
    }

    #[test]
    fn firmware_that_nobody_ships_is_reported_with_its_modules() {
        let (keep, missing) = kept(&["iwlwifi-99.ucode", "loop", "outside"], &[]);
        assert!(keep.is_empty());
        assert_eq!(missing, ["iwlwifi-99.ucode", "loop", "outside"]);
    }

    #[test]
    fn a_pattern_of_the_profile_that_matches_nothing_is_refused() {
        let (_root, index) = packages();
        let error = index
            .plan(&BTreeMap::new(), &["i915/adlp_guc_71.bin".into()], "profiles/nas.toml: kernel.firmware")
            .unwrap_err();
        insta::assert_snapshot!(render(&error), @"
        error: profiles/nas.toml: kernel.firmware: `i915/adlp_guc_71.bin` matches no firmware of the profile's packages

        hint: did you mean i915/adlp_guc_70.bin? else add the package that ships it
        ");
    }

    #[test]
    fn a_module_for_many_chips_brings_firmware_only_by_its_devices() {
        let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let named = BTreeMap::from([
            ("i915/a.bin".to_owned(), modules(&["i915"])),
            ("shared.bin".to_owned(), modules(&["i915", "igc"])),
            ("rtl_nic/a.fw".to_owned(), modules(&["r8169"])),
        ]);
        let kept = without_other_chips(named, &["i915".to_owned()]);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["rtl_nic/a.fw", "shared.bin"]);
        assert_eq!(kept["shared.bin"], modules(&["igc"]));
    }

    #[test]
    fn links_are_written_as_links() {
        let (_root, index) = packages();
        let named = BTreeMap::from([("intel/ice/ddp/ice.pkg".to_owned(), BTreeSet::new())]);
        let image = tempfile::tempdir().unwrap();
        index.plan(&named, &[], "test").unwrap().write(image.path()).unwrap();
        let folder = image.path().join("usr/lib/firmware/intel/ice/ddp");
        assert_eq!(fs_err::read_link(folder.join("ice.pkg")).unwrap(), Path::new("ice-1.3.pkg"));
        assert_eq!(fs_err::read_to_string(folder.join("ice.pkg")).unwrap(), "firmware");
    }
}
