//! Whether a node is hot: it can hardly take more, by what it says of itself or by what its capacity is said to be.
//!
//! What a node delivers ends at what it can do, so the figures of a fleet of full nodes look right-sized. A node that
//! says of itself that it is full is *saturated*, and what it delivers is no measure of what is asked of it.

use std::fmt;

use node_core::admin::Gauges;

use crate::capacity::Sizing;
use crate::samples::NodeLoad;

/// Busy part of the busiest shard's time from which on a node is saturated: a shard that is at work for nine tenths of
/// its time makes each message wait for ten times as long as it takes to serve (a queue with random arrivals).
pub const BUSY: f64 = 0.9;
/// Age of the oldest byte queued to a client, in milliseconds, from which on a queue tells of saturation: what people
/// call realtime ends at a second.
pub const OLD_MILLIS: u64 = 1_000;
/// Bytes queued to all clients below which a queue tells nothing of the node, whatever its age: a few clients with slow
/// networks queue as much.
pub const QUEUED_BYTES: u64 = 8 * 1_024 * 1_024;
/// Seconds of its sending that a node must have queued for its queue to tell of saturation: slow clients alone queue
/// less than all clients together when the node itself is what is slow.
pub const QUEUED_SECONDS: f64 = 0.5;
/// Part of its memory limit from which on a node is saturated: the kernel ends a process at the limit, and a node needs
/// the rest for the clients that come back from others.
pub const MEMORY: f64 = 0.9;
/// Part of its capacity, in writes/s or connections, from which on a node is hot. It is no reason to grow by itself,
/// because the load that is above the target is; it forbids to give the node a share of what others carry.
pub const FULL: f64 = 0.9;

/// Why a node is hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// A shard is at work for nearly all of its time.
    Busy,
    /// What is queued to clients gets old.
    Queued,
    /// Its memory is near its limit.
    Memory,
    /// It delivers nearly as many writes/s as a node is said to be able to.
    Writes,
    /// It holds nearly as many connections as a node is said to be able to.
    Connections,
}

impl Heat {
    /// The CamelCase word that the status shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "Busy",
            Self::Queued => "Queued",
            Self::Memory => "Memory",
            Self::Writes => "Writes",
            Self::Connections => "Connections",
        }
    }

    /// What the word says, after the name of a node.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Busy => "its busiest shard works for 90 % of the time or more",
            Self::Queued => "what it has for its clients waits for more than a second",
            Self::Memory => "it has 90 % of its memory limit or more",
            Self::Writes => "it carries 90 % of capacity.writesPerSecond or more",
            Self::Connections => "it holds 90 % of capacity.connections or more",
        }
    }

    /// Why a node with this load is hot, if it is.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn of(load: &NodeLoad, sizing: &Sizing) -> Option<Self> {
        if let Some(saturated) = load.saturated {
            return Some(saturated);
        }
        if load.writes_per_second.is_some_and(|writes| writes >= FULL * sizing.writes_per_second) {
            return Some(Self::Writes);
        }
        load.connections
            .is_some_and(|held| held as f64 >= FULL * sizing.connections)
            .then_some(Self::Connections)
    }
}

impl fmt::Display for Heat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one answer of a node says of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strain {
    /// Busy part of the busiest shard's time, 0 to 1.
    pub utilization: f64,
    /// Milliseconds that the oldest byte queued to a client has waited; 0 when unknown.
    pub oldest_queued_millis: u64,
    /// Bytes queued to all clients.
    pub queued_bytes: u64,
    /// Memory as a part of its limit; none when either is unknown.
    pub memory: Option<f64>,
}

impl Strain {
    /// Reads an answer's gauges.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    pub fn of(gauges: &Gauges) -> Self {
        let known = gauges.rss_bytes > 0 && gauges.memory_limit_bytes > 0;
        let utilization =
            if gauges.utilization.is_finite() { gauges.utilization.clamp(0.0, 1.0) } else { 0.0 };
        Self {
            utilization,
            oldest_queued_millis: gauges.oldest_queued_millis,
            queued_bytes: gauges.send_queue_bytes,
            memory: known.then(|| gauges.rss_bytes as f64 / gauges.memory_limit_bytes as f64),
        }
    }

    /// Whether the node is saturated by two successive answers: one second in which a shard is busy, or a byte is late,
    /// is no state. Memory does not come and go, so the last answer alone tells of it. `bytes_per_second` is what
    /// the node sent to its clients between the two.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    pub fn saturated(&self, before: Option<&Self>, bytes_per_second: Option<f64>) -> Option<Heat> {
        let queued = |strain: &Self| {
            let much = bytes_per_second.map(|sent| (sent * QUEUED_SECONDS).max(QUEUED_BYTES as f64));
            strain.oldest_queued_millis >= OLD_MILLIS
                && much.is_some_and(|much| strain.queued_bytes as f64 >= much)
        };
        let both = |holds: &dyn Fn(&Self) -> bool| before.is_some_and(|before| holds(before) && holds(self));
        if both(&|strain| strain.utilization >= BUSY) {
            return Some(Heat::Busy);
        }
        if both(&queued) {
            return Some(Heat::Queued);
        }
        self.memory.is_some_and(|part| part >= MEMORY).then_some(Heat::Memory)
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::Gauges;

    use super::{Heat, QUEUED_BYTES, Strain};

    #[test]
    fn a_figure_of_a_node_that_is_older_than_it_says_nothing() {
        let old = Strain::of(&Gauges { rss_bytes: 1 << 30, ..Gauges::default() });
        assert_eq!(old.saturated(Some(&old), Some(0.0)), None);
        let odd = Strain::of(&Gauges { utilization: f64::NAN, ..Gauges::default() });
        assert_eq!(odd.saturated(Some(&odd), None), None);
    }

    #[test]
    fn one_answer_is_no_state_and_memory_is() {
        let busy = Strain { utilization: 0.93, ..Strain::default() };
        assert_eq!(busy.saturated(None, None), None);
        assert_eq!(busy.saturated(Some(&Strain::default()), None), None);
        assert_eq!(busy.saturated(Some(&busy), None), Some(Heat::Busy));
        let memory = Strain::of(&Gauges { rss_bytes: 91, memory_limit_bytes: 100, ..Gauges::default() });
        assert_eq!(memory.saturated(None, None), Some(Heat::Memory));
    }

    #[test]
    fn a_few_slow_clients_do_not_make_a_node_hot() {
        let queue = |queued_bytes| Strain { oldest_queued_millis: 9_000, queued_bytes, ..Strain::default() };
        let says = |bytes, sent| queue(bytes).saturated(Some(&queue(bytes)), sent);
        assert_eq!(says(QUEUED_BYTES - 1, Some(1_000.0)), None, "little is queued");
        assert_eq!(says(QUEUED_BYTES, Some(100e6)), None, "it sends that in a tenth of a second");
        assert_eq!(says(QUEUED_BYTES, Some(10e6)), Some(Heat::Queued));
        assert_eq!(says(QUEUED_BYTES, None), None);
    }
}
