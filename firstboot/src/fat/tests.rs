use super::*;
use std::os::unix::fs::FileExt as _;

const MIB: u64 = 1 << 20;

fn format(purpose: Purpose, sector: u32) -> Format<'static> {
    Format { purpose, label: "LARDER", id: 0x1234_5678, sector, before: 2048 }
}

/// A volume of `size` bytes at 1 MiB of a file, with a small file and one that has zeros inside.
fn volume(size: u64, format: &Format<'_>) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size + 2 * MIB).unwrap();
    write(&file, MIB..MIB + size, format, |volume| {
        volume.add("README.txt", &mut b"hello".as_slice())?;
        volume.add("EFI/BOOT/BOOTX64.EFI", &mut [[7; 40_000], [0; 40_000], [9; 40_000]].concat().as_slice())
    })
    .unwrap();
    file
}

fn in_use(file: &File, size: u64) -> (Geometry, Vec<Range<u64>>) {
    let mut window = Window::new(file, MIB, size);
    let geometry = Geometry::read(&mut window).unwrap();
    let ranges = geometry.in_use(&mut window).unwrap();
    (geometry, ranges)
}

#[test]
fn what_is_not_in_use_can_be_anything() {
    let kinds = [
        (512 * MIB, Purpose::System, 512),
        (512 * MIB, Purpose::System, 4096),
        (32 * MIB, Purpose::Data, 512),
        (32 * MIB, Purpose::Data, 4096),
        (2 * MIB, Purpose::Data, 512),
    ];
    for (size, purpose, sector) in kinds {
        let file = volume(size, &format(purpose, sector));
        let (_, ranges) = in_use(&file, size);
        // Only what is in use comes to a disk that is full of noise.
        let disk = tempfile::tempfile().unwrap();
        let noise = vec![0xa5; MIB as usize];
        (0..size / MIB + 2).for_each(|i| disk.write_all_at(&noise, i * MIB).unwrap());
        for range in &ranges {
            let mut content = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut content, MIB + range.start).unwrap();
            disk.write_all_at(&content, MIB + range.start).unwrap();
        }
        let copy = FatReader::open(&disk, MIB, size).unwrap();
        let names: Vec<_> = copy.files().unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(names, ["EFI/BOOT/BOOTX64.EFI", "README.txt"], "{size} {purpose:?} {sector}");
        assert_eq!(copy.read("EFI/BOOT/BOOTX64.EFI").unwrap(), [[7; 40_000], [0; 40_000], [9; 40_000]].concat());
        let written: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!(written < 2 * MIB, "{written} bytes of a volume that is almost empty");
    }
}

#[test]
fn sectors_are_those_of_the_disk() {
    for sector in [512, 4096] {
        let file = volume(512 * MIB, &format(Purpose::System, sector));
        let (geometry, _) = in_use(&file, 512 * MIB);
        assert_eq!((geometry.sector, geometry.cluster), (u64::from(sector), 4096));
    }
}

/// Windows wants a jump, sizes and a signature; macOS takes the label from the root directory (FAT specification, 3.1 and
/// 6.1); both believe in the number of sectors before the volume, or ignore it.
#[test]
fn desktops_find_what_they_look_for_in_the_boot_sector() {
    let file = volume(32 * MIB, &format(Purpose::Data, 512));
    let mut boot = [0; 512];
    file.read_exact_at(&mut boot, MIB).unwrap();
    assert!(boot[0] == 0xeb && boot[2] == 0x90, "a short jump");
    assert_eq!((boot[21], &boot[510..]), (0xf8, [0x55, 0xaa].as_slice()), "a hard disk, a signature");
    assert_eq!(boot[28..32], 2048_u32.to_le_bytes());
    assert_eq!((&boot[43..54], &boot[54..62]), (b"LARDER     ".as_slice(), b"FAT16   ".as_slice()));
    let reader = FatReader::open(&file, MIB, 32 * MIB).unwrap();
    assert_eq!(reader.label_among_files().unwrap().as_deref(), Some("LARDER"));
}

#[test]
fn a_file_is_replaced_and_removed() {
    let size = 32 * MIB;
    let file = volume(size, &format(Purpose::Data, 512));
    change(&file, MIB..MIB + size, |volume| {
        volume.add("nas.toml", &mut [b'x'; 9000].as_slice())?;
        volume.add("nas.toml", &mut b"schema = 1\n".as_slice())?;
        volume.remove("README.txt")?;
        volume.remove("never-was.txt")
    })
    .unwrap();
    let reader = FatReader::open(&file, MIB, size).unwrap();
    let names: Vec<_> = reader.files().unwrap().into_iter().map(|file| (file.path, file.size)).collect();
    assert_eq!(names, [("EFI/BOOT/BOOTX64.EFI".to_owned(), 120_000), ("nas.toml".to_owned(), 11)]);
}

#[test]
fn what_is_no_fat_volume_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MIB).unwrap();
    let error = Geometry::read(&mut Window::new(&file, 0, MIB)).unwrap_err();
    assert_eq!(error.to_string(), "there is no FAT file system");
}
