//! The way to the other nodes.
//!
//! NATS carries one copy of a publish to each node that has members of the topic. The client lives on its own thread and
//! runtime; shards reach it through one bounded queue and are reached through their mailboxes. Without a configured bus
//! none of this runs: the node is complete alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the bus does, for metrics, readiness and the operator.
#[derive(Debug, Default)]
pub struct BusState {
    connected: AtomicBool,
    ever_connected: AtomicBool,
    /// Times the connection was made.
    pub connects: AtomicU64,
    /// Messages given to NATS.
    pub published: AtomicU64,
    /// Messages of other nodes taken from NATS.
    pub received: AtomicU64,
    /// Messages of other nodes that never arrived, by their sequence numbers.
    pub gaps: AtomicU64,
    /// Messages that could not be sent: no connection, or NATS too slow.
    pub dropped_out: AtomicU64,
    /// Messages received that a shard could not take, its mailbox being full.
    pub dropped_in: AtomicU64,
    /// Messages received that could not be read.
    pub malformed: AtomicU64,
    /// Gauge: topics subscribed to.
    pub topics: AtomicU64,
}

impl BusState {
    /// Whether the bus is connected now.
    pub fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Whether it ever was: the condition for a node to become ready for the first time.
    pub fn ever_connected(&self) -> bool {
        self.ever_connected.load(Relaxed)
    }

    /// Records a change of the connection.
    pub fn set_connected(&self, connected: bool) {
        if connected {
            self.ever_connected.store(true, Relaxed);
            self.connects.fetch_add(1, Relaxed);
        }
        self.connected.store(connected, Relaxed);
    }
}
