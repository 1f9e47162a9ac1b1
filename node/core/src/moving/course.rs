//! A shard's part: which connections it looks at, which it closes, and when.
//!
//! The walk goes over all slots in a fixed order that mixes them, because neighbours often came together and are in one room.
//! Where writes/s are asked for, a first walk counts the loads, and the next one closes connections from the load on that
//! brings together what is to go, so that few clients are moved; both are repeated while this finds any. A connection whose load
//! would be more than what is left to go is passed over, so nothing is closed beyond what was asked for. A room with many members keeps a
//! quarter of them, so that no room moves as a whole but a small one. A connection that came after the operation began is not
//! closed in it: its client may have been moved already.
//!
//! All is done in ticks: a tick looks at so many connections and closes so many at most, however many there are.

use std::collections::{BTreeMap, VecDeque};

use super::{
    MoveReport, MoveTask, REMEMBERED, Share,
    scale::{self, Scale},
};
use crate::{
    admin::HotRoom,
    limits::{MAX_AGE_MILLIS, MOVES_PER_TICK, SMALL_ROOM, TICK_MILLIS},
    topics::room::RoomId,
};

/// Credit that one connection costs: paces are in thousandths of connections and in milliseconds.
const ONE: u64 = 1_000_000;
/// A shard that stood still catches up with so much of its pace at once, in milliseconds, or with one connection.
const CATCH_UP_MILLIS: u64 = 2 * TICK_MILLIS;
/// For so long after its begin, in milliseconds, an operation looks again for connections whose rooms are too young to have
/// figures; they have them after two windows of [`crate::topics::load`].
const YOUNG_MILLIS: u64 = 5_000;
/// It looks again after so long.
const REST_MILLIS: u64 = 500;
/// An operation has done its part when only this part of the writes/s, one of so many, is left.
const REST_OF_WRITES: u64 = 32;
/// The walk takes this step in a table of a power of two: an odd number near the golden ratio of 2^32, so that the places
/// of neighbours are far from each other.
const STRIDE: usize = 0x9e37_79b1;

/// A walk over all slots, each once.
#[derive(Debug, Clone, Copy)]
struct Walk {
    done: usize,
    size: usize,
}

impl Walk {
    /// Over the slots below `end`.
    const fn over(end: usize) -> Self {
        Self { done: 0, size: end.next_power_of_two() }
    }

    const fn next(&mut self) -> Option<usize> {
        if self.done >= self.size {
            return None;
        }
        let index = self.done.wrapping_mul(STRIDE) & (self.size - 1);
        self.done += 1;
        Some(index)
    }
}

/// What the operation does.
#[derive(Debug)]
enum Stage {
    /// It begins its next walk at this time.
    Rests { until_millis: u64 },
    /// It counts the loads of connections, and of those whose loads are not known.
    Weighs { walk: Walk, scale: Scale, unknown: u64 },
    /// It closes connections whose loads have the step `floor` or a higher one.
    Closes {
        walk: Walk,
        scale: Scale,
        floor: usize,
        /// Whether this walk has closed any, and has passed over any because its load was more than what is left.
        closed: bool,
        passed: bool,
    },
    /// Nothing is left to do, or can be done.
    Done,
}

/// An operation under way.
#[derive(Debug)]
struct UnderWay {
    task: MoveTask,
    /// When the task was given last.
    asked_millis: u64,
    ends_millis: u64,
    /// Parts of [`ONE`].
    credit: u64,
    last_millis: u64,
    stage: Stage,
    closed_in_tick: u64,
    /// The room with most writes/s that a walk has seen, with these in thousandths.
    hottest: Option<(RoomId, u64)>,
    /// Nothing more was found although writes/s were left to go.
    is_stuck: bool,
}

/// What an operation has done, and when it began.
#[derive(Debug, Clone, Default)]
struct Record {
    report: MoveReport,
    began_millis: u64,
    /// How many members rooms have lost, but for small ones; of the last operation only.
    rooms: BTreeMap<RoomId, u64>,
}

