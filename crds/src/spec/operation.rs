//! Kernel parameters, drains and the limits of a connection and of a node.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{self, Duration, Memory};
use crate::rules;

/// Kernel parameters and limits of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::SYSCTL_SAFE)]
#[x_kube(validation = rules::SYSCTL_POD)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// Which set of sysctls a node asks for.
    #[serde(default)]
    pub profile: TuningProfile,
    /// More sysctls, or other values for those of the profile.
    #[serde(default, deserialize_with = "quantity::numbers_as_text")]
    #[schemars(extend("maxProperties" = 32), schema_with = "quantity::texts_or_numbers")]
    pub sysctls: BTreeMap<String, String>,
    /// Open files that a node should be able to have; compared with what it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::NOFILE.manifest.least, max = keys::NOFILE.manifest.most))]
    pub nofile: Option<u64>,
}

/// Which set of sysctls a node asks for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TuningProfile {
    /// Those that Kubernetes allows on every kubelet.
    #[default]
    Safe,
    /// None.
    None,
}

/// How a node is emptied before it goes.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::DRAIN_ORDER)]
#[x_kube(validation = rules::drain_delay())]
#[x_kube(validation = rules::drain_grace())]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Connections closed per second, over the whole cluster.
    #[serde(default = "drain_pace")]
    #[schemars(range(min = keys::DRAIN_CONNECTIONS_PER_SECOND.manifest.least, max = keys::DRAIN_CONNECTIONS_PER_SECOND.manifest.most))]
    pub connections_per_second: u32,
    /// How long a terminating node goes on accepting, so that load balancers can take it out. Changing it replaces the
    /// nodes: it is part of their termination grace period.
    #[serde(default = "drain_delay")]
    pub delay: Duration,
    /// Longest drain; what is left then is closed at once. Changing it replaces the nodes.
    #[serde(default = "drain_deadline")]
    pub deadline: Duration,
}

/// How clients are moved from nodes that have too much to others.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// Whether clients are moved.
    #[serde(default)]
    pub mode: RebalanceMode,
    /// How far above the mean of all nodes a node may be, in percent of the mean.
    #[serde(default = "rebalance_tolerance")]
    #[schemars(range(min = 5, max = 500))]
    pub tolerance: u32,
    /// Clients moved per second, over the whole cluster. Unset: as drain.connectionsPerSecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::DRAIN_CONNECTIONS_PER_SECOND.manifest.least, max = keys::DRAIN_CONNECTIONS_PER_SECOND.manifest.most))]
    pub connections_per_second: Option<u32>,
    /// Most clients moved in an hour.
    #[serde(default = "moves_per_hour")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_moves_per_hour: u32,
}

/// Whether clients are moved from nodes that have too much.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum RebalanceMode {
    /// They are.
    Auto,
    /// The condition RebalanceNeeded says where that would help.
    #[default]
    Observe,
    /// Nothing is looked at.
    Disabled,
}

