//! What the shard of an HTTP connection and the shard of a session say to each other.

use super::token::SessionRef;
use crate::session::id::ConnId;

/// The request that an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The shard of the HTTP connection.
    pub shard: u8,
    /// The HTTP connection, which may end before the answer comes.
    pub connection: ConnId,
    /// Which of its requests this is. An answer to another one is dropped.
    pub number: u32,
}

/// Something for a session, from the shard of an HTTP connection.
#[derive(Debug)]
pub struct Ask {
    /// The request, to which the answer goes.
    pub from: Asker,
    /// The session.
    pub session: ConnId,
    /// What it is about.
    pub what: What,
}

/// What a session is asked or told.
#[derive(Debug)]
pub enum What {
    /// The client waits for messages.
    Poll,
    /// The client says something: frames of a WebSocket client, all of them whole.
    Post(Vec<u8>),
    /// The connection of a poll that waits has ended. Nothing is answered.
    Abandoned,
    /// An answer with messages could not be sent, so its messages are lost. Nothing is answered.
    Unsent,
}

impl Ask {
    /// Bytes of it that wait in a mailbox.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + if let What::Post(frames) = &self.what { frames.capacity() } else { 0 }
    }
}

/// The answer of a session to one request.
#[derive(Debug)]
pub struct Answer {
    /// The request.
    pub to: Asker,
    /// The session that was asked.
    pub session: SessionRef,
    /// What became of the request.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These messages, as a JSON list, end a poll.
    Messages(Vec<u8>),
    /// A poll has ended without messages.
    Nothing,
    /// The messages of a post are handled.
    Taken,
    /// The messages of a post could not all be handled in time.
    NotTaken,
    /// The client missed the messages of an answer before, so its session ends.
    Missed,
    /// There is no such session, or none any more.
    Gone,
}

impl Answer {
    /// Bytes of it that wait in a mailbox.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + if let Outcome::Messages(json) = &self.outcome { json.capacity() } else { 0 }
    }
}
