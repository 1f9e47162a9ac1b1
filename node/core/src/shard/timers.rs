//! The one table of deadlines, and the pace of a drain.
//!
//! A connection has no timer: its deadlines are met by a coarse sweep, see [`super::tick`]. The table has
//! the few deadlines that are met to the millisecond.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    limits::{STAMP_MILLIS, SWEEP_PARTS, TICK_MILLIS},
    session::id::Slot,
    topics::room::RoomId,
};

/// Entries for which place is kept although nothing is due.
const KEPT: usize = 64;

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// A feature of a room set it; the state of the features says which.
    Room(RoomId),
    /// A connection that said too much may be read again.
    Read(Slot),
    /// A connection has waited for an answer of the backend.
    Answer(Slot),
    /// A request of a long-poll session has waited for long, or its client has been away for long.
    Session(Slot),
}

/// A drain or shutdown under way.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    connections_per_second: u64,
    /// Thousandths of connections that may be closed.
    credit: u64,
    last_millis: u64,
    /// Where the walk over the connections is.
    cursor: usize,
}

/// The part of the connections that a sweep looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Its slots.
    pub(super) from: usize,
    pub(super) to: usize,
    /// How many stamps ago it was looked at before.
    pub(super) since: u16,
}

/// All deadlines of a shard, in milliseconds on the clock of [`super::Shard::begin_turn`].
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BinaryHeap<Reverse<(u64, Deadline)>>,
    next_tick_millis: u64,
    next_sweep_millis: u64,
    sweep_part: usize,
    /// When each part was looked at last, in stamps.
    swept: [u16; SWEEP_PARTS],
    /// How many places were shared out among the parts then.
    places: [usize; SWEEP_PARTS],
    leaving: Option<Leaving>,
    /// Nothing slows the end down or takes it back.
    ending: bool,
}

impl Timers {
    pub(super) fn set(&mut self, at_millis: u64, deadline: Deadline) {
        self.due.push(Reverse((at_millis, deadline)));
    }

    /// The next deadline that has come. The room or connection that it was set for may be gone.
    pub(super) fn pop(&mut self, now_millis: u64) -> Option<Deadline> {
        self.due.peek().filter(|Reverse((at, _))| *at <= now_millis)?;
        self.due.pop().map(|Reverse((_, deadline))| deadline)
    }

    /// When anything is due.
    pub(super) fn next_millis(&self) -> u64 {
        self.due.peek().map_or(self.next_tick_millis, |Reverse((at, _))| self.next_tick_millis.min(*at))
    }

    /// Memory in bytes of the table.
    pub(super) fn held_bytes(&self) -> usize {
        self.due.len() * size_of::<Reverse<(u64, Deadline)>>()
    }

    /// Whether a tick is due. The next one is then due after its interval, which is short while connections are closed at a
    /// pace: those of a shard that leaves, or some that are moved.
    pub(super) const fn take_tick(&mut self, now_millis: u64, moves: bool) -> bool {
        if now_millis < self.next_tick_millis {
            return false;
        }
        let interval = if self.is_leaving() || moves { TICK_MILLIS } else { STAMP_MILLIS };
        self.next_tick_millis = now_millis + interval;
        true
    }

    /// The part of `end` slots that is to be swept now, if one is.
    pub(super) fn take_sweep(&mut self, now_millis: u64, stamp: u16, end: usize) -> Option<Part> {
        if now_millis < self.next_sweep_millis {
            return None;
        }
        self.next_sweep_millis = now_millis + STAMP_MILLIS;
        let part = self.sweep_part;
        self.sweep_part = (part + 1) % SWEEP_PARTS;
        let before = std::mem::replace(&mut self.swept[part], stamp);
        let places = std::mem::replace(&mut self.places[part], end);
        // A connection that came into this part because the table grew may have been passed over in the round before: a
        // ping too many does no harm, and one too few lets a connection be idle for too long.
        let moved = if places == end { 0 } else { SWEEP_PARTS as u16 };
        let since = stamp.wrapping_sub(before).saturating_add(moved);
        Some(Part { from: part * end / SWEEP_PARTS, to: (part + 1) * end / SWEEP_PARTS, since })
    }

    /// Whether new connections are refused.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Begins a drain, or changes its pace, or ends the shard: after that the pace stays what it is.
    pub(super) fn leave(&mut self, now_millis: u64, connections_per_second: u32, ending: bool) {
        self.ending |= ending;
        let rate = if self.ending { u64::from(u32::MAX) } else { u64::from(connections_per_second) };
        // The first connection goes at once, so that the slowest pace still begins.
        let first =
            Leaving { connections_per_second: rate, credit: 1_000, last_millis: now_millis, cursor: 0 };
        let leaving = self.leaving.unwrap_or(first);
        self.leaving = Some(Leaving { connections_per_second: rate, ..leaving });
        self.hasten(now_millis);
    }

    /// Lets the next tick come soon.
    pub(super) fn hasten(&mut self, now_millis: u64) {
        self.next_tick_millis = self.next_tick_millis.min(now_millis + TICK_MILLIS);
    }

    /// Whether the shard ends.
    pub(super) const fn is_ending(&self) -> bool {
        self.ending
    }

    /// Ends a drain, but not the end of the shard.
    pub(super) const fn stay(&mut self) {
        if !self.ending {
            self.leaving = None;
        }
    }

    /// How many connections may be closed now, and where the walk over them is; `None` without a drain.
    pub(super) fn drain_budget(&mut self, now_millis: u64) -> Option<(u64, usize)> {
        let leaving = self.leaving.as_mut()?;
        let elapsed = now_millis - leaving.last_millis;
        leaving.last_millis = now_millis;
        // One second of credit at most: a stalled shard does not make up for it in one burst.
        let most = leaving.connections_per_second * 1_000;
        leaving.credit = (leaving.credit + leaving.connections_per_second * elapsed).min(most.max(1_000));
        Some((leaving.credit / 1_000, leaving.cursor))
    }

    /// So many were closed, and the walk came that far.
    pub(super) const fn note_drained(&mut self, closed: u64, cursor: usize) {
        if let Some(leaving) = &mut self.leaving {
            leaving.credit -= closed * 1_000;
            leaving.cursor = cursor;
        }
    }

    /// Gives memory of a past peak back.
    pub(super) fn trim(&mut self) {
        if self.due.is_empty() && self.due.capacity() > KEPT {
            self.due.shrink_to_fit();
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn deadlines(&self) -> usize {
        self.due.len()
    }
}
