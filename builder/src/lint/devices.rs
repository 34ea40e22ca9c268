//! The devices of the board that the image is for: each must find its driver and its firmware.
//!
//! What the profile says about the board is in the image itself; whether it is true of the image is asked in the way
//! the kernel will ask: a device's name is looked up in `modules.alias`, the driver in `modules.dep`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use firstboot::hardware::{DESCRIPTION, Description, Device};

use super::{Finding, Lint, Root};
use crate::kernel::firmware::FirmwareIndex;
use crate::kernel::modinfo::{ModInfo, canonical, name_of_file};
use crate::path_glob;

const MODULES: &str = "usr/lib/modules";
const FIRMWARE: &str = "usr/lib/firmware";

pub(super) const DEVICES: Lint = Lint {
    name: "devices",
    protects_from: "devices of the profile's board that find no driver or no firmware in the image",
    check: |root| {
        let Some(description) = description(root)? else { return Ok(Vec::new()) };
        let drivers = Drivers::of(root)?;
        let folder = root.path().join(FIRMWARE);
        let firmware = FirmwareIndex::open(folder.is_dir().then_some(folder))?;
        let mut found = Vec::new();
        for device in &description.devices {
            found.extend(driver_fault(device, &drivers));
            found.extend(missing_firmware(device, &firmware)?);
        }
        Ok(found)
    },
};

/// What the image says about the hardware that it is for, if it says anything.
pub(super) fn description(root: &Root) -> anyhow::Result<Option<Description>> {
    let path = root.path().join(DESCRIPTION);
    if !path.is_file() {
        return Ok(None);
    }
    let text = root.text(DESCRIPTION)?;
    serde_json::from_str(&text).with_context(|| format!("reading {DESCRIPTION}")).map(Some)
}

fn driver_fault(device: &Device, drivers: &Drivers) -> Option<Finding> {
    let Device { name, module, .. } = device;
    let finding = |message: String, remedy: &'static str| Some(Finding::new(DESCRIPTION, message, remedy));
    let module = canonical(module);
    let taken = match device.modalias() {
        Some(alias) => drivers.for_alias(&alias),
        None => drivers.names.iter().filter(|name| **name == module).cloned().collect(),
    };
    if device.without_driver.is_some() {
        let taken: Vec<_> = taken.into_iter().collect();
        let message = format!("{name}: the profile says that it has no driver, but {} takes it", taken.join(", "));
        return if taken.is_empty() { None } else { finding(message, "remove `without-driver` from the device") };
    }
    if taken.contains(&module) {
        return None;
    }
    let others = taken.into_iter().collect::<Vec<_>>().join(", ");
    let seen =
        if others.is_empty() { "no module of the image takes it".to_owned() } else { format!("{others} takes it") };
    let asked = device.modalias().unwrap_or_else(|| module.clone());
    finding(
        format!("{name}: the driver {module} is to take it ({asked}), but {seen}"),
        "keep the module (`kernel.modules`), or mend the device in the profile",
    )
}

fn missing_firmware(device: &Device, index: &FirmwareIndex) -> anyhow::Result<Vec<Finding>> {
    let mut missing = Vec::new();
    for pattern in &device.firmware {
        let named = [(pattern.clone(), BTreeSet::from([device.module.clone()]))].into();
        if !index.plan(&named, &[], "the image")?.missing.is_empty() {
            missing.push(Finding::new(
                Path::new(FIRMWARE).join(pattern).as_path(),
                format!("is not there, and {} asks for it on this board ({})", device.module, device.name),
                "include the package that ships it (`packages.include`)",
            ));
        }
    }
    Ok(missing)
}

/// Drivers of the image's kernel.
struct Drivers {
    /// Pattern of device names, and the module that has it.
    aliases: Vec<(String, String)>,
    /// Modules that can be loaded, and built-in ones.
    names: BTreeSet<String>,
}

impl Drivers {
    fn of(root: &Root) -> anyhow::Result<Self> {
        let mut drivers = Self { aliases: Vec::new(), names: BTreeSet::new() };
        for (kernel, _) in root.entries(MODULES) {
            let folder = Path::new(MODULES).join(kernel);
            let aliases = root.text(folder.join("modules.alias"))?;
            drivers.aliases.extend(aliases.lines().filter_map(alias_line));
            for list in ["modules.dep", "modules.builtin"] {
                let text = root.text(folder.join(list))?;
                let files = text.lines().filter_map(|line| line.split(':').next());
                drivers.names.extend(files.filter_map(name_of_file));
            }
            let builtin = root.text(folder.join("modules.builtin.modinfo"))?;
            for (module, info) in ModInfo::of_builtin(builtin.as_bytes()) {
                drivers.aliases.extend(info.aliases.into_iter().map(|alias| (alias, module.clone())));
            }
        }
        Ok(drivers)
    }

