//! What the boot loader tells about where it has come from.
//!
//! Two disks with the same system may be connected: a stick, and the disk it was installed to. Their roots have the same
//! UUIDs; their ESPs have not, and systemd-boot(7) leaves the UUID of its own in the variable `LoaderDevicePartUUID` (Boot
//! Loader Interface).

use std::path::Path;

use nix::mount::{MsFlags, mount};
use uuid::Uuid;

/// Exists where there is firmware with variables.
const FOLDER: &str = "/sys/firmware/efi/efivars";
/// With the vendor GUID of the Boot Loader Interface.
const VARIABLE: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// What efivarfs puts before a variable's content.
const ATTRIBUTES: usize = 4;

/// The UUID of the ESP that this system was started from; `None` when nobody has said so, as a kernel that the firmware
/// starts by itself.
pub(crate) fn start_partition() -> Option<Uuid> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // systemd would mount it in the same way, and takes it over.
    mount(Some("efivarfs"), FOLDER, Some("efivarfs"), flags, None::<&str>).ok()?;
    parse(&std::fs::read(Path::new(FOLDER).join(VARIABLE)).ok()?)
}

/// UTF-16, with a zero at its end.
fn parse(variable: &[u8]) -> Option<Uuid> {
    let (units, _) = variable.get(ATTRIBUTES..)?.as_chunks::<2>();
    let text: String =
        char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).collect::<Result<_, _>>().ok()?;
    text.trim_end_matches('\0').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_variable_is_a_uuid_in_utf_16() {
        let text = "1b2f3a4c-5d6e-4f70-8192-a3b4c5d6e7f8";
        let mut variable = vec![6, 0, 0, 0];
        text.encode_utf16().chain([0]).for_each(|unit| variable.extend(unit.to_le_bytes()));
        assert_eq!(parse(&variable), Some(text.parse().unwrap()));
        assert_eq!((parse(&variable[..20]), parse(b"abc"), parse(&[])), (None, None, None));
    }
}
