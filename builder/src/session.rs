//! One run of larder: where its data is, the store, the network, and how it was told to behave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use indicatif::HumanBytes;
use jiff::Timestamp;
use rayon::prelude::*;

use crate::archive::{self, Archive, SignedRelease, Universe};
use crate::deb::{self, Deb, Ownership};
use crate::fetch::{Download, FetchError, Fetcher, mirror_variable};
use crate::hash::Hash;
use crate::lock::{self, Lock, Lockable, LockedPackage};
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::report::{self, Mistake};
use crate::solve::PackageRequest;
use crate::store::{Bucket, DamagedBlob, Freed, Note, Store};
use crate::tree::UnpackedPackage;

/// How far a run may go to get what it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Use the lock as it is, or fail.
    pub locked: bool,
    /// Use no network.
    pub offline: bool,
}

/// The services that every verb uses.
#[derive(Debug)]
pub struct Session {
    /// Profiles and overlays.
    pub project: Project,
    /// Everything that was fetched or made before.
    pub store: Store,
    /// Talk on stderr.
    pub progress: Progress,
    fetcher: Fetcher,
    limits: Limits,
    universes: Mutex<Vec<(Origin, Arc<Universe>)>>,
}

/// What a universe is made of. Requests that share it, as all tools trees do, share the universe.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    archives: Vec<Archive>,
    architectures: Vec<String>,
}

impl Session {
    /// A run with these limits.
    pub fn new(project: Project, store: Store, progress: Progress, limits: Limits) -> Self {
        Self { project, store, fetcher: Fetcher::new(progress.clone()), progress, limits, universes: Mutex::default() }
    }

    /// Ends a run that may have made much: what in the store is not worth its room any more goes.
    pub fn end(self) {
        let Self { store, progress, .. } = self;
        match store.tidy() {
            Ok(Freed { count: 0, .. }) => {}
            Ok(freed) => progress.note(format!(
                "{:>12} {} from the cache: {} old results",
                "Removed",
                HumanBytes(freed.bytes),
                freed.count
            )),
            // What was asked for is done.
            Err(error) => progress.note(format!("{:>12} the cache could not be tidied: {error:#}", "Note")),
        }
    }

    /// Names a profile of this project among those of all projects that share the store.
    pub fn subject(&self, profile: &str) -> String {
        let root = self.project.root();
        format!("{} {profile}", root.canonicalize().unwrap_or_else(|_| root.to_owned()).display())
    }

    /// Resolves the request against the archives as they are now, without writing anything.
    pub fn resolve(&self, request: &PackageRequest) -> anyhow::Result<Lock> {
        let universe = self.universe(request)?;
        lock::resolve(request, &universe)
    }

    /// The packages that a request may choose from: read once a run, as it takes seconds.
    fn universe(&self, request: &PackageRequest) -> anyhow::Result<Arc<Universe>> {
        let mut origin = Origin { archives: request.archives.clone(), architectures: request.architectures.clone() };
        for archive in &mut origin.archives {
            archive.mirror = mirror(archive);
        }
        let known = self.universes().iter().find(|(of, _)| *of == origin).map(|(_, universe)| universe.clone());
        if let Some(universe) = known {
            return Ok(universe);
        }
        let keys = self.project.profiles().join("archives");
        let source = Source { session: self, archives: &origin.archives, named: &request.archives };
        let universe = Universe::load(&origin.archives, &origin.architectures, &keys, Timestamp::now(), &source)?;
        let universe = Arc::new(universe);
        self.universes().push((origin, universe.clone()));
        Ok(universe)
    }

    fn universes(&self) -> MutexGuard<'_, Vec<(Origin, Arc<Universe>)>> {
        self.universes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves and writes the lock; returns the one before and the new one.
    pub fn relock(&self, lockable: &Lockable<'_>) -> anyhow::Result<(Option<Lock>, Lock)> {
        let old = Lock::read(&lockable.path)?;
        let new = self.resolve(lockable.request)?;
        if old.as_ref() != Some(&new) {
            new.write(&lockable.path, &lockable.command)?;
        }
        Ok((old, new))
    }

