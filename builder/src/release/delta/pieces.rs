//! Which pieces a new root file system is made of, and what each is compared with.

use std::ops::Range;

use firstboot::update::recipe::{MAX_BASE, MAX_LENGTH};
use firstboot::verity::BLOCK_SIZE;

use super::blocks::Run;

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Runs that are the same and shorter than this go into the patch around them, which costs next to nothing, as another
/// record does.
const SHORT: u64 = 64;
/// How far beyond its bounds old content is looked at.
const MARGIN: u64 = 64 << 10;
/// The same, where only the proportion says where to look.
const DRIFT: u64 = 4 << 20;

/// A piece of the new file system. In bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// It is in the old one, from here on.
    Same { new: Range<u64>, old: u64 },
    /// It is most like this part of the old one.
    Changed { new: Range<u64>, old: Range<u64> },
}

/// Cuts a file system into pieces that recipes may have. `old_size` in bytes.
pub(super) fn pieces(runs: &[Run], anchors: &[&Run], old_size: u64) -> Vec<Piece> {
    let end = (runs.last().map_or(0, |run| run.new.end * BLOCK), old_size);
    let mut pieces = Vec::new();
    for region in regions(runs) {
        let bytes = region.new.start * BLOCK..region.new.end * BLOCK;
        for new in split(bytes.clone()) {
            pieces.push(match region.old {
                Some(old) => Piece::Same { old: old * BLOCK + (new.start - bytes.start), new },
                None => Piece::Changed { old: alike(&new, anchors, end), new },
            });
        }
    }
    pieces
}

/// Runs, with the short ones that are the same joined to their changed neighbours.
fn regions(runs: &[Run]) -> Vec<Run> {
    let mut regions: Vec<Run> = Vec::new();
    for run in runs {
        let long = run.old.filter(|_| run.new.end - run.new.start >= SHORT);
        match regions.last_mut() {
            Some(last) if last.old.is_none() && long.is_none() => last.new.end = run.new.end,
            _ => regions.push(Run { new: run.new.clone(), old: long }),
        }
    }
    regions
}

/// Equal parts of at most [`MAX_LENGTH`].
fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let blocks = (range.end - range.start).div_ceil(BLOCK);
    let parts = (blocks * BLOCK).div_ceil(MAX_LENGTH);
    let cut = move |part: u64| (range.start + blocks * part / parts * BLOCK).min(range.end);
    (0..parts).map(move |part| cut(part)..cut(part + 1))
}

/// The part of the old file system that a piece is most like: between what is the same before it and after it.
/// Where nothing follows, that is the `end` of both.
fn alike(new: &Range<u64>, anchors: &[&Run], (new_size, old_size): (u64, u64)) -> Range<u64> {
    let end = |run: &Run| (run.new.end * BLOCK, (run.old.unwrap_or_default() + run.new.end - run.new.start) * BLOCK);
    let start = |run: &Run| (run.new.start * BLOCK, run.old.unwrap_or_default() * BLOCK);
    // Anchors within the piece are of no use as bounds: it is about what lies beside them.
    let next = anchors.partition_point(|run| run.new.start * BLOCK < new.end);
    let previous = anchors.partition_point(|run| run.new.end * BLOCK <= new.start);
    let before = previous.checked_sub(1).map_or((0, 0), |place| end(anchors[place]));
    let after = anchors.get(next).map_or((new_size, old_size), |run| start(run));
    let (gap, old_gap) = ((after.0 - before.0).max(1), after.1.saturating_sub(before.1));
    let bounds = before.1.saturating_sub(MARGIN)..(after.1 + MARGIN).min(old_size);
    let wanted = 2 * (new.end - new.start) + 2 * DRIFT;
    if bounds.end.saturating_sub(bounds.start) <= wanted.min(MAX_BASE) {
        return bounds;
    }
    let place = |at: u64| before.1 + (u128::from(at - before.0) * u128::from(old_gap) / u128::from(gap)) as u64;
    let (from, to) = (place(new.start).saturating_sub(DRIFT), place(new.end).saturating_add(DRIFT));
    let (from, to) = (from.max(bounds.start), to.min(bounds.end));
    from..to.min(from + MAX_BASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(new: Range<u64>, old: Option<u64>) -> Run {
        Run { new, old }
    }

    #[test]
    fn a_changed_piece_is_compared_with_what_lies_between_its_neighbours() {
        let runs = [
            run(0..100, Some(0)),
            run(100..110, None),
            run(110..120, Some(105)),
            run(120..121, None),
            run(121..300, Some(200)),
        ];
        let anchors: Vec<_> = runs.iter().filter(|run| run.old.is_some()).collect();
        let pieces = pieces(&runs, &anchors, 1000 * BLOCK);
        assert_eq!(
            pieces,
            [
                Piece::Same { new: 0..100 * BLOCK, old: 0 },
                Piece::Changed { new: 100 * BLOCK..121 * BLOCK, old: 100 * BLOCK - MARGIN..200 * BLOCK + MARGIN },
                Piece::Same { new: 121 * BLOCK..300 * BLOCK, old: 200 * BLOCK },
            ]
        );
    }

    #[test]
    fn long_pieces_are_cut_and_each_is_compared_with_its_share() {
        let blocks = 20 * MAX_LENGTH / BLOCK;
        let runs = [run(0..64, Some(0)), run(64..64 + blocks, None)];
        let anchors = [&runs[0]];
        let pieces = pieces(&runs, &anchors, 64 * BLOCK + 10 * MAX_LENGTH);
        assert_eq!(pieces.len(), 21);
        let mut at = 0;
        for piece in &pieces {
            let (Piece::Same { new, .. } | Piece::Changed { new, .. }) = piece;
            assert_eq!(new.start, at);
            assert!(new.end - new.start <= MAX_LENGTH);
            at = new.end;
        }
        let Piece::Changed { old, .. } = &pieces[10] else { panic!("it is not the same") };
        assert!(old.contains(&(5 * MAX_LENGTH)) && old.end - old.start < 3 * MAX_LENGTH, "{old:?}");
    }

    #[test]
    fn where_there_is_no_old_system_there_is_nothing_to_compare_with() {
        let pieces = pieces(&[run(0..5, None)], &[], 0);
        assert_eq!(pieces, [Piece::Changed { new: 0..5 * BLOCK, old: 0..0 }]);
    }
}
