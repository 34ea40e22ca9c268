//! Sizes as people write them: `450 MB`, `4 GiB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units from the largest; each is a multiple of bytes.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes, written with its unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String", extend("pattern" = r"^\d+ (GiB|GB|MiB|MB|KiB|kB|B)$")))]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || format!("`{text}` is not a size: write it as \"450 MB\" or \"4 GiB\"");
        let (number, unit) = text.split_once(' ').ok_or_else(refusal)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refusal)?;
        let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(*factor));
        bytes.map(Self).ok_or_else(refusal)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    /// In the largest unit that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |&&(_, factor): &&(&str, u64)| self.0.is_multiple_of(factor);
        let (name, factor) = UNITS.iter().find(exact).unwrap_or(&("B", 1));
        match self.0 {
            0 => f.write_str("0 B"),
            bytes => write!(f, "{} {name}", bytes / factor),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_has_a_number_and_a_unit() {
        assert_eq!("450 MB".parse(), Ok(Size::of(450_000_000)));
        assert_eq!("4 GiB".parse(), Ok(Size::of(4 << 30)));
        for wrong in ["450", "450MB", "4.5 GB", "-1 B", "1 TB", "99999999999 GiB", ""] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back_as_it_was_written(bytes: u64) {
            prop_assert_eq!(Size::of(bytes).to_string().parse(), Ok(Size::of(bytes)));
        }
    }
}
