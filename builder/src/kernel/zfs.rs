//! ZFS for the image's kernel, built from Debian's `zfs-dkms` sources.
//!
//! dkms itself is not run: what its recipe does (`dkms.conf` in the sources) is two commands, and those
//! run in a tools tree (`profiles/tools/zfs.toml`) that was only unpacked. The sources say which kernels
//! they know (`META`); a newer kernel is refused here instead of failing in the compiler or, worse, at
//! the user's.
//!
//! ```text
//! usr/src/zfs-2.3.9/META            name, version, range of kernels
//! usr/lib/modules/KVER/{source,build}   from linux-headers: shared sources, this kernel's configuration
//! /build/zfs                        the sources, copied: one path on every machine, as it gets into the modules
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};

use super::modinfo::ModInfo;
use crate::copy_tree::copy_tree;
use crate::namespace::Sandbox;
use crate::report::Mistake;

#[cfg(test)]
mod tests;

/// Where the working folder must be mounted in the sandbox.
pub const BUILD_FOLDER: &str = "/build";

/// The modules that the build makes, in the order in which they load.
pub const MODULES: [&str; 2] = ["spl", "zfs"];

/// Functions that the kernel's function tracer cannot stop at. For each of the others it looks up the name when the
/// module is loaded, from the start of the symbol table each time (kernel/trace/ftrace.c, test_for_valid_rec): the 7,000
/// functions of zfs.ko cost 4.7 thousand million instructions, two seconds of an N150's boot.
const WITHOUT_TRACING: &str = "CC_FLAGS_FTRACE=";

/// Runs one command of the build, as root inside the tools tree, with the working folder at
/// [`BUILD_FOLDER`] and the environment `env`.
pub trait BuildSandbox {
    /// Runs `argv` in the folder `cwd`; fails when the command does.
    fn run(&self, argv: &[&str], cwd: &str, env: &[(&str, &str)]) -> Result<()>;
}

impl BuildSandbox for Sandbox {
    fn run(&self, argv: &[&str], cwd: &str, env: &[(&str, &str)]) -> Result<()> {
        let sandbox = self.clone().directory(Path::new(cwd));
        let sandbox = env.iter().fold(sandbox, |sandbox, (name, value)| sandbox.env(name, *value));
        sandbox.run(argv).map(drop)
    }
}

/// The package that the modules are compiled from.
pub const SOURCE_PACKAGE: &str = "zfs-dkms";

/// Major and minor number of a kernel; ZFS states its range in those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelSeries(u32, u32);

impl FromStr for KernelSeries {
    type Err = anyhow::Error;

    /// Reads `6.12`, `6.12.107+deb13-amd64`, `7.0-rc1`.
    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        let series = next().zip(next()).filter(|_| text.split_once('.').is_some());
        let (major, minor) = series.with_context(|| format!("`{text}` is not a kernel version"))?;
        Ok(Self(major, minor))
    }
}

impl fmt::Display for KernelSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The sources in a tools tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZfsSources {
    /// The folder, such as `…/usr/src/zfs-2.3.9`.
    pub folder: PathBuf,
    /// Upstream version, such as `2.3.9`.
    pub version: String,
    /// The oldest kernel that it builds for.
    pub oldest_kernel: KernelSeries,
    /// The newest kernel that it was made for.
    pub newest_kernel: KernelSeries,
}

impl ZfsSources {
    /// Finds the sources below `tools/usr/src`.
    pub fn find(tools: &Path) -> Result<Self> {
        let sources = tools.join("usr/src");
        let mut folders = Vec::new();
        for entry in fs_err::read_dir(&sources)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("zfs-"))
                && path.join("META").is_file()
            {
                folders.push(path);
            }
        }
        match folders.as_slice() {
            [folder] => Self::read(folder),
            _ => anyhow::bail!("{}: {} folders hold ZFS sources, there must be one", sources.display(), folders.len()),
        }
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("META");
        let text = fs_err::read_to_string(&path)?;
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let field = |key: &str| fields.get(key).copied().with_context(|| format!("{}: has no `{key}`", path.display()));
        Ok(Self {
            folder: folder.to_owned(),
            version: field("Version")?.to_owned(),
            oldest_kernel: field("Linux-Minimum")?.parse()?,
            newest_kernel: field("Linux-Maximum")?.parse()?,
        })
    }

    /// Refuses a kernel outside the range that these sources know.
    pub fn check_kernel(&self, kernel: &str) -> Result<()> {
        let series: KernelSeries = kernel.parse()?;
        let Self { version, oldest_kernel, newest_kernel, .. } = self;
        if series > *newest_kernel {
            let what =
                format!("kernel {kernel} is newer than ZFS {version} supports ({oldest_kernel} to {newest_kernel})");
            return Err(Mistake::new(what)
                .hint("pin an older kernel or a newer zfs-dkms in the profile, then run `larder lock`")
                .into());
        }
        if series < *oldest_kernel {
            let what =
                format!("kernel {kernel} is older than ZFS {version} supports ({oldest_kernel} to {newest_kernel})");
            return Err(Mistake::new(what).hint("pin a newer kernel in the profile, then run `larder lock`").into());
        }
        Ok(())
    }
}

