//! How much each connection may say: a bound on messages and on bytes per second, as GCRA (ITU-T I.371) counts it.
//!
//! Who sends more is told so once and is then read at its pace, so that nothing it said is lost and the kernel's window
//! tells it to wait. Closing it would bring it back at once, with a new allowance.
//!
//! What is kept of a connection is a bucket in a table, and only while it is not empty. Most connections say so little that
//! they never get one: a byte of each adds up what it said since the last sweep. What fits there is an eighth of its rate, so
//! a bucket would be empty again at the next sweep; whoever says more gets one with all of it.

use std::{cmp::Reverse, collections::BinaryHeap};

use hashbrown::HashTable;

use super::{Phase, Shard};
use crate::{
    config::Limits,
    limits::{BURST_SECONDS, STAMP_MILLIS},
    protocol::{self, encode},
    room::ConnId,
};

/// Messages of one read before it is looked whether the connection may say so many: what most reads bring costs no look
/// beforehand.
pub(super) const UNCHECKED: u32 = 32;
const SECOND_MICROS: u64 = 1_000_000;
const BURST_MICROS: u64 = BURST_SECONDS * SECOND_MICROS;
/// Places for buckets that are kept although they are not needed at the moment.
const KEPT: usize = 64;
/// Unit of what is said without a bucket, in microseconds of the rate.
const LITTLE_MICROS: u64 = STAMP_MILLIS * 1_000 / 8 / IN_BUCKET as u64;
/// The connection has a bucket, and everything counts there.
const IN_BUCKET: u8 = u8::MAX;

/// What a connection said, as the time until which it would have said it at its rates.
#[derive(Debug)]
struct Bucket {
    id: ConnId,
    /// It was told.
    told: bool,
    /// It is not read, and stands in the list of those that will be.
    waits: bool,
    messages_micros: u64,
    bytes_micros: u64,
}

impl Bucket {
    /// When one more message fits.
    fn next_micros(&self, limits: &Limits) -> u64 {
        let messages = self.messages_micros + cost(1, limits.messages_per_second);
        messages.max(self.bytes_micros).saturating_sub(BURST_MICROS)
    }
}

/// What `count` of something take at `rate` per second.
fn cost(count: u64, rate: u32) -> u64 {
    if rate == 0 { 0 } else { count * SECOND_MICROS / u64::from(rate) }
}

/// The buckets of a shard.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// By connection, what it said since the last sweep in [`LITTLE_MICROS`], rounded up, or [`IN_BUCKET`].
    little: Vec<u8>,
    buckets: HashTable<Bucket>,
    due: BinaryHeap<Reverse<(u64, ConnId)>>,
}

