//! What udev knows of a block device: `/run/udev/data/bMAJOR:MINOR`, a line for each property, `E:NAME=VALUE`.
//!
//! The format is udev's own; it has been the same for fifteen years, and lsblk(8) without root reads it too.

use std::collections::BTreeMap;
use std::path::Path;

/// The properties of one device; none when udev does not know it.
#[derive(Debug, Default)]
pub(super) struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Those of the device `number` (`8:0`) of the machine below `root`.
    pub(super) fn read(root: &Path, number: &str) -> Self {
        let text = std::fs::read_to_string(root.join("run/udev/data").join(format!("b{number}"))).unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A property; `None` when it is missing or empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.trim().is_empty()).cloned()
    }

    /// A property in which udev has written what it does not like as `\xNN`.
    pub(super) fn decoded(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| decode(&value).trim().to_owned()).filter(|value| !value.is_empty())
    }
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .strip_prefix(b"x")
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits.get(..2)?).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    // Whoever made the label may have meant anything; a terminal is not to obey it.
    let text = String::from_utf8_lossy(&bytes);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_and_decoded() {
        let properties = Properties::parse(
            "S:disk/by-id/usb-X\nI:123\nE:ID_SERIAL_SHORT=4C53\nE:ID_FS_LABEL_ENC=my\\x20photos\\x\nE:ID_MODEL=\nE:A=b=c\n",
        );
        assert_eq!(properties.get("ID_SERIAL_SHORT").as_deref(), Some("4C53"));
        assert_eq!(properties.decoded("ID_FS_LABEL_ENC").as_deref(), Some("my photos\\x"));
        assert_eq!(properties.get("ID_MODEL"), None);
        assert_eq!(properties.get("A").as_deref(), Some("b=c"));
    }

    #[test]
    fn a_label_cannot_command_a_terminal() {
        assert_eq!(decode("a\\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
