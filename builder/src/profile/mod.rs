//! Hardware profiles: `profiles/NAME.toml`, which may inherit from one base, one level deep.
//!
//! Parse, then validate: [`file::ProfileFile`] is what the TOML says, [`Profile`] is what the rest of
//! the builder may rely on. Lists of the base come first and the profile's own are added; a scalar or
//! a table key set by both with different values is an error, so that nothing is overridden silently.
//! Packages and modules that an overlay needs come with it.

pub mod file;
pub mod origin;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use firstboot::hardware::{Description, Device, Graphics, Hazard, Match, Memory};
use serde::Serialize;

use crate::archive::Archive;
use crate::lint::Skip;
use crate::lock::{self, Lockable};
use crate::project::Project;
use crate::report::Mistake;
use crate::solve::PackageRequest;
use crate::{overlay, suggest, toml_file};
use file::{BootTable, BudgetTable, ProfileFile};

/// A validated profile, base included.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// The file's stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What to install, and from where.
    pub packages: PackageRequest,
    /// Overlay folders that go into the image, in the order of their names.
    pub overlays: BTreeSet<String>,
    /// Kernel, modules and firmware.
    pub kernel: Kernel,
    /// The board, and what the image does with it.
    pub hardware: Hardware,
    /// What the image is written to.
    pub boot: BootTable,
    /// How large the image may become.
    pub budget: BudgetTable,
    /// Globs of paths (no leading slash) that packages ship and the image does not want.
    pub exclude: Vec<String>,
    /// Globs that are kept even where `exclude` matches.
    pub keep: Vec<String>,
    /// Paths removed once the packages are configured (build residue, package manager).
    pub remove: Vec<String>,
    /// Globs of programs that lose their set-user-id and set-group-id bits, once the packages are configured.
    pub drop_setuid: Vec<String>,
    /// What lints find in the finished root and the profile accepts.
    pub accepts: Vec<Skip>,
    /// Values for the overlays' templates.
    pub variables: BTreeMap<String, toml::Value>,
}

/// Kernel, modules and firmware of an image.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kernel {
    /// Words of the kernel command line; `roothash=` is added by the build.
    pub command_line: Vec<String>,
    /// Modules kept in the root: names (`igc`) or globs of paths below `kernel/` (`drivers/net/ethernet/intel/**`).
    pub modules: Vec<String>,
    /// Modules that the initrd needs, names only; they are kept in the root too.
    pub initrd_modules: Vec<String>,
    /// Globs of firmware files kept besides those that kept modules name.
    pub firmware: Vec<String>,
    /// Modules of whose firmware only what the devices name is kept.
    pub firmware_of_devices: BTreeSet<String>,
    /// Globs of microcode files below the firmware folder, for the kernel's earliest moments.
    pub microcode: Vec<String>,
}

/// What a profile says about its board.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hardware {
    /// Which machines it is for.
    pub matches: Match,
    /// What is on the board.
    pub devices: Vec<Device>,
    /// What is known to go wrong there.
    pub hazards: Vec<Hazard>,
    /// How video is encoded and decoded.
    pub graphics: Option<Graphics>,
    /// How memory is shared out.
    pub memory: Memory,
}

impl Profile {
    /// Reads `profiles/NAME.toml` and its base.
    ///
    /// # Errors
    /// A [`Mistake`] for an unknown name (with the nearest right one), an unknown key, a base that
    /// has a base itself, or a value that both files set.
    pub fn load(project: &Project, name: &str) -> anyhow::Result<Self> {
        let own = read_file(project, name, Self::names)?;
        let base = own.inherits.as_deref().map(|base| read_file(project, base, bases));
        let base = base.transpose().with_context(|| format!("reading the base of profile `{name}`"))?;
        if let Some(base_name) = base.as_ref().and_then(|base| base.inherits.as_deref()) {
            return Err(Mistake::new(format!("profiles/{name}.toml: its base inherits from `{base_name}` in turn"))
                .hint("profiles inherit one level deep: name the last base directly")
                .into());
        }
        let mut profile = Self::join(name, base, own).with_context(|| format!("reading profile `{name}`"))?;
        profile.add_wants(project)?;
        Ok(profile)
    }

    /// Adds packages and modules that the overlays ask for: a feature brings what it runs on.
    fn add_wants(&mut self, project: &Project) -> anyhow::Result<()> {
        for wants in overlay::wants(&project.overlays(), &self.overlays)? {
            self.packages.include.extend(wants.packages);
            self.exclude.extend(wants.exclude);
            self.kernel.modules.extend(wants.modules);
        }
        Ok(())
    }

