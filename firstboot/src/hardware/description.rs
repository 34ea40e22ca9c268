//! What a profile says about its hardware.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::machine::{Dmi, PciId};
use super::{DESCRIPTION, Size};

/// The file in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Description {
    /// The profile that the image was built from.
    pub profile: String,
    /// Which machines every profile is for, this one's included: the right one is named where this is the wrong one.
    pub known: BTreeMap<String, Match>,
    /// What is on the board.
    pub devices: Vec<Device>,
    /// Modules that can drive many chips: the image has their firmware for these devices only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware_of_devices: Vec<String>,
    /// What is known to go wrong there.
    pub hazards: Vec<Hazard>,
    /// How memory is shared out.
    pub memory: Memory,
    /// How video is encoded and decoded, where the image can.
    pub graphics: Option<Graphics>,
}

impl Description {
    /// Reads that of the system below `root`.
    ///
    /// # Errors
    /// There is none: the image was built without the overlay `hardware`.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(DESCRIPTION);
        let text = fs_err::read_to_string(&path).context("this image does not say which hardware it is for")?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// What the profile says about a check's subject on its board.
    pub fn hazard(&self, check: Check) -> Option<&Hazard> {
        self.hazards.iter().find(|hazard| hazard.check == check)
    }
}

/// Which machines a profile is for. Everything that is given must hold; nothing given fits every machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Match {
    /// What the firmware calls the machine; one of these is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dmi: Vec<DmiPattern>,
    /// PCI ids that the machine has, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciId>,
    /// PCI ids of which the machine has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_pci: Vec<PciId>,
    /// PCI ids that the machine does not have: those of others that look alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent_pci: Vec<PciId>,
}

/// What the firmware calls a machine: patterns in which `*` stands for anything; letters count in either case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DmiPattern {
    /// Of the system's manufacturer (SMBIOS type 1; `sys_vendor`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Of the product (`product_name`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Of the main board (`board_name`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
}

impl DmiPattern {
    /// Whether a machine is called so. A pattern that asks for nothing fits none.
    pub fn fits(&self, dmi: &Dmi) -> bool {
        let asked = [(&self.vendor, &dmi.vendor), (&self.product, &dmi.product), (&self.board, &dmi.board)];
        let mut asked = asked.into_iter().filter_map(|(pattern, value)| Some((pattern.as_deref()?, value))).peekable();
        asked.peek().is_some() && asked.all(|(pattern, value)| wildcard(pattern, value))
    }
}

/// Whether `text` is what `pattern` describes; ASCII letters count in either case.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        // The last part ends the text; every other one is best found as early as possible.
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// One thing on the board that a driver has to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// What it is, for people.
    pub name: String,
    /// What it is for.
    pub class: Class,
    /// Its PCI id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciId>,
    /// Another name by which the kernel looks for its driver (a modalias).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The driver.
    pub module: String,
    /// Firmware that the driver asks for on this chip: names or globs below `usr/lib/firmware`.
    /// Of all that the driver could ask for on other chips nothing else is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// Where id, driver and firmware are known from.
    pub source: String,
    /// Why the image has no driver for it, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_driver: Option<String>,
}

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Drawing, encoding and decoding video.
    Graphics,
    /// A network card.
    Network,
    /// A slot for NVMe drives.
    Nvme,
    /// A controller of SATA drives.
    Sata,
    /// Soldered flash memory.
    Emmc,
    /// USB ports.
    Usb,
    /// The bus to sensors and memory modules, and what hangs on it.
    Smbus,
    /// The chip that keeps keys.
    Tpm,
    /// What restarts a machine that hangs.
    Watchdog,
    /// Temperatures, fans, voltages.
    Sensors,
    /// The clock that runs while the power is off.
    Clock,
}

impl Class {
    /// The class code by which drivers of whole classes find their devices: class, subclass, programming interface.
    pub fn pci_class(self) -> u32 {
        match self {
            Self::Graphics => 0x03_00_00,
            Self::Network => 0x02_00_00,
            Self::Nvme => 0x01_08_02,
            Self::Sata => 0x01_06_01,
            Self::Emmc => 0x08_05_01,
            Self::Usb => 0x0c_03_30,
            Self::Smbus | Self::Watchdog => 0x0c_05_00,
            Self::Tpm | Self::Sensors | Self::Clock => 0x06_00_00,
        }
    }
}

impl Device {
    /// The name by which the kernel looks for the driver: its PCI id in the form of a modalias, or the alias.
    pub fn modalias(&self) -> Option<String> {
        let pci = self.pci.map(|id| id.modalias(self.class.pci_class()));
        pci.or_else(|| self.alias.clone())
    }
}

/// What is known to go wrong on a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hazard {
    /// The check that finds it on the running machine.
    pub check: Check,
    /// What it means there.
    pub means: String,
    /// What to do.
    pub next: String,
}

/// How memory is shared out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Memory {
    /// With less the machine is not of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Size>,
    /// How much of it ZFS may take for its cache (ARC), in percent. The module's own limit is 5/8 or more, which leaves
    /// too little for programs on a small machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arc_percent: Option<u8>,
}

/// How video is encoded and decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Graphics {
    /// The kernel's driver.
    pub module: String,
    /// The driver of the Video Acceleration API (`LIBVA_DRIVER_NAME`).
    pub va_driver: String,
    /// How ffmpeg reaches the GPU.
    pub interfaces: Vec<Interface>,
    /// Codecs that the GPU encodes.
    pub encodes: Vec<Codec>,
    /// Codecs that the GPU decodes.
    pub decodes: Vec<Codec>,
}

/// How ffmpeg reaches a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// Intel's Quick Sync Video, by way of libvpl.
    Qsv,
    /// The Video Acceleration API.
    Vaapi,
}

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// H.264, AVC.
    H264,
    /// H.265.
    Hevc,
    /// AV1.
    Av1,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything_and_case_does_not_count() {
        for (pattern, text) in
            [("AZW", "azw"), ("*ME*mini*", "ME mini"), ("me*", "ME mini"), ("*", ""), ("a*b*c", "abbc"), ("a*a", "aa")]
        {
            assert!(wildcard(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("AZW", "AZW "), ("*mini", "mini s"), ("a*a", "a"), ("", "x"), ("a*b*c", "acb")] {
            assert!(!wildcard(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_nothing_fits_no_machine() {
        assert!(!DmiPattern::default().fits(&Dmi::default()));
    }

    #[test]
    fn a_device_is_looked_for_by_the_name_that_the_kernel_gives_it() {
        let text = r#"{"name": "x", "class": "usb", "pci": "8086:54ed", "module": "xhci_pci", "source": "lspci"}"#;
        let device: Device = serde_json::from_str(text).unwrap();
        assert_eq!(device.modalias().unwrap(), "pci:v00008086d000054EDsv00000000sd00000000bc0Csc03i30");
    }
}