    /// The lock of the request with all of its packages in the store.
    ///
    /// A missing or outdated lock is made anew, and so is one whose packages the mirror and the
    /// snapshot archive dropped; what changed is printed. With [`Limits::locked`] or
    /// [`Limits::offline`] that is an error which names the command to run.
    pub fn locked_packages(&self, lockable: &Lockable<'_>) -> anyhow::Result<(Lock, Vec<FetchedPackage>)> {
        let lock = match Lock::read(&lockable.path)? {
            Some(lock) if lock.matches(lockable.request)? => lock,
            Some(_) => self.relock_aloud(lockable, "is not for what the profile asks now")?,
            None => self.relock_aloud(lockable, "does not exist")?,
        };
        match self.fetch(&lock.packages, &lockable.request.archives, lock.snapshot)? {
            Fetched::All(packages) => Ok((lock, packages)),
            Fetched::Gone(names) => {
                // Files may have gone since this run read the indices: the mirror was updated meanwhile.
                self.universes().clear();
                let lock = self.relock_aloud(lockable, &format!("names files that are gone ({})", names.join(", ")))?;
                match self.fetch(&lock.packages, &lockable.request.archives, lock.snapshot)? {
                    Fetched::All(packages) => Ok((lock, packages)),
                    Fetched::Gone(names) => Err(Mistake::new(format!("the mirror lists packages that it does not have: {}", names.join(", ")))
                        .hint("the mirror may be in the middle of an update: try again in some minutes, or set another one (LARDER_MIRROR_NAME)")
                        .into()),
                }
            }
        }
    }

    /// Whether locks may be made anew.
    pub fn may_relock(&self) -> bool {
        !self.limits.locked && !self.limits.offline
    }

    /// Makes a lock anew because of `why`, and prints what changes.
    ///
    /// # Errors
    /// A [`Mistake`] that names the command to run, where locks may not be made anew.
    pub fn relock_aloud(&self, lockable: &Lockable<'_>, why: &str) -> anyhow::Result<Lock> {
        let shown = self.project.relative(&lockable.path);
        if !self.may_relock() {
            let option = if self.limits.locked { "--locked" } else { "--offline" };
            return Err(Mistake::new(format!("{shown} {why}, and {option} forbids to make it anew"))
                .hint(format!("run `{}`", lockable.command))
                .into());
        }
        self.progress.note(format!("{shown} {why}: resolving anew"));
        let (old, new) = self.relock(lockable)?;
        let diff = old.map(|old| Lock::diff(&old, &new)).unwrap_or_default();
        if !diff.is_empty() {
            self.progress.note(diff.to_string().trim_end());
        }
        Ok(new)
    }

    /// Fetches packages of a lock of that date, as far as they are not in the store.
    pub fn fetch_packages(
        &self,
        packages: &[LockedPackage],
        archives: &[Archive],
        snapshot: Timestamp,
    ) -> anyhow::Result<()> {
        match self.fetch(packages, archives, snapshot)? {
            Fetched::All(_) => Ok(()),
            Fetched::Gone(names) => {
                Err(Mistake::new(format!("no archive has them any more: {}", names.join(", "))).into())
            }
        }
    }

    fn fetch(&self, packages: &[LockedPackage], archives: &[Archive], snapshot: Timestamp) -> anyhow::Result<Fetched> {
        let have = |package: &&LockedPackage| self.store.blob_of_size(&package.sha256, package.size).is_some();
        let missing: Vec<_> = packages.iter().filter(|package| !have(package)).collect();
        if missing.is_empty() {
            return Ok(self.fetched(packages, archives, snapshot));
        }
        if self.limits.offline {
            return Err(Mistake::new(format!(
                "not in the cache: {} of {} packages, and --offline forbids to fetch them",
                missing.len(),
                packages.len()
            ))
            .hint("run the same command once without --offline")
            .into());
        }
        let named: BTreeMap<_, _> = archives.iter().map(|archive| (archive.name.as_str(), archive)).collect();
        let downloads =
            missing.iter().map(|package| download(package, &named, snapshot)).collect::<anyhow::Result<Vec<_>>>()?;
        self.check_room(&downloads)?;
        let mut gone = Vec::new();
        for (package, result) in missing.iter().zip(self.fetcher.to_store(&self.store, &downloads)) {
            match result {
                Ok(_) => {}
                Err(FetchError::NotFound { .. }) => gone.push(format!("{} {}", package.name, package.version)),
                Err(error) => return Err(error.explain(Some(package.location().0))),
            }
        }
        if !gone.is_empty() {
            return Ok(Fetched::Gone(gone));
        }
        Ok(self.fetched(packages, archives, snapshot))
    }

