//! Does a disk keep what it is given, all over the room that it says it has?
//!
//! Sticks are sold that say they have more than there is. Behind their real end they drop what is written, or their
//! controller ignores the upper bits of an address, and it lands on what is before. Either would show only months later,
//! when the state partition fills up.
//!
//! So markers are written at 1 MiB and at 1 MiB + 2^k for every k up to the end, and in the last block; each says where it
//! belongs. A disk that ignores address bits from 2^k on has written the marker of 1 MiB + 2^k over that of 1 MiB; one that
//! drops has lost the last. This is what f3probe does (<https://github.com/AltraMayor/f3>), without its precision: what
//! other disks might come up with is found when everything is read back.

use uuid::Uuid;

use super::error::Cause;
use super::memory::Buffer;
use super::{Device, flush, read_at, write_at};
use crate::layout::HEAD_SIZE;

const MARKER: u64 = 4096;
/// The smallest distance from the first marker.
const FIRST_STEP: u32 = 20;

/// Looks, and makes zeros of the markers.
pub(super) fn check(device: &dyn Device) -> Result<(), Cause> {
    let claimed = device.size();
    let secret = Uuid::new_v4();
    let places = places(claimed);
    let mut buffer = Buffer::new(MARKER as usize);
    for place in &places {
        buffer.copy_from_slice(&marker(secret, *place));
        write_at(device, &buffer, *place)?;
    }
    flush(device)?;
    let mut foreign = None;
    for place in &places {
        read_at(device, &mut buffer, *place)?;
        if *buffer == marker(secret, *place) {
            continue;
        }
        if !places.iter().any(|other| *buffer == marker(secret, *other)) {
            return Err(Cause::Drops { claimed, at: *place });
        }
        // The first marker is always among those that were replaced; the next one tells how far it is.
        if *place > HEAD_SIZE || foreign.is_none() {
            foreign = Some(*place);
        }
        if *place > HEAD_SIZE {
            break;
        }
    }
    if let Some(place) = foreign {
        return Err(Cause::Wraps { claimed, real: if place > HEAD_SIZE { place - HEAD_SIZE } else { claimed / 2 } });
    }
    buffer.fill(0);
    places.iter().try_for_each(|place| write_at(device, &buffer, *place))
}

/// In ascending order: what comes later replaces what is before.
fn places(size: u64) -> Vec<u64> {
    let steps = (FIRST_STEP..u64::BITS).map(|k| HEAD_SIZE + (1 << k)).take_while(|place| *place < size - MARKER);
    let last = (size - MARKER) / MARKER * MARKER;
    std::iter::once(HEAD_SIZE).chain(steps).chain([last]).collect()
}

fn marker(secret: Uuid, place: u64) -> Vec<u8> {
    let unit = [secret.as_bytes().as_slice(), &place.to_le_bytes(), &(!place).to_le_bytes()].concat();
    unit.repeat(MARKER as usize / unit.len())
}
