//! What a machine is made of, as far as its firmware and its PCI bus say.
//!
//! Read from the running system (`/sys`), or from text that somebody saved on it:
//!
//! ```text
//! lspci -nn > dump; grep . /sys/class/dmi/id/{sys_vendor,product_name,board_name} >> dump
//! ```
//!
//! The output of `dmidecode` will do for the second part.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Vendor and device of a PCI function: `8086:46d4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String", extend("pattern" = "^[0-9a-f]{4}:[0-9a-f]{4}$")))]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
}

impl PciId {
    /// The kernel's name for a function of this id and class (`include/linux/mod_devicetable.h`); the subsystem is left
    /// open, as no driver of the boards asks for it.
    pub fn modalias(self, class: u32) -> String {
        let [_, base, sub, interface] = class.to_be_bytes();
        format!(
            "pci:v{:08X}d{:08X}sv00000000sd00000000bc{base:02X}sc{sub:02X}i{interface:02X}",
            self.vendor, self.device
        )
    }
}

impl FromStr for PciId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let half = |text: &str| {
            let is_id = text.len() == 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u16::from_str_radix(text, 16).ok().filter(|_| is_id)
        };
        let parsed = text.split_once(':').and_then(|(vendor, device)| Some((half(vendor)?, half(device)?)));
        let (vendor, device) =
            parsed.ok_or_else(|| format!("`{text}` is not a PCI id: write it as `lspci -nn` does, \"8086:46d4\""))?;
        Ok(Self { vendor, device })
    }
}

impl TryFrom<String> for PciId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PciId> for String {
    fn from(id: PciId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// What its firmware calls it.
    pub dmi: Dmi,
    /// What is on its PCI bus, in the order of the addresses.
    pub pci: Vec<PciFunction>,
}

/// What the firmware calls a machine; empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dmi {
    /// Manufacturer of the system.
    pub vendor: String,
    /// The product.
    pub product: String,
    /// The main board.
    pub board: String,
}

/// A function on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PciFunction {
    /// `0000:00:02.0`.
    pub address: String,
    /// Vendor and device.
    pub id: PciId,
    /// Class, subclass and programming interface; a dump says only the first two.
    pub class: u32,
    /// What lspci calls it; empty when read from the system.
    pub name: String,
    /// The driver that has taken it. A dump may be silent about that.
    pub driver: Option<String>,
}

impl PciFunction {
    /// Class and subclass (PCI Code and ID Assignment): 0x0200 is Ethernet.
    pub fn kind(&self) -> u32 {
        self.class >> 8
    }
}

impl Machine {
    /// The machine whose kernel shows itself below `root`.
    pub fn of_system(root: &Path) -> Self {
        let dmi = |name| text(&root.join("sys/class/dmi/id").join(name));
        Self {
            dmi: Dmi { vendor: dmi("sys_vendor"), product: dmi("product_name"), board: dmi("board_name") },
            pci: functions(&root.join("sys/bus/pci/devices")),
        }
    }

    /// The machine of a dump.
    pub fn of_dump(dump: &str) -> Self {
        let mut machine = Self::default();
        let mut section = "";
        for line in dump.lines() {
            if let Some(function) = lspci_line(line) {
                machine.pci.push(function);
            } else if let Some(driver) = line.trim().strip_prefix("Kernel driver in use: ") {
                if let Some(function) = machine.pci.last_mut() {
                    function.driver = Some(driver.to_owned());
                }
            } else if !line.starts_with([' ', '\t']) && line.ends_with("Information") {
                section = line;
            } else {
                machine.dmi.line(section, line);
            }
        }
        machine
    }

    /// Whether it has a function of this id.
    pub fn has(&self, id: PciId) -> bool {
        self.pci.iter().any(|function| function.id == id)
    }
}

