//! The memory that clients make a shard hold: its sum, and what the shard does near the budget.
//!
//! Nothing here is counted twice or kept in step by hand where it can be asked for: the outbox, the rooms and the
//! tables know their sizes, and only the bytes of readers and channels are counted as they change.

use std::cmp::Reverse;

use super::{event::Effect, state::Shard};
use crate::{
    auth::Priority,
    counters::CloseReason,
    ledger::{CONNECTION_BYTES, Held, Kind, MEMBER_BYTES, ROOM_BYTES, Stage, bus_bytes},
    limits::{SMALL_READ_BYTES, STAMP_MILLIS},
    session::{
        conn::Flags,
        id::Slot,
        lifecycle::{Cause, Phase},
        side::Unread,
    },
    ws::CloseCode,
};

/// A connection that took nothing for so long, or whose message is incomplete for so long, is closed before others
/// when memory is short. A healthy client takes what it is sent within a round trip.
const STALLED_MILLIS: u64 = 1_000;

/// The part of the shard's allowance that whole messages which it put off may take at the budget. Beyond it the shard
/// reads no more of them. It is less than closing leaves free.
const CROWD_PART: u64 = 32;

/// Closing a connection that holds fewer bytes, less than one small read, frees next to nothing: a low priority does not
/// make it go before connections that hold more.
const LITTLE_BYTES: usize = 4 * 1024;

/// A connection that may be closed, with the bytes that closing it gives back.
#[derive(Debug)]
struct Candidate {
    /// 0: it is closed already; 1: it is stuck; 2: it is slow.
    class: u8,
    priority: Priority,
    bytes: usize,
    slot: Slot,
    /// Whether most of these bytes are output.
    output: bool,
}

impl Shard {
    /// The memory that the shard holds, by kind.
    pub(super) fn held_by_kind(&self) -> Held {
        let mut held = [0; Kind::COUNT];
        let mut set = |kind: Kind, bytes: u64| held[kind as usize] = bytes;
        let sessions = self.sessions.memory();
        set(Kind::Heads, sessions.heads);
        set(Kind::Input, sessions.input);
        set(Kind::Queues, self.egress.outbox().held_bytes() as u64);
        set(Kind::Windows, (self.topics.held_bytes() + self.timers.held_bytes()) as u64);
        set(Kind::Mail, self.gauge.mail);
        set(Kind::Transport, self.gauge.transport);
        set(Kind::Rooms, self.topics.len() as u64 * ROOM_BYTES + self.topics.memberships() * MEMBER_BYTES);
        set(Kind::Channels, sessions.channels);
        set(
            Kind::Connections,
            self.sessions.len() as u64 * CONNECTION_BYTES
                + self.polls.held_bytes()
                + self.sessions.origins().held_bytes(),
        );
        set(Kind::Identities, self.sessions.identities().held_bytes());
        set(Kind::Hooks, self.inquiries.held_bytes());
        let inflater = self.inflater.as_ref().map_or(0, |inflater| inflater.held_bytes());
        set(Kind::Compression, (self.egress.deflater_bytes() + inflater) as u64);
        held
    }

    /// The sum over all kinds.
    pub(super) fn held(&self) -> u64 {
        self.held_by_kind().iter().sum()
    }

    /// What frames of clients and the thread change.
    #[inline]
    fn held_by_frames(&self) -> u64 {
        let sessions = self.sessions.memory();
        let rooms = self.topics.len() as u64 * ROOM_BYTES + self.topics.memberships() * MEMBER_BYTES;
        let held = self.egress.outbox().held_bytes() + self.topics.held_bytes();
        sessions.input + sessions.channels + rooms + held as u64 + self.gauge.mail + self.gauge.transport
    }

    /// The highest use of memory since the last call, in thousandths of what the shard may hold.
    pub fn take_memory_permille(&mut self) -> u64 {
        let held = self.held();
        self.gauge.ledger.take_highest_permille(held)
    }

    /// How many bytes to read at once from a connection, where `most` is what there is room for.
    #[must_use]
    pub fn read_bytes(&self, most: usize) -> usize {
        if self.is_over_budget() || self.gauge.stage > Stage::Free {
            most.min(SMALL_READ_BYTES)
        } else {
            most
        }
    }

    /// Whether new connections and channels are refused for lack of memory, whichever client asks for them.
    #[must_use]
    pub(super) fn refuses_everybody(&self) -> bool {
        self.gauge.stage >= Stage::Refuse && self.refuses(Priority::High)
    }

