//! Passes: the connections that have broadcasts are written in passes, each of them once per pass.
//!
//! A pass that takes long shows that the shard is busy, and that each of its writes carries little. The next one then
//! begins later, by about as long as the last one took: meanwhile frames gather, so fewer and fuller writes carry the
//! same load, and the CPU time saved is free for reading. A short pass is followed by the next at once, so a shard that
//! keeps up adds no latency.

use std::collections::VecDeque;

use crate::room::ConnId;

/// A pass of up to so many milliseconds is short. Writing 1,000 connections takes about as long.
const SHORT_PASS_MILLIS: u64 = 5;
/// Longest pause before a pass, in milliseconds: what a busy shard may add to the latency of a broadcast.
const MAX_PAUSE_MILLIS: u64 = 20;

/// Connections that wait to be written, and the pass over them.
#[derive(Debug, Default)]
pub(super) struct Passes {
    waiting: VecDeque<ConnId>,
    /// How many of the first are written in this pass. Who comes later is for the next one.
    left: usize,
    /// When this pass began, on the clock of [`super::Shard::begin_turn`]; none between passes.
    begun_millis: Option<u64>,
    /// The next pass begins at this time or later.
    next_millis: u64,
}

/// How long the next pass is put off after one that took so long.
const fn pause_millis(took_millis: u64) -> u64 {
    let pause = took_millis.saturating_sub(SHORT_PASS_MILLIS);
    if pause < MAX_PAUSE_MILLIS { pause } else { MAX_PAUSE_MILLIS }
}

impl Passes {
    pub(super) fn push(&mut self, id: ConnId) {
        self.waiting.push_back(id);
    }

    /// The next connection of the pass under way, or of the next one if it may begin. A new pass never begins in the
    /// turn in which another ended, since only [`Passes::end_turn`] knows how long that one took.
    pub(super) fn pop(&mut self, now_millis: u64, hurry: bool) -> Option<ConnId> {
        if self.left == 0 && self.begun_millis.is_none() && self.is_due(now_millis, hurry) {
            self.left = self.waiting.len();
            self.begun_millis = Some(now_millis);
        }
        self.pop_begun()
    }

    /// The next connection of the pass under way.
    #[inline]
    pub(super) fn pop_begun(&mut self) -> Option<ConnId> {
        self.left = self.left.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Whether the pass has come to its end, which [`Passes::end_turn`] is to be told.
    pub(super) const fn has_ended(&self) -> bool {
        self.left == 0 && self.begun_millis.is_some()
    }

    /// A turn has written what it could.
    pub(super) fn end_turn(&mut self, now_millis: u64) {
        if self.left == 0
            && let Some(begun) = self.begun_millis.take()
        {
            self.next_millis = now_millis + pause_millis(now_millis.saturating_sub(begun));
        }
    }

    /// Whether somebody may be written now.
    pub(super) fn is_due(&self, now_millis: u64, hurry: bool) -> bool {
        !self.waiting.is_empty() && (self.left > 0 || hurry || now_millis >= self.next_millis)
    }

    /// When the next pass may begin, if anybody waits for it.
    pub(super) fn next_millis(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next_millis)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn list_mut(&mut self) -> &mut VecDeque<ConnId> {
        &mut self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(passes: &mut Passes, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| passes.pop(now, false)).map(|id| id.0).collect()
    }

    #[test]
    fn a_short_pass_is_followed_by_the_next_at_once() {
        let mut passes = Passes::default();
        passes.push(ConnId(1));
        assert_eq!(drain(&mut passes, 10), [1]);
        passes.end_turn(10 + SHORT_PASS_MILLIS);
        passes.push(ConnId(2));
        assert!(passes.is_due(10 + SHORT_PASS_MILLIS, false));
        assert_eq!(drain(&mut passes, 10 + SHORT_PASS_MILLIS), [2]);
    }

    #[test]
    fn a_long_pass_puts_the_next_one_off_and_somebody_who_comes_later_waits_for_it() {
        let mut passes = Passes::default();
        passes.push(ConnId(1));
        passes.push(ConnId(2));
        assert_eq!(passes.pop(0, false), Some(ConnId(1)));
        passes.push(ConnId(3));
        passes.end_turn(15);
        assert!(passes.is_due(15, false), "the pass is under way");
        assert_eq!(drain(&mut passes, 15), [2], "not 3");
        passes.end_turn(25);
        assert!(!passes.is_due(44, false));
        assert_eq!((passes.next_millis(), drain(&mut passes, 44)), (Some(45), vec![]));
        assert!(passes.is_due(44, true), "unless there is hurry");
        assert_eq!(drain(&mut passes, 45), [3]);
        assert_eq!(passes.next_millis(), None, "nobody waits");
    }

    #[test]
    fn the_pause_is_bounded() {
        assert_eq!([0, 5, 6, 20, 25, 60_000].map(pause_millis), [0, 0, 1, 15, 20, 20]);
    }
}