    /// Which machines each profile is for.
    pub fn matches(project: &Project) -> anyhow::Result<BTreeMap<String, Match>> {
        let names = Self::names(project)?;
        names.into_iter().map(|name| Ok((name.clone(), Self::load(project, &name)?.hardware.matches))).collect()
    }

    /// What the image says about the hardware that it is for.
    pub fn description(&self, project: &Project) -> anyhow::Result<Description> {
        let Hardware { devices, hazards, graphics, memory, .. } = self.hardware.clone();
        Ok(Description {
            profile: self.name.clone(),
            known: Self::matches(project)?,
            devices,
            firmware_of_devices: self.kernel.firmware_of_devices.iter().cloned().collect(),
            hazards,
            memory,
            graphics,
        })
    }

    /// Names of all profiles that can be built: those that inherit from a base.
    pub fn names(project: &Project) -> anyhow::Result<Vec<String>> {
        let files = all_files(project)?.into_iter();
        Ok(files.filter(|(_, file)| file.inherits.is_some()).map(|(name, _)| name).collect())
    }

    /// What is to be locked.
    pub fn lockable(&self, project: &Project) -> Lockable<'_> {
        Lockable {
            path: lock::path(&project.profiles(), &self.name),
            command: format!("larder lock --profile {}", self.name),
            request: &self.packages,
        }
    }

    fn join(name: &str, base: Option<ProfileFile>, own: ProfileFile) -> anyhow::Result<Self> {
        let mut all = own;
        if let Some(base) = base {
            all = inherit(base, all)?;
        }
        let architectures = match all.packages.architectures {
            list if list.is_empty() => vec!["amd64".to_owned()],
            list => list,
        };
        Ok(Self {
            name: name.to_owned(),
            description: all.description.unwrap_or_default(),
            packages: PackageRequest {
                include: all.packages.include,
                forbid: all.packages.forbid,
                provided: all.packages.provided,
                pins: all.packages.pins,
                essential: true,
                architectures,
                archives: all.archives,
            },
            overlays: all.overlays,
            kernel: Kernel {
                command_line: all.kernel.command_line,
                modules: all.kernel.modules,
                initrd_modules: all.kernel.initrd_modules,
                firmware: all.kernel.firmware,
                firmware_of_devices: all.kernel.firmware_of_devices,
                microcode: all.kernel.microcode,
            },
            hardware: Hardware {
                matches: all.matches,
                devices: all.devices,
                hazards: all.hazards,
                graphics: all.graphics,
                memory: all.memory,
            },
            boot: all.boot,
            budget: all.budget,
            exclude: all.files.exclude,
            keep: all.files.keep,
            remove: all.files.remove,
            drop_setuid: all.files.drop_setuid,
            accepts: all.lint.skip,
            variables: all.variables,
        })
    }
}

/// Names of the profiles that others may inherit from.
fn bases(project: &Project) -> anyhow::Result<Vec<String>> {
    let files = all_files(project)?.into_iter();
    Ok(files.filter(|(_, file)| file.inherits.is_none()).map(|(name, _)| name).collect())
}

/// Every profile file by its stem.
fn all_files(project: &Project) -> anyhow::Result<BTreeMap<String, ProfileFile>> {
    let mut files = BTreeMap::new();
    for entry in fs_err::read_dir(project.profiles())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            files.insert(stem.to_owned(), toml_file::read(&path)?);
        }
    }
    Ok(files)
}

