//! The node's configuration file: its keys, its defaults and the checks of its values.
//!
//! The operator renders a [`NodeConfig`] into a ConfigMap and the node reads it back, so both depend on this one type.
//! Unknown keys are refused: a misspelt limit that silently keeps its default is worse than a node that does not start.
//! An operator may be newer than the node it writes for, so a key added later is left out while it has its default.
//!
//! There are two groups of keys, by type. The keys of [`Fixed`] are read once, at the start of the process, and the
//! operator hashes them into the pod template. All others are reloadable: a running node picks them up within seconds
//! of the file changing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    auth::{Jwt, Keyring},
    topic::{TopicKind, TopicName},
    ws::host::Names,
};

mod check;
mod file;
mod limits;
#[cfg(test)]
mod tests;

pub use limits::Limits;

/// The configuration format that this code writes and reads.
pub const VERSION: u32 = 1;

/// The whole configuration file of a node. In the file all keys stand side by side, see [`file`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "file::File", into = "file::File")]
pub struct NodeConfig {
    /// The keys that a running node cannot change.
    pub fixed: Fixed,
    /// Which topics may be joined and what happens to events.
    pub rooms: Rooms,
    /// Bounds per frame, connection and node.
    pub limits: Limits,
    /// Which clients may connect.
    pub auth: Auth,
    /// How the node leaves.
    pub drain: DrainSettings,
    /// Serve the live chat page at `/` and the topic [`crate::topic::CLUSTER`].
    pub chat_page: bool,
    /// Serve long-poll at `<path>/longpoll`, beside WebSocket.
    pub long_poll: bool,
}

/// The keys that a running node cannot change. Between two configurations in which they are equal a reload is enough.
/// The operator serializes them to hash them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixed {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// The ChannelCluster that this node belongs to.
    pub cluster: ClusterId,
    /// Mount of the socket: clients connect to `<path>/websocket`.
    pub path: String,
    /// The way to the other nodes; none means that this node is alone.
    pub bus: Option<Bus>,
    /// Sysctls that were asked for, to be compared with what `/proc/sys` shows.
    pub sysctls: BTreeMap<String, String>,
    /// The soft limit of open files that was asked for, to be compared with the limit that the process got.
    pub nofile: Option<u64>,
    /// Whether the rules of dev mode apply (`node/core/src/shard/dev.rs`). No file can say so: it is the flag `--dev`.
    #[serde(skip)]
    pub dev: bool,
}

impl Default for Fixed {
    fn default() -> Self {
        Fixed {
            version: VERSION,
            cluster: ClusterId::default(),
            path: "/socket".to_owned(),
            bus: None,
            sysctls: BTreeMap::new(),
            nofile: None,
            dev: false,
        }
    }
}

impl NodeConfig {
    /// The configuration of `channel-node --dev` as far as a file could say it: anonymous, alone, `room:*` only, with the
    /// chat page. `echo` is answered with its payload, `x_ack` is broadcast as `x` and acknowledged, any other event is
    /// broadcast to all members.
    pub fn dev() -> Self {
        NodeConfig {
            fixed: Fixed {
                cluster: ClusterId { namespace: "dev".to_owned(), name: "dev".to_owned() },
                ..Fixed::default()
            },
            rooms: Rooms {
                topics: vec![TopicPattern("room:*".to_owned())],
                max_members: DEV_ROOM_MEMBERS,
                echo_events: vec!["echo".to_owned()],
                ack_suffix: Some("_ack".to_owned()),
                ..Rooms::default()
            },
            auth: Auth { anonymous: true, ..Auth::default() },
            drain: DrainSettings { delay_millis: 0, ..DrainSettings::default() },
            limits: Limits::default(),
            chat_page: true,
            long_poll: true,
        }
    }

    /// Everything that is wrong with the values, each as a sentence that names the key and a remedy.
    pub fn validate(&self) -> Vec<String> {
        check::all(self)
    }

    /// These values with the fixed keys of `running`: the part of a new file that a running node may take.
    pub fn reload_onto(self, running: &NodeConfig) -> NodeConfig {
        NodeConfig { fixed: running.fixed.clone(), ..self }
    }
}

/// Room cap in dev mode, which has no file that says one.
const DEV_ROOM_MEMBERS: u32 = 100_000;

/// Names the ChannelCluster; part of every bus subject, so two fleets on one NATS never hear each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterId {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name of the ChannelCluster object.
    pub name: String,
}

impl Default for ClusterId {
    fn default() -> Self {
        ClusterId { namespace: "default".to_owned(), name: "default".to_owned() }
    }
}

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
        }
    }
}

/// A policy of one configuration: one of its overrides, or the values without any. It means nothing in another
/// configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRef(u32);

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

/// Which clients may connect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Auth {
    /// Everyone may connect without a token. The file must say it: nobody may by default.
    pub anonymous: bool,
    /// Topics that connections without a token may join; none is every topic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anonymous_topics: Vec<TopicPattern>,
    /// Issuers whose tokens clients may connect with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<Jwt>,
    /// A parameter of the query in which a token may come. It ends in the logs of proxies, so none is taken unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_param: Option<String>,
    /// Origins that may connect, as browsers send them: `https://example.org`, with the port when it is not the
    /// scheme's own; `https://*.example.org` for one label or more; `null`, `file://` or `chrome-extension://ID`; `*`
    /// allows all. Without any, pages of the host that the client addressed may connect.
    pub allowed_origins: Vec<String>,
    /// Hosts that clients may address, without port: names, `*.example.org`, addresses; none is every host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_hosts: Vec<String>,
    /// Which hosts dev mode answers to.
    #[serde(skip)]
    pub names: Names,
    /// The keys of [`Auth::jwt`], which the node reads from their files.
    #[serde(skip)]
    pub keys: Keyring,
}

impl Auth {
    /// Whether a connection without a token may join a topic, as far as this decides it. Topics that each node serves by
    /// itself are for all who may connect.
    pub fn anonymous_may_join(&self, topic: TopicName<'_>) -> bool {
        let is_open = || {
            self.anonymous_topics.is_empty()
                || topic.kind() != TopicKind::Shared
                || self.anonymous_topics.iter().any(|pattern| pattern.matches(topic))
        };
        self.anonymous && is_open()
    }
}

/// How the node leaves: on SIGTERM, and on a drain command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrainSettings {
    /// For so long the node is unready but still accepts, until endpoints have caught up; milliseconds.
    pub delay_millis: u64,
    /// Pace of closing.
    pub connections_per_second: u32,
    /// Longest time from the first close on; at its end the other connections are closed at once. Milliseconds.
    pub deadline_millis: u64,
}

impl Default for DrainSettings {
    fn default() -> Self {
        DrainSettings {
            delay_millis: keys::DRAIN_DELAY_MILLIS.usual,
            connections_per_second: keys::DRAIN_CONNECTIONS_PER_SECOND.usual,
            deadline_millis: keys::DRAIN_DEADLINE_MILLIS.usual,
        }
    }
}

/// The way to the other nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bus {
    /// A NATS server or cluster.
    Nats(Nats),
}

/// How to reach NATS. The password is a secret and comes from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nats {
    /// `nats://host:port`, at least one.
    pub urls: Vec<String>,
    /// User name; none connects without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}
