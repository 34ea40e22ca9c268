//! `larder flash` and `larder seed`, on a computer whose disks are plain files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firstboot::fat::FatReader;
use firstboot::layout::MIB;
use firstboot::verity::{self, Region, RootHash, Tree};
use gptman::GPT;
use larder::image::{compress, disk};
use uuid::Uuid;

use crate::bench::{Bench, LARDER, Said};
use crate::machine::{FakeDisk, FakeMachine, NVME, STICK};

const STICK_ID: &str = "/dev/disk/by-id/usb-SanDisk_Ultra_4C530001230101-0:0";
const SETTINGS: &str = "schema = 1\n[system]\nhostname = \"pantry\"\n";

/// An image made of made-up parts, and a computer to write it with.
struct Story {
    bench: Bench,
    machine: FakeMachine,
    root_hash: RootHash,
}

impl Story {
    fn new(disks: &[FakeDisk<'_>]) -> Self {
        let bench = Bench::new();
        let folder = bench.folder("parts");
        let make = |name: &str, size: u32| {
            let content: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(i) / 7) as u8).collect();
            fs_err::write(folder.join(name), content).unwrap();
        };
        make("uki", 3_000_001);
        make("loader", 100_000);
        make("root", 600 * 4096);
        let tree = File::options().create_new(true).read(true).write(true).open(folder.join("verity")).unwrap();
        let root_hash = Tree::write(&File::open(folder.join("root")).unwrap(), &tree, Uuid::nil()).unwrap();
        let story = Self { bench, machine: FakeMachine::new(disks), root_hash };
        let parts = disk::Parts {
            version: &"1.0".parse().unwrap(),
            root_erofs: &folder.join("root"),
            root_verity: &folder.join("verity"),
            root_hash,
            uki: &folder.join("uki"),
            boot_loader: &folder.join("loader"),
            loader_conf: "timeout 0\n",
        };
        disk::assemble(&parts, &story.image()).unwrap();
        let compressed = File::create(story.compressed()).unwrap();
        compress::compress(&File::open(story.image()).unwrap(), compressed, &indicatif::ProgressBar::hidden()).unwrap();
        fs_err::write(story.file("nas.toml"), SETTINGS).unwrap();
        story
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bench.folder("files").join(name)
    }

    fn image(&self) -> PathBuf {
        self.file("larder.img")
    }

    fn compressed(&self) -> PathBuf {
        self.file("larder.img.zst")
    }

    fn larder(&self, args: &[&str]) -> Command {
        let mut command = self.bench.larder(args);
        command.env("LARDER_TEST_MACHINE", self.machine.path("")).stdin(Stdio::null());
        command
    }

    fn flash(&self, image: &Path, more: &[&str]) -> Command {
        self.larder(&[&["flash", "--image", image.to_str().unwrap()], more].concat())
    }

    fn does(&self, command: &mut Command) -> Said {
        self.bench.ends(command, 0)
    }

    fn refuses(&self, command: &mut Command) -> String {
        self.bench.refuses_to(command)
    }

    fn disk(&self, name: &str) -> File {
        File::options().read(true).write(true).open(self.machine.path(&format!("dev/{name}"))).unwrap()
    }

    /// The disk would start: table, verified root, and what is on the seed partition.
    fn seed_of_sound_disk(&self, name: &str) -> Vec<String> {
        let disk = self.disk(name);
        let table = GPT::find_from(&mut &disk).unwrap();
        let start = |number: u32| table[number].starting_lba * table.sector_size;
        let region = |number| Region { file: &disk, start: start(number) };
        verity::verify(region(4), region(3), &self.root_hash).unwrap();
        let esp = FatReader::open(&disk, start(1), 512 * MIB).unwrap();
        assert!(
            esp.read("EFI/Linux/larder_1.0+3.efi").unwrap()
                == fs_err::read(self.bench.folder("parts").join("uki")).unwrap()
        );
        let seed = FatReader::open(&disk, start(2), 32 * MIB).unwrap();
        let files = seed.files().unwrap();
        files
            .iter()
            .map(|file| format!("{} {}", file.path, String::from_utf8_lossy(&seed.read(&file.path).unwrap()).len()))
            .collect()
    }

    fn head_is_zeros(&self, name: &str) -> bool {
        let mut head = vec![1; MIB as usize];
        self.disk(name).read_exact_at(&mut head, 0).unwrap();
        head.iter().all(|byte| *byte == 0)
    }
}