    /// Whether handshakes and incomplete requests are refused for lack of memory: what comes of clients that have not
    /// said yet who they are.
    #[must_use]
    pub fn refuses_unknown(&self) -> bool {
        self.gauge.stage >= Stage::Refuse
            && (!self.config.auth.ranks_clients() || self.gauge.ledger.refuses_unknown(self.held()))
    }

    /// Whether those of a client of this priority are refused for lack of memory.
    #[inline]
    pub(super) fn refuses(&self, priority: Priority) -> bool {
        self.gauge.stage > Stage::Free && self.refuses_at_this_stage(priority)
    }

    #[cold]
    fn refuses_at_this_stage(&self, priority: Priority) -> bool {
        if self.config.auth.ranks_clients() {
            self.gauge.ledger.refuses(self.held(), priority)
        } else {
            self.gauge.stage >= Stage::Refuse
        }
    }

    /// Whether a connection may have no more channels for lack of memory.
    #[inline]
    pub(super) fn refuses_more_of(&self, slot: Slot) -> bool {
        self.gauge.stage > Stage::Free && self.refuses_at_this_stage(self.priority(slot))
    }

    fn priority(&self, slot: Slot) -> Priority {
        self.sessions.identities().get(slot).map_or(Priority::Normal, |holder| holder.identity.priority())
    }

    /// Whether a connection is not read now for lack of memory. While memory is short this holds for a connection
    /// that does not take what it is sent. At the budget it holds for every connection, except one whose messages
    /// wait here already: they are served without reading more.
    pub(super) fn holds_reads_of(&mut self, slot: Slot) -> bool {
        if self.gauge.stage == Stage::Free {
            return false;
        }
        let conn = &self.sessions[slot];
        let until = if conn.flags.has(Flags::BLOCKED) {
            Unread::UntilItTakes
        } else if self.is_crowded() && conn.reader.held_bytes() == 0 {
            Unread::UntilFewerWait
        } else {
            return false;
        };
        let first = self.sessions.side_mut().hold(slot, until);
        self.counters.reads_held += u64::from(first);
        true
    }

    /// Whether the shard is at its budget and the whole messages that it put off take a part of it that reading less
    /// would make smaller.
    fn is_crowded(&self) -> bool {
        let put_off = self.sessions.memory().input.saturating_sub(self.sessions.incomplete_bytes() as u64);
        self.gauge.stage == Stage::Close && put_off > self.gauge.ledger.allowance() / CROWD_PART
    }

    /// Looks at the sum after something may have grown, and does what the sum asks for.
    #[inline]
    pub(super) fn look_at_memory(&mut self) {
        let held = self.held();
        self.gauge.besides_frames = held - self.held_by_frames();
        self.look_at(held);
    }

    /// As [`Shard::look_at_memory`], for a read of frames: these come by the million, and most kinds are as they were when
    /// all were last counted.
    #[inline]
    pub(super) fn look_at_memory_of_frames(&mut self) {
        self.look_at(self.gauge.besides_frames + self.held_by_frames());
    }

    #[inline]
    fn look_at(&mut self, held: u64) {
        if held > self.gauge.calm_below || self.gauge.stage > Stage::Free {
            self.face_memory(held);
        }
    }

    #[inline(never)]
    fn face_memory(&mut self, held: u64) {
        self.settle_memory(held);
        if self.gauge.stage == Stage::Close && self.gauge.ledger.should_relieve(held) {
            self.relieve();
        }
        if self.gauge.stage == Stage::Free {
            self.resume_all(Unread::UntilItTakes);
        }
        if self.sessions.side().has_unread(Unread::UntilFewerWait) && !self.is_crowded() {
            self.resume_all(Unread::UntilFewerWait);
        }
    }

    fn resume_all(&mut self, until: Unread) {
        let resumed = self.sessions.side_mut().resume_all(until);
        self.effects.extend(resumed.into_iter().map(Effect::Resume));
    }

    /// The budget of the node, and the bytes that all shards hold together.
    fn budget(&self) -> (u64, u64) {
        let budget = self.config.limits.memory_budget.unwrap_or(u64::MAX);
        let frame = self.config.limits.max_frame_bytes.into();
        let bus = if self.options.has_bus { bus_bytes(budget, frame, self.config.long_poll) } else { 0 };
        let tokens = self.config.auth.keys.held_bytes();
        (budget, self.options.registry.bytes() + self.options.addresses.held_bytes() + tokens + bus)
    }

