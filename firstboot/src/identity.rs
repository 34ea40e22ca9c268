//! Who this machine is: the host id, by which ZFS tells machines apart, and the machine id, by which everybody else does
//! (its DHCP lease, for one).
//!
//! Both are made at the first boot, at random, and kept on the state partition from then on. `/etc` is in memory, so they are
//! put there at every boot, before ZFS imports a pool and before the network is set up. systemd has taken a machine id at
//! random by then: at the first boot it is the one that is kept, at every other boot the kept one replaces it.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, ensure};
use uuid::Uuid;

use crate::state::State;

/// Names of the files in `/etc` and on the state partition.
pub const FILES: [&str; 2] = [HOST_ID, MACHINE_ID];
const HOST_ID: &str = "hostid";
const MACHINE_ID: &str = "machine-id";

/// The number that hostid(1) shows and ZFS writes into the labels of a pool. Never zero, which ZFS takes for none
/// (spl(4), `spl_hostid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(u32);

/// 128 bits, as 32 hexadecimal digits (machine-id(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineId(String);

/// Both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For ZFS.
    pub host_id: HostId,
    /// For all others.
    pub machine_id: MachineId,
}

impl HostId {
    /// A new one.
    pub fn random() -> Self {
        // Four of the 122 random bits' bytes; the others say which kind of UUID it is.
        let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
        Self::new(u32::from_le_bytes([a, b, c, d])).unwrap_or(Self(1))
    }

    /// One that is not zero.
    pub fn new(id: u32) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// As in `/etc/hostid` (gethostid(3)): a number of four bytes, in this machine's order.
    pub fn from_file(content: &[u8]) -> Option<Self> {
        Self::new(u32::from_ne_bytes(content.try_into().ok()?))
    }

