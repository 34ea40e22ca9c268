use super::*;
use crate::image::disk::{Parts, assemble};
use crate::image::gpt::Layout;
use crate::image::version::Version;
use firstboot::verity::Tree;
use indicatif::ProgressBar;
use tempfile::TempDir;

/// An image with a made-up root of 300 blocks and a UKI that names it.
struct Fixture {
    folder: TempDir,
    layout: Layout,
}

impl Fixture {
    fn new() -> Self {
        Self::with_command_line(|root_hash| format!("roothash={root_hash} console=ttyS0"))
    }

    fn with_command_line(command_line: impl Fn(RootHash) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut root: Vec<u8> = (0..300 * 4096).map(|i: usize| (i * i / 7) as u8).collect();
        root[1024..1028].copy_from_slice(&0xe0f5_e1e2u32.to_le_bytes());
        root[1036] = 12;
        root[1060..1064].copy_from_slice(&300u32.to_le_bytes());
        root[1072..1088].copy_from_slice(&[0x11; 16]);
        root[1088..1104].copy_from_slice(b"larder\0\0\0\0\0\0\0\0\0\0");
        fs_err::write(path("root"), root).unwrap();
        let tree = File::options().create_new(true).read(true).write(true).open(path("verity")).unwrap();
        let root_hash = Tree::write(&File::open(path("root")).unwrap(), &tree, Uuid::nil()).unwrap();
        let uki = uki::fake(&[
            (".osrel", b"PRETTY_NAME=\"larder 1.0\"\nVERSION_ID=1.0\n"),
            (".cmdline", command_line(root_hash).as_bytes()),
            (".uname", b"6.12.107-amd64"),
            (".linux", &[1; 3000]),
            (".initrd", &[2; 2000]),
        ]);
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
            loader_conf: "timeout 3\n",
        };
        assemble(&parts, &path("img")).unwrap();
        Self { layout: Layout::new(&version, &root_hash, 300 * 4096), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("img")
    }

    fn damage(&self, at: u64) {
        let image = File::options().read(true).write(true).open(self.path()).unwrap();
        let mut byte = [0];
        image.read_exact_at(&mut byte, at).unwrap();
        image.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }

    fn verdict(&self) -> Verdict {
        let report = inspect(&self.path()).unwrap();
        assert_eq!(report.is_sound(), report.ukis[0].verdict == Verdict::Ok);
        report.ukis[0].verdict.clone()
    }
}

fn mistake(path: &Path) -> String {
    let error = inspect(path).unwrap_err();
    assert!(error.is::<Mistake>(), "{error:?}");
    error.to_string().replace(&path.display().to_string(), "IMG")
}

