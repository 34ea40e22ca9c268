//! `[updates]`: where newer systems come from, and when. What is installed is signed, so the server need not be trusted.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::update::channel::is_name;

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["from", "channel", "automatic", "window", "limit"];

/// `[updates]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Updates {
    /// The server; without one there are no updates.
    pub from: Option<ServerUrl>,
    /// Which of its channels.
    pub channel: ChannelName,
    /// What is done without being asked.
    pub automatic: Automatic,
    /// At which time of day.
    pub window: Option<Window>,
    /// How fast at most.
    pub limit: Option<Rate>,
}

/// What is done without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Automatic {
    /// Nothing.
    Off,
    /// It is looked what there is.
    #[default]
    Check,
    /// It is installed beside the running system, and starts at the next restart.
    Install,
}

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

/// Name of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelName(String);

/// A part of each day, in minutes since midnight; the end may be on the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    start: u32,
    end: u32,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

const MINUTES: u32 = 24 * 60;

impl ServerUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err(format!(
                "`{text}`: updates come by http://; what is installed is signed, so nobody on the way can change it"
            ));
        }
        let host = text.strip_prefix("http://").unwrap_or_default();
        let is_clean = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$<>?#@".contains(&byte));
        match is_clean && !host.is_empty() && !host.starts_with('/') {
            true => Ok(Self(text)),
            false => Err(format!("`{text}` is no address of a server; write it as `http://updates.lan/larder`")),
        }
    }
}

impl ChannelName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        match is_name(&text) {
            true => Ok(Self(text)),
            false => Err(format!(
                "`{text}` is no name of a channel: use small letters, digits and hyphens, such as `stable`"
            )),
        }
    }
}

impl Default for ChannelName {
    fn default() -> Self {
        Self("stable".to_owned())
    }
}

impl Window {
    /// Whether it is now, at this hour and minute.
    pub fn contains(&self, hour: u32, minute: u32) -> bool {
        let since = |moment: u32| (moment + MINUTES - self.start) % MINUTES;
        since(hour * 60 + minute) < since(self.end)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let moment = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, end: u32| {
                (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten().filter(|number| *number < end)
            };
            Some(number(hour, 24)? * 60 + number(minute, 60)?)
        };
        let ends = text.split_once('-').and_then(|(start, end)| Some((moment(start.trim())?, moment(end.trim())?)));
        match ends {
            Some((start, end)) if start != end => Ok(Self { start, end }),
            _ => Err(format!("`{text}` is no part of a day; write it as `02:00-05:00`")),
        }
    }
}

impl Rate {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no speed; write it as `2 MB/s` or `500 kB/s`");
        let (number, unit) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let unit = match unit.trim() {
            "kB/s" => 1_000,
            "MB/s" => 1_000_000,
            _ => return Err(wrong()),
        };
        // Slower than this, an update of a month takes longer than a month.
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .filter(|rate| *rate >= 1_000)
            .map(Self)
            .ok_or_else(wrong)
    }
}

macro_rules! from_text {
    ($type:ty, $parse:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(text).map_err(de::Error::custom)
            }
        }
    };
}

from_text!(ServerUrl, ServerUrl::parse);
from_text!(ChannelName, ChannelName::parse);
from_text!(Window, |text: String| Window::parse(&text));
from_text!(Rate, |text: String| Rate::parse(&text));

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn updates(text: &str) -> Result<Updates, String> {
        let settings = Settings::parse(&format!("schema = 1\n[updates]\n{text}\n"), "nas.toml");
        settings.map(|settings| settings.updates).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn without_a_server_there_are_no_updates_and_with_one_it_is_looked_what_there_is() {
        let updates = updates("").unwrap();
        assert_eq!((updates.from, updates.channel.as_str(), updates.automatic), (None, "stable", Automatic::Check));
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let window = Window::parse("23:30-05:00").unwrap();
        assert!(window.contains(23, 30) && window.contains(0, 0) && window.contains(4, 59));
        assert!(!window.contains(5, 0) && !window.contains(12, 0) && !window.contains(23, 29));
        let window = Window::parse("02:00-05:00").unwrap();
        assert!(window.contains(2, 0) && !window.contains(1, 59) && !window.contains(5, 0));
    }

    #[test]
    fn wrong_values_say_how_they_are_written() {
        for (text, part) in [
            ("from = \"https://a\"", "what is installed is signed"),
            ("from = \"updates.lan\"", "write it as `http://updates.lan/larder`"),
            ("from = \"http:///x\"", "no address"),
            ("channel = \"../x\"", "no name of a channel"),
            ("window = \"2-5\"", "write it as `02:00-05:00`"),
            ("window = \"02:00-02:00\"", "no part of a day"),
            ("limit = \"fast\"", "write it as `2 MB/s`"),
            ("limit = \"1 GB/s\"", "no speed"),
            ("automatic = \"yes\"", "unknown variant"),
        ] {
            let said = updates(text).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
        assert_eq!(updates("limit = \"500 kB/s\"").unwrap().limit, Some(Rate(500_000)));
    }
}
