//! `firstboot update`: looks what there is, and installs it beside the running system.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;

use super::Object;
use super::channel::{Making, Offer, Release};
use super::checked::{self, Checked, Newer};
use super::engine::{Engine, Hooks, Stage, Summary, UNFINISHED};
use super::recipe::{Bounds, Recipe};
use super::source::{self, Fetcher, Http, Limiter, Patience};
use super::trust::{self, Question};
use crate::assess::Memory;
use crate::boot_disk;
use crate::command_line;
use crate::disk::{Machine, Size};
use crate::esp::{self, Esp, Folder, Rename, Systems, Tries};
use crate::finding::{Finding, Severity};
use crate::flash::FileDevice;
use crate::hash::Hash;
use crate::layout::UKI_FOLDER;
use crate::os_release;
use crate::report::Mistake;
use crate::settings::Updates;
use crate::status;
use crate::tpm::{Policy, Tpm, event_log};
use crate::verity::{BLOCK_SIZE, Region, RootHash, Superblock};
use crate::version::Version;

/// Name of the list of findings.
pub const TOPIC: &str = "updates";
/// Where the ESP is mounted.
const ESP: &str = "/boot";

/// What the owner wants beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// This version; otherwise the newest.
    pub version: Option<Version>,
    /// Even if it failed before.
    pub again: bool,
    /// Even if it is older than the running one.
    pub downgrade: bool,
}

/// Is told what goes on.
pub trait Watch {
    /// What is about to be installed, and how much is fetched for it at most.
    fn plan(&self, release: &Release, making: &Making);
    /// As [`Hooks::begin`].
    fn begin(&self, stage: Stage, bytes: u64);
    /// As [`Hooks::advance`].
    fn advance(&self, bytes: u64);
    /// It is installed.
    fn end(&self);
}

/// The updates of this machine.
#[derive(Debug)]
pub struct Client<'a> {
    settings: &'a Updates,
    server: Http,
    patience: Patience,
    profile: String,
    running: Version,
    root_hash: RootHash,
    systems: Systems,
    memory: Memory,
}

/// How to make a release, and what of.
struct Way<'a> {
    making: &'a Making,
    /// Sizes of the older root and UKI, for a recipe that needs them.
    old: Option<(u64, u64)>,
}

/// What this image calls itself in os-release(5): its profile and its version.
///
/// # Errors
/// It is no larder image.
pub fn image(root: &Path) -> anyhow::Result<(String, Version)> {
    let id = os_release::value(root, "IMAGE_ID")?;
    let profile = id.strip_prefix("larder-").with_context(|| format!("`{id}` is no larder image"))?;
    Ok((profile.to_owned(), os_release::value(root, "IMAGE_VERSION")?.parse()?))
}

impl<'a> Client<'a> {
    /// For the running machine.
    ///
    /// # Errors
    /// The settings name no server, or this is no larder system.
    pub fn here(settings: &'a Updates) -> anyhow::Result<Self> {
        let from = settings.from.as_ref().ok_or_else(|| {
            Mistake::new("the settings name no server that updates come from")
                .hint("add `from` to [updates] in nas.toml, and `firstboot apply` it")
        })?;
        let root = Path::new("/");
        let (profile, running) = image(root)?;
        let root_hash = command_line::root_hash()?;
        let patience = Patience::default();
        Ok(Self {
            settings,
            server: Http::new(from.as_str(), &patience),
            patience,
            profile,
            running,
            root_hash,
            systems: esp::systems(&Folder::here(), &root_hash)?,
            memory: Memory::read(root)?,
        })
    }

    /// The version that is installed already and starts next, if there is one.
    pub fn staged(&self) -> Option<&Version> {
        self.systems.staged().map(|name| &name.version)
    }

    fn offer(&self) -> anyhow::Result<Offer> {
        let channel = self.settings.channel.as_str();
        let question = Question { channel, profile: &self.profile, now: Timestamp::now() };
        trust::ask(Path::new("/"), &self.server, &question, &self.patience)
    }

    /// Looks what there is, and remembers it for `firstboot status`.
    ///
    /// # Errors
    /// The server cannot be reached, or is not to be believed.
    pub fn check(&self) -> anyhow::Result<Checked> {
        let offer = self.offer()?;
        let newer = offer.next_after(&self.running).map(|release| self.newer(release)).transpose()?;
        let checked = Checked { at: Timestamp::now(), expires: offer.expires(), running: self.running.clone(), newer };
        checked.write(Path::new("/"))?;
        checked::tell(Path::new("/"))?;
        Ok(checked)
    }

    fn newer(&self, release: &Release) -> anyhow::Result<Newer> {
        let changes = release.changes.as_ref();
        Ok(Newer {
            version: release.version.clone(),
            fetch: self.way(release)?.making.size(),
            image: release.download,
            packages: changes.map_or(0, |changes| changes.packages.len()),
            fixes: changes.map(|changes| changes.fixes.clone()).unwrap_or_default(),
            failed: self.memory.failure(&release.version).map(str::to_owned),
        })
    }

