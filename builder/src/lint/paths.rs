//! Where files are, and what they are called.

use std::collections::BTreeMap;
use std::path::Path;

use super::root::Kind;
use super::{Finding, Lint, Root};

/// The top-level folders of a Debian system (file-hierarchy(7), FHS 3.0), and larder's own.
const TOP_LEVEL: [&str; 20] = [
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv",
    "state", "sys", "tmp", "usr", "var",
];

/// Something is mounted there at each boot, whatever units say (firstboot/src/initrd/mounts.rs).
const MOUNTED_BY_INITRD: [&str; 7] = ["dev", "mnt", "proc", "root", "run", "sys", "tmp"];

pub(super) const FOREIGN_PATHS: Lint = Lint {
    name: "foreign-paths",
    protects_from: "files beside the folders of a Debian system, where nobody looks for them",
    check: |root| {
        let found = root.entries("").filter(|(name, _)| !TOP_LEVEL.contains(name)).map(|(name, _)| {
            Finding::new(name, "is not a top-level folder of the image", "give it a place below /usr, /etc or /var")
        });
        Ok(found.collect())
    },
};

pub(super) const FILE_NAMES: Lint = Lint {
    name: "file-names",
    protects_from: "names that programs and people stumble over: not UTF-8, or with control characters",
    check: |root| {
        let found = root.nodes().filter_map(|(path, _)| {
            let message = match path.file_name()?.to_str() {
                None => "has a name that is not UTF-8",
                Some(name) if name.chars().any(char::is_control) => "has a control character in its name",
                Some(_) => return None,
            };
            // Control characters must not reach the terminal.
            let shown = path.to_string_lossy().escape_debug().to_string();
            Some(Finding::new(&*shown, message, "leave it out (`files.exclude`)"))
        });
        Ok(found.collect())
    },
};

pub(super) const HIDDEN_FILES: Lint = Lint {
    name: "hidden-files",
    protects_from: "files that nobody sees because something is mounted over them",
    check: |root| {
        let mut places: BTreeMap<String, String> =
            MOUNTED_BY_INITRD.iter().map(|&place| (place.to_owned(), "the initrd".to_owned())).collect();
        places.extend(mount_units(root)?);
        let mut found = Vec::new();
        for (place, by) in &places {
            for (path, _) in root.below(place).filter(|(_, node)| node.kind != Kind::Folder) {
                found.push(Finding::new(
                    path,
                    format!("is hidden by what {by} mounts at /{place}"),
                    "remove it (`files.remove`), or have it made at boot (tmpfiles.d)",
                ));
            }
        }
        Ok(found)
    },
};

/// Where enabled mount units mount something: place and unit.
fn mount_units(root: &Root) -> anyhow::Result<Vec<(String, String)>> {
    let mut places = Vec::new();
    for (unit, path) in super::units::enabled(root) {
        let is_mount = Path::new(&unit).extension().is_some_and(|kind| kind == "mount");
        let Some(path) = path.filter(|_| is_mount) else { continue };
        let text = root.text(path)?;
        let place = text.lines().find_map(|line| line.trim().strip_prefix("Where="));
        places.extend(place.map(|place| (place.trim().trim_matches('/').to_owned(), unit)));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn files_beside_the_usual_folders_are_found() {
        let tree = Tree::new().file("usr/bin/x", "").file("initrd.img", "").folder("lost+found");
        assert_eq!(
            tree.findings(&FOREIGN_PATHS),
            [
                "/initrd.img: is not a top-level folder of the image",
                "/lost+found: is not a top-level folder of the image"
            ]
        );
    }

    #[test]
    fn names_that_are_no_text_are_found() {
        let tree = Tree::new().file("etc/Főtanúsítvány.pem", "").file("etc/new\nline", "");
        fs_err::write(tree.at("etc").join(OsStr::from_bytes(b"caf\xe9")), "").unwrap();
        assert_eq!(
            tree.findings(&FILE_NAMES),
            ["/etc/caf\u{fffd}: has a name that is not UTF-8", "/etc/new\\nline: has a control character in its name"]
        );
    }

    #[test]
    fn files_below_mount_points_are_found() {
        let tree = Tree::new()
            .file("run/motd", "")
            .file("root/.profile", "")
            .file("srv/data", "")
            .folder("root/empty")
            .file("usr/lib/systemd/system/root.mount", "[Mount]\nWhere=/root\n")
            .file("usr/lib/systemd/system/srv.mount", "[Mount]\nWhere=/srv\n")
            .link("etc/systemd/system/local-fs.target.wants/root.mount", "/usr/lib/systemd/system/root.mount");
        assert_eq!(
            tree.findings(&HIDDEN_FILES),
            [
                "/root/.profile: is hidden by what root.mount mounts at /root",
                "/run/motd: is hidden by what the initrd mounts at /run"
            ]
        );
    }
}
