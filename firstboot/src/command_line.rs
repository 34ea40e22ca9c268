//! What the boot loader says: `/proc/cmdline`, of which systemd-stub(7) may have added a part.

use anyhow::Context as _;

use crate::verity::RootHash;

/// The hash that vouches for the root, from the running kernel's command line. There is no argument that names a root
/// without one: nothing is ever mounted that is not verified.
///
/// # Errors
/// There is none.
pub fn root_hash() -> anyhow::Result<RootHash> {
    parse(&fs_err::read_to_string("/proc/cmdline")?)
}

/// The same, of any command line. Of an argument that is given twice the last one counts, as everywhere on this line.
///
/// # Errors
/// There is none.
pub fn parse(line: &str) -> anyhow::Result<RootHash> {
    let mut words = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("roothash="));
    let hash = words.next_back().context("the kernel's command line has no roothash=")?;
    Ok(hash.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_root_hashes_counts() {
        let [first, last] = ["1", "2"].map(|digit| digit.repeat(64));
        let line = format!("ro roothash={first} quiet roothash={last}\n");
        assert_eq!(parse(&line).unwrap().to_string(), last);
    }

    #[test]
    fn a_boot_without_a_root_hash_is_refused() {
        let error = parse("root=/dev/sda3").unwrap_err();
        assert_eq!(error.to_string(), "the kernel's command line has no roothash=");
        assert!(parse("roothash=12").is_err());
    }
}
