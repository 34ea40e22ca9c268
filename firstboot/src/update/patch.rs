//! Patches: new content as differences to old content, as bsdiff describes it (Percival, "Naive differences of executable
//! code"), in a form that suits xz.
//!
//! ```text
//! varint             number of steps
//! per step, varints  bytes to add · bytes of new content after them · where the old content goes on, zigzag
//! differences        of all steps, to be added to the old bytes: mostly zeros
//! new content        of all steps
//! ```
//!
//! The three parts lie one after another, each like itself, and are compressed as one.

/// A patch is not in order, or not for this old content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the patch is not in order")]
pub struct BadPatch;

/// What is done next: `add` bytes of the old content are changed, `insert` bytes are new, and the old content goes on
/// `seek` bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes to add to old ones.
    pub add: u64,
    /// Bytes that are new.
    pub insert: u64,
    /// Where the old content goes on, from where it stands after `add`.
    pub seek: i64,
}

/// Writes a patch. `differences` and `insertions` are those of all steps, one after another.
pub fn encode(steps: &[Step], differences: &[u8], insertions: &[u8]) -> Vec<u8> {
    let mut patch = Vec::with_capacity(differences.len() + insertions.len() + 8 * steps.len());
    write_varint(&mut patch, steps.len() as u64);
    for step in steps {
        write_varint(&mut patch, step.add);
        write_varint(&mut patch, step.insert);
        write_varint(&mut patch, zigzag(step.seek));
    }
    patch.extend_from_slice(differences);
    patch.extend_from_slice(insertions);
    patch
}

/// Makes `length` bytes of new content.
///
/// # Errors
/// [`BadPatch`]; whatever the patch holds, no more memory is used than for the result.
pub fn apply(old: &[u8], patch: &[u8], length: usize) -> Result<Vec<u8>, BadPatch> {
    let mut steps = patch;
    let count = read_varint(&mut steps)?;
    let mut differences = steps;
    // First over the steps alone: where they end, the differences begin, and the sum of these says where the rest does.
    let mut added = 0;
    for _ in 0..count {
        added = read_step(&mut differences)?.add.checked_add(added).ok_or(BadPatch)?;
    }
    let (mut differences, mut insertions) = differences.split_at_checked(usize_of(added)?).ok_or(BadPatch)?;
    let mut new = Vec::with_capacity(length);
    let mut position = 0_u64;
    for _ in 0..count {
        let step = read_step(&mut steps)?;
        let (add, insert) = (usize_of(step.add)?, usize_of(step.insert)?);
        if add.checked_add(insert).is_none_or(|more| more > length - new.len()) {
            return Err(BadPatch);
        }
        let from = old.get(usize_of(position)?..).and_then(|old| old.get(..add)).ok_or(BadPatch)?;
        let difference = take(&mut differences, add)?;
        new.extend(from.iter().zip(difference).map(|(old, difference)| old.wrapping_add(*difference)));
        new.extend_from_slice(take(&mut insertions, insert)?);
        position = (position + step.add).checked_add_signed(step.seek).ok_or(BadPatch)?;
    }
    if new.len() == length && differences.is_empty() && insertions.is_empty() { Ok(new) } else { Err(BadPatch) }
}

fn read_step(from: &mut &[u8]) -> Result<Step, BadPatch> {
    let (add, insert, seek) = (read_varint(from)?, read_varint(from)?, read_varint(from)?);
    Ok(Step { add, insert, seek: (seek >> 1) as i64 ^ -((seek & 1) as i64) })
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn write_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_varint(from: &mut &[u8]) -> Result<u64, BadPatch> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(BadPatch)?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadPatch)
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8], BadPatch> {
    let (taken, rest) = from.split_at_checked(length).ok_or(BadPatch)?;
    *from = rest;
    Ok(taken)
}

fn usize_of(number: u64) -> Result<usize, BadPatch> {
    usize::try_from(number).map_err(|_| BadPatch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_bytes_are_changed_new_ones_come_between_and_the_order_may_differ() {
        let steps = [
            Step { add: 3, insert: 2, seek: 2 },
            Step { add: 2, insert: 0, seek: -5 },
            Step { add: 1, insert: 0, seek: 0 },
        ];
        let patch = encode(&steps, &[0, 1, 0, 0, 0, 0], b"--");
        assert_eq!(apply(b"abcdefgh", &patch, 8).unwrap(), b"acc--fgc");
        assert_eq!(apply(b"abcdefgh", &patch, 7), Err(BadPatch));
        assert_eq!(apply(b"abcdefgh", &patch, 9), Err(BadPatch));
        assert_eq!(apply(b"abcde", &patch, 8), Err(BadPatch));
        assert_eq!(apply(b"abcdefgh", &patch[..patch.len() - 1], 8), Err(BadPatch));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(old in prop::collection::vec(any::<u8>(), 0..64), patch in prop::collection::vec(any::<u8>(), 0..64), length in 0..128_usize) {
            if let Ok(new) = apply(&old, &patch, length) {
                prop_assert_eq!(new.len(), length);
            }
        }

        #[test]
        fn numbers_come_back(numbers in prop::collection::vec((0..u64::from(u32::MAX), 0..u64::from(u32::MAX), any::<i32>()), 1..8)) {
            let steps: Vec<_> = numbers.iter().map(|(add, insert, seek)| Step { add: *add, insert: *insert, seek: i64::from(*seek) }).collect();
            let patch = encode(&steps, &[], &[]);
            let mut rest = &patch[..];
            prop_assert_eq!(read_varint(&mut rest).unwrap(), steps.len() as u64);
            for step in steps {
                prop_assert_eq!(read_step(&mut rest).unwrap(), step);
            }
        }
    }
}
