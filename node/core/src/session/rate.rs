//! How much each connection may say: a bound on messages and on bytes per second, as GCRA (ITU-T I.371) counts it.
//!
//! A connection that sends more is told so once and is then read at its pace, so that none of its messages is lost
//! and the kernel's window makes it wait. If it were closed it would come back at once, with a new allowance.
//!
//! A connection has a bucket in the side table, and only while the bucket is not empty. Most connections say so
//! little that they never get one: for each connection a byte adds up what it said since the last sweep. A byte
//! counts up to an eighth of the rate, so a bucket for it would be empty again at the next sweep; a connection that
//! says more gets a bucket with all of it.

use super::{bucket::Bucket, id::Slot, side::Side};
use crate::{
    config::Limits,
    counters::Limit,
    gcra::{self, BURST_MICROS, NEAR_MICROS, cost},
    limits::STAMP_MILLIS,
};

/// The unit in which the byte counts, in microseconds of the rate.
const LITTLE_MICROS: u64 = STAMP_MILLIS * 1_000 / 8 / IN_BUCKET as u64;
/// The value of the byte that says: the connection has a bucket, and everything counts there.
const IN_BUCKET: u8 = u8::MAX;

/// Whether a connection may be read at its rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It may be read.
    Free,
    /// It may not be read before this time in milliseconds, and no deadline is set for it yet.
    WaitsUntil(u64),
    /// It may not be read before a deadline that is set.
    Waits,
}

/// What a shard has to do about a connection for what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Fine,
    /// It is to be counted that it comes near this limit.
    Near(Limit),
    /// The connection is to be told that it says too much. It may say more in so many milliseconds.
    TooMuch(u64),
}

/// What the connections of a shard said, as far as it is not in buckets.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// By slot: what the connection said since the last sweep in [`LITTLE_MICROS`], rounded up, or [`IN_BUCKET`].
    little: Vec<u8>,
}

impl Rates {
    /// Makes a place for a new connection.
    pub(super) fn welcome(&mut self, slot: Slot) {
        if self.little.len() <= slot.index() {
            self.little.reserve_exact(slot.index() / 16 + 1);
            self.little.resize(slot.index() + 1, 0);
        }
    }

    /// Charges a connection for what it said.
    #[inline]
    pub(super) fn charge(
        &mut self,
        side: &mut Side,
        slot: Slot,
        now_millis: u64,
        (messages, bytes): (u32, usize),
        limits: &Limits,
    ) -> Heard {
        let messages = cost(messages.into(), limits.messages_per_second);
        let bytes = cost(bytes as u64, limits.bytes_per_second);
        let said = messages.max(bytes).div_ceil(LITTLE_MICROS);
        if said == 0 {
            return Heard::Fine;
        }
        let little = &mut self.little[slot.index()];
        if u64::from(*little) + said < IN_BUCKET.into() {
            *little += said as u8;
            return Heard::Fine;
        }
        self.fill(side, slot, now_millis, (messages, bytes), limits)
    }

    /// Puts what a connection said into its bucket.
    #[inline(never)]
    fn fill(
        &mut self,
        side: &mut Side,
        slot: Slot,
        now_millis: u64,
        (messages, bytes): (u64, u64),
        limits: &Limits,
    ) -> Heard {
        let now = now_millis * 1_000;
        let little = std::mem::replace(&mut self.little[slot.index()], IN_BUCKET);
        side.change(slot, |aside| {
            let bucket = aside.bucket.get_or_insert_with(|| {
                let said = now + u64::from(little) * LITTLE_MICROS;
                Bucket { near: false, told: false, waits: false, messages_micros: said, bytes_micros: said }
            });
            bucket.messages_micros = bucket.messages_micros.max(now) + messages;
            bucket.bytes_micros = bucket.bytes_micros.max(now) + bytes;
            let next = bucket.next_micros(limits);
            if next > now && !bucket.told {
                bucket.told = true;
                return Heard::TooMuch((next - now).div_ceil(1_000));
            }
            let ahead = bucket.messages_micros.max(bucket.bytes_micros) - now;
            if ahead < NEAR_MICROS || bucket.near {
                return Heard::Fine;
            }
            bucket.near = true;
            let by_bytes = bucket.bytes_micros > bucket.messages_micros;
            Heard::Near(if by_bytes { Limit::Bytes } else { Limit::Messages })
        })
    }

    /// Whether a connection has to wait. When this returns [`Pace::WaitsUntil`] the caller sets the deadline, and
    /// ends the wait by [`end_wait`].
    pub(super) fn pace(&self, side: &mut Side, slot: Slot, now_millis: u64, limits: &Limits) -> Pace {
        if self.little[slot.index()] != IN_BUCKET {
            return Pace::Free;
        }
        let Some(bucket) = side.bucket_mut(slot) else { return Pace::Free };
        let next = bucket.next_micros(limits);
        if next <= now_millis * 1_000 {
            Pace::Free
        } else if std::mem::replace(&mut bucket.waits, true) {
            Pace::Waits
        } else {
            Pace::WaitsUntil(next.div_ceil(1_000))
        }
    }

    /// Forgets a connection that ended, except its bucket.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.little[slot.index()] = 0;
    }

    /// Forgets empty buckets, and sets the bytes to 0. `connections` is false when there are none.
    pub(super) fn trim(&mut self, side: &mut Side, now_millis: u64, connections: bool) {
        let now = now_millis * 1_000;
        if !connections {
            self.little = Vec::new();
        }
        self.little.fill(0);
        let little = &mut self.little;
        side.sift_buckets(
            now,
            |bucket| bucket.waits || bucket.messages_micros.max(bucket.bytes_micros) > now,
            |slot| little[slot.index()] = IN_BUCKET,
        );
    }
}

/// How many messages a connection may say at once now.
pub(super) fn left(side: &Side, slot: Slot, now_millis: u64, limits: &Limits) -> u32 {
    let each = cost(1, limits.messages_per_second);
    if each == 0 {
        return u32::MAX;
    }
    let now = now_millis * 1_000;
    let bucket = side.get(slot).and_then(|aside| aside.bucket.as_ref());
    let said = bucket.map_or(now, |bucket| bucket.messages_micros.max(now));
    u32::try_from((now + BURST_MICROS).saturating_sub(said) / each).unwrap_or(u32::MAX)
}

/// Charges a connection for a join. True when it comes near its rate.
///
/// # Errors
/// When it may not join now: the milliseconds until it may.
pub(super) fn charge_join(side: &mut Side, slot: Slot, now_millis: u64, rate: u32) -> Result<bool, u64> {
    let now = now_millis * 1_000;
    side.change(slot, |aside| -> Result<bool, u64> {
        let charged = gcra::charge(aside.joins_micros, now, rate)?;
        aside.joins_micros = charged.micros;
        Ok(charged.near)
    })
}

/// Whether a connection has said all that it may for now.
pub(super) fn is_beyond(side: &Side, slot: Slot, now_millis: u64, limits: &Limits) -> bool {
    let bucket = side.get(slot).and_then(|aside| aside.bucket.as_ref());
    bucket.is_some_and(|bucket| bucket.next_micros(limits) > now_millis * 1_000)
}

/// Ends the wait of a connection. False when it did not wait: it has ended, or its slot belongs to another one.
pub(super) fn end_wait(side: &mut Side, slot: Slot) -> bool {
    side.bucket_mut(slot).is_some_and(|bucket| std::mem::take(&mut bucket.waits))
}
