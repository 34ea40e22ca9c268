//! Chooses the modules of an image: an allow-list and everything that those modules need.
//!
//! An entry of the allow-list is a module's name (`igc`; `-` and `_` are the same), a pattern of names
//! (`nls_*`), or, with a `/`, a pattern of paths below `kernel/` without suffix
//! (`drivers/net/ethernet/intel/**`). `*` stops at `/`, `**` does not.
//!
//! Kept with a module is what its `depends` names and what its `softdep` names, as far as that exists;
//! a softdep may be an alias (`crypto-crc32c`), then each module with that alias is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use super::modinfo::{self, ModInfo};
use crate::path_glob;
use crate::report::Mistake;
use crate::suggest::nearest;

#[cfg(test)]
mod tests;

/// Lists that depmod reads and that come with the kernel.
const SHIPPED_LISTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// The modules of one kernel: `…/usr/lib/modules/KVER` of an unpacked package, or of an image.
#[derive(Debug)]
pub struct ModuleTree {
    folder: PathBuf,
    version: String,
    /// Name -> path below `folder`.
    modules: BTreeMap<String, String>,
    builtin: BTreeMap<String, String>,
    builtin_info: BTreeMap<String, ModInfo>,
    /// Made when the first softdep names no module, as it means reading the modules; those of the
    /// crypto API apart, as nearly all such softdeps are theirs and all others take ten times as long.
    crypto_aliases: OnceLock<Aliases>,
    other_aliases: OnceLock<Aliases>,
}

/// Alias -> names of the modules that have it.
type Aliases = HashMap<String, BTreeSet<String>>;

/// Modules chosen from a [`ModuleTree`], closed over their dependencies.
#[derive(Debug, Clone)]
pub struct Selection {
    folder: PathBuf,
    version: String,
    modules: BTreeMap<String, Module>,
}

/// A chosen module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Path below `usr/lib/modules/KVER` in the source tree (`kernel/…/igc.ko.xz`).
    pub path: String,
    /// What it says about itself.
    pub info: ModInfo,
}

