//! The range and the default of each key of the node's configuration, and the names that belong to the protocol.
//!
//! Each of them stands here once. The node's check and its defaults (`node/core/src/config`), the schema and the
//! rules of the manifest (`crds`), and the tests of the pages read it from here. This crate depends on nothing, so
//! the node and the manifest can share it without knowing each other.

mod key;

pub use key::{Key, Range, Row, Usual};

/// Declares keys, and [`rows`] with all of them.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $key:expr;)+) => {
        $($(#[$doc])* pub const $name: $type = $key;)+

        /// Every key that is a number, with its range and default.
        #[must_use]
        pub fn rows() -> Vec<Row> {
            vec![$($name.row(),)+]
        }
    };
}

/// An hour in milliseconds.
const HOUR: u64 = 3_600_000;

keys! {
    /// Most members of a room on one node. The node's bound is what a 32-bit count and one fan-out turn can carry.
    MAX_MEMBERS: Key<u32> = Key::new("rooms.maxMembers", "members", 1, 10_000_000).usually(1_000).in_manifest(1, 1_000_000);
    /// Time within which the broadcasts of a room leave together.
    FLUSH_WINDOW_MILLIS: Key<u16, ()> = Key::new("rooms.policies[].flushWindowMillis", "milliseconds", 1, 1_000);
    /// Longest message from a client.
    MAX_FRAME_BYTES: Key<u32> = Key::new("limits.maxFrameBytes", "bytes", 1_024, 16 << 20).usually(65_536);
    /// Longest topic that may be joined. The least has place for the topics that nodes serve by themselves.
    TOPIC_BYTES: Key<u32> = Key::new("limits.maxTopicBytes", "bytes", 16, MAX_TOPIC_BYTES as u32).usually(MAX_TOPIC_BYTES as u32);
    /// Longest name of an event that clients may publish. The least has place for the events of the protocol.
    EVENT_BYTES: Key<u32> = Key::new("limits.maxEventBytes", "bytes", 16, MAX_EVENT_BYTES as u32).usually(MAX_EVENT_BYTES as u32);
    /// Longest payload of an event that clients may publish; 0 is no bound but that of the whole message.
    PAYLOAD_BYTES: Key<u32> = Key::new("limits.maxPayloadBytes", "bytes", 0, 16 << 20).usually(0);
    /// Deepest nesting in such a payload. The least is what realtime-js says when it joins.
    JSON_DEPTH: Key<u32> = Key::new("limits.maxJsonDepth", "levels", 4, MAX_JSON_DEPTH as u32).usually(MAX_JSON_DEPTH as u32);
    /// Most topics joined by one connection.
    MAX_CHANNELS: Key<u32> = Key::new("limits.maxChannelsPerConnection", "channels", 1, 10_000).usually(100);
    /// Silence after which a connection is closed. Phoenix clients send a heartbeat each 30 s, so a manifest may not
    /// ask for less than those 30 s and a round trip over a bad network.
    IDLE_TIMEOUT_MILLIS: Key<u64> = Key::new("limits.idleTimeoutMillis", "ms", 1_000, HOUR).usually(60_000).in_manifest(35_000, HOUR);
    /// Silence after which a connection is sent a ping.
    PING_INTERVAL_MILLIS: Key<u64, ()> = Key::new("limits.pingIntervalMillis", "ms", 1_000, HOUR);
    /// Time from accept to the end of the handshake.
    HANDSHAKE_TIMEOUT_MILLIS: Key<u64> = Key::new("limits.handshakeTimeoutMillis", "ms", 100, 60_000).usually(5_000);
    /// Longest head of an HTTP request. Phoenix's default server takes 10,000 bytes for the request line and for each header:
    /// cookies and a token in the query fit here at that length, both at once. A half-open connection may cost as much.
    REQUEST_HEAD_BYTES: Key<u32> = Key::new("limits.maxRequestHeadBytes", "bytes", 4_096, 64 << 10).usually(32 << 10);
    /// Most bytes queued to one connection.
    SEND_QUEUE_BYTES: Key<u32> = Key::new("limits.sendQueueBytes", "bytes", 4_096, 256 << 20).usually(512 << 10);
    /// Most frames queued to one connection.
    SEND_QUEUE_FRAMES: Key<u32> = Key::new("limits.sendQueueFrames", "frames", 1, 65_536).usually(1_024);
    /// Most connections of the node.
    MAX_CONNECTIONS: Key<u32> = Key::new("limits.maxConnections", "connections", 1, 10_000_000).usually(1_000_000);
    /// Most connections of one client address on the node; 0 is no bound. Behind one address may be an office, a school or
    /// the customers of a mobile network, so there is none by default.
    MAX_CONNECTIONS_PER_ADDRESS: Key<u32> = Key::new("limits.maxConnectionsPerAddress", "connections", 0, 10_000_000).usually(0);
    /// Most connects per second that the node takes, after five seconds' worth at once; 0 is no bound. A node that takes all it
    /// can is what clients need that come back after an outage, so there is none by default.
    HANDSHAKES_PER_SECOND: Key<u32> = Key::new("limits.handshakesPerSecond", "connects", 0, 1_000_000).usually(0);
    /// The same of one client address.
    HANDSHAKES_PER_SECOND_PER_ADDRESS: Key<u32> = Key::new("limits.handshakesPerSecondPerAddress", "connects", 0, 1_000_000).usually(0);
    /// Most joins per second of one connection, after five seconds' worth at once; 0 is no bound but that of all messages.
    JOINS_PER_SECOND: Key<u32> = Key::new("limits.joinsPerSecond", "joins", 0, 1_000_000).usually(0);
    /// Most joins per second of the connections of one client address; 0 is no bound.
    JOINS_PER_SECOND_PER_ADDRESS: Key<u32> = Key::new("limits.joinsPerSecondPerAddress", "joins", 0, 1_000_000).usually(0);
    /// Most rooms of the node.
    MAX_ROOMS: Key<u32, ()> = Key::new("limits.maxRooms", "rooms", 1, 10_000_000);
    /// Age from which on messages of other nodes are dropped. The default is the time after which phoenix.js tells
    /// the sender of a push that nobody answered, and applications send again.
    BUS_MESSAGE_AGE_MILLIS: Key<u64> = Key::new("limits.busMessageAgeMillis", "ms", 1_000, HOUR).usually(10_000);
    /// Most memory that clients can make the node hold; with less than the least value a node cannot serve clients.
    MEMORY_BUDGET: Key<u64, ()> = Key::new("limits.memoryBudget", "bytes", 16 << 20, 1 << 50);
    /// Most messages and control frames per second from one connection; 0 is no bound. The default is more than a
    /// person at a keyboard, a cursor, a game at 60 frames per second, or a program that reports a measurement 200
    /// times a second needs. In a room of two it makes 500 deliveries per second, in one of 150 members 37,500.
    MESSAGES_PER_SECOND: Key<u32> = Key::new("limits.messagesPerSecond", "messages", 0, 10_000_000).usually(250);
    /// Most bytes per second from one connection; 0 is no bound, and otherwise [`LEAST_BYTES_PER_SECOND`] is the
    /// least. By default sixteen of the longest messages.
    BYTES_PER_SECOND: Key<u32> = Key::new("limits.bytesPerSecond", "bytes", 0, u32::MAX).usually(1 << 20);
    /// Time for which a leaving node is unready but accepts.
    DRAIN_DELAY_MILLIS: Key<u64> = Key::new("drain.delayMillis", "ms", 0, 300_000).usually(5_000);
    /// Pace at which connections are closed.
    DRAIN_CONNECTIONS_PER_SECOND: Key<u32> = Key::new("drain.connectionsPerSecond", "connections per second", 1, 1_000_000).usually(500);
    /// Longest time from the first close to the last. A manifest bounds it by [`GRACE_MILLIS`] instead.
    DRAIN_DEADLINE_MILLIS: Key<u64> = Key::new("drain.deadlineMillis", "ms", 1_000, 86_400_000).usually(600_000);
    /// Level of DEFLATE as zlib counts them. Of 1 KB of JSON the default leaves 47 % within 8 microseconds; 6, zlib's own,
    /// leaves 46 % within 9, and of 64 KB a tenth less within four times the time.
    COMPRESSION_LEVEL: Key<u8> = Key::new("compression.level", "as zlib counts", 1, 9).usually(2);
    /// Least length of a message that is compressed. Shorter ones of JSON get hardly shorter: of 250 bytes 170 are left, of
    /// 100 all.
    COMPRESSION_MIN_BYTES: Key<u32> = Key::new("compression.minBytes", "bytes", 32, 1 << 20).usually(256);
    /// By how much the clock of an issuer of tokens may differ.
    TOKEN_LEEWAY_MILLIS: Key<u64> = Key::new("auth.jwt[].leewayMillis", "ms", 0, 600_000).usually(10_000);
    /// Longest time between two fetches of the keys of an issuer by their URL. A key that the issuer has taken back is
    /// good for so long.
    TOKEN_KEYS_REFRESH_MILLIS: Key<u64> = Key::new("auth.jwt[].jwks.refreshMillis", "ms", 1_000, 24 * HOUR).usually(300_000).in_manifest(10_000, 24 * HOUR);
    /// Time within which a backend has to answer a question. A client waits meanwhile, whose heartbeats are answered behind it.
    HOOK_TIMEOUT_MILLIS: Key<u64> = Key::new("hooks.timeoutMillis", "ms", 50, 10_000).usually(2_000);
    /// Most questions that a backend has at a time from a node. At 10 ms each the default is 25,600 answers per second.
    HOOKS_IN_FLIGHT: Key<u32> = Key::new("hooks.maxInFlight", "questions", 1, 4_096).usually(256);
    /// How long before the end of its token a client is told.
    EXPIRY_WARNING_MILLIS: Key<u64, ()> = Key::new("auth.expiryWarningMillis", "ms", 1_000, HOUR);
    /// The soft limit of open files. A manifest may ask at most for what a kernel can be set to, and at least for
    /// what a node can serve with.
    NOFILE: Key<u64, ()> = Key::new("nofile", "files", 64, u32::MAX as u64).in_manifest(1_024, 1_073_741_816);
}

