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
    proxy::Proxies,
    topic::{TopicKind, TopicName},
    ws::host::Names,
};

mod check;
mod file;
mod hooks;
mod limits;
mod nearest;
mod rooms;
#[cfg(test)]
mod tests;

pub use hooks::{Hook, Hooks, OnFailure};
pub use limits::Limits;
pub use nearest::nearest;
pub use rooms::{Dialect, OnFull, Policy, PolicyRef, Publish, RoomPolicy, Rooms, TopicPattern};

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
    /// Which proxies stand before the node.
    pub proxies: Proxies,
    /// Which clients may connect.
    pub auth: Auth,
    /// How the node leaves.
    pub drain: DrainSettings,
    /// Serve the live chat page at `/` and the topic [`crate::topic::CLUSTER`].
    pub chat_page: bool,
    /// Serve long-poll at `<path>/longpoll`, beside WebSocket.
    pub long_poll: bool,
    /// Compress messages to clients that ask for it, and take compressed ones of theirs (permessage-deflate, RFC 7692); none
    /// declines. Connections that agreed on it before a change of this go on, without compressed messages to them where it
    /// is none.
    pub compression: Option<Compression>,
    /// The backend that policies with `hooks` ask.
    pub hooks: Option<Hooks>,
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
    /// The configuration of `channel-node --dev` as far as a file could say it: anonymous, alone, with the chat page. In
    /// `room:*` an `echo` is answered with its payload, `x_ack` is broadcast as `x` and acknowledged, any other event is
    /// broadcast to all members. In `realtime:*` members speak Supabase's Realtime.
    pub fn dev() -> Self {
        NodeConfig {
            fixed: Fixed {
                cluster: ClusterId { namespace: "dev".to_owned(), name: "dev".to_owned() },
                ..Fixed::default()
            },
            rooms: Rooms {
                topics: ["room:*", "realtime:*"].map(|topics| TopicPattern(topics.to_owned())).to_vec(),
                max_members: DEV_ROOM_MEMBERS,
                echo_events: vec!["echo".to_owned()],
                ack_suffix: Some("_ack".to_owned()),
                policies: vec![Policy {
                    dialect: Some(Dialect::Realtime),
                    ..Policy::of(TopicPattern("realtime:*".to_owned()))
                }],
                ..Rooms::default()
            },
            auth: Auth { anonymous: true, ..Auth::default() },
            drain: DrainSettings { delay_millis: 0, ..DrainSettings::default() },
            limits: Limits::default(),
            proxies: Proxies::default(),
            chat_page: true,
            long_poll: true,
            compression: None,
            hooks: None,
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

/// How messages to clients are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compression {
    /// Level of DEFLATE: 1 is the fastest, 9 leaves least.
    pub level: u8,
    /// Least length of a message that is compressed; bytes.
    pub min_bytes: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { level: keys::COMPRESSION_LEVEL.usual, min_bytes: keys::COMPRESSION_MIN_BYTES.usual }
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
    /// How long before the end of its token a client is told, in milliseconds; none is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_warning_millis: Option<u64>,
    /// What ends with a token.
    #[serde(skip_serializing_if = "OnExpiry::is_usual")]
    pub on_expiry: OnExpiry,
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

/// What ends with a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExpiry {
    /// The connection, with a code by which clients come again.
    #[default]
    Close,
    /// Its channels, so that clients join again, with another token in the join; until then the connection has no rights.
    EndChannels,
}

impl OnExpiry {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Auth {
    /// Whether any issuer says how important its clients are.
    pub fn ranks_clients(&self) -> bool {
        self.jwt.iter().any(|jwt| jwt.priority_claim.is_some())
    }

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
