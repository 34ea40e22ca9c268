//! The version of an image, as it appears in file names, partition labels and boot menus.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::layout::SYSTEM_PREFIX as PREFIX;
use crate::report::Mistake;

/// A GPT partition name has 36 UTF-16 code units (UEFI 5.3.3, Partition Name), the prefix included.
const MAX_LENGTH: usize = 36 - PREFIX.len();

/// An image version: letters, digits and `. ~ ^ -`, starting with a letter or digit.
///
/// These are the characters that systemd compares by the rules of the UAPI version format. `_` is
/// left out since it separates name and version for systemd-sysupdate, `+` since it starts the
/// boot counter in `larder_VERSION+3.efi` (systemd-boot, Automatic Boot Assessment).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The bare text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// GPT label of the root and verity partitions.
    pub fn partition_label(&self) -> String {
        format!("{PREFIX}{self}")
    }

    /// File name of the UKI on the ESP, while `tries` boots are left to prove itself.
    pub fn uki_name(&self, tries: u32) -> String {
        format!("{PREFIX}{self}+{tries}.efi")
    }

    /// Which of two versions systemd-boot starts first: the order of the UAPI version format
    /// (<https://uapi-group.org/specifications/specs/version_format_specification/>).
    ///
    /// `Equal` does not mean the same text: `1.01` and `1.1` are as new as each other. So this is no [`Ord`].
    pub fn order(&self, other: &Self) -> Ordering {
        order(&self.0, &other.0)
    }

    /// Whether it is newer than another.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.order(other).is_gt()
    }
}

/// The steps of the specification, in its order.
fn order(mut one: &str, mut other: &str) -> Ordering {
    loop {
        for separator in ['~', '\0', '-', '^', '.'] {
            // At the end of either: the longer one is newer; but what a tilde begins is older than nothing.
            if separator == '\0' {
                if one.is_empty() || other.is_empty() {
                    return one.len().cmp(&other.len());
                }
                continue;
            }
            match (one.strip_prefix(separator), other.strip_prefix(separator)) {
                (Some(a), Some(b)) => (one, other) = (a, b),
                (Some(_), None) => return Ordering::Less,
                (None, Some(_)) => return Ordering::Greater,
                (None, None) => {}
            }
        }
        let is_number = [one, other].iter().any(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        let belongs = |c: char| if is_number { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        if is_number {
            (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
        }
        let (a, b) = (prefix(one, belongs), prefix(other, belongs));
        // Without leading zeros the longer number is the larger one.
        let ordering = if is_number { a.len().cmp(&b.len()).then_with(|| a.cmp(b)) } else { a.cmp(b) };
        if ordering.is_ne() {
            return ordering;
        }
        (one, other) = (&one[a.len()..], &other[b.len()..]);
    }
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

impl FromStr for Version {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let wrong = |why: String| {
            Err(Mistake::new(format!("`{text}` is no usable version: {why}"))
                .hint(format!("use up to {MAX_LENGTH} letters, digits and `. ~ ^ -`, such as `2026.11.1`")))
        };
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !".~^-".contains(*c)) {
            return wrong(format!("it contains `{}`", bad.escape_default()));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return wrong("it does not start with a letter or digit".to_owned());
        }
        if text.len() > MAX_LENGTH {
            return wrong(format!("its {} characters do not fit a partition label", text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Version {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_accepted_fits_a_label_and_cannot_confuse_boot_counting(text in "[0-9a-z.~^_+/ -]{0,32}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.as_str(), &text);
                prop_assert!(version.partition_label().encode_utf16().count() <= 36);
                prop_assert_eq!(version.partition_label().matches('_').count(), 1);
                prop_assert_eq!(version.uki_name(3).matches('+').count(), 1);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Version>();
        }
    }

    #[test]
    fn versions_are_ordered_as_systemd_orders_them() {
        // The examples of the UAPI version format specification, oldest first, without characters that are not allowed here.
        let ordered = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, one) in ordered.iter().enumerate() {
            for (j, other) in ordered.iter().enumerate() {
                assert_eq!(order(one, other), i.cmp(&j), "{one} and {other}");
            }
        }
        for (one, other) in [("1.01", "1.1"), ("20261122.0800", "20261122.800")] {
            assert_eq!(order(one, other), Ordering::Equal, "{one} and {other}");
        }
        assert!("20261122.0801".parse::<Version>().unwrap().is_newer_than(&"20261122.0800".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_order_of_versions_is_total(texts in proptest::array::uniform3("[0-2a-b.~^-]{0,6}")) {
            let [a, b, c] = &texts;
            prop_assert_eq!(order(a, b), order(b, a).reverse());
            if order(a, b).is_le() && order(b, c).is_le() {
                prop_assert!(order(a, c).is_le());
            }
        }
    }

    #[test]
    fn usual_versions_are_accepted() {
        for text in ["1", "2026.11.1", "1.0~rc1", "1.0^20261122", "0.3-dev", &"9".repeat(29)] {
            assert_eq!(text.parse::<Version>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_refused_version_is_told_why() {
        let why = |text: &str| text.parse::<Version>().unwrap_err().to_string();
        insta::assert_snapshot!(why(""), @"`` is no usable version: it does not start with a letter or digit");
        insta::assert_snapshot!(why("1.0+3"), @"`1.0+3` is no usable version: it contains `+`");
        insta::assert_snapshot!(why("a_b"), @"`a_b` is no usable version: it contains `_`");
        insta::assert_snapshot!(why("-1"), @"`-1` is no usable version: it does not start with a letter or digit");
        insta::assert_snapshot!(why(&"9".repeat(30)), @"`999999999999999999999999999999` is no usable version: its 30 characters do not fit a partition label");
    }
}