/// Most networks of trusted proxies: each accept looks through them.
pub const MAX_TRUSTED_PROXIES: usize = 64;

/// Least bound of the bytes per second: a handful of messages.
pub const LEAST_BYTES_PER_SECOND: u32 = 1_024;
/// A connection may send what its rates allow in so many seconds at once: a client that comes back joins all its
/// topics in one go, whether these are the hundred that it may have by default or ten times as many.
pub const BURST_SECONDS: u64 = 5;
/// Time in seconds that phoenix.js waits for the answer to a join before it leaves and tries again.
pub const JOIN_PATIENCE_SECONDS: u64 = 10;
/// Least time from a ping to the end of a silent connection in milliseconds: a second until it is sent, and a round
/// trip over a bad network with a retransmission.
pub const PING_SLACK_MILLIS: u64 = 5_000;
/// Longest termination grace period of a pod in milliseconds: machines are taken down after an hour whatever a pod
/// says.
pub const GRACE_MILLIS: u64 = HOUR;
/// Part of a node's termination grace period in milliseconds that is left when delay and drain have both taken as
/// long as they may: for closing the rest and for exiting.
pub const GRACE_MARGIN_MILLIS: u64 = 30_000;

/// Most issuers of tokens.
pub const MAX_ISSUERS: usize = 8;
/// Longest name of an issuer, an audience or a claim, in bytes.
pub const MAX_CLAIM_BYTES: usize = 255;
/// Longest URL of an issuer's keys, in bytes.
pub const MAX_URL_BYTES: usize = 512;

