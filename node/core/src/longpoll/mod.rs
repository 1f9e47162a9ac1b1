//! Long-poll, the transport of Phoenix clients that cannot keep a WebSocket (phoenix/lib/phoenix/transports/long_poll.ex,
//! assets/js/phoenix/longpoll.js).
//!
//! A session is a connection of a shard without a socket. Its output goes into the body of the answer to a GET, and the
//! bodies of POSTs are its input, as frames of a WebSocket client: all rules of connections hold for it as they are. The
//! requests come on HTTP connections of any shard. That shard reads a request, and asks the shard of the session, which
//! answers when it has something to say.
//!
//! This module has what can be said without a shard: tokens, requests, bodies and answers as bytes, and what the two
//! sides remember. The rules are in `node/core/src/shard/asking.rs` for the HTTP connections and in
//! `node/core/src/shard/polled.rs` for the sessions.

pub mod answer;
mod ask;
pub mod body;
pub mod request;
mod table;
pub mod token;

pub use ask::{Answer, Ask, Asker, Outcome, What};
pub(crate) use table::{Asking, Body, Goal, Polls, Since, Step, Waiting};
