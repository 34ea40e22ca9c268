//! What the boot loader tells about where it has come from.
//!
//! Two disks with the same system may be connected: a stick, and the disk it was installed to. Their roots have the same
//! UUIDs; their ESPs have not, and systemd-boot(7) leaves the UUID of its own in the variable `LoaderDevicePartUUID` (Boot
//! Loader Interface). What it has counted down it calls `LoaderBootCountPath`.

use std::path::Path;

use firstboot::esp::{Tries, UkiName};
use nix::mount::{MsFlags, mount};
use uuid::Uuid;

/// Exists where there is firmware with variables.
const FOLDER: &str = "/sys/firmware/efi/efivars";
/// With the vendor GUID of the Boot Loader Interface.
const PARTITION: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const COUNTED: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// What efivarfs puts before a variable's content.
const ATTRIBUTES: usize = 4;

/// What the boot loader has left; nothing where nobody has said so, as of a kernel that the firmware starts by itself.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The ESP that this system was started from.
    pub(crate) partition: Option<Uuid>,
    /// Whether it was started although it had failed: there is nothing else to start.
    pub(crate) is_last_resort: bool,
}

impl Told {
    pub(crate) fn read() -> Self {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // systemd would mount it in the same way, and takes it over.
        if mount(Some("efivarfs"), FOLDER, Some("efivarfs"), flags, None::<&str>).is_err() {
            return Self::default();
        }
        let variable = |name: &str| text(&std::fs::read(Path::new(FOLDER).join(name)).ok()?);
        Self {
            partition: variable(PARTITION).and_then(|text| text.parse().ok()),
            is_last_resort: variable(COUNTED).is_some_and(|path| is_last_resort(&path)),
        }
    }
}

/// Of a path with backslashes, the name tells.
fn is_last_resort(path: &str) -> bool {
    let name = path.rsplit('\\').next().and_then(UkiName::parse);
    name.and_then(|name| name.tries).is_some_and(Tries::is_last_resort)
}

/// UTF-16, with a zero at its end.
fn text(variable: &[u8]) -> Option<String> {
    let (units, _) = variable.get(ATTRIBUTES..)?.as_chunks::<2>();
    let text: String =
        char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).collect::<Result<_, _>>().ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_variable_is_a_uuid_in_utf_16() {
        let uuid = "1b2f3a4c-5d6e-4f70-8192-a3b4c5d6e7f8";
        let mut variable = vec![6, 0, 0, 0];
        uuid.encode_utf16().chain([0]).for_each(|unit| variable.extend(unit.to_le_bytes()));
        assert_eq!(text(&variable).unwrap(), uuid);
        assert_eq!((text(b"abc"), text(&[])), (None, None));
    }

    #[test]
    fn a_start_of_what_has_failed_is_the_last_resort() {
        assert!(is_last_resort("\\EFI\\Linux\\larder_2+0-4.efi"));
        for path in
            ["\\EFI\\Linux\\larder_2+0-3.efi", "\\EFI\\Linux\\larder_2+2-1.efi", "\\EFI\\Linux\\larder_2.efi", ""]
        {
            assert!(!is_last_resort(path), "{path}");
        }
    }
}