/// A connection that may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// With this load, in thousandths of writes/s.
    Load(u64),
    /// One of its rooms is too young for a figure.
    Unknown,
}

/// The moving of clients on a shard.
#[derive(Debug, Default)]
pub(crate) struct Course {
    under_way: Option<UnderWay>,
    record: Record,
    earlier: VecDeque<Record>,
    /// Whether the report has changed since it was taken.
    is_news: bool,
}

impl Course {
    /// Begins an operation or goes on with one.
    pub(crate) fn begin(&mut self, task: MoveTask, now_millis: u64) {
        let ends_millis = now_millis + u64::from(task.lease_millis);
        let is_same = self.record.report.operation == task.operation;
        if let Some(under_way) = self.under_way.as_mut().filter(|_| is_same) {
            let before = std::mem::replace(&mut under_way.task, task).share;
            (under_way.asked_millis, under_way.ends_millis) = (now_millis, ends_millis);
            let is_more =
                task.share.connections > before.connections || task.share.milliwrites > before.milliwrites;
            if is_more && self.record.report.done {
                under_way.stage = Stage::Rests { until_millis: now_millis };
                under_way.is_stuck = false;
                self.record.report.done = false;
            }
            self.is_news = true;
            return;
        }
        self.under_way = Some(UnderWay {
            task,
            asked_millis: now_millis,
            ends_millis,
            credit: 0,
            last_millis: now_millis,
            stage: Stage::Rests { until_millis: now_millis },
            closed_in_tick: 0,
            hottest: None,
            is_stuck: false,
        });
        if !is_same {
            self.remember(task.operation, now_millis);
        }
        (self.record.report.done, self.record.report.hot_room) = (false, None);
        self.is_news = true;
    }

    /// Puts the record of the last operation away, and takes out or makes that of this one.
    fn remember(&mut self, operation: u64, now_millis: u64) {
        let known = self.earlier.iter().position(|record| record.report.operation == operation);
        let known = known.and_then(|position| self.earlier.remove(position));
        let report = MoveReport { operation, ..MoveReport::default() };
        let record = known.unwrap_or(Record { report, began_millis: now_millis, rooms: BTreeMap::new() });
        self.record.rooms = BTreeMap::new();
        self.earlier.push_back(std::mem::replace(&mut self.record, record));
        if self.earlier.len() > REMEMBERED {
            self.earlier.pop_front();
        }
    }

    /// Ends the operation under way. What it has closed is not forgotten.
    pub(crate) fn stop(&mut self) {
        self.is_news |= self.under_way.take().is_some();
    }

    /// Whether an operation is under way.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a tick. False when there is nothing to do in it.
    pub(crate) fn begin_tick(&mut self, now_millis: u64) -> bool {
        let Some(under_way) = &mut self.under_way else { return false };
        if now_millis >= under_way.ends_millis {
            self.stop();
            return false;
        }
        let pace = under_way.task.milliconnections_per_second;
        let earned = pace.saturating_mul(now_millis - under_way.last_millis);
        let most = pace.saturating_mul(CATCH_UP_MILLIS).max(ONE);
        under_way.credit = under_way.credit.saturating_add(earned).min(most);
        under_way.last_millis = now_millis;
        under_way.closed_in_tick = 0;
        !matches!(under_way.stage, Stage::Done)
    }

    /// The least age in milliseconds of connections that may be closed now. The age that was asked for is that at the time of
    /// asking: who was too young then stays so.
    pub(crate) fn min_age_millis(&self, now_millis: u64) -> u64 {
        let asked = self.under_way.as_ref().map_or(0, |under_way| {
            let age = u64::from(under_way.task.min_age_millis);
            if age == 0 { 0 } else { age + (now_millis - under_way.asked_millis) }
        });
        asked.max(now_millis - self.record.began_millis).min(MAX_AGE_MILLIS)
    }

