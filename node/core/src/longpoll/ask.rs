//! What the shard of an HTTP connection and the shard of a session say to each other.

use super::token::Token;
use crate::{broadcast::NodeTag, session::id::ConnId};

/// The request that an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The node of the HTTP connection; none is this one.
    pub node: Option<NodeTag>,
    /// The shard of the HTTP connection.
    pub shard: u8,
    /// The HTTP connection, which may end before the answer comes.
    pub connection: ConnId,
    /// Which of its requests this is. An answer to another one is dropped.
    pub number: u32,
}

/// Something for a session, from the shard of an HTTP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The request, to which the answer goes.
    pub from: Asker,
    /// Names the session. The shard of the HTTP connection has verified it if the session is on the same node.
    pub token: Token,
    /// What it is about.
    pub what: What,
}

/// What a session is asked or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The client waits for messages.
    Poll,
    /// The client says something: frames of a WebSocket client, all of them whole.
    Post(Vec<u8>),
    /// Nobody waits any more for the answer to a poll. Nothing is answered, as to all that follow.
    Abandoned,
    /// An answer with messages could not be sent, so its messages are lost.
    Unsent,
    /// An answer with messages came when nobody waited for it.
    Undelivered,
    /// An answer with messages has come to another node, and its client is sent it.
    Received,
}

impl Ask {
    /// Bytes of it that wait in a mailbox.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + if let What::Post(frames) = &self.what { frames.capacity() } else { 0 }
    }
}

/// The answer of a session to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request.
    pub to: Asker,
    /// Names the session that was asked.
    pub token: Token,
    /// What became of the request.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The node of the session cannot be reached now.
    Away,
}

impl Answer {
    /// Bytes of it that wait in a mailbox.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + if let Outcome::Messages(json) = &self.outcome { json.capacity() } else { 0 }
    }
}

/// What one node says to another about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// Something for a session of the other node.
    Ask(Ask),
    /// What a session of this node answers.
    Answer(Answer),
}

impl Carried {
    /// The node that it is for; none is this one, to which nothing is carried.
    #[must_use]
    pub const fn to(&self) -> Option<NodeTag> {
        match self {
            Self::Ask(ask) => Some(ask.token.node()),
            Self::Answer(answer) => answer.to.node,
        }
    }

    /// Bytes of it that wait in a queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Ask(ask) => ask.bytes(),
            Self::Answer(answer) => answer.bytes(),
        }
    }
}
