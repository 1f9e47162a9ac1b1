//! Types of the node's admin API, shared with the operator.
//!
//! Readers are tolerant (unknown keys are ignored, missing ones are zero) so that nodes and operators of neighbouring
//! versions work together. Counters are cumulative: the operator computes rates from two reads with the same
//! `boot_id`, by which it tells a restart from a slow second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::{self, BusCounters, CloseReason, JoinRefusal, RefuseReason};

/// Version of these types.
pub const VERSION: u32 = 1;
/// Header of a request with the name of the node that the request is meant for. A node of another name answers 421
/// and does nothing: once a pod is gone, another one gets its address. Without the header any node is meant.
pub const NODE_HEADER: &str = "x-channelcluster-node";

/// Answer of `GET /v1/stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Random per process start; counters of different boot ids have nothing to do with each other.
    pub boot_id: String,
    /// Milliseconds since the process started, read with the counters.
    pub monotonic_millis: u64,
    /// Name of the node (the pod's name in a cluster).
    pub node: String,
    /// Version of the binary.
    pub build: String,
    /// Where the node is in its life.
    pub phase: NodePhase,
    /// Whether the bus is connected now; none when no bus is configured.
    pub bus_connected: Option<bool>,
    /// What the node moves to others now; none when nothing is moved, and from nodes older than the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<RebalanceStatus>,
    /// More about the bus; none when no bus is configured, and from nodes older than the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<BusStats>,
    /// Cumulative counters.
    pub counters: Counters,
    /// Values of this moment.
    pub gauges: Gauges,
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePhase {
    /// Not ready yet: the bus was never connected.
    #[default]
    Starting,
    /// Ready.
    Serving,
    /// Unready, but accepting and serving while endpoints are told of it.
    Unready,
    /// Refuses new connections and closes the ones it has at a pace.
    Closing,
    /// Refuses new connections and has none left.
    Closed,
    /// A phase of a newer node.
    #[serde(other)]
    Unknown,
}

/// How the node hears the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BusStats {
    /// Whether there is a connection on which an answer came within the last [`crate::limits::BUS_SILENCE_MILLIS`];
    /// the same as [`Stats::bus_connected`].
    pub connected: bool,
    /// Milliseconds since the node last heard anything from the bus, which is asked each second; since the start of the
    /// process while it never did.
    pub silent_millis: u64,
    /// How long the last answer took to come, in microseconds; zero before the first.
    pub round_trip_micros: u64,
}

