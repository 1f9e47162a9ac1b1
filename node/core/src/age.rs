//! How old a message of the bus is, without a clock that two machines share.
//!
//! Each sender writes the time since its own start into each message ([`crate::envelope::Envelope::sent_millis`]).
//! The difference to the receiver's clock is some constant, which differs per sender, plus the time on the way. The
//! least difference seen lately is the constant plus the shortest way, so when a message has a larger difference, it
//! waited for the rest somewhere: in the sender's queue, in a bus that stood still, in a connection that was blocked.
//! Wall clocks play no part, so neither does their skew, and a machine whose clock is set makes nothing late.
//!
//! "Lately" is the last one to two [`WINDOW_MILLIS`] in which anything came, which follows clocks that drift and does
//! not forget while a bus is silent.
//!
//! A clock may also jump: that of a machine that was suspended stands still meanwhile, so that from then on all its
//! messages would seem late, or early, by as much. Messages that waited somewhere come faster than they were sent,
//! and their lateness falls. So when messages come as fast as they are sent, for [`STEADY_MILLIS`] and always off by
//! the same time, they are not late: the constant is another one now. A bus that delivers everything equally late for
//! so long counts as slow rather than late, and cannot be told from a fast one here.

use std::collections::HashMap;

/// Least time in milliseconds after which a minimum is replaced by a newer one. Quartz drifts by 0.1 per mille at
/// worst, which is 12 ms in two of these.
const WINDOW_MILLIS: u64 = 60_000;
/// Most senders remembered, which is more than a fleet may have nodes. Beyond it the sender that was not heard for
/// longest is forgotten, and its next message counts as a first one.
const MAX_ORIGINS: usize = 4_096;
/// When a difference is lower than all before by more than this, in milliseconds, there is no faster way: the time is
/// forged.
const IMPLAUSIBLE_MILLIS: i64 = 3_600_000;

/// Time in milliseconds after which another constant is believed: so long that a backlog of seconds, which comes at
/// once, never looks like one. For so long at most messages of a machine that was suspended are dropped.
const STEADY_MILLIS: u64 = 3_000;
/// How far apart differences may be in milliseconds to count as the same: networks and busy machines add as much at
/// random.
const JITTER_MILLIS: i64 = 500;

/// A difference that is far from the known one.
#[derive(Debug, Clone, Copy)]
struct Jump {
    difference: i64,
    since: u64,
}

/// The clock of one sender, as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    /// Least difference in this window and in the one before.
    least: i64,
    before: i64,
    /// When this window began, and when the sender was last heard.
    since: u64,
    heard: u64,
    /// Set when the clock may have jumped.
    jump: Option<Jump>,
}

impl Baseline {
    const fn new(difference: i64, now_millis: u64) -> Self {
        Self { least: difference, before: difference, since: now_millis, heard: now_millis, jump: None }
    }

    /// Whether a difference that is far from `known` stayed the same for so long that the clock must have jumped.
    fn has_jumped(&mut self, difference: i64, known: i64, now_millis: u64) -> bool {
        let far = difference > known + JITTER_MILLIS || difference < known - IMPLAUSIBLE_MILLIS;
        let jump =
            self.jump.filter(|jump| far && jump.difference.abs_diff(difference) <= JITTER_MILLIS as u64);
        self.jump = far.then_some(jump.unwrap_or(Jump { difference, since: now_millis }));
        jump.is_some_and(|jump| now_millis.saturating_sub(jump.since) >= STEADY_MILLIS)
    }
}

/// The baselines of all senders.
#[derive(Debug, Default)]
pub struct Ages(HashMap<u128, Baseline>);

impl Ages {
    /// Notes that a message of `origin` with this time of sending arrives now, each on its own clock in milliseconds.
    /// Returns how long it took beyond the shortest way known, in milliseconds. The first message of a sender took
    /// none.
    pub fn note(&mut self, origin: u128, sent_millis: u64, now_millis: u64) -> u64 {
        let (Some(now), Some(sent)) = (plausible(now_millis), plausible(sent_millis)) else { return 0 };
        let difference = now - sent;
        if self.0.len() >= MAX_ORIGINS && !self.0.contains_key(&origin) {
            self.forget_one();
        }
        let baseline = self.0.entry(origin).or_insert(Baseline::new(difference, now_millis));
        baseline.heard = now_millis;
        let known = baseline.least.min(baseline.before);
        if baseline.has_jumped(difference, known, now_millis) {
            *baseline = Baseline::new(difference, now_millis);
            return 0;
        }
        if difference < known - IMPLAUSIBLE_MILLIS {
            return 0;
        }
        if now_millis.saturating_sub(baseline.since) >= WINDOW_MILLIS {
            (baseline.before, baseline.least) = (baseline.least, difference);
            baseline.since = now_millis;
        } else {
            baseline.least = baseline.least.min(difference);
        }
        u64::try_from(difference - known).unwrap_or(0)
    }

    fn forget_one(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, baseline)| baseline.heard).map(|(origin, _)| *origin);
        oldest.map(|origin| self.0.remove(&origin));
    }
}

