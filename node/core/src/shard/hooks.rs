//! The moments at which the rules of a room's optional features are applied. These rules are called from this file and
//! from no other; flush windows (`node/core/src/shard/window.rs`) are the one feature there is.
//!
//! The state of a feature is in `Features` of `node/core/src/topics/room.rs`, its rules are in a file beside this one,
//! and its deadlines are [`super::timers::Deadline::Room`]. A room whose policy asks for nothing has no `Features`: a
//! broadcast costs it one test of a pointer, and a join, a leave or a goodbye one test of a sum while no room of the
//! shard holds anything.
//!
//! A moment that no feature needs yet has no function here. Its one place is:
//!
//! - the departure of a member, by a leave, the end of its connection or a drain: `leave_room` in
//!   `node/core/src/shard/ending.rs`. A departure may only be noted there, in a bounded list, and be said after the
//!   outermost `advance`: what is said may close other members, and their positions are changing just then;
//! - a publish before other shards and nodes hear of it, where a number could be given to it: `publish_elsewhere` in
//!   `node/core/src/shard/say.rs`;
//! - the time after a new member got its answer: the end of `finish_join` in `node/core/src/shard/dispatch.rs`;
//! - a member that joins again: the first branch of `finish_join`.

use super::state::Shard;
use crate::{
    broadcast::{Content, Kind, Origin},
    config::PolicyRef,
    session::id::Slot,
    topics::{Joined, room::RoomId},
};

impl Shard {
    /// A connection becomes a member next, if there is a place for it. The room may not exist before.
    pub(super) fn before_join(&mut self, topic: &str) {
        self.release_held(topic);
    }

    /// A connection has become a member of a room whose topic has this policy, and gets its answer next. The room's
    /// members have its slot at that position, and its channel has its refs.
    pub(super) fn joined(&mut self, joined: Joined, policy: Option<PolicyRef>) {
        if joined.opened {
            self.topics.get_mut(joined.room).begin_load(self.now_millis);
            self.policy_set(joined.room, policy);
        }
    }

    /// A connection asks to leave a topic, of which it may not be a member, or the server ends its channel. This may
    /// close members, and with the last of them the room.
    pub(super) fn before_leave(&mut self, topic: &str) {
        self.release_held(topic);
    }

    /// An open connection is closed politely from this side next, and is to get all that was said in its rooms before.
    /// This may close it as a slow consumer.
    pub(super) fn before_goodbye(&mut self, slot: Slot) {
        self.release_rooms(slot);
    }

    /// A member on this shard or the node itself has said this to the local members of a room.
    pub(super) fn said_here(&mut self, room: RoomId, content: &Content<'_>, except: Option<Slot>) {
        self.say(room, content, except);
    }

    /// Some members of a topic are told something next that others are not.
    pub(super) fn before_some_are_told(&mut self, topic: &str) {
        self.release_held(topic);
    }

    /// A broadcast of another shard or node has come for a room.
    pub(super) fn came_from_elsewhere(
        &mut self,
        room: RoomId,
        (kind, content): (Kind, &Content<'_>),
        origin: Origin,
    ) {
        if !self.is_readable(room, content) {
            self.counters.malformed_messages += 1;
            return;
        }
        match kind {
            Kind::Json | Kind::Binary | Kind::UserJson | Kind::UserBinary => {
                if origin.is_late() {
                    // Members that cannot take it are counted too: this is taken off a load, and they are few.
                    self.counters.late_writes += self.topics.get(room).members().len() as u64;
                }
                self.say(room, content, None);
            }
        }
    }

    /// The topic of a room has this policy from now on: the room was opened, or the configuration was reloaded.
    pub(super) fn policy_set(&mut self, room: RoomId, policy: Option<PolicyRef>) {
        self.topics.get_mut(room).set_policy(&self.config.rooms, policy);
    }

    /// A deadline has come that was set for this room, or for a room that is gone and had the same id.
    pub(super) fn deadline_came(&mut self, room: RoomId) {
        self.release_due(room);
    }
}
