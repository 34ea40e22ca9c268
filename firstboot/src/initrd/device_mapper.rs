//! The three requests to the kernel's device mapper that make a device (linux/dm-ioctl.h).
//!
//! Each is a header of 312 bytes, which the kernel answers in place, and for a table what follows it:
//!
//! ```text
//!   0  version       u32 × 3     24  openers   i32       48  name  [128]
//!  12  size          u32         28  flags     u32      176  uuid  [129]
//!  16  start of data u32         32  event     u32      312  for a table: start of the target u64, length u64,
//!  20  targets       u32         40  device    u64           status u32, next u32, kind [16], parameters, 0
//! ```

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::errno::Errno;

const HEADER: usize = 312;
/// Kernels take every version up to their own; 4.0.0 has all that is needed here.
const VERSION: u32 = 4;
const MAGIC: u8 = 0xfd;
const READ_ONLY: u32 = 1;

/// Number of a request, with what to call it when it fails.
#[derive(Debug, Clone, Copy)]
enum Request {
    Create = 3,
    /// Without the flag that would suspend it, the device starts to work with the table it was given.
    Resume = 6,
    LoadTable = 9,
}

/// What a device is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Size of the device in sectors of 512 bytes.
    pub(crate) sectors: u64,
    /// Kind of its only target: `verity`.
    pub(crate) kind: &'static str,
    /// Parameters of the target.
    pub(crate) parameters: String,
}

/// Makes a read-only device and gives its path below `/dev`.
pub(crate) fn create(name: &str, uuid: &str, table: &Table) -> anyhow::Result<PathBuf> {
    let control = fs_err::OpenOptions::new().read(true).write(true).open("/dev/mapper/control")?;
    let answer = request(control.file(), Request::Create, message(name, uuid, &[]))?;
    // The kernel refuses both name and UUID with a request for a device that has them.
    request(control.file(), Request::LoadTable, message(name, "", &table.to_bytes()))?;
    request(control.file(), Request::Resume, message(name, "", &[]))?;
    Ok(node(u64::from_ne_bytes(std::array::from_fn(|i| answer[40 + i]))))
}

/// The node of a device number, whose twelve bits for the major one lie between low and high bits of the minor one.
fn node(device: u64) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", device & 0xff | device >> 12 & 0xf_ff00))
}

fn message(name: &str, uuid: &str, data: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend(data);
    let size = message.len() as u32;
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &VERSION.to_ne_bytes());
    put(12, &size.to_ne_bytes());
    put(16, &(HEADER as u32).to_ne_bytes());
    put(20, &u32::from(!data.is_empty()).to_ne_bytes());
    put(28, &READ_ONLY.to_ne_bytes());
    put(48, name.as_bytes());
    put(176, uuid.as_bytes());
    message
}

impl Table {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[8..16].copy_from_slice(&self.sectors.to_ne_bytes());
        bytes[24..24 + self.kind.len()].copy_from_slice(self.kind.as_bytes());
        bytes.extend(self.parameters.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

/// Sends a message and gives the kernel's answer.
fn request(control: &File, request: Request, mut message: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let code = nix::request_code_readwrite!(MAGIC, request as u8, HEADER);
    #[expect(unsafe_code, reason = "no system call wrapper knows the device mapper")]
    // SAFETY: the kernel reads and writes at most as many bytes as the message says that it has (`size`), and that
    // is its length; the vector lives until the call returns.
    let status = unsafe { nix::libc::ioctl(control.as_raw_fd(), code as _, message.as_mut_ptr()) };
    Errno::result(status).with_context(|| format!("device mapper: {request:?}"))?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_created_under_its_name_and_uuid() {
        let message = message("root", "CRYPT-VERITY-1-root", &[]);
        assert_eq!(message.len(), HEADER);
        assert_eq!(message[12..20], [0x38, 1, 0, 0, 0x38, 1, 0, 0]);
        assert_eq!(message[24..32], [0, 0, 0, 0, 1, 0, 0, 0], "nobody has it open; it is read-only");
        assert!(message[48..].starts_with(b"root\0") && message[176..].starts_with(b"CRYPT-VERITY-1-root\0"));
    }

    #[test]
    fn a_table_follows_the_header_and_ends_on_eight_bytes() {
        let table = Table { sectors: 0x1234, kind: "verity", parameters: "1 8:3 8:4".to_owned() };
        let message = message("root", "", &table.to_bytes());
        assert_eq!(message[20], 1, "one target");
        assert_eq!(message[HEADER + 8..HEADER + 10], [0x34, 0x12]);
        assert!(message[HEADER + 24..].starts_with(b"verity\0"));
        assert_eq!(&message[HEADER + 40..], b"1 8:3 8:4\0\0\0\0\0\0\0");
        assert_eq!(usize::from(message[12]) + 256 * usize::from(message[13]), message.len());
    }

    #[test]
    fn the_minor_number_may_exceed_a_byte() {
        assert_eq!(node(0x0000_fe00), PathBuf::from("/dev/dm-0"));
        assert_eq!(node(0x0010_fe02), PathBuf::from("/dev/dm-258"));
    }
}