/// Refuses sources and programs of different versions: the ioctl interface between them is private.
pub fn check_userland(zfs_dkms: &str, zfsutils: &str) -> Result<()> {
    if zfs_dkms == zfsutils {
        return Ok(());
    }
    let what = format!(
        "the ZFS modules would be {zfs_dkms} (zfs-dkms, tools tree `zfs`), the programs {zfsutils} (zfsutils-linux, image)"
    );
    Err(Mistake::new(what).hint("run `larder lock` to bring both to the same version").into())
}

/// Refuses a tools tree, given by the names of its packages, whose kernel headers are for another kernel
/// than the image's.
pub fn check_headers<'a>(tools: impl Iterator<Item = &'a str>, kernel: &str) -> Result<()> {
    let headers = tools.filter_map(|package| package.strip_prefix("linux-headers-"));
    // `linux-headers-amd64` names the newest, `linux-headers-6.12.107+deb13-common` is for no kernel alone.
    let headers = headers.filter(|name| name.starts_with(|first: char| first.is_ascii_digit()));
    let found: Vec<&str> = headers.filter(|name| !name.ends_with("-common")).collect();
    if found.contains(&kernel) {
        return Ok(());
    }
    let what = format!("the image's kernel is {kernel}, but the tools tree `zfs` has headers for {}", found.join(", "));
    Err(Mistake::new(what).hint("run `larder lock` to bring kernel and headers to the same version").into())
}

/// One build of the modules.
#[derive(Debug)]
pub struct ZfsBuild<'a> {
    /// The sources, from [`ZfsSources::find`].
    pub sources: &'a ZfsSources,
    /// The kernel's version and ABI, such as `6.12.107+deb13-amd64`.
    pub kernel: &'a str,
    /// The kernel's own vermagic, which the modules must repeat: that of any of its modules.
    pub vermagic: &'a str,
    /// What the build believes is now: seconds since 1970, from the lock.
    pub epoch: u64,
    /// Compilers at once.
    pub jobs: usize,
}

impl ZfsBuild<'_> {
    /// Builds in `work`, which the sandbox shows at [`BUILD_FOLDER`], and returns `spl.ko` and `zfs.ko`
    /// there, without debug information.
    pub fn run(&self, sandbox: &dyn BuildSandbox, work: &Path) -> Result<Vec<PathBuf>> {
        // With their times: otherwise `configure` would be regenerated by autotools, which the tools tree does not have.
        copy_tree(&self.sources.folder, &work.join("zfs")).context("copying the ZFS sources")?;
        let folder = format!("{BUILD_FOLDER}/zfs");
        let now = self.epoch.to_string();
        let stamp = format!("@{now}");
        let env = [
            ("PATH", "/usr/sbin:/usr/bin"),
            ("HOME", BUILD_FOLDER),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("SOURCE_DATE_EPOCH", &*now),
            // https://docs.kernel.org/kbuild/reproducible-builds.html
            ("KBUILD_BUILD_TIMESTAMP", &*stamp),
            ("KBUILD_BUILD_USER", "larder"),
            ("KBUILD_BUILD_HOST", "larder"),
            ("KBUILD_BUILD_VERSION", "1"),
        ];
        let (source, build) =
            (format!("/usr/lib/modules/{}/source", self.kernel), format!("/usr/lib/modules/{}/build", self.kernel));
        let (with_linux, with_obj) = (format!("--with-linux={source}"), format!("--with-linux-obj={build}"));
        // The arguments of PRE_BUILD in the sources' dkms.conf.
        let configure = [
            "/bin/sh",
            "./configure",
            "--disable-dependency-tracking",
            "--prefix=/usr",
            "--with-config=kernel",
            &*with_linux,
            &*with_obj,
        ];
        sandbox.run(&configure, &folder, &env).context("configuring ZFS")?;
        let jobs = format!("-j{}", self.jobs.max(1));
        sandbox.run(&["make", &*jobs, WITHOUT_TRACING], &folder, &env).context("compiling ZFS")?;
        MODULES.iter().map(|name| self.finish(name, sandbox, work, &env)).collect()
    }

    fn finish(&self, name: &str, sandbox: &dyn BuildSandbox, work: &Path, env: &[(&str, &str)]) -> Result<PathBuf> {
        let file = format!("zfs/module/{name}.ko");
        sandbox
            .run(&["strip", "--strip-debug", &format!("{BUILD_FOLDER}/{file}")], BUILD_FOLDER, env)
            .context("stripping ZFS")?;
        let path = work.join(file);
        let info = ModInfo::of_file(&path).with_context(|| format!("reading {}", path.display()))?;
        let built_for = info.vermagic.unwrap_or_default();
        anyhow::ensure!(
            built_for == self.vermagic,
            "{name}.ko was built for `{built_for}`, the kernel is `{}`",
            self.vermagic
        );
        Ok(path)
    }
}

/// Puts the built modules where depmod finds them: `root/usr/lib/modules/KVER/extra`.
pub fn install(modules: &[PathBuf], root: &Path, kernel: &str) -> Result<()> {
    let extra = root.join("usr/lib/modules").join(kernel).join("extra");
    fs_err::create_dir_all(&extra)?;
    for module in modules {
        let to = extra.join(module.file_name().context("a module has no name")?);
        fs_err::copy(module, &to)?;
        // The linker's output has the mode that the umask left.
        fs_err::set_permissions(&to, Permissions::from_mode(0o644))?;
    }
    Ok(())
}
