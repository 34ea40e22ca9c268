//! The kernel's modules: one kernel's, and all that the image asks for.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, Lint, Root};
use crate::kernel::modinfo::{canonical, name_of_file};

const MODULES: &str = "usr/lib/modules";

pub(super) const KERNEL_MODULES: Lint = Lint {
    name: "kernel-modules",
    protects_from: "modules of another kernel, and modules that are wanted at boot and missing",
    check: |root| {
        let kernels: Vec<_> = root.entries(MODULES).map(|(name, _)| name.to_owned()).collect();
        let mut found = Vec::new();
        if kernels.len() > 1 {
            let message = format!("holds the modules of {} kernels: {}", kernels.len(), kernels.join(", "));
            found.push(Finding::new(
                MODULES,
                message,
                "an image has one kernel: leave the others out (`packages.forbid`)",
            ));
        }
        let mut known = BTreeSet::new();
        for kernel in kernels {
            known.extend(modules_of(root, &Path::new(MODULES).join(kernel), &mut found)?);
        }
        found.extend(loaded_at_boot(root, &known)?);
        Ok(found)
    },
};

/// Names of the modules that a kernel can load or has built in; what depmod did not see is a fault.
fn modules_of(root: &Root, folder: &Path, found: &mut Vec<Finding>) -> anyhow::Result<BTreeSet<String>> {
    let listed = root.text(folder.join("modules.dep"))?;
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(':').next()).collect();
    let present: BTreeSet<_> = root
        .below(&folder.to_string_lossy())
        .filter_map(|(path, _)| Some(path.strip_prefix(folder).ok()?.to_string_lossy().into_owned()))
        .filter(|path| name_of_file(path).is_some())
        .collect();
    for path in &present {
        if !listed.contains(&**path) {
            found.push(Finding::new(
                &folder.join(path),
                "is not in modules.dep: nothing can load it",
                "run depmod after it is in place",
            ));
        }
    }
    for path in listed.iter().filter(|path| !present.contains(**path)) {
        found.push(Finding::new(
            &folder.join(path),
            "is in modules.dep, but not in the image",
            "run depmod after it is gone",
        ));
    }
    let built_in = root.text(folder.join("modules.builtin"))?;
    let all = present.iter().map(String::as_str).chain(built_in.lines());
    Ok(all.filter_map(name_of_file).collect())
}

/// Modules that modules-load.d(5) names and the kernel does not have.
fn loaded_at_boot(root: &Root, known: &BTreeSet<String>) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for folder in ["usr/lib/modules-load.d", "etc/modules-load.d"] {
        for (name, _) in root.entries(folder).filter(|(name, _)| name.ends_with(".conf")) {
            let path = Path::new(folder).join(name);
            let text = root.text(&path)?;
            let words = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
            for module in words.filter(|module| !known.contains(&canonical(module))) {
                let message = format!("asks for the module {module}, which the image does not have");
                found.push(Finding::new(&path, message, "keep the module (`kernel.modules`), or leave the file out"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn modules_that_cannot_be_loaded_are_found() {
        let tree = Tree::new()
            .file("usr/lib/modules/6.1/modules.dep", "kernel/a.ko:\nkernel/gone.ko: kernel/a.ko\n")
            .file("usr/lib/modules/6.1/modules.builtin", "kernel/built-in.ko\n")
            .file("usr/lib/modules/6.1/kernel/a.ko", "")
            .file("usr/lib/modules/6.1/kernel/new.ko", "")
            .file("usr/lib/modules-load.d/x.conf", "# comment\na\nbuilt_in\nmissing\n");
        assert_eq!(
            tree.findings(&KERNEL_MODULES),
            [
                "/usr/lib/modules-load.d/x.conf: asks for the module missing, which the image does not have",
                "/usr/lib/modules/6.1/kernel/gone.ko: is in modules.dep, but not in the image",
                "/usr/lib/modules/6.1/kernel/new.ko: is not in modules.dep: nothing can load it",
            ]
        );
    }

    #[test]
    fn a_second_kernel_is_found() {
        let tree = Tree::new().folder("usr/lib/modules/6.1").folder("usr/lib/modules/6.2");
        assert_eq!(tree.findings(&KERNEL_MODULES), ["/usr/lib/modules: holds the modules of 2 kernels: 6.1, 6.2"]);
    }
}
