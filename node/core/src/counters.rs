//! The counters of a shard, as plain integers.
//!
//! The shard that owns a [`Counters`] adds to it without any atomic operation; the thread copies it once per turn
//! into shared memory, where a scrape sums the shards. Reasons are enums with a fixed set of labels, so that no
//! label value ever comes from a client.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ledger::{Held, Kind};

/// Declares an enum of reasons with its label for metrics and logs.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the label `reason` in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

mod near;

pub use near::{Limit, near};

reasons! {
    /// Why an established WebSocket ended.
    CloseReason {
        /// The client sent a close frame.
        Peer => "peer",
        /// The connection ended without a close frame (EOF or reset).
        Lost => "lost",
        /// A frame broke RFC 6455 (1002).
        Protocol => "protocol_error",
        /// A text frame was not UTF-8 (1007).
        Utf8 => "invalid_utf8",
        /// A compressed message could not be inflated (1007).
        Deflate => "invalid_deflate",
        /// A message was longer than the limit (1009).
        TooBig => "too_big",
        /// A message was no Phoenix message (1011).
        Malformed => "malformed",
        /// The shard kept as many bytes of incomplete messages as it may (1013).
        Full => "full",
        /// The node's memory was nearly used up, and this connection held most of it and took least (4008, or 1013
        /// when it was input).
        Memory => "memory",
        /// No data for the idle timeout (1002, as Bandit does).
        Idle => "idle_timeout",
        /// The client read more slowly than its rooms spoke and the send queue was full.
        SlowConsumer => "slow_consumer",
        /// The node drained or shut down (1012).
        Drain => "drain",
        /// The node moved its client to another node (1012).
        Moved => "moved",
        /// So much was sealed with the key of its TLS connection that the client is to come with a new one (1012).
        Worn => "tls_key_worn",
        /// Its token ended, or the one that was to take its place was refused (4001).
        Token => "token",
        /// The server API was asked to close it, with a code of the backend's choice.
        Server => "server_api",
    }
}

reasons! {
    /// Why a connection was refused before it became a WebSocket.
    RefuseReason {
        /// The request could not be read as HTTP/1.1 or lacked something that RFC 6455 section 4.2.1 wants (400).
        BadRequest => "bad_request",
        /// A method other than GET or HEAD (400 for the paths of Phoenix's transports as Phoenix does, 405 elsewhere).
        Method => "method",
        /// A path that the node does not serve (404), or a post that names no session (status 410).
        NotFound => "not_found",
        /// A `vsn` that no serializer has (403).
        Version => "version",
        /// An origin that is neither the host's own nor listed (403).
        Origin => "origin",
        /// Subprotocols without `phoenix` among them, or a token that is no base64 of a text (403).
        Subprotocol => "subprotocol",
        /// Dev mode: the client asked for it by the parameter `refuse` (403).
        Asked => "asked",
        /// A host that this node does not serve (421).
        Host => "host",
        /// Request head longer than the limit (431).
        HeaderTooLarge => "header_too_large",
        /// The request head did not arrive in time (408).
        Timeout => "timeout",
        /// Something else than TLS 1.3 where the node speaks that, or a handshake of TLS that failed.
        Tls => "tls",
        /// The client went away before the handshake was done.
        Lost => "lost",
        /// The node holds as many connections as it may (503).
        Full => "full",
        /// The client's address has as many connections as it may (429, or dropped while many read that).
        AddressFull => "address_full",
        /// The node takes as many connections per second as it may (503, or dropped while many read that).
        Rate => "rate",
        /// The client's address connects as often as it may (429, or dropped while many read that).
        AddressRate => "address_rate",
        /// It has no good header of the PROXY protocol, or is no proxy that may send one (dropped).
        ProxyHeader => "proxy_header",
        /// The node's memory is nearly used up (503).
        Memory => "memory",
        /// The same when only clients of low priority are refused for it (503).
        MemoryLow => "memory_low_priority",
        /// The node is draining (503).
        Draining => "draining",
        /// It has no token where one is needed (403).
        NoToken => "no_token",
        /// It has a token that is not valid here (403).
        Token => "token",
        /// It has a token whose time is over (403).
        TokenExpired => "token_expired",
        /// It has a token whose key is not known yet: the keys of its issuer could not be fetched (503).
        NoKeys => "no_keys",
        /// It names a long-poll session of another node, and the bus is away (503).
        Bus => "bus",
    }
}

