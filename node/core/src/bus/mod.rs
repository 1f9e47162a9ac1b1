//! What a node does about the bus, without the bus: what shards tell it ([`Command`]), what waits for its queue
//! ([`backlog::Backlog`]), and which topics it subscribes to ([`topics::Topics`]).

use crate::{broadcast::Broadcast, route::Topic};

pub mod backlog;
pub mod topics;

/// What a shard tells the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The shard has got its first member of a topic, or lost its last. Whether the node wants the topic now, the registry
    /// knows ([`crate::route::Registry::shards`]).
    Interest {
        /// The topic.
        topic: Topic,
    },
    /// A client of this node published.
    Publish {
        /// The topic.
        topic: Topic,
        /// What was said.
        broadcast: Broadcast,
    },
    /// Publishes of this node that the queue could not take: they use up sequence numbers, so that receivers see a gap.
    Skipped {
        /// The topic.
        topic: Topic,
        /// How many, at least 1.
        count: u64,
    },
}

impl Command {
    /// Bytes of what was said; none for the others.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Publish { broadcast, .. } => broadcast.len(),
            Self::Interest { .. } | Self::Skipped { .. } => 0,
        }
    }
}
