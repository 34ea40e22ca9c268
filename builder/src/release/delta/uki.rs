//! The pieces of a UKI: its sections, each compared with the one of the same name.

use std::ops::Range;

use firstboot::update::recipe::MAX_BASE;
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};

use super::Alike;

/// Longest piece. A kernel hardly packs, so that it may as well come in pieces that an appliance keeps when its power goes.
const PIECE: u64 = 1 << 20;

/// A piece of the new UKI. In bytes.
pub(super) struct Piece {
    pub(super) new: Range<u64>,
    pub(super) old: Alike,
}

/// Cuts a UKI into pieces that recipes may have.
pub(super) fn pieces(old: &[u8], new: &[u8]) -> impl Iterator<Item = Piece> {
    let before = sections(old);
    let mut pieces = Vec::new();
    for (name, range) in sections(new) {
        let twin = before.iter().find(|(other, _)| *other == name).map(|(_, range)| range.clone());
        let is_same = twin.as_ref().is_some_and(|twin| bytes(old, twin) == bytes(new, &range));
        for part in split(range.clone()) {
            let old = match &twin {
                Some(twin) if is_same => Alike::Same(twin.start + (part.start - range.start)),
                Some(twin) if !twin.is_empty() => Alike::Range(twin.start..twin.end.min(twin.start + MAX_BASE)),
                _ => Alike::Nothing,
            };
            pieces.push(Piece { new: part, old });
        }
    }
    pieces.into_iter()
}

/// Everything in a UKI by name, in the order of the file and without gaps: what precedes the sections, and each section
/// with what follows it.
fn sections(uki: &[u8]) -> Vec<(String, Range<u64>)> {
    let length = uki.len() as u64;
    // What is no UKI is one piece.
    let file = PeFile64::parse(uki).ok();
    let mut starts = vec![(0, String::new())];
    for section in file.iter().flat_map(|file| file.sections()) {
        if let (Ok(name), Some((start, size))) = (section.name(), section.file_range())
            && size > 0
            && start < length
        {
            starts.push((start, name.to_owned()));
        }
    }
    starts.sort();
    starts.dedup_by_key(|(start, _)| *start);
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([length]).collect::<Vec<_>>();
    starts
        .into_iter()
        .zip(ends)
        .map(|((start, name), end)| (name, start..end))
        .filter(|(_, range)| !range.is_empty())
        .collect()
}

fn bytes<'a>(uki: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    &uki[range.start as usize..range.end as usize]
}

fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(PIECE as usize).map(move |start| start..(start + PIECE).min(end))
}
