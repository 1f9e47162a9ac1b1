//! Time: deadlines of connections by a coarse sweep, and the pace of a drain.
//!
//! A connection has no timer. It carries two bytes of coarse time, and a sweep looks at a quarter of all connections
//! every [`STAMP_MILLIS`]: a sequential walk, 0.3 ms per second and 100,000 connections.

use bytes::Bytes;

use super::{event::Effect, state::Shard, timers::Deadline};
use crate::{
    counters::CloseReason,
    limits::STAMP_MILLIS,
    session::{
        conn::{Conn, Flags},
        id::Slot,
        lifecycle::{Cause, Phase},
    },
    ws::{CloseCode, Opcode},
};

/// A ping without a payload.
const PING: &[u8] = &[0x80 | Opcode::Ping as u8, 0];

/// Places that the list of effects keeps although there are none.
const KEPT: usize = 1_024;

/// Whether a connection that has been silent for `age_millis` passed a multiple of the interval since the sweep before, so
/// many stamps ago. Nothing has to be remembered per connection: a ping that is not answered is repeated after the interval.
const fn is_due(every_millis: u64, age_millis: u64, since_stamps: u16) -> bool {
    let before = age_millis.saturating_sub(since_stamps as u64 * STAMP_MILLIS);
    age_millis / every_millis > before / every_millis
}

impl Shard {
    /// Does what is due at the time of the turn. To be called after the turn's events were told, so that a connection whose
    /// input has arrived is not taken for idle. True when the coarse tick was among it, which comes every
    /// [`STAMP_MILLIS`], or [`crate::limits::TICK_MILLIS`] while the shard drains or moves clients.
    pub fn handle_timeout(&mut self) -> bool {
        while let Some(deadline) = self.timers.pop(self.now_millis) {
            match deadline {
                // The room may be gone. Another room with its id does nothing before its own deadline.
                Deadline::Room(room) if self.topics.is_open(room) => self.deadline_came(room),
                // The connection may have ended, and the next one in its slot may not have waited.
                Deadline::Read(slot) if self.sessions.end_wait(slot) => {
                    self.effects.push(Effect::Resume(slot));
                }
                Deadline::Session(slot) => self.session_due(slot),
                Deadline::Answer(slot) => self.answer_due(slot),
                Deadline::Room(_) | Deadline::Read(_) => {}
            }
        }
        self.look_at_memory();
        let ticks = self.timers.take_tick(self.now_millis, self.course.is_under_way());
        if ticks {
            self.tick();
        }
        ticks
    }

    /// When a turn is due although nothing happens, in milliseconds on the clock of [`Shard::begin_turn`].
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        let next = self.timers.next_millis();
        self.egress.next_millis().map_or(next, |writes| writes.min(next))
    }

    fn tick(&mut self) {
        self.pace_drain();
        self.move_clients();
        self.end_expired();
        if self.lately.is_over(self.now_millis) {
            let waited_millis = self.egress.take_longest_wait(self.now_millis);
            self.lately.end(self.now_millis, waited_millis);
        }
        let stamp = self.stamp();
        let Some(part) = self.timers.take_sweep(self.now_millis, stamp, self.sessions.end()) else { return };
        (part.from..part.to).for_each(|index| self.sweep(Slot(index as u32), part.since));
        self.egress.trim();
        self.inflater.take_if(|inflater| {
            inflater.trim();
            inflater.held_bytes() == 0
        });
        self.topics.trim();
        self.compact_outbox();
        self.sessions.trim(self.now_millis);
        self.options.addresses.sweep(self.now_millis);
        self.refresh_memory();
        self.timers.trim();
        if self.effects.is_empty() && self.effects.capacity() > KEPT {
            self.effects.shrink_to_fit();
        }
    }

    /// Begins a drain, or changes its pace.
    pub(super) fn drain(&mut self, connections_per_second: u32) {
        self.course.stop();
        self.timers.leave(self.now_millis, connections_per_second, false);
        self.pace_drain();
    }

    /// Closes all connections on the next tick, and drops those whose request is not complete.
    pub(super) fn shut_down(&mut self) {
        self.course.stop();
        self.timers.leave(self.now_millis, u32::MAX, true);
        self.pace_drain();
        for index in 0..self.sessions.end() {
            let slot = Slot(index as u32);
            // A session that closes answers the request that waits for it.
            if self.sessions.get(slot).is_some_and(Conn::is_all_sent) && !self.polls.is_waiting(slot) {
                self.advance(slot, Cause::ShutDown);
            } else {
                self.let_go_of_carried(slot);
            }
        }
    }

    fn pace_drain(&mut self) {
        let Some((mut budget, mut cursor)) = self.timers.drain_budget(self.now_millis) else { return };
        let end = self.sessions.end();
        let mut closed = 0;
        for _ in 0..end {
            if budget == 0 {
                break;
            }
            if cursor >= end {
                cursor = 0;
            }
            let slot = Slot(cursor as u32);
            if self.sessions.get(slot).is_some_and(|conn| conn.is(Phase::Open)) {
                self.close(slot, CloseReason::Drain, CloseCode::Restart);
                budget -= 1;
                closed += 1;
            }
            cursor += 1;
        }
        self.timers.note_drained(closed, cursor);
    }

    /// Looks whether time has done something to a connection; `since` is how many stamps ago it was looked at before.
    fn sweep(&mut self, slot: Slot, since: u16) {
        let Some(conn) = self.sessions.get(slot) else { return };
        if conn.flags.has(Flags::BLOCKED) {
            self.look_at_queue(slot);
        }
        let conn = &self.sessions[slot];
        let limits = &self.config.limits;
        let age_millis = u64::from(self.stamp().wrapping_sub(conn.stamp)) * STAMP_MILLIS;
        // A connection that comes to a node that leaves is refused anyway, and must not hold up its end.
        let close = self.options.close_timeout_millis;
        let patience = if self.timers.is_leaving() { close } else { u64::MAX };
        match conn.phase() {
            // A session has no idle time: it ends when its client does not poll.
            Phase::Open if age_millis > limits.idle_timeout_millis && !conn.flags.has(Flags::POLLED) => {
                self.close(slot, CloseReason::Idle, CloseCode::ProtocolError);
            }
            Phase::Open => {
                if limits.ping_interval_millis.is_some_and(|every| is_due(every, age_millis, since)) {
                    self.ping(slot);
                }
            }
            Phase::Handshake => {
                if age_millis > limits.handshake_timeout_millis.min(patience) {
                    self.advance(slot, Cause::TimedOut);
                }
            }
            Phase::Asking => {
                if !self.gives_up_carried(slot, age_millis)
                    && age_millis > self.asking_patience(slot, patience)
                {
                    self.advance(slot, Cause::TimedOut);
                }
            }
            Phase::Gone => {}
            Phase::Leaving | Phase::Closing | Phase::Linger | Phase::Drop | Phase::Final => {
                if age_millis > close {
                    self.advance(slot, Cause::TimedOut);
                }
            }
        }
    }

    /// Asks a silent connection for a sign of life, unless bytes for it wait in vain: then it is asked already. The polls
    /// of a session are its signs of life.
    fn ping(&mut self, slot: Slot) {
        let flags = self.sessions[slot].flags;
        if !flags.has(Flags::BLOCKED) && !flags.has(Flags::POLLED) {
            self.reply(slot, Bytes::from_static(PING));
        }
    }
}
