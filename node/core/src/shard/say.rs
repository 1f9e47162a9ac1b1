//! Sending: to the members of a room, and replies to one connection.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    event::{Effect, Outgoing},
    state::Shard,
};
use crate::{
    broadcast::{Broadcast, Content},
    counters::CloseReason,
    protocol::{Payload, Vsn, encode},
    session::{id::Slot, lifecycle::Phase, wire::Wire},
    topics::room::RoomId,
    ws::CloseCode,
};

impl Shard {
    /// Hands a client's event to the other shards and nodes that have members of its room. Returns how many members on
    /// this shard speak a serializer that cannot carry it.
    pub(super) fn publish_elsewhere(
        &mut self,
        room: RoomId,
        content: &Content<'_>,
        except: Option<Slot>,
    ) -> u64 {
        self.counters.publishes += 1;
        let open = self.topics.get(room);
        if let Some(counts) = self.by_policy.of(open.policy()) {
            counts.publishes += 1;
        }
        let shared = open.shared();
        let shards = shared.shards().without(self.options.index);
        let nodes = self.is_shared(shared.name());
        // Names were bounded to what a broadcast can carry, on join and on push.
        if (nodes || !shards.is_empty())
            && let Some(broadcast) = Broadcast::pack(content)
        {
            let topic = Arc::clone(shared.topic());
            self.effects.push(Effect::Tell(Outgoing::Publish { topic, broadcast, shards, nodes }));
        }
        self.unable_listeners(room, content, except)
    }

    /// How many members hear in a serializer version that cannot carry this.
    fn unable_listeners(&self, room: RoomId, content: &Content<'_>, except: Option<Slot>) -> u64 {
        if matches!(content.payload, Payload::Json(_)) {
            return 0;
        }
        let room = self.topics.get(room);
        let unable = Vsn::ALL.into_iter().filter(|vsn| !vsn.carries(content));
        let spared = except.and_then(|slot| self.sessions[slot].listens());
        let count = |wire| u64::from(room.listeners(wire)) - u64::from(spared == Some(wire));
        unable.flat_map(|vsn| [Wire::plain(vsn), Wire::deflated(vsn)]).map(count).sum()
    }

    /// Queues messages to the local members of a room.
    pub(super) fn fan_out(&mut self, room: RoomId, contents: &[Content<'_>], except: Option<Slot>) {
        let Self { topics, sessions, egress, config, counters, .. } = self;
        let (before, before_bytes) = (counters.writes, egress.outbox().bytes());
        let full =
            egress.fan_out((topics.get(room), sessions), contents, except, config, counters, self.now_millis);
        let said = (counters.writes - before, egress.outbox().bytes() - before_bytes);
        let open = topics.get_mut(room);
        open.note_writes(said, self.now_millis);
        if let Some(counts) = self.by_policy.of(open.policy()) {
            counts.writes += said.0;
        }
        self.intake.note_broadcast();
        for member in full {
            self.close_now(member, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
        }
    }

    /// Answers a message with a payload.
    pub(super) fn reply_payload(
        &mut self,
        slot: Slot,
        refs: (&str, &str),
        topic: &str,
        status: &str,
        payload: Payload<'_>,
    ) {
        match encode::payload_reply(self.sessions[slot].vsn(), refs, topic, status, payload) {
            Some(frame) => self.reply(slot, frame),
            None => self.reply_error(slot, refs, topic, "name too long"),
        }
    }

    /// Answers a message with an error.
    pub(super) fn reply_error(&mut self, slot: Slot, refs: (&str, &str), topic: &str, reason: &str) {
        self.reply(slot, encode::error(self.sessions[slot].vsn(), refs, topic, reason));
    }

    /// The same where the client may try again after so many milliseconds.
    pub(super) fn reply_error_for_now(
        &mut self,
        slot: Slot,
        refs: (&str, &str),
        topic: &str,
        reason: &str,
        millis: u64,
    ) {
        self.reply(slot, encode::error_for_now(self.sessions[slot].vsn(), refs, topic, reason, millis));
    }

    /// Queues a frame for one connection only.
    pub(super) fn reply(&mut self, slot: Slot, frame: Bytes) {
        let conn = &mut self.sessions[slot];
        if !conn.is(Phase::Open) {
            return;
        }
        self.counters.replies += 1;
        if !self.egress.reply(slot, conn, frame, &self.config.limits) {
            self.close_now(slot, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
        }
    }
}
