//! Passes: the connections that have broadcasts are written in passes, each of them once per pass.
//!
//! A pass over many connections that takes long shows that the shard is busy, and that each of its writes carries
//! little. The next one then begins later, by about as long as the last one took: meanwhile frames gather, so fewer and
//! fuller writes carry the same load, and the CPU time saved is free for reading. A short pass is followed by the next
//! at once, so a shard that keeps up adds no latency.

use std::collections::VecDeque;

use crate::session::id::Slot;

/// A pass of up to so many milliseconds is short. Writing 1,000 connections takes about as long.
const SHORT_PASS_MILLIS: u64 = 5;
/// A pass over up to so many connections is short, whatever else the shard did meanwhile.
const SHORT_PASS_WRITES: usize = 512;
/// Longest pause before a pass, in milliseconds: what a busy shard may add to the latency of a broadcast.
const MAX_PAUSE_MILLIS: u64 = 20;

/// Connections that wait to be written, and the pass over them.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    waiting: VecDeque<Slot>,
    /// How many connections this pass has, written or not: the first ones of the list. Later ones are for the next
    /// pass.
    size: usize,
    /// How many of these are not written yet.
    left: usize,
    /// When this pass began, on the clock of [`crate::shard::Shard::begin_turn`]; none between passes.
    begun_millis: Option<u64>,
    /// The next pass begins at this time or later.
    next_millis: u64,
    /// What the longest pass took since this was last asked for, in milliseconds.
    longest_millis: u64,
}

/// How long the next pass is put off after one over so many connections that took so long.
const fn pause_millis(size: usize, took_millis: u64) -> u64 {
    if size <= SHORT_PASS_WRITES {
        return 0;
    }
    let pause = took_millis.saturating_sub(SHORT_PASS_MILLIS);
    if pause < MAX_PAUSE_MILLIS { pause } else { MAX_PAUSE_MILLIS }
}

impl Passes {
    pub(crate) fn push(&mut self, id: Slot) {
        self.waiting.push_back(id);
    }

    /// The next connection of the pass under way, or of the next one if it may begin. A new pass never begins in the
    /// turn in which another ended, since only [`Passes::end_turn`] knows how long that one took.
    pub(crate) fn pop(&mut self, now_millis: u64, hurry: bool) -> Option<Slot> {
        if self.left == 0 && self.begun_millis.is_none() && self.is_due(now_millis, hurry) {
            self.size = self.waiting.len();
            self.left = self.size;
            self.begun_millis = Some(now_millis);
        }
        self.pop_begun()
    }

    /// The next connection of the pass under way.
    #[inline]
    pub(crate) fn pop_begun(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Whether the pass has come to its end. The caller then calls [`Passes::end_turn`].
    pub(crate) const fn has_ended(&self) -> bool {
        self.left == 0 && self.begun_millis.is_some()
    }

    /// Ends a turn, which has written what it could.
    pub(crate) fn end_turn(&mut self, now_millis: u64) {
        if self.has_ended()
            && let Some(begun) = self.begun_millis.take()
        {
            let took = now_millis.saturating_sub(begun);
            self.longest_millis = self.longest_millis.max(took);
            let pause = pause_millis(self.size, took);
            // Without a pause, the next pass may begin in a turn that began no later than this pass ended.
            self.next_millis = if pause > 0 { now_millis + pause } else { begun };
        }
    }

    /// Whether any connection may be written now.
    pub(crate) fn is_due(&self, now_millis: u64, hurry: bool) -> bool {
        !self.waiting.is_empty() && (self.left > 0 || hurry || now_millis >= self.next_millis)
    }

    /// When the next pass may begin, if any connection waits for it.
    pub(crate) fn next_millis(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next_millis)
    }

    /// What the longest pass took since the last call, in milliseconds, with the one under way.
    pub(crate) fn take_longest(&mut self, now_millis: u64) -> u64 {
        let present = self.begun_millis.map_or(0, |begun| now_millis.saturating_sub(begun));
        std::mem::take(&mut self.longest_millis).max(present)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets no connection be written before this time, as after a long pass.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn put_off(&mut self, next_millis: u64) {
        self.next_millis = next_millis;
    }

    pub(crate) fn list_mut(&mut self) -> &mut VecDeque<Slot> {
        &mut self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(passes: &mut Passes, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| passes.pop(now, false)).map(|id| id.0).collect()
    }

    fn with(count: usize) -> Passes {
        let mut passes = Passes::default();
        (0..count).for_each(|id| passes.push(Slot(id as u32)));
        passes
    }

    #[test]
    fn a_short_pass_is_followed_by_the_next_at_once() {
        for (size, took) in [(SHORT_PASS_WRITES, 60_000), (100_000, SHORT_PASS_MILLIS)] {
            let mut passes = with(size);
            assert_eq!(drain(&mut passes, 10).len(), size);
            passes.push(Slot(7));
            assert_eq!(passes.pop(10, false), None, "nobody knows yet how long it took");
            passes.end_turn(10 + took);
            assert!(passes.is_due(10, false));
            assert_eq!(drain(&mut passes, 10), [7]);
        }
    }

    #[test]
    fn a_long_pass_puts_the_next_one_off_and_somebody_who_comes_later_waits_for_it() {
        let size = SHORT_PASS_WRITES + 1;
        let mut passes = with(size);
        assert_eq!(passes.pop(0, false), Some(Slot(0)));
        passes.push(Slot(7));
        passes.end_turn(7);
        assert!(passes.is_due(7, false), "the pass is under way");
        assert_eq!(drain(&mut passes, 7).len(), size - 1, "without who came later");
        passes.end_turn(15);
        assert!(!passes.is_due(24, false));
        assert_eq!((passes.next_millis(), drain(&mut passes, 24)), (Some(25), vec![]));
        assert!(passes.is_due(24, true), "unless there is hurry");
        assert_eq!(drain(&mut passes, 25), [7]);
        assert_eq!(passes.next_millis(), None, "nobody waits");
    }

    #[test]
    fn the_longest_pass_is_told_once_and_the_one_under_way_counts() {
        let mut passes = with(2);
        assert_eq!((passes.take_longest(50), drain(&mut passes, 100).len()), (0, 2));
        passes.end_turn(107);
        passes.push(Slot(9));
        assert_eq!(drain(&mut passes, 200), [9]);
        assert_eq!(passes.take_longest(203), 7, "longer than the 3 of the one under way");
        assert_eq!(passes.take_longest(240), 40);
    }

    #[test]
    fn the_pause_is_bounded() {
        let pauses = [0, 5, 6, 20, 25, 60_000].map(|took| pause_millis(1_000, took));
        assert_eq!(pauses, [0, 0, 1, 15, 20, 20]);
    }
}
