//! Moving clients: connections are closed at a pace while the shard serves, so that they come back elsewhere. Which ones is up to
//! [`crate::moving`]; here is what a connection's load is, and the closing.

use super::state::Shard;
use crate::{
    admin::HotRoom,
    counters::CloseReason,
    limits::MOVE_LOOKS_PER_TICK,
    moving::{
        MoveOrder, MoveReport,
        course::{Candidate, Course},
    },
    session::{conn::Channel, id::Slot, lifecycle::Phase},
    topics::room::RoomId,
    ws::CloseCode,
};

/// Thousandths of writes/s in one.
const THOUSANDTHS: u64 = 1_000;

impl Shard {
    /// Begins to move clients, goes on with it, or ends it. A shard that leaves closes all of its connections anyway.
    pub(super) fn on_move_order(&mut self, order: MoveOrder) {
        match order {
            MoveOrder::Close(task) if !self.timers.is_leaving() => {
                self.course.begin(task, self.now_millis);
                self.timers.hasten(self.now_millis);
            }
            MoveOrder::Close(_) => {}
            MoveOrder::Stop => self.course.stop(),
        }
    }

    /// What was done in the operation that moves clients, or in the last one, if there is news.
    pub fn take_move_report(&mut self) -> Option<MoveReport> {
        self.course.take_report()
    }

    /// Does a tick's part of moving clients.
    pub(super) fn move_clients(&mut self) {
        if !self.course.begin_tick(self.now_millis) {
            return;
        }
        let mut course = std::mem::take(&mut self.course);
        let min_age_millis = course.min_age_millis(self.now_millis);
        let mut looks = 0;
        while looks < MOVE_LOOKS_PER_TICK
            && let Some(index) = course.next(self.sessions.end(), self.now_millis)
        {
            let slot = Slot(index as u32);
            looks += 1;
            let Some(conn) = self.sessions.get(slot).filter(|conn| conn.is(Phase::Open)) else { continue };
            looks += conn.channels.len();
            if self.sessions.age_millis(slot, self.now_millis) < min_age_millis {
                continue;
            }
            if let Some(candidate) = self.movable(slot, &mut course)
                && course.look(candidate)
            {
                for Channel { room, .. } in &self.sessions[slot].channels {
                    course.take_from(*room, self.topics.get(*room).hearing());
                }
                self.close(slot, CloseReason::Moved, CloseCode::Restart);
            }
        }
        if let Some((room, left)) = course.take_stuck()
            && let Some(hot) = self.hot_room(room, left)
        {
            course.name_hot_room(hot);
        }
        self.course = course;
    }

    /// What an open connection would take with it; none when one of its rooms keeps the members that it has.
    fn movable(&self, slot: Slot, course: &mut Course) -> Option<Candidate> {
        let mut sum = Some(0u64);
        for Channel { room, .. } in &self.sessions[slot].channels {
            let open = self.topics.get(*room);
            let hearing = open.hearing();
            let each = open.load().per_second(self.now_millis);
            if let Some(each) = each {
                course.note_room(*room, each.saturating_mul(hearing));
            }
            if !course.may_take_from(*room, hearing) {
                return None;
            }
            sum = sum.zip(each).map(|(sum, each)| sum.saturating_add(each));
        }
        Some(sum.map_or(Candidate::Unknown, Candidate::Load))
    }

    /// A room, if its writes/s are more than what is left to go, in thousandths.
    fn hot_room(&self, room: RoomId, left: u64) -> Option<HotRoom> {
        if !self.topics.is_open(room) {
            return None;
        }
        let open = self.topics.get(room);
        let hearing = open.hearing();
        let milliwrites = open.load().per_second(self.now_millis)?.saturating_mul(hearing);
        (milliwrites > left).then(|| HotRoom {
            topic: open.shared().topic().to_string(),
            writes_per_second: milliwrites / THOUSANDTHS,
            members: open.members().len() as u64,
        })
    }
}
