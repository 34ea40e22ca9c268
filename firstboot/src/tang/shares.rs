//! A secret in parts, of which so many are enough, and fewer tell nothing about it: Shamir's, over GF(256), byte by byte.
//!
//! The crates that do this bring big numbers and random number generators along, or have tables whose entries the secret
//! selects; what is needed is this page.

use zeroize::Zeroizing;

/// A secret, or a part of it.
pub(crate) type Share = Zeroizing<[u8; 32]>;

/// Parts of the secret: the values at 1, 2, … of random polynomials of degree `threshold - 1` whose values at 0 are it.
///
/// # Errors
/// The kernel has no random numbers; or so many parts cannot be had.
pub(crate) fn split(secret: &[u8; 32], threshold: u8, parts: u8) -> anyhow::Result<Vec<Share>> {
    anyhow::ensure!(1 <= threshold && threshold <= parts, "{threshold} of {parts} makes no sense");
    let mut coefficients = vec![Zeroizing::new(*secret)];
    for _ in 1..threshold {
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(random.as_mut_slice())?;
        coefficients.push(random);
    }
    let value = |at: u8| {
        let mut value = Zeroizing::new([0; 32]);
        // Horner's rule.
        for coefficient in coefficients.iter().rev() {
            for (byte, more) in value.iter_mut().zip(coefficient.iter()) {
                *byte = times(*byte, at) ^ more;
            }
        }
        value
    };
    Ok((1..=parts).map(value).collect())
}

/// The secret, of as many parts as are needed, each with its number from 1; other ones, or fewer, give anything.
pub(crate) fn combine(parts: &[(u8, Share)]) -> Share {
    let mut secret = Zeroizing::new([0; 32]);
    for (at, part) in parts {
        // Lagrange's polynomial that is 1 at `at` and 0 at the others, at 0. Minus is plus.
        let others = parts.iter().map(|(other, _)| *other).filter(|other| other != at);
        let weight = others.fold(1, |weight, other| times(weight, times(other, inverse(other ^ at))));
        for (byte, more) in secret.iter_mut().zip(part.iter()) {
            *byte ^= times(*more, weight);
        }
    }
    secret
}

/// The product in the field of x⁸ + x⁴ + x³ + x + 1, which is that of AES; takes the same time whatever they are.
fn times(one: u8, other: u8) -> u8 {
    let (mut power, mut product) = (one, 0);
    for bit in 0..8 {
        product ^= power & 0_u8.wrapping_sub((other >> bit) & 1);
        power = (power << 1) ^ (0x1b & 0_u8.wrapping_sub(power >> 7));
    }
    product
}

/// What gives 1 with it, as all elements but 0 have order 255.
fn inverse(element: u8) -> u8 {
    (0..254).fold(1, |power, _| times(power, element))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_field_of_aes() {
        // FIPS 197, 4.2.
        assert_eq!((times(0x57, 0x83), times(0x57, 0x13)), (0xc1, 0xfe));
        assert!((1..=255).all(|element| times(element, inverse(element)) == 1));
    }

    #[test]
    fn what_cannot_be_had_is_not_made() {
        for (threshold, parts) in [(0, 1), (2, 1), (0, 0)] {
            assert!(split(&[7; 32], threshold, parts).is_err(), "{threshold} of {parts}");
        }
    }

    proptest! {
        #[test]
        fn as_many_as_are_needed_give_it_whichever_they_are(
            secret: [u8; 32], (parts, threshold) in (1..=8_u8).prop_flat_map(|parts| (Just(parts), 1..=parts)), order: u64
        ) {
            let mut numbered: Vec<_> = (1..).zip(split(&secret, threshold, parts).unwrap()).collect();
            numbered.rotate_left(order as usize % usize::from(parts));
            if order % 2 == 0 { numbered.reverse(); }
            numbered.truncate(threshold.into());
            prop_assert_eq!(*combine(&numbered), secret);
        }

        /// Whatever the secret is, there is a last part that goes with the others: fewer say nothing.
        #[test]
        fn one_less_tells_nothing(secret: [u8; 32], other: [u8; 32], threshold in 2..=8_u8) {
            let numbered: Vec<_> = (1..).zip(split(&secret, threshold, threshold).unwrap()).collect();
            let (last, rest) = numbered.split_last().unwrap();
            let weight = rest.iter().fold(1, |weight, (at, _)| times(weight, times(*at, inverse(at ^ last.0))));
            let mut fitting = last.1.clone();
            for ((byte, had), wanted) in fitting.iter_mut().zip(secret).zip(other) {
                *byte ^= times(had ^ wanted, inverse(weight));
            }
            let mut another = rest.to_vec();
            another.push((last.0, fitting));
            prop_assert_eq!(*combine(&another), other);
        }
    }
}