reasons! {
    /// Why a join was refused with a reply.
    JoinRefusal {
        /// No policy serves this topic.
        Unmatched => "unmatched_topic",
        /// The token of the connection, or having none, does not allow the topic, or dev mode refuses it.
        Unauthorized => "unauthorized",
        /// The token of the connection has ended, and the join brought no other.
        TokenExpired => "token_expired",
        /// The room holds as many members as it may.
        RoomFull => "room_full",
        /// The connection joined as many channels as it may.
        TooManyChannels => "too_many_channels",
        /// The room has no member on the node, which has as many other rooms as it may.
        TooManyRooms => "too_many_rooms",
        /// The node's memory is nearly used up.
        Memory => "memory",
        /// The topic is longer than one may be.
        TopicTooLong => "topic_too_long",
        /// The connection joins as often as it may.
        Rate => "rate",
        /// The client's address joins as often as it may.
        AddressRate => "address_rate",
        /// The backend said no.
        Hook => "hook",
        /// The backend gave no usable answer in time.
        HookFailed => "hook_failed",
    }
}

/// How a figure of [`Counters`] appears among the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As a value that goes up and down.
    Gauge,
    /// As a sum that only rises.
    Counter,
    /// Not by itself: other metrics are made of it.
    Indirectly,
}

/// Declares the scalar counters, with what a scrape says of them, and the operations that must not forget one.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $shown:ident $help:literal,)+) => {
        /// Cumulative counters and current gauges of one shard, or their sum over shards.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
            /// Ended WebSockets, indexed by [`CloseReason`].
            pub closed: [u64; CloseReason::COUNT],
            /// Refused connections, indexed by [`RefuseReason`].
            pub refused: [u64; RefuseReason::COUNT],
            /// Refused joins, indexed by [`JoinRefusal`].
            pub joins_refused: [u64; JoinRefusal::COUNT],
            /// How often a limit was nearly reached, indexed by [`Limit`].
            pub near: [u64; Limit::COUNT],
            /// Gauge: memory that clients make the shard hold, in bytes, indexed by [`Kind`].
            pub memory: Held,
        }

        impl Counters {
            /// Number of 64-bit words in [`Counters::words`].
            pub const WORDS: usize = [$(stringify!($name),)+].len()
                + CloseReason::COUNT + RefuseReason::COUNT + JoinRefusal::COUNT + Limit::COUNT + Kind::COUNT;

            /// Name, kind and help of the metric of each scalar, in the order of [`Counters::scalars`].
            pub const METRICS: [(&'static str, Shown, &'static str); [$(stringify!($name),)+].len()] =
                [$((stringify!($name), Shown::$shown, $help),)+];

            /// All zero.
            pub const ZERO: Self = Self {
                $($name: 0,)+
                closed: [0; CloseReason::COUNT],
                refused: [0; RefuseReason::COUNT],
                joins_refused: [0; JoinRefusal::COUNT],
                near: [0; Limit::COUNT],
                memory: [0; Kind::COUNT],
            };

            /// The values that are one number each, in order.
            #[must_use]
            pub const fn scalars(&self) -> [u64; Self::METRICS.len()] {
                [$(self.$name,)+]
            }

            /// Every value in a fixed order, to be copied elsewhere and read back by [`Counters::from_words`].
            #[must_use]
            pub fn words(&self) -> [u64; Self::WORDS] {
                let mut words = [0; Self::WORDS];
                let scalars = self.scalars();
                let all = scalars.iter().chain(&self.closed).chain(&self.refused).chain(&self.joins_refused).chain(&self.near).chain(&self.memory);
                for (word, value) in words.iter_mut().zip(all) {
                    *word = *value;
                }
                words
            }

            /// The inverse of [`Counters::words`].
            #[must_use]
            pub fn from_words(words: &[u64; Self::WORDS]) -> Self {
                let mut from = words.iter().copied();
                let mut next = || from.next().unwrap_or(0);
                Self {
                    $($name: next(),)+
                    closed: std::array::from_fn(|_| next()),
                    refused: std::array::from_fn(|_| next()),
                    joins_refused: std::array::from_fn(|_| next()),
                    near: std::array::from_fn(|_| next()),
                    memory: std::array::from_fn(|_| next()),
                }
            }
        }
    };
}

