//! The queues of a shard's clients, and the order in which connections are written.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    config::Limits,
    histogram::Histogram,
    limits::{BACKLOG_FRAMES, FLUSHES_PER_TURN},
    session::{
        Sessions,
        conn::{Conn, Flags},
        id::Slot,
    },
    ws::deflate::Deflater,
};

mod fanout;
mod offer;
pub mod outbox;
mod pass;

use offer::{Offer, Run, offer};
use outbox::{Outbox, Queue};
use pass::Passes;

/// One of so many writes goes to a member of a large room; of the others every second goes to a connection that gets
/// replies, and every second to one that has only broadcasts. So neither a flood of requests that fills every turn
/// nor one huge room holds back the broadcasts of other rooms, and none of them waits for ever.
const ROUND: u64 = 8;

/// Capacity that a list keeps although it is empty.
const KEPT: usize = 1_024;

/// The queues of a shard, and the connections that wait to be written.
#[derive(Debug)]
pub(crate) struct Egress {
    outbox: Outbox,
    /// Connections with replies.
    urgent: VecDeque<Slot>,
    /// Connections with broadcasts.
    dirty: Passes,
    /// Members of large rooms with broadcasts.
    bulk: Passes,
    /// How often a connection to write was looked for, by which the writes are shared out.
    looks: u64,
    /// How many connections a turn writes, going by the last turn.
    writes_per_turn: u64,
    /// Frames queued to connections that are not blocked.
    backlog: u64,
    /// Connections whose queue is half full although their socket may take more.
    pressed: u64,
    /// Compresses broadcasts.
    deflater: Deflater,
    /// How long broadcasts took until the last of their members was written.
    fan_out: Histogram,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            outbox: Outbox::default(),
            urgent: VecDeque::new(),
            dirty: Passes::default(),
            bulk: Passes::default(),
            looks: 0,
            writes_per_turn: FLUSHES_PER_TURN as u64,
            backlog: 0,
            pressed: 0,
            deflater: Deflater::default(),
            fan_out: Histogram::default(),
        }
    }
}

impl Egress {
    pub(crate) const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Memory in bytes that compressing takes.
    pub(crate) const fn deflater_bytes(&self) -> usize {
        self.deflater.held_bytes()
    }

    /// Whether so much waits to be written that the shard should be given little input.
    pub(crate) const fn is_over_budget(&self) -> bool {
        self.pressed > 0 || self.hurries()
    }

