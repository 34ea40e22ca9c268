//! Which ids a namespace has: all that a Debian system uses.

use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, getuid};

use super::hurdle;
use crate::report::Mistake;

/// Ids that a Debian system uses: 0 to 65535.
pub(super) const IDS: u32 = 65536;

/// How the ids of a new namespace are mapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// As root: each id to itself; the texts of `uid_map` and `gid_map`.
    Identity([String; 2]),
    /// As anybody else: root to oneself, all others to subordinate ids; their first ones for users and groups.
    Subordinate([u32; 2]),
}

/// The programs that map for an ordinary user, and where they look whether they may.
const TOOLS: [(&str, &str); 2] = [("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")];

impl Mapping {
    /// What this user can have.
    ///
    /// # Errors
    /// A [`Mistake`] that names what is missing, and the commands that bring it.
    pub(super) fn find(uid: Uid) -> anyhow::Result<Self> {
        if uid.is_root() {
            let map = |name: &str| {
                let path = format!("/proc/self/{name}");
                identity(&fs_err::read_to_string(&path)?).ok_or_else(|| anyhow::Error::from(few_ids(&path)))
            };
            return Ok(Self::Identity([map("uid_map")?, map("gid_map")?]));
        }
        for (tool, _) in TOOLS {
            find_in_path(tool).then_some(()).ok_or_else(|| hurdle::missing(tool))?;
        }
        let range = |path: &str| {
            let text = fs_err::read_to_string(path).unwrap_or_default();
            let names = user_names();
            subordinate_range(&text, &names).ok_or_else(|| hurdle::no_range(Path::new(path), &text, &names[0]))
        };
        Ok(Self::Subordinate([range(TOOLS[0].1)?, range(TOOLS[1].1)?]))
    }

    /// Maps the ids of the process `pid`, which has a new namespace, from outside of it. `ids` are the user's
    /// own for users and groups.
    pub(super) fn apply(&self, pid: u32, ids: [u32; 2]) -> anyhow::Result<()> {
        match self {
            Self::Identity(texts) => {
                for (map, text) in ["uid_map", "gid_map"].iter().zip(texts) {
                    fs_err::write(format!("/proc/{pid}/{map}"), text)?;
                }
            }
            Self::Subordinate(firsts) => {
                for (((tool, _), first), id) in TOOLS.iter().zip(firsts).zip(ids) {
                    run(tool, &[pid, 0, id, 1, 1, *first, IDS - 1])?;
                }
            }
        }
        Ok(())
    }
}

fn run(tool: &str, numbers: &[u32]) -> anyhow::Result<()> {
    let args = numbers.iter().map(u32::to_string);
    let output = Command::new(tool).args(args).output().map_err(|error| hurdle::unable(tool, &error.to_string()))?;
    if !output.status.success() {
        return Err(hurdle::unable(tool, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(())
}

fn find_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn few_ids(map: &str) -> Mistake {
    Mistake::new(format!("{map}: root of this container has not all of the ids 0 to {}", IDS - 1)).hint(
        "give the container's user a larger range of subordinate ids on the host (/etc/subuid, /etc/subgid), or run larder outside",
    )
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

/// How /etc/subuid may name this user: by login name or by number.
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