impl ModuleTree {
    /// Lists the modules in `folder`, whose name is the kernel's version.
    pub fn open(folder: &Path) -> Result<Self> {
        let version = folder.file_name().context("a folder of modules has no name")?.to_string_lossy().into_owned();
        let mut modules = BTreeMap::new();
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.with_context(|| format!("listing the modules in {}", folder.display()))?;
            let path = entry.path().strip_prefix(folder)?.to_string_lossy().into_owned();
            if let Some(name) = modinfo::name_of_file(&path).filter(|_| entry.file_type().is_file()) {
                modules.insert(name, path);
            }
        }
        let list = read_if_there(&folder.join("modules.builtin"))?;
        let builtin = String::from_utf8_lossy(&list)
            .lines()
            .filter_map(|path| Some((modinfo::name_of_file(path)?, path.to_owned())))
            .collect();
        let builtin_info = ModInfo::of_builtin(&read_if_there(&folder.join("modules.builtin.modinfo"))?);
        Ok(Self {
            folder: folder.to_owned(),
            version,
            modules,
            builtin,
            builtin_info,
            crypto_aliases: OnceLock::new(),
            other_aliases: OnceLock::new(),
        })
    }

    /// The kernel's version and ABI, such as `6.12.107+deb13-amd64`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Chooses what `allow` names, and all that it needs. `origin` says where the list is from
    /// (`profiles/nas.toml: kernel.modules`), for the error about an entry that matches nothing.
    pub fn select(&self, allow: &[String], origin: &str) -> Result<Selection> {
        let mut wanted = BTreeSet::new();
        for entry in allow {
            wanted.extend(self.matching(entry, origin)?);
        }
        let mut chosen = BTreeMap::new();
        while !wanted.is_empty() {
            let read: Vec<(String, Module)> =
                wanted.par_iter().map(|name| Ok((name.clone(), self.module(name)?))).collect::<Result<_>>()?;
            wanted = BTreeSet::new();
            for (_, module) in &read {
                wanted.extend(self.needs(module)?);
            }
            chosen.extend(read);
            wanted.retain(|name| !chosen.contains_key(name));
        }
        Ok(Selection { folder: self.folder.clone(), version: self.version.clone(), modules: chosen })
    }

    /// Names of loadable modules that the entry stands for; none when it stands for built-in ones only.
    fn matching(&self, entry: &str, origin: &str) -> Result<Vec<String>> {
        let is_path = entry.contains('/');
        let pattern = if is_path { entry.to_owned() } else { modinfo::canonical(entry) };
        let glob = path_glob::parse(&pattern)
            .map_err(|error| Mistake::new(format!("{origin}: `{entry}` is not a valid pattern")).because(error))?
            .compile_matcher();
        let matches = |(name, path): (&String, &String)| {
            if is_path { glob.is_match(below_kernel(path)) } else { glob.is_match(name) }
        };
        let loadable: Vec<String> =
            self.modules.iter().filter(|pair| matches(*pair)).map(|(name, _)| name.clone()).collect();
        if loadable.is_empty() && !self.builtin.iter().any(matches) {
            return Err(self.no_match(entry, is_path, origin).into());
        }
        Ok(loadable)
    }

    fn no_match(&self, entry: &str, is_path: bool, origin: &str) -> Mistake {
        let mistake = Mistake::new(format!("{origin}: `{entry}` matches no module of kernel {}", self.version));
        let all = || self.modules.iter().chain(&self.builtin);
        let folders: BTreeSet<&str> = all()
            .flat_map(|(_, path)| Path::new(below_kernel(path)).ancestors().skip(1))
            .filter_map(Path::to_str)
            .collect();
        let alike = if is_path {
            let literal = entry.split(['*', '?', '[', '{']).next().unwrap_or_default().trim_end_matches('/');
            nearest(literal, folders)
        } else {
            nearest(&modinfo::canonical(entry), all().map(|(name, _)| name.as_str()))
        };
        if alike.is_empty() {
            return mistake.hint("remove the entry, or look for the module's name with `modinfo` on a running Debian");
        }
        mistake.hint(format!("did you mean {}?", alike.join(" or ")))
    }

    fn module(&self, name: &str) -> Result<Module> {
        let path = self
            .modules
            .get(name)
            .with_context(|| format!("module {name} is needed but not in kernel {}", self.version))?;
        let info = ModInfo::of_file(&self.folder.join(path)).with_context(|| format!("reading module {path}"))?;
        Ok(Module { path: path.clone(), info })
    }

    /// What must be kept with a module, by name.
    fn needs(&self, module: &Module) -> Result<BTreeSet<String>> {
        let mut needs = BTreeSet::new();
        for name in &module.info.depends {
            if self.modules.contains_key(name) {
                needs.insert(name.clone());
            } else if !self.builtin.contains_key(name) {
                anyhow::bail!("{} depends on {name}, which is not in kernel {}", module.path, self.version);
            }
        }
        for soft in &module.info.softdeps {
            let name = modinfo::canonical(soft);
            if self.modules.contains_key(&name) {
                needs.insert(name);
            } else if !self.builtin.contains_key(&name) {
                needs.extend(self.with_alias(&name)?.iter().filter(|name| self.modules.contains_key(*name)).cloned());
            }
        }
        Ok(needs)
    }

    /// Names of modules with the alias. Softdeps write services of the crypto API both as `crypto-crc32c`
    /// and as `crc32c`, hence the order.
    fn with_alias(&self, alias: &str) -> Result<BTreeSet<String>> {
        let in_crypto = self.aliases(true)?.get(alias);
        if let Some(names) = in_crypto {
            return Ok(names.clone());
        }
        if alias.starts_with("crypto_") {
            return Ok(BTreeSet::new());
        }
        Ok(self.aliases(false)?.get(alias).cloned().unwrap_or_default())
    }

    fn aliases(&self, crypto: bool) -> Result<&Aliases> {
        let cell = if crypto { &self.crypto_aliases } else { &self.other_aliases };
        if let Some(index) = cell.get() {
            return Ok(index);
        }
        let index = self.index_aliases(crypto)?;
        Ok(cell.get_or_init(|| index))
    }

    /// Aliases without wildcards: softdeps name services, never patterns of devices. `crypto-*` are
    /// given by modules in folders called `crypto`.
    fn index_aliases(&self, crypto: bool) -> Result<Aliases> {
        let is_candidate = |path: &str| path.split('/').any(|folder| folder == "crypto") == crypto;
        let candidates: Vec<&String> =
            self.modules.iter().filter(|(_, path)| is_candidate(path)).map(|(name, _)| name).collect();
        let loadable: Vec<(&String, ModInfo)> =
            candidates.into_par_iter().map(|name| Ok((name, self.module(name)?.info))).collect::<Result<_>>()?;
        let mut index = Aliases::new();
        for (name, info) in loadable.iter().map(|(name, info)| (*name, info)).chain(&self.builtin_info) {
            for alias in info.aliases.iter().filter(|alias| !alias.contains(['*', '?', '['])) {
                index.entry(modinfo::canonical(alias)).or_default().insert(name.clone());
            }
        }
        Ok(index)
    }
}