/// Reads a profile's file; `candidates` are the names that may have been meant.
fn read_file(
    project: &Project,
    name: &str,
    candidates: impl Fn(&Project) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<ProfileFile> {
    let path = project.profiles().join(format!("{name}.toml"));
    if !path.is_file() {
        let hint = suggest::nearest_or_all(name, &candidates(project)?, "profiles");
        return Err(Mistake::new(format!("profile `{name}` does not exist ({})", path.display())).hint(hint).into());
    }
    toml_file::read(&path)
}

/// The base's lists come first; tables are joined; the same key with two values is an error.
fn inherit(base: ProfileFile, own: ProfileFile) -> anyhow::Result<ProfileFile> {
    let architectures = match (base.packages.architectures, own.packages.architectures) {
        (base, own) if own.is_empty() => base,
        (base, own) if base.is_empty() || base == own => own,
        _ => return Err(conflict("packages.architectures")),
    };
    Ok(ProfileFile {
        _schema: own._schema,
        inherits: own.inherits,
        description: own.description,
        archives: joined_archives(base.archives, own.archives)?,
        packages: file::PackagesTable {
            include: union(base.packages.include, own.packages.include),
            forbid: union(base.packages.forbid, own.packages.forbid),
            provided: union(base.packages.provided, own.packages.provided),
            pins: joined("packages.pins", base.packages.pins, own.packages.pins)?,
            architectures,
        },
        overlays: union(base.overlays, own.overlays),
        kernel: file::KernelTable {
            command_line: [base.kernel.command_line, own.kernel.command_line].concat(),
            modules: [base.kernel.modules, own.kernel.modules].concat(),
            initrd_modules: [base.kernel.initrd_modules, own.kernel.initrd_modules].concat(),
            firmware: [base.kernel.firmware, own.kernel.firmware].concat(),
            firmware_of_devices: union(base.kernel.firmware_of_devices, own.kernel.firmware_of_devices),
            microcode: [base.kernel.microcode, own.kernel.microcode].concat(),
        },
        matches: Match {
            dmi: [base.matches.dmi, own.matches.dmi].concat(),
            pci: [base.matches.pci, own.matches.pci].concat(),
            any_pci: [base.matches.any_pci, own.matches.any_pci].concat(),
            absent_pci: [base.matches.absent_pci, own.matches.absent_pci].concat(),
        },
        devices: [base.devices, own.devices].concat(),
        hazards: joined_hazards(base.hazards, own.hazards)?,
        graphics: one("graphics", base.graphics, own.graphics)?,
        memory: Memory {
            minimum: one("memory.minimum", base.memory.minimum, own.memory.minimum)?,
            arc_percent: one("memory.arc-percent", base.memory.arc_percent, own.memory.arc_percent)?,
        },
        boot: BootTable {
            medium: one("boot.medium", base.boot.medium, own.boot.medium)?,
            minimum_size: one("boot.minimum-size", base.boot.minimum_size, own.boot.minimum_size)?,
        },
        budget: BudgetTable {
            root: one("budget.root", base.budget.root, own.budget.root)?,
            compressed: one("budget.compressed", base.budget.compressed, own.budget.compressed)?,
        },
        files: file::FilesTable {
            exclude: [base.files.exclude, own.files.exclude].concat(),
            keep: [base.files.keep, own.files.keep].concat(),
            remove: [base.files.remove, own.files.remove].concat(),
            drop_setuid: [base.files.drop_setuid, own.files.drop_setuid].concat(),
        },
        lint: file::LintTable { skip: [base.lint.skip, own.lint.skip].concat() },
        variables: joined("variables", base.variables, own.variables)?,
    })
}

fn union(mut base: BTreeSet<String>, own: BTreeSet<String>) -> BTreeSet<String> {
    base.extend(own);
    base
}

fn joined<V: PartialEq>(
    table: &str,
    mut base: BTreeMap<String, V>,
    own: BTreeMap<String, V>,
) -> anyhow::Result<BTreeMap<String, V>> {
    for (key, value) in own {
        if base.get(&key).is_some_and(|inherited| *inherited != value) {
            return Err(conflict(&format!("{table}.{key}")));
        }
        base.insert(key, value);
    }
    Ok(base)
}

fn joined_archives(mut base: Vec<Archive>, own: Vec<Archive>) -> anyhow::Result<Vec<Archive>> {
    for archive in own {
        if base.iter().any(|inherited| inherited.name == archive.name) {
            return Err(conflict(&format!("archive `{}`", archive.name)));
        }
        base.push(archive);
    }
    Ok(base)
}

/// Every check is spoken about once: the running system adds one text to what it finds.
fn joined_hazards(base: Vec<Hazard>, own: Vec<Hazard>) -> anyhow::Result<Vec<Hazard>> {
    let all = [base, own].concat();
    for (index, hazard) in all.iter().enumerate() {
        if all[..index].iter().any(|other| other.check == hazard.check) {
            return Err(Mistake::new(format!("the hazard `{}` is described twice", hazard.check.id()))
                .hint("put all that is known about it into one [[hazard]]")
                .into());
        }
    }
    Ok(all)
}

/// A value that one of the two files gives, or both alike.
fn one<V: PartialEq>(key: &str, base: Option<V>, own: Option<V>) -> anyhow::Result<Option<V>> {
    match (base, own) {
        (Some(base), Some(own)) if base != own => Err(conflict(key)),
        (base, own) => Ok(own.or(base)),
    }
}

fn conflict(key: &str) -> anyhow::Error {
    Mistake::new(format!("{key} is set by the profile and, differently, by its base"))
        .hint("remove it from one of the two files")
        .into()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
