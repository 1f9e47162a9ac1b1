//! The memory that clients make a shard hold: its sum, and what happens near the budget.
//!
//! Nothing here is counted twice or kept in step by hand where it can be asked for: the outbox, the rooms and the tables
//! know what they hold, and only readers and channels are counted as they change.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::{Channel, Conn, Flags, Phase, Shard};
use crate::{
    counters::{CloseReason, RefuseReason},
    ledger::{CONNECTION_BYTES, Held, Kind, MEMBER_BYTES, ROOM_BYTES, Stage, bus_bytes},
    limits::{SMALL_READ_BYTES, STAMP_MILLIS},
    room::ConnId,
    ws::{CloseCode, Reader},
};

/// A connection that took nothing for so long, or did not end what it began to say, goes before others when memory is
/// short. A healthy client takes what it is sent within a round trip.
const STALLED_MILLIS: u64 = 1_000;

/// The part of what a shard may hold that whole messages which it put off may take at its budget before it reads no more of
/// them: less than closing leaves free.
const CROWD_PART: u64 = 32;

/// What closing a connection gives back.
#[derive(Debug)]
struct Candidate {
    /// 0 is closed already, 1 is stuck, 2 is slow.
    class: u8,
    bytes: usize,
    id: ConnId,
    /// Most of it is output.
    output: bool,
}

/// Memory in bytes of the list of channels when it does not fit its slot.
pub(super) fn spilled_bytes(channels: &SmallVec<[Channel; 1]>) -> u64 {
    if channels.spilled() { (channels.capacity() * size_of::<Channel>()) as u64 } else { 0 }
}

/// Memory in bytes of a connection's channels beside its slot.
pub(super) fn channels_bytes(conn: &Conn) -> u64 {
    let refs: usize = conn.channels.iter().map(|channel| channel.join_ref.heap_bytes()).sum();
    spilled_bytes(&conn.channels) + refs as u64
}

impl Shard {
    /// What the shard holds, by kind.
    #[must_use]
    pub fn held_by_kind(&self) -> Held {
        let mut held = [0; Kind::COUNT];
        let mut set = |kind: Kind, bytes: u64| held[kind as usize] = bytes;
        set(Kind::Heads, self.ledger.heads);
        set(Kind::Input, self.ledger.input);
        set(Kind::Queues, self.outbox.held_bytes() as u64);
        set(Kind::Windows, (self.rooms.held_bytes() + size_of_val(self.windows.as_slice())) as u64);
        set(Kind::Mail, self.ledger.mail);
        set(Kind::Rooms, self.rooms.len() as u64 * ROOM_BYTES + self.rooms.memberships() * MEMBER_BYTES);
        set(Kind::Channels, self.ledger.channels);
        set(Kind::Connections, self.conns.len() as u64 * CONNECTION_BYTES);
        held
    }