    /// The smallest way to a release: from the very system that runs, or out of nothing.
    fn way<'r>(&self, release: &'r Release) -> anyhow::Result<Way<'r>> {
        let full = Way { making: &release.full, old: None };
        // The UKI is read only if that may lead somewhere.
        if release.deltas.iter().all(|delta| delta.from_root_hash != self.root_hash) {
            return Ok(full);
        }
        let uki = self.running_uki()?;
        let delta = release.delta_from(&self.root_hash, &uki);
        let Some(delta) = delta.filter(|delta| delta.making.size() < release.full.size()) else { return Ok(full) };
        let tree = Path::new("/dev/disk/by-partuuid").join(self.root_hash.verity_partition_uuid().to_string());
        let superblock = Superblock::read(Region { file: fs_err::File::open(tree)?.file(), start: 0 })?;
        let old_root = superblock.data_blocks * BLOCK_SIZE as u64;
        Ok(Way { making: &delta.making, old: Some((old_root, uki.size)) })
    }

    fn running_uki(&self) -> anyhow::Result<Object> {
        let name = self.systems.running.as_ref().context("the running system's UKI is not on the ESP")?;
        let path = Path::new(ESP).join(UKI_FOLDER).join(name.to_string());
        Ok(Object { sha256: Hash::of_file(&path)?, size: fs_err::metadata(&path)?.len() })
    }

    /// Installs a release beside the running system. It starts at the next restart.
    ///
    /// # Errors
    /// Something speaks against it, or fails; the running system is as it was, and the next call carries on.
    pub fn install(&self, wishes: &Wishes, watch: &dyn Watch) -> anyhow::Result<Option<(Version, Summary)>> {
        self.may_install()?;
        let offer = self.offer()?;
        let Some(release) = self.choose(&offer, wishes)? else { return Ok(None) };
        let way = self.way(release)?;
        self.check_room(release)?;
        watch.plan(release, way.making);
        let recipe = source::object(&self.server, &way.making.recipe, &self.patience).map_err(Mistake::from)?;
        // What a delta leaves to be found, somebody has looked for already.
        let tree = match way.old {
            Some(_) => None,
            None => Some(source::object(&self.server, &release.tree, &self.patience).map_err(Mistake::from)?),
        };
        let bounds =
            Bounds { root: release.root_size, uki: release.uki.size, payload: way.making.payload.size, old: way.old };
        let recipe = Recipe::decode(&recipe, &bounds).context("reading the recipe")?;
        let limiter = Limiter::new(self.settings.limit.map(|rate| rate.0));
        let mut fetcher = Fetcher::new(&self.server, way.making.payload, self.patience, limiter, &|_| {});
        let disk = self.disk()?;
        let hooks = Commit { client: self, release, watch, findings: RefCell::default() };
        let esp = Folder::here();
        let engine = Engine {
            disk: &disk,
            esp: &esp,
            running: self.root_hash,
            release,
            recipe: &recipe,
            tree: tree.as_deref(),
            hooks: &hooks,
        };
        let summary = engine.install(&mut fetcher)?;
        self.prefer(release)?;
        watch.end();
        self.note(release, &hooks.findings.into_inner())?;
        Ok(Some((release.version.clone(), summary)))
    }

    /// What speaks against any installation now.
    fn may_install(&self) -> anyhow::Result<()> {
        let Some(running) = &self.systems.running else {
            let mistake = Mistake::new("the system that runs was not started from this machine's boot medium");
            return Err(mistake.hint("restart without the other medium").into());
        };
        if let Some(staged) = self.systems.staged() {
            let mistake = Mistake::new(format!(
                "version {} is installed already, and starts at the next restart",
                staged.version
            ));
            return Err(mistake.hint("restart first").into());
        }
        if running.tries.is_some_and(|tries| tries != Tries::FULL) {
            let mistake =
                Mistake::new("this start of the system is not known to be good, so the other one is not replaced");
            return Err(mistake
                .hint("`firstboot health` says what is wrong; right after a start, wait a minute")
                .into());
        }
        Ok(())
    }

    fn choose<'o>(&self, offer: &'o Offer, wishes: &Wishes) -> anyhow::Result<Option<&'o Release>> {
        let release = match &wishes.version {
            None => offer.next_after(&self.running),
            Some(version) => {
                let found = offer.releases().iter().find(|release| release.version == *version);
                let there =
                    || offer.releases().iter().map(|release| release.version.as_str()).collect::<Vec<_>>().join(", ");
                Some(found.ok_or_else(|| {
                    Mistake::new(format!("the channel has no version {version}")).hint(format!("it has {}", there()))
                })?)
            }
        };
        let Some(release) = release else { return Ok(None) };
        if !release.version.is_newer_than(&self.running) && !wishes.downgrade {
            let mistake =
                Mistake::new(format!("version {} is not newer than {}, which runs", release.version, self.running));
            return Err(mistake.hint("--downgrade installs it all the same").into());
        }
        if release.version == self.running {
            return Err(Mistake::new(format!("version {} runs already", release.version)).into());
        }
        if let Some(minimum) = release.minimum_version.as_ref().filter(|minimum| minimum.is_newer_than(&self.running)) {
            return Err(Mistake::new(format!(
                "version {} can be installed by {minimum} and later ones only",
                release.version
            ))
            .into());
        }
        match self.memory.failure(&release.version) {
            Some(reason) if !wishes.again => {
                let mistake =
                    Mistake::new(format!("version {} was tried before and failed: {reason}", release.version));
                Err(mistake.hint("wait for a newer one, or try again with --again").into())
            }
            _ => Ok(Some(release)),
        }
    }

    /// The ESP has room for the new UKI once the other system's is gone.
    fn check_room(&self, release: &Release) -> anyhow::Result<()> {
        let esp = Folder::here();
        let files = esp.list().context("reading the ESP")?;
        let goes = |name: &str| name == UNFINISHED || self.systems.others.iter().any(|other| other.to_string() == name);
        let freed: u64 = files.iter().filter(|file| goes(&file.name)).map(|file| file.size).sum();
        let (there, needed) = (esp.free()? + freed, release.uki.size);
        if there >= needed {
            return Ok(());
        }
        let mistake =
            Mistake::new(format!("the ESP has room for {}, and the new kernel needs {}", Size(there), Size(needed)));
        Err(mistake.hint("remove from /boot what you have put there").into())
    }

    fn disk(&self) -> anyhow::Result<FileDevice> {
        let name = boot_disk::name()?;
        let disk = Machine::here().disk_named(&name)?;
        let path = Path::new("/dev").join(&name);
        FileDevice::open_in_use(&path, disk.sector).with_context(|| format!("opening {}", path.display()))
    }

    /// Has an older system start next: the boot loader would take the newer one.
    fn prefer(&self, release: &Release) -> anyhow::Result<()> {
        if release.version.is_newer_than(&self.running) {
            return Ok(());
        }
        give_up(&self.systems)
    }

    /// Writes down what comes next.
    fn note(&self, release: &Release, findings: &[Finding]) -> anyhow::Result<()> {
        let root = Path::new("/");
        let mut memory = Memory::read(root)?;
        memory.forget_failure(&release.version);
        memory.write(root)?;
        let waits = waits_for_restart(&release.version);
        status::record(root, TOPIC, &[findings, &[waits]].concat())
    }
}

