//! The same bytes whoever builds, wherever, whenever; and without any right that an ordinary user has not.
//!
//! One build differs from that of the test image in all of this at once: user, umask, time zone, locale, clock, number
//! of cores, project and cache folders, order and times of files, toolchain and crates in other folders, and a cache
//! that holds packages and ZFS modules only. So one build pays for all; and it is killed some times before it may finish.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use larder_tests::{BOOT, OrdinaryUser, Slot, image, larder, workspace};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// How often the build is killed, and after how many milliseconds at the latest.
const KILLS: u32 = 5;
const LATEST: u64 = 12_000;

/// Spaces and letters beyond ASCII, and deeper than any checkout.
const FOLDER: &str = "far away/über den Wolken/a/b/c/d/e/f/g/h";

#[test]
fn an_ordinary_user_elsewhere_builds_the_same_bytes_and_boots_them() -> Result<()> {
    let reference = image()?;
    let user = OrdinaryUser::begin(FOLDER)?;
    let place = Place::prepare(&user)?;
    let host = HostWatch::begin()?;

    place.is_killed_some_times()?;
    let built = place.build()?;
    place.boots()?;

    host.is_unchanged()?;
    for entry in fs_err::read_dir(place.out())? {
        let entry = entry?;
        ensure!(entry.metadata()?.uid() == user.uid().as_raw(), "{} is not the user's", entry.path().display());
    }
    is_the_same(&reference, &built)
}

/// Fails with the first differing partition and file.
fn is_the_same(one: &Path, two: &Path) -> Result<()> {
    let found = compared(one, two)?;
    ensure!(found.is_none(), "{} and {} differ: {}", one.display(), two.display(), found.unwrap_or_default());
    Ok(())
}

fn compared(one: &Path, two: &Path) -> Result<Option<String>> {
    let output = Command::new(larder()?).arg("inspect").arg(one).arg("--compare").arg(two).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) if !said.is_empty() => Ok(Some(said)),
        _ => bail!("comparing failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_byte_of_a_file_that_differs_is_named_with_its_file_and_partition() -> Result<()> {
    let reference = image()?;
    let folder = tempfile::tempdir_in(workspace().join("target"))?;
    let other = folder.path().join("other.img");
    ensure!(
        Command::new("cp").arg("--sparse=always").arg(&reference).arg(&other).status()?.success(),
        "copying failed"
    );
    let text = b"ID=larder\n";
    let root = reference.with_extension("root.erofs");
    let inside = find(&fs_err::read(root)?, text).context("the root has no os-release")?;
    let report = larder::image::inspect::inspect(&reference)?;
    let root = report.partitions.iter().find(|partition| partition.erofs.is_some()).context("there is no root")?;
    let at = root.start + inside as u64;
    let file = fs_err::OpenOptions::new().read(true).write(true).open(&other)?;
    let mut present = [0; 10];
    file.file().read_exact_at(&mut present, at)?;
    ensure!(&present == text, "the root is not where it should be");
    file.file().write_all_at(b"ID=debian\n", at)?;
    let found = compared(&reference, &other)?.context("no difference was found")?;
    ensure!(found.starts_with(&format!("partition {} (larder_", root.number)), "{found}");
    ensure!(found.contains("): /usr/lib/os-release: content, from byte "), "{found}");
    Ok(())
}

fn find(content: &[u8], text: &[u8]) -> Option<usize> {
    content.windows(text.len()).position(|window| window == text)
}

/// Where the ordinary user builds.
struct Place<'a> {
    user: &'a OrdinaryUser,
    larder: PathBuf,
    clock: PathBuf,
}

impl<'a> Place<'a> {
    fn prepare(user: &'a OrdinaryUser) -> Result<Self> {
        let program = user.folder().join("larder");
        fs_err::copy(larder()?, &program)?;
        let place = Self { user, larder: program, clock: user.folder().join("libfaketime.so") };
        copy_project(&place.project())?;
        copy_cache(&place.cache())?;
        copy_clock(&place.clock)?;
        user.give(user.folder())?;
        Ok(place)
    }

    fn project(&self) -> PathBuf {
        self.user.folder().join("the project of somebody else")
    }

    fn cache(&self) -> PathBuf {
        self.user.folder().join("cache")
    }

    fn out(&self) -> PathBuf {
        self.user.folder().join("out")
    }

