//! Devices whose driver is missing, or works without what it needs.

use super::super::PciFunction;
use super::super::PciId;
use super::{Fault, System};

/// PCI Code and ID Assignment: class and subclass.
const ETHERNET: u32 = 0x0200;
const DISPLAY: u32 = 0x03;

/// JMicron's controllers that claim to reach all memory and do not (Linux 105c42566a55).
const JMB58X: [PciId; 2] = [PciId { vendor: 0x197b, device: 0x0582 }, PciId { vendor: 0x197b, device: 0x0585 }];

/// What libahci says when it does not use what the controller claims (`ahci_save_initial_config`).
const FORCED_32_BIT: &str = "controller can't do 64bit DMA, forcing 32bit";

/// An IOMMU page table that keeps the addresses low which such a controller gets.
const LOW_ADDRESSES: &str = "amd_iommu=pgtbl_v2";

pub(super) fn network(system: &System) -> Vec<Fault> {
    let next =
        "use another port, or a USB network card; `firstboot hardware detect` says which image is for this machine";
    without_driver(system, |function| function.kind() == ETHERNET, "the network card", next)
}

pub(super) fn graphics(system: &System) -> Vec<Fault> {
    // An image without graphics leaves the GPU alone on purpose.
    if system.description.graphics.is_none() {
        return Vec::new();
    }
    let next = "`firstboot hardware detect` says which image is for this machine; until then the CPU encodes";
    without_driver(system, |function| function.kind() >> 8 == DISPLAY, "the GPU", next)
}

fn without_driver(
    system: &System,
    chosen: impl Fn(&PciFunction) -> bool,
    what: &str,
    next: &'static str,
) -> Vec<Fault> {
    let functions = system.machine.pci.iter().filter(|function| chosen(function) && function.driver.is_none());
    let fault = |function: &PciFunction| {
        let PciFunction { id, address, .. } = function;
        let known = system.description.devices.iter().find(|device| device.pci == Some(*id));
        let name = known.map(|device| format!(" ({})", device.name)).unwrap_or_default();
        let why = known.and_then(|device| device.without_driver.clone());
        let why = why.unwrap_or_else(|| "no driver in this kernel has taken it".to_owned());
        Fault::new(format!("{what} {id} at {address}{name} does nothing: {why}."), next)
    };
    functions.map(fault).collect()
}

/// i915 says `GT0: HuC: authenticated for all workloads` once (`intel_huc_auth`). Without it there is no
/// low-power encoder, and on some chips no encoder at all.
pub(super) fn huc(system: &System) -> Vec<Fault> {
    let has_i915 = system.machine.pci.iter().any(|function| function.driver.as_deref() == Some("i915"));
    let wanted = system.description.graphics.as_ref().is_some_and(|graphics| graphics.module == "i915");
    if !has_i915 || !wanted || system.log.first(&["HuC", "authenticated"]).is_some() {
        return Vec::new();
    }
    let failed = |line: &&str| {
        ["HuC", "GuC"].iter().any(|part| line.contains(part))
            && ["ERROR", "fail"].iter().any(|part| line.contains(part))
    };
    let said = system.log.lines().find(failed).map(|line| format!(" The kernel says: {line}")).unwrap_or_default();
    vec![Fault::new(
        format!("the GPU's HuC firmware was not authenticated, so it encodes slowly or not at all.{said}"),
        "see that nothing on the kernel's command line sets i915.enable_guc to 0 or 1, then restart",
    )]
}

/// On affected boards such a controller writes to the wrong memory, silently, unless it is kept to 32 bits.
pub(super) fn jmb585(system: &System) -> Vec<Fault> {
    let functions = system.machine.pci.iter().filter(|function| JMB58X.contains(&function.id));
    let in_danger = functions.filter(|function| system.log.first(&[&function.address, FORCED_32_BIT]).is_none());
    let mitigated = system.command_line.split_ascii_whitespace().any(|word| word == LOW_ADDRESSES);
    let fault = |function: &PciFunction| {
        Fault::new(
            format!(
                "the SATA controller {} at {} is not kept to 32-bit addresses: on some boards it then corrupts data \
                 without any error.",
                function.id, function.address
            ),
            format!(
                "make no pool on its ports; start an image whose kernel has the quirk, or add {LOW_ADDRESSES} to the profile's kernel.command-line"
            ),
        )
    };
    in_danger.filter(|_| !mitigated).map(fault).collect()
}
