//! What the shard tells of its connections while somebody listens to the stream of events of the server API.
//!
//! Each place asks [`crate::api::news::Listening`] first, and calls what is here only when it is wanted.

use super::{event::Outgoing, state::Shard};
use crate::{
    api::{
        news::{News, Sort, Transport, What},
        order::ConnectionRef,
    },
    counters::CloseReason,
    route::Topic,
    session::{conn::Flags, id::Slot},
    topics::room::RoomId,
};

impl Shard {
    /// Whether somebody listens for a sort of events.
    #[inline]
    pub(super) fn is_heard(&self, sort: Sort) -> bool {
        self.options.listening.wants(sort)
    }

    /// Tells that a connection was made.
    #[cold]
    pub(super) fn tell_connect(&mut self, slot: Slot) {
        let is_polled = self.sessions[slot].flags.has(Flags::POLLED);
        let transport = if is_polled { Transport::LongPoll } else { Transport::WebSocket };
        self.note(slot, What::Connect { transport });
    }

    /// Tells that a connection ends. Its code may follow, by [`Shard::tell_code`].
    #[cold]
    pub(super) fn tell_disconnect(&mut self, slot: Slot, cause: CloseReason) {
        self.note(slot, What::Disconnect { cause, code: None });
    }

    /// Adds the code with which a connection is closed, right after that was told.
    pub(super) fn tell_code(&mut self, slot: Slot, with: Option<u16>) {
        if !self.is_heard(Sort::Disconnect) {
            return;
        }
        let id = self.sessions.id(slot);
        if let Some(News { connection, what: What::Disconnect { code, .. }, .. }) = self.news.news.last_mut()
            && connection.id == id
        {
            *code = with;
        }
    }

    /// Tells that a connection has joined a room.
    #[cold]
    pub(super) fn tell_join(&mut self, slot: Slot, room: RoomId) {
        let topic = self.topic_of(room);
        self.note(slot, What::Join { topic });
    }

    /// Tells that a connection leaves a room, while that is still there.
    #[cold]
    pub(super) fn tell_leave(&mut self, slot: Slot, room: RoomId) {
        let topic = self.topic_of(room);
        self.note(slot, What::Leave { topic });
    }

    fn topic_of(&self, room: RoomId) -> Topic {
        Topic::clone(self.topics.get(room).shared().topic())
    }

    fn note(&mut self, slot: Slot, what: What) {
        let holder = self.sessions.identities().get(slot);
        let news = News {
            unix_millis: self.unix_millis(),
            connection: self.reference(slot),
            user: holder.map(|holder| holder.identity.user().into()),
            what,
        };
        self.news.push(news);
    }

    /// What the server API calls a connection.
    pub(super) fn reference(&self, slot: Slot) -> ConnectionRef {
        ConnectionRef { node: self.tag(), shard: self.options.index, id: self.sessions.id(slot) }
    }

    /// What happened in the turn that ends, if somebody listens for it.
    #[must_use]
    pub fn take_news(&mut self) -> Option<Outgoing> {
        (!self.news.is_empty()).then(|| Outgoing::News(Box::new(std::mem::take(&mut self.news))))
    }
}