/// Limits of a connection and of a node.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::idle_timeout())]
#[x_kube(validation = rules::handshake_timeout())]
#[x_kube(validation = rules::bus_message_age())]
#[x_kube(validation = rules::ping_interval())]
#[x_kube(validation = rules::QUEUE_HOLDS_FRAME)]
#[x_kube(validation = rules::FRAME_HOLDS_PAYLOAD)]
#[x_kube(validation = rules::bytes_per_second())]
#[x_kube(validation = rules::frame_in_time())]
#[x_kube(validation = rules::joins_in_time())]
#[x_kube(validation = rules::joins_at_once("joinsPerSecond"))]
#[x_kube(validation = rules::joins_at_once("joinsPerSecondPerAddress"))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest message from a client, in bytes.
    #[serde(default = "frame_bytes")]
    #[schemars(range(min = keys::MAX_FRAME_BYTES.manifest.least, max = keys::MAX_FRAME_BYTES.manifest.most))]
    pub max_frame_bytes: u32,
    /// Longest topic that may be joined, in bytes; the join of a longer one is replied an error. Unset: 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::TOPIC_BYTES.manifest.least, max = keys::TOPIC_BYTES.manifest.most))]
    pub max_topic_bytes: Option<u32>,
    /// Longest name of an event that clients may publish, in bytes; a longer one is replied an error. Unset: 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::EVENT_BYTES.manifest.least, max = keys::EVENT_BYTES.manifest.most))]
    pub max_event_bytes: Option<u32>,
    /// Longest payload of an event that clients may publish, in bytes; a longer one is replied an error. 0 or unset: no bound
    /// but `maxFrameBytes`, beyond which the connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::PAYLOAD_BYTES.manifest.least, max = keys::PAYLOAD_BYTES.manifest.most))]
    pub max_payload_bytes: Option<u32>,
    /// Deepest nesting of arrays and objects in such a payload; a deeper one is replied an error. Unset: 125. A lower limit
    /// costs another look at each payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::JSON_DEPTH.manifest.least, max = keys::JSON_DEPTH.manifest.most))]
    pub max_json_depth: Option<u32>,
    /// Most rooms that one connection is in.
    #[serde(default = "channels")]
    #[schemars(range(min = keys::MAX_CHANNELS.manifest.least, max = keys::MAX_CHANNELS.manifest.most))]
    pub max_channels_per_connection: u32,
    /// A connection without data from the client for so long is closed. Phoenix clients send a heartbeat each 30 s.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Duration,
    /// A connection that was silent for so long is sent a ping, whose answer counts as data; unset: none is sent. For
    /// listeners that never send anything, not even heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_interval: Option<Duration>,
    /// Longest time from accepting a connection to the end of its request; beyond it the connection is closed. Unset: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Duration>,
    /// Longest head of a request, its line and headers together, in bytes; a longer one is answered 431. Unset: 32768.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::REQUEST_HEAD_BYTES.manifest.least, max = keys::REQUEST_HEAD_BYTES.manifest.most))]
    pub max_request_head_bytes: Option<u32>,
    /// Most bytes queued for one connection before it is closed as too slow.
    #[serde(default = "queue_bytes")]
    #[schemars(range(min = keys::SEND_QUEUE_BYTES.manifest.least, max = keys::SEND_QUEUE_BYTES.manifest.most))]
    pub send_queue_bytes: u32,
    /// Most frames queued for one connection before it is closed as too slow. Unset: 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::SEND_QUEUE_FRAMES.manifest.least, max = keys::SEND_QUEUE_FRAMES.manifest.most))]
    pub send_queue_frames: Option<u32>,
    /// Most connections of one client address on one node, of IPv6 of one network of 64 bits; beyond it a client is answered
    /// 429. 0 or unset: no bound, because an office or the customers of a mobile network may share one address. Behind a
    /// load balancer it needs `expose.trustedProxies`, or all clients count as the load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::MAX_CONNECTIONS_PER_ADDRESS.manifest.least, max = keys::MAX_CONNECTIONS_PER_ADDRESS.manifest.most))]
    pub max_connections_per_address: Option<u32>,
    /// Most connects per second that one node takes, after five seconds' worth at once; beyond it clients are answered 503. 0
    /// or unset: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::HANDSHAKES_PER_SECOND.manifest.least, max = keys::HANDSHAKES_PER_SECOND.manifest.most))]
    pub handshakes_per_second: Option<u32>,
    /// The same of one client address, which is answered 429; 0 or unset: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::HANDSHAKES_PER_SECOND_PER_ADDRESS.manifest.least, max = keys::HANDSHAKES_PER_SECOND_PER_ADDRESS.manifest.most))]
    pub handshakes_per_second_per_address: Option<u32>,
    /// Most joins per second of one connection, after five seconds' worth at once; beyond it a join is replied an error. 0 or
    /// unset: no bound but `messagesPerSecond`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::JOINS_PER_SECOND.manifest.least, max = keys::JOINS_PER_SECOND.manifest.most))]
    pub joins_per_second: Option<u32>,
    /// The same of all connections of one client address together; 0 or unset: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::JOINS_PER_SECOND_PER_ADDRESS.manifest.least, max = keys::JOINS_PER_SECOND_PER_ADDRESS.manifest.most))]
    pub joins_per_second_per_address: Option<u32>,
    /// Most rooms of one node; a join that would make another is refused. By default five for each connection of
    /// `nodes.capacity`, at least 50,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::MAX_ROOMS.manifest.least, max = keys::MAX_ROOMS.manifest.most))]
    pub max_rooms: Option<u32>,
    /// A message between nodes that was on its way for longer than this is dropped and counted; 10s by default. Such
    /// messages gather while the backplane stands still, and would all arrive at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_message_age: Option<Duration>,
    /// Most memory that clients can make one node hold, such as `256Mi` or `2Gi`; near it the node reads less, refuses
    /// connections, and closes those that hold most and take least. By default half of the memory limit of the pod or, without
    /// one, of the machine's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<Memory>,
    /// Most messages per second that are taken from one connection, after five seconds' worth at once; 0 is without bound.
    /// Unset: 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::MESSAGES_PER_SECOND.manifest.least, max = keys::MESSAGES_PER_SECOND.manifest.most))]
    pub messages_per_second: Option<u32>,
    /// The same in bytes. Unset: 1048576.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::BYTES_PER_SECOND.manifest.least, max = keys::BYTES_PER_SECOND.manifest.most))]
    pub bytes_per_second: Option<u32>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { connections_per_second: drain_pace(), delay: drain_delay(), deadline: drain_deadline() }
    }
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            mode: RebalanceMode::default(),
            tolerance: rebalance_tolerance(),
            connections_per_second: None,
            max_moves_per_hour: moves_per_hour(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: frame_bytes(),
            max_topic_bytes: None,
            max_event_bytes: None,
            max_payload_bytes: None,
            max_json_depth: None,
            max_channels_per_connection: channels(),
            idle_timeout: idle_timeout(),
            ping_interval: None,
            handshake_timeout: None,
            max_request_head_bytes: None,
            send_queue_bytes: queue_bytes(),
            send_queue_frames: None,
            max_connections_per_address: None,
            handshakes_per_second: None,
            handshakes_per_second_per_address: None,
            joins_per_second: None,
            joins_per_second_per_address: None,
            max_rooms: None,
            bus_message_age: None,
            memory_budget: None,
            messages_per_second: None,
            bytes_per_second: None,
        }
    }
}

fn channels() -> u32 {
    keys::MAX_CHANNELS.usual
}

const fn rebalance_tolerance() -> u32 {
    20
}

const fn moves_per_hour() -> u32 {
    100_000
}

fn drain_pace() -> u32 {
    keys::DRAIN_CONNECTIONS_PER_SECOND.usual
}

fn frame_bytes() -> u32 {
    keys::MAX_FRAME_BYTES.usual
}

fn queue_bytes() -> u32 {
    keys::SEND_QUEUE_BYTES.usual
}

fn drain_delay() -> Duration {
    Duration::from_millis(keys::DRAIN_DELAY_MILLIS.usual)
}

fn drain_deadline() -> Duration {
    Duration::from_millis(keys::DRAIN_DEADLINE_MILLIS.usual)
}

fn idle_timeout() -> Duration {
    Duration::from_millis(keys::IDLE_TIMEOUT_MILLIS.usual)
}
