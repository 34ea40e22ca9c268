//! Firmware that kept modules may ask for.

use std::collections::{BTreeMap, BTreeSet};

use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use super::devices;
use super::{Finding, Lint};
use crate::kernel::firmware::{FirmwareIndex, without_other_chips};
use crate::kernel::modinfo::{ModInfo, name_of_file};

const FOLDER: &str = "usr/lib/firmware";

pub(super) const FIRMWARE: Lint = Lint {
    name: "firmware",
    protects_from: "devices that stay dead or slow because their firmware is missing",
    check: |root| {
        let modules = root.below("usr/lib/modules").filter(|(path, _)| name_of_file(&path.to_string_lossy()).is_some());
        let asked: anyhow::Result<Vec<_>> = modules
            .par_bridge()
            .map(|(path, _)| {
                let info = ModInfo::of_file(&root.path().join(path))?;
                let name = name_of_file(&path.to_string_lossy()).unwrap_or_default();
                Ok(info.firmware.into_iter().map(move |file| (file, name.clone())).collect::<Vec<_>>())
            })
            .collect();
        let mut named = BTreeMap::<String, BTreeSet<String>>::new();
        for (file, module) in asked?.into_iter().flatten() {
            named.entry(file).or_default().insert(module);
        }
        let by_device = devices::description(root)?.map(|description| description.firmware_of_devices);
        let named = without_other_chips(named, &by_device.unwrap_or_default());
        let folder = root.path().join(FOLDER);
        let index = FirmwareIndex::open(folder.is_dir().then_some(folder))?;
        let missing = index.plan(&named, &[], "the image")?.missing;
        Ok(missing
            .into_iter()
            .map(|firmware| {
                let modules = firmware.modules.into_iter().collect::<Vec<_>>().join(", ");
                Finding::new(
                    &*format!("{FOLDER}/{}", firmware.name),
                    format!("is not there, and {modules} may ask for it"),
                    "include the package that ships it (`packages.include`), or do not keep the module",
                )
            })
            .collect())
    },
};

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::kernel::modinfo::tests::module;

    #[test]
    fn firmware_that_a_module_may_ask_for_must_be_there() {
        let tree = Tree::new()
            .file(
                "usr/lib/modules/6.1/kernel/r8169.ko",
                module(&["name=r8169", "firmware=rtl_nic/a.fw", "firmware=rtl_nic/b.fw", "firmware=rtl_nic/c.fw"]),
            )
            .file("usr/lib/modules/6.1/kernel/igc.ko", module(&["name=igc"]))
            .file("usr/lib/firmware/rtl_nic/a.fw", "")
            .file("usr/lib/firmware/rtl_nic/b.fw.xz", "");
        assert_eq!(
            tree.findings(&FIRMWARE),
            ["/usr/lib/firmware/rtl_nic/c.fw: is not there, and r8169 may ask for it"]
        );
    }
}
