//! The rules of rooms whose members speak Supabase's Realtime (`realtime_channel.ex` and `broadcast_handler.ex` in
//! supabase/realtime, and realtime-js, which has to be served as it is).

use std::borrow::Cow;

use super::{backend::Stand, channel::End, state::Shard};
use crate::{
    broadcast::Content,
    config::{Dialect, Hook, Publish},
    protocol::{
        ACCESS_TOKEN, Message, Payload, is_phoenix_event,
        realtime::{self, Asked, BROADCAST, PRESENCE},
    },
    session::id::Slot,
    topic::TopicName,
    topics::room::RoomId,
};

impl Shard {
    /// Whether the members of a topic speak Realtime.
    pub(super) fn is_realtime(&self, topic: &str) -> bool {
        let policy = TopicName::parse(topic).and_then(|name| self.config.rooms.resolve(name));
        policy.is_some_and(|policy| policy.dialect == Dialect::Realtime)
    }

    /// Whether the members of a room can read what another shard or node says there.
    pub(super) fn is_readable(&self, room: RoomId, content: &Content<'_>) -> bool {
        if self.topics.get(room).is_realtime() {
            realtime::is_readable(content.event, content.payload)
        } else {
            !content.payload.is_of_user()
        }
    }

    /// What a connection asks for in its join. A token in it takes the place of the connection's, as that of an event
    /// `access_token` does, which may close the connection.
    pub(super) fn asked_in_join(&mut self, slot: Slot, payload: Payload<'_>) -> Asked {
        self.refresh(slot, payload);
        Asked::read(payload)
    }

    /// A member pushes something into such a room, for which it asked this when it joined.
    pub(super) fn on_realtime_push(
        &mut self,
        slot: Slot,
        (room, asked): (RoomId, Asked),
        refs: (&str, &str),
        message: &Message<'_>,
        stand: Stand<'_>,
    ) {
        let Message { topic, event, payload, .. } = message;
        if !payload.is_of_user() {
            if event == ACCESS_TOKEN {
                return self.take_token(slot, *payload);
            }
            if is_phoenix_event(event) {
                self.counters.publish_refused += 1;
                return self.end_channel(slot, topic, End::Crashed);
            }
        }
        let said = user_event(message);
        let refused = match &said {
            Ok(said) => self.refuse_broadcast(slot, room, topic, said),
            Err(reason) => Some(*reason),
        };
        if let Some(reason) = refused {
            self.counters.publish_refused += 1;
            return self.reply_error(slot, refs, topic, reason);
        }
        if let Some(reason) = self.beyond_bounds(said.as_deref().unwrap_or_default(), *payload) {
            return self.refuse_beyond(slot, refs, topic, reason);
        }
        let except = if asked.hears_itself { None } else { Some(slot) };
        let content = Content { topic, event, payload: *payload };
        if self.asks(Hook::Publish, self.topics.get(room).policy(), stand) {
            return self.inquire(slot, Hook::Publish, (&message.join_ref, refs.1), &content);
        }
        self.publish(slot, (room, &content, except), refs, (asked.acknowledged, stand));
    }

    /// Why an event of a user is not broadcast. What policies and tokens say about events is about these.
    fn refuse_broadcast(&self, slot: Slot, room: RoomId, topic: &str, event: &str) -> Option<&'static str> {
        let policy = self.topics.get(room).policy().map(|policy| self.config.rooms.policy(policy));
        match policy {
            Some(policy) if policy.publish == Publish::Members && self.may_publish(slot, topic) => {
                let is_listed =
                    policy.events.is_none_or(|listed| listed.iter().any(|listed| *listed == *event));
                if is_listed { None } else { Some("event not allowed") }
            }
            _ => Some("publish not allowed"),
        }
    }
}

/// The user's event that a message carries.
///
/// # Errors
/// Why it is not broadcast when it carries none.
fn user_event<'a>(message: &'a Message<'_>) -> Result<Cow<'a, str>, &'static str> {
    let shapeless = "payload must be an object with an event";
    match (message.payload, &*message.event) {
        (Payload::UserJson(_) | Payload::UserBinary(_), event) => Ok(Cow::Borrowed(event)),
        (Payload::Json(json), BROADCAST) => realtime::user_event(json).ok_or(shapeless),
        (Payload::Binary(_), BROADCAST) => Err(shapeless),
        (_, PRESENCE) => Err("presence is not served"),
        _ => Err("event not allowed"),
    }
}
