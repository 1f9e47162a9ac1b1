//! What a topic is: the one notion that joins, publishes and the bus share.
//!
//! A topic that can be joined can always be carried: its subject on the bus is one non-empty token of letters that NATS
//! clients and servers take. Whoever widens [`is_valid`] has to widen the encoding of subjects with it; a test of the node
//! holds the two together with the rules of the NATS client.

use crate::limits::MAX_TOPIC_BYTES;

/// Whether a text can be a topic at all: not empty, and short enough for a binary frame. An empty token is no subject of
/// NATS, and nobody means it.
#[must_use]
pub const fn is_valid(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_TOPIC_BYTES
}

/// Whether a topic is served by each node itself and never leaves it.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_1_to_255_bytes() {
        assert!(!is_valid("") && is_valid("a") && is_valid(&"x".repeat(MAX_TOPIC_BYTES)));
        assert!(!is_valid(&"x".repeat(MAX_TOPIC_BYTES + 1)));
        assert!(is_reserved("$cluster") && !is_reserved("room:$"));
    }
}
