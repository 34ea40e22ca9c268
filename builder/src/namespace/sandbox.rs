//! Running programs of a tree (the image being made, or a tools tree) as if it were the system.
//!
//! A sandbox is described as data, handed to a fresh copy of larder, which has one thread and may
//! therefore unshare: `sandbox-exec` takes new process, mount, network, IPC and host-name namespaces
//! and starts `sandbox-init` as their first process, which mounts, pivots and runs the program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Output};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::mounts::mount_overlay;
use crate::report::{self, Mistake};

/// Names a shared library that every program in a sandbox loads first: to watch what maintainer scripts do, or to
/// show them another clock. Variables of libfaketime are handed on for that.
const PRELOAD: &str = "LARDER_PRELOAD";
/// Where it is inside.
const PRELOADED: &str = "/run/larder-preload.so";

/// A folder of the host that is visible inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    source: PathBuf,
    target: PathBuf,
    writable: bool,
}

/// What `/` is inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootTree {
    /// Folders, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Where changes go: (upper, work). Without it they go to memory and are forgotten.
    pub upper: Option<(PathBuf, PathBuf)>,
}

/// A tree with what is mounted into it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sandbox {
    root: RootTree,
    binds: Vec<Bind>,
    network: bool,
    environment: Vec<(String, String)>,
    directory: PathBuf,
}

impl Sandbox {
    /// A sandbox without network, with a small fixed environment.
    pub fn new(root: RootTree) -> Self {
        let environment = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "linux"),
        ];
        let sandbox = Self {
            root,
            binds: Vec::new(),
            network: false,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            directory: "/".into(),
        };
        match std::env::var_os(PRELOAD) {
            Some(library) if !library.is_empty() => sandbox.preloading(Path::new(&library)),
            _ => sandbox,
        }
    }

    fn preloading(self, library: &Path) -> Self {
        let sandbox = self.bind(library, Path::new(PRELOADED)).env("LD_PRELOAD", PRELOADED);
        let its_own = std::env::vars().filter(|(name, _)| name.starts_with("FAKETIME") || name == "NO_FAKE_STAT");
        its_own.fold(sandbox, |sandbox, (name, value)| sandbox.env(&name, value))
    }

    /// Shows a host path at the same or another path inside, read-only.
    #[must_use]
    pub fn bind(mut self, source: &Path, target: &Path) -> Self {
        self.binds.push(Bind { source: source.to_owned(), target: target.to_owned(), writable: false });
        self
    }

    /// Shows a host path inside, writable.
    #[must_use]
    pub fn bind_writable(mut self, source: &Path, target: &Path) -> Self {
        self.binds.push(Bind { source: source.to_owned(), target: target.to_owned(), writable: true });
        self
    }

    /// Leaves the host's network visible.
    #[must_use]
    pub fn with_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the working folder (a path inside).
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = directory.to_owned();
        self
    }

    /// Runs `argv` quietly; a failure carries the end of what the program said.
    pub fn run<A: AsRef<str>>(&self, argv: &[A]) -> anyhow::Result<Vec<u8>> {
        let (program, args) = argv.split_first().context("no program to run")?;
        self.command(program.as_ref()).args(args.iter().map(AsRef::as_ref)).run()
    }

    /// A command inside.
    pub fn command(&self, program: &str) -> SandboxCommand<'_> {
        SandboxCommand { sandbox: self, argv: vec![program.into()] }
    }
}

/// A program to run inside a sandbox.
#[derive(Debug)]
pub struct SandboxCommand<'a> {
    sandbox: &'a Sandbox,
    argv: Vec<OsString>,
}

impl SandboxCommand<'_> {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// The command as std sees it, for callers with wishes about its streams.
    pub fn to_std(&self) -> anyhow::Result<Command> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("sandbox-exec").arg(serde_json::to_string(self.sandbox)?).args(&self.argv);
        Ok(command)
    }

    /// Runs quietly; a failure carries the end of what the program said.
    pub fn run(&self) -> anyhow::Result<Vec<u8>> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = [output.stdout, output.stderr].concat();
        Err(report::program_failed(&self.shown(), output.status, &said))
    }

    /// Runs quietly; how it ended and what it said, for callers who read a failure's complaints.
    pub fn output(&self) -> anyhow::Result<Output> {
        self.to_std()?.output().with_context(|| format!("starting {}", self.shown()))
    }

    /// Runs with this process's streams.
    pub fn status(&self) -> anyhow::Result<ExitStatus> {
        self.to_std()?.status().with_context(|| format!("starting {}", self.shown()))
    }

    fn shown(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        format!("`{}`", words.join(" "))
    }
}

/// The hidden verb `sandbox-exec`: new namespaces, then `sandbox-init` as their first process.
pub fn exec_sandbox(spec: &str, argv: &[OsString]) -> anyhow::Result<ExitCode> {
    let sandbox: Sandbox = serde_json::from_str(spec).context("reading the sandbox's description")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tying the sandbox to its parent")?;
    let mut namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !sandbox.network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    nix::sched::unshare(namespaces).context("entering the sandbox's namespaces")?;
    let status = Command::new("/proc/self/exe")
        .arg("sandbox-init")
        .arg(spec)
        .args(argv)
        .status()
        .context("starting the sandbox's first process")?;
    Ok(exit_code(status))
}