/// Tells the watcher, and has the TPM trust what was installed.
struct Commit<'a> {
    client: &'a Client<'a>,
    release: &'a Release,
    watch: &'a dyn Watch,
    findings: RefCell<Vec<Finding>>,
}

impl Hooks for Commit<'_> {
    fn begin(&self, stage: Stage, bytes: u64) {
        self.watch.begin(stage, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.watch.advance(bytes);
    }

    /// What cannot be foreseen costs a passphrase at the next start, and is no reason to stay without the update.
    fn before_commit(&self, uki: &str) -> anyhow::Result<()> {
        let root = Path::new("/");
        if !Tpm::at(root).is_there() || Policy::read(root)?.is_none() {
            return Ok(());
        }
        let Some(running) = &self.client.systems.running else { return Ok(()) };
        let folder = Path::new(ESP).join(UKI_FOLDER);
        let (old, new) = (folder.join(running.to_string()), folder.join(uki));
        let allowed = event_log::after_update(root, &[(&old, &new)])
            .and_then(|pcrs| Policy::allow(root, self.release.version.as_str(), pcrs));
        if let Err(error) = allowed {
            self.findings.borrow_mut().push(Finding {
                id: "update-needs-a-key".into(),
                severity: Severity::Warning,
                message: format!(
                    "after the restart into {} the TPM will not open the data by itself: {error:#}",
                    self.release.version
                ),
                next: "have a passphrase or the recovery key at hand; then `firstboot keys repair`".into(),
            });
        }
        Ok(())
    }
}

/// Goes back to the other system at the next restart, and does not install this one again by itself.
///
/// # Errors
/// There is no other system, or the ESP cannot be written.
pub fn rollback() -> anyhow::Result<Version> {
    let root = Path::new("/");
    let systems = esp::systems(&Folder::here(), &command_line::root_hash()?)?;
    let Some(fallback) = systems.fallback().cloned() else {
        return Err(Mistake::new("there is no other system on the boot medium that could start").into());
    };
    let running = systems.running.as_ref().context("the running system's UKI is not on the ESP")?;
    let mut memory = Memory::read(root)?;
    memory.forget_failure(&running.version);
    memory.remember_failure(&running.version, "its owner went back");
    memory.write(root)?;
    give_up(&systems)?;
    status::record(root, TOPIC, &[waits_for_restart(&fallback.version)])?;
    Ok(fallback.version)
}

fn give_up(systems: &Systems) -> anyhow::Result<()> {
    systems.give_up().map_or(Ok(()), |rename: Rename| esp::rename(&Folder::here(), &rename))
}

fn waits_for_restart(version: &Version) -> Finding {
    Finding {
        id: "update-waits-for-restart".into(),
        severity: Severity::Notice,
        message: format!("version {version} is installed"),
        next: "restart when it suits you: `systemctl reboot`".into(),
    }
}
