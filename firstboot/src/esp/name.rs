//! Names of UKIs on the ESP, with the tries that systemd-boot counts in them (Automatic Boot Assessment):
//! `larder_VERSION+LEFT-DONE.efi`.
//!
//! Before it starts a UKI, the boot loader takes one from LEFT and adds one to DONE. One with nothing LEFT is started only
//! when no other one has anything left.

use std::fmt;

use crate::layout::{SYSTEM_PREFIX, TRIES};
use crate::version::Version;

/// Ends the name of every UKI.
const SUFFIX: &str = ".efi";

/// Name of a UKI of larder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UkiName {
    /// Version of the system that it starts.
    pub version: Version,
    /// What is counted; nothing in a name without a counter.
    pub tries: Option<Tries>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tries {
    /// Starts that are left.
    pub left: u32,
    /// Starts that were begun since the last good one.
    pub done: u32,
}

impl Tries {
    /// Of a system that is new, or was good at its last start.
    pub const FULL: Self = Self { left: TRIES, done: 0 };
    /// Of one that is not to be started any more.
    pub const NONE: Self = Self { left: 0, done: TRIES };

    /// Whether the boot loader turns to another system, if it can.
    pub fn is_used_up(self) -> bool {
        self.left == 0
    }

    /// Whether it was started although nothing had been left: there was no other system to turn to.
    pub fn is_last_resort(self) -> bool {
        self.left == 0 && self.done > TRIES
    }
}

impl UkiName {
    /// That of a system with all its tries.
    pub fn full(version: &Version) -> Self {
        Self { version: version.clone(), tries: Some(Tries::FULL) }
    }

    /// The same UKI with another counter.
    pub fn with(&self, tries: Tries) -> Self {
        Self { version: self.version.clone(), tries: Some(tries) }
    }

    /// Reads a file name; `None` when it is not that of a UKI of larder's.
    pub fn parse(name: &str) -> Option<Self> {
        // FAT keeps the case of names, and compares without it.
        let stem = name.len().checked_sub(SUFFIX.len()).filter(|end| name.is_char_boundary(*end))?;
        let (stem, suffix) = name.split_at(stem);
        if !suffix.eq_ignore_ascii_case(SUFFIX) {
            return None;
        }
        let rest = stem.strip_prefix(SYSTEM_PREFIX)?;
        let (version, tries) = match rest.rsplit_once('+') {
            Some((version, counter)) => (version, Some(Tries::parse(counter)?)),
            None => (rest, None),
        };
        Some(Self { version: version.parse().ok()?, tries })
    }

    /// Whether the boot loader starts it only when there is nothing else.
    pub fn is_used_up(&self) -> bool {
        self.tries.is_some_and(Tries::is_used_up)
    }
}

impl Tries {
    fn parse(counter: &str) -> Option<Self> {
        // More digits than systemd-boot takes would be another name.
        let number = |digits: &str| {
            let is_number = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        match counter.split_once('-') {
            Some((left, done)) => Some(Self { left: number(left)?, done: number(done)? }),
            None => Some(Self { left: number(counter)?, done: 0 }),
        }
    }
}

impl fmt::Display for UkiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SYSTEM_PREFIX}{}", self.version)?;
        match self.tries {
            Some(Tries { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Tries { left, done }) => write!(f, "+{left}-{done}")?,
            None => {}
        }
        f.write_str(SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_the_boot_loader_writes_them() {
        let tries = |name: &str| UkiName::parse(name).map(|name| name.tries);
        assert_eq!(tries("larder_1.0+3.efi"), Some(Some(Tries::FULL)));
        assert_eq!(tries("larder_1.0+2-1.efi"), Some(Some(Tries { left: 2, done: 1 })));
        assert_eq!(tries("larder_1.0.efi"), Some(None));
        assert_eq!(tries("larder_20261121.0210+0-3.EFI"), Some(Some(Tries::NONE)));
        for other in
            ["larder_.efi", "larder_+3.efi", "larder_1+x.efi", "larder_1+3-.efi", "debian_1+3.efi", "larder_1", "é"]
        {
            assert_eq!(tries(other), None, "{other}");
        }
    }

    #[test]
    fn a_system_that_is_started_with_nothing_left_is_the_last_resort() {
        assert!(!Tries { left: 0, done: 3 }.is_last_resort(), "its third try");
        assert!(Tries { left: 0, done: 4 }.is_last_resort());
        assert!(!Tries { left: 1, done: 9 }.is_last_resort());
    }

    proptest! {
        #[test]
        fn a_name_comes_back(version in "[0-9a-z][0-9a-z.~^-]{0,20}", left in 0..1000_u32, done in 0..1000_u32) {
            let name = UkiName { version: version.parse().unwrap(), tries: Some(Tries { left, done }) };
            prop_assert_eq!(UkiName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn no_name_makes_it_panic(name in ".{0,40}") {
            let _ = UkiName::parse(&name);
        }
    }
}
