//! Passes: the connections that have broadcasts are written in passes, each of them once per pass.
//!
//! A pass over many connections that takes long shows that the shard is busy, and that each of its writes carries
//! little. The next one then begins later, by about as long as the last one took: meanwhile frames gather, so fewer and
//! fuller writes carry the same load, and the CPU time saved is free for reading. A short pass is followed by the next
//! at once, so a shard that keeps up adds no latency.

use std::collections::VecDeque;

use crate::{histogram::Histogram, session::id::Slot};

/// A pass of up to so many milliseconds is short. Writing 1,000 connections takes about as long.
const SHORT_PASS_MILLIS: u64 = 5;
/// A pass over up to so many connections is short, whatever else the shard did meanwhile.
const SHORT_PASS_WRITES: usize = 512;
/// Longest pause before a pass, in milliseconds: what a busy shard may add to the latency of a broadcast.
const MAX_PAUSE_MILLIS: u64 = 20;
/// Turns whose broadcasts are told apart while they wait for the end of a pass. Those of further turns count as if they had come
/// with the last of these.
const BATCHES: usize = 32;

/// Broadcasts of one turn.
#[derive(Debug, Clone, Copy)]
struct Batch {
    /// When the turn began.
    since_millis: u64,
    broadcasts: u64,
}

/// Broadcasts that wait for the end of one pass.
#[derive(Debug)]
struct Batches(Vec<Batch>);

impl Default for Batches {
    fn default() -> Self {
        // So that no publish allocates.
        Self(Vec::with_capacity(BATCHES))
    }
}

impl Batches {
    #[inline]
    fn note(&mut self, broadcasts: u64, now_millis: u64) {
        let is_full = self.0.len() >= BATCHES;
        match self.0.last_mut() {
            Some(last) if last.since_millis == now_millis || is_full => last.broadcasts += broadcasts,
            _ => self.0.push(Batch { since_millis: now_millis, broadcasts }),
        }
    }

    /// They are written.
    fn end(&mut self, now_millis: u64, times: &mut Histogram) {
        for Batch { since_millis, broadcasts } in self.0.drain(..) {
            times.note(now_millis.saturating_sub(since_millis), broadcasts);
        }
    }
}

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
    /// Broadcasts of which this pass has the last writes.
    present: Batches,
    /// Broadcasts that came since it began: the next pass has their last writes, or this one if there is no next one.
    coming: Batches,
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

    /// So many broadcasts have come in a turn that began then, for connections that wait in this list.
    #[inline]
    pub(crate) fn note_broadcasts(&mut self, broadcasts: u64, now_millis: u64) {
        self.coming.note(broadcasts, now_millis);
    }

    /// The next connection of the pass under way, or of the next one if it may begin. A new pass never begins in the
    /// turn in which another ended, since only [`Passes::end_turn`] knows how long that one took.
    pub(crate) fn pop(&mut self, now_millis: u64, hurry: bool) -> Option<Slot> {
        if self.left == 0 && self.begun_millis.is_none() && self.is_due(now_millis, hurry) {
            self.size = self.waiting.len();
            self.left = self.size;
            self.begun_millis = Some(now_millis);
            std::mem::swap(&mut self.present, &mut self.coming);
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

    /// Ends a turn, which has written what it could. What the broadcasts took whose last writes were among it is noted.
    pub(crate) fn end_turn(&mut self, now_millis: u64, times: &mut Histogram) {
        if self.has_ended()
            && let Some(begun) = self.begun_millis.take()
        {
            let took = now_millis.saturating_sub(begun);
            self.longest_millis = self.longest_millis.max(took);
            self.present.end(now_millis, times);
            if self.waiting.is_empty() {
                self.coming.end(now_millis, times);
            }
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
            passes.end_turn(10 + took, &mut Histogram::default());
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
        passes.end_turn(7, &mut Histogram::default());
        assert!(passes.is_due(7, false), "the pass is under way");
        assert_eq!(drain(&mut passes, 7).len(), size - 1, "without who came later");
        passes.end_turn(15, &mut Histogram::default());
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
        passes.end_turn(107, &mut Histogram::default());
        passes.push(Slot(9));
        assert_eq!(drain(&mut passes, 200), [9]);
        assert_eq!(passes.take_longest(203), 7, "longer than the 3 of the one under way");
        assert_eq!(passes.take_longest(240), 40);
    }

    /// The times that were noted, as the least bound above each in milliseconds.
    fn times(of: &Histogram) -> Vec<u64> {
        let bounds = of.buckets();
        let each = bounds
            .iter()
            .flat_map(|(bound, count)| std::iter::repeat_n((bound * 1e3) as u64, *count as usize));
        each.collect()
    }

    #[test]
    fn a_broadcast_has_taken_until_the_end_of_the_pass_that_writes_the_last_of_it() {
        let (mut passes, mut noted) = (with(3), Histogram::default());
        passes.note_broadcasts(2, 100);
        assert_eq!(passes.pop(100, false), Some(Slot(0)));
        passes.end_turn(103, &mut noted);
        assert_eq!(noted.count(), 0, "two of three are not written");
        passes.push(Slot(0));
        passes.note_broadcasts(1, 104);
        assert_eq!(drain(&mut passes, 104).len(), 2);
        passes.end_turn(115, &mut noted);
        assert_eq!(times(&noted), [20, 20], "those that this pass began with");
        assert_eq!(drain(&mut passes, 116), [0]);
        passes.end_turn(144, &mut noted);
        assert_eq!((times(&noted), noted.sum_seconds() * 1e3), (vec![20, 20, 50], 70.0));

        // All of its members waited for this pass already.
        passes.push(Slot(1));
        assert_eq!(passes.pop(200, false), Some(Slot(1)));
        passes.note_broadcasts(1, 200);
        passes.end_turn(200, &mut noted);
        assert_eq!((noted.count(), noted.buckets()[0].1), (4, 1));
    }

    #[test]
    fn however_many_turns_a_pass_takes_few_are_told_apart() {
        let (mut passes, mut noted) = (with(1), Histogram::default());
        (0..10 * BATCHES as u64).for_each(|turn| passes.note_broadcasts(1, turn));
        assert_eq!(passes.coming.0.len(), BATCHES);
        assert_eq!(drain(&mut passes, 900), [0]);
        passes.end_turn(900, &mut noted);
        assert_eq!(noted.count(), 10 * BATCHES as u64);
        assert_eq!(noted.buckets()[9].1, 10 * BATCHES as u64, "none is lost, and none took less than it did");
    }

    #[test]
    fn the_pause_is_bounded() {
        let pauses = [0, 5, 6, 20, 25, 60_000].map(|took| pause_millis(1_000, took));
        assert_eq!(pauses, [0, 0, 1, 15, 20, 20]);
    }
}
