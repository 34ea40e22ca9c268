//! Where the blocks of a new root file system are in an old one.
//!
//! Both hash trees have a digest for every 4 KiB, so nothing is read to find out. mkfs.erofs lays files out in the same
//! order in both, so what is the same lies in the same order too: the longest ascending chain of it says, for any place in
//! the new file system, where in the old one to look for something alike.

use std::collections::HashMap;
use std::ops::Range;

type Digest = [u8; 32];

/// A run of blocks that are the same, or of blocks that the old file system has nowhere. In blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// In the new file system.
    pub(super) new: Range<u64>,
    /// Where it begins in the old one; `None` when it is not there.
    pub(super) old: Option<u64>,
}

/// The runs of a new file system, without gaps.
pub(super) fn runs(old: &[Digest], new: &[Digest]) -> Vec<Run> {
    let mut places: HashMap<&Digest, Vec<u64>> = HashMap::with_capacity(old.len());
    for (place, digest) in old.iter().enumerate() {
        places.entry(digest).or_default().push(place as u64);
    }
    let mut runs: Vec<Run> = Vec::new();
    for (block, digest) in new.iter().enumerate() {
        let block = block as u64;
        let goes_on = runs.last().and_then(|run| Some(run.old? + (run.new.end - run.new.start)));
        let found = places.get(digest).and_then(|places| {
            // Blocks that occur often (zeros) tell nothing by themselves; the one that goes on is as good as any.
            let follows = goes_on.filter(|next| old.get(*next as usize) == Some(digest));
            follows.or_else(|| (places.len() <= 4).then(|| nearest(places, goes_on.unwrap_or(block))))
        });
        match runs.last_mut() {
            Some(run) if run.old.is_some() == found.is_some() && (found.is_none() || found == goes_on) => {
                run.new.end += 1;
            }
            _ => runs.push(Run { new: block..block + 1, old: found }),
        }
    }
    runs
}

fn nearest(places: &[u64], to: u64) -> u64 {
    places.iter().copied().min_by_key(|place| place.abs_diff(to)).unwrap_or(to)
}

/// The runs that are in the same order in both: those that say where to look.
pub(super) fn anchors(runs: &[Run]) -> Vec<&Run> {
    let found: Vec<&Run> = runs.iter().filter(|run| run.old.is_some()).collect();
    // Longest ascending subsequence by blocks: for each run, the best chain that ends with it. `best` is a Fenwick tree of
    // maxima over the places in the old file system.
    let size = found.iter().filter_map(|run| run.old).max().map_or(0, |last| last as usize + 2);
    let mut best: Vec<(u64, usize)> = vec![(0, usize::MAX); size];
    let mut before = vec![usize::MAX; found.len()];
    let mut end = (0, usize::MAX);
    for (place, run) in found.iter().enumerate() {
        let at = run.old.unwrap_or_default() as usize;
        let (mut chain, mut i) = ((0, usize::MAX), at);
        while i > 0 {
            chain = chain.max_by_length(best[i]);
            i &= i - 1;
        }
        before[place] = chain.1;
        let chain = (chain.0 + run.new.end - run.new.start, place);
        end = end.max_by_length(chain);
        let mut i = at + 1;
        while i < size {
            best[i] = best[i].max_by_length(chain);
            i += i & i.wrapping_neg();
        }
    }
    let mut chain = Vec::new();
    let mut place = end.1;
    while place != usize::MAX {
        chain.push(found[place]);
        place = before[place];
    }
    chain.reverse();
    chain
}

trait ByLength {
    fn max_by_length(self, other: Self) -> Self;
}

impl ByLength for (u64, usize) {
    fn max_by_length(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(text: &str) -> Vec<Digest> {
        text.bytes().map(|byte| [byte; 32]).collect()
    }

    fn shown(runs: &[Run]) -> String {
        let show = |run: &Run| match run.old {
            Some(old) => format!("{}-{}@{old}", run.new.start, run.new.end),
            None => format!("{}-{}", run.new.start, run.new.end),
        };
        runs.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn blocks_are_found_wherever_they_are_and_runs_are_as_long_as_they_can_be() {
        assert_eq!(shown(&runs(&digests("abcdefg"), &digests("abXdefgc"))), "0-2@0 2-3 3-7@3 7-8@2");
        assert_eq!(shown(&runs(&digests("abcabd"), &digests("abd"))), "0-2@0 2-3@5");
        assert_eq!(shown(&runs(&digests(""), &digests("ab"))), "0-2");
    }

    #[test]
    fn zeros_are_followed_and_never_begin_anything() {
        assert_eq!(shown(&runs(&digests("a0b00c000"), &digests("000a0X0"))), "0-3 3-5@0 5-7");
    }

    #[test]
    fn what_is_out_of_order_leads_nowhere() {
        let (old, new) = (digests("abcdefghi"), digests("haXbcdYefgi"));
        let runs = runs(&old, &new);
        assert_eq!(shown(&runs), "0-1@7 1-2@0 2-3 3-6@1 6-7 7-10@4 10-11@8");
        let chain: Vec<_> = anchors(&runs).into_iter().cloned().collect();
        assert_eq!(shown(&chain), "1-2@0 3-6@1 7-10@4 10-11@8");
    }
}