    /// larder in an odd environment.
    fn larder(&self, args: &[&str]) -> Command {
        let mut command = self.user.command(Path::new("/bin/sh"));
        command.args(["-c", r#"umask 077; exec "$@""#, "sh"]).arg(&self.larder);
        command.arg("--project").arg(self.project()).args(args);
        command.env("LARDER_CACHE_DIR", self.cache());
        command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8");
        command.env("SOURCE_DATE_EPOCH", "1").env("TMPDIR", "/tmp");
        // Ten years and some hours ahead for every program that a build runs.
        command.env("LARDER_PRELOAD", &self.clock).env("FAKETIME", "+87654h").env("NO_FAKE_STAT", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }

    fn larder_build(&self) -> Command {
        let mut build =
            self.larder(&["build", "--profile", "qemu", "--version", "0.1.0", "--locked", "--offline", "--out"]);
        build.arg(self.out());
        build
    }

    /// Builds that end by SIGKILL at moments that nobody chose: each goes on where the one before was.
    fn is_killed_some_times(&self) -> Result<()> {
        // Whatever a killed build leaves behind becomes a child of this process, which can wait for it.
        nix::sys::prctl::set_child_subreaper(true)?;
        let any = || Ok(RandomState::new().build_hasher().finish());
        let mut state = std::env::var("LARDER_TEST_SEED").map_or_else(|_| any(), |seed| seed.parse())?;
        println!("the same moments again: LARDER_TEST_SEED={state}");
        for _ in 0..KILLS {
            // Knuth's MMIX
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let moment = Duration::from_millis((state >> 33) % LATEST);
            println!("killed after {moment:?}");
            let mut build = self.larder_build();
            let mut build = build.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let group = Pid::from_raw(i32::try_from(build.id())?);
            std::thread::sleep(moment);
            killpg(group, Signal::SIGKILL)?;
            build.wait()?;
            while waitpid(Pid::from_raw(-group.as_raw()), None).is_ok() {}
        }
        Ok(())
    }

    fn build(&self) -> Result<PathBuf> {
        let mut build = self.larder_build();
        let start = Instant::now();
        let output = on_one_core(|| build.output().context("starting larder"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the build failed: {said}");
        println!("built in {:.1} s\n{said}", start.elapsed().as_secs_f64());
        let path = String::from_utf8(output.stdout)?;
        Ok(PathBuf::from(path.trim()))
    }

    /// `larder try`, until the console offers a shell.
    fn boots(&self) -> Result<()> {
        let _slot = Slot::take()?;
        let mut larder = self.larder(&["try", "--locked", "--offline"]);
        let larder = larder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut console = Console::of(larder)?;
        console.wait_for("root@larder:~#")?;
        // The terminal shows what is typed; this line differs from its answer.
        console.type_in(b"echo uid $(id -u) of $(hostname)\n")?;
        console.wait_for("uid 0 of larder")?;
        // Ctrl-A X
        console.type_in(b"\x01x")?;
        console.end()
    }
}

/// The console of a VM that `larder try` runs.
struct Console {
    larder: Child,
    seen: std::sync::Arc<Mutex<String>>,
}

impl Console {
    fn of(mut larder: Child) -> Result<Self> {
        let mut out = larder.stdout.take().context("larder has no output")?;
        let seen = std::sync::Arc::<Mutex<String>>::default();
        let shared = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                shared
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Ok(Self { larder, seen })
    }

    fn wait_for(&mut self, text: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if seen.contains(text) {
                return Ok(());
            }
            ensure!(self.larder.try_wait()?.is_none(), "larder has ended: {seen}");
            ensure!(start.elapsed() < BOOT, "{text:?} does not appear: {seen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn type_in(&mut self, keys: &[u8]) -> Result<()> {
        let stdin = self.larder.stdin.as_mut().context("larder has no input")?;
        Ok(stdin.write_all(keys).and_then(|()| stdin.flush())?)
    }

    fn end(mut self) -> Result<()> {
        let status = self.larder.wait()?;
        ensure!(status.success(), "larder try ended with {status}");
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.larder.kill();
        let _ = self.larder.wait();
    }
}

/// Runs on one core what this thread starts.
fn on_one_core<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    one.set((0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).context("there is no CPU")?)?;
    sched_setaffinity(this, &one)?;
    let result = run();
    sched_setaffinity(this, &all)?;
    result
}

/// What of a checkout a build reads, in another order and with other times.
fn copy_project(to: &Path) -> Result<()> {
    for part in [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "profiles",
        "overlays",
        "firstboot",
        "builder",
        "qemu",
        "tests",
    ] {
        let entries = walkdir::WalkDir::new(workspace().join(part)).sort_by(|a, b| b.file_name().cmp(a.file_name()));
        for (number, entry) in entries.into_iter().enumerate() {
            let entry = entry?;
            let target = to.join(entry.path().strip_prefix(workspace())?);
            if entry.file_type().is_dir() {
                fs_err::create_dir_all(&target)?;
            } else if entry.path_is_symlink() {
                std::os::unix::fs::symlink(fs_err::read_link(entry.path())?, &target)?;
            } else {
                fs_err::create_dir_all(target.parent().unwrap_or(to))?;
                fs_err::copy(entry.path(), &target)?;
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + number as u64);
                fs_err::OpenOptions::new().write(true).open(&target)?.set_modified(time)?;
            }
        }
    }
    Ok(())
}

/// The locked packages and the ZFS modules of this user's cache: fetching and compiling those takes minutes.
fn copy_cache(to: &Path) -> Result<()> {
    let output = Command::new(larder()?).args(["cache", "dir"]).current_dir(workspace()).output()?;
    let from = PathBuf::from(String::from_utf8(output.stdout)?.trim()).join("v1");
    let to = to.join("v1");
    for digest in locked()?.iter().rev() {
        let path = Path::new("blobs").join(&digest[..2]).join(digest);
        if from.join(&path).exists() {
            fs_err::create_dir_all(to.join(&path).parent().unwrap_or(&to))?;
            fs_err::copy(from.join(&path), to.join(&path))?;
        }
    }
    ensure!(Command::new("cp").arg("-r").arg(from.join("zfs-v1")).arg(&to).status()?.success(), "copying failed");
    Ok(())
}

/// The digests in the locks of the profile and of all tools trees.
fn locked() -> Result<BTreeSet<String>> {
    let mut digests = BTreeSet::new();
    for entry in walkdir::WalkDir::new(workspace().join("profiles")) {
        let entry = entry?;
        let path = entry.path();
        let is_tools = path.parent().is_some_and(|folder| folder.ends_with("tools"));
        if path.ends_with("qemu.lock") || (is_tools && path.extension().is_some_and(|extension| extension == "lock")) {
            let text = fs_err::read_to_string(path)?;
            digests.extend(
                text.lines()
                    .filter_map(|line| Some(line.strip_prefix("sha256 = \"")?.trim_end_matches('"').to_owned())),
            );
        }
    }
    Ok(digests)
}

/// The library that moves the clock, from the tools tree of that name.
fn copy_clock(to: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut larder = Command::new(larder()?);
    larder.args(["tools", "run", "clock", "--bind"]).arg(folder.path()).args(["--", "cp"]);
    larder.arg("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1").arg(folder.path()).current_dir(workspace());
    ensure!(larder.status()?.success(), "there is no libfaketime");
    fs_err::copy(folder.path().join("libfaketime.so.1"), to)?;
    Ok(())
}

/// Looks at the host's mounts and loop devices from time to time.
struct HostWatch {
    before: Host,
    seen: std::sync::Arc<Mutex<BTreeSet<String>>>,
    over: std::sync::Arc<AtomicBool>,
}

type Host = BTreeMap<String, String>;

impl HostWatch {
    fn begin() -> Result<Self> {
        let watch = Self { before: host()?, seen: Default::default(), over: Default::default() };
        let (before, seen, over) = (watch.before.clone(), watch.seen.clone(), watch.over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if let Ok(now) = host() {
                    let new = now.into_iter().filter(|(key, value)| before.get(key) != Some(value));
                    seen.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .extend(new.map(|(key, value)| format!("{key} {value}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Ok(watch)
    }

    fn is_unchanged(&self) -> Result<()> {
        ensure!(host()? == self.before, "the host is another: {:?}, was {:?}", host()?, self.before);
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ensure!(seen.is_empty(), "meanwhile the host had: {seen:?}");
        Ok(())
    }
}

impl Drop for HostWatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Mounts by their numbers, and loop devices that have a file.
fn host() -> Result<Host> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    let mut host: Host = mounts
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, rest)| (id.to_owned(), rest.to_owned()))
        .collect();
    for entry in fs_err::read_dir("/sys/block")? {
        let file = entry?.path().join("loop/backing_file");
        if let Ok(backing) = fs_err::read_to_string(&file) {
            host.insert(file.display().to_string(), backing);
        }
    }
    Ok(host)
}