#[test]
fn an_image_of_either_kind_is_written_with_its_settings() {
    let story = Story::new(&[STICK]);
    let config = story.file("nas.toml");
    for image in [story.image(), story.compressed()] {
        let noise = vec![0x5a; MIB as usize];
        let disk = story.disk("sda");
        let size = disk.metadata().unwrap().len();
        [0, MIB, 513 * MIB, 577 * MIB, size - MIB].iter().for_each(|at| disk.write_all_at(&noise, *at).unwrap());
        let args = ["--device", STICK_ID, "--yes-serial", "0101", "--config", config.to_str().unwrap()];
        let said = story.does(&mut story.flash(&image, &args));
        assert!(said.stderr.contains("Written") && said.stderr.contains("Verified"), "{}", said.stderr);
        let seed = story.seed_of_sound_disk("sda");
        assert_eq!(seed.last().unwrap(), &format!("nas.toml {}", SETTINGS.len()));
        assert!(disk.metadata().unwrap().blocks() * 512 < 48 * MIB, "free space was written");
    }
}

#[test]
fn a_disk_with_large_sectors_gets_a_table_and_volumes_of_its_own() {
    let story = Story::new(&[NVME]);
    story.machine.set(&NVME, "queue/logical_block_size", "4096");
    let device = format!("/dev/disk/by-id/{}", NVME.id);
    story.does(&mut story.flash(&story.compressed(), &["--device", &device, "--yes-serial", "33ab", "--internal"]));
    assert_eq!(GPT::find_from(&mut &story.disk("nvme0n1")).unwrap().sector_size, 4096);
    assert_eq!(story.seed_of_sound_disk("nvme0n1").len(), 2);
}

