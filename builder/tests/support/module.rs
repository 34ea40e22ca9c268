//! Makes kernel modules.

/// The smallest file that is a kernel module to us: an ELF header, a null section, `.modinfo`
/// and the section names.
pub fn module(modinfo: &[&str]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const NAMES: &[u8] = b"\0.modinfo\0.shstrtab\0";
    let info: Vec<u8> = modinfo.iter().flat_map(|string| string.bytes().chain([0])).collect();
    let names_at = HEADER + info.len() as u64;
    let table_at = (names_at + NAMES.len() as u64).next_multiple_of(8);

    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for (value, width) in [
        (1, 2),
        (62, 2),
        (1, 4),
        (0, 8),
        (0, 8),
        (table_at, 8),
        (0, 4),
        (HEADER, 2),
        (0, 2),
        (0, 2),
        (64, 2),
        (3, 2),
        (2, 2),
    ] {
        elf.extend(&u64::to_le_bytes(value)[..width]);
    }
    elf.extend(&info);
    elf.extend(NAMES);
    elf.resize(table_at as usize, 0);
    let section = |name: u64, kind: u64, at: u64, size: u64| {
        [(name, 4), (kind, 4), (0, 8), (0, 8), (at, 8), (size, 8), (0, 4), (0, 4), (1, 8), (0, 8)]
            .into_iter()
            .flat_map(|(value, width)| u64::to_le_bytes(value)[..width].to_vec())
            .collect::<Vec<u8>>()
    };
    elf.extend(section(0, 0, 0, 0));
    elf.extend(section(1, 1, HEADER, info.len() as u64));
    elf.extend(section(10, 3, names_at, NAMES.len() as u64));
    elf
}
