//! The bounds per frame, connection and node.

use serde::{Deserialize, Serialize};

use super::check;

/// Bounds. Reaching one is counted, and the client that reached it gets an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest message from a client in bytes; a longer one is closed with 1009.
    pub max_frame_bytes: u32,
    /// Longest topic that may be joined in bytes; the join of a longer one is refused.
    #[serde(skip_serializing_if = "is_usual_topic")]
    pub max_topic_bytes: u32,
    /// Longest name of a published event in bytes; a longer one is answered with an error.
    #[serde(skip_serializing_if = "is_usual_event")]
    pub max_event_bytes: u32,
    /// Longest payload of a published event in bytes; a longer one is answered with an error. 0 is without bound.
    #[serde(skip_serializing_if = "is_off")]
    pub max_payload_bytes: u32,
    /// Deepest nesting of arrays and objects in the payload of a published event; a deeper one is answered with an error.
    #[serde(skip_serializing_if = "is_usual_depth")]
    pub max_json_depth: u32,
    /// Most topics joined by one connection.
    pub max_channels_per_connection: u32,
    /// A connection without data from the client for so long is closed; milliseconds.
    pub idle_timeout_millis: u64,
    /// A connection that was silent for so long is sent a ping, whose answer counts as data; milliseconds. None sends
    /// no pings: clients of Phoenix send heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_interval_millis: Option<u64>,
    /// Time from accept to the end of the handshake; milliseconds.
    pub handshake_timeout_millis: u64,
    /// Longest head of a request in bytes; a longer one is answered 431.
    #[serde(skip_serializing_if = "is_usual_head")]
    pub max_request_head_bytes: u32,
    /// Most bytes queued to one connection; beyond it the connection is closed as a slow consumer.
    pub send_queue_bytes: u32,
    /// Most frames queued to one connection; beyond it the connection is closed as a slow consumer.
    pub send_queue_frames: u32,
    /// Most connections of the node; beyond it a handshake is answered 503.
    pub max_connections: u32,
    /// Most connections of one client address on the node, see [`crate::addresses`]; beyond it a handshake is answered 429. 0
    /// is without bound.
    #[serde(skip_serializing_if = "is_off")]
    pub max_connections_per_address: u32,
    /// Most connects per second that the node takes, after [`crate::limits::BURST_SECONDS`]' worth at once; beyond it a
    /// socket is answered 503. 0 is without bound.
    #[serde(skip_serializing_if = "is_off")]
    pub handshakes_per_second: u32,
    /// The same of one client address; beyond it a socket is answered 429.
    #[serde(skip_serializing_if = "is_off")]
    pub handshakes_per_second_per_address: u32,
    /// Most joins per second of one connection, after as many at once; beyond it a join is replied an error. 0 is without
    /// bound.
    #[serde(skip_serializing_if = "is_off")]
    pub joins_per_second: u32,
    /// The same of all connections of one client address together.
    #[serde(skip_serializing_if = "is_off")]
    pub joins_per_second_per_address: u32,
    /// Most rooms of the node, which are topics with members here; a join that would make another is refused. None is
    /// what [`Limits::rooms`] makes of `max_connections`; nodes older than the key refuse a file that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rooms: Option<u32>,
    /// A message of another node that was on its way for longer than this is dropped and counted; milliseconds. None is
    /// [`keys::BUS_MESSAGE_AGE_MILLIS`]; nodes older than the key refuse a file that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_message_age_millis: Option<u64>,
    /// Most memory in bytes that clients can make the node hold, see [`crate::ledger`]. None is half of what the node
    /// may use, which it finds out at its start; nodes older than the key refuse a file that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<u64>,
    /// Most WebSocket messages and control frames per second that are taken from one connection, after as many at
    /// once as [`crate::limits::BURST_SECONDS`] bring; 0 is without bound. A connection that sends more is told once
    /// and read at this pace.
    #[serde(skip_serializing_if = "is_usual_messages")]
    pub messages_per_second: u32,
    /// The same in bytes.
    #[serde(skip_serializing_if = "is_usual_bytes")]
    pub bytes_per_second: u32,
}

