//! What an update will do to the registers, before it is started.
//!
//! The firmware keeps a log of what it has hashed into the TPM, which the kernel hands on (TCG PC Client Platform Firmware
//! Profile, 10.2). With the digests of the running system in it replaced by those of the new one, it gives the values of
//! the registers at the next start.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::pcr::{Digest, Pcrs, REGISTERS};
use super::pe::Pe;

/// Relative to the root.
const PATH: &str = "sys/kernel/security/tpm0/binary_bios_measurements";
/// TPM_ALG_SHA256.
const SHA256: u16 = 0x000b;
/// An event that was not added to any register.
const EV_NO_ACTION: u32 = 3;
/// What the first event begins with, after a header of the older format.
const SIGNATURE: &[u8] = b"Spec ID Event03\0";

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log(Vec<Event>);

/// What was added to a register.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    register: u32,
    digest: Digest,
}

/// The registers when `replaced` (old, new) are started: EFI programs, UKIs with the kernel that is in them.
///
/// # Errors
/// The log does not lead to the registers as they are, or the old programs are not in it: then nothing can be foreseen.
pub fn after_update(root: &Path, replaced: &[(&Path, &Path)]) -> anyhow::Result<Pcrs> {
    let log = Log::parse(&fs_err::read(root.join(PATH))?)?;
    let now = Pcrs::read(root)?;
    ensure!(log.value(REGISTERS[0]) == now.0[0], "the firmware's log does not lead to the register {}", REGISTERS[0]);
    let mut digests = Vec::new();
    for (old, new) in replaced {
        let (old_digests, new_digests) = (digests_of(old)?, digests_of(new)?);
        ensure!(log.contains(&old_digests[0]), "{} is not what was started", old.display());
        ensure!(old_digests.len() == new_digests.len(), "{} is of another kind than {}", new.display(), old.display());
        digests.extend(old_digests.into_iter().zip(new_digests));
    }
    let next = Pcrs([log.with(&digests).value(REGISTERS[0]), now.0[1]]);
    Ok(next)
}

/// What the firmware adds when the file is started.
fn digests_of(path: &Path) -> anyhow::Result<Vec<Digest>> {
    let wrong = || format!("reading {}", path.display());
    let bytes = fs_err::read(path)?;
    let pe = Pe::parse(&bytes).with_context(wrong)?;
    let mut digests = vec![pe.authenticode().with_context(wrong)?];
    if let Some(kernel) = pe.section(".linux").with_context(wrong)? {
        digests.push(Pe::parse(kernel).and_then(|kernel| kernel.authenticode()).with_context(wrong)?);
    }
    Ok(digests)
}

impl Log {
    /// Reads a log of several algorithms.
    ///
    /// # Errors
    /// It is none, has no SHA-256, or is cut off.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut reader = Reader(bytes);
        // The first event is in the older format: register, kind, a digest of SHA-1, and the list of algorithms.
        reader.take(4 + 4 + 20)?;
        let mut first = Reader(reader.sized()?);
        ensure!(first.take(SIGNATURE.len())? == SIGNATURE, "this is no log of a TPM 2.0");
        first.take(4 + 4)?;
        let count = first.u32()?;
        let algorithms = (0..count).map(|_| Ok((first.u16()?, first.u16()?))).collect::<anyhow::Result<Vec<_>>>()?;
        let mut events = Vec::new();
        while !reader.0.is_empty() {
            let (register, kind) = (reader.u32()?, reader.u32()?);
            let digest = reader.digests(&algorithms)?;
            reader.sized()?;
            if kind != EV_NO_ACTION {
                events.push(Event { register, digest });
            }
        }
        Ok(Self(events))
    }

    /// The value of a register after all these events.
    pub fn value(&self, register: u8) -> Digest {
        let events = self.0.iter().filter(|event| event.register == u32::from(register));
        events.fold(Digest::default(), |value, event| {
            Sha256::new().chain_update(value).chain_update(event.digest).finalize().into()
        })
    }

    fn contains(&self, digest: &Digest) -> bool {
        self.0.iter().any(|event| event.digest == *digest)
    }

    /// With other digests in place of some.
    fn with(&self, replaced: &[(Digest, Digest)]) -> Self {
        let mut log = self.clone();
        for event in &mut log.0 {
            if let Some((_, new)) = replaced.iter().find(|(old, _)| *old == event.digest) {
                event.digest = *new;
            }
        }
        log
    }
}

