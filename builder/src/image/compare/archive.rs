//! The first difference of two cpio archives in the kernel's "newc" format (see `initrd`).

/// An entry: name, mode, content.
pub(super) type Entry = (String, u32, Vec<u8>);

/// Bytes of a header: magic number and 13 fields of eight hex digits.
const HEADER: usize = 110;

/// Reads all entries; `None` for what is no such archive.
pub(super) fn entries(mut archive: &[u8]) -> Option<Vec<Entry>> {
    let mut list = Vec::new();
    loop {
        let header = archive.get(..HEADER)?;
        if !header.starts_with(b"070701") {
            return None;
        }
        let field = |number: usize| {
            let digits = std::str::from_utf8(&header[6 + 8 * number..][..8]).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (mode, size, name_size) = (field(1)?, field(6)? as usize, field(11)? as usize);
        let content = (HEADER + name_size).next_multiple_of(4);
        let name = archive.get(HEADER..HEADER + name_size.checked_sub(1)?)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if name == "TRAILER!!!" {
            return Some(list);
        }
        list.push((name, mode, archive.get(content..content + size)?.to_owned()));
        archive = archive.get((content + size).next_multiple_of(4)..)?;
    }
}

/// Path and difference.
pub(super) fn first_difference(one: &[Entry], two: &[Entry]) -> Option<(String, String)> {
    for ((name, mode, content), (other_name, other_mode, other)) in one.iter().zip(two) {
        if name != other_name {
            return Some((name.clone(), format!("the other image has /{other_name} here")));
        }
        if mode != other_mode {
            return Some((name.clone(), format!("mode {mode:o} and {other_mode:o}")));
        }
        if content != other {
            return Some((name.clone(), super::bytes(content, other)));
        }
    }
    let (longer, shorter) = if one.len() > two.len() { (one, two) } else { (two, one) };
    longer.get(shorter.len()).map(|(name, ..)| (name.clone(), "only one of the images has it".to_owned()))
}