    /// Whether another member of this room may be closed, which has so many that hear.
    pub(crate) fn may_take_from(&self, room: RoomId, hearing: u64) -> bool {
        if self.under_way.is_none() {
            return false;
        }
        let taken = self.record.rooms.get(&room).copied().unwrap_or(0);
        let size = hearing + taken;
        size <= SMALL_ROOM || (taken + 1) * 4 <= size * 3
    }

    /// Notes the writes/s of a room, in thousandths.
    pub(crate) fn note_room(&mut self, room: RoomId, milliwrites: u64) {
        if let Some(under_way) = &mut self.under_way
            && under_way.hottest.is_none_or(|(_, most)| milliwrites > most)
        {
            under_way.hottest = Some((room, milliwrites));
        }
    }

    /// The place of the next connection to look at, of those below `end`; none when the tick has done what it may.
    pub(crate) fn next(&mut self, end: usize, now_millis: u64) -> Option<usize> {
        let Self { under_way, record, is_news, .. } = self;
        let under_way = under_way.as_mut()?;
        loop {
            let next = match &mut under_way.stage {
                Stage::Rests { until_millis } if now_millis < *until_millis => return None,
                Stage::Rests { .. } => under_way.first_walk(end, record.report.moved),
                Stage::Weighs { walk, scale, unknown } => {
                    if let Some(index) = walk.next() {
                        return Some(index);
                    }
                    let (scale, is_young) = (scale.clone(), *unknown > 0);
                    let is_young = is_young && now_millis - record.began_millis < YOUNG_MILLIS;
                    under_way.second_walk(scale, end, record.report.moved, is_young.then_some(now_millis))
                }
                Stage::Closes { walk, .. } => {
                    if under_way.credit < ONE || under_way.closed_in_tick >= MOVES_PER_TICK {
                        return None;
                    }
                    if let Some(index) = walk.next() {
                        return Some(index);
                    }
                    under_way.another_walk(end)
                }
                Stage::Done => return None,
            };
            let is_done = matches!(next, Stage::Done);
            under_way.stage = next;
            if is_done {
                (record.report.done, *is_news) = (true, true);
                return None;
            }
        }
    }

    /// A connection was looked at. True when it is to be closed; its rooms are noted by [`Course::take_from`].
    pub(crate) fn look(&mut self, candidate: Candidate) -> bool {
        let Self { under_way: Some(under_way), record, is_news, .. } = self else { return false };
        let (task, moved) = (under_way.task, &mut record.report.moved);
        let is_bounded = task.share.milliwrites != Share::NO_BOUND;
        let load = match candidate {
            Candidate::Load(load) => load,
            Candidate::Unknown if is_bounded => {
                if let Stage::Weighs { unknown, .. } = &mut under_way.stage {
                    *unknown += 1;
                }
                return false;
            }
            Candidate::Unknown => 0,
        };
        match &mut under_way.stage {
            // A connection without load would be moved for nothing.
            _ if is_bounded && load == 0 => return false,
            Stage::Weighs { scale, .. } => {
                scale.add(load);
                return false;
            }
            Stage::Closes { floor, .. } if scale::step(load) < *floor => return false,
            Stage::Closes { passed, .. }
                if moved.milliwrites.saturating_add(load) > task.share.milliwrites =>
            {
                *passed = true;
                return false;
            }
            Stage::Closes { closed, .. } if moved.connections < task.share.connections => *closed = true,
            Stage::Closes { .. } | Stage::Rests { .. } | Stage::Done => return false,
        }
        under_way.credit -= ONE;
        under_way.closed_in_tick += 1;
        moved.connections += 1;
        moved.milliwrites += load;
        *is_news = true;
        if task.is_met(*moved) {
            under_way.stage = Stage::Done;
            record.report.done = true;
        }
        true
    }

