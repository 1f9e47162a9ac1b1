//! Closes connections from this side.

use super::state::Shard;
use crate::{
    api::order::Goodbye,
    counters::CloseReason,
    session::{
        id::Slot,
        lifecycle::{Cause, Phase, is_polite},
    },
    ws::{CloseCode, frame},
};

impl Shard {
    /// Starts the closing handshake from this side. The queued frames are sent first, except to a slow consumer.
    pub(super) fn close(&mut self, slot: Slot, reason: CloseReason, code: CloseCode) {
        self.release_before(slot, reason);
        self.close_now(slot, reason, code);
    }

    /// Starts the closing handshake with the words of somebody else, after all that was said in the connection's rooms.
    pub(super) fn close_saying(&mut self, slot: Slot, Goodbye { code, reason }: &Goodbye) {
        if self.sessions[slot].is(Phase::Open) {
            self.before_goodbye(slot);
        }
        if self.advance(slot, Cause::Close(CloseReason::Server)) {
            self.tell_code(slot, Some(*code));
            let frame = frame::close_saying(*code, reason);
            self.egress.queue_one(slot, &mut self.sessions[slot], frame.into());
        }
    }

    /// Ends a connection whose further input cannot be read.
    pub(super) fn break_off(&mut self, slot: Slot, reason: CloseReason, code: CloseCode) {
        let open = self.sessions[slot].is(Phase::Open);
        self.release_before(slot, reason);
        if open && !self.sessions[slot].is(Phase::Open) {
            // The release has closed it as a slow consumer: it gets that close code, and its input is not read any
            // more.
            return;
        }
        if self.advance(slot, Cause::Broken(reason)) && open {
            self.queue_close(slot, code);
        }
    }

    /// Releases the windows of its rooms first, so that a connection which gets a polite goodbye hears what was said
    /// before it.
    fn release_before(&mut self, slot: Slot, reason: CloseReason) {
        if is_polite(reason) && self.sessions[slot].is(Phase::Open) {
            self.before_goodbye(slot);
        }
    }

    /// The frame that a connection still gets when the shard has failed: a close frame, if the connection can read
    /// one.
    #[must_use]
    pub fn farewell(&self, slot: Slot) -> Option<Vec<u8>> {
        let conn = self.sessions.get(slot)?;
        (conn.is(Phase::Open) && !conn.queue.is_partly_sent()).then(|| frame::close(CloseCode::Restart))
    }
}
