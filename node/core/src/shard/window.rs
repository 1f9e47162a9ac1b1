//! Flush windows: in a room whose policy has one, what is said within the window leaves in one write per member.
//!
//! Under load a turn batches by itself and needs no window. One pays where many publishes per second are spread thinly
//! over turns: it trades up to its length in latency for fewer system calls. What is held is kept once per room, not per
//! member, and joined into one run of bytes when it goes.

use super::{state::Shard, timers::Deadline};
use crate::{
    broadcast::{Broadcast, Content},
    session::id::Slot,
    topics::room::{Held, RoomId},
};

/// Messages that a room holds at most; one more and they go at once.
const HELD_MESSAGES: usize = 64;
/// Their bytes at most: what one write takes anyway.
const HELD_BYTES: usize = 64 * 1024;

impl Shard {
    /// Tells something to the local members of a room, now or at the end of its window.
    pub(super) fn say(&mut self, room: RoomId, content: &Content<'_>, except: Option<Slot>) {
        let open = self.topics.get(room);
        if !open.holds() {
            return self.fan_out(room, &[*content], except);
        }
        // What is broadcast has names that fit: see `publish_elsewhere`.
        let Some(broadcast) = Broadcast::pack(content) else { return };
        let due = self.now_millis + u64::from(open.window_millis());
        let first = open.held() == 0;
        let bytes = self.topics.hold(room, Held { broadcast, except }, due);
        if self.topics.get(room).held() >= HELD_MESSAGES || bytes >= HELD_BYTES {
            self.release(room);
        } else if first {
            self.timers.set(due, Deadline::Room(room));
        }
    }

    /// Sends what a room holds when its window is over.
    pub(super) fn release_due(&mut self, room: RoomId) {
        if self.topics.get(room).window_is_over(self.now_millis) {
            self.release(room);
        }
    }

    /// Sends what a room holds: a connection that joins after it was said shall not get it, one that leaves after it shall.
    fn release(&mut self, room: RoomId) {
        let held = self.topics.take_held(room);
        if held.iter().all(|held| held.except.is_none()) {
            let contents: Vec<_> = held.iter().filter_map(|held| held.broadcast.unpack()).collect();
            if !contents.is_empty() {
                self.fan_out(room, &contents, None);
            }
            return;
        }
        for Held { broadcast, except } in &held {
            // Sending may close slow members, and with the last of them the room.
            if self.topics.is_open(room)
                && let Some(content) = broadcast.unpack()
            {
                self.fan_out(room, &[content], *except);
            }
        }
    }

    /// Sends what the room of a topic holds, if it is known here: what was said so far is for those who were members so far.
    pub(super) fn release_held(&mut self, topic: &str) {
        // Most fleets have no windows: no look-up for them.
        if self.topics.holds()
            && let Some(room) = self.topics.find(topic)
        {
            self.release(room);
        }
    }

    /// Sends what the rooms of a connection hold: it was said while that one was a member, and shall be heard by it.
    pub(super) fn release_rooms(&mut self, slot: Slot) {
        if !self.topics.holds() {
            return;
        }
        let rooms: Vec<_> = self.sessions[slot].channels.iter().map(|channel| channel.room).collect();
        for room in rooms {
            // Sending may close slow members, and with the last of them a room.
            if self.topics.is_open(room) {
                self.release(room);
            }
        }
    }
}
