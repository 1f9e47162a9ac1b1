//! Flush windows: in a room whose policy has one, what is said within the window leaves in one write per member.
//!
//! Under load a turn batches by itself and needs no window. One pays where many publishes per second are spread thinly
//! over turns: it trades up to its length in latency for fewer system calls. What is held is kept once per room, not per
//! member, and joined into one run of bytes when it goes.

use std::cmp::Reverse;

use super::Shard;
use crate::{
    broadcast::{Broadcast, Content},
    room::{ConnId, Held, RoomId},
};

/// Messages that a room holds at most; one more and they go at once.
const HELD_MESSAGES: usize = 64;
/// Their bytes at most: what one write takes anyway.
const HELD_BYTES: usize = 64 * 1024;

impl Shard {
    /// Tells something to the local members of a room, now or at the end of its window.
    pub(super) fn broadcast(&mut self, room: RoomId, content: &Content<'_>, except: Option<ConnId>) {
        let open = self.rooms.get_mut(room);
        if open.window_millis() == 0 && open.held().is_empty() {
            return self.fan_out(room, &[*content], except);
        }
        // What is broadcast has names that fit: see `publish`.
        let Some(broadcast) = Broadcast::pack(content) else { return };
        let due = self.now_millis + u64::from(open.window_millis());
        let first = open.held().is_empty();
        let bytes = self.rooms.hold(room, Held { broadcast, except });
        if self.rooms.get(room).held().len() >= HELD_MESSAGES || bytes >= HELD_BYTES {
            self.release(room);
        } else if first {
            self.windows.push(Reverse((due, room)));
        }
    }

    /// Sends what windows that are over have held.
    pub(super) fn release_due(&mut self) {
        while let Some(Reverse((due, room))) = self.windows.peek()
            && *due <= self.now_millis
        {
            let room = *room;
            self.windows.pop();
            // A room may have sent before, or be gone; another in its place only sends a little early.
            if self.rooms.is_open(room) {
                self.release(room);
            }
        }
    }

    /// Sends what a room holds: who joins after it was said shall not get it, who leaves after it shall.
    pub(super) fn release(&mut self, room: RoomId) {
        let held = self.rooms.take_held(room);
        if held.iter().all(|held| held.except.is_none()) {
            let contents: Vec<_> = held.iter().filter_map(|held| held.broadcast.unpack()).collect();
            if !contents.is_empty() {
                self.fan_out(room, &contents, None);
            }
            return;
        }
        for Held { broadcast, except } in &held {
            // Sending may close slow members, and with the last of them the room.
            if self.rooms.is_open(room)
                && let Some(content) = broadcast.unpack()
            {
                self.fan_out(room, &[content], *except);
            }
        }
    }
}
