//! When something is done without being asked. A timer asks every hour.

use jiff::{SignedDuration, Timestamp};

use crate::settings::{Automatic, Updates};

/// As long as this it is good to know what was found.
const EVERY: SignedDuration = SignedDuration::from_hours(20);

/// Whether it is time to look for updates, at this hour and minute.
pub fn is_due(updates: &Updates, last: Option<Timestamp>, now: Timestamp, (hour, minute): (u32, u32)) -> bool {
    let is_wanted = updates.from.is_some() && updates.automatic != Automatic::Off;
    let is_open = updates.window.is_none_or(|window| window.contains(hour, minute));
    // A clock that was ahead once is no reason to wait for years.
    let is_recent = last.is_some_and(|last| last <= now && now.duration_since(last) < EVERY);
    is_wanted && is_open && !is_recent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn due(updates: &str, last: Option<&str>, now: &str) -> bool {
        let settings = Settings::parse(&format!("schema = 1\n[updates]\n{updates}\n"), "nas.toml").unwrap();
        let now: Timestamp = now.parse().unwrap();
        let local = now.to_zoned(jiff::tz::TimeZone::UTC);
        let time = (local.hour() as u32, local.minute() as u32);
        is_due(&settings.updates, last.map(|last| last.parse().unwrap()), now, time)
    }

    const FROM: &str = "from = \"http://updates.lan\"\nwindow = \"02:00-05:00\"";

    #[test]
    fn once_a_day_within_the_window_it_is_looked_for_updates() {
        assert!(due(FROM, None, "2026-11-20T03:00:00Z"));
        assert!(!due(FROM, None, "2026-11-20T06:00:00Z"), "the window is shut");
        assert!(!due(FROM, Some("2026-11-20T02:10:00Z"), "2026-11-20T03:10:00Z"), "it was looked an hour ago");
        assert!(due(FROM, Some("2026-11-19T03:10:00Z"), "2026-11-20T02:10:00Z"));
        assert!(due(FROM, Some("2030-01-01T00:00:00Z"), "2026-11-20T02:10:00Z"), "the clock was ahead");
    }

    #[test]
    fn nothing_is_done_without_a_server_or_where_it_is_switched_off() {
        assert!(!due("", None, "2026-11-20T03:00:00Z"));
        assert!(!due(&format!("{FROM}\nautomatic = \"off\""), None, "2026-11-20T03:00:00Z"));
    }
}
