//! Warnings before a limit is reached, of one kind for all limits: a count, a ratio where one figure tells it, and a line
//! of log now and then.
//!
//! The shards count what one connection or one address does. What the node has as a whole is compared with its limits
//! here, once a second.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use node_core::{
    config::Limits,
    counters::{Counters, Limit},
    ledger::Warning,
};

/// A limit is told of once within this time.
const PAUSE: Duration = Duration::from_secs(60);

/// What was found about the limits of the whole node.
#[derive(Debug, Default)]
pub struct Near {
    counts: [AtomicU64; Limit::COUNT],
    permille: [AtomicU64; 3],
}

/// The limits of which one figure tells the use.
pub const MEASURED: [Limit; 3] = [Limit::Connections, Limit::Rooms, Limit::Memory];

impl Near {
    /// How often each limit was nearly reached, with what the shards have counted.
    #[must_use]
    pub fn counts(&self, shards: &Counters) -> [u64; Limit::COUNT] {
        std::array::from_fn(|limit| shards.near[limit] + self.counts[limit].load(Relaxed))
    }

    /// The use of each limit of [`MEASURED`] a second ago at most, 1 being all of it.
    #[must_use]
    pub fn ratios(&self) -> [(Limit, f64); 3] {
        std::array::from_fn(|at| (MEASURED[at], self.permille[at].load(Relaxed) as f64 / 1_000.0))
    }
}

/// Compares and tells; of the pulse.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    warnings: [Warning; 3],
    told: [u64; Limit::COUNT],
    told_at: [Option<Instant>; Limit::COUNT],
}

impl Watch {
    /// Looks at the use of the limits. Returns the limits that are to be told of now, and how often each was nearly reached
    /// since it was told of before.
    pub(crate) fn look(
        &mut self,
        near: &Near,
        sum: &Counters,
        limits: &Limits,
        memory_permille: u64,
        now: Instant,
    ) -> Vec<(Limit, u64)> {
        let permille = |used: u64, most: u32| used.saturating_mul(1_000) / u64::from(most.max(1));
        let uses = [
            permille(sum.connections, limits.max_connections),
            permille(sum.rooms, limits.rooms()),
            memory_permille,
        ];
        for (at, used) in uses.into_iter().enumerate() {
            near.permille[at].store(used, Relaxed);
            if self.warnings[at].observe(used) {
                near.counts[MEASURED[at] as usize].fetch_add(1, Relaxed);
            }
        }
        let counts = near.counts(sum);
        let mut due = Vec::new();
        for limit in Limit::ALL {
            let at = *limit as usize;
            let is_new = counts[at] > self.told[at];
            if is_new && self.told_at[at].is_none_or(|told| now.duration_since(told) >= PAUSE) {
                due.push((*limit, counts[at] - self.told[at]));
                (self.told[at], self.told_at[at]) = (counts[at], Some(now));
            }
        }
        due
    }
}

/// What a limit does beyond what its row in the page says, for the line of log.
pub(crate) const fn consequence(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => {
            "reads get smaller, then connections are refused, then those that hold most and take least are closed"
        }
        Limit::Connections | Limit::Handshakes => "further clients are answered 503",
        Limit::AddressConnections | Limit::AddressHandshakes => {
            "further clients of the address are answered 429"
        }
        Limit::Rooms | Limit::Channels | Limit::Members | Limit::Joins | Limit::AddressJoins => {
            "further joins are refused"
        }
        Limit::RequestHead => "longer requests are answered 431",
        Limit::Topic => "joins of longer topics are refused",
        Limit::Event | Limit::Payload | Limit::JsonDepth => "the push is answered with an error",
        Limit::Messages | Limit::Bytes => "the connection is told so and read at its pace",
        Limit::Frame | Limit::SendQueue => "the connection is closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_counted_each_time_and_told_of_once_a_minute() {
        let (mut watch, near, limits) = (Watch::default(), Near::default(), Limits::default());
        let (mut sum, begun) = (Counters::ZERO, Instant::now());
        let mut look = |sum: &Counters, seconds| {
            watch.look(&near, sum, &limits, 0, begun + Duration::from_secs(seconds))
        };
        assert_eq!(look(&sum, 0), []);
        sum.connections = u64::from(limits.max_connections) * 4 / 5;
        sum.count_near(Limit::Messages);
        assert_eq!(look(&sum, 1), [(Limit::Connections, 1), (Limit::Messages, 1)]);
        sum.count_near(Limit::Messages);
        sum.count_near(Limit::Messages);
        assert_eq!((look(&sum, 2), look(&sum, 60)), (vec![], vec![]));
        assert_eq!(look(&sum, 61), [(Limit::Messages, 2)]);
        sum.connections = 0;
        assert_eq!(look(&sum, 62), []);
        sum.connections = limits.max_connections.into();
        assert_eq!(look(&sum, 122), [(Limit::Connections, 1)]);
        assert_eq!(near.counts(&sum)[Limit::Connections as usize], 2);
        assert_eq!(near.ratios()[0], (Limit::Connections, 1.0));
    }
}
