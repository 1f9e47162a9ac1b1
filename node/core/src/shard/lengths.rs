//! What becomes of messages whose parts are longer, or nested deeper, than the configuration allows, or nearly so.

use super::{
    bounds::{EVENT_TOO_LONG, counts_levels},
    state::Shard,
};
use crate::{
    counters::{Limit, near},
    protocol::{self, Message, Payload},
    session::id::Slot,
};

const PAYLOAD_TOO_LARGE: &str = "payload too large";
const NESTED_TOO_DEEPLY: &str = "payload nested too deeply";

impl Shard {
    /// Counts a message that is nearly as long as one may be.
    #[inline]
    pub(super) fn look_at_length(&mut self, bytes: usize) {
        if bytes >= self.bounds.frame {
            self.counters.count_near(Limit::Frame);
        }
    }

    /// Counts a request whose head is nearly as long as one may be.
    #[inline]
    pub(super) fn look_at_head(&mut self, bytes: usize) {
        if bytes >= self.bounds.head {
            self.counters.count_near(Limit::RequestHead);
        }
    }

    /// Whether the topic of a join is longer than one may be. One that is nearly as long is counted.
    #[inline]
    pub(super) fn is_topic_too_long(&mut self, topic: &str) -> bool {
        topic.len() >= self.bounds.topic && self.look_at_topic(topic.len())
    }

    #[cold]
    fn look_at_topic(&mut self, bytes: usize) -> bool {
        let is_too_long = bytes > self.config.limits.max_topic_bytes as usize;
        if !is_too_long {
            self.counters.count_near(Limit::Topic);
        }
        is_too_long
    }

    /// Why a published event is beyond a limit, if it is. One that is near a limit is counted.
    #[inline]
    pub(super) fn beyond_bounds(&mut self, event: &str, payload: Payload<'_>) -> Option<&'static str> {
        if event.len() < self.bounds.event && payload.bytes() < self.bounds.payload {
            return None;
        }
        self.look_at_event(event.len(), payload)
    }

    #[cold]
    fn look_at_event(&mut self, event_bytes: usize, payload: Payload<'_>) -> Option<&'static str> {
        let limits = &self.config.limits;
        if event_bytes > limits.max_event_bytes as usize {
            return Some(EVENT_TOO_LONG);
        }
        let mut close = [(Limit::Event, event_bytes >= self.bounds.event); 3];
        let most = u64::from(limits.max_payload_bytes);
        let bytes = payload.bytes() as u64;
        if most > 0 && bytes > most {
            return Some(PAYLOAD_TOO_LARGE);
        }
        close[1] = (Limit::Payload, most > 0 && bytes >= near(most));
        let most = u64::from(limits.max_json_depth);
        let levels = match payload {
            Payload::Json(json) | Payload::UserJson(json) if counts_levels(limits) => {
                protocol::levels(json) as u64
            }
            _ => 0,
        };
        if levels > most {
            return Some(NESTED_TOO_DEEPLY);
        }
        close[2] = (Limit::JsonDepth, levels >= near(most));
        for (limit, _) in close.into_iter().filter(|(_, is_near)| *is_near) {
            self.counters.count_near(limit);
        }
        None
    }

    /// Answers a published event that is beyond a limit.
    pub(super) fn refuse_beyond(&mut self, slot: Slot, refs: (&str, &str), topic: &str, reason: &str) {
        self.counters.publish_refused += 1;
        self.counters.beyond_limit += 1;
        self.reply_error(slot, refs, topic, reason);
    }

    /// A message whose payload is nested deeper than anything that is read.
    pub(super) fn on_deep(&mut self, slot: Slot, message: &Message<'_>) {
        let refs = (&*message.join_ref, &*message.reference);
        self.refuse_beyond(slot, refs, &message.topic, NESTED_TOO_DEEPLY);
    }
}