    /// Publishes the sum for the other shards, when that is due, and finds out how near the budget is.
    pub(super) fn settle_memory(&mut self, held: u64) {
        let budget = self.config.limits.memory_budget.unwrap_or(u64::MAX);
        if self.gauge.ledger.is_stale(held, budget) {
            let amounts = self.budget();
            self.gauge.ledger.settle(self.options.places.holdings(), self.options.index, held, amounts);
        }
        self.gauge.stage = self.gauge.ledger.stage(held);
        self.gauge.calm_below = if budget == u64::MAX {
            u64::MAX
        } else {
            (held + budget / 512).min(self.gauge.ledger.relieved())
        };
    }

    /// Looks anew at what the other shards leave, also when nothing changed here.
    pub(super) fn refresh_memory(&mut self) {
        let (held, amounts) = (self.held(), self.budget());
        self.gauge.ledger.settle(self.options.places.holdings(), self.options.index, held, amounts);
        self.gauge.ledger.forget_vain();
        self.face_memory(held);
    }

    /// The bytes that are in use, without those that tables keep for a next burst.
    fn live(&self) -> u64 {
        self.held() - self.egress.outbox().slack_bytes() as u64
    }

    /// Closes connections that take nothing until enough is free: by class, then connections that hold much, then by
    /// priority, then the largest. A connection is never among them when its socket takes data, it has no incomplete
    /// message, and it sends no more than its rate.
    fn relieve(&mut self) {
        self.compact_outbox();
        let target = self.gauge.ledger.relieved();
        if self.held() > target {
            let mut candidates: Vec<_> =
                (0..self.sessions.end()).filter_map(|index| self.candidate(Slot(index as u32))).collect();
            candidates.sort_unstable_by_key(|one| {
                (one.class, one.bytes < LITTLE_BYTES, one.priority, Reverse(one.bytes))
            });
            for candidate in candidates {
                if self.live() <= target {
                    break;
                }
                self.give_up(&candidate);
            }
            self.compact_outbox();
        }
        let held = self.held();
        self.gauge.ledger.relieved_to(held);
        self.settle_memory(held);
    }

    /// Gives back what the tables keep for a next burst, where that is worth a walk over them.
    pub(super) fn compact_outbox(&mut self) {
        if self.egress.outbox().slack_bytes() as u64 > self.gauge.ledger.allowance() / 16
            || self.egress.outbox().is_sparse()
        {
            self.egress.compact(&mut self.sessions);
        }
    }

    fn candidate(&mut self, slot: Slot) -> Option<Candidate> {
        // Most slots may be free: a free one costs no further look.
        self.sessions.get(slot)?;
        let now = self.stamp();
        let age_millis = |since: u16| u64::from(now.wrapping_sub(since)) * STAMP_MILLIS;
        // The client is not to blame for whole messages that this node has put off, unless it says too many.
        let hasty = self.sessions.is_beyond_rate(slot, self.now_millis, &self.config.limits);
        let aside = self.sessions.side().get(slot);
        let (stalled, unsent) = aside.map_or((None, 0), |aside| (aside.blocked_since, aside.unsent as usize));
        let conn = self.sessions.get_mut(slot)?;
        let blocked = conn.flags.has(Flags::BLOCKED);
        let healthy = conn.is(Phase::Open) && !blocked && !hasty;
        let input = if healthy { conn.reader.incomplete_bytes() } else { conn.reader.held_bytes() };
        let output = if blocked { self.egress.outbox().share_bytes(&conn.queue) + unsent } else { 0 };
        if input + output == 0 || conn.is(Phase::Gone) {
            return None;
        }
        let since = conn.reader.incomplete_since(now, false);
        let stuck = match conn.phase() {
            Phase::Handshake | Phase::Asking => age_millis(conn.stamp) >= STALLED_MILLIS,
            _ if blocked => stalled.is_some_and(|since| age_millis(since) >= STALLED_MILLIS),
            _ => conn.reader.incomplete_bytes() > 0 && age_millis(since) >= STALLED_MILLIS,
        };
        let ended = !matches!(conn.phase(), Phase::Open | Phase::Handshake | Phase::Asking);
        let class = if ended { 0 } else { 2 - u8::from(stuck) };
        let priority = self.priority(slot);
        Some(Candidate { class, priority, bytes: input + output, slot, output: output >= input })
    }

    fn give_up(&mut self, candidate: &Candidate) {
        let slot = candidate.slot;
        if !self.sessions[slot].is(Phase::Open) {
            self.advance(slot, Cause::GivenUp);
            return;
        }
        let code = if candidate.output { CloseCode::SlowConsumer } else { CloseCode::TryAgainLater };
        self.sessions.forget_input(slot);
        self.close_now(slot, CloseReason::Memory, code);
    }
}
