//! Why a host lets nobody make user namespaces, and what to do about it on each distribution.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::ids::IDS;
use crate::report::Mistake;

/// What the kernel says about itself.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `/proc`
    proc: PathBuf,
}

impl Kernel {
    pub(super) fn running() -> Self {
        Self { proc: "/proc".into() }
    }

    fn sysctl(&self, name: &str) -> Option<u64> {
        let path = self.proc.join("sys").join(name.replace('.', "/"));
        fs_err::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Whether a filter of system calls is at work, as containers set one (proc_pid_status(5)).
    fn is_filtered(&self) -> bool {
        let status = fs_err::read_to_string(self.proc.join("self/status")).unwrap_or_default();
        status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() != "0")
    }

    /// Why unshare(2) refused a user namespace, as far as can be known.
    pub(super) fn refusal(&self, errno: Errno) -> Mistake {
        let (what, hint) = match errno {
            // Its text, "no space left on device", would lead astray.
            Errno::ENOSPC | Errno::EUSERS => {
                let (what, hint) = self.too_many();
                return Mistake::new(what).hint(hint);
            }
            Errno::EINVAL | Errno::ENOSYS => (
                "this kernel was built without user namespaces (CONFIG_USER_NS)".to_owned(),
                "run larder on another kernel".to_owned(),
            ),
            _ => self.forbidden(),
        };
        Mistake::new(what).hint(hint).because(errno)
    }

    /// Why what root of a namespace may do was refused inside the new one.
    pub(super) fn powerless(&self, errno: Errno) -> Option<Mistake> {
        let restricted = self.is_restricted_by_apparmor() && matches!(errno, Errno::EPERM | Errno::EACCES);
        restricted.then(|| {
            let (what, hint) = apparmor();
            Mistake::new(what).hint(hint).because(errno)
        })
    }

    fn too_many(&self) -> (String, String) {
        let name = "user.max_user_namespaces";
        let limit = self.sysctl(name).map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
        let what = format!("this host allows no further user namespaces ({name} is {limit})");
        (what, format!("Debian, Ubuntu, Fedora, Arch: {}", set(name, 15000)))
    }

    fn forbidden(&self) -> (String, String) {
        let debian = "kernel.unprivileged_userns_clone";
        if self.sysctl(debian) == Some(0) {
            let what = format!("this host allows user namespaces to root alone ({debian} is 0)");
            return (what, format!("Debian, Arch with linux-hardened: {}\nOr run larder as root.", set(debian, 1)));
        }
        if self.sysctl("user.max_user_namespaces") == Some(0) {
            return self.too_many();
        }
        if self.is_restricted_by_apparmor() {
            return apparmor();
        }
        let what = "this host refuses user namespaces".to_owned();
        if self.is_filtered() {
            let hint = "a filter of system calls is at work, as in most containers: run the container with `--privileged`, or with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or run larder outside";
            return (what, hint.to_owned());
        }
        (what, "if this is a chroot, run larder outside of it; else look for a security module that forbids them (`dmesg`, `journalctl -k`)".to_owned())
    }

    fn is_restricted_by_apparmor(&self) -> bool {
        self.sysctl("kernel.apparmor_restrict_unprivileged_userns") == Some(1)
    }
}

/// Ubuntu's restriction (23.10 and later): a program without a profile that says `userns` gets a namespace in which it
/// may do nothing.
fn apparmor() -> (String, String) {
    let name = "kernel.apparmor_restrict_unprivileged_userns";
    let program = std::env::current_exe().unwrap_or_else(|_| "/path/to/larder".into());
    let profile =
        format!("abi <abi/4.0>,\\nprofile larder {} flags=(unconfined) {{\\n  userns,\\n}}\\n", program.display());
    let hint = format!(
        "Ubuntu, for larder alone:\n\
         \x20 printf '{profile}' | sudo tee /etc/apparmor.d/larder\n\
         \x20 sudo apparmor_parser -r /etc/apparmor.d/larder\n\
         Ubuntu, for all programs: {}\n\
         Or run larder as root.",
        set(name, 0)
    );
    (format!("AppArmor leaves user namespaces without any rights ({name} is 1)"), hint)
}

/// Sets a kernel parameter now and for later boots (sysctl.d(5)).
fn set(name: &str, value: u64) -> String {
    format!("echo '{name} = {value}' | sudo tee /etc/sysctl.d/60-larder.conf; sudo sysctl --system")
}

/// `newuidmap` or `newgidmap` is not in PATH.
pub(super) fn missing(tool: &str) -> Mistake {
    Mistake::new(format!("the program `{tool}` is not in PATH; it maps an ordinary user's subordinate ids")).hint(
        "Debian, Ubuntu: sudo apt install uidmap\n\
         Fedora: sudo dnf install shadow-utils\n\
         Arch: sudo pacman -S shadow\n\
         Or run larder as root.",
    )
}

/// `newuidmap` or `newgidmap` ran, and did not map.
pub(super) fn unable(tool: &str, said: &str) -> Mistake {
    let what = format!("`{tool}` failed: {said}");
    Mistake::new(what).hint(
        "it must be set-user-id root or have the file capability for it, on a file system that is not mounted `nosuid`: install its package again\n\
         Debian, Ubuntu: sudo apt install --reinstall uidmap\n\
         Fedora: sudo dnf reinstall shadow-utils\n\
         Arch: sudo pacman -S shadow\n\
         In a container: run larder outside of it, or as root.",
    )
}

