//! From which lengths on the parts of a message have to be looked at.
//!
//! Each is 80 percent of a limit of the configuration, so that one comparison tells of nearly every message that it is
//! neither beyond the limit nor near it.

use crate::{config::Limits, counters::near, limits::MAX_JSON_DEPTH};

/// The reason that the client is told whose event has a longer name than one may have.
pub(super) const EVENT_TOO_LONG: &str = "event name too long";

/// Bytes that each level of arrays and objects takes at least: its brackets.
const LEVEL_BYTES: usize = 2;

/// Lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Of a message.
    pub(super) frame: usize,
    /// Of the head of a request.
    pub(super) head: usize,
    /// Of the topic of a join.
    pub(super) topic: usize,
    /// Of the name of a published event.
    pub(super) event: usize,
    /// Of a published payload, which may be too long or nested too deep from there on.
    pub(super) payload: usize,
}

impl Bounds {
    pub(super) fn of(limits: &Limits) -> Self {
        let near = |most: u32| near(most.into()) as usize;
        let long = if limits.max_payload_bytes == 0 { usize::MAX } else { near(limits.max_payload_bytes) };
        let deep = if counts_levels(limits) { near(limits.max_json_depth) * LEVEL_BYTES } else { usize::MAX };
        Self {
            frame: near(limits.max_frame_bytes),
            head: near(limits.max_request_head_bytes),
            topic: near(limits.max_topic_bytes),
            event: near(limits.max_event_bytes),
            payload: long.min(deep),
        }
    }
}

/// Whether the levels of payloads have to be counted. Nothing deeper than [`MAX_JSON_DEPTH`] is read, so at that limit a
/// payload need not be gone over once more.
pub(super) const fn counts_levels(limits: &Limits) -> bool {
    (limits.max_json_depth as usize) < MAX_JSON_DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_looked_at_only_where_a_limit_asks_for_it() {
        let payload = |max_payload_bytes, max_json_depth| {
            Bounds::of(&Limits { max_payload_bytes, max_json_depth, ..Limits::default() }).payload
        };
        let usual = Limits::default().max_json_depth;
        assert_eq!(payload(0, usual), usize::MAX);
        assert_eq!(payload(1_000, usual), 800);
        assert_eq!((payload(0, 10), payload(1_000, 10), payload(10, 10)), (16, 16, 8));
    }
}
