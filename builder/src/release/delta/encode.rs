//! One piece, in as few bytes as can be.

use std::convert::Infallible;
use std::io::Write as _;

use anyhow::Context as _;
use bidiff::{Control, DiffParams, Translator};
use firstboot::update::patch::{self, Step};
use firstboot::update::recipe::MAX_DICTIONARY;
use liblzma::stream::{Check, Filters, LzmaOptions, PRESET_EXTREME, Stream};
use liblzma::write::XzEncoder;

/// What goes into the payload for a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoded {
    /// An xz stream of the piece.
    Data(Vec<u8>),
    /// An xz stream of a patch.
    Patch(Vec<u8>),
}

/// The shortest form of `new`, given what it is alike.
pub(super) fn encode(new: &[u8], old: &[u8]) -> anyhow::Result<Encoded> {
    let data = shortest([pack(new, Content::Plain)?, pack(new, Content::Program)?]);
    if old.is_empty() {
        return Ok(Encoded::Data(data));
    }
    let difference = difference(old, new);
    let patch = shortest([pack(&difference, Content::Patch)?, pack(&difference, Content::Plain)?]);
    Ok(if patch.len() < data.len() { Encoded::Patch(patch) } else { Encoded::Data(data) })
}

/// A form of `new` by itself, for whole systems: hundreds of megabytes, most of them programs.
pub(super) fn quickly(new: &[u8]) -> anyhow::Result<Vec<u8>> {
    pack_at(6, new, Content::Program)
}

fn shortest<const N: usize>(packed: [Vec<u8>; N]) -> Vec<u8> {
    packed.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

/// What is packed, as far as xz can make use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Anything.
    Plain,
    /// Code for x86: addresses of jumps are made absolute, so that those to the same place are the same.
    Program,
    /// Differences: nearly all zeros, and what is not says nothing about what follows.
    Patch,
}

/// Compresses by xz. There is no checksum in it, as the recipe has a better one.
pub(super) fn pack(bytes: &[u8], content: Content) -> anyhow::Result<Vec<u8>> {
    pack_at(9 | PRESET_EXTREME, bytes, content)
}

fn pack_at(preset: u32, bytes: &[u8], content: Content) -> anyhow::Result<Vec<u8>> {
    let mut options = LzmaOptions::new_preset(preset).context("setting xz up")?;
    let dictionary = (bytes.len().next_power_of_two() as u32).clamp(4096, MAX_DICTIONARY);
    options.dict_size(dictionary);
    if content == Content::Patch {
        options.literal_context_bits(0).literal_position_bits(2).position_bits(2);
    }
    let mut filters = Filters::new();
    if content == Content::Program {
        filters.x86();
    }
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::None).context("setting xz up")?;
    let mut encoder = XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).and_then(|()| encoder.finish()).context("compressing")
}

/// What [`patch::apply`] makes `new` of.
fn difference(old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut steps, mut differences, mut insertions) = (Vec::new(), Vec::new(), Vec::new());
    let mut translator = Translator::new(old, new, |control: &Control<'_>| {
        steps.push(Step { add: control.add.len() as u64, insert: control.copy.len() as u64, seek: control.seek });
        differences.extend_from_slice(control.add);
        insertions.extend_from_slice(control.copy);
        Ok::<(), Infallible>(())
    });
    let Ok(()) = bidiff::diff(old, new, &DiffParams::default(), |found| translator.translate(found));
    let Ok(()) = translator.close();
    patch::encode(&steps, &differences, &insertions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_was_changed_the_patch_makes_it(old in prop::collection::vec(0..4_u8, 1..300), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20), cut in any::<prop::sample::Index>()) {
            let mut new = old.clone();
            new.rotate_left(cut.index(old.len()));
            for (place, byte) in edits {
                let place = place.index(new.len());
                if byte % 3 == 0 { new.insert(place, byte) } else { new[place] = byte }
            }
            prop_assert_eq!(patch::apply(&old, &difference(&old, &new), new.len()).unwrap(), new);
        }
    }

    #[test]
    fn a_small_change_takes_few_bytes_and_something_new_is_sent_as_it_is() {
        let old: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut new = old.clone();
        new.splice(1000..1000, *b"inserted");
        new[100_000] ^= 1;
        let Encoded::Patch(patch) = encode(&new, &old).unwrap() else { panic!("it is a small change") };
        assert!(patch.len() < 300, "{}", patch.len());
        let Encoded::Data(_) = encode(b"all of this is new", &old).unwrap() else { panic!("a patch would be longer") };
    }
}
