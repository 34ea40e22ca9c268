//! Entering a private user and mount namespace (user_namespaces(7)).

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, getgid, getpid, getuid, setgroups, setresgid, setresuid};

use super::hurdle::Kernel;
use super::ids::Mapping;
use crate::report::Mistake;

/// Makes the calling process root of a new user and mount namespace. It must be single threaded.
///
/// # Errors
/// A [`Mistake`] that names what to enable when the host allows no user namespaces.
pub fn enter() -> anyhow::Result<()> {
    // What is missing is better told before anything is begun.
    Mapping::find(getuid())?;
    let mut mapper = Mapper::start()?;
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Kernel::running().refusal(errno))?;
    mapper.map()?;
    become_root().map_err(|errno| match Kernel::running().powerless(errno) {
        Some(mistake) => mistake.into(),
        None => anyhow::Error::from(errno).context("becoming root of the namespace"),
    })?;
    // Modes come from packages and overlays alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

fn become_root() -> Result<(), Errno> {
    setgroups(&[])?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    // Nothing that is mounted from here on may reach the host.
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// A process that stays outside of the namespace: only there does it have the right to write its maps.
struct Mapper(Child);

impl Mapper {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["map-ids", &getpid().to_string(), &getuid().to_string(), &getgid().to_string()]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn().context("starting the id mapper")?))
    }

    /// Lets it write the maps of this process, which has unshared.
    fn map(&mut self) -> anyhow::Result<()> {
        let mut ready = self.0.stdin.take().context("opening the id mapper's input")?;
        ready.write_all(b"x").context("telling the id mapper to go on")?;
        drop(ready);
        let mut said = String::new();
        self.0.stderr.take().context("opening the id mapper's output")?.read_to_string(&mut said)?;
        if self.0.wait().context("waiting for the id mapper")?.success() {
            return Ok(());
        }
        // It has said what to do, as larder does.
        let (what, hint) = said.trim().split_once("\n\nhint: ").unwrap_or((said.trim(), ""));
        Err(Mistake::new(what.trim_start_matches("error: ")).hint(hint).into())
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // It may still wait for a namespace that does not come.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hidden verb `map-ids`: waits until `pid` has unshared, then writes its id maps.
pub fn map_ids(pid: u32, uid: u32, gid: u32) -> anyhow::Result<()> {
    std::io::stdin().read_exact(&mut [0]).context("waiting for the namespace")?;
    Mapping::find(Uid::from_raw(uid))?.apply(pid, [uid, gid])
}