/// Longest topic in bytes: what fits the one-byte length field of a binary frame.
pub const MAX_TOPIC_BYTES: usize = 255;
/// Longest event name in bytes, for the same reason.
pub const MAX_EVENT_BYTES: usize = 255;
/// Deepest nesting of arrays and objects in a payload or ref. The strictest of common readers, `serde_json`, takes
/// 127 levels, of which a message takes one and the reply to an echoed event two; Jackson takes 1,000, and the
/// readers of .NET 64 unless told otherwise.
pub const MAX_JSON_DEPTH: usize = 125;
/// Most events of a list, most policies and most patterns of topics: each publish or join looks through them.
pub const LIST_ITEMS: usize = 64;

/// The first character of topics that each node serves by itself.
pub const OWN_TOPIC_PREFIX: char = '$';
/// The topic on which a connection speaks to the server.
pub const PHOENIX_TOPIC: &str = "phoenix";
/// The beginning of the names of events that belong to the channel protocol.
pub const PHOENIX_EVENT_PREFIX: &str = "phx_";
/// The event with a list of everybody who is present.
pub const PRESENCE_STATE: &str = "presence_state";
/// The event that says who came and who left.
pub const PRESENCE_DIFF: &str = "presence_diff";
/// The event by which realtime clients give a new token to the server. No other client gets it.
pub const ACCESS_TOKEN: &str = "access_token";
/// The events that belong to the protocol, beside those that begin with [`PHOENIX_EVENT_PREFIX`].
pub const RESERVED_EVENTS: [&str; 3] = [PRESENCE_STATE, PRESENCE_DIFF, ACCESS_TOKEN];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_and_each_manifest_is_in_the_nodes_range() {
        for row in rows() {
            let within = |value: u64| row.node.least <= value && value <= row.node.most;
            assert!(row.usual.is_none_or(within), "{row:?}");
            assert!(within(row.manifest.least) && within(row.manifest.most), "{row:?}");
            assert!(row.manifest.least < row.manifest.most, "{row:?}");
        }
    }
}