    /// Downloads that cannot fit are not begun.
    fn check_room(&self, downloads: &[Download]) -> anyhow::Result<()> {
        let here =
            |download: &Download| fs_err::metadata(self.store.partial_path(&download.sha256)).map_or(0, |m| m.len());
        let needed: u64 = downloads.iter().map(|download| download.size.saturating_sub(here(download))).sum();
        let room = self.store.room()?;
        if needed <= room {
            return Ok(());
        }
        let (needed, room) = (HumanBytes(needed), HumanBytes(room));
        let what =
            format!("{}: {needed} are to be fetched, the disk has room for {room}", self.store.folder().display());
        Err(Mistake::new(what).hint(report::DISK_FULL_HINT).into())
    }

    fn fetched(&self, packages: &[LockedPackage], archives: &[Archive], snapshot: Timestamp) -> Fetched {
        let from = Arc::new((archives.to_vec(), snapshot));
        let fetched = |locked: &LockedPackage| FetchedPackage {
            locked: locked.clone(),
            file: self.store.blob_path(&locked.sha256),
            from: from.clone(),
        };
        Fetched::All(packages.iter().map(fetched).collect())
    }

    /// Unpacks packages that [`Session::locked_packages`] gave out, in their order. Those that are damaged in
    /// the store are fetched again, once.
    pub fn unpack(&self, packages: &[FetchedPackage], ownership: Ownership) -> anyhow::Result<Vec<UnpackedPackage>> {
        match self.unpack_once(packages, ownership) {
            Err(error) if error.chain().any(|cause| cause.is::<DamagedBlob>()) => self.replace_damaged(packages)?,
            result => return result,
        }
        self.unpack_once(packages, ownership)
    }

    /// Where one file is damaged, others may be too: all are read.
    fn replace_damaged(&self, packages: &[FetchedPackage]) -> anyhow::Result<()> {
        packages.par_iter().try_for_each(|FetchedPackage { locked, .. }| {
            if self.store.sound_blob(&locked.sha256)?.is_none() {
                let LockedPackage { name, version, .. } = locked;
                self.progress.note(format!("{name} {version} was damaged in the cache and has been removed"));
            }
            anyhow::Ok(())
        })?;
        let Some(first) = packages.first() else { return Ok(()) };
        let (archives, snapshot) = &*first.from;
        let locked: Vec<LockedPackage> = packages.iter().map(|package| package.locked.clone()).collect();
        self.fetch_packages(&locked, archives, *snapshot)
    }

    fn unpack_once(&self, packages: &[FetchedPackage], ownership: Ownership) -> anyhow::Result<Vec<UnpackedPackage>> {
        let debs = packages.iter().map(|FetchedPackage { locked, file, .. }| Deb {
            label: format!("{} {}", locked.name, locked.version),
            sha256: locked.sha256,
            file: file.clone(),
        });
        let debs: Vec<Deb> = debs.collect();
        let folders = deb::unpack_all(&self.store, &debs, ownership, &self.progress)?;
        let unpacked = packages.iter().zip(folders).map(|(FetchedPackage { locked, .. }, folder)| UnpackedPackage {
            name: locked.name.clone(),
            architecture: locked.architecture.clone(),
            sha256: locked.sha256,
            folder,
        });
        Ok(unpacked.collect())
    }
}

/// A package of a lock, with its file in the store.
#[derive(Debug, Clone)]
pub struct FetchedPackage {
    /// What the lock says of it.
    pub locked: LockedPackage,
    /// The .deb.
    pub file: PathBuf,
    /// Where it may be fetched again: the archives of its lock, and the lock's date.
    from: Arc<(Vec<Archive>, Timestamp)>,
}

enum Fetched {
    All(Vec<FetchedPackage>),
    Gone(Vec<String>),
}

