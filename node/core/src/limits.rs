//! Limits that are not configuration: each a named constant with its unit and reason. Limits that the manifest's
//! rules use too are in [`keys`].

pub use keys::{BURST_SECONDS, MAX_EVENT_BYTES, MAX_JSON_DEPTH, MAX_TOPIC_BYTES};

/// Most headers of a request: twice what Phoenix's default server takes.
pub const MAX_HEADERS: usize = 100;
/// Longest `ref` or `join_ref` in bytes of JSON. phoenix.js counts up from `"1"`; the node remembers one per channel.
pub const MAX_REF_BYTES: usize = 64;
/// Most sockets of a shard whose handshake is not done; further ones are dropped on accept.
pub const MAX_HANDSHAKING: u64 = 16_384;
/// Bytes of incomplete request heads that a shard keeps; a connection that adds more is refused. An honest head comes
/// whole in one read and is never kept, so this bounds what half-open connections cost together, and shuts out no other
/// connection.
pub const MAX_HEADS_BYTES: usize = 4 * 1024 * 1024;
/// Memory in bytes that incomplete WebSocket frames and messages of a shard take; a connection that adds more is
/// closed. Small messages mostly come whole and take nothing. It fits 500 to 1,000 of 64 KiB, the default limit, under
/// way at once, and one of 16 MiB, the longest limit: buffers that grow may take twice what is in them.
pub const MAX_INCOMPLETE_BYTES: usize = 64 * 1024 * 1024;
/// Longest message in bytes that is compressed: it takes a shard 5 to 10 ms, and longer ones, which no default lets clients
/// send, would keep its other connections waiting.
pub const MAX_DEFLATED_BYTES: usize = 1024 * 1024;
/// From so many frames on that are queued to sockets which may take them, a shard takes no more than one publish per
/// turn from its clients, and one for each other shard and the bus. It is a hundred frames for each of 2,500
/// connections, or five for each of 50,000: enough for full writes, and written in 50 to 300 milliseconds.
pub const BACKLOG_FRAMES: u64 = 262_144;
/// Connections that a shard writes per turn: about 5 ms of system calls.
pub const FLUSHES_PER_TURN: usize = 1_024;
/// From so many members of a room on a shard on, its broadcasts give way to those of smaller rooms.
pub const BULK_MEMBERS: usize = 1_024;
/// Bytes read at once from a connection while many frames wait or memory is short, so that little is kept when the
/// read pauses.
pub const SMALL_READ_BYTES: usize = 4 * 1024;
/// Most connections of a shard with long-poll requests. Each session has one that waits and one for what the client says;
/// the bound keeps clients that ask and never listen from taking all descriptors.
pub const MAX_POLLING: u64 = 65_536;
/// Longest time in milliseconds that a poll waits for messages, and a post for its messages to be handled: as in Phoenix.
/// phoenix.js gives a request up after 20 s.
pub const POLL_WINDOW_MILLIS: u64 = 10_000;
/// A session ends when its client does not poll for so long, in milliseconds: 1.5 windows, as in Phoenix.
pub const SESSION_LIFETIME_MILLIS: u64 = 15_000;
/// Most clients of a shard that wait for answers of a backend. With answers after 10 ms these are 400,000 questions per second.
pub const HOOKS_WAITING: usize = 4_096;
/// Most bytes of what they sent. Beyond either bound a client is refused, whatever counts without an answer of the backend.
pub const HOOK_BYTES: u64 = 8 << 20;
/// Most requests of a shard that wait for sessions of other nodes. A session has one that waits for messages and at times
/// another that says something; of two nodes without stickiness half of the requests are carried, of many nearly all.
pub const MAX_CARRIED: usize = 16_384;
/// Longest time in milliseconds that a request waits for a session of another node: the time that the session itself takes
/// at most, and two seconds for the way there and back.
pub const CARRIED_MILLIS: u64 = 12_000;
/// Time in milliseconds after which a node no longer expects to hear whether an answer came to another node: many times what
/// that takes on a bus that works.
pub const CONFIRM_MILLIS: u64 = 2_000;
/// A request of another node that was on its way for longer, in milliseconds, is not served: its client may have been told
/// already that it failed. The bus counts as lost after as long.
pub const CARRIED_AGE_MILLIS: u64 = 3_000;
/// Most lines of a post that are messages; further ones are ignored, as in Phoenix. phoenix.js sends no more.
pub const MAX_POST_LINES: usize = 100;
/// Longest body of a post in bytes, as in Phoenix.
pub const MAX_POST_BYTES: usize = 8_000_000;
/// Length in bytes from which on the answer to a poll takes no further messages; they come with the next poll.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Time in milliseconds that a peer has to answer a close frame, or to read a refusal. After a polite goodbye the
/// peer's messages within this time are still taken.
pub const CLOSE_TIMEOUT_MILLIS: u64 = 2_000;
/// Silence in milliseconds after which a bus counts as lost. It is asked each second, so two answers and a little
/// more have not come; a garbage collection or a busy machine takes less.
pub const BUS_SILENCE_MILLIS: u64 = 3_000;
/// A message of the bus that was on its way for so long, in milliseconds, is late. A healthy bus takes some
/// milliseconds; a message that takes longer than this has waited somewhere and comes in a burst.
pub const BUS_LATE_MILLIS: u64 = 1_000;
/// Most shards of a node: one bit each in a room's mask. There may be far more than one per core for the sake of
/// descriptor tables: where the limit of open files is 20,000, so many hold 2.4 million connections.
pub const MAX_SHARDS: u8 = 128;
/// Most connections of a shard that are closed per tick because their tokens ended: tokens that were given out in the
/// same second, after a restart of the issuer say, end in the same second too. It takes the shard about 5 ms.
pub const EXPIRIES_PER_TICK: usize = 1_024;
/// Most connections of a shard whose channels are ended per tick for the same reason, where that is asked for: each may
/// have a hundred of them, and leaving a room takes about a microsecond.
pub const ENDINGS_PER_TICK: usize = 128;
/// The highest age of a connection that a shard tells from higher ones, in milliseconds: two hours. Nobody can ask that only
/// connections of a higher age are moved.
pub const MAX_AGE_MILLIS: u64 = 7_200_000;
/// Longest name of an operation that moves clients, in bytes: the node remembers some of them.
pub const MAX_OPERATION_BYTES: usize = 64;
/// Shortest time in milliseconds for which a node goes on moving clients when nobody asks again: a request that is sent each
/// second keeps it going.
pub const MIN_LEASE_MILLIS: u64 = 1_000;
/// Longest such time, 10 minutes: a node that moves clients is not ready, and an operator that died does not say that it may
/// be again.
pub const MAX_LEASE_MILLIS: u64 = 600_000;
/// Connections that a shard looks at per tick of [`TICK_MILLIS`] while it moves clients, and memberships of these: about 1.5 ms
/// where none is in a cache.
pub const MOVE_LOOKS_PER_TICK: usize = 8_192;
/// Connections of a shard that are closed per tick of [`TICK_MILLIS`] to move their clients, whatever the pace.
pub const MOVES_PER_TICK: u64 = 1_024;
/// A room of a shard with up to so many members may lose all of them to other nodes in one operation. Of a larger one a quarter
/// stays.
pub const SMALL_ROOM: u64 = 8;
/// Time between the core's timer calls in milliseconds.
pub const TICK_MILLIS: u64 = 50;
/// Unit of the coarse clock kept per connection, in milliseconds.
pub const STAMP_MILLIS: u64 = 250;
/// The sweep goes over all connections in so many parts, one part per [`STAMP_MILLIS`], so deadlines are met within a
/// second.
pub const SWEEP_PARTS: usize = 4;

/// A stamp is 16 bits; the longest configurable timeout, one hour, must fit half of its range to be told from the past.
const _: () = assert!(3_600_000 / STAMP_MILLIS < (u16::MAX / 2) as u64);
/// The time of the session is a part of that which its asker waits.
const _: () = assert!(
    CARRIED_MILLIS == POLL_WINDOW_MILLIS + CONFIRM_MILLIS && CARRIED_AGE_MILLIS == BUS_SILENCE_MILLIS
);