/// Bytes of the log: numbers are little-endian.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("the firmware's log is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> anyhow::Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    /// With its length in four bytes before it.
    fn sized(&mut self) -> anyhow::Result<&'a [u8]> {
        let size = self.u32()?;
        self.take(size as usize)
    }

    /// That of SHA-256, among those of other algorithms.
    fn digests(&mut self, algorithms: &[(u16, u16)]) -> anyhow::Result<Digest> {
        let mut found = None;
        for _ in 0..self.u32()? {
            let algorithm = self.u16()?;
            let known = algorithms.iter().find(|(known, _)| *known == algorithm);
            let (_, size) = known.context("the firmware's log has an algorithm that it does not list")?;
            let digest = self.take(usize::from(*size))?;
            if algorithm == SHA256 {
                found = Some(digest.try_into()?);
            }
        }
        found.context("the firmware's log has no digests of SHA-256")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pe::tests::program;
    use super::*;

    /// A log as firmware writes it: of SHA-1 and SHA-256.
    fn log(events: &[(u32, u32, Digest)]) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
        let algorithms = [SIGNATURE, &[0, 0, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0, 4, 0, 20, 0, 0x0b, 0, 32, 0, 0]].concat();
        let mut log = [&[0; 4][..], &3_u32.to_le_bytes(), &[0; 20], &sized(&algorithms)].concat();
        for (register, kind, digest) in events {
            log.extend_from_slice(&register.to_le_bytes());
            log.extend_from_slice(&kind.to_le_bytes());
            log.extend_from_slice(&[&[2, 0, 0, 0, 4, 0][..], &[9; 20], &[0x0b, 0], digest].concat());
            log.extend_from_slice(&sized(b"what it was"));
        }
        log
    }

    fn extended(digests: &[Digest]) -> Digest {
        digests.iter().fold(Digest::default(), |value, digest| Sha256::digest([value, *digest].concat()).into())
    }

    /// A system below a folder, with two UKIs; their digests.
    fn system() -> (tempfile::TempDir, [Vec<Digest>; 2]) {
        let root = tempfile::tempdir().unwrap();
        let uki = |name: &str, kernel: &[u8]| {
            let kernel = program(&[(".text", kernel)]);
            std::fs::write(root.path().join(name), program(&[(".text", b"stub"), (".linux", &kernel)])).unwrap();
            digests_of(&root.path().join(name)).unwrap()
        };
        let digests = [uki("old.efi", b"6.12.107"), uki("new.efi", b"6.12.117")];
        let [old, _] = &digests;
        let (loader, separator) = ([7; 32], [8; 32]);
        let log = log(&[
            (0, 3, [0; 32]),
            (4, 1, separator),
            (4, 0x8000_0003, loader),
            (7, 1, [1; 32]),
            (4, 0x8000_0003, old[0]),
            (4, 0x8000_0003, old[1]),
        ]);
        let registers = root.path().join("sys/class/tpm/tpm0/pcr-sha256");
        std::fs::create_dir_all(&registers).unwrap();
        std::fs::create_dir_all(root.path().join(PATH).parent().unwrap()).unwrap();
        std::fs::write(root.path().join(PATH), log).unwrap();
        std::fs::write(registers.join("4"), hex::encode(extended(&[separator, loader, old[0], old[1]]))).unwrap();
        std::fs::write(registers.join("12"), "00".repeat(32)).unwrap();
        (root, digests)
    }

    /// Recorded in QEMU with OVMF and swtpm, together with the registers as the kernel showed them.
    #[test]
    fn the_log_of_a_firmware_leads_to_its_registers() {
        let log = Log::parse(include_bytes!("fixtures/ovmf.eventlog")).unwrap();
        let expected = "5a7fdf247215a97e23c4cc6f412bfa70895f6299b2f73b3489f7e25401b4b065";
        assert_eq!(hex::encode(log.value(4)), expected);
        assert_eq!(log.value(12), [0; 32]);
        // The UKI and the kernel in it, as they were hashed by hand.
        for digest in [
            "c5aba76c5be2079c1a922ac480a3edc27f6d453ee66fb5997390e8c217ce12e2",
            "729eaa76aa00dab337d4b5c397fb2a0fded58390cf7573c9540f9533e3b75627",
        ] {
            assert!(log.contains(&hex::decode(digest).unwrap().try_into().unwrap()));
        }
    }

    #[test]
    fn an_update_changes_its_own_events_only() {
        let (root, [old, new]) = system();
        assert_eq!((old.len(), new.len()), (2, 2));
        let [old_path, new_path] = ["old.efi", "new.efi"].map(|name| root.path().join(name));
        let next = after_update(root.path(), &[(&old_path, &new_path)]).unwrap();
        assert_eq!(next, Pcrs([extended(&[[8; 32], [7; 32], new[0], new[1]]), [0; 32]]));
        let same = after_update(root.path(), &[(&old_path, &old_path)]).unwrap();
        assert_eq!(same, Pcrs::read(root.path()).unwrap());
    }

    #[test]
    fn nothing_is_foreseen_from_a_log_that_does_not_fit() {
        let (root, _) = system();
        let [old, new] = ["old.efi", "new.efi"].map(|name| root.path().join(name));
        let error = after_update(root.path(), &[(&new, &old)]).unwrap_err();
        assert!(error.to_string().ends_with("new.efi is not what was started"), "{error}");
        std::fs::write(root.path().join("sys/class/tpm/tpm0/pcr-sha256/4"), "11".repeat(32)).unwrap();
        let error = after_update(root.path(), &[(&old, &new)]).unwrap_err();
        assert_eq!(error.to_string(), "the firmware's log does not lead to the register 4");
    }

    proptest! {
        #[test]
        fn no_log_makes_it_panic(at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
            let mut log = log(&[(4, 1, [1; 32]), (4, 3, [2; 32])]);
            let at = at.index(log.len());
            log[at] = value;
            let _ = Log::parse(&log);
            prop_assert!(Log::parse(&log[..cut.index(log.len())]).is_err() || cut.index(log.len()) > 60);
        }
    }
}