    /// A member of this room is closed next, which has so many that hear.
    pub(crate) fn take_from(&mut self, room: RoomId, hearing: u64) {
        if self.under_way.is_none() {
            return;
        }
        if let Some(taken) = self.record.rooms.get_mut(&room) {
            *taken += 1;
        } else if hearing > SMALL_ROOM {
            self.record.rooms.insert(room, 1);
        }
    }

    /// The room with most writes/s, once nothing more was found although writes/s are left to go; with what is left, in
    /// thousandths. Once.
    pub(crate) fn take_stuck(&mut self) -> Option<(RoomId, u64)> {
        let under_way = self.under_way.as_mut().filter(|under_way| under_way.is_stuck)?;
        under_way.is_stuck = false;
        let left = under_way.task.share.milliwrites.saturating_sub(self.record.report.moved.milliwrites);
        under_way.hottest.map(|(room, _)| (room, left))
    }

    /// Names a room that is larger than what moving can help with.
    pub(crate) fn name_hot_room(&mut self, room: HotRoom) {
        self.record.report.hot_room = Some(room);
        self.is_news = true;
    }

    /// What was done, if there is news.
    pub(crate) fn take_report(&mut self) -> Option<MoveReport> {
        std::mem::take(&mut self.is_news).then(|| self.record.report.clone())
    }
}

impl MoveTask {
    /// Whether what was moved is what was asked for, or nearly so.
    const fn is_met(&self, moved: Share) -> bool {
        let share = self.share;
        let left = share.milliwrites.saturating_sub(moved.milliwrites);
        moved.connections >= share.connections
            || share.milliwrites != Share::NO_BOUND && left <= share.milliwrites / REST_OF_WRITES
    }
}

impl UnderWay {
    /// The first walk: loads are counted where they decide.
    fn first_walk(&self, end: usize, moved: Share) -> Stage {
        let (walk, scale) = (Walk::over(end), Scale::default());
        if self.task.is_met(moved) {
            Stage::Done
        } else if self.task.share.milliwrites == Share::NO_BOUND {
            Stage::Closes { walk, scale, floor: 0, closed: false, passed: false }
        } else {
            Stage::Weighs { walk, scale, unknown: 0 }
        }
    }

    /// All loads are counted. While rooms are young, given by the present time, those of others may be known soon.
    fn second_walk(&mut self, scale: Scale, end: usize, moved: Share, young: Option<u64>) -> Stage {
        if self.task.is_met(moved) {
            return Stage::Done;
        }
        let Share { connections, milliwrites } = self.task.share;
        let left = (connections - moved.connections, milliwrites.saturating_sub(moved.milliwrites));
        match (scale.floor(left.0, left.1), young) {
            (Some(floor), _) => {
                Stage::Closes { walk: Walk::over(end), scale, floor, closed: false, passed: false }
            }
            (None, Some(now_millis)) => Stage::Rests { until_millis: now_millis + REST_MILLIS },
            (None, None) => {
                self.is_stuck = true;
                Stage::Done
            }
        }
    }

    /// A walk that closes has come to its end, and not all is done.
    fn another_walk(&mut self, end: usize) -> Stage {
        let Stage::Closes { scale, floor, closed, passed, .. } = &self.stage else { return Stage::Done };
        if self.task.share.milliwrites == Share::NO_BOUND {
            return Stage::Done;
        }
        let walk = Walk::over(end);
        if *closed {
            return Stage::Weighs { walk, scale: Scale::default(), unknown: 0 };
        }
        match scale.below(*floor) {
            // The next one would be more than was asked for.
            _ if *passed => Stage::Done,
            Some(floor) => Stage::Closes { walk, scale: scale.clone(), floor, closed: false, passed: false },
            None => {
                self.is_stuck = true;
                Stage::Done
            }
        }
    }
}

#[cfg(test)]
mod tests;
