//! Long-poll, the transport of Phoenix clients that cannot keep a WebSocket (phoenix/lib/phoenix/transports/long_poll.ex,
//! assets/js/phoenix/longpoll.js).
//!
//! A session is a connection of a shard without a socket. Its output goes into the body of the answer to a GET, and the
//! bodies of POSTs are its input, as frames of a WebSocket client: all rules of connections hold for it as they are. The
//! requests come on HTTP connections of any shard. That shard reads a request, and asks the shard of the session, which
//! answers when it has something to say. When the session is on another node the bus carries what the two shards say to each
//! other.
//!
//! This module has what can be said without a shard: tokens, requests, bodies and answers as bytes, and what the two
//! sides remember. The rules are in `node/core/src/shard/asking.rs` for the HTTP connections and in
//! `node/core/src/shard/polled.rs` for the sessions; `node/core/src/shard/carried.rs` has what is to be done when the two are
//! on different nodes.

pub mod answer;
mod ask;
pub mod body;
pub mod parcel;
pub mod peers;
pub mod request;
mod table;
pub mod token;

pub use ask::{Answer, Ask, Asker, Carried, Outcome, What};
pub(crate) use table::{Asking, Body, Given, Goal, Polls, Since, Step, Waiting};
