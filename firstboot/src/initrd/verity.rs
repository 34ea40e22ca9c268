//! The verity device over a slot: what is read from it has been checked against the root hash, or is not given out.

use std::path::PathBuf;

use firstboot::verity::{BLOCK_SIZE, RootHash, Superblock};

use crate::device_mapper::{self, Table};
use crate::slot::Slot;

/// Name of the device below `/dev/mapper`.
const NAME: &str = "root";
const SECTORS_PER_BLOCK: u64 = (BLOCK_SIZE / 512) as u64;

/// Makes `/dev/mapper/root`.
pub(crate) fn open(slot: &Slot, root_hash: &RootHash) -> anyhow::Result<PathBuf> {
    let tree = fs_err::File::open(&slot.tree.path)?;
    // Nothing vouches for the superblock itself; but a wrong one leads to another root hash.
    let superblock = Superblock::read(tree.file())?;
    let table = table(slot, root_hash, &superblock);
    // The UUID that libcryptsetup would give it: by this, tools know what it is.
    let uuid = format!("CRYPT-VERITY-{}-{NAME}", superblock.uuid.simple());
    let device = device_mapper::create(NAME, &uuid, &table)?;
    let path = PathBuf::from("/dev/mapper").join(NAME);
    fs_err::os::unix::fs::symlink(device, &path)?;
    Ok(path)
}

/// The kernel's Documentation/admin-guide/device-mapper/verity.rst: version of the format, both devices, both block
/// sizes, number of data blocks, first block of the tree, algorithm, root hash, salt, number of options, options.
fn table(slot: &Slot, root_hash: &RootHash, superblock: &Superblock) -> Table {
    let salt = if superblock.salt.is_empty() { "-".to_owned() } else { hex::encode(&superblock.salt) };
    let parameters = format!(
        // A block that does not match its hash stops the machine at once. It restarts, and after three such starts the
        // boot loader takes the other slot.
        "1 {data} {tree} {BLOCK_SIZE} {BLOCK_SIZE} {blocks} 1 sha256 {root_hash} {salt} 1 panic_on_corruption",
        data = slot.data.number,
        tree = slot.tree.number,
        blocks = superblock.data_blocks,
    );
    Table { sectors: superblock.data_blocks * SECTORS_PER_BLOCK, kind: "verity", parameters }
}
