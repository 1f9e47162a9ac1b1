//! The end of a turn: which connections to write, and what follows from how much the kernel took.

use super::{Flags, Phase, Shard};
use crate::{
    counters::CloseReason,
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

/// One in so many writes goes to who has broadcasts only, also while replies wait: a flood of requests that fills every
/// turn does not hold back what rooms say.
const DIRTY_SHARE: u64 = 4;

impl Shard {
    /// The next connection to write, mostly those with replies first; each once until it has something new.
    pub fn next_flush(&mut self) -> Option<ConnId> {
        loop {
            self.flushes = self.flushes.wrapping_add(1);
            let reply_first = !self.flushes.is_multiple_of(DIRTY_SHARE) || self.dirty.is_empty();
            let reply = if reply_first { self.urgent.pop_front() } else { None };
            let (id, flag) = match reply {
                Some(id) => (id, Flags::URGENT),
                None => (self.dirty.pop_front()?, Flags::DIRTY),
            };
            // The list may name a connection that was flushed, or ended and replaced, since.
            if let Some(conn) = self.conns.get_mut(id.index())
                && conn.flags.take(flag)
                && !conn.flags.has(Flags::BLOCKED)
                && !conn.queue.is_empty()
            {
                return Some(id);
            }
        }
    }

    /// Whether anything waits to be flushed.
    #[must_use]
    pub fn has_flushes(&self) -> bool {
        !self.urgent.is_empty() || !self.dirty.is_empty()
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
        self.outbox.advance(&mut conn.queue, count);
        if blocked {
            conn.flags.set(Flags::BLOCKED);
            let limits = &self.config.limits;
            let over = conn.queue.bytes() > limits.send_queue_bytes
                || conn.queue.frames() > limits.send_queue_frames;
            if over && conn.phase == Phase::Open {
                self.close(id, CloseReason::SlowConsumer, CloseCode::SlowConsumer);
            }
            return AfterFlush::Keep;
        }
        if !conn.queue.is_empty() {
            self.mark_dirty(id);
            return AfterFlush::Keep;
        }
        match conn.phase {
            Phase::Final => self.end(id),
            Phase::Linger if !conn.flags.has(Flags::OUTPUT_ENDED) => {
                conn.flags.set(Flags::OUTPUT_ENDED);
                return AfterFlush::EndOutput;
            }
            _ => {}
        }
        AfterFlush::Keep
    }

    /// The socket takes data again.
    pub fn on_writable(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index()];
        if conn.flags.take(Flags::BLOCKED) && !conn.queue.is_empty() {
            self.mark_dirty(id);
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        let flags = &mut self.conns[id.index()].flags;
        if !flags.has(Flags::DIRTY) {
            flags.set(Flags::DIRTY);
            self.dirty.push_back(id);
        }
    }

    pub(super) fn mark_urgent(&mut self, id: ConnId) {
        let flags = &mut self.conns[id.index()].flags;
        if !flags.has(Flags::URGENT) && !flags.has(Flags::BLOCKED) {
            flags.set(Flags::URGENT);
            self.urgent.push_back(id);
        }
    }
}
