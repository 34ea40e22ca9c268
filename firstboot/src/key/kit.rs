//! The recovery kit: a page to print, with the commands that open the pool on any Debian, without larder.
//!
//! Lines of four spaces are commands, to be typed as they are; a test in a virtual machine does.

use std::fmt;

use super::properties::PREFIX;
use super::{SlotName, Vault};

/// What the page is about.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The pool's name.
    pub pool: String,
    /// Its number.
    pub guid: String,
    /// The encrypted dataset.
    pub dataset: String,
    /// The recovery key's name.
    pub slot: SlotName,
    /// Its rounds of PBKDF2.
    pub iterations: u32,
}

impl Kit {
    /// The kit for a pool and one of its recovery keys.
    ///
    /// # Errors
    /// The pool cannot be asked for its number.
    pub fn of(vault: &Vault, slot: SlotName, iterations: u32) -> anyhow::Result<Self> {
        Ok(Self { pool: vault.pool().to_owned(), guid: vault.guid()?, dataset: vault.dataset(), slot, iterations })
    }
}

impl fmt::Display for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, guid, dataset, slot, iterations } = self;
        write!(
            f,
            r#"RECOVERY KIT of the pool {pool}, number {guid}

The recovery key "{slot}" opens it. Write it here, or keep it with this page:

  _____ - _____ - _____ - _____ - _____ - _____ - _____ - _____

With larder: write a new stick, connect the disks, and type the recovery key when the server asks for it.

Without larder: connect the disks to a computer with Debian 13 or newer. As root, type what is set in, line by line.

1. ZFS, from the part "contrib" of Debian (https://wiki.debian.org/ZFS):

    apt-get install --yes linux-headers-amd64 zfs-dkms zfsutils-linux openssl

2. The pool, to be read only; its files will appear below /mnt/rescue:

    modprobe zfs
    zpool import -f -N -o readonly=on -R /mnt/rescue -d /dev/disk/by-id {guid}

3. The key as it is kept on the disks, wrapped:

    zfs get -H -o value {PREFIX}{slot} {pool} | base64 -d | sed 's/.*"openssl":"\([^"]*\)".*/\1/' > /run/wrapped

4. Type the recovery key, which is not shown, and press Enter:

    read -rs KEY

5. Now unwrap the key and hand it to ZFS:

    KEY=$(printf %s "$KEY" | tr a-z A-Z | tr OIL 011 | tr -cd 0-9A-Z)
    printf %s "$KEY" | openssl enc -d -aes-256-cbc -pbkdf2 -iter {iterations} -md sha512 -nopad -a -A -in /run/wrapped -pass stdin | zfs load-key -L prompt {dataset}
    unset KEY

   "Incorrect key provided": go back to step 4.

6. The files:

    zfs mount -a
    ls /mnt/rescue

7. When you have what you need:

    zpool export {pool}
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::{PoolKey, RecoveryKey, Request, SlotStore as _, Way, enroll, testing::MemoryStore};
    use super::*;

    fn kit() -> Kit {
        Kit {
            pool: "tank".to_owned(),
            guid: "1234567890".to_owned(),
            dataset: "tank/data".to_owned(),
            slot: Way::Recovery.into(),
            iterations: 10_000,
        }
    }

    fn commands() -> Vec<String> {
        kit().to_string().lines().filter_map(|line| line.strip_prefix("    ").map(str::to_owned)).collect()
    }

    /// The commands that have nothing to do with ZFS, in a real shell; ZFS is played by two functions.
    #[test]
    fn the_commands_of_the_kit_give_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let (key, recovery) = (PoolKey::generate().unwrap(), RecoveryKey::generate().unwrap());
        let store = MemoryStore::default();
        enroll(&store, &key, Way::Recovery.into(), &Request::Recovery(&recovery)).unwrap();
        let slot = store.slots().unwrap().slots.remove(0);
        let typed = recovery.text().expose().to_lowercase().replace('0', "o").replace('-', " ");
        for (name, content) in [("slot", serde_json::to_string(&slot).unwrap()), ("typed", typed + "\n")] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let chosen: Vec<_> = commands()
            .into_iter()
            .filter(|line| ["zfs get", "read", "KEY=", "printf"].iter().any(|start| line.starts_with(start)))
            .map(|line| line.replace("/run/", "./").replace("read -rs KEY", "read -rs KEY < typed"))
            .collect();
        assert_eq!(chosen.len(), 4);
        let zfs = "zfs() { if [ $1 = get ]; then base64 -w0 slot; else cat; fi; }";
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{zfs}\n{}", chosen.join("\n"))).current_dir(folder.path());
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        // A host without openssl: the same format is checked against a recorded text elsewhere.
        if Command::new("openssl").arg("version").output().is_ok() {
            assert_eq!(output.stdout, key.expose());
        }
    }

    #[test]
    fn the_kit_is_one_page() {
        let text = kit().to_string();
        assert!(text.lines().count() <= 60, "{}", text.lines().count());
        assert!(text.contains("zpool import -f -N -o readonly=on") && text.contains("larder:key-recovery tank"));
    }
}
