//! What block devices are in use for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Use;

/// Mounts and swaps of a machine.
#[derive(Debug, Default)]
pub(super) struct Uses {
    root: PathBuf,
    /// Device number → mount points.
    mounts: BTreeMap<String, Vec<String>>,
    /// Kernel names of swap devices.
    swaps: Vec<String>,
}

impl Uses {
    /// Those of the machine below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let mut mounts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text("proc/self/mountinfo").lines() {
            // proc_pid_mountinfo(5): id, parent, device number, root of the mount, mount point, …
            let mut fields = line.split(' ').skip(2);
            if let (Some(number), Some(at)) = (fields.next(), fields.nth(1)) {
                mounts.entry(number.to_owned()).or_default().push(unescape(at));
            }
        }
        // proc_swaps(5): a header, then the path of the device first.
        let swaps = text("proc/swaps")
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.rsplit('/').next().map(str::to_owned))
            .collect();
        Self { root: root.to_owned(), mounts, swaps }
    }

    /// What the disk or partition `area`, whose folder of sysfs is `folder`, is in use for; and, through them, the devices
    /// that are made of it.
    pub(super) fn of(&self, area: &str, folder: &Path) -> Vec<Use> {
        let mut uses = Vec::new();
        self.collect(area, area, folder, &mut uses);
        uses.sort();
        uses.dedup();
        uses
    }

    fn collect(&self, area: &str, device: &str, folder: &Path, uses: &mut Vec<Use>) {
        let number = std::fs::read_to_string(folder.join("dev")).unwrap_or_default();
        let mounts = self.mounts.get(number.trim()).into_iter().flatten();
        uses.extend(mounts.map(|at| Use::Mount { area: area.to_owned(), at: at.clone() }));
        if self.swaps.iter().any(|swap| swap == device) {
            uses.push(Use::Swap { area: area.to_owned() });
        }
        for holder in super::machine::names(&folder.join("holders")) {
            uses.push(Use::Held { area: area.to_owned(), by: holder.clone() });
            self.collect(area, &holder, &self.root.join("sys/class/block").join(&holder), uses);
        }
    }
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let decoded = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match decoded {
            Some(byte) => {
                plain.push(byte as char);
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}