    /// As in `/etc/hostid`.
    pub fn to_file(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl MachineId {
    /// A new one.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// As in `/etc/machine-id`: 32 digits, not all of them zero.
    pub fn from_file(content: &[u8]) -> Option<Self> {
        let text = str::from_utf8(content).ok()?.trim_end();
        let is_id = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_id && text.bytes().any(|byte| byte != b'0')).then(|| Self(text.to_owned()))
    }

    /// As in `/etc/machine-id`.
    pub fn to_file(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl Identity {
    /// The kept one, if the state partition is there, completed where something is missing; or else a new one.
    ///
    /// # Errors
    /// What is kept cannot be read.
    pub fn of(root: &Path, state: Option<&State>) -> anyhow::Result<Self> {
        let kept = |name: &str| state.map_or(Ok(None), |state| state.read(name));
        // Damaged files are as good as none: a pool that another host id has used last is still known by its GUID.
        let host_id = kept(HOST_ID)?.and_then(|content| HostId::from_file(&content));
        let machine_id = kept(MACHINE_ID)?.and_then(|content| MachineId::from_file(&content));
        let running = || MachineId::from_file(&std::fs::read(root.join("etc").join(MACHINE_ID)).ok()?);
        Ok(Self {
            host_id: host_id.unwrap_or_else(HostId::random),
            machine_id: machine_id.or_else(running).unwrap_or_else(MachineId::random),
        })
    }

    /// Puts it into `/etc`.
    ///
    /// # Errors
    /// That cannot be written.
    pub fn put_into_force(&self, root: &Path) -> anyhow::Result<()> {
        for (name, content) in self.files() {
            let path = root.join("etc").join(name);
            if std::fs::read(&path).is_ok_and(|old| old == content) {
                continue;
            }
            let new = path.with_added_extension("new");
            fs_err::write(&new, content)?;
            fs_err::rename(new, path)?;
        }
        Ok(())
    }

    /// Keeps it on the state partition, whatever was there: for a pool that is taken over, with the identity in it.
    ///
    /// # Errors
    /// That cannot be written.
    pub fn keep(&self, state: &State) -> anyhow::Result<()> {
        self.files().into_iter().try_for_each(|(name, content)| match state.read(name)? {
            Some(old) if old == content => Ok(()),
            _ => state.write(name, &content),
        })
    }

    /// From the files of [`Self::files`].
    ///
    /// # Errors
    /// They are damaged.
    pub fn from_files(host_id: &[u8], machine_id: &[u8]) -> anyhow::Result<Self> {
        let host_id = HostId::from_file(host_id).context("the host id is damaged")?;
        let machine_id = MachineId::from_file(machine_id).context("the machine id is damaged")?;
        Ok(Self { host_id, machine_id })
    }

    /// Names and contents of the files that hold it.
    pub fn files(&self) -> [(&'static str, Vec<u8>); 2] {
        [(HOST_ID, self.host_id.to_file().to_vec()), (MACHINE_ID, self.machine_id.to_file())]
    }
}

impl fmt::Display for HostId {
    /// As hostid(1) shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that what is kept is what is in force; for whoever is about to make a pool, which remembers the host id.
///
/// # Errors
/// They differ, or one of them is missing.
pub fn ensure_kept(root: &Path) -> anyhow::Result<()> {
    let kept = State::at(root).read(HOST_ID)?;
    let kept = kept.and_then(|content| HostId::from_file(&content)).context("no host id is kept yet")?;
    let in_force = HostId::from_file(&fs_err::read(root.join("etc").join(HOST_ID))?);
    ensure!(in_force == Some(kept), "the host id that is kept is {kept}, and another one is in force");
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn computer() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        root
    }

    #[test]
    fn what_systemd_has_taken_at_the_first_boot_is_kept_and_comes_back() {
        let root = computer();
        let taken = "0123456789abcdef0123456789abcdef\n";
        std::fs::write(root.path().join("etc/machine-id"), taken).unwrap();
        let state = State::at(root.path());
        let first = Identity::of(root.path(), None).unwrap();
        first.put_into_force(root.path()).unwrap();
        assert!(ensure_kept(root.path()).is_err());
        first.keep(&state).unwrap();
        ensure_kept(root.path()).unwrap();

        std::fs::write(root.path().join("etc/machine-id"), "ffffffffffffffffffffffffffffffff\n").unwrap();
        std::fs::remove_file(root.path().join("etc/hostid")).unwrap();
        let second = Identity::of(root.path(), Some(&state)).unwrap();
        assert_eq!(second, first);
        second.put_into_force(root.path()).unwrap();
        assert_eq!(std::fs::read_to_string(root.path().join("etc/machine-id")).unwrap(), taken);
        assert_eq!(std::fs::read(root.path().join("etc/hostid")).unwrap(), first.host_id.to_file());
    }

    #[test]
    fn damaged_files_are_replaced() {
        let root = computer();
        let state = State::at(root.path());
        state.write("hostid", b"\0\0\0\0").unwrap();
        state.write("machine-id", b"uninitialized\n").unwrap();
        let identity = Identity::of(root.path(), Some(&state)).unwrap();
        identity.keep(&state).unwrap();
        assert_eq!(Identity::of(root.path(), Some(&state)).unwrap(), identity);
    }

    #[test]
    fn a_host_id_is_written_as_zgenhostid_does() {
        let id = HostId::new(0x00ba_b10c).unwrap();
        assert_eq!((id.to_file(), id.to_string().as_str()), ([0x0c, 0xb1, 0xba, 0x00], "00bab10c"));
        assert_eq!(HostId::from_file(&[0; 4]), None);
    }

    proptest! {
        #[test]
        fn whatever_the_files_hold_there_is_an_identity(host: Vec<u8>, machine: Vec<u8>) {
            let root = computer();
            let state = State::at(root.path());
            state.write("hostid", &host).unwrap();
            state.write("machine-id", &machine).unwrap();
            let identity = Identity::of(root.path(), Some(&state)).unwrap();
            prop_assert_ne!(identity.host_id.to_file(), [0; 4]);
            let [(_, host), (_, machine)] = identity.files();
            prop_assert_eq!(Identity::from_files(&host, &machine).unwrap(), identity);
        }
    }
}
