use super::*;
use std::io::Write as _;

const UUID: Uuid = Uuid::from_u128(0x00112233_4455_6677_8899_aabbccddeeff);

/// Block count, root hash and SHA-256 of the tree, as cryptsetup 2.6.1 makes them:
///
/// ```sh
/// salt=$(printf 'larder dm-verity salt v1' | sha256sum | cut -d' ' -f1)
/// for n in 1 2 127 128 129 16384 16385; do
///     seq 1 99999999 | head -c $((n * 4096)) > data; rm -f tree
///     veritysetup format --salt=$salt --uuid=00112233-4455-6677-8899-aabbccddeeff data tree
///     sha256sum tree
/// done
/// ```
const VERITYSETUP: [(u64, &str, &str); 7] = [
    (
        1,
        "28cae97da7358bf93218be97717af883b316a1cf11b9433eb2393a84fb2a4ef9",
        "f696c05a2aadbce564057975f447804bbb7796e43f3e5b5a903851ea7a59fba1",
    ),
    (
        2,
        "6e32c931bd43e35589722e1c4e558fa16d15111528849ae7780164412209638c",
        "28e847d95875d653218f616e2f3d20368c4ed17423586a7d6f8a289f48bbe01d",
    ),
    (
        127,
        "5883f004b5a7c782892dedcfbc421e090a8f0e96fb9530342d127b1554c8bbdb",
        "5b73d4a62166bf2e15eb688de5101f9c4df47dfa0b179dfa91ab4dd90f3a55d2",
    ),
    (
        128,
        "ddb670a9f149a059a6bc7d68ba0d588e3d050d0a9308ae2aeab3d6ddee32d1af",
        "8f358078f0a2be811cbe8628fa2e9761667d66c34daca8fbe402cabaec7fa345",
    ),
    (
        129,
        "d9bd550a217e574a006703f0e2edec9395478f1ff38b308fe4e5c592f638eb46",
        "8e5145d800cdf7d3efd7a2a05081219d696ca3b632f9917fbc028d4c22f076db",
    ),
    (
        16384,
        "2095f6604795f05c4813aa73b5b12f11c726db741598ce54f0bea3c6f276bb89",
        "f92c9f65307c179b17d644480002d5da8cbc4707e8bafad145028e75bf464fee",
    ),
    (
        16385,
        "1caf0ec7c6412a35e5819beba49bf3a754cacee88f17f0af0570c2f0a2663091",
        "be54a89f8dd0323a154355eafbebb12c60816f428089949286c5b1fa1b47d136",
    ),
];

/// The output of `seq 1 99999999 | head -c SIZE`.
fn seq(blocks: u64) -> File {
    let size = blocks as usize * BLOCK_SIZE;
    let mut text = Vec::with_capacity(size + 16);
    for number in 1.. {
        if text.len() >= size {
            break;
        }
        writeln!(text, "{number}").unwrap();
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&text[..size]).unwrap();
    file
}

fn tree_over(data: &File) -> (File, RootHash) {
    let tree = tempfile::tempfile().unwrap();
    let root_hash = Tree::write(data, &tree, UUID).unwrap();
    (tree, root_hash)
}

fn flip_bit(file: &File, block: u64) {
    let at = block * BLOCK_SIZE as u64 + 17;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn bad_block(result: Result<Superblock, VerityError>) -> BadBlock {
    match result {
        Err(VerityError::Damaged(block)) => block,
        other => panic!("expected a damaged block, got {other:?}"),
    }
}

#[test]
fn a_tree_in_memory_is_the_same_as_one_in_a_file() {
    for blocks in [1, 2, 127, 128, 129, 16385] {
        let data: Vec<u8> = (0..blocks * BLOCK_SIZE as u64).map(|i| (i >> 9) as u8 ^ i as u8).collect();
        let [file, tree_file] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        (&file).write_all(&data).unwrap();
        let root_hash = Tree::write(&file, &tree_file, Uuid::nil()).unwrap();
        let read = |at: u64, length| Ok::<_, ()>(data[at as usize..at as usize + length].to_vec());
        let (found, tree) = Tree::over(blocks).in_memory(64 * BLOCK_SIZE, read).unwrap();
        assert_eq!(found, root_hash, "{blocks}");
        let mut expected = vec![0; tree.len() - BLOCK_SIZE];
        std::os::unix::fs::FileExt::read_exact_at(&tree_file, &mut expected, BLOCK_SIZE as u64).unwrap();
        assert!(tree[BLOCK_SIZE..] == expected && tree.len() as u64 == Tree::over(blocks).size(), "{blocks}");
    }
}

#[test]
fn the_salt_is_the_published_one() {
    assert_eq!(SALT, <[u8; 32]>::from(Sha256::digest("larder dm-verity salt v1")));
}

#[test]
fn trees_are_byte_identical_to_those_of_veritysetup() {
    for (blocks, root_hash, digest) in VERITYSETUP {
        let (tree, actual) = tree_over(&seq(blocks));
        assert_eq!(actual.to_string(), root_hash, "{blocks} blocks");
        let mut bytes = vec![0; tree.metadata().unwrap().len() as usize];
        tree.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes.len() as u64, Tree::over(blocks).size(), "{blocks} blocks");
        assert_eq!(hex::encode(Sha256::digest(&bytes)), digest, "{blocks} blocks");
    }
}

