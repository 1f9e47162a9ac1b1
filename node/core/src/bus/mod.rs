//! What a node does about the bus, without the bus itself: the commands of shards ([`Command`]), the commands that
//! wait for its queue ([`backlog::Backlog`]), and the topics that it subscribes to ([`topics::Topics`]).

use crate::{
    broadcast::{Broadcast, NodeTag},
    longpoll::Carried,
    route::Topic,
};

pub mod backlog;
pub mod topics;

/// A command of a shard to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The shard has got its first member of a topic, or lost its last. The registry knows whether the node wants the
    /// topic now ([`crate::route::Registry::shards`]).
    Interest {
        /// The topic.
        topic: Topic,
    },
    /// A client of this node published.
    Publish {
        /// The topic.
        topic: Topic,
        /// The broadcast.
        broadcast: Broadcast,
    },
    /// A long-poll request for another node, or an answer.
    Carry(Box<Carried>),
    /// A question or an answer of the server API.
    Post(Box<Letter>),
    /// Publishes of this node that the queue could not take: they use up sequence numbers, so that receivers see a gap.
    Skipped {
        /// The topic.
        topic: Topic,
        /// How many, at least 1.
        count: u64,
    },
}

/// To whom a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A question to all other nodes.
    All,
    /// A question to one.
    Node(NodeTag),
    /// An answer to the one that asked.
    Asker(NodeTag),
}

/// Longest question or answer in bytes: every NATS takes as much, with what is around it.
pub const LETTER_BYTES: usize = 900 << 10;

/// Something that the server API of one node writes to that of others ([`crate::api::call`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: To,
    /// What.
    pub bytes: Vec<u8>,
}

impl Command {
    /// Bytes of the broadcast, or of what is carried; none for the other commands.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publish { broadcast, .. } => broadcast.len(),
            Self::Carry(carried) => carried.bytes(),
            Self::Post(letter) => letter.bytes.len(),
            Self::Interest { .. } | Self::Skipped { .. } => 0,
        }
    }
}
