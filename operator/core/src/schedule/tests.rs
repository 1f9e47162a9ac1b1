use arbtest::arbtest;
use k8s_openapi::jiff::Timestamp;

use super::{Entry, Now, now};

fn entry(cron: &str, zone: &str, hours: u64, min_nodes: i32) -> Entry {
    read(cron, zone, hours * 60, min_nodes).unwrap()
}

fn read(cron: &str, zone: &str, minutes: u64, min_nodes: i32) -> Result<Entry, String> {
    Entry::new(&crds::ScheduleEntry {
        cron: cron.to_owned(),
        time_zone: Some(zone.to_owned()),
        duration: crds::Duration::from_secs(minutes * 60),
        min_nodes,
    })
}

/// Milliseconds of a time as RFC 3339 writes it.
fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn counts(entry: &Entry, times: &[(&str, bool)]) {
    for (time, wanted) in times {
        assert_eq!(entry.until(at(time)).is_some(), *wanted, "{} at {time}", entry.text);
    }
}

#[test]
fn an_entry_counts_from_its_time_for_its_duration() {
    let work = entry("30 8 * * 1-5", "Europe/Berlin", 10, 8);
    counts(
        &work,
        &[
            ("2026-01-12T08:29:59.999+01:00", false), // a Monday
            ("2026-01-12T08:30:00+01:00", true),
            ("2026-01-12T18:29:59.999+01:00", true),
            ("2026-01-12T18:30:00+01:00", false),
            ("2026-01-10T09:00:00+01:00", false), // a Saturday
            ("2026-07-13T08:29:00+02:00", false), // in summer
            ("2026-07-13T08:30:00+02:00", true),
        ],
    );
    assert_eq!(work.until(at("2026-01-12T12:00:00+01:00")), Some(at("2026-01-12T18:30:00+01:00")));
}

#[test]
fn a_duration_may_reach_over_days_and_over_the_next_time() {
    let weekend = entry("0 18 * * FRI", "UTC", 60, 5);
    counts(
        &weekend,
        &[("2026-01-09T17:59:00Z", false), ("2026-01-12T05:59:00Z", true), ("2026-01-12T06:00:00Z", false)],
    );
    let always = entry("0 */6 * * *", "UTC", 12, 3);
    assert_eq!(always.until(at("2026-01-12T13:00:00Z")), Some(at("2026-01-13T00:00:00Z")));
    let longest = entry("0 0 * * 7", "UTC", 168, 3);
    counts(&longest, &[("2026-01-10T23:59:59Z", true), ("2026-01-11T00:00:00Z", true)]);
}

/// On 2026-03-29 clocks in Berlin go from 2:00 to 3:00, at 1:00 UTC.
#[test]
fn a_time_that_clocks_skip_counts_as_much_later() {
    let skipped = entry("30 2 * * *", "Europe/Berlin", 1, 4);
    counts(
        &skipped,
        &[
            ("2026-03-29T01:29:59Z", false),
            ("2026-03-29T01:30:00Z", true), // 3:30
            ("2026-03-29T02:29:59Z", true),
            ("2026-03-29T02:30:00Z", false),
        ],
    );
    let each_half_hour = read("*/30 * * * *", "Europe/Berlin", 30, 4).unwrap();
    for minute in 0..180 {
        let time = at("2026-03-29T00:00:00Z") + minute * 60_000;
        assert!(each_half_hour.until(time).is_some(), "{minute} minutes after");
    }
}

/// On 2026-10-25 clocks in Berlin go from 3:00 back to 2:00, at 1:00 UTC.
#[test]
fn a_time_that_clocks_show_twice_counts_once() {
    let twice = read("30 2 * * *", "Europe/Berlin", 30, 4).unwrap();
    counts(
        &twice,
        &[
            ("2026-10-25T00:29:59Z", false),
            ("2026-10-25T00:30:00Z", true), // the first 2:30
            ("2026-10-25T00:59:59Z", true),
            ("2026-10-25T01:00:00Z", false), // the clock shows 2:00 again
            ("2026-10-25T01:30:00Z", false), // the second 2:30
        ],
    );
    // Its last time was the first 2:45, although the clock shows 2:10 now.
    let quarters = read("*/15 * * * *", "Europe/Berlin", 60, 4).unwrap();
    assert_eq!(quarters.until(at("2026-10-25T01:10:00Z")), Some(at("2026-10-25T01:45:00Z")));
}

