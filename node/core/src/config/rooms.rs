//! Which topics can be joined, and the policies of their rooms.

use serde::{Deserialize, Serialize};

use super::Hook;
use crate::topic::{TopicKind, TopicName};

/// Which topics exist and the policy of their rooms. The first of `policies` that matches overrides the other values
/// here, key by key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rooms {
    /// Topics that can be joined; any other is answered `unmatched topic`.
    pub topics: Vec<TopicPattern>,
    /// Most members of one room on this node.
    pub max_members: u32,
    /// What a join of a full room gets.
    pub on_full: OnFull,
    /// Events that members may publish; none is every event that is not reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Events answered `ok` after they were broadcast.
    pub ack_events: Vec<String>,
    /// An event with this suffix is broadcast without it and answered `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_suffix: Option<String>,
    /// Events answered with their own payload and not broadcast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub echo_events: Vec<String>,
    /// Whether the sender is among the receivers of its broadcast.
    pub echo_to_sender: bool,
    /// Overrides per topic; the first match wins.
    pub policies: Vec<Policy>,
}

impl Default for Rooms {
    fn default() -> Self {
        Rooms {
            topics: vec![TopicPattern("*".to_owned())],
            max_members: keys::MAX_MEMBERS.usual,
            on_full: OnFull::Reject,
            events: None,
            ack_events: Vec::new(),
            ack_suffix: None,
            echo_events: Vec::new(),
            echo_to_sender: true,
            policies: Vec::new(),
        }
    }
}

impl Rooms {
    /// The policy of a topic's room, or none when the topic cannot be joined.
    pub fn resolve(&self, topic: TopicName<'_>) -> Option<RoomPolicy<'_>> {
        self.find(topic).map(|policy| self.policy(policy))
    }

    /// Which policy a topic's room has, or none when the topic cannot be joined.
    pub fn find(&self, topic: TopicName<'_>) -> Option<PolicyRef> {
        if !self.topics.iter().any(|pattern| pattern.matches(topic)) {
            return None;
        }
        let overriding = self.policies.iter().position(|policy| policy.topics.matches(topic));
        // A file has far fewer than 2^32 policies.
        Some(PolicyRef(overriding.map_or(u32::MAX, |index| index as u32)))
    }

    /// The policy that [`Rooms::find`] found in this configuration.
    pub fn policy(&self, found: PolicyRef) -> RoomPolicy<'_> {
        let policy = self.policies.get(found.0 as usize);
        RoomPolicy {
            max_members: policy.and_then(|p| p.max_members).unwrap_or(self.max_members),
            on_full: self.on_full,
            publish: policy.and_then(|p| p.publish).unwrap_or(Publish::Members),
            events: policy.and_then(|p| p.events.as_deref()).or(self.events.as_deref()),
            ack_events: policy.and_then(|p| p.ack_events.as_deref()).unwrap_or(&self.ack_events),
            ack_suffix: self.ack_suffix.as_deref(),
            echo_events: &self.echo_events,
            echo_to_sender: policy.and_then(|p| p.echo_to_sender).unwrap_or(self.echo_to_sender),
            flush_window_millis: policy.and_then(|p| p.flush_window_millis).unwrap_or(0),
            dialect: policy.and_then(|p| p.dialect).unwrap_or(Dialect::Phoenix),
            hooks: policy.map_or(&[], |p| &*p.hooks),
        }
    }
}

/// A policy of one configuration: one of its overrides, or the values without any. It means nothing in another
/// configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRef(u32);

impl PolicyRef {
    /// Its place among the overrides, of which there are so many; as many as there are for the values without any.
    pub(crate) fn place(self, overrides: usize) -> usize {
        (self.0 as usize).min(overrides)
    }
}

/// The policy of one room, after overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomPolicy<'a> {
    /// Most members on this node.
    pub max_members: u32,
    /// What a join of the full room gets.
    pub on_full: OnFull,
    /// Which clients may publish.
    pub publish: Publish,
    /// Events that may be published; none is every event that is not reserved.
    pub events: Option<&'a [String]>,
    /// Events answered `ok` after they were broadcast.
    pub ack_events: &'a [String],
    /// Suffix that asks for an `ok`.
    pub ack_suffix: Option<&'a str>,
    /// Events answered with their payload and not broadcast.
    pub echo_events: &'a [String],
    /// Whether the sender receives its own broadcast.
    pub echo_to_sender: bool,
    /// Time within which broadcasts leave together, in milliseconds; 0 is at once.
    pub flush_window_millis: u16,
    /// What members speak.
    pub dialect: Dialect,
    /// What the backend is asked about.
    pub hooks: &'a [Hook],
}

/// Overrides for the topics that match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// The topics that it is for.
    pub topics: TopicPattern,
    /// Overrides [`Rooms::max_members`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_members: Option<u32>,
    /// Which clients may publish; members unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Overrides [`Rooms::events`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Overrides [`Rooms::ack_events`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_events: Option<Vec<String>>,
    /// Overrides [`Rooms::echo_to_sender`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_to_sender: Option<bool>,
    /// Collects what is said in such a room within this time, in milliseconds, to send it in one write per member;
    /// adds as much to the latency. None unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_window_millis: Option<u16>,
    /// What members speak; Phoenix unless said otherwise. Nodes older than the key refuse a file that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// What the backend of the file's `hooks` is asked about; nothing unless said. Nodes older than the key refuse a file that
    /// has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

impl Policy {
    /// The policy for these topics that overrides nothing.
    #[must_use]
    pub const fn of(topics: TopicPattern) -> Self {
        Policy {
            topics,
            max_members: None,
            publish: None,
            events: None,
            ack_events: None,
            echo_to_sender: None,
            flush_window_millis: None,
            dialect: None,
            hooks: Vec::new(),
        }
    }
}

/// A topic, or a prefix followed by `*`. `*` alone is every topic that nodes share ([`TopicKind::Shared`]): no pattern
/// matches the others, which are `phoenix` and everything that starts with `$`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicPattern(pub String);

impl TopicPattern {
    /// Whether the pattern matches a topic.
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        let text = topic.as_str();
        topic.kind() == TopicKind::Shared
            && match self.0.strip_suffix('*') {
                Some(prefix) => text.starts_with(prefix),
                None => text == self.0,
            }
    }
}

/// What a join of a full room gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// An error reply; the connection goes on.
    Reject,
}

/// Which clients may publish into a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Publish {
    /// Every member.
    Members,
    /// No client.
    Nobody,
}

/// What the members of a room speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// Phoenix Channels: an event is broadcast under its own name.
    Phoenix,
    /// Supabase's Realtime: users' events are inside of events `broadcast`, and each member says when it joins whether
    /// it hears its own and wants them acknowledged.
    Realtime,
}