#[test]
fn disks_are_listed_when_none_is_named() {
    let story = Story::new(&[STICK, NVME]);
    story.machine.mount("9:2", "/");
    insta::assert_snapshot!(story.does(&mut story.larder(&["flash"])).stdout, @r#"
    Can be written to:
      /dev/disk/by-id/usb-SanDisk_Ultra_4C530001230101-0:0
          Model, serial number 4C530001230101, 8.0 GB, USB
          sda1: vfat "PHOTOS OLD", 1.0 MB

    Cannot:
      /dev/disk/by-id/nvme-WD_Blue_2233AB
          Model, serial number 2233AB, 1.0 TB, NVMe
          nvme0n1p1: ext4, 1.0 MB
          nvme0n1p2: unknown content, 1.0 MB
          nvme0n1p2 is mounted at /
          not possible: this is the disk that the running system is on

    larder flash --profile PROFILE --device NAME writes an image to one of them.
    "#);
}

#[test]
fn what_must_not_be_overwritten_is_refused_with_what_to_do() {
    let story = Story::new(&[STICK, NVME]);
    let nvme = format!("/dev/disk/by-id/{}", NVME.id);
    let refuses = |device: &str, proof: &str| {
        story.refuses(&mut story.flash(&story.image(), &["--device", device, "--yes-serial", proof]))
    };
    insta::assert_snapshot!(refuses("/dev/sda", "0101"), @r"
    error: /dev/sda: no name that stays the same

    hint: name it as in /dev/disk/by-id; without a name all disks are listed
    ");
    insta::assert_snapshot!(refuses(&nvme, "33AB"), @r"
    error: it is built in, not a stick or a card

    hint: if it is the right one, add --internal
    ");
    insta::assert_snapshot!(refuses(STICK_ID, "33AB"), @r"
    error: this is not the last 4 characters of its serial number

    hint: look at the label of the disk, or list all disks
    ");
    story.machine.mount("8:1", "/media/photos");
    insta::assert_snapshot!(refuses(STICK_ID, "0101"), @r"
    error: it is in use: sda1 is mounted at /media/photos

    hint: unmount it if it is the right one
    ");
    assert_eq!(story.disk("sda").metadata().unwrap().blocks(), 0, "nothing was written");
}

#[test]
fn one_image_is_written_not_two() {
    let story = Story::new(&[STICK]);
    let mut flash = story.flash(&story.image(), &["--profile", "nas", "--device", STICK_ID, "--yes-serial", "0101"]);
    let said = story.bench.ends(&mut flash, 2).stderr;
    assert!(said.contains("'--image <FILE>'") && said.contains("cannot be used with"), "{said}");
}

#[test]
fn nobody_is_asked_where_nobody_is() {
    let story = Story::new(&[STICK]);
    insta::assert_snapshot!(story.refuses(&mut story.flash(&story.image(), &["--device", STICK_ID])), @r"
    error: nobody is there to be asked for the last 4 characters of its serial number

    hint: give them: --yes-serial XXXX
    ");
}

#[test]
fn a_plain_file_is_a_disk_only_where_no_disk_is_real() {
    let story = Story::new(&[STICK]);
    fs_err::remove_file(story.machine.path("dev/sda")).unwrap();
    // Whatever it leads to: it is not a plain file.
    symlink("/dev/null", story.machine.path("dev/sda")).unwrap();
    let said = story.refuses(&mut story.flash(&story.image(), &["--device", STICK_ID, "--yes-serial", "0101"]));
    assert!(said.starts_with("error: it is not the disk any more that was chosen\n"), "{said}");
}

#[test]
fn wrong_settings_are_explained_before_anything_is_written() {
    let story = Story::new(&[STICK]);
    let config = story.file("bad.toml");
    fs_err::write(&config, "schema = 1\n[system]\nhostnam = \"x\"\n").unwrap();
    let config = config.to_str().unwrap();
    let args = ["--device", STICK_ID, "--yes-serial", "0101", "--config", config];
    let (flash, seed) = (
        story.flash(&story.image(), &args),
        story.larder(&["seed", story.image().to_str().unwrap(), "--config", config]),
    );
    for mut command in [flash, seed] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(story.refuses(&mut command), @r"
            error: FOLDER/files/bad.toml:3:1: unknown field `hostnam`, expected `hostname` or `timezone`

            hint: did you mean `hostname`?
            ");
        }
    }
    assert_eq!(story.disk("sda").metadata().unwrap().blocks(), 0, "nothing was written");
}

#[test]
fn a_damaged_image_leaves_nothing_that_starts() {
    let story = Story::new(&[STICK]);
    let mut compressed = fs_err::read(story.compressed()).unwrap();
    let last_data = compressed.len() - 20_000;
    compressed[last_data] ^= 1;
    let damaged = story.file("damaged.img.zst");
    fs_err::write(&damaged, compressed).unwrap();
    let args = ["--device", STICK_ID, "--yes-serial", "0101"];
    let said = story.refuses(&mut story.flash(&damaged, &args));
    assert!(said.contains("hint: compare it with its .SHA256SUMS file"), "{said}");
    assert!(story.head_is_zeros("sda"));
    // A plain image says so before the disk is touched.
    let image = File::options().write(true).open(story.image()).unwrap();
    image.write_all_at(b"bit rot", 577 * MIB + 50 * 4096).unwrap();
    let story_of_plain = Story::new(&[STICK]);
    let mut command = story_of_plain.flash(&story.image(), &args);
    assert!(story_of_plain.refuses(&mut command).contains("truncated or damaged"));
    assert_eq!(story_of_plain.disk("sda").metadata().unwrap().blocks(), 0, "nothing was written");
}

#[test]
fn what_is_no_image_is_refused() {
    let story = Story::new(&[STICK]);
    let other = story.file("other.iso");
    fs_err::write(&other, vec![7; 2 << 20]).unwrap();
    let args = ["--device", STICK_ID, "--yes-serial", "0101"];
    insta::assert_snapshot!(story.refuses(&mut story.flash(&other, &args)), @r"
    error: FOLDER/files/other.iso is no larder image: it has no partition table

    hint: give the path of an .img or .img.zst that `larder build` has made
    ");
}

#[test]
fn settings_come_later_too_and_replace_earlier_ones() {
    let story = Story::new(&[STICK]);
    story.does(&mut story.flash(&story.image(), &["--device", STICK_ID, "--yes-serial", "0101"]));
    let (image, long) = (story.image(), story.file("long.toml"));
    fs_err::write(&long, format!("{SETTINGS}{}", "# hunter2\n".repeat(5000))).unwrap();
    for target in [STICK_ID, image.to_str().unwrap()] {
        for config in [long.clone(), story.file("nas.toml")] {
            story.does(&mut story.larder(&["seed", target, "--config", config.to_str().unwrap()]));
        }
    }
    assert_eq!(story.seed_of_sound_disk("sda").last().unwrap(), &format!("nas.toml {}", SETTINGS.len()));
    for file in [story.disk("sda"), File::open(&image).unwrap()] {
        let mut seed = vec![0; 32 * MIB as usize];
        file.read_exact_at(&mut seed, 513 * MIB).unwrap();
        assert!(!seed.windows(7).any(|window| window == b"hunter2"), "the earlier settings can still be read");
    }
    let image = File::open(&image).unwrap();
    let seed = FatReader::open(&image, 513 * MIB, 32 * MIB).unwrap();
    assert_eq!(seed.read("nas.toml").unwrap(), SETTINGS.as_bytes());
}

#[test]
fn settings_need_a_place_to_go_to() {
    let story = Story::new(&[STICK]);
    let seed = |target: &str| {
        story.refuses(&mut story.larder(&["seed", target, "--config", story.file("nas.toml").to_str().unwrap()]))
    };
    insta::assert_snapshot!(seed(STICK_ID), @r"
    error: /dev/disk/by-id/usb-SanDisk_Ultra_4C530001230101-0:0 has no partition LARDER

    hint: give an image that `larder build` has made, or a disk that such an image was written to
    ");
    insta::assert_snapshot!(seed(story.compressed().to_str().unwrap()), @r"
    error: FOLDER/files/larder.img.zst is compressed, so nothing in it can be changed

    hint: write it to a disk together with the settings: larder flash --image FILE --config FILE
    ");
}

/// A person at a terminal: script(1) is not everywhere, so the question is asked of a pseudo terminal made here.
#[test]
fn a_person_is_shown_the_disk_and_asked() {
    let story = Story::new(&[STICK]);
    for (typed, status) in [("0102\n", 1), ("0101\n", 0)] {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let mut command = story.flash(&story.image(), &["--device", STICK_ID]);
        let mut keyboard = File::from(terminal.master);
        keyboard.write_all(typed.as_bytes()).unwrap();
        let said = story.bench.ends(command.stdin(terminal.slave), status);
        let question = "Everything on it will be lost. To go on, type the last 4 characters of its serial number: ";
        assert!(said.stderr.contains("sda1: vfat \"PHOTOS OLD\"") && said.stderr.contains(question), "{}", said.stderr);
    }
    assert_eq!(story.seed_of_sound_disk("sda").len(), 2);
}

#[test]
fn a_recovery_key_is_new_each_time_and_fits_the_settings() {
    let bench = Bench::new();
    let make = || bench.ends(&mut bench.in_environment(LARDER, &["recovery-key"]), 0);
    let (one, other) = (make(), make());
    let key = one.stdout.lines().next().unwrap();
    assert_ne!(key, other.stdout.lines().next().unwrap());
    assert!(!one.stderr.contains(key) && one.stderr.contains("[keys]"), "{}", one.stderr);
    assert!(one.stdout.contains(['\u{2580}', '\u{2584}', '\u{2588}']) && !one.stdout.contains('\x1b'));
    let text = format!("schema = 1\n[keys]\nrecovery-key = \"{key}\"\n");
    firstboot::settings::Settings::parse(&text, "nas.toml").unwrap();
}