    /// The sum of all kinds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held_by_kind().iter().sum()
    }

    /// The thread holds so many bytes for the shard: in its mailbox, and for other shards.
    pub const fn note_mail(&mut self, bytes: u64) {
        self.ledger.mail = bytes;
    }

    /// The highest use of memory since the last call, in thousandths of what the shard may hold.
    pub fn take_memory_permille(&mut self) -> u64 {
        let held = self.held();
        self.ledger.take_highest_permille(held)
    }

    /// How many bytes to read at once from a connection, where `most` is what there is room for.
    #[must_use]
    pub fn read_bytes(&self, most: usize) -> usize {
        if self.is_over_budget() || self.stage > Stage::Free { most.min(SMALL_READ_BYTES) } else { most }
    }

    /// Whether new connections and channels are refused for lack of memory.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.stage >= Stage::Refuse
    }

    /// While memory is short a connection that does not take what it is sent is not heard either. At the budget nobody is,
    /// besides those whose messages wait here already, until less of them waits: that is served without reading more.
    pub(super) fn holds_reads_of(&mut self, id: ConnId) -> bool {
        if self.stage == Stage::Free {
            return false;
        }
        let conn = &self.conns[id.index()];
        let first = if conn.flags.has(Flags::BLOCKED) {
            self.unread.insert(id)
        } else if self.is_crowded() && conn.reader.held_bytes() == 0 {
            self.crowd.insert(id)
        } else {
            return false;
        };
        self.counters.reads_held += u64::from(first);
        true
    }

    /// Whether the shard is at its budget and whole messages that it put off are a part of that which reading less would
    /// make smaller.
    fn is_crowded(&self) -> bool {
        let put_off = self.ledger.input.saturating_sub(self.incomplete_bytes as u64);
        self.stage == Stage::Close && put_off > self.ledger.allowance() / CROWD_PART
    }

    /// The memory that a connection's input takes changes.
    pub(super) fn change_input(&mut self, id: ConnId, change: impl FnOnce(&mut Reader)) {
        let conn = &mut self.conns[id.index()];
        let before = conn.reader.held_bytes() as u64;
        change(&mut conn.reader);
        let after = conn.reader.held_bytes() as u64;
        let count =
            if conn.phase == Phase::Handshake { &mut self.ledger.heads } else { &mut self.ledger.input };
        *count = *count + after - before;
    }

    /// Something may have grown: looks at the sum, and does what it asks for.
    #[inline]
    pub(super) fn look_at_memory(&mut self) {
        let held = self.held();
        if held > self.calm_below || self.stage > Stage::Free {
            self.face_memory(held);
        }
    }

    #[inline(never)]
    fn face_memory(&mut self, held: u64) {
        self.settle_memory(held);
        if self.stage == Stage::Close && self.ledger.should_relieve(held) {
            self.relieve();
        }
        if self.stage == Stage::Free {
            self.resumed.extend(std::mem::take(&mut self.unread));
        }
        if !self.crowd.is_empty() && !self.is_crowded() {
            self.resumed.extend(std::mem::take(&mut self.crowd));
        }
    }

    /// The budget of the node, and what all shards hold together.
    fn budget(&self) -> (u64, u64) {
        let budget = self.config.limits.memory_budget.unwrap_or(u64::MAX);
        let frame = self.config.limits.max_frame_bytes.into();
        let bus = if self.options.has_bus { bus_bytes(budget, frame) } else { 0 };
        (budget, self.options.registry.bytes() + bus)
    }

    /// Tells the other shards, when that is due, and finds out how near the budget is.
    pub(super) fn settle_memory(&mut self, held: u64) {
        let budget = self.config.limits.memory_budget.unwrap_or(u64::MAX);
        if self.ledger.is_stale(held, budget) {
            let amounts = self.budget();
            self.ledger.settle(self.options.places.holdings(), self.options.index, held, amounts);
        }
        self.stage = self.ledger.stage(held);
        self.calm_below =
            if budget == u64::MAX { u64::MAX } else { (held + budget / 512).min(self.ledger.relieved()) };
    }

    /// Looks anew at what the others leave, also when nothing changed here.
    pub(super) fn refresh_memory(&mut self) {
        let (held, amounts) = (self.held(), self.budget());
        self.ledger.settle(self.options.places.holdings(), self.options.index, held, amounts);
        self.ledger.forget_vain();
        self.face_memory(held);
    }

    /// What is held and not only kept for a next burst.
    fn live(&self) -> u64 {
        self.held() - self.outbox.slack_bytes() as u64
    }

    /// Closes those that hold most and take least until enough is free. Who takes what it is sent, has said what it began to
    /// say, and says no more than its rate, is never among them.
    fn relieve(&mut self) {
        self.compact_outbox();
        let target = self.ledger.relieved();
        if self.held() > target {
            let mut candidates: Vec<_> =
                (0..self.conns.capacity()).filter_map(|index| self.candidate(index)).collect();
            candidates.sort_unstable_by_key(|one| (one.class, Reverse(one.bytes)));
            for candidate in candidates {
                if self.live() <= target {
                    break;
                }
                self.give_up(&candidate);
            }
            self.compact_outbox();
        }
        let held = self.held();
        self.ledger.relieved_to(held);
        self.settle_memory(held);
    }

    /// Gives back what tables keep for a next burst, where that is worth the walk.
    pub(super) fn compact_outbox(&mut self) {
        if self.outbox.slack_bytes() as u64 > self.ledger.allowance() / 16 || self.outbox.is_sparse() {
            let queues = self.conns.iter_mut().map(|(_, conn)| &mut conn.queue);
            self.outbox.compact(queues.filter(|queue| !queue.is_empty()));
        }
    }

    fn candidate(&mut self, index: usize) -> Option<Candidate> {
        let now = self.stamp();
        let age_millis = |since: u16| u64::from(now.wrapping_sub(since)) * STAMP_MILLIS;
        let id = ConnId(index as u32);
        let conn = self.conns.get_mut(index)?;
        let blocked = conn.flags.has(Flags::BLOCKED);
        // Whole messages that this node has put off are not the client's fault, unless it says too many.
        let hasty = self.rates.is_beyond(id, self.now_millis, &self.config.limits);
        let healthy = conn.phase == Phase::Open && !blocked && !hasty;
        let input = if healthy { conn.reader.incomplete_bytes() } else { conn.reader.held_bytes() };
        let output = if blocked { self.outbox.share_bytes(&conn.queue) } else { 0 };
        if input + output == 0 || conn.phase == Phase::Gone {
            return None;
        }
        let since = conn.reader.incomplete_since(now, false);
        let stuck = match conn.phase {
            Phase::Handshake => age_millis(conn.stamp) >= STALLED_MILLIS,
            _ if blocked => self.stalls.get(&id).is_some_and(|since| age_millis(*since) >= STALLED_MILLIS),
            _ => conn.reader.incomplete_bytes() > 0 && age_millis(since) >= STALLED_MILLIS,
        };
        let ended = !matches!(conn.phase, Phase::Open | Phase::Handshake);
        let class = if ended { 0 } else { 2 - u8::from(stuck) };
        Some(Candidate { class, bytes: input + output, id, output: output >= input })
    }

    fn give_up(&mut self, candidate: &Candidate) {
        let id = candidate.id;
        match self.conns[id.index()].phase {
            Phase::Open => {
                let code = if candidate.output { CloseCode::SlowConsumer } else { CloseCode::TryAgainLater };
                self.forget_input(id);
                self.close(id, CloseReason::Memory, code);
            }
            Phase::Handshake => {
                self.counters.count_refused(RefuseReason::Memory);
                self.end(id);
            }
            _ => self.end(id),
        }
    }

    /// Drops what is kept of a connection's input.
    pub(super) fn forget_input(&mut self, id: ConnId) {
        let conn = &self.conns[id.index()];
        if conn.phase == Phase::Handshake {
            self.heads_bytes -= conn.reader.buffered().len();
        } else {
            self.incomplete_bytes -= conn.reader.incomplete_bytes();
        }
        self.change_input(id, |reader| *reader = Reader::default());
    }
}
