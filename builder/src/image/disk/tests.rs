use super::*;
use firstboot::verity::{self, Region, Tree};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use tempfile::TempDir;
use uuid::Uuid;

use crate::image::sparse;
use firstboot::fat::FatReader;

const LOADER_CONF: &str = "timeout 3\n";

/// Parts of an image, made up, in a folder of their own.
struct Fixture {
    folder: TempDir,
    version: Version,
    root_hash: RootHash,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, size: usize| {
            let content: Vec<u8> = (0..size).map(|i| (i * i / 7) as u8).collect();
            fs_err::write(folder.path().join(name), content).unwrap();
        };
        write("root", 300 * 4096);
        write("uki", 5_000_001);
        write("loader", 100_000);
        let open = |name| {
            std::fs::File::options().create(true).truncate(false).read(true).write(true).open(folder.path().join(name))
        };
        let root_hash = Tree::write(&open("root").unwrap(), &open("verity").unwrap(), Uuid::nil()).unwrap();
        Self { folder, version: "1.0".parse().unwrap(), root_hash }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn assemble(&self, out: &str) -> Result<PathBuf> {
        let out = self.path(out);
        let parts = Parts {
            version: &self.version,
            root_erofs: &self.path("root"),
            root_verity: &self.path("verity"),
            root_hash: self.root_hash,
            uki: &self.path("uki"),
            boot_loader: &self.path("loader"),
            loader_conf: LOADER_CONF,
        };
        assemble(&parts, &out).map(|()| out)
    }

    fn grow(&self, name: &str, size: u64) {
        std::fs::File::options().write(true).open(self.path(name)).unwrap().set_len(size).unwrap();
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.version, &self.root_hash, 300 * 4096)
    }
}

#[test]
fn the_esp_holds_boot_loader_and_uki_and_the_seed_says_what_it_is_for() {
    let fixture = Fixture::new();
    let image = std::fs::File::open(fixture.assemble("img").unwrap()).unwrap();
    let layout = fixture.layout();
    let esp = FatReader::open(&image, layout.esp.start, layout.esp.size).unwrap();
    let listing: Vec<_> = esp.files().unwrap().iter().map(|file| format!("{} {}", file.path, file.size)).collect();
    insta::assert_snapshot!(listing.join("\n"), @r"
    EFI/BOOT/BOOTX64.EFI 100000
    EFI/Linux/larder_1.0+3.efi 5000001
    EFI/systemd/systemd-bootx64.efi 100000
    loader/loader.conf 10
    ");
    assert_eq!(esp.read("loader/loader.conf").unwrap(), LOADER_CONF.as_bytes());
    assert!(esp.read("EFI/Linux/larder_1.0+3.efi").unwrap() == fs_err::read(fixture.path("uki")).unwrap());
    let seed = FatReader::open(&image, layout.seed.start, layout.seed.size).unwrap();
    assert_eq!(seed.label(), "LARDER");
    assert!(String::from_utf8(seed.read("README.txt").unwrap()).unwrap().contains("nas.toml"));
}

/// As fsck.vfat(8) wants them; fatfs itself does not mind.
#[test]
fn directories_of_the_esp_start_with_dot_and_dot_dot() {
    let fixture = Fixture::new();
    let image = std::fs::File::open(fixture.assemble("img").unwrap()).unwrap();
    let mut start = vec![0; 4 << 20];
    image.read_exact_at(&mut start, fixture.layout().esp.start).unwrap();
    let entries: Vec<_> = start.chunks_exact(32).collect();
    let dots: Vec<_> = (0..entries.len()).filter(|i| entries[*i].starts_with(b".          ")).collect();
    assert_eq!(dots.len(), 5, "EFI, EFI/BOOT, EFI/Linux, EFI/systemd, loader");
    for dot in dots {
        assert!(entries[dot + 1].starts_with(b"..         "));
        assert_eq!(dot * 32 % 512, 0, "the first entry of a sector");
    }
    // `..` of EFI and of loader names the root as cluster 0, not as the cluster 2 where it is.
    let parents = entries.iter().filter(|entry| entry.starts_with(b"..         "));
    assert_eq!(parents.filter(|entry| entry[26..28] == [0, 0]).count(), 2);
}

#[test]
fn the_root_in_the_image_matches_its_hash_tree() {
    let fixture = Fixture::new();
    let image = std::fs::File::open(fixture.assemble("img").unwrap()).unwrap();
    let layout = fixture.layout();
    let region = |start| Region { file: &image, start };
    verity::verify(region(layout.root.start), region(layout.verity.start), &fixture.root_hash).unwrap();
}

#[test]
fn the_same_parts_give_the_same_bytes_with_holes_where_nothing_is() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.assemble("one").unwrap(), fixture.assemble("two").unwrap());
    let digest = |path: &Path| sparse::hash(&std::fs::File::open(path).unwrap()).unwrap();
    assert_eq!(digest(&one), digest(&two));
    let metadata = fs_err::metadata(&one).unwrap();
    assert_eq!(metadata.len(), fixture.layout().image_size());
    assert!(metadata.blocks() * 512 < 12 * MIB, "{} blocks", metadata.blocks());
}