impl Selection {
    /// The kernel's version and ABI.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Name -> module, sorted.
    pub fn modules(&self) -> &BTreeMap<String, Module> {
        &self.modules
    }

    /// Firmware that the modules name -> the modules that name it.
    pub fn firmware(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut firmware = BTreeMap::<String, BTreeSet<String>>::new();
        for (name, module) in &self.modules {
            for file in &module.info.firmware {
                firmware.entry(file.clone()).or_default().insert(name.clone());
            }
        }
        firmware
    }

    /// Writes the modules, uncompressed, and the lists that depmod reads to `root/usr/lib/modules/KVER`.
    /// [`index`] comes next, once foreign modules (ZFS) are in place too.
    pub fn write(&self, root: &Path) -> Result<PathBuf> {
        let target = root.join("usr/lib/modules").join(&self.version);
        fs_err::create_dir_all(&target)?;
        for list in SHIPPED_LISTS.iter().filter(|list| self.folder.join(list).exists()) {
            fs_err::write(target.join(list), fs_err::read(self.folder.join(list))?)?;
        }
        let modules: Vec<&Module> = self.modules.values().collect();
        modules
            .par_iter()
            .try_for_each(|module| {
                let to = target.join(plain(&module.path));
                fs_err::create_dir_all(to.parent().unwrap_or(&target))?;
                fs_err::write(&to, modinfo::read(&self.folder.join(&module.path))?)
            })
            .context("writing kernel modules")?;
        Ok(target)
    }
}

/// Writes `modules.dep`, `modules.alias` and their kin for what is in `root/usr/lib/modules/KVER`, by
/// depmod. `run` runs a command of the tools tree; `root_inside` is where `root` is for that command.
/// By itself it would look in `/lib/modules`, which is a link that `root` may not have yet. It sorts by
/// `modules.order` and reads no clock, so equal modules give equal bytes.
pub fn index(root_inside: &str, version: &str, run: &dyn Fn(&[&str]) -> Result<()>) -> Result<()> {
    run(&["depmod", "--basedir", root_inside, "--moduledir", "/usr/lib/modules", version])
        .with_context(|| format!("indexing the modules of kernel {version}"))
}

/// The modules that the initrd needs out of those already in the image's `folder`
/// (`…/usr/lib/modules/KVER`), closed over their dependencies.
pub fn initrd_modules(folder: &Path, names: &[String], origin: &str) -> Result<Selection> {
    ModuleTree::open(folder)?.select(names, origin)
}

/// `kernel/drivers/…/igc.ko.xz` → `drivers/…/igc`.
fn below_kernel(path: &str) -> &str {
    let path = path.strip_prefix("kernel/").unwrap_or(path);
    modinfo::suffix(path).and_then(|suffix| path.strip_suffix(suffix)).unwrap_or(path)
}

/// `….ko.xz` → `….ko`.
fn plain(path: &str) -> String {
    match modinfo::suffix(path) {
        Some(suffix) => format!("{}.ko", &path[..path.len() - suffix.len()]),
        None => path.to_owned(),
    }
}

fn read_if_there(path: &Path) -> Result<Vec<u8>> {
    match fs_err::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        result => Ok(result?),
    }
}
