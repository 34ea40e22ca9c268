use std::path::PathBuf;

use firstboot::verity::{RootHash, Tree};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::image::disk::{Parts, assemble};
use crate::image::inspect::uki::fake;
use crate::image::version::Version;
use crate::initrd::cpio;

/// What an image is made of.
struct Ingredients {
    root: Vec<u8>,
    loader_conf: &'static str,
    command_line: &'static str,
    initrd: Vec<u8>,
}

impl Ingredients {
    fn usual() -> Self {
        let initrd = initrd(&[("init", "program"), ("etc/initrd-release", "ID=larder")]);
        Self { root: vec![7; 100 * 4096], loader_conf: "timeout 0\n", command_line: "quiet", initrd }
    }

    fn image(&self, folder: &TempDir, name: &str) -> PathBuf {
        let path = |part: &str| folder.path().join(format!("{name}.{part}"));
        fs_err::write(path("root"), &self.root).unwrap();
        let tree = File::options().create_new(true).read(true).write(true).open(path("verity")).unwrap();
        let root_hash: RootHash = Tree::write(&File::open(path("root")).unwrap(), &tree, Uuid::nil()).unwrap();
        let line = format!("{} roothash={root_hash}", self.command_line);
        let uki = fake(&[(".cmdline", line.as_bytes()), (".linux", &[1; 3000]), (".initrd", &self.initrd)]);
        fs_err::write(path("uki"), uki).unwrap();
        fs_err::write(path("loader"), "boot loader").unwrap();
        let version: Version = "1.0".parse().unwrap();
        let parts = Parts {
            version: &version,
            root_erofs: &path("root"),
            root_verity: &path("verity"),
            root_hash,
            uki: &path("uki"),
            boot_loader: &path("loader"),
            loader_conf: self.loader_conf,
        };
        assemble(&parts, &path("img")).unwrap();
        path("img")
    }
}

fn initrd(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = cpio::Writer::new(Vec::new());
    for (path, content) in files {
        writer.file(Path::new(path), content.as_bytes(), false).unwrap();
    }
    zstd::encode_all(&*writer.finish().unwrap(), 3).unwrap()
}

/// The difference between the usual image and one that `change` made different. The roots of these
/// images "hold" one program with their second block as its content.
fn difference(change: impl FnOnce(&mut Ingredients)) -> Option<String> {
    let mut other = Ingredients::usual();
    change(&mut other);
    compared(&other, |_| {})
}

fn compared(other: &Ingredients, spoil: impl FnOnce(&Path)) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let one = Ingredients::usual().image(&folder, "1");
    let two = other.image(&folder, "2");
    spoil(&two);
    let extract = |file: &Path, into: &Path| {
        let content = fs_err::read(file)?[4096..8192].to_vec();
        fs_err::create_dir_all(into.join("usr/bin"))?;
        fs_err::write(into.join("usr/bin/ls"), content)?;
        for path in ["usr/bin/ls", "usr/bin", "usr", ""] {
            File::open(into.join(path))?.set_modified(std::time::UNIX_EPOCH)?;
        }
        Ok(())
    };
    let scratch = tempfile::tempdir().unwrap();
    let found = first_difference(&one, &two, scratch.path(), &extract).unwrap();
    found.map(|difference| difference.to_string())
}

#[test]
fn equal_images_do_not_differ() {
    assert_eq!(difference(|_| {}), None);
}

#[test]
fn a_file_of_the_root_is_named_before_all_that_follows_from_it() {
    let found = difference(|other| other.root[5000] = 8).unwrap();
    assert_eq!(found, "partition 4 (larder_1.0): /usr/bin/ls: content, from byte 904 on");
}

#[test]
fn a_root_that_holds_the_same_files_differs_in_its_tables() {
    let found = difference(|other| other.root[3] = 8).unwrap();
    assert_eq!(found, "partition 4 (larder_1.0): its own tables, from byte 3 on");
}

#[test]
fn a_file_of_the_esp_is_named() {
    let found = difference(|other| other.loader_conf = "timeout 1\n").unwrap();
    assert_eq!(found, "partition 1 (esp): loader/loader.conf: content, from byte 8 on");
}

#[test]
fn a_section_of_the_kernel_image_is_named() {
    let found = difference(|other| other.command_line = "debug").unwrap();
    assert!(
        found.starts_with("partition 1 (esp): EFI/Linux/larder_1.0+3.efi: section .cmdline: \"quiet roothash="),
        "{found}"
    );
}

#[test]
fn a_file_of_the_initrd_is_named() {
    let path = "partition 1 (esp): EFI/Linux/larder_1.0+3.efi: section .initrd: ";
    for (files, found) in [
        (
            &[("init", "program"), ("etc/initrd-release", "ID=debian")][..],
            "/etc/initrd-release: content, from byte 3 on",
        ),
        (&[("init", "program")][..], "/etc/initrd-release: only one of the images has it"),
        (&[("init", "programs"), ("etc/initrd-release", "")][..], "/init: 7 and 8 bytes, different from byte 7 on"),
    ] {
        assert_eq!(difference(|other| other.initrd = initrd(files)).unwrap(), format!("{path}{found}"));
    }
}

#[test]
fn what_lies_outside_of_partitions_is_compared_too() {
    let spoil = |image: &Path| File::options().write(true).open(image).unwrap().write_all_at(b"x", 100).unwrap();
    let found = compared(&Ingredients::usual(), spoil).unwrap();
    assert_eq!(found, "partition table: from byte 100 of the image on");
}

#[test]
fn what_differs_of_extracted_files_is_told_and_times_only_when_nothing_else_does() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let tree = |mode: u32, target: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("file"), "").unwrap();
        symlink(target, folder.path().join("link")).unwrap();
        fs_err::set_permissions(folder.path().join("file"), PermissionsExt::from_mode(mode)).unwrap();
        folder
    };
    let compare = |one: &TempDir, two: &TempDir| trees::first_difference(one.path(), two.path()).unwrap();
    let usual = tree(0o644, "file");
    assert_eq!(compare(&usual, &usual), None);
    assert_eq!(compare(&usual, &tree(0o600, "file")).unwrap(), ("file".into(), "mode 100644 and 100600".into()));
    assert_eq!(compare(&usual, &tree(0o644, "f1le")).unwrap(), ("link".into(), "link to file and f1le".into()));
    let older = tree(0o644, "file");
    File::open(older.path().join("file")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(compare(&usual, &older).unwrap().1.starts_with("time "));
}