#[test]
fn parts_that_do_not_fit_are_refused_and_nothing_is_left_behind() {
    let refusal = |part: &str, size| {
        let fixture = Fixture::new();
        fixture.grow(part, size);
        let error = fixture.assemble("img").unwrap_err();
        assert!(error.is::<Mistake>());
        let names = fs_err::read_dir(fixture.folder.path()).unwrap().count();
        assert_eq!(names, 4, "only the four parts are there");
        error.to_string()
    };
    insta::assert_snapshot!(refusal("root", gpt::ROOT_SIZE + 4096), @"the root file system takes 2048.1 MiB, but its slot has room for 2048.0 MiB");
    insta::assert_snapshot!(refusal("verity", gpt::VERITY_SIZE + 4096), @"the hash tree takes 32.1 MiB, but its partition has room for 32.0 MiB");
    insta::assert_snapshot!(refusal("uki", 180 * MIB), @"the kernel image takes 180.0 MiB, but a third of the ESP (it holds three) has room for 169.3 MiB");
}

#[test]
fn three_of_the_largest_ukis_really_fit_the_esp() {
    let fixture = Fixture::new();
    let image = std::fs::File::open(fixture.assemble("img").unwrap()).unwrap();
    let layout = fixture.layout();
    let free = FatReader::open(&image, layout.esp.start, layout.esp.size).unwrap().free_bytes().unwrap();
    let without_uki = free + 5_000_001u64.next_multiple_of(4096);
    assert!(without_uki >= 3 * esp::largest_uki(100_000), "{without_uki} bytes are free");
}

#[test]
fn a_missing_part_fails_and_leaves_nothing_behind() {
    let fixture = Fixture::new();
    fs_err::remove_file(fixture.path("uki")).unwrap();
    assert!(fixture.assemble("img").unwrap_err().to_string().contains("uki"));
    assert_eq!(fs_err::read_dir(fixture.folder.path()).unwrap().count(), 3);
}

#[test]
fn an_existing_image_is_replaced_only_as_a_whole() {
    let fixture = Fixture::new();
    fs_err::write(fixture.path("img"), "the old image").unwrap();
    fixture.grow("root", gpt::ROOT_SIZE + 4096);
    fixture.assemble("img").unwrap_err();
    assert_eq!(fs_err::read_to_string(fixture.path("img")).unwrap(), "the old image");
    fixture.grow("root", 300 * 4096);
    let image = std::fs::File::open(fixture.assemble("img").unwrap()).unwrap();
    let mut signature = [0; 8];
    image.read_exact_at(&mut signature, 512).unwrap();
    assert_eq!(&signature, b"EFI PART");
}