/// Ids are given out by the shard and not by clients: any hash that spreads them does.
const fn hash(id: ConnId) -> u64 {
    (id.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Rates {
    fn find(&self, id: ConnId) -> Option<&Bucket> {
        self.buckets.find(hash(id), |bucket| bucket.id == id)
    }

    fn find_mut(&mut self, id: ConnId) -> Option<&mut Bucket> {
        self.buckets.find_mut(hash(id), |bucket| bucket.id == id)
    }

    /// Makes a place for a new connection.
    pub(super) fn welcome(&mut self, id: ConnId) {
        if self.little.len() <= id.index() {
            self.little.resize(id.index() + 1, 0);
        }
    }

    /// How many messages a connection may say at once now.
    fn left(&self, id: ConnId, now_millis: u64, limits: &Limits) -> u32 {
        let each = cost(1, limits.messages_per_second);
        if each == 0 {
            return u32::MAX;
        }
        let now = now_millis * 1_000;
        let said = self.find(id).map_or(now, |bucket| bucket.messages_micros.max(now));
        u32::try_from((now + BURST_MICROS).saturating_sub(said) / each).unwrap_or(u32::MAX)
    }

    /// Notes what a connection said. True when that is too much for the first time.
    #[inline]
    fn charge(
        &mut self,
        id: ConnId,
        now_millis: u64,
        (messages, bytes): (u32, usize),
        limits: &Limits,
    ) -> bool {
        let messages = cost(messages.into(), limits.messages_per_second);
        let bytes = cost(bytes as u64, limits.bytes_per_second);
        let said = messages.max(bytes).div_ceil(LITTLE_MICROS);
        if said == 0 {
            return false;
        }
        let little = &mut self.little[id.index()];
        if u64::from(*little) + said < IN_BUCKET.into() {
            *little += said as u8;
            return false;
        }
        self.fill(id, now_millis, (messages, bytes), limits)
    }

    /// Puts what a connection said into its bucket.
    #[inline(never)]
    fn fill(&mut self, id: ConnId, now_millis: u64, (messages, bytes): (u64, u64), limits: &Limits) -> bool {
        let now = now_millis * 1_000;
        let little = std::mem::replace(&mut self.little[id.index()], IN_BUCKET);
        if little < IN_BUCKET {
            let said = now + u64::from(little) * LITTLE_MICROS;
            let bucket = Bucket { id, told: false, waits: false, messages_micros: said, bytes_micros: said };
            self.buckets.insert_unique(hash(id), bucket, |bucket| hash(bucket.id));
        }
        let Some(bucket) = self.find_mut(id) else { return false };
        bucket.messages_micros = bucket.messages_micros.max(now) + messages;
        bucket.bytes_micros = bucket.bytes_micros.max(now) + bytes;
        let tell = !bucket.told && bucket.next_micros(limits) > now;
        bucket.told |= tell;
        tell
    }

    /// Whether a connection has said all that it may for now.
    pub(super) fn is_beyond(&self, id: ConnId, now_millis: u64, limits: &Limits) -> bool {
        self.find(id).is_some_and(|bucket| bucket.next_micros(limits) > now_millis * 1_000)
    }

    /// Whether a connection has to wait. It will then be named by [`Rates::pop_due`].
    fn waits(&mut self, id: ConnId, now_millis: u64, limits: &Limits) -> bool {
        if self.little[id.index()] != IN_BUCKET {
            return false;
        }
        let Some(bucket) = self.find_mut(id) else { return false };
        let next = bucket.next_micros(limits);
        if next <= now_millis * 1_000 {
            return false;
        }
        if !std::mem::replace(&mut bucket.waits, true) {
            self.due.push(Reverse((next.div_ceil(1_000), id)));
        }
        true
    }

    /// When somebody may be read again.
    pub(super) fn next_millis(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// The next connection whose wait is over.
    fn pop_due(&mut self, now_millis: u64) -> Option<ConnId> {
        while let Some(Reverse((due, id))) = self.due.peek().copied()
            && due <= now_millis
        {
            self.due.pop();
            // Whoever ended, or has its id now, may not have waited.
            if self.find_mut(id).is_some_and(|bucket| std::mem::take(&mut bucket.waits)) {
                return Some(id);
            }
        }
        None
    }

    /// Forgets a connection that ended.
    pub(super) fn forget(&mut self, id: ConnId) {
        if std::mem::take(&mut self.little[id.index()]) == IN_BUCKET
            && let Ok(entry) = self.buckets.find_entry(hash(id), |bucket| bucket.id == id)
        {
            entry.remove();
        }
    }

    /// Forgets buckets that are empty again, and the little that was said without one. `connections` is false when there
    /// are none.
    pub(super) fn trim(&mut self, now_millis: u64, connections: bool) {
        let now = now_millis * 1_000;
        self.buckets.retain(|bucket| bucket.waits || bucket.messages_micros.max(bucket.bytes_micros) > now);
        if self.buckets.capacity() > KEPT && self.buckets.len() < self.buckets.capacity() / 8 {
            let target = self.buckets.len() * 2;
            self.buckets.shrink_to(target, |bucket| hash(bucket.id));
        }
        if !connections {
            self.little = Vec::new();
        }
        self.little.fill(0);
        for bucket in &self.buckets {
            self.little[bucket.id.index()] = IN_BUCKET;
        }
        if self.due.is_empty() && self.due.capacity() > KEPT {
            self.due.shrink_to_fit();
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

impl Shard {
    /// Whether this read has brought as many messages as the connection may say: the rest waits.
    pub(super) fn is_beyond_rate(&mut self, id: ConnId) -> bool {
        self.said += 1;
        if self.said < self.may_say {
            return false;
        }
        self.may_say = self.rates.left(id, self.now_millis, &self.config.limits);
        self.said >= self.may_say
    }

    /// Notes what a read brought, and tells who says too much.
    pub(super) fn charge(&mut self, id: ConnId, bytes: usize) {
        let said = std::mem::take(&mut self.said);
        // Whoever ended by what it said is forgotten already, and its id belongs to the next connection.
        if self.conns[id.index()].phase == Phase::Gone {
            return;
        }
        if self.rates.charge(id, self.now_millis, (said, bytes), &self.config.limits) {
            self.counters.rate_limited += 1;
            let refs = (protocol::NULL, protocol::NULL);
            let vsn = self.conns[id.index()].vsn();
            self.reply(id, encode::error(vsn, refs, "phoenix", "rate limited"));
        }
    }

    /// Whether a connection may be read now. When not, [`Shard::take_resumed`] names it once it may. `ended` says that the
    /// peer has ended its side.
    pub fn may_read(&mut self, id: ConnId, ended: bool) -> bool {
        if self.conns.get(id.index()).is_none_or(|conn| conn.phase != Phase::Open) {
            return true;
        }
        !self.rates.waits(id, self.now_millis, &self.config.limits) && (ended || !self.holds_reads_of(id))
    }

    /// Names connections that may be read again.
    pub(super) fn resume_due(&mut self) {
        while let Some(id) = self.rates.pop_due(self.now_millis) {
            self.resumed.push(id);
        }
    }

    /// Appends the connections that may be read again after [`Shard::may_read`] denied it.
    pub fn take_resumed(&mut self, buffer: &mut Vec<ConnId>) {
        buffer.append(&mut self.resumed);
    }
}