/// The hidden verb `sandbox-init`: builds the sandbox's `/`, moves there and runs the program.
pub fn init_sandbox(spec: &str, argv: &[OsString]) -> anyhow::Result<ExitCode> {
    let sandbox: Sandbox = serde_json::from_str(spec).context("reading the sandbox's description")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tying the sandbox to its parent")?;
    nix::unistd::sethostname("larder").context("naming the sandbox's host")?;
    mount(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    // A folder that every Linux has and no tree or bind comes from: only this namespace sees what covers it.
    let top = Path::new("/sys");
    mount(Some("larder"), top, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    let root = mount_root(&sandbox.root, top, &sandbox.binds)?;
    enter_root(&root)?;
    std::env::set_current_dir(&sandbox.directory)
        .with_context(|| format!("entering {} inside the sandbox", sandbox.directory.display()))?;
    let (program, args) = argv.split_first().context("no program to run")?;
    let status = Command::new(program)
        .args(args)
        .env_clear()
        .envs(sandbox.environment.iter().map(|(name, value)| (name, value)))
        .status()
        .map_err(|error| not_started(&program.to_string_lossy(), error))?;
    // As first process of the namespace, leaving ends every process that the program left behind.
    Ok(exit_code(status))
}

/// A name that is not there is most likely mistyped.
fn not_started(program: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        let missing = Mistake::new(format!("the tree has no program `{program}`"));
        return missing
            .hint("check its name, and that a package of the tree has it, with its interpreter or loader")
            .into();
    }
    anyhow::Error::from(error).context(format!("starting {program} inside the sandbox"))
}

fn mount_root(tree: &RootTree, top: &Path, binds: &[Bind]) -> anyhow::Result<PathBuf> {
    let root = top.join("root");
    fs_err::create_dir(&root)?;
    let (upper, work) = match &tree.upper {
        Some((upper, work)) => (upper.clone(), work.clone()),
        None => (top.join("upper"), top.join("work")),
    };
    for folder in [&upper, &work] {
        fs_err::create_dir_all(folder)?;
    }
    mount_overlay(&tree.lowers, Some((&upper, &work)), &root)?;
    mount_proc(&root)?;
    mount_dev(&root.join("dev"))?;
    mount_tmpfs(&root.join("tmp"), "mode=1777")?;
    mount_tmpfs(&root.join("run"), "mode=0755")?;
    for bind in binds {
        let target = root.join(bind.target.strip_prefix("/").unwrap_or(&bind.target));
        mount_bind(&bind.source, &target, bind.writable)?;
    }
    Ok(root)
}

fn mount(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> anyhow::Result<()> {
    nix::mount::mount(source, target, kind, flags, data)
        .with_context(|| format!("mounting {} at {}", kind.or(source).unwrap_or("flags"), target.display()))
}

fn mount_tmpfs(target: &Path, options: &str) -> anyhow::Result<()> {
    fs_err::create_dir_all(target)?;
    mount(Some("larder"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
}

/// A fresh /proc shows only the sandbox's processes. Where the host's own /proc is partly covered
/// (a container), the kernel refuses one (mount_too_revealing), and the host's has to do.
fn mount_proc(root: &Path) -> anyhow::Result<()> {
    let target = root.join("proc");
    fs_err::create_dir_all(&target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &target, Some("proc"), flags, None).or_else(|_| mount_bind(Path::new("/proc"), &target, true))
}

/// Device nodes cannot be made in a user namespace, so the host's harmless ones are shown.
fn mount_dev(target: &Path) -> anyhow::Result<()> {
    mount_tmpfs(target, "mode=0755")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty", "kvm"] {
        let source = Path::new("/dev").join(name);
        if source.exists() {
            fs_err::write(target.join(name), "")?;
            mount_bind(&source, &target.join(name), true)?;
        }
    }
    for (name, link) in
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")]
    {
        fs_err::os::unix::fs::symlink(link, target.join(name))?;
    }
    mount_tmpfs(&target.join("shm"), "mode=1777")?;
    let pts = target.join("pts");
    fs_err::create_dir(&pts)?;
    mount(
        Some("devpts"),
        &pts,
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=620"),
    )
}

fn mount_bind(source: &Path, target: &Path, writable: bool) -> anyhow::Result<()> {
    if source.is_dir() {
        fs_err::create_dir_all(target)?;
    } else if !target.exists() {
        if let Some(parent) = target.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(target, "")?;
    }
    nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("showing {} at {}", source.display(), target.display()))?;
    if writable {
        return Ok(());
    }
    // Flags that the host set (nosuid, nodev) are locked in a user namespace and must be repeated.
    let locked = nix::sys::statvfs::statvfs(target)?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for (have, keep) in [
        (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (nix::sys::statvfs::FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (nix::sys::statvfs::FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if locked.contains(have) {
            flags |= keep;
        }
    }
    mount(None, target, None, flags, None)
}

/// pivot_root(2) with the old root stacked on the new one, then dropped.
fn enter_root(root: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(root).with_context(|| format!("entering {}", root.display()))?;
    nix::unistd::pivot_root(".", ".").context("pivoting into the sandbox's root")?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).context("leaving the host's root")?;
    Ok(())
}

/// A child's exit status as our own; 128 + signal as shells do.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
