//! What block devices are in use for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Use;
use super::machine::names;

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
            // proc_pid_mountinfo(5): id, parent, device number, root of the mount, mount point, …, `-`, type, source
            let mut fields = line.split(' ').skip(2);
            if let (Some(number), Some(at)) = (fields.next(), fields.nth(1)) {
                let source = fields.skip_while(|field| *field != "-").nth(2).unwrap_or_default();
                for number in std::iter::once(number.to_owned()).chain(disks_of(root, number, &unescape(source))) {
                    mounts.entry(number).or_default().push(unescape(at));
                }
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
        for holder in names(&folder.join("holders")) {
            uses.push(Use::Held { area: area.to_owned(), by: holder.clone() });
            self.collect(area, &holder, &self.root.join("sys/class/block").join(&holder), uses);
        }
    }
}

/// Numbers of the disks behind a mount that has a number of its own, as btrfs and bcachefs give it, since they may lie on
/// several.
fn disks_of(root: &Path, number: &str, source: &str) -> Vec<String> {
    if !number.starts_with("0:") {
        return Vec::new();
    }
    // bcachefs: all of them, with colons in between. btrfs: one of them; which others there are is in sysfs.
    let named = source.split(':').filter_map(|path| kernel_name(root, path));
    let named: Vec<_> = named.collect();
    let btrfs = root.join("sys/fs/btrfs");
    let together = names(&btrfs).into_iter().map(|id| names(&btrfs.join(id).join("devices")));
    let others = together.filter(|disks| disks.iter().any(|disk| named.contains(disk))).flatten();
    let number = |name: &String| std::fs::read_to_string(root.join("sys/class/block").join(name).join("dev")).ok();
    let mut numbers: Vec<_> =
        named.iter().cloned().chain(others).filter_map(|name| Some(number(&name)?.trim().to_owned())).collect();
    numbers.sort();
    numbers.dedup();
    numbers
}

/// `/dev/mapper/luks-1234` is a link to `../dm-0`.
fn kernel_name(root: &Path, path: &str) -> Option<String> {
    let node = root.join(Path::new(path).strip_prefix("/dev").ok().map(|rest| Path::new("dev").join(rest))?);
    let node = std::fs::read_link(&node).unwrap_or(node);
    Some(node.file_name()?.to_str()?.to_owned())
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
