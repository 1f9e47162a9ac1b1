//! Times of day, month and week as cron writes them: the five fields and the words of a Kubernetes CronJob
//! (`ParseStandard` of robfig/cron), and 7 for Sunday as in crontab(5).
//!
//! It knows dates and times as a clock on a wall shows them; what they are on the time line is up to its caller.

use k8s_openapi::jiff::civil::{Date, DateTime};

/// Words for whole schedules.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Most days of each month, in a leap year.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const MINUTES_PER_HOUR: u32 = 60;

/// What one field of a schedule may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day of the month", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, words: &DAYS },
];

/// The values of one field, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// Whether the field says that it does not matter.
    any: bool,
}

impl Set {
    const fn has(self, value: u32) -> bool {
        self.bits >> value & 1 == 1
    }

    /// The largest value of at most `most`.
    fn last(self, most: u32) -> Option<u32> {
        let below = self.bits & (u64::MAX >> (63 - most));
        (below != 0).then(|| 63 - below.leading_zeros())
    }
}

/// The times of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

impl Cron {
    /// Reads a schedule. The error says what is wrong, as the end of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let word = WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
        if text.starts_with('@') && word.is_none() {
            return Err("is no word for a schedule: write @hourly, @daily, @weekly, @monthly, @yearly, or five fields as in 30 8 * * 1-5".to_owned());
        }
        let parts: Vec<_> = word.map_or(text, |(_, fields)| fields).split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "has {} fields instead of five (minute, hour, day of the month, month, day of the week): write 30 8 * * 1-5",
                parts.len()
            ));
        };
        let [minutes, hours, days, months, weekdays] = FIELDS;
        let mut cron = Self {
            minutes: field(minute, &minutes)?,
            hours: field(hour, &hours)?,
            days: field(day, &days)?,
            months: field(month, &months)?,
            weekdays: field(weekday, &weekdays)?,
        };
        // 0 and 7 are both Sunday.
        cron.weekdays.bits = (cron.weekdays.bits | cron.weekdays.bits >> 7) & 0x7f;
        if cron.comes() { Ok(cron) } else { Err("never comes: no such month has such a day".to_owned()) }
    }

    /// Whether there is any day of it.
    fn comes(&self) -> bool {
        let either = !self.days.any && !self.weekdays.any;
        let exists = |month: &u32| (1..=LONGEST[*month as usize - 1]).any(|day| self.days.has(day));
        either || (1..=12).filter(|month| self.months.has(*month)).any(|month| exists(&month))
    }

    /// Whether it has times on this day. As in every cron, a day may be either of the month or of the week when both
    /// matter.
    fn is_on(&self, date: Date) -> bool {
        let number = |value: i8| u32::from(value.unsigned_abs());
        let day = self.days.has(number(date.day()));
        let weekday = self.weekdays.has(number(date.weekday().to_sunday_zero_offset()));
        let day = if self.days.any || self.weekdays.any { day && weekday } else { day || weekday };
        day && self.months.has(number(date.month()))
    }

    /// The last of its times that are at most `at`, and not before the day of `least`.
    pub(super) fn before(&self, at: DateTime, least: Date) -> Option<DateTime> {
        let (mut date, mut minute_of_day) = (at.date(), minute_of_day(at));
        loop {
            if self.is_on(date)
                && let Some((hour, minute)) = self.last_of_day(minute_of_day)
            {
                return Some(date.at(hour, minute, 0, 0));
            }
            date = date.yesterday().ok().filter(|date| *date >= least)?;
            minute_of_day = 24 * MINUTES_PER_HOUR - 1;
        }
    }

    /// The last hour and minute of a day of at most `most` minutes after its beginning.
    fn last_of_day(&self, most: u32) -> Option<(i8, i8)> {
        let (hour, minute) = (most / MINUTES_PER_HOUR, most % MINUTES_PER_HOUR);
        let (hour, minute) = match self.minutes.last(minute).filter(|_| self.hours.has(hour)) {
            Some(minute) => (hour, minute),
            None => (self.hours.last(hour.checked_sub(1)?)?, self.minutes.last(MINUTES_PER_HOUR - 1)?),
        };
        Some((i8::try_from(hour).ok()?, i8::try_from(minute).ok()?))
    }
}

fn minute_of_day(at: DateTime) -> u32 {
    u32::from(at.hour().unsigned_abs()) * MINUTES_PER_HOUR + u32::from(at.minute().unsigned_abs())
}

/// Reads one field: a list of values, ranges and steps.
fn field(text: &str, of: &Field) -> Result<Set, String> {
    let mut set = Set::default();
    for item in text.split(',') {
        let wrong = || {
            let Field { name, least, most, .. } = of;
            format!(
                "has {item:?} as {name}: write *, a number from {least} to {most}, a range as in {least}-{most}, or steps as in */5"
            )
        };
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step, of.most).filter(|s| *s > 0).ok_or_else(wrong)?)),
            None => (item, None),
        };
        let (least, most) = match range.split_once('-') {
            _ if range == "*" || range == "?" => {
                set.any |= step.is_none_or(|step| step == 1);
                (of.least, of.most)
            }
            Some((least, most)) => (value(least, of).ok_or_else(wrong)?, value(most, of).ok_or_else(wrong)?),
            None => {
                let value = value(range, of).ok_or_else(wrong)?;
                (value, if step.is_some() { of.most } else { value })
            }
        };
        if least > most {
            return Err(wrong());
        }
        for value in (least..=most).step_by(step.unwrap_or(1) as usize) {
            set.bits |= 1 << value;
        }
    }
    Ok(set)
}

/// A value of a field, in digits or as a word.
fn value(text: &str, of: &Field) -> Option<u32> {
    let word = of.words.iter().position(|word| text.eq_ignore_ascii_case(word));
    let value = match word {
        Some(index) => u32::try_from(index).ok()? + of.least,
        None => number(text, of.most)?,
    };
    (value >= of.least).then_some(value)
}

fn number(text: &str, most: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}
