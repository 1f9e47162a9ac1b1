//! What a saturated node is asked for, though it can only deliver less.
//!
//! A node counts what it queues for its clients, so that its figures show a load beyond what it can do until its queues are full;
//! from then on they show what it can do, whatever is asked. What was seen before is remembered per connection, since the clients
//! that come to a full node, or are moved away from it, are counted all the time.

use super::Rates;
use crate::heat::QUEUED_BYTES;

/// For how long what was seen of a node before its queues were full says something, in milliseconds.
const REMEMBERED_MILLIS: u64 = 300_000;
/// A figure that falls below this part of the highest one, while the node stays saturated, is what it can do.
const FALLEN: f64 = 0.75;
/// Looks with this part of one another show the same load, and so all of it; but not the first two, in one of which the load
/// began, and in the other of which the queues may have become full.
const AGREE: f64 = 0.85;
/// Looks from the beginning of the saturation in which full queues tell of a jump.
const FIRST_LOOKS: u32 = 3;
/// What a jump is taken for when queues were full before looks agreed: so many times the highest figure, which is the
/// average over a look in which the node was asked for less at first, or counted no more at last.
const UNSEEN: f64 = 1.6;
/// How many times the bytes that a node sent and queued the messages may come to that it says it counted.
const ACCOUNTED: f64 = 2.0;

/// One look at a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// When, in milliseconds.
    pub(super) at: u64,
    /// Its rates since the look before.
    pub(super) rates: Rates,
    /// Bytes per second by which its queues have grown since then.
    pub(super) grown: f64,
    /// Bytes queued to its clients.
    pub(super) queued: u64,
    /// Connections held.
    pub(super) connections: u64,
}

/// What is remembered of a node while it is saturated.
#[derive(Clone, Copy, Debug)]
struct Peak {
    /// Most messages per second and connection.
    each: f64,
    /// When that was seen, in milliseconds.
    at: u64,
    /// Whether a third look agreed on it, or it was raised.
    whole: bool,
    /// Most bytes that were queued since.
    most_queued: u64,
    looks: u32,
}

/// What a node is asked for while it is saturated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    peak: Option<Peak>,
    /// Bytes of a message when the node was last not saturated.
    message_bytes: Option<f64>,
}

impl Asked {
    /// Takes a look at a node that is not saturated.
    pub(super) fn calm(&mut self, look: Look) {
        self.peak = None;
        if look.rates.writes > 0.0 && look.rates.sent_bytes > 0.0 {
            self.message_bytes = Some(look.rates.sent_bytes / look.rates.writes);
        }
    }

    /// Takes the look at which a node is saturated first, with the look before it, or a later one.
    pub(super) fn saturated(&mut self, before: Option<Look>, look: Look) {
        if self.peak.is_none()
            && let Some(before) = before
        {
            self.take(before);
        }
        self.take(look);
        if let Some(peak) = &mut self.peak {
            peak.looks += 1;
        }
    }

    fn take(&mut self, look: Look) {
        let Some(each) = self.each(&look) else { return };
        let third = self.peak.is_some_and(|peak| peak.looks > 0);
        let new = Peak {
            each,
            at: look.at,
            whole: third && self.peak.is_some_and(|peak| peak.each >= AGREE * each),
            most_queued: look.queued,
            looks: 0,
        };
        let Some(peak) = &mut self.peak else {
            self.peak = Some(new);
            return;
        };
        peak.most_queued = peak.most_queued.max(look.queued);
        let queues = peak.most_queued >= QUEUED_BYTES;
        // Queues that get shorter have less to take than the node delivers.
        let ebbs = queues && look.queued < peak.most_queued / 2;
        if each >= peak.each || ebbs || look.at.saturating_sub(peak.at) > REMEMBERED_MILLIS {
            let most_queued = if ebbs { look.queued } else { peak.most_queued };
            *peak = Peak { looks: peak.looks, most_queued, ..new };
            return;
        }
        if queues && !peak.whole && peak.looks <= FIRST_LOOKS && each < FALLEN * peak.each {
            (peak.each, peak.whole) = (peak.each * UNSEEN, true);
        }
        peak.whole |= third && each >= AGREE * peak.each;
    }

    /// Messages per second and connection; none when the bytes that the node sent and queued cannot have been so many messages.
    fn each(&self, look: &Look) -> Option<f64> {
        let bytes = look.rates.sent_bytes + look.grown.max(0.0);
        let accounted = self.message_bytes.is_none_or(|each| look.rates.timely * each <= ACCOUNTED * bytes);
        (accounted && look.connections > 0).then(|| look.rates.timely / look.connections as f64)
    }

    /// Messages per second that so many connections ask for; none while the node is not saturated.
    pub(super) fn of(&self, connections: u64) -> Option<f64> {
        self.peak.map(|peak| peak.each * connections as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Look, QUEUED_BYTES, REMEMBERED_MILLIS};
    use crate::samples::Rates;

    /// A look at a node with 1,000 connections that sends messages of 100 bytes.
    fn look(at: u64, writes: f64, sent: f64, grown: f64, queued: u64) -> Look {
        let rates = Rates { writes, timely: writes, publishes: 1.0, sent_bytes: sent * 100.0 };
        Look { at, rates, grown: grown * 100.0, queued, connections: 1_000 }
    }

    const FULL: u64 = 3 * QUEUED_BYTES;

    fn calm() -> Asked {
        let mut asked = Asked::default();
        asked.calm(look(0, 20_000.0, 20_000.0, 0.0, 0));
        asked
    }

    #[test]
    fn what_looks_showed_is_asked_for_until_the_queues_ebb() {
        let mut asked = calm();
        let jump = |at| look(at, 60_000.0, 40_000.0, 20_000.0, FULL / 2);
        asked.saturated(Some(jump(1)), jump(2));
        asked.saturated(None, jump(4));
        assert_eq!(asked.of(1_000), Some(60_000.0));
        asked.saturated(None, look(6, 40_000.0, 40_000.0, 0.0, FULL));
        assert_eq!(asked.of(1_000), Some(60_000.0), "its queues are full");
        assert_eq!(asked.of(500), Some(30_000.0), "half of the clients have gone");
        asked.saturated(None, look(8, 30_000.0, 40_000.0, -10_000.0, FULL / 3));
        assert_eq!(asked.of(1_000), Some(30_000.0), "it catches up");
        asked.calm(look(10, 20_000.0, 20_000.0, 0.0, 0));
        assert_eq!(asked.of(1_000), None);
    }

    #[test]
    fn queues_that_were_full_within_a_look_tell_of_more() {
        let mut asked = calm();
        asked.saturated(
            Some(look(2, 50_000.0, 40_000.0, 10_000.0, FULL / 4)),
            look(4, 90_000.0, 40_000.0, 50_000.0, FULL),
        );
        asked.saturated(None, look(6, 40_000.0, 40_000.0, 0.0, FULL));
        assert_eq!(asked.of(1_000), Some(1.6 * 90_000.0));
        asked.saturated(None, look(8, 40_000.0, 40_000.0, 0.0, FULL));
        assert_eq!(asked.of(1_000), Some(1.6 * 90_000.0), "once");
        asked.saturated(None, look(9 + REMEMBERED_MILLIS, 40_000.0, 40_000.0, 0.0, FULL));
        assert_eq!(asked.of(1_000), Some(40_000.0), "it was long ago");
    }

    #[test]
    fn a_counter_that_bytes_do_not_account_for_is_not_believed() {
        let mut asked = calm();
        asked.saturated(None, look(2, 5e7, 40_000.0, 20_000.0, FULL));
        assert_eq!(asked.of(1_000), None);
    }
}
