//! When the keys of an issuer are fetched by their URL, and how old they are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Least time between two fetches that succeed, in milliseconds: tokens with names of keys that nobody knows, which
/// anybody can make, and answers that are fresh for no time at all must not make the node hammer the issuer.
pub const LEAST_REFRESH_MILLIS: u64 = 10_000;
/// Pause after the first failed fetch in milliseconds; it doubles with each further one.
const FIRST_RETRY_MILLIS: u64 = 1_000;
/// Longest pause after a failed fetch in milliseconds.
const LONGEST_RETRY_MILLIS: u64 = 60_000;
/// A pause after a success is shorter by up to one in so many, so that the nodes of a fleet do not ask all at once.
const JITTER: u64 = 10;

/// How old the keys of an issuer are, and whether a token wants newer ones. The thread that fetches them and the shards that
/// verify by them share it.
#[derive(Debug, Default)]
pub struct Freshness {
    fetched_at_millis: AtomicU64,
    wanted: AtomicBool,
}

impl Freshness {
    /// They were fetched at this time in milliseconds since 1970.
    pub fn set_fetched(&self, unix_millis: u64) {
        self.fetched_at_millis.store(unix_millis, Relaxed);
    }

    /// When they were fetched last, in milliseconds since 1970; 0 is never.
    pub fn fetched_at_millis(&self) -> u64 {
        self.fetched_at_millis.load(Relaxed)
    }

    /// Whether a token has named a key that is not among them, since the last call.
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Relaxed)
    }

    /// A token names a key that is not among them. Says whether newer ones will be fetched for it; otherwise there is no
    /// such key.
    pub(super) fn want(&self, now_millis: u64) -> bool {
        let fetched_at = self.fetched_at_millis();
        let is_recent = fetched_at > 0 && now_millis.saturating_sub(fetched_at) < LEAST_REFRESH_MILLIS;
        // The shards share it, so it is written only when that changes it.
        if !is_recent && !self.wanted.load(Relaxed) {
            self.wanted.store(true, Relaxed);
        }
        !is_recent
    }
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The keys are as the issuer has them, and fresh for so many seconds if it said that.
    Fetched(Option<u64>),
    /// Nothing was learned.
    Failed,
}

/// The pauses between fetches.
#[derive(Debug)]
pub struct Schedule {
    refresh_millis: u64,
    failures: u32,
}

impl Schedule {
    /// A schedule with so many milliseconds between two fetches at most.
    #[must_use]
    pub const fn new(refresh_millis: u64) -> Self {
        Self { refresh_millis, failures: 0 }
    }

    /// The pause in milliseconds after a fetch that ended so. `random` is a random number.
    pub fn pause(&mut self, outcome: Outcome, random: u64) -> u64 {
        match outcome {
            Outcome::Fetched(fresh_seconds) => {
                self.failures = 0;
                let least = LEAST_REFRESH_MILLIS.min(self.refresh_millis);
                let fresh = fresh_seconds.map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000));
                let pause = fresh.clamp(least, self.refresh_millis);
                pause - random % (pause / JITTER).max(1)
            }
            Outcome::Failed => {
                let doubled = FIRST_RETRY_MILLIS << self.failures.min(16);
                self.failures += 1;
                let pause = doubled.min(LONGEST_RETRY_MILLIS).min(self.refresh_millis);
                pause - random % (pause / 2).max(1)
            }
        }
    }
}

/// For how many seconds an answer with these headers `cache-control` and `age` is fresh, if it says so (RFC 9111, sections
/// 4.2 and 5.2.2).
#[must_use]
pub fn fresh_seconds(cache_control: Option<&str>, age: Option<&str>) -> Option<u64> {
    let mut fresh = None;
    for directive in cache_control?.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        if name.eq_ignore_ascii_case("max-age") {
            fresh = value.trim_matches('"').parse().ok();
        }
    }
    let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    fresh.map(|fresh: u64| fresh.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_followed_by_the_time_that_the_issuer_says_within_bounds() {
        let mut schedule = Schedule::new(300_000);
        let mut after = |fresh, random| schedule.pause(Outcome::Fetched(fresh), random);
        assert_eq!([after(None, 0), after(Some(86_400), 0), after(Some(60), 0)], [300_000, 300_000, 60_000]);
        assert_eq!([after(Some(0), 0), after(Some(u64::MAX), 0)], [LEAST_REFRESH_MILLIS, 300_000]);
        let jittered: Vec<_> = (0..100).map(|n| after(None, n * 977_777)).collect();
        assert!(jittered.iter().all(|pause| (270_001..=300_000).contains(pause)), "{jittered:?}");
        assert!(jittered.iter().any(|pause| *pause < 280_000), "they are spread: {jittered:?}");
        assert_eq!(Schedule::new(1_000).pause(Outcome::Fetched(Some(0)), 0), 1_000);
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses_until_one_succeeds() {
        let mut schedule = Schedule::new(300_000);
        let pauses: Vec<_> = (0..20).map(|_| schedule.pause(Outcome::Failed, 0)).collect();
        assert_eq!(pauses[..7], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
        assert!(pauses[7..].iter().all(|pause| *pause == 60_000));
        assert!((30_001..=60_000).contains(&schedule.pause(Outcome::Failed, 29_999)));
        schedule.pause(Outcome::Fetched(None), 0);
        assert_eq!(schedule.pause(Outcome::Failed, 0), 1_000);
        let mut short = Schedule::new(1_000);
        assert_eq!((0..9).map(|_| short.pause(Outcome::Failed, 0)).max(), Some(1_000));
    }

    #[test]
    fn what_an_answer_says_about_its_freshness_is_read() {
        for (cache_control, age, fresh) in [
            (None, None, None),
            (None, Some("9"), None),
            (Some("public"), None, None),
            (Some("public, max-age=60, must-revalidate"), None, Some(60)),
            (Some("Max-Age=\"60\""), Some(" 20"), Some(40)),
            (Some("max-age=60"), Some("61"), Some(0)),
            (Some("max-age=60, no-store"), None, Some(0)),
            (Some("no-cache"), None, Some(0)),
            (Some("max-age=-1"), None, None),
            (Some("s-maxage=5"), None, None),
        ] {
            assert_eq!(fresh_seconds(cache_control, age), fresh, "{cache_control:?} {age:?}");
        }
    }

    #[test]
    fn newer_keys_are_wanted_at_most_once_in_a_while() {
        let freshness = Freshness::default();
        assert!(freshness.want(5), "they never came");
        assert!(freshness.take_wanted() && !freshness.take_wanted());
        freshness.set_fetched(1_000_000);
        assert!(!freshness.want(1_000_000 + LEAST_REFRESH_MILLIS - 1) && !freshness.take_wanted());
        // A clock that was set back makes them neither old nor wanted.
        assert!(!freshness.want(1) && !freshness.take_wanted());
        assert!(freshness.want(1_000_000 + LEAST_REFRESH_MILLIS) && freshness.take_wanted());
    }
}