// Nodes older than the keys refuse a file that has them, so they are left out while nobody set them.
fn is_usual_messages(rate: &u32) -> bool {
    *rate == keys::MESSAGES_PER_SECOND.usual
}

fn is_off(limit: &u32) -> bool {
    *limit == 0
}

fn is_usual_head(bytes: &u32) -> bool {
    *bytes == keys::REQUEST_HEAD_BYTES.usual
}

fn is_usual_topic(bytes: &u32) -> bool {
    *bytes == keys::TOPIC_BYTES.usual
}

fn is_usual_event(bytes: &u32) -> bool {
    *bytes == keys::EVENT_BYTES.usual
}

fn is_usual_depth(levels: &u32) -> bool {
    *levels == keys::JSON_DEPTH.usual
}

fn is_usual_bytes(rate: &u32) -> bool {
    *rate == keys::BYTES_PER_SECOND.usual
}

/// Rooms that a node takes however few connections it has: with a bus a topic costs 5.6 KB, so these cost 280 MB.
const ROOMS_AT_LEAST: u32 = 50_000;

impl Limits {
    /// Why a memory budget in bytes is too little for these limits; none when it is enough.
    #[must_use]
    pub fn refuse_budget(&self, budget: u64) -> Option<String> {
        check::budget_for_messages(self, budget)
    }

    /// Whether any of these limits counts by the address of clients.
    #[must_use]
    pub const fn count_addresses(&self) -> bool {
        self.max_connections_per_address > 0
            || self.handshakes_per_second_per_address > 0
            || self.joins_per_second_per_address > 0
    }

    /// Most rooms of the node: as configured, or five for every two connections that it may have. In a fleet a node
    /// may have twice the connections that it is sized for, so these are five rooms for each of the latter, where
    /// nobody shares a room.
    #[must_use]
    pub fn rooms(&self) -> u32 {
        let usual =
            (self.max_connections / 2).saturating_mul(5).clamp(ROOMS_AT_LEAST, keys::MAX_ROOMS.node.most);
        self.max_rooms.unwrap_or(usual)
    }

    /// Age in milliseconds from which on messages of other nodes are dropped.
    #[must_use]
    pub fn bus_message_age(&self) -> u64 {
        self.bus_message_age_millis.unwrap_or(keys::BUS_MESSAGE_AGE_MILLIS.usual)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_frame_bytes: keys::MAX_FRAME_BYTES.usual,
            max_topic_bytes: keys::TOPIC_BYTES.usual,
            max_event_bytes: keys::EVENT_BYTES.usual,
            max_payload_bytes: keys::PAYLOAD_BYTES.usual,
            max_json_depth: keys::JSON_DEPTH.usual,
            max_channels_per_connection: keys::MAX_CHANNELS.usual,
            idle_timeout_millis: keys::IDLE_TIMEOUT_MILLIS.usual,
            ping_interval_millis: None,
            handshake_timeout_millis: keys::HANDSHAKE_TIMEOUT_MILLIS.usual,
            max_request_head_bytes: keys::REQUEST_HEAD_BYTES.usual,
            send_queue_bytes: keys::SEND_QUEUE_BYTES.usual,
            send_queue_frames: keys::SEND_QUEUE_FRAMES.usual,
            max_connections: keys::MAX_CONNECTIONS.usual,
            max_connections_per_address: keys::MAX_CONNECTIONS_PER_ADDRESS.usual,
            handshakes_per_second: keys::HANDSHAKES_PER_SECOND.usual,
            handshakes_per_second_per_address: keys::HANDSHAKES_PER_SECOND_PER_ADDRESS.usual,
            joins_per_second: keys::JOINS_PER_SECOND.usual,
            joins_per_second_per_address: keys::JOINS_PER_SECOND_PER_ADDRESS.usual,
            max_rooms: None,
            bus_message_age_millis: None,
            memory_budget: None,
            messages_per_second: keys::MESSAGES_PER_SECOND.usual,
            bytes_per_second: keys::BYTES_PER_SECOND.usual,
        }
    }
}
