//! `status.capacity`: what was learned of the nodes, and what was derived from that.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was learned of what one node carries; kept here so that another operator goes on with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CapacityStatus {
    /// Messages per second; only with `nodes.capacity.writesPerSecond: Learned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<LearnedCapacity>,
    /// Connections; only with `nodes.capacity.connections: Derived`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<DerivedCapacity>,
}

/// Messages per second of one node at 100 %, from how busy nodes are with what they deliver.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LearnedCapacity {
    /// What counts: between what is assumed without evidence and what the evidence says.
    pub estimate: i64,
    /// How far it can be trusted.
    pub confidence: Confidence,
    /// Why, in a sentence.
    pub reason: String,
    /// What the evidence says, weighed by how busy the nodes were and how long ago it was.
    pub evidence: i64,
    /// How much evidence there is: milliseconds of a node that is fully busy. Half of it is forgotten in five minutes.
    pub weight_millis: i64,
    /// When the nodes were looked at last.
    pub observed_at: Time,
    /// Bytes of a message of the evidence.
    pub message_bytes: i64,
    /// Members to whom a published message went, in the evidence.
    pub deliveries: i64,
}

/// Connections of one node at 100 %, from its memory, its descriptors and what a connection takes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DerivedCapacity {
    /// What counts: the smallest of what memory and descriptors hold, and of half of `limits.maxConnections` of the nodes.
    pub estimate: i64,
    /// How far it can be trusted.
    pub confidence: Confidence,
    /// Why, in a sentence.
    pub reason: String,
    /// Memory that a node may have, in bytes; missing while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<i64>,
    /// Connections that this holds with room for as many again; it changes when the sum differs from it by more than 15 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_holds: Option<i64>,
    /// Connections that the descriptor tables of a node hold with room for as many again; missing while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptors_hold: Option<i64>,
    /// Bytes of a connection that count: between what is assumed without evidence and what the evidence says.
    pub bytes_per_connection: i64,
    /// Bytes of a connection as the evidence says, weighed by how many connections the nodes held and how long ago it was.
    pub evidence: i64,
    /// How much evidence there is: milliseconds of a node that is full, or holds 20000. Half of it is forgotten in ten minutes
    /// that show more, or in a day.
    pub weight_millis: i64,
    /// When the nodes were looked at last.
    pub observed_at: Time,
}

/// How far something that was learned can be trusted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Confidence {
    /// What is assumed without evidence counts for half or more.
    #[default]
    Low,
    /// The evidence counts for more, but nodes differ, or none was busy or full enough.
    Medium,
    /// Much evidence of busy or full nodes that agree.
    High,
}
