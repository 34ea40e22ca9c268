//! Blocks of the new root file system that the running one has, wherever: the leaf levels of both hash trees are an index.
//!
//! For a recipe that makes a system out of nothing. One that was made against the very system that runs knows better.

use std::collections::HashMap;

use crate::verity::{BLOCK_SIZE, Tree};

type Digest = [u8; 32];

/// Which block of the running root is which of the new one.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    /// Digests of the new blocks, in order.
    new: &'a [Digest],
    /// Where a block with this digest is.
    known: HashMap<Digest, u64>,
}

impl<'a> Blocks<'a> {
    /// Of two trees over so many bytes; `None` when one of them is shorter than it has to be.
    pub(super) fn new((new, new_size): (&'a [u8], u64), (old, old_size): (&[u8], u64)) -> Option<Self> {
        let known = leaves(old, old_size)?.iter().zip(0..).map(|(digest, block)| (*digest, block)).collect();
        Some(Self { new: leaves(new, new_size)?, known })
    }

    /// Where in the running root, in bytes, the blocks of a piece of the new one are; `None` when it lacks one of them.
    pub(super) fn find(&self, at: u64, length: u64) -> Option<Vec<u64>> {
        let block = |at: u64| at as usize / BLOCK_SIZE;
        let digests = self.new.get(block(at)..block(at + length))?;
        digests.iter().map(|digest| self.known.get(digest).map(|block| block * BLOCK_SIZE as u64)).collect()
    }
}

fn leaves(tree: &[u8], size: u64) -> Option<&[Digest]> {
    Tree::over(size / BLOCK_SIZE as u64).leaves(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(blocks: &[u8]) -> (Vec<u8>, u64) {
        let data: Vec<u8> = blocks.iter().flat_map(|block| [*block; BLOCK_SIZE]).collect();
        let read = |at: u64, length| Ok::<_, ()>(data[at as usize..at as usize + length].to_vec());
        (Tree::over(blocks.len() as u64).in_memory(BLOCK_SIZE, read).unwrap().1, data.len() as u64)
    }

    #[test]
    fn blocks_are_found_wherever_they_are_and_one_that_is_missing_is_reason_enough_to_fetch() {
        let ((old, old_size), (new, new_size)) = (tree(&[1, 2, 3, 4]), tree(&[4, 4, 1, 9, 2]));
        let blocks = Blocks::new((&new, new_size), (&old, old_size)).unwrap();
        let block = BLOCK_SIZE as u64;
        assert_eq!(blocks.find(0, 3 * block), Some(vec![3 * block, 3 * block, 0]));
        assert_eq!(blocks.find(2 * block, 2 * block), None);
        assert_eq!(blocks.find(4 * block, 2 * block), None, "there is no such block");
        assert!(Blocks::new((&new[..5000], new_size), (&old, old_size)).is_none());
    }
}
