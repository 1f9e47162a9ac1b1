//! Steps in the life of a connection, and leaving rooms.

use std::sync::Arc;

use super::{
    event::{Effect, Outgoing},
    state::Shard,
};
use crate::{
    api::news::Sort,
    counters::CloseReason,
    route::SharedRoom,
    session::{
        conn::Flags,
        id::Slot,
        lifecycle::{self, Cause, Count, Membership, Phase},
    },
    topic::{TopicKind, TopicName},
    topics::room::RoomId,
    ws::{CloseCode, frame},
};

impl Shard {
    /// Takes a step in the life of a connection. False when the cause changes nothing in its phase.
    pub(super) fn advance(&mut self, slot: Slot, cause: Cause) -> bool {
        let Some(step) = lifecycle::step(self.sessions[slot].phase(), cause) else { return false };
        match step.count {
            Some(Count::Closed(reason)) => self.counters.count_closed(reason),
            Some(Count::Refused(reason)) => self.counters.count_refused(reason),
            None => {}
        }
        match step.membership {
            Membership::Stays => {}
            Membership::Mutes => self.mute(slot),
            Membership::Leaves => self.leave_all(slot),
        }
        if let Some(Count::Closed(reason)) = step.count
            && self.is_heard(Sort::Disconnect)
        {
            self.tell_disconnect(slot, reason);
        }
        if step.drops_queue {
            self.egress.clear(&mut self.sessions[slot], true);
        }
        if step.to == Phase::Gone {
            self.forget(slot);
        }
        let stamp = self.stamp();
        let conn = &mut self.sessions[slot];
        conn.enter(step.to);
        if step.restarts_clock {
            conn.stamp = stamp;
        }
        if step.ends_output {
            self.effects.push(Effect::EndOutput(slot));
        }
        true
    }

    /// Nothing more is read or written: all that is kept of the connection goes, but its slot.
    fn forget(&mut self, slot: Slot) {
        if self.sessions[slot].flags.has(Flags::POLLED) {
            self.end_session(slot);
        }
        self.sessions.forget_input(slot);
        self.forget_inquiry(slot);
        self.sessions.forget_aside(slot);
        self.forget_origin(slot);
        let conn = &mut self.sessions[slot];
        let unsent = !conn.queue.is_empty();
        self.egress.clear(conn, false);
        self.egress.unpress(conn);
        if conn.flags.take(Flags::ESTABLISHED) {
            self.counters.connections -= 1;
            self.options.places.release();
        } else if let Some(asking) = self.end_requests(slot) {
            self.abandon(slot, &asking, unsent);
        }
        self.effects.push(Effect::Ended(slot));
    }

    /// Starts the closing handshake from this side, without regard to what the connection's rooms hold: see
    /// [`Shard::close`].
    pub(super) fn close_now(&mut self, slot: Slot, reason: CloseReason, code: CloseCode) {
        if self.advance(slot, Cause::Close(reason)) {
            self.queue_close(slot, code);
        }
    }

    /// Queues a close frame, whatever the queue holds.
    pub(super) fn queue_close(&mut self, slot: Slot, code: CloseCode) {
        self.tell_code(slot, Some(code as u16));
        self.egress.queue_one(slot, &mut self.sessions[slot], frame::close(code).into());
    }

    /// The connection stays a member of its rooms, but broadcasts do not go to it any more.
    fn mute(&mut self, slot: Slot) {
        let conn = &self.sessions[slot];
        if let Some(wire) = conn.listens() {
            conn.channels.iter().for_each(|channel| self.topics.get_mut(channel.room).unlisten(wire));
        }
    }

    fn leave_all(&mut self, slot: Slot) {
        let channels = self.sessions.take_channels(slot);
        for channel in &channels {
            self.leave_room(slot, channel.room, channel.seat.position());
        }
    }

    /// Removes a connection from a room after its channel was taken out. Departures of every cause end here.
    pub(super) fn leave_room(&mut self, slot: Slot, room: RoomId, position: u32) {
        if self.is_heard(Sort::Leave) {
            self.tell_leave(slot, room);
        }
        let listened = self.sessions[slot].listens();
        let left = self.topics.leave(room, position, listened);
        if let Some(moved) = left.moved
            && moved != slot
        {
            let channels = &mut self.sessions[moved].channels;
            if let Some(channel) = channels.iter_mut().find(|channel| channel.room == room) {
                channel.seat = channel.seat.moved_to(position);
            }
        }
        left.closed.iter().for_each(|shared| self.note_interest(shared));
    }

    /// The shard has its first member of a topic, or none any more.
    pub(super) fn note_interest(&mut self, shared: &SharedRoom) {
        if self.is_shared(shared.name()) {
            self.effects.push(Effect::Tell(Outgoing::Interest(Arc::clone(shared.topic()))));
        }
    }

    /// Whether other nodes may have members of a topic. Reserved ones are each node's own.
    pub(super) fn is_shared(&self, topic: TopicName<'_>) -> bool {
        self.options.has_bus && topic.kind() == TopicKind::Shared
    }
}