#[test]
fn a_sound_image_is_described_for_people() {
    let fixture = Fixture::new();
    let mut report = inspect(&fixture.path()).unwrap();
    assert!(report.is_sound());
    // The example grows with the settings; its size is nothing to look at here.
    assert_eq!(report.seed[1].size, firstboot::settings::EXAMPLE.len() as u64);
    report.seed[1].size = 990;
    let text = report.to_string().replace(&fixture.path().display().to_string(), "IMG");
    insta::assert_snapshot!(text, @r"
    IMG  579.0 MiB  disk 1af7ed5d-4cd0-5f22-973c-ae15534a406c
       1  ESP     512.0 MiB  2f85ecbc-66fd-5811-81b7-13aea16a3d1e  esp
       2  data     32.0 MiB  106ff9da-93a7-5f96-8f05-9391d3484aab  LARDER
       3  verity   32.0 MiB  7e755bdd-43a9-e4b8-e6ca-80cc129d81bf  larder_1.0
       4  root      2.0 MiB  7d323506-af18-8ba9-592f-ba2fd2436fa1  larder_1.0
          erofs     1.2 MiB  11111111-1111-1111-1111-111111111111  larder

    ESP
           11 B  EFI/BOOT/BOOTX64.EFI
        7.5 KiB  EFI/Linux/larder_1.0+3.efi
           11 B  EFI/systemd/systemd-bootx64.efi
           10 B  loader/loader.conf

    seed
          311 B  README.txt
          990 B  nas-example.toml

    EFI/Linux/larder_1.0+3.efi
      name      larder 1.0
      version   1.0
      kernel    6.12.107-amd64
      options   roothash=7d323506af188ba9592fba2fd2436fa17e755bdd43a9e4b8e6ca80cc129d81bf console=ttyS0
      sections  .osrel 40 B, .cmdline 87 B, .uname 14 B, .linux 2.9 KiB, .initrd 2.0 KiB
      verity    ok: every block of the root matches the root hash
    ");
}

#[test]
fn the_report_is_json_too() {
    let report = serde_json::to_value(inspect(&Fixture::new().path()).unwrap()).unwrap();
    assert_eq!(report["ukis"][0]["verdict"]["result"], "ok");
    assert_eq!(report["partitions"][3]["erofs"]["volume"], "larder");
    let mismatch = serde_json::to_value(Verdict::Mismatch { block: BadBlock::Data(7) }).unwrap();
    assert_eq!(mismatch, serde_json::json!({ "result": "mismatch", "in": "data", "block": 7 }));
}

#[test]
fn a_compressed_image_gives_the_same_report() {
    let fixture = Fixture::new();
    let compressed = fixture.folder.path().join("img.zst");
    let (image, target) = (File::open(fixture.path()).unwrap(), File::create(&compressed).unwrap());
    compress::compress(&image, target, &ProgressBar::hidden()).unwrap();
    let (mut packed, plain) = (inspect(&compressed).unwrap(), inspect(&fixture.path()).unwrap());
    packed.image = plain.image.clone();
    assert_eq!(packed.to_string(), plain.to_string());
}

#[test]
fn a_flipped_bit_in_the_root_is_found_in_its_block() {
    let fixture = Fixture::new();
    fixture.damage(fixture.layout.root.start + 200 * 4096 + 5);
    assert_eq!(fixture.verdict(), Verdict::Mismatch { block: BadBlock::Data(200) });
}

#[test]
fn a_flipped_bit_in_the_hash_tree_is_found_in_its_block() {
    let fixture = Fixture::new();
    fixture.damage(fixture.layout.verity.start + 2 * 4096);
    assert_eq!(fixture.verdict(), Verdict::Mismatch { block: BadBlock::Tree(2) });
}

#[test]
fn a_wiped_hash_tree_is_told_apart() {
    let fixture = Fixture::new();
    fixture.damage(fixture.layout.verity.start);
    assert!(matches!(fixture.verdict(), Verdict::NoTree { .. }));
}

#[test]
fn a_uki_of_another_root_finds_no_partition() {
    let fixture = Fixture::with_command_line(|_| format!("roothash={}", "ab".repeat(32)));
    assert!(matches!(fixture.verdict(), Verdict::NoPartition { role: "root", .. }));
    let fixture = Fixture::with_command_line(|_| "quiet".to_owned());
    assert_eq!(fixture.verdict(), Verdict::NoRootHash);
}

#[test]
fn damage_to_either_copy_of_the_table_is_reported() {
    let fixture = Fixture::new();
    fixture.damage(fixture.layout.image_size() - 512);
    let report = inspect(&fixture.path()).unwrap();
    assert_eq!((report.table, report.is_sound()), (Table::BackupDamaged, false));
    let fixture = Fixture::new();
    fixture.damage(512);
    assert_eq!(inspect(&fixture.path()).unwrap().table, Table::PrimaryDamaged);
}

#[test]
fn truncated_and_foreign_files_are_refused_with_the_reason() {
    let fixture = Fixture::new();
    File::options().write(true).open(fixture.path()).unwrap().set_len(578 << 20).unwrap();
    insta::assert_snapshot!(mistake(&fixture.path()), @"IMG is truncated: partition 4 ends at byte 607125504, the file at 606076928");
    let foreign = fixture.folder.path().join("foreign");
    fs_err::write(&foreign, vec![b'x'; 10_000]).unwrap();
    insta::assert_snapshot!(mistake(&foreign), @"IMG is no disk image: it has no valid GUID partition table");
    fs_err::write(&foreign, "x").unwrap();
    insta::assert_snapshot!(mistake(&foreign), @"IMG is no disk image: it has only 1 bytes");
    fs_err::write(&foreign, [&frames::MAGIC[..], b"and then nonsense"].concat()).unwrap();
    insta::assert_snapshot!(mistake(&foreign), @"IMG is truncated or damaged");
    insta::assert_snapshot!(mistake(&fixture.folder.path().join("absent")), @"cannot open IMG");
    insta::assert_snapshot!(mistake(fixture.folder.path()), @"IMG is no file");
}
