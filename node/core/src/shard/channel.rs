//! What the server does by itself to one channel of a connection: it pushes an event, or ends the channel.

use super::state::Shard;
use crate::{
    protocol::{Payload, encode},
    session::id::Slot,
};

/// How the server ends a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// For good, with `phx_close`: clients do not join again by themselves.
    Closed,
    /// With `phx_error`, as a channel of Phoenix that crashes: clients join again after a while.
    Crashed,
    /// The same because its token has ended: clients join again, and are let in with another token.
    Expired,
}

/// The reason of an end, and of a refused join, of a client whose token has ended.
pub(super) const TOKEN_EXPIRED: &str = "token_expired";

impl Shard {
    /// Position of the topic among the connection's channels.
    pub(super) fn channel(&self, slot: Slot, topic: &str) -> Option<usize> {
        let room = self.topics.find(topic)?;
        self.sessions[slot].channels.iter().position(|channel| channel.room == room)
    }

    /// Pushes an event to one member of a topic, whose channel was joined with this ref. False when its serializer cannot
    /// carry the payload, or when a name is too long for it: then nothing is sent.
    pub(super) fn push(
        &mut self,
        slot: Slot,
        join_ref: &str,
        topic: &str,
        event: &str,
        payload: Payload<'_>,
    ) -> bool {
        let vsn = self.sessions[slot].vsn();
        let Some(frame) = encode::push(vsn, join_ref, topic, event, payload) else { return false };
        self.reply(slot, frame);
        true
    }

    /// Ends the channel that a connection has for a topic, if it has one. The member gets what was said before, leaves the
    /// room, and is told the end.
    pub(super) fn end_channel(&mut self, slot: Slot, topic: &str, end: End) {
        self.before_leave(topic);
        let Some(position) = self.channel(slot, topic) else { return };
        let channel = self.sessions.take_channel(slot, position);
        self.leave_room(slot, channel.room, channel.seat.position());
        let (vsn, join_ref) = (self.sessions[slot].vsn(), channel.join_ref.given());
        let frame = match end {
            End::Closed => encode::phx_close(vsn, join_ref, topic),
            End::Crashed => encode::phx_error(vsn, join_ref, topic, "channel_crash"),
            End::Expired => encode::phx_error(vsn, join_ref, topic, TOKEN_EXPIRED),
        };
        self.reply(slot, frame);
    }
}