counters! {
    /// Gauge: established WebSockets and sessions of long-poll.
    connections => Gauge "Open client connections",
    /// Gauge: of the established ones, sessions of long-poll, which have no socket.
    poll_sessions => Gauge "Long-poll sessions, which are among the open client connections",
    /// Gauge: sockets with requests of long-poll.
    polling => Gauge "Sockets with long-poll requests",
    /// Gauge: sockets whose handshake is not done.
    handshaking => Gauge "Accepted sockets whose handshake is not done",
    /// Gauge: rooms with at least one member on this shard. A room on two shards counts in both.
    rooms => Gauge "Rooms with members here",
    /// Gauge: memberships (connection, room).
    memberships => Gauge "Pairs of connection and joined room",
    /// Gauge: bytes queued for sockets and not yet taken by the kernel.
    send_queue_bytes => Gauge "Bytes queued for clients",
    /// Sockets accepted.
    accepted => Counter "Sockets accepted",
    /// WebSocket handshakes completed and sessions of long-poll made.
    opened => Counter "WebSocket handshakes completed and long-poll sessions made",
    /// Accept calls that failed for lack of descriptors or memory.
    accept_errors => Counter "Accepts failed for lack of descriptors or memory",
    /// Requests of long-poll clients for messages or for a session.
    polls => Counter "Long-poll requests for messages or for a session",
    /// Posts of long-poll clients.
    posts => Counter "Long-poll requests with messages",
    /// Requests of long-poll that were handed to the bus for sessions of other nodes.
    carried_out => Counter "Long-poll requests for sessions of other nodes",
    /// Requests of long-poll that came from other nodes for sessions of this shard.
    carried_in => Counter "Long-poll requests of other nodes for sessions here",
    /// Requests of long-poll for sessions of other nodes that ended without an answer because the bus was away or behind.
    carried_unreached => Counter "Long-poll requests that the bus could not carry",
    /// Requests of long-poll for sessions of other nodes that were refused because as many as may wait for these.
    carried_refused => Counter "Long-poll requests for sessions of other nodes beyond those that may wait",
    /// Requests of long-poll for sessions of other nodes that these did not answer in time.
    carried_timeouts => Counter "Long-poll requests that another node did not answer in time",
    /// Requests of long-poll for sessions of nodes that ended meanwhile.
    carried_orphans => Counter "Long-poll requests for sessions of nodes that had ended",
    /// Answers of sessions that another node did not take, and that were given again to the next poll.
    carried_again => Counter "Long-poll answers that were lost on the bus and given again",
    /// Successful joins.
    joins => Counter "Joins accepted",
    /// Messages published by clients of this shard.
    publishes => Counter "Messages published by clients",
    /// Writes: one broadcast-type frame queued to one member.
    writes => Counter "Broadcast frames queued to members, one per frame and member",
    /// Of these, writes of messages that the bus delivered late.
    late_writes => Counter "Writes of messages that the bus delivered late",
    /// Replies and other frames for one client, heartbeats included.
    replies => Counter "Frames for one client, heartbeat answers included",
    /// Heartbeats answered.
    heartbeats => Counter "Heartbeats answered",
    /// Send calls on sockets.
    socket_writes => Counter "Send calls on client sockets",
    /// Send calls that took less than offered.
    short_writes => Counter "Send calls that took less than offered",
    /// Bytes sent on sockets.
    sent_bytes => Counter "Bytes sent to clients",
    /// Messages that were compressed, each once for all members of a room on this shard.
    deflated_messages => Counter "Messages to clients that were compressed, each once for all members of a room on a shard",
    /// Their bytes before.
    deflated_bytes => Counter "Bytes of messages to clients before they were compressed",
    /// Their bytes after.
    deflated_to_bytes => Counter "Bytes of messages to clients after they were compressed",
    /// Compressed messages of clients that were inflated.
    inflated_messages => Counter "Compressed messages of clients that were inflated",
    /// Their bytes before.
    inflated_bytes => Counter "Bytes of compressed messages of clients before they were inflated",
    /// Their bytes after.
    inflated_to_bytes => Counter "Bytes of compressed messages of clients after they were inflated",
    /// Bytes received on sockets.
    received_bytes => Counter "Bytes received from clients",
    /// WebSocket messages received.
    received_messages => Counter "WebSocket messages received",
    /// Messages that were no Phoenix message; those of clients end their connections.
    malformed_messages => Counter "Messages that were no Phoenix message",
    /// Times that a connection was told that it says more than it may, and was read at its pace from then on.
    rate_limited => Counter "Times a connection was told that it says more than it may",
    /// Times that a connection was not read for a while because memory was short: it did not take what it was sent,
    /// or, at the budget, the shard first had to serve messages that it had put off.
    reads_held => Counter "Times a connection was not read for a while for lack of memory",
    /// Publishes that were answered with an error, or with the end of the channel.
    publish_refused => Counter "Publishes answered with an error, or with the end of the channel",
    /// Messages that were answered with an error because their event, their payload or its nesting was beyond a limit.
    beyond_limit => Counter "Messages answered with an error because their event, payload or nesting was beyond a limit",
    /// Questions to the backend.
    hooks_asked => Counter "Questions to the backend",
    /// Questions to the backend to which it said no.
    hooks_denied => Counter "Questions to the backend to which it said no",
    /// Questions to the backend without a usable answer in time.
    hooks_failed => Counter "Questions to the backend without a usable answer in time",
    /// Gauge: clients that wait for an answer of the backend.
    hooks_waiting => Gauge "Clients that wait for an answer of the backend",
    /// Tokens that clients pushed as the event `access_token`, which are never passed on.
    access_tokens => Counter "Tokens pushed by clients, passed on to nobody",
    /// Times that a client was told that its token ends soon.
    token_warnings => Counter "Times a client was told that its token ends soon",
    /// Tokens that ended while their connection was open.
    tokens_expired => Counter "Tokens that ended while their connection was open",
    /// Tokens that were taken without verifying them, because they were verified before.
    token_cache_hits => Counter "Tokens that were verified before",
    /// Tokens that were looked at as a whole, whatever came of it.
    token_cache_misses => Counter "Tokens that had to be verified, good or not",
    /// Broadcasts that a member could not take because its serializer cannot carry them (binary to V1).
    unencodable_writes => Counter "Broadcasts that a member's serializer cannot carry",
    /// Messages to the bus dropped because its queue was full.
    bus_queue_dropped => Counter "Messages to the bus lost to a full queue",
    /// Broadcasts received from other shards or nodes.
    remote_received => Counter "Broadcasts from other shards and nodes",
    /// Turns of the loop.
    turns => Counter "Turns of the shards' loops",
    /// Nanoseconds spent parked, waiting for events.
    parked_nanos => Indirectly "utilization_ratio",
    /// Nanoseconds since the shard started.
    wall_nanos => Indirectly "utilization_ratio",
    /// CPU time of the shard's thread in nanoseconds.
    cpu_nanos => Indirectly "shard_cpu_seconds",
}

