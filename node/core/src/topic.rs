//! The definition of a topic, which joins, publishes and the bus share.
//!
//! A text is parsed into a [`TopicName`] where it enters the shard, and all code behind that asks the name for its
//! kind. A topic that can be joined can always be carried: its subject on the bus is one non-empty token of letters
//! that NATS clients and servers take. A change that lets [`TopicName::parse`] take more has to widen the encoding of
//! subjects with it; a test of the node holds the two together with the rules of the NATS client.

use crate::limits::MAX_TOPIC_BYTES;

/// The topic on which a connection speaks to the server: heartbeats, and errors that belong to no channel.
pub const PHOENIX: &str = keys::PHOENIX_TOPIC;

/// The topic that carries the fleet's live figures to the chat page.
pub const CLUSTER: TopicName<'static> = TopicName { text: "$cluster", kind: TopicKind::Own };

/// Which nodes serve a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// Messages go to the members on all nodes, and policies say which clients may join.
    Shared,
    /// Each node serves it by itself, and its messages never leave the node. No pattern of a policy matches it.
    Own,
    /// It is [`PHOENIX`], which belongs to the connection and cannot be joined.
    Connection,
}

/// A text that can be a topic, with its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicName<'a> {
    text: &'a str,
    kind: TopicKind,
}

impl<'a> TopicName<'a> {
    /// Reads a topic. `None` when it is empty, which is no subject of NATS, or longer than [`MAX_TOPIC_BYTES`].
    #[must_use]
    #[inline]
    pub fn parse(text: &'a str) -> Option<Self> {
        let first = *text.as_bytes().first()?;
        if text.len() > MAX_TOPIC_BYTES {
            return None;
        }
        let kind = if first == keys::OWN_TOPIC_PREFIX as u8 {
            TopicKind::Own
        } else if text == PHOENIX {
            TopicKind::Connection
        } else {
            TopicKind::Shared
        };
        Some(Self { text, kind })
    }

    /// Makes a name of a text whose kind [`TopicName::parse`] found before.
    #[must_use]
    pub const fn again(text: &'a str, kind: TopicKind) -> Self {
        Self { text, kind }
    }

    /// The topic as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// Which nodes serve it.
    #[must_use]
    pub const fn kind(self) -> TopicKind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_1_to_255_bytes() {
        let longest = "x".repeat(MAX_TOPIC_BYTES);
        assert_eq!(TopicName::parse(&longest).map(TopicName::as_str), Some(&*longest));
        assert_eq!(TopicName::parse(""), None);
        assert_eq!(TopicName::parse(&"x".repeat(MAX_TOPIC_BYTES + 1)), None);
    }

    #[test]
    fn the_kind_of_a_topic_is_in_its_name() {
        use TopicKind::{Connection, Own, Shared};
        for (text, kind) in [
            ("$cluster", Own),
            ("$", Own),
            ("phoenix", Connection),
            ("phoenix:1", Shared),
            ("phoeni", Shared),
            ("room:$", Shared),
            ("a", Shared),
        ] {
            assert_eq!(TopicName::parse(text).map(TopicName::kind), Some(kind), "{text}");
        }
        assert_eq!(TopicName::parse(CLUSTER.as_str()), Some(CLUSTER));
    }
}
