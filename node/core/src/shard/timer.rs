//! What time does: deadlines by a coarse sweep, and the pace of a drain.
//!
//! A connection has no timer. It carries two bytes of coarse time, and a sweep looks at a quarter of all connections
//! every [`STAMP_MILLIS`]: a sequential walk, 0.3 ms per second and 100,000 connections.

use bytes::Bytes;

use super::{Flags, Phase, Shard};
use crate::{
    counters::{CloseReason, RefuseReason},
    limits::{STAMP_MILLIS, SWEEP_PARTS},
    room::ConnId,
    ws::{CloseCode, Opcode},
};

#[derive(Debug, Default)]
pub(super) struct Timers {
    last_sweep_millis: u64,
    sweep_part: usize,
    /// When each part was looked at last, in stamps.
    swept: [u16; SWEEP_PARTS],
    /// How many places were shared out among the parts then.
    places: [usize; SWEEP_PARTS],
    leaving: Option<Leaving>,
    /// Nothing slows the end down or takes it back.
    ending: bool,
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

/// A ping without a payload.
const PING: &[u8] = &[0x80 | Opcode::Ping as u8, 0];

/// Whether a connection that has been silent for `age_millis` passed a multiple of the interval since the sweep before, so
/// many stamps ago. Nothing has to be remembered per connection: a ping that is not answered is repeated after the interval.
const fn is_due(every_millis: u64, age_millis: u64, since_stamps: u16) -> bool {
    let before = age_millis.saturating_sub(since_stamps as u64 * STAMP_MILLIS);
    age_millis / every_millis > before / every_millis
}

impl Timers {
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }
}

impl Shard {
    /// Closes connections at a pace, or all at once with [`u32::MAX`], and refuses new ones. After
    /// [`Shard::on_shutdown`] the pace stays what it is.
    pub fn on_drain(&mut self, connections_per_second: u32) {
        let rate = if self.timers.ending { u64::from(u32::MAX) } else { u64::from(connections_per_second) };
        // The first connection goes at once, so that the slowest pace still begins.
        let first =
            Leaving { connections_per_second: rate, credit: 1_000, last_millis: self.now_millis, cursor: 0 };
        let leaving = self.timers.leaving.unwrap_or(first);
        self.timers.leaving = Some(Leaving { connections_per_second: rate, ..leaving });
        self.pace_drain();
    }

    /// Closes all connections with 1012 on the next tick, and forgets those that have not said what they want.
    pub fn on_shutdown(&mut self) {
        self.timers.ending = true;
        self.on_drain(u32::MAX);
        for index in 0..self.conns.capacity() {
            if self.conns.get(index).is_some_and(|conn| conn.phase == Phase::Handshake) {
                self.counters.count_refused(RefuseReason::Draining);
                self.end(ConnId(index as u32));
            }
        }
    }

    /// Ends a drain: new connections are welcome again.
    pub fn on_drain_stopped(&mut self) {
        if !self.timers.ending {
            self.timers.leaving = None;
        }
    }

    /// Whether new connections are refused.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.timers.is_leaving()
    }

    /// To be called about every [`crate::limits::TICK_MILLIS`] with time of the turn.
    pub fn on_tick(&mut self) {
        self.pace_drain();
        if self.now_millis < self.timers.last_sweep_millis + STAMP_MILLIS {
            return;
        }
        self.timers.last_sweep_millis = self.now_millis;
        self.sweep();
        self.outbox.trim();
        self.rooms.trim();
        self.compact_outbox();
        self.rates.trim(self.now_millis, !self.conns.is_empty());
        self.refresh_memory();
        self.trim();
    }

    fn pace_drain(&mut self) {
        let now = self.now_millis;
        let Some(leaving) = &mut self.timers.leaving else { return };
        let elapsed = now - leaving.last_millis;
        leaving.last_millis = now;
        // One second of credit at most: a stalled shard does not make up for it in one burst.
        let most = leaving.connections_per_second * 1_000;
        leaving.credit = (leaving.credit + leaving.connections_per_second * elapsed).min(most.max(1_000));
        let mut budget = leaving.credit / 1_000;
        let mut cursor = leaving.cursor;
        let end = self.conns.capacity();
        let mut closed = 0;
        for _ in 0..end {
            if budget == 0 {
                break;
            }
            if cursor >= end {
                cursor = 0;
            }
            if self.conns.get(cursor).is_some_and(|conn| conn.phase == Phase::Open) {
                self.close(ConnId(cursor as u32), CloseReason::Drain, CloseCode::Restart);
                budget -= 1;
                closed += 1;
            }
            cursor += 1;
        }
        if let Some(leaving) = &mut self.timers.leaving {
            leaving.credit -= closed * 1_000;
            leaving.cursor = cursor;
        }
    }

    fn sweep(&mut self) {
        let end = self.conns.capacity();
        let part = self.timers.sweep_part;
        self.timers.sweep_part = (part + 1) % SWEEP_PARTS;
        let now = self.stamp();
        let before = std::mem::replace(&mut self.timers.swept[part], now);
        let places = std::mem::replace(&mut self.timers.places[part], end);
        // Who came into this part because the table grew may have been passed over in the round before: a ping too many
        // does no harm, and one too few lets a connection be idle for too long.
        let moved = if places == end { 0 } else { SWEEP_PARTS as u16 };
        let since = now.wrapping_sub(before).saturating_add(moved);
        let pings = self.config.limits.ping_interval_millis;
        let limits = &self.config.limits;
        let idle = limits.idle_timeout_millis;
        // Who connects to a node that leaves is refused anyway, and must not hold up its end.
        let close = self.options.close_timeout_millis;
        let patience = if self.timers.leaving.is_some() { close } else { u64::MAX };
        let handshake = limits.handshake_timeout_millis.min(patience);
        for index in (part * end / SWEEP_PARTS)..((part + 1) * end / SWEEP_PARTS) {
            let Some(conn) = self.conns.get(index) else { continue };
            let age_millis = u64::from(now.wrapping_sub(conn.stamp)) * STAMP_MILLIS;
            let id = ConnId(index as u32);
            match conn.phase {
                Phase::Open if age_millis > idle => {
                    self.close(id, CloseReason::Idle, CloseCode::ProtocolError);
                }
                Phase::Open if pings.is_some_and(|every| is_due(every, age_millis, since)) => {
                    self.ping(id);
                }
                Phase::Handshake if age_millis > handshake => {
                    self.counters.count_refused(RefuseReason::Timeout);
                    self.end(id);
                }
                Phase::Leaving | Phase::Closing | Phase::Linger | Phase::Drop | Phase::Final
                    if age_millis > close =>
                {
                    self.end(id);
                }
                _ => {}
            }
        }
    }

    /// Asks a silent connection for a sign of life, unless bytes for it wait in vain: then it is asked already.
    fn ping(&mut self, id: ConnId) {
        if !self.conns[id.index()].flags.has(Flags::BLOCKED) {
            self.reply(id, Bytes::from_static(PING));
        }
    }

    /// Gives memory of a past peak back.
    fn trim(&mut self) {
        const KEPT: usize = 1_024;
        if self.conns.is_empty() && self.conns.capacity() > KEPT {
            self.conns.shrink_to_fit();
        }
        for list in [&mut self.urgent, self.dirty.list_mut(), self.bulk.list_mut()] {
            if list.is_empty() && list.capacity() > KEPT {
                list.shrink_to_fit();
            }
        }
        if self.outgoing.is_empty() && self.outgoing.capacity() > KEPT {
            self.outgoing.shrink_to_fit();
        }
    }
}