#[test]
fn intact_data_is_verified_and_the_superblock_reads_back() {
    for blocks in [1, 2, 129, 16385] {
        let data = seq(blocks);
        let (tree, root_hash) = tree_over(&data);
        let superblock = verify(&data, &tree, &root_hash).unwrap();
        assert_eq!(superblock, Superblock { uuid: UUID, data_blocks: blocks, salt: SALT.to_vec() });
    }
}

#[test]
fn the_first_flipped_data_block_is_named() {
    let data = seq(300);
    let (tree, root_hash) = tree_over(&data);
    for block in [299, 128, 127, 0] {
        flip_bit(&data, block);
        assert_eq!(bad_block(verify(&data, &tree, &root_hash)), BadBlock::Data(block));
    }
}

#[test]
fn a_flipped_bit_in_any_level_of_the_tree_is_named() {
    let data = seq(129);
    for block in [1, 2, 3] {
        let (tree, root_hash) = tree_over(&data);
        flip_bit(&tree, block);
        assert_eq!(bad_block(verify(&data, &tree, &root_hash)), BadBlock::Tree(block));
    }
}

#[test]
fn a_single_damaged_block_is_found_without_any_level() {
    let data = seq(1);
    let (tree, root_hash) = tree_over(&data);
    flip_bit(&data, 0);
    assert_eq!(bad_block(verify(&data, &tree, &root_hash)), BadBlock::Data(0));
}

#[test]
fn another_root_hash_refutes_the_top_of_the_tree() {
    let data = seq(2);
    let (tree, _) = tree_over(&data);
    assert_eq!(bad_block(verify(&data, &tree, &RootHash::from([7; 32]))), BadBlock::Tree(1));
}

#[test]
fn truncated_data_is_an_error_of_reading_and_not_a_verdict() {
    let data = seq(129);
    let (tree, root_hash) = tree_over(&data);
    data.set_len(4096 * 100).unwrap();
    assert!(matches!(verify(&data, &tree, &root_hash), Err(VerityError::Io(..))));
}

#[test]
fn regions_inside_a_larger_file_verify_like_files_of_their_own() {
    let (data, disk) = (seq(129), tempfile::tempfile().unwrap());
    let region = |start| Region { file: &disk, start };
    let mut content = vec![0; 129 * BLOCK_SIZE];
    data.read_exact_at(&mut content, 0).unwrap();
    disk.write_all_at(&content, 512).unwrap();
    let root_hash = Tree::write_blocks(region(512), 129, region(1 << 20), UUID).unwrap();
    assert_eq!(root_hash.to_string(), VERITYSETUP[4].1);
    verify(region(512), region(1 << 20), &root_hash).unwrap();
}

#[test]
fn data_that_is_no_whole_number_of_blocks_is_refused() {
    for size in [0, 1, 4097] {
        let (data, tree) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        data.set_len(size).unwrap();
        assert!(matches!(Tree::write(&data, &tree, UUID), Err(VerityError::NotBlocks(bytes)) if bytes == size));
    }
}

#[test]
fn the_leaf_level_is_the_last_one_and_has_a_digest_for_each_data_block() {
    assert_eq!(Tree::over(1).leaf_blocks(), 0..0);
    assert_eq!(Tree::over(2).leaf_blocks(), 1..2);
    assert_eq!(Tree::over(129).leaf_blocks(), 2..4);
    // A full slot of 2 GiB: 4096 leaves, 32 blocks above, one at the top, and the superblock.
    assert_eq!(Tree::over(1 << 19).size(), (4096 + 32 + 1 + 1) * 4096);
}

#[test]
fn partition_uuids_are_the_two_halves_of_the_root_hash_as_text() {
    let root_hash: RootHash = VERITYSETUP[0].1.parse().unwrap();
    assert_eq!(root_hash.root_partition_uuid().to_string(), "28cae97d-a735-8bf9-3218-be97717af883");
    assert_eq!(root_hash.verity_partition_uuid().to_string(), "b316a1cf-11b9-433e-b239-3a84fb2a4ef9");
    assert!("28cae9".parse::<RootHash>().is_err());
}