    fn for_alias(&self, name: &str) -> BTreeSet<String> {
        // Few patterns begin as the name does, and only those are worth to be compiled.
        let begins = |(pattern, _): &&(String, String)| {
            pattern.split(['*', '?', '[']).next().is_some_and(|head| name.starts_with(head))
        };
        let fits = |(pattern, _): &&(String, String)| {
            path_glob::parse(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
        };
        self.aliases.iter().filter(begins).filter(fits).map(|(_, module)| module.clone()).collect()
    }
}

/// `alias pci:v00008086d0000125Csv*sd*bc*sc*i* igc`
fn alias_line(line: &str) -> Option<(String, String)> {
    let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
    Some((pattern.to_owned(), canonical(module)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn tree(devices: &str) -> Tree {
        let description = format!(
            r#"{{"profile": "nas", "known": {{}}, "devices": [{devices}], "hazards": [], "memory": {{}}, "graphics": null}}"#
        );
        Tree::new()
            .file(DESCRIPTION, description)
            .file("usr/lib/modules/6.1/modules.dep", "kernel/igc.ko: kernel/ptp.ko\nkernel/nvme.ko:\nkernel/i915.ko:\n")
            .file("usr/lib/modules/6.1/modules.builtin", "kernel/drivers/char/tpm/tpm_crb.ko\n")
            .file("usr/lib/modules/6.1/modules.builtin.modinfo", "tpm_tis.alias=acpi*:SMO0768:*\0")
            .file(
                "usr/lib/modules/6.1/modules.alias",
                "# made by depmod\nalias pci:v00008086d0000125Csv*sd*bc*sc*i* igc\nalias pci:v*d*sv*sd*bc01sc08i02* nvme\n\
                 alias pci:v00008086d000046D4sv*sd*bc03sc*i* i915\n",
            )
            .file("usr/lib/firmware/i915/tgl_huc.bin", "")
    }

    fn device(name: &str, more: &str) -> String {
        format!(r#"{{"name": "{name}", "source": "a test", {more}}}"#)
    }

    fn findings(devices: &[String]) -> Vec<String> {
        tree(&devices.join(", ")).findings(&DEVICES)
    }

    #[test]
    fn devices_that_find_driver_and_firmware_are_fine() {
        let found = findings(&[
            device("card", r#""class": "network", "pci": "8086:125c", "module": "igc""#),
            device("any drive", r#""class": "nvme", "pci": "1e4b:1202", "module": "nvme""#),
            device(
                "GPU",
                r#""class": "graphics", "pci": "8086:46d4", "module": "i915", "firmware": ["i915/tgl_*.bin"]"#,
            ),
            device("TPM", r#""class": "tpm", "module": "tpm-crb""#),
            device("old TPM", r#""class": "tpm", "alias": "acpi:SMO0768:", "module": "tpm_tis""#),
            device("new", r#""class": "network", "pci": "10ec:8127", "module": "r8169", "without-driver": "later""#),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_device_without_its_driver_or_firmware_is_found() {
        let found = findings(&[
            device("card", r#""class": "network", "pci": "10ec:8125", "module": "r8169""#),
            device("fan", r#""class": "sensors", "module": "it87""#),
            device("drive", r#""class": "nvme", "pci": "1e4b:1202", "module": "ahci""#),
            device(
                "GPU",
                r#""class": "graphics", "pci": "8086:46d4", "module": "i915", "firmware": ["i915/tgl_guc_70.bin"]"#,
            ),
            device("new", r#""class": "network", "pci": "8086:125c", "module": "igc", "without-driver": "later""#),
        ]);
        insta::assert_snapshot!(found.join("\n"), @r"
        /usr/lib/firmware/i915/tgl_guc_70.bin: is not there, and i915 asks for it on this board (GPU)
        /usr/lib/larder/hardware.json: card: the driver r8169 is to take it (pci:v000010ECd00008125sv00000000sd00000000bc02sc00i00), but no module of the image takes it
        /usr/lib/larder/hardware.json: drive: the driver ahci is to take it (pci:v00001E4Bd00001202sv00000000sd00000000bc01sc08i02), but nvme takes it
        /usr/lib/larder/hardware.json: fan: the driver it87 is to take it (it87), but no module of the image takes it
        /usr/lib/larder/hardware.json: new: the profile says that it has no driver, but igc takes it
        ");
    }

    #[test]
    fn an_image_that_says_nothing_about_hardware_has_nothing_to_prove() {
        assert_eq!(Tree::new().findings(&DEVICES), Vec::<String>::new());
    }
}
