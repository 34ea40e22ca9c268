//! Versions of Debian packages, and their order.
//!
//! The crate for this, debversion 0.5.5, takes an absent number for less than 0 (`1.` before `1.0`; found by the fuzz target
//! `version`), where Policy and dpkg take both for equal. So the order is our own: the loop that dpkg's `verrevcmp` is.

use std::cmp::Ordering;
use std::str::FromStr;

/// `[EPOCH:]UPSTREAM[-REVISION]` (Debian Policy, 5.6.12). What means the same is equal: `1` and `0:1-0`.
#[derive(Debug, Clone)]
pub struct Version {
    epoch: u32,
    upstream: String,
    revision: String,
}

/// The text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version")]
pub struct InvalidVersion(String);

/// Whether [`Version`] can be read from a text.
pub fn is_version(text: &str) -> bool {
    let rest = match text.split_once(':') {
        // Nine digits fit every reader's idea of an epoch.
        Some((epoch, _)) if epoch.is_empty() || epoch.len() > 9 || !epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
            return false;
        }
        Some((_, rest)) => rest,
        None => text,
    };
    !rest.is_empty()
        && !rest.ends_with('-')
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+:~-".contains(&byte))
        && !rest.starts_with('-')
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion(text.to_owned());
        if !is_version(text) {
            return Err(invalid());
        }
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Ok(Self {
            epoch: epoch.parse().map_err(|_| invalid())?,
            upstream: upstream.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |one: &str, other: &str| compare(one.as_bytes(), other.as_bytes());
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| part(&self.upstream, &other.upstream))
            .then_with(|| part(&self.revision, &other.revision))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// By turns what is no digit, byte for byte, and numbers.
fn compare(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        while is_text(one) || is_text(other) {
            let ordering = weight(one.first()).cmp(&weight(other.first()));
            if ordering.is_ne() {
                return ordering;
            }
            // Equal weights: both have a byte there, as nothing else weighs what the end does.
            (one, other) = (&one[1..], &other[1..]);
        }
        let (number, rest) = split_number(one);
        let (other_number, other_rest) = split_number(other);
        let ordering = number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number));
        if ordering.is_ne() {
            return ordering;
        }
        (one, other) = (rest, other_rest);
    }
    Ordering::Equal
}

fn is_text(part: &[u8]) -> bool {
    part.first().is_some_and(|byte| !byte.is_ascii_digit())
}

/// A tilde sorts before the end, the end and numbers before letters, letters before everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// The digits that it begins with, without leading zeros: none at all are 0. And what follows.
fn split_number(part: &[u8]) -> (&[u8], &[u8]) {
    let end = part.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
    let (digits, rest) = part.split_at(end);
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(one: &str, other: &str) -> Ordering {
        one.parse::<Version>().unwrap().cmp(&other.parse().unwrap())
    }

    #[test]
    fn versions_are_in_the_order_of_dpkg() {
        // Each was given to `dpkg --compare-versions`.
        let ascending = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0~rc1-1",
            "1.0",
            "1.0-0.1",
            "1.0-1",
            "1.0-1r10c~",
            "1.0-1r10c",
            "1.0-1+b1",
            "1.0-10",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.0.1-1",
            "1.2",
            "1.10",
            "1.99999999999999999999999999",
            "1:0.1",
            "2:0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compared(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compared(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn what_means_the_same_is_equal() {
        for (one, other) in [("1", "0:1-0"), ("1.", "1.0"), ("1.00", "1.0"), ("1.0-1", "1.-1"), ("a-b-1", "0:a-b-01")] {
            assert_eq!(compared(one, other), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "-1", "1-", ":1", "a:1", "1234567890:1", "1 2", "1_2", "ä"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
