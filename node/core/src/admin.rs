//! Types of the node's admin API, shared with the operator.
//!
//! Readers are tolerant (unknown keys are ignored, missing ones are zero) so that nodes and operators of neighbouring
//! versions work together. Counters are cumulative: the operator computes rates from two reads with the same
//! `boot_id`, by which it tells a restart from a slow second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::{self, BusCounters, CloseReason, JoinRefusal};

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
    /// Resident memory.
    pub rss_bytes: u64,
    /// Limits of open files as the running process has them.
    pub nofile: Nofile,
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