/// Declares the counters that the operator reads, each with its source: the sum of the shards' counters, or those of
/// the bus.
macro_rules! counters {
    (|$shards:ident, $bus:ident| $($(#[$doc:meta])* $name:ident: $value:expr,)+) => {
        /// Cumulative counters since the process started.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counters {
            /// The counters for the operator, from those of the shards and of the bus.
            #[must_use]
            pub fn of($shards: &counters::Counters, $bus: &BusCounters) -> Self {
                Self { $($name: $value,)+ }
            }
        }
    };
}

/// The reasons of [`Counters::handshakes_unable`].
const UNABLE: [RefuseReason; 5] = [
    RefuseReason::Full,
    RefuseReason::Rate,
    RefuseReason::Memory,
    RefuseReason::MemoryLow,
    RefuseReason::NoKeys,
];

counters! { |shards, bus|
    /// Broadcast frames queued to members: one per frame and member.
    writes: shards.writes,
    /// Of these, writes of messages that the bus delivered late (see [`Counters::bus_late`]): messages that gathered
    /// while it was silent are no load of the present.
    late_writes: shards.late_writes,
    /// write(2) and writev(2) calls on client sockets.
    socket_writes: shards.socket_writes,
    /// Messages published by clients of this node.
    publishes: shards.publishes,
    /// Bytes written to client sockets.
    sent_bytes: shards.sent_bytes,
    /// Bytes read from client sockets.
    received_bytes: shards.received_bytes,
    /// Connections accepted whose handshake succeeded.
    connections_opened: shards.opened,
    /// Of these, the connections that are gone.
    connections_closed: shards.closed.iter().sum(),
    /// Handshakes refused.
    handshakes_refused: shards.refused.iter().sum(),
    /// Of these, the ones that the node was unable to take, whoever asked: it is full, takes no more per second, has too little
    /// memory, or has not got the keys of tokens. 0 from nodes older than the field.
    handshakes_unable: UNABLE.iter().map(|reason| shards.refused[*reason as usize]).sum(),
    /// Joins accepted.
    joins: shards.joins,
    /// Joins refused because the room was full.
    joins_refused_full: shards.joins_refused[JoinRefusal::RoomFull as usize],
    /// Connections closed because their send queue was full.
    slow_consumer_closes: shards.closed[CloseReason::SlowConsumer as usize],
    /// Messages given to the bus.
    bus_published: bus.published,
    /// Messages taken from the bus.
    bus_received: bus.received,
    /// Messages of other nodes that never arrived, seen by their sequence numbers.
    bus_gaps: bus.gaps,
    /// Messages dropped because a queue to or from the bus was full.
    bus_dropped: shards.bus_queue_dropped + bus.dropped_out + bus.dropped_in,
    /// Messages taken from the bus that were on their way for more than
    /// [`crate::limits::BUS_LATE_MILLIS`].
    bus_late: bus.late,
    /// Messages from the bus dropped because they were older than
    /// [`crate::config::Limits::bus_message_age_millis`]; each is a gap too.
    bus_expired: bus.expired,
}

/// Values of this moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gauges {
    /// Open client connections.
    pub connections: u64,
    /// Topics with at least one member here.
    pub rooms: u64,
    /// Pairs of connection and joined topic.
    pub memberships: u64,
    /// Bytes queued to all clients.
    pub send_queue_bytes: u64,
    /// 0 to 1: busy fraction over the last second of the busiest shard (1 - parked/wall).
    pub utilization: f64,
    /// CPU seconds of the process so far.
    pub cpu_seconds: f64,
    /// The longest time within the last second, in milliseconds, for which something queued to a client waited until the node
    /// came to write it, on the shard where that was longest. It shows a node that cannot keep up: clients whose sockets take
    /// nothing do not count. 0 from nodes older than the field.
    pub oldest_queued_millis: u64,
    /// Milliseconds within which 99 of 100 connections of the last second came from being accepted to the end of their
    /// handshake, on the shard where that took longest; 0 when there were none, and from nodes older than the field.
    pub handshake_p99_millis: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Memory that the process may have, from its cgroup; 0 without a limit, and from nodes older than the field.
    pub memory_limit_bytes: u64,
    /// Limits of open files as the running process has them.
    pub nofile: Nofile,
    /// Connections that its descriptor tables hold under that limit; 0 from nodes older than the field.
    pub descriptor_room: u64,
    /// Sysctls as `/proc/sys` shows them inside the pod.
    pub sysctls: BTreeMap<String, String>,
}

/// Limits of open files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nofile {
    /// The soft limit, which counts.
    pub soft: u64,
    /// The hard limit, up to which a process may raise its soft limit.
    pub hard: u64,
}

/// Body of `POST /v1/drain`. A later request replaces an earlier one; `DELETE /v1/drain` takes the node back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainRequest {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// How far to go.
    pub stage: DrainStage,
    /// Pace of closing; the node's configuration decides when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_second: Option<u32>,
}

/// How far a drain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainStage {
    /// Turn unready, go on accepting and serving.
    Unready,
    /// Refuse new connections and close the ones there are at a pace.
    Close,
}

/// Answer of `POST` and `DELETE /v1/drain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainStatus {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Where the node is now.
    pub phase: NodePhase,
    /// Connections left.
    pub connections: u64,
}