    /// Whether more queues are half full than a turn writes.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.pressed > self.writes_per_turn
    }

    /// Whether so many frames wait that no pass is put off.
    const fn hurries(&self) -> bool {
        self.backlog >= BACKLOG_FRAMES
    }

    /// The next connection to write, and whether it has a socket; each is named once until it has something new.
    pub(crate) fn next(&mut self, sessions: &mut Sessions, now_millis: u64) -> Option<(Slot, bool)> {
        loop {
            let (slot, flag) = self.pop(now_millis)?;
            // The list may name a connection that was written since, or ended and replaced.
            let Some(conn) = sessions.get_mut(slot) else { continue };
            if conn.flags.take(flag) && !conn.flags.has(Flags::BLOCKED) && !conn.queue.is_empty() {
                self.unpress(conn);
                return Some((slot, !conn.flags.has(Flags::POLLED)));
            }
        }
    }

    #[inline]
    fn pop(&mut self, now_millis: u64) -> Option<(Slot, Flags)> {
        // Mostly connections wait in one of the lists only.
        if self.urgent.is_empty()
            && self.bulk.is_empty()
            && let Some(slot) = self.dirty.pop_begun()
        {
            return Some((slot, Flags::DIRTY));
        }
        self.pop_in_turn(now_millis)
    }

    #[inline(never)]
    fn pop_in_turn(&mut self, now: u64) -> Option<(Slot, Flags)> {
        let hurry = self.hurries();
        let Self { urgent, dirty, bulk, looks, .. } = self;
        *looks = looks.wrapping_add(1);
        let order = match *looks % ROUND {
            0 => [Flags::BULK, Flags::URGENT, Flags::DIRTY],
            odd if odd % 2 == 1 => [Flags::URGENT, Flags::DIRTY, Flags::BULK],
            _ => [Flags::DIRTY, Flags::URGENT, Flags::BULK],
        };
        order.into_iter().find_map(|flag| {
            let slot = match flag {
                Flags::URGENT => urgent.pop_front(),
                Flags::DIRTY => dirty.pop(now, hurry),
                _ => bulk.pop(now, hurry),
            };
            Some((slot?, flag))
        })
    }

    /// Ends a turn, which has written what it could. `cut_after` says after how many writes it had to stop for lack
    /// of time. `now_millis` is asked when a pass ended.
    pub(crate) fn end_turn(&mut self, cut_after: Option<usize>, now_millis: impl FnOnce() -> u64) {
        self.writes_per_turn = cut_after.unwrap_or(FLUSHES_PER_TURN) as u64;
        if self.dirty.has_ended() || self.bulk.has_ended() {
            let now = now_millis();
            self.dirty.end_turn(now, &mut self.fan_out);
            self.bulk.end_turn(now, &mut self.fan_out);
        }
    }

    /// Whether any connection waits to be written now.
    pub(crate) fn has_work(&self, now_millis: u64) -> bool {
        let hurry = self.hurries();
        !self.urgent.is_empty() || self.dirty.is_due(now_millis, hurry) || self.bulk.is_due(now_millis, hurry)
    }

    /// The time from which on the next pass, which was put off, may begin.
    pub(crate) fn next_millis(&self) -> Option<u64> {
        [self.dirty.next_millis(), self.bulk.next_millis()].into_iter().flatten().min()
    }

    /// The longest time since the last call, in milliseconds, for which something queued waited for its connection's turn
    /// to be written: what the longest pass took. Connections whose sockets take nothing are in no pass.
    pub(crate) fn take_longest_wait(&mut self, now_millis: u64) -> u64 {
        self.dirty.take_longest(now_millis).max(self.bulk.take_longest(now_millis))
    }

    /// How long broadcasts took, from the begin of the turn in which they came to the end of the pass in which the last of their
    /// members was written that has a socket which takes something and was not half full.
    pub(crate) const fn fan_out_times(&self) -> &Histogram {
        &self.fan_out
    }

    /// Records that the kernel took so many bytes of a connection that was not blocked.
    #[inline]
    pub(crate) fn advance(&mut self, conn: &mut Conn, count: usize) {
        let before = conn.queue.frames();
        self.outbox.advance(&mut conn.queue, count);
        self.backlog -= u64::from(before - conn.queue.frames());
    }

    /// Records that the kernel takes no more for now.
    pub(crate) fn block(&mut self, conn: &mut Conn) {
        self.backlog -= conn.backlog();
        conn.flags.set(Flags::BLOCKED);
    }

    /// Records that the kernel takes data again. False when the connection was not blocked.
    pub(crate) fn unblock(&mut self, slot: Slot, conn: &mut Conn) -> bool {
        if !conn.flags.take(Flags::BLOCKED) {
            return false;
        }
        if !conn.queue.is_empty() {
            self.backlog += conn.backlog();
            self.mark_urgent(slot, conn);
        }
        true
    }

    /// Queues a frame for one connection only. False when its socket is blocked and its queue full.
    pub(crate) fn reply(&mut self, slot: Slot, conn: &mut Conn, frame: Bytes, limits: &Limits) -> bool {
        let mut run = Run::new(&mut self.outbox, frame, 1);
        let offered = offer(&mut self.outbox, conn, &mut run, limits);
        run.end(&mut self.outbox);
        match offered {
            Offer::Waits => {}
            Offer::Queued => {
                self.backlog += 1;
                self.mark_urgent(slot, conn);
            }
            Offer::Pressing => {
                self.backlog += 1;
                self.press(slot, conn);
            }
            Offer::Full => return false,
        }
        true
    }

    /// Queues a frame that belongs to the handshake of opening or closing, whatever the queue holds.
    pub(crate) fn queue_one(&mut self, slot: Slot, conn: &mut Conn, frame: Bytes) {
        self.change(conn, |outbox, queue| outbox.push_one(queue, frame));
        self.mark_urgent(slot, conn);
    }

    /// Empties a queue, but for the rest of a frame that is partly sent when `keep_partial` asks for it.
    pub(crate) fn clear(&mut self, conn: &mut Conn, keep_partial: bool) {
        self.change(conn, |outbox, queue| outbox.clear(queue, keep_partial));
    }

    /// Changes a queue and keeps the backlog right.
    fn change(&mut self, conn: &mut Conn, change: impl FnOnce(&mut Outbox, &mut Queue)) {
        let before = conn.backlog();
        change(&mut self.outbox, &mut conn.queue);
        self.backlog = self.backlog + conn.backlog() - before;
    }

    /// Makes the connection one of those that are written soon, unless it is blocked.
    pub(crate) fn mark_urgent(&mut self, slot: Slot, conn: &mut Conn) {
        if !conn.flags.has(Flags::URGENT) && !conn.flags.has(Flags::BLOCKED) {
            conn.flags.set(Flags::URGENT);
            self.urgent.push_back(slot);
        }
    }

    /// Makes the connection one of those that are written first. The shard reads little until it is written.
    fn press(&mut self, slot: Slot, conn: &mut Conn) {
        conn.flags.set(Flags::PRESSED);
        self.pressed += 1;
        self.mark_urgent(slot, conn);
    }

    pub(crate) fn unpress(&mut self, conn: &mut Conn) {
        self.pressed -= u64::from(conn.flags.take(Flags::PRESSED));
    }

    /// Moves the queues into tables that are no larger than needed.
    pub(crate) fn compact(&mut self, sessions: &mut Sessions) {
        let queues = sessions.iter_mut().map(|conn| &mut conn.queue);
        self.outbox.compact(queues.filter(|queue| !queue.is_empty()));
    }

    /// Gives memory of a past peak back.
    pub(crate) fn trim(&mut self) {
        self.outbox.trim();
        self.deflater.trim();
        for list in [&mut self.urgent, self.dirty.list_mut(), self.bulk.list_mut()] {
            if list.is_empty() && list.capacity() > KEPT {
                list.shrink_to_fit();
            }
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Egress {
    /// Frames that wait, and connections whose queue is half full.
    pub(crate) const fn waiting(&self) -> (u64, u64) {
        (self.backlog, self.pressed)
    }

    /// Lets no broadcast be written before this time, as after a long pass.
    pub(crate) const fn put_off(&mut self, until_millis: u64) {
        self.dirty.put_off(until_millis);
        self.bulk.put_off(until_millis);
    }
}