#[test]
fn a_day_is_of_the_month_or_of_the_week_when_both_matter() {
    let either = entry("0 0 13 * 5", "UTC", 1, 2);
    counts(
        &either,
        &[("2026-01-13T00:00:00Z", true), ("2026-01-16T00:00:00Z", true), ("2026-01-14T00:00:00Z", false)],
    );
    let both = entry("0 0 13 * *", "UTC", 1, 2);
    counts(&both, &[("2026-01-13T00:00:00Z", true), ("2026-01-16T00:00:00Z", false)]);
    let leap = entry("0 0 29 2 *", "UTC", 1, 2);
    counts(&leap, &[("2028-02-29T00:30:00Z", true), ("2026-03-01T00:30:00Z", false)]);
}

#[test]
fn the_entry_with_the_most_nodes_wins() {
    let entries = [entry("0 8 * * *", "UTC", 10, 3), entry("0 12 * * *", "UTC", 1, 9)];
    let at_noon = now(&entries, at("2026-01-12T12:30:00Z"));
    let words = "\"0 12 * * *\" in UTC".to_owned();
    assert_eq!(at_noon, Some(Now { min_nodes: 9, until: at("2026-01-12T13:00:00Z"), words }));
    assert_eq!(now(&entries, at("2026-01-12T13:30:00Z")).unwrap().min_nodes, 3);
    assert_eq!(now(&entries, at("2026-01-12T07:30:00Z")), None);
}

#[test]
fn what_cannot_be_read_is_refused_with_what_is_wrong() {
    for (cron, said) in [
        ("30 8 * *", "has 4 fields instead of five"),
        ("60 8 * * *", "has \"60\" as minute: write *, a number from 0 to 59"),
        ("0 8 0 * *", "has \"0\" as day of the month"),
        ("0 8 * 13 *", "has \"13\" as month"),
        ("0 8 * foo *", "has \"foo\" as month"),
        ("0 8 * * 8", "has \"8\" as day of the week"),
        ("0 8 * * 5-1", "has \"5-1\" as day of the week"),
        ("*/0 8 * * *", "has \"*/0\" as minute"),
        ("0 8 30 2 *", "never comes"),
        ("@noon", "is no word for a schedule"),
        ("0 8 L * *", "has \"L\" as day of the month"),
        ("+5 8 * * *", "has \"+5\" as minute"),
        ("0 8 * * 1,,2", "has \"\" as day of the week"),
    ] {
        let refused = read(cron, "UTC", 60, 2).unwrap_err();
        assert!(refused.contains(said), "{cron}: {refused}");
    }
    let refused = read("0 8 * * *", "Europe/Bärlin", 60, 2).unwrap_err();
    assert!(refused.contains("is no zone of the IANA database"), "{refused}");
    for good in ["@daily", "0 8 * jan-MAR sun", "5/20 8-18/2 1,15 * 0-7", "0 8 ? * MON"] {
        read(good, "europe/berlin", 60, 2).unwrap();
    }
}

/// The wall clock's minutes, one after the other, matched by a plain reading of the fields.
#[test]
fn what_counts_is_what_a_walk_over_the_minutes_finds() {
    const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"];
    const STARTS: [&str; 5] = [
        "2026-03-28T20:00:00Z",
        "2026-10-24T20:00:00Z",
        "2026-04-04T10:00:00Z",
        "2026-12-31T20:00:00Z",
        "2026-03-08T02:00:00Z",
    ];
    arbtest(|u| {
        let zone = *u.choose(&ZONES)?;
        let step = *u.choose(&[1u32, 7, 15, 20, 30])?;
        let hour = u.int_in_range(0u32..=23)?;
        let cron = match u.int_in_range(0u8..=2)? {
            0 => format!("*/{step} * * * *"),
            1 => format!("{} {hour} * * *", step % 60),
            _ => format!("*/{step} {hour}-23 * * *"),
        };
        let minutes = u.int_in_range(1u64..=300)?;
        let entry = read(&cron, zone, minutes, 2).unwrap();
        let now = at(u.choose(&STARTS)?) + u.int_in_range(0u64..=12 * 60)? * 60_000;
        // Every time of the wall clock of these days, at its first instant.
        let middle = entry.zone.to_datetime(Timestamp::from_millisecond(now.try_into().unwrap()).unwrap());
        let mut time = middle.date().yesterday().unwrap().at(0, 0, 0, 0);
        let mut last = None;
        for _ in 0..3 * 24 * 60 {
            if entry.cron.before(time, time.date()) == Some(time) {
                let began = u64::try_from(entry.instant(time).unwrap()).unwrap();
                last = last.max(Some(began).filter(|began| *began <= now));
            }
            time = time.checked_add(k8s_openapi::jiff::SignedDuration::from_mins(1)).unwrap();
        }
        let wanted = last.map(|began| began + minutes * 60_000).filter(|until| *until > now);
        assert_eq!(entry.until(now), wanted, "{cron} in {zone} for {minutes} min at {now}");
        Ok(())
    });
}