/// Declares the counters of the bus, with the help text of each in a scrape. Metrics have `bus_` in front of the
/// name.
macro_rules! bus_counters {
    ($($(#[$doc:meta])* $name:ident => $shown:ident $help:literal,)+) => {
        /// The counters of a node's bus.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct BusCounters {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl BusCounters {
            /// Name, kind and help of the metric of each counter, in the order of [`BusCounters::scalars`].
            pub const METRICS: [(&'static str, Shown, &'static str); [$(stringify!($name),)+].len()] =
                [$((concat!("bus_", stringify!($name)), Shown::$shown, $help),)+];

            /// The value of each counter.
            #[must_use]
            pub const fn scalars(&self) -> [u64; Self::METRICS.len()] {
                [$(self.$name,)+]
            }
        }

        /// The same as atomics, while they are counted: the bus has tasks that run beside each other.
        #[derive(Debug, Default)]
        pub struct BusCounts {
            $($(#[$doc])* pub $name: AtomicU64,)+
        }

        impl BusCounts {
            /// The counts until now.
            #[must_use]
            pub fn load(&self) -> BusCounters {
                BusCounters { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
}

bus_counters! {
    /// Gauge: topics subscribed to.
    topics => Gauge "Topics subscribed to on the bus",
    /// Gauge: nodes heard of lately, this one among them; 0 while requests cannot be carried to others.
    nodes => Gauge "Nodes of the fleet that were heard of lately on the bus",
    /// Times the connection was made.
    connects => Counter "Times the bus connection was made",
    /// Messages given to the bus.
    published => Counter "Messages given to the bus",
    /// Messages of other nodes taken from the bus.
    received => Counter "Messages of other nodes",
    /// Messages of other nodes that some members here missed: never arrived, by their sequence numbers, or not taken by
    /// a shard.
    gaps => Counter "Messages of other nodes that never arrived",
    /// Messages of other nodes that were on their way for more than [`crate::limits::BUS_LATE_MILLIS`].
    late => Counter "Messages of other nodes that were on their way for long",
    /// Messages of other nodes dropped because they were older than [`crate::config::Limits::bus_message_age_millis`];
    /// each is a gap too.
    expired => Counter "Messages of other nodes dropped for their age",
    /// Requests of long-poll of other nodes that were on their way for more than [`crate::limits::CARRIED_AGE_MILLIS`], and
    /// were not served.
    carried_late => Counter "Long-poll requests of other nodes that came too late to be served",
    /// Messages received that could not be read, or that no member may be given.
    malformed => Counter "Messages on the bus that could not be read",
    /// Attempts to subscribe to a topic, while connected, that failed: until one succeeds, other nodes' messages of
    /// the topic do not arrive.
    subscribe_failures => Counter "Attempts to subscribe to a topic that failed",
    /// Errors that the server reported: mostly subjects that this node's user may not use.
    server_errors => Counter "Errors that the bus' server told",
    /// Messages that could not be sent: no connection, or the bus too slow.
    dropped_out => Indirectly "bus_dropped",
    /// Messages received that a shard could not take, because its mailbox was full for too long; one per shard.
    dropped_in => Indirectly "bus_dropped",
}

impl Default for Counters {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Counters {
    /// Adds another shard's values.
    pub fn add(&mut self, other: &Self) {
        let mut words = self.words();
        for (word, more) in words.iter_mut().zip(other.words()) {
            *word = word.wrapping_add(more);
        }
        *self = Self::from_words(&words);
    }

    /// Counts one ended WebSocket.
    pub const fn count_closed(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }

    /// Counts one refused connection.
    pub const fn count_refused(&mut self, reason: RefuseReason) {
        self.refused[reason as usize] += 1;
    }

    /// Counts that a limit is nearly reached.
    pub const fn count_near(&mut self, limit: Limit) {
        self.near[limit as usize] += 1;
    }

    /// Counts one refused join.
    pub const fn count_join_refused(&mut self, reason: JoinRefusal) {
        self.joins_refused[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let words: [u64; Counters::WORDS] = std::array::from_fn(|i| i as u64 + 1);
        let counters = Counters::from_words(&words);
        assert_eq!(counters.words(), words);
        assert_eq!(counters.connections, 1);
        assert_eq!(counters.memory[Kind::COUNT - 1], Counters::WORDS as u64);
    }

    #[test]
    fn sum_adds_each_word() {
        let mut sum = Counters::ZERO;
        let mut one = Counters::ZERO;
        one.writes = 3;
        one.count_closed(CloseReason::Idle);
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.writes, sum.closed[CloseReason::Idle as usize]), (6, 2));
    }
}
