//! The end of a turn: which connections to write, and what follows from how much the kernel took.

use super::{Flags, Phase, Shard};
use crate::{
    counters::CloseReason,
    limits::{BACKLOG_FRAMES, FLUSHES_PER_TURN, STAMP_MILLIS},
    outbox::{Outbox, Queue},
    room::ConnId,
    ws::CloseCode,
};

/// What the thread has to do after it wrote a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFlush {
    /// Nothing.
    Keep,
    /// End the output with shutdown(2); input is still read.
    EndOutput,
}

/// Out of so many writes one goes to the members of large rooms; of the others every second goes to who gets replies, and
/// every second to who has broadcasts only. So neither a flood of requests that fills every turn nor one huge room holds
/// back what the other rooms say, and none of them waits for ever.
const ROUND: u64 = 8;

impl Shard {
    /// The next connection to write; each once until it has something new.
    pub fn next_flush(&mut self) -> Option<ConnId> {
        loop {
            let (id, flag) = self.pop()?;
            // The list may name a connection that was flushed, or ended and replaced, since.
            let Some(conn) = self.conns.get_mut(id.index()) else { continue };
            if conn.flags.take(flag) && !conn.flags.has(Flags::BLOCKED) && !conn.queue.is_empty() {
                self.unpress(id);
                return Some(id);
            }
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<(ConnId, Flags)> {
        // Nobody waits in two of them most of the time.
        if self.urgent.is_empty()
            && self.bulk.is_empty()
            && let Some(id) = self.dirty.pop_begun()
        {
            return Some((id, Flags::DIRTY));
        }
        self.pop_in_turn()
    }

    #[inline(never)]
    fn pop_in_turn(&mut self) -> Option<(ConnId, Flags)> {
        let (now, hurry) = (self.now_millis, self.hurries());
        let Self { urgent, dirty, bulk, flushes, .. } = self;
        *flushes = flushes.wrapping_add(1);
        let order = match *flushes % ROUND {
            0 => [Flags::BULK, Flags::URGENT, Flags::DIRTY],
            odd if odd % 2 == 1 => [Flags::URGENT, Flags::DIRTY, Flags::BULK],
            _ => [Flags::DIRTY, Flags::URGENT, Flags::BULK],
        };
        order.into_iter().find_map(|flag| {
            let id = match flag {
                Flags::URGENT => urgent.pop_front(),
                Flags::DIRTY => dirty.pop(now, hurry),
                _ => bulk.pop(now, hurry),
            };
            Some((id?, flag))
        })
    }

    /// The turn has written what it could: call it at the end of each. `cut_after` says after how many writes it had to stop
    /// for lack of time. `now_millis` reads the clock of [`Shard::begin_turn`], and is asked when a pass over those with
    /// broadcasts ended.
    pub fn end_flushes(&mut self, cut_after: Option<usize>, now_millis: impl FnOnce() -> u64) {
        self.writes_per_turn = cut_after.unwrap_or(FLUSHES_PER_TURN) as u64;
        if self.dirty.has_ended() || self.bulk.has_ended() {
            let now = now_millis();
            self.dirty.end_turn(now);
            self.bulk.end_turn(now);
        }
    }

    /// Whether anything waits to be flushed now.
    #[must_use]
    pub fn has_flushes(&self) -> bool {
        let (now, hurry) = (self.now_millis, self.hurries());
        !self.urgent.is_empty() || self.dirty.is_due(now, hurry) || self.bulk.is_due(now, hurry)
    }

    /// Whether so much waits that nothing is put off.
    const fn hurries(&self) -> bool {
        self.backlog >= BACKLOG_FRAMES
    }

    /// What is queued for a connection, with the frames it refers to.
    #[must_use]
    pub fn output(&self, id: ConnId) -> (&Outbox, &Queue) {
        (&self.outbox, &self.conns[id.index()].queue)
    }

    /// `count` bytes were taken by the kernel. `blocked` says that it takes no more for now, and that
    /// [`Shard::on_writable`] will be called when it does.
    pub fn on_sent(&mut self, id: ConnId, count: usize, blocked: bool) -> AfterFlush {
        let conn = &mut self.conns[id.index()];
        // Only who is not blocked is written, and so counts.
        let before = conn.queue.frames();
        self.outbox.advance(&mut conn.queue, count);
        self.backlog -= u64::from(before - conn.queue.frames());
        if blocked {
            self.backlog -= conn.backlog();
            conn.flags.set(Flags::BLOCKED);
            self.stalls.insert(id, (self.now_millis / STAMP_MILLIS) as u16);
            let limits = &self.config.limits;
            let over = conn.queue.bytes() > limits.send_queue_bytes
                || conn.queue.frames() > limits.send_queue_frames;
            if over && conn.phase == Phase::Open {
                self.close(id, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
            }
            return AfterFlush::Keep;
        }
        if !conn.queue.is_empty() {
            self.mark_urgent(id);
            return AfterFlush::Keep;
        }
        match conn.phase {
            Phase::Final => self.end(id),
            Phase::Linger => {
                conn.phase = Phase::Drop;
                return AfterFlush::EndOutput;
            }
            _ => {}
        }
        AfterFlush::Keep
    }

    /// The socket takes data again.
    pub fn on_writable(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index()];
        if !conn.flags.take(Flags::BLOCKED) {
            return;
        }
        self.stalls.remove(&id);
        if self.unread.remove(&id) {
            self.resumed.push(id);
        }
        if !self.conns[id.index()].queue.is_empty() {
            self.backlog += self.conns[id.index()].backlog();
            self.mark_urgent(id);
        }
    }

    /// Changes a queue and keeps the backlog right.
    pub(super) fn change_queue(&mut self, id: ConnId, change: impl FnOnce(&mut Outbox, &mut Queue)) {
        let conn = &mut self.conns[id.index()];
        let before = conn.backlog();
        change(&mut self.outbox, &mut conn.queue);
        self.backlog = self.backlog + conn.backlog() - before;
    }

    pub(super) fn mark_urgent(&mut self, id: ConnId) {
        let flags = &mut self.conns[id.index()].flags;
        if !flags.has(Flags::URGENT) && !flags.has(Flags::BLOCKED) {
            flags.set(Flags::URGENT);
            self.urgent.push_back(id);
        }
    }
}