/// The user has no range of ids in `file`, whose text is `text`.
pub(super) fn no_range(file: &Path, text: &str, user: &str) -> Mistake {
    let first = first_free(text);
    let last = first + IDS - 1;
    Mistake::new(format!("{}: no range of at least {} ids for the user {user}", file.display(), IDS - 1)).hint(format!(
        "Debian, Ubuntu, Fedora, Arch: sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}\nOr run larder as root."
    ))
}

/// Where a new range may begin: after all others, and after the ids of people (login.defs(5), `SUB_UID_MIN`).
fn first_free(text: &str) -> u32 {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1).map(|field| field.parse::<u32>().ok());
        fields.next()??.checked_add(fields.next()??)
    });
    ends.max().unwrap_or(0).max(100_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;

    /// A kernel that says so about itself.
    fn kernel(says: &[(&str, &str)]) -> (tempfile::TempDir, Kernel) {
        let proc = tempfile::tempdir().unwrap();
        for (path, text) in says {
            let path = proc.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        let kernel = Kernel { proc: proc.path().to_owned() };
        (proc, kernel)
    }

    fn refused(errno: Errno, says: &[(&str, &str)]) -> String {
        let program = std::env::current_exe().unwrap().display().to_string();
        render(&kernel(says).1.refusal(errno).into()).replace(&program, "/usr/bin/larder")
    }

    const OPEN: &[(&str, &str)] =
        &[("sys/user/max_user_namespaces", "63000\n"), ("self/status", "Name:\tlarder\nSeccomp:\t0\n")];

    #[test]
    fn the_limit_on_namespaces_is_named() {
        insta::assert_snapshot!(refused(Errno::ENOSPC, &[("sys/user/max_user_namespaces", "0\n")]), @r"
        error: this host allows no further user namespaces (user.max_user_namespaces is 0)

        hint: Debian, Ubuntu, Fedora, Arch: echo 'user.max_user_namespaces = 15000' | sudo tee /etc/sysctl.d/60-larder.conf; sudo sysctl --system
        ");
    }

    #[test]
    fn debians_switch_is_named() {
        insta::assert_snapshot!(refused(Errno::EPERM, &[("sys/kernel/unprivileged_userns_clone", "0\n")]), @r"
        error: this host allows user namespaces to root alone (kernel.unprivileged_userns_clone is 0)
          caused by: EPERM: Operation not permitted

        hint: Debian, Arch with linux-hardened: echo 'kernel.unprivileged_userns_clone = 1' | sudo tee /etc/sysctl.d/60-larder.conf; sudo sysctl --system
        Or run larder as root.
        ");
    }

    #[test]
    fn ubuntus_restriction_is_named_whether_it_strikes_before_or_after() {
        let says = [
            ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            ("sys/kernel/unprivileged_userns_clone", "1\n"),
        ];
        insta::assert_snapshot!(refused(Errno::EACCES, &says), @r"
        error: AppArmor leaves user namespaces without any rights (kernel.apparmor_restrict_unprivileged_userns is 1)
          caused by: EACCES: Permission denied

        hint: Ubuntu, for larder alone:
          printf 'abi <abi/4.0>,\nprofile larder /usr/bin/larder flags=(unconfined) {\n  userns,\n}\n' | sudo tee /etc/apparmor.d/larder
          sudo apparmor_parser -r /etc/apparmor.d/larder
        Ubuntu, for all programs: echo 'kernel.apparmor_restrict_unprivileged_userns = 0' | sudo tee /etc/sysctl.d/60-larder.conf; sudo sysctl --system
        Or run larder as root.
        ");
        let (_proc, kernel) = kernel(&says);
        assert!(kernel.powerless(Errno::EPERM).is_some());
        assert!(kernel.powerless(Errno::EIO).is_none());
    }

    #[test]
    fn a_kernel_without_user_namespaces_is_named() {
        insta::assert_snapshot!(refused(Errno::EINVAL, OPEN), @r"
        error: this kernel was built without user namespaces (CONFIG_USER_NS)
          caused by: EINVAL: Invalid argument

        hint: run larder on another kernel
        ");
    }

    #[test]
    fn a_containers_filter_is_suspected_where_there_is_one() {
        insta::assert_snapshot!(refused(Errno::EPERM, &[("self/status", "Seccomp:\t2\n")]), @r"
        error: this host refuses user namespaces
          caused by: EPERM: Operation not permitted

        hint: a filter of system calls is at work, as in most containers: run the container with `--privileged`, or with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, or run larder outside
        ");
        insta::assert_snapshot!(refused(Errno::EPERM, OPEN), @r"
        error: this host refuses user namespaces
          caused by: EPERM: Operation not permitted

        hint: if this is a chroot, run larder outside of it; else look for a security module that forbids them (`dmesg`, `journalctl -k`)
        ");
    }

    #[test]
    fn a_new_range_begins_where_nobody_has_one() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("ann:100000:65536\nbob:165536:65536\n"), 231_072);
        assert_eq!(first_free("system:1:100\n"), 100_000);
        assert_eq!(first_free("garbage\nall:1:4294967295\n"), 100_000);
    }
}