fn download(
    package: &LockedPackage,
    archives: &BTreeMap<&str, &Archive>,
    snapshot: Timestamp,
) -> anyhow::Result<Download> {
    let (name, path) = package.location();
    let archive = archives
        .get(name)
        .with_context(|| format!("the lock names archive `{name}`, which the profile does not have"))?;
    let dated = archive.snapshot.as_ref().map(|address| {
        // The snapshot archive's form of a time; it serves the state at or before it.
        address.replace("{timestamp}", &snapshot.strftime("%Y%m%dT%H%M%SZ").to_string())
    });
    let bases = [Some(mirror(archive)), dated];
    Ok(Download {
        urls: bases.into_iter().flatten().map(|base| format!("{}/{path}", base.trim_end_matches('/'))).collect(),
        sha256: package.sha256,
        size: package.size,
        label: format!("{} {}", package.name, package.version),
    })
}

/// The archive's address: the profile's, or what the person set for this machine.
pub fn mirror(archive: &Archive) -> String {
    std::env::var(mirror_variable(&archive.name)).unwrap_or_else(|_| archive.mirror.clone())
}

/// Releases and indices by way of the store.
struct Source<'a> {
    session: &'a Session,
    /// With the addresses in use.
    archives: &'a [Archive],
    /// With the addresses that the profile names.
    named: &'a [Archive],
}

impl Source<'_> {
    fn archive_of(&self, url: &str) -> Option<&str> {
        let below =
            |mirror: &str| url.strip_prefix(mirror.trim_end_matches('/')).is_some_and(|path| path.starts_with('/'));
        self.archives.iter().find(|archive| below(&archive.mirror)).map(|archive| archive.name.as_str())
    }

    /// A suite by the address that the profile names: every other mirror of it must be as new, and another
    /// address in the profile is another archive (the snapshot of some day, say).
    fn identity(&self, archive: &str, suite: &str) -> Hash {
        let mirror = self.named.iter().find(|named| named.name == archive).map_or("", |named| &named.mirror);
        Hash::of(format!("{mirror} {suite}"))
    }
}

impl archive::Fetch for Source<'_> {
    fn release(&self, url: &str, known: Option<&SignedRelease>) -> anyhow::Result<SignedRelease> {
        let known = known.filter(|known| known.url == url);
        let validator = known.and_then(|known| known.validator.as_deref());
        // 16 MiB: trixie's has 140 KiB; a larger one is no InRelease.
        let got = self.session.fetcher.get(url, 16 << 20, validator);
        match (got.map_err(|error| error.explain(self.archive_of(url)))?, known) {
            (Some(file), _) => {
                Ok(SignedRelease { url: url.to_owned(), validator: file.validator, content: file.content })
            }
            (None, Some(known)) => Ok(known.clone()),
            (None, None) => anyhow::bail!("{url}: not modified, but nothing was known of it"),
        }
    }

    fn known_release(&self, archive: &str, suite: &str) -> Option<SignedRelease> {
        let bytes = self.session.store.note(Note::Release, &self.identity(archive, suite))?;
        SignedRelease::from_bytes(&bytes)
    }

    fn remember_release(&self, archive: &str, suite: &str, release: &SignedRelease) -> anyhow::Result<()> {
        self.session.store.set_note(Note::Release, &self.identity(archive, suite), &release.to_bytes())
    }

    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> anyhow::Result<PathBuf> {
        let Session { store, fetcher, .. } = self.session;
        if let Some(path) = store.sound_blob(sha256)? {
            return Ok(path);
        }
        let label = url.rsplit("/dists/").next().unwrap_or(url).to_owned();
        let download = Download { urls: vec![url.to_owned()], sha256: *sha256, size, label };
        fetcher.to_store(store, &[download]).remove(0).map_err(|error| error.explain(self.archive_of(url)))
    }

    fn derived(&self, recipe: &Recipe, make: &dyn Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
        let Session { store, progress, .. } = self.session;
        let path = store.entry(Bucket::Indices, recipe, make)?;
        // What the signatures vouch for is what was read when it was made.
        if store.is_sound(Bucket::Indices, &recipe.key())? {
            return Ok(path);
        }
        progress.note("an index was damaged in the cache: reading it again");
        store.entry(Bucket::Indices, recipe, make)
    }

    fn note(&self, line: &str) {
        self.session.progress.note(line);
    }
}