/// Body of `POST /v1/rebalance`: the node closes connections, so that their clients come back on other nodes. A later
/// request replaces an earlier one, except that what an operation of the same id has closed is not forgotten;
/// `DELETE /v1/rebalance` ends it. Meanwhile the node is not ready, so that no client comes back to it, and refuses nobody.
/// The lease ends all this by itself when nobody asks again, and a drain or SIGTERM does at once. When all is done the node
/// stays unready until then, so that clients which are still under way find others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebalanceRequest {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Which operation this belongs to: a random word of at most [`crate::limits::MAX_OPERATION_BYTES`]. The node goes on with one
    /// that it remembers, which are the last [`crate::moving::REMEMBERED`].
    pub operation: String,
    /// Most connections to close in the whole operation. With 0 the node only ceases to be ready: once its endpoint has left the
    /// Service, another request of the same operation says how many, and none of them comes back here.
    pub connections: u64,
    /// Writes/s to get rid of in the whole operation; the node stops at the first of the two. 0: the number of connections
    /// alone counts.
    #[serde(default)]
    pub writes_per_second: u64,
    /// Pace of closing.
    pub connections_per_second: u32,
    /// Only connections that are at least so old now are closed, in milliseconds, at most [`crate::limits::MAX_AGE_MILLIS`]: the
    /// younger ones, also when they are older later, may be clients that were moved already. None is closed that came after the operation had begun here.
    #[serde(default)]
    pub min_age_millis: u64,
    /// After so many milliseconds without another request the node ends the operation and serves as before:
    /// [`crate::limits::MIN_LEASE_MILLIS`] to [`crate::limits::MAX_LEASE_MILLIS`].
    pub lease_millis: u64,
}

/// Answer of `GET`, `POST` and `DELETE /v1/rebalance`, and part of [`Stats`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RebalanceStatus {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// [`RebalanceRequest::operation`].
    pub operation: String,
    /// Connections closed so far.
    pub moved: u64,
    /// Writes/s that they had, as the node estimates it.
    pub moved_writes_per_second: u64,
    /// Whether the node has closed all that it was asked to, or finds nothing more to close.
    pub done: bool,
    /// The room with most writes/s here, when nothing more could be moved although writes/s were left to go, and the room has
    /// more of them than that: moving cannot help with it. None otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_room: Option<HotRoom>,
}

/// A room with much of a node's load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HotRoom {
    /// Its topic.
    pub topic: String,
    /// Writes/s to its members on this node.
    pub writes_per_second: u64,
    /// Its members on this node.
    pub members: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_takes_newer_and_older_stats() {
        let newer = r#"{"version":2,"bootId":"x","phase":"Hibernating","future":[1],"counters":{"writes":3,"new":1}}"#;
        let stats: Stats = serde_json::from_str(newer).unwrap();
        assert_eq!(
            (stats.phase, stats.counters.writes, stats.gauges.connections),
            (NodePhase::Unknown, 3, 0)
        );
    }

    #[test]
    fn only_what_the_node_was_unable_to_take_counts_as_that() {
        let mut shards = counters::Counters::ZERO;
        for reason in RefuseReason::ALL {
            shards.refused[*reason as usize] = 1 << *reason as u64;
        }
        let counters = Counters::of(&shards, &BusCounters::default());
        let unable: u64 = UNABLE.iter().map(|reason| 1 << *reason as u64).sum();
        assert_eq!(counters.handshakes_unable, unable);
        let not = [RefuseReason::Tls, RefuseReason::Token, RefuseReason::NoToken, RefuseReason::Draining];
        assert!(not.iter().all(|reason| unable & (1 << *reason as u64) == 0));
        assert_eq!(counters.handshakes_refused, (1 << RefuseReason::COUNT) - 1);
    }

    #[test]
    fn a_drain_request_reads_as_documented() {
        let text = r#"{"version":1,"stage":"Close","connectionsPerSecond":500}"#;
        let request: DrainRequest = serde_json::from_str(text).unwrap();
        let expected =
            DrainRequest { version: 1, stage: DrainStage::Close, connections_per_second: Some(500) };
        assert_eq!(request, expected);
        let unready: DrainRequest = serde_json::from_str(r#"{"version":1,"stage":"Unready"}"#).unwrap();
        assert_eq!(unready.connections_per_second, None);
        assert!(serde_json::from_str::<DrainRequest>(r#"{"version":1,"stage":"Now"}"#).is_err());
    }
}
