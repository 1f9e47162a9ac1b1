//! Rooms: caps and policies by topic.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Hook;
use crate::{quantity::Duration, rules};

/// Rooms: who may be in one and what happens to what is said there.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::TOPIC_DUPLICATE)]
#[x_kube(validation = rules::events("events"))]
#[x_kube(validation = rules::events("ackEvents"))]
#[serde(rename_all = "camelCase")]
pub struct Rooms {
    /// Most members of one room on one node.
    #[schemars(range(min = keys::MAX_MEMBERS.manifest.least, max = keys::MAX_MEMBERS.manifest.most))]
    pub max_members: u32,
    /// What a join to a full room gets.
    #[serde(default)]
    pub on_full: OnFull,
    /// Events that members may publish; unset: every event that is not the protocol's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_EVENT_BYTES)))]
    pub events: Option<Vec<String>>,
    /// Events that are broadcast and then replied `ok`. Other events are broadcast without a reply.
    #[serde(default)]
    #[schemars(length(max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_EVENT_BYTES)))]
    pub ack_events: Vec<String>,
    /// Whether the sender of an event receives it too, as Phoenix's `broadcast!` does.
    #[serde(default = "yes")]
    pub echo_to_sender: bool,
    /// Rules by topic; the first whose pattern matches wins.
    #[serde(default)]
    #[schemars(length(max = keys::LIST_ITEMS))]
    pub policies: Vec<RoomPolicy>,
}

/// The rule of the rooms whose topic matches.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::TOPIC_STAR)]
#[x_kube(validation = rules::topic_reserved())]
#[x_kube(validation = rules::flush_window())]
#[x_kube(validation = rules::REALTIME_OPTIONS)]
#[x_kube(validation = rules::events("events"))]
#[x_kube(validation = rules::events("ackEvents"))]
#[serde(rename_all = "camelCase")]
pub struct RoomPolicy {
    /// An exact topic, or a prefix followed by `*`.
    #[schemars(length(min = 1, max = keys::MAX_TOPIC_BYTES))]
    pub topics: String,
    /// Most members of one room on one node; unset: `rooms.maxMembers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = keys::MAX_MEMBERS.manifest.least, max = keys::MAX_MEMBERS.manifest.most))]
    pub max_members: Option<u32>,
    /// Who may push events into the room; unset: `Members`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Overrides `rooms.events`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_EVENT_BYTES)))]
    pub events: Option<Vec<String>>,
    /// Overrides `rooms.ackEvents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = keys::LIST_ITEMS), inner(length(min = 1, max = keys::MAX_EVENT_BYTES)))]
    pub ack_events: Option<Vec<String>>,
    /// Overrides `rooms.echoToSender`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_to_sender: Option<bool>,
    /// Lets what is said in the room within this time leave in one write per member, which adds as much to its latency;
    /// unset: at once. Worth it where many messages per second come one by one; under load writes batch by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub flush_window: Option<Duration>,
    /// What clients of these rooms speak; unset: `Phoenix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// What the backend of `hooks` is asked about before a client may do it; unset: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub hooks: Vec<Hook>,
}

/// What the clients of a room speak.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Dialect {
    /// Phoenix Channels: events are broadcast under their own names.
    #[default]
    Phoenix,
    /// Supabase's Realtime, as realtime-js speaks it: events are inside of events `broadcast`, and clients say when they
    /// join whether they hear their own and want them acknowledged.
    Realtime,
}

/// What a join to a full room gets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum OnFull {
    /// An error reply with the reason `room full`.
    #[default]
    Reject,
}

/// Who may push events into a room.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Publish {
    /// Every member.
    #[default]
    Members,
    /// No client.
    Nobody,
}

fn yes() -> bool {
    true
}