/// A time that no clock since a start can show is forged; without such times no difference of differences overflows.
fn plausible(millis: u64) -> Option<i64> {
    i64::try_from(millis).ok().filter(|millis| *millis < i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_backlog_is_as_old_as_it_waited_whatever_the_clocks_say() {
        for skew in [0, 5, 1_000_000_000] {
            let mut ages = Ages::default();
            for second in 0..100 {
                assert_eq!(ages.note(7, second * 1_000, skew + second * 1_000 + 3), 0, "{second}");
            }
            // The bus stands still for 15 seconds and then delivers all messages at once.
            let late: Vec<u64> =
                (100..115).map(|second| ages.note(7, second * 1_000, skew + 115_003)).collect();
            assert_eq!(late, (1..=15).rev().map(|second| second * 1_000).collect::<Vec<_>>());
            assert_eq!(ages.note(7, 115_000, skew + 115_005), 2);
        }
    }

    #[test]
    fn a_silence_longer_than_all_windows_forgets_nothing() {
        let mut ages = Ages::default();
        ages.note(1, 0, 10);
        let hour = 60 * WINDOW_MILLIS;
        assert_eq!(ages.note(1, 1_000, hour + 10), hour - 1_000);
        assert_eq!(ages.note(1, 2_000, hour + 10), hour - 2_000, "the second of a backlog is as late");
    }

    #[test]
    fn a_clock_that_drifts_makes_nothing_late() {
        let mut ages = Ages::default();
        // A whole day with one message each ten seconds, and clocks that drift by 0.1 per mille: 8.6 seconds apart in
        // the end.
        for tick in 0..8_640u64 {
            let sent = tick * 10_000;
            assert!(ages.note(1, sent, sent + sent / 10_000) <= 20, "{tick}");
        }
    }

    /// The sender's machine stood still: its clock is behind for ever, and none of its messages is old.
    #[test]
    fn a_sender_that_was_suspended_is_believed_after_some_seconds() {
        for (every, stopped) in [(100, 15_000), (1_000, 60_000), (10_000, 3_600_000)] {
            let mut ages = Ages::default();
            (0..20).for_each(|n| assert_eq!(ages.note(1, n * every, 7 + n * every), 0));
            let resumed = 20 * every;
            let jitter = |n: u64| n * 37 % 200;
            let late = |n: &u64| {
                ages.note(1, resumed + n * every, resumed + stopped + 7 + n * every + jitter(*n)) > 1_000
            };
            let dropped = (0..1_000).filter(late).count() as u64;
            assert!(dropped <= STEADY_MILLIS / every + 1, "{dropped} of one each {every} ms");
            assert!(dropped > 0, "it could be a backlog at first");
        }
    }

    /// This machine stood still, for longer than any message is early.
    #[test]
    fn a_receiver_that_was_suspended_knows_again_what_is_late() {
        let mut ages = Ages::default();
        let hours = 3 * IMPLAUSIBLE_MILLIS as u64;
        (0..100).for_each(|n| assert_eq!(ages.note(1, n * 100, n * 100), 0));
        (0..100).for_each(|n| assert_eq!(ages.note(1, hours + n * 100, 10_000 + n * 100), 0));
        assert_eq!(ages.note(1, hours + 10_000, 10_000 + 25_000), 15_000);
    }

    /// A bus stood still and then delivers more slowly than it could, in any order of its topics.
    #[test]
    fn a_backlog_that_comes_slowly_is_late_to_its_end() {
        for speed in [2, 5, 20] {
            let mut ages = Ages::default();
            (0..100).for_each(|n| assert_eq!(ages.note(1, n * 100, n * 100), 0));
            // A minute of messages, the first one 60 s late, which come `speed` times as fast as they were sent.
            for n in 0..600u64 {
                let (sent, now) = (10_000 + n * 100, 70_000 + n * 100 / speed);
                let late = now.saturating_sub(sent);
                assert_eq!(ages.note(1, sent, now), late, "{n} at {speed}");
                if late < 1_000 {
                    break;
                }
            }
        }
    }

    #[test]
    fn forged_times_neither_overflow_nor_spoil_the_sender() {
        let mut ages = Ages::default();
        ages.note(1, 1_000, 2_000);
        for forged in [u64::MAX, i64::MAX as u64, 1 << 40] {
            assert_eq!(ages.note(1, forged, 2_000), 0);
        }
        assert_eq!(ages.note(1, 2_000, 3_100), 100, "the baseline is what it was");
        for origin in 0..2 * MAX_ORIGINS as u128 {
            ages.note(origin, 0, 4_000 + origin as u64);
        }
        assert_eq!(ages.0.len(), MAX_ORIGINS);
    }

    proptest! {
        #[test]
        fn any_times_are_taken(steps in proptest::collection::vec((0..3u128, any::<u64>(), any::<u64>()), 0..50)) {
            let mut ages = Ages::default();
            for (origin, sent, now) in steps {
                ages.note(origin, sent, now);
            }
        }
    }
}
