//! An ordinary user of this machine, far away from the one who runs the tests: another home, another toolchain, nothing
//! in `PATH` but what Rust and namespaces need.
//!
//! Where the tests run as root, the user is made for one test, with subordinate ids, and removed after it. Elsewhere
//! whoever runs the tests is an ordinary user already.

mod id_maps;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fs_err::File;
use nix::unistd::{Uid, User, geteuid};

/// One at a time; a test that was killed leaves it, and the next one makes it anew.
const NAME: &str = "larder-tester";

/// A user with a folder, and the programs that a build needs.
#[derive(Debug)]
pub struct OrdinaryUser {
    user: User,
    /// A folder of the user's own.
    folder: PathBuf,
    /// Programs in `PATH`.
    bin: PathBuf,
    made: bool,
    _lock: File,
    _temporary: Option<tempfile::TempDir>,
}

impl OrdinaryUser {
    /// Makes the user, if need be, with a folder of this name.
    pub fn begin(folder: &str) -> Result<Self> {
        let lock = File::create(std::env::temp_dir().join(format!("larder-tester-{}", geteuid())))?;
        lock.file().lock().context("waiting for another test's user")?;
        let made = geteuid().is_root();
        let (user, temporary) = if made {
            (make_user()?, None)
        } else {
            let user = User::from_uid(geteuid())?.context("this user is not in /etc/passwd")?;
            (user, Some(tempfile::tempdir()?))
        };
        let home = temporary.as_ref().map_or_else(|| user.dir.clone(), |folder| folder.path().to_owned());
        let (folder, bin) = (home.join(folder), home.join("bin"));
        fs_err::create_dir_all(&folder)?;
        fs_err::create_dir_all(&bin)?;
        let this = Self { user, folder, bin, made, _lock: lock, _temporary: temporary };
        this.take_programs(&home)?;
        this.give(&home)?;
        Ok(this)
    }

    /// The user's number.
    pub fn uid(&self) -> Uid {
        self.user.uid
    }

    /// A folder of the user's own, on the way to which names are strange.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the user the owner of everything below `path`.
    pub fn give(&self, path: &Path) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        let owner = format!("{}:{}", self.user.uid, self.user.gid);
        run(Command::new("chown").args(["--recursive", "--no-dereference", &owner]).arg(path))
    }

    /// A command of the user, with nothing of this process's environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", &self.bin).env("HOME", &self.folder).current_dir(&self.folder);
        command.env("CARGO_HOME", self.bin.with_file_name("cargo")).env("CARGO_NET_OFFLINE", "true");
        if self.made {
            // Root's groups go with this too (std, CommandExt::uid).
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
        command
    }

    /// Puts into `PATH` what a host needs, and nothing else: Rust, a linker, and the programs that map ids.
    fn take_programs(&self, home: &Path) -> Result<()> {
        let rust = self.toolchain(home)?;
        for program in ["rustc", "cargo"] {
            symlink(rust.join("bin").join(program), self.bin.join(program))?;
        }
        for program in ["cc", "ld", "as"] {
            symlink(find(program).with_context(|| format!("this host has no {program}"))?, self.bin.join(program))?;
        }
        copy_cargo_home(&home.join("cargo"))?;
        match (find("newuidmap"), find("newgidmap")) {
            (Some(uids), Some(gids)) => {
                symlink(uids, self.bin.join("newuidmap"))?;
                symlink(gids, self.bin.join("newgidmap"))?;
            }
            _ => id_maps::serve(&self.bin, self.user.uid)?,
        }
        Ok(())
    }

    /// Where rustc and cargo are; linked into the user's home when they are in a folder that is closed to the user.
    fn toolchain(&self, home: &Path) -> Result<PathBuf> {
        let output =
            Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::build::workspace()).output()?;
        let sysroot = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let mut test = Command::new("/usr/bin/test");
        test.arg("-x").arg(sysroot.join("bin/rustc"));
        if self.made {
            test.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
        if test.status()?.success() {
            return Ok(sysroot);
        }
        let copy = home.join("rust");
        fs_err::create_dir(&copy)?;
        for part in ["bin", "lib"] {
            let (from, to) = (sysroot.join(part), copy.join(part));
            let linked = Command::new("cp").args(["--archive", "--link"]).arg(&from).arg(&to).output()?;
            if !linked.status.success() {
                let _ = fs_err::remove_dir_all(&to);
                run(Command::new("cp").arg("--archive").arg(&from).arg(&to))?;
            }
        }
        Ok(copy)
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        if self.made {
            let _ = remove_user();
        }
    }
}

fn make_user() -> Result<User> {
    remove_user()?;
    run(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", NAME]))?;
    let user = User::from_name(NAME)?.context("the user that was made is not there")?;
    // useradd gives a range where login.defs(5) says so.
    if !fs_err::read_to_string("/etc/subuid").unwrap_or_default().contains(&format!("{NAME}:")) {
        let range = "524288-589823";
        run(Command::new("usermod").args(["--add-subuids", range, "--add-subgids", range, NAME]))?;
    }
    fs_err::set_permissions(&user.dir, PermissionsExt::from_mode(0o755))?;
    Ok(user)
}

fn remove_user() -> Result<()> {
    if User::from_name(NAME)?.is_none() {
        return Ok(());
    }
    // A killed test may have left processes, for which userdel waits. That there are none is no failure.
    Command::new("pkill").args(["--signal", "KILL", "--uid", NAME]).status()?;
    // It complains about a mail spool that never was.
    let output = Command::new("userdel").args(["--remove", "--force", NAME]).output()?;
    ensure!(User::from_name(NAME)?.is_none(), "userdel: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Crates for a build without network. Their sources are unpacked anew.
fn copy_cargo_home(to: &Path) -> Result<()> {
    let default = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let from = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(default).context("there is no CARGO_HOME")?;
    fs_err::create_dir_all(to.join("registry"))?;
    for part in ["registry/cache", "registry/index", "config.toml"] {
        if from.join(part).exists() {
            run(Command::new("cp").arg("--recursive").arg(from.join(part)).arg(to.join(part)))?;
        }
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())?;
    fs_err::canonicalize(found).ok()
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
