//! How old a message of the bus is, without a clock that two machines share.
//!
//! Each sender writes the time since its own start into what it sends ([`crate::envelope::Envelope::sent_millis`]). The
//! difference to the receiver's clock is some constant, which differs per sender, and the time on the way. The least
//! difference seen lately is the constant and the shortest way, so what a message has above it is time that it waited
//! somewhere: in the sender's queue, in a bus that stood still, in a connection that was blocked. Wall clocks play no part,
//! hence neither does their skew, and a machine whose clock is set makes nothing late.
//!
//! "Lately" is the last one to two [`WINDOW_MILLIS`] in which anything came, which follows clocks that drift and does not
//! forget while a bus is silent. A bus that delivers everything equally late for longer than that is slow rather than late,
//! and is not told from a fast one here.

use std::collections::HashMap;

/// Least time in milliseconds after which a minimum is replaced by a newer one. Quartz drifts by 0.1 per mille at worst,
/// which is 12 ms in two of these.
const WINDOW_MILLIS: u64 = 60_000;
/// Most senders remembered, which is more than a fleet may have nodes. Beyond it who was not heard for longest is
/// forgotten, and its next message is a first one.
const MAX_ORIGINS: usize = 4_096;
/// A difference that is lower than all before by more than this, in milliseconds, is no faster way but a forged time.
const IMPLAUSIBLE_MILLIS: i64 = 3_600_000;

/// What is known of one sender.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    /// Least difference in this window and in the one before.
    least: i64,
    before: i64,
    /// When this window began, and when the sender was last heard.
    since: u64,
    heard: u64,
}

/// The baselines of all senders.
#[derive(Debug, Default)]
pub struct Ages(HashMap<u128, Baseline>);

impl Ages {
    /// Notes that a message of `origin` with this time of sending arrives now, each on its own clock in milliseconds.
    /// Returns how long it took beyond the shortest way known, in milliseconds. The first message of a sender took none.
    pub fn note(&mut self, origin: u128, sent_millis: u64, now_millis: u64) -> u64 {
        let (Some(now), Some(sent)) = (plausible(now_millis), plausible(sent_millis)) else { return 0 };
        let difference = now - sent;
        if self.0.len() >= MAX_ORIGINS && !self.0.contains_key(&origin) {
            self.forget_one();
        }
        let baseline = self.0.entry(origin).or_insert(Baseline {
            least: difference,
            before: difference,
            since: now_millis,
            heard: now_millis,
        });
        baseline.heard = now_millis;
        let known = baseline.least.min(baseline.before);
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

/// A time that no clock since a start shows is forged; without those no difference of differences overflows.
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
            // The bus stands still for 15 seconds and then delivers all of them at once.
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
        // A whole day, one message each ten seconds, at 0.1 per mille: 8.6 seconds apart in the end.
        for tick in 0..8_640u64 {
            let sent = tick * 10_000;
            assert!(ages.note(1, sent, sent + sent / 10_000) <= 20, "{tick}");
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
