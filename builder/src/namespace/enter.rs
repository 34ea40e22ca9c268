//! Entering a private user and mount namespace (user_namespaces(7)).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, getgid, getpid, getuid, setgroups, setresgid, setresuid};

use crate::report::Mistake;

/// Ids that a Debian system uses: 0 to 65535.
const IDS: u32 = 65536;

const HINT: &str = "larder needs unprivileged user namespaces, `newuidmap` and a range of subordinate ids.\n\
    Debian, Ubuntu: apt install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER;\n\
    \x20 sysctl kernel.unprivileged_userns_clone=1; Ubuntu also: sysctl kernel.apparmor_restrict_unprivileged_userns=0\n\
    Fedora: dnf install shadow-utils-subid; sysctl user.max_user_namespaces=15000\n\
    Arch: pacman -S shadow; usermod --add-subuids/--add-subgids as above; linux-hardened: sysctl kernel.unprivileged_userns_clone=1\n\
    Or run larder as root.";

/// Makes the calling process root of a new user and mount namespace. It must be single threaded.
///
/// # Errors
/// A [`Mistake`] that names what to enable when the host allows no user namespaces.
pub fn enter() -> anyhow::Result<()> {
    // The mapping is written by a process that stays outside: only there does it have the right to.
    let mut mapper = Command::new("/proc/self/exe")
        .args(["map-ids", &getpid().to_string(), &getuid().to_string(), &getgid().to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .context("starting the id mapper")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Mistake::new("this host refuses a new user namespace").because(errno).hint(HINT))?;
    let mut ready = mapper.stdin.take().context("opening the id mapper's input")?;
    ready.write_all(b"x").context("telling the id mapper to go on")?;
    drop(ready);
    let status = mapper.wait().context("waiting for the id mapper")?;
    if !status.success() {
        return Err(Mistake::new("mapping user and group ids into the namespace failed").hint(HINT).into());
    }
    setgroups(&[]).context("dropping supplementary groups")?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).context("becoming the namespace's root group")?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).context("becoming the namespace's root")?;
    // Nothing that is mounted from here on may reach the host.
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making mounts private")?;
    // Modes come from packages and overlays alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// The hidden verb `map-ids`: waits until `pid` has unshared, then writes its id maps.
pub fn map_ids(pid: u32, uid: u32, gid: u32) -> anyhow::Result<()> {
    std::io::stdin().read_exact(&mut [0]).context("waiting for the namespace")?;
    if uid == 0 {
        for map in ["uid_map", "gid_map"] {
            let own = format!("/proc/self/{map}");
            let identity = identity(&fs_err::read_to_string(&own)?).ok_or_else(|| {
                Mistake::new(format!("{own}: this container has not all of the ids 0 to {}", IDS - 1))
            })?;
            fs_err::write(format!("/proc/{pid}/{map}"), identity)?;
        }
        return Ok(());
    }
    map_with("newuidmap", "/etc/subuid", pid, uid)?;
    map_with("newgidmap", "/etc/subgid", pid, gid)
}

/// The identity on all ids below [`IDS`], given the map of our own namespace. It has that map's pieces,
/// as the kernel refuses one that spans two of them; a rootless container has two (user_namespaces(7)).
fn identity(own: &str) -> Option<String> {
    let (mut identity, mut covered) = (String::new(), 0);
    for line in own.lines() {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (first, _, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let count = count.min(IDS.saturating_sub(first));
        if count > 0 {
            identity.push_str(&format!("{first} {first} {count}\n"));
            covered += count;
        }
    }
    (covered == IDS).then_some(identity)
}

/// Maps the namespace's root to the user, and the ids from 1 on to the user's subordinate range.
fn map_with(tool: &str, ranges: &str, pid: u32, id: u32) -> anyhow::Result<()> {
    let first = subordinate_range(&fs_err::read_to_string(ranges).unwrap_or_default(), &user_names())
        .ok_or_else(|| Mistake::new(format!("{ranges}: no range of at least {} ids for this user", IDS - 1)))?;
    let args = [pid, 0, id, 1, 1, first, IDS - 1].map(|number| number.to_string());
    let output = Command::new(tool)
        .args(args)
        .output()
        .map_err(|error| Mistake::new(format!("`{tool}` cannot be run")).because(error))?;
    if !output.status.success() {
        return Err(Mistake::new(format!("`{tool}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())).into());
    }
    Ok(())
}

/// How /etc/subuid may name this user: by number or by login name.
fn user_names() -> Vec<String> {
    let uid = getuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.into_iter().chain([uid.to_string()]).collect()
}

/// The first id of a large enough range in the text of subuid(5).
fn subordinate_range(text: &str, users: &[String]) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let user = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        (users.iter().any(|name| name == user) && count >= IDS - 1).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_a_container_ids_are_mapped_in_the_pieces_that_it_has() {
        let initial = "         0          0 4294967295\n";
        assert_eq!(identity(initial).as_deref(), Some("0 0 65536\n"));
        let rootless = "0 1000 1\n1 100000 65535\n";
        assert_eq!(identity(rootless).as_deref(), Some("0 0 1\n1 1 65535\n"));
        let wide = "0 1000 1\n1 100000 65536\n70000 7 1\n";
        assert_eq!(identity(wide).as_deref(), Some("0 0 1\n1 1 65535\n"));
        assert_eq!(identity("0 1000 1\n1 100000 1000\n"), None);
    }

    #[test]
    fn a_subordinate_range_is_found_by_name_or_number_and_must_be_large_enough() {
        let users = ["ann".to_owned(), "1000".to_owned()];
        assert_eq!(subordinate_range("bob:1:65536\nann:100000:65536\n", &users), Some(100_000));
        assert_eq!(subordinate_range("1000:165536:65536\n", &users), Some(165_536));
        assert_eq!(subordinate_range("ann:100000:1000\n", &users), None);
        assert_eq!(subordinate_range("garbage", &users), None);
    }
}