impl fmt::Display for Dmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [("vendor", &self.vendor), ("product", &self.product), ("board", &self.board)];
        let said = names.into_iter().filter(|(_, value)| !value.is_empty());
        let said: Vec<_> = said.map(|(name, value)| format!("{name} `{value}`")).collect();
        f.write_str(if said.is_empty() { "nothing" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}

impl Dmi {
    /// Takes what a line of a dump says: `…/sys_vendor:AZW`, `sys_vendor: AZW`, or a field of a section of dmidecode.
    fn line(&mut self, section: &str, line: &str) {
        let Some((name, value)) = line.split_once(':') else { return };
        let name = name.rsplit('/').next().unwrap_or(name).trim();
        let field = match (name, section) {
            ("sys_vendor", _) | ("Manufacturer", "System Information") => &mut self.vendor,
            ("product_name", _) | ("Product Name", "System Information") => &mut self.product,
            ("board_name", _) | ("Product Name", "Base Board Information") => &mut self.board,
            _ => return,
        };
        if field.is_empty() {
            value.trim().clone_into(field);
        }
    }
}

/// `00:02.0 VGA compatible controller [0300]: Intel Corporation JasperLake [UHD Graphics] [8086:4e61] (rev 01)`.
fn lspci_line(line: &str) -> Option<PciFunction> {
    let (address, rest) = line.split_once(' ')?;
    let is_address = address.split([':', '.']).all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let address = match address.split(':').count() {
        2 => format!("0000:{address}"),
        3 => address.to_owned(),
        _ => return None,
    };
    // The class is the first part in brackets, the id the last one that looks like an id.
    let (_, from_class) = rest.split_once(" [")?;
    let (class, name) = from_class.split_once("]: ")?;
    let mut id_at = name.match_indices('[').filter_map(|(at, _)| Some((at, name.get(at + 1..at + 10)?.parse().ok()?)));
    let (at, id) = id_at.next_back()?;
    let class = u32::from_str_radix(class, 16).ok().filter(|_| is_address && class.len() == 4)?;
    Some(PciFunction { address, id, class: class << 8, name: name[..at].trim().to_owned(), driver: None })
}

fn functions(folder: &Path) -> Vec<PciFunction> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut functions: Vec<_> = entries.filter_map(|entry| function(&entry.path())).collect();
    functions.sort_by(|a, b| a.address.cmp(&b.address));
    functions
}

fn function(folder: &Path) -> Option<PciFunction> {
    let number = |name: &str| u32::from_str_radix(text(&folder.join(name)).strip_prefix("0x")?, 16).ok();
    let half = |name| number(name).and_then(|number| u16::try_from(number).ok());
    let driver = std::fs::read_link(folder.join("driver")).ok();
    Some(PciFunction {
        address: folder.file_name()?.to_string_lossy().into_owned(),
        id: PciId { vendor: half("vendor")?, device: half("device")? },
        class: number("class")?,
        name: String::new(),
        driver: driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned())),
    })
}

/// The content of a small file of the kernel; empty where there is none.
pub(super) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = include_str!("fixtures/asustor-fs6706t.txt");

    #[test]
    fn a_dump_says_what_is_on_the_bus_and_what_the_firmware_calls_it() {
        let machine = Machine::of_dump(DUMP);
        assert_eq!(machine.dmi.product, "Jasper Lake Client Platform");
        let gpu = machine.pci.iter().find(|function| function.kind() == 0x0300).unwrap();
        assert_eq!((gpu.address.as_str(), gpu.id.to_string().as_str()), ("0000:00:02.0", "8086:4e61"));
        assert_eq!(gpu.name, "Intel Corporation JasperLake [UHD Graphics]");
    }

    #[test]
    fn the_output_of_dmidecode_is_understood() {
        let dump = "Handle 0x0001, DMI type 1, 27 bytes\nSystem Information\n\tManufacturer: AZW\n\tProduct Name: ME mini\n\
                    \nBase Board Information\n\tManufacturer: AZW\n\tProduct Name: N5A\n";
        let expected = Dmi { vendor: "AZW".into(), product: "ME mini".into(), board: "N5A".into() };
        assert_eq!(Machine::of_dump(dump).dmi, expected);
    }

    #[test]
    fn the_driver_of_lspci_with_kernel_names_is_taken() {
        let dump = "02:00.0 Ethernet controller [0200]: Realtek [10ec:8125] (rev 05)\n\tKernel driver in use: r8169\n";
        assert_eq!(Machine::of_dump(dump).pci[0].driver.as_deref(), Some("r8169"));
    }

    #[test]
    fn a_running_system_says_the_same_and_which_driver_has_taken_what() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/bus/pci/devices/0000:00:02.0");
        std::fs::create_dir_all(&folder).unwrap();
        for (name, value) in [("vendor", "0x8086\n"), ("device", "0x46d4\n"), ("class", "0x030000\n")] {
            std::fs::write(folder.join(name), value).unwrap();
        }
        std::os::unix::fs::symlink("../../../bus/pci/drivers/i915", folder.join("driver")).unwrap();
        let machine = Machine::of_system(root.path());
        assert!(machine.has("8086:46d4".parse().unwrap()));
        assert_eq!(machine.pci[0].driver.as_deref(), Some("i915"));
        assert_eq!(machine.dmi, Dmi::default());
    }

    #[test]
    fn text_that_is_no_dump_is_no_machine() {
        for text in
            ["", "hello: world\n", "x [0300]: y", "00:02.0 VGA [0300]: no id\n", "zz:02.0 A [0300]: b [8086:1234]"]
        {
            assert_eq!(Machine::of_dump(text), Machine::default(), "{text:?}");
        }
    }
}
