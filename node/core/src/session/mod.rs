//! The connections of a shard: their slots and ids, the table of their lives, and their rates.

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::{
    config::Limits,
    limits::STAMP_MILLIS,
    protocol::{JoinRef, realtime::Asked},
    ws::{ConnectInfo, Reader},
};

mod ages;
mod bucket;
pub(crate) mod conn;
pub mod id;
pub(crate) mod identities;
pub(crate) mod lifecycle;
pub(crate) mod origins;
mod rate;
pub(crate) mod side;
pub(crate) mod wire;

use ages::Ages;
use conn::{Channel, Conn, Seat};
use id::{ConnId, Generations, Slot};
use identities::Identities;
use lifecycle::Phase;
use origins::Origins;
use rate::Rates;
pub(crate) use rate::{Heard, Pace};
use side::Side;

/// Slots for which place is kept although no connection needs it.
const KEPT: usize = 1_024;

/// Memory in bytes that connections take beside their slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Readers of connections in their handshake, as they are allocated.
    pub(crate) heads: u64,
    /// Readers of established connections.
    pub(crate) input: u64,
    /// Channels that do not fit their slot, refs, and what connections said about themselves.
    pub(crate) channels: u64,
}

/// All connections of a shard.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Slab<Conn>,
    generations: Generations,
    ages: Ages,
    side: Side,
    identities: Identities,
    origins: Origins,
    rates: Rates,
    memory: Memory,
    /// Bytes of incomplete request heads.
    heads_bytes: usize,
    /// The sum of [`Reader::incomplete_bytes`] of established connections.
    incomplete_bytes: usize,
}

impl Index<Slot> for Sessions {
    type Output = Conn;

    #[inline]
    fn index(&self, slot: Slot) -> &Conn {
        &self.slots[slot.index()]
    }
}

impl IndexMut<Slot> for Sessions {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Conn {
        &mut self.slots[slot.index()]
    }
}

impl Sessions {
    /// Takes a connection in, which was accepted just now.
    pub(crate) fn insert(&mut self, conn: Conn, now_millis: u64) -> ConnId {
        // A process has far fewer than 2^32 descriptors.
        let slot = Slot(self.slots.insert(conn) as u32);
        self.generations.welcome(slot);
        self.ages.welcome(slot, now_millis);
        self.rates.welcome(slot);
        self.generations.id(slot)
    }

    /// The handshake of a connection is done: its age counts from now on. Returns the milliseconds since it was accepted.
    pub(crate) fn establish(&mut self, slot: Slot, now_millis: u64) -> u64 {
        let rest_millis = self.ages.establish(slot, now_millis);
        let stamp = (now_millis / STAMP_MILLIS) as u16;
        let stamps = stamp.wrapping_sub(self.slots[slot.index()].stamp);
        (u64::from(stamps) * STAMP_MILLIS + now_millis % STAMP_MILLIS).saturating_sub(rest_millis)
    }

    /// Milliseconds since the handshake of an established connection: never more than it was, and less by a quarter of a
    /// second and a sixteenth at most up to [`crate::limits::MAX_AGE_MILLIS`].
    pub(crate) fn age_millis(&self, slot: Slot, now_millis: u64) -> u64 {
        self.ages.millis(slot, now_millis)
    }

    /// Forgets a connection that ended; its slot may be given out again.
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.slots.remove(slot.index());
        self.generations.retire(slot);
    }

    /// The slot of a connection, unless that one has ended.
    pub(crate) fn slot(&self, id: ConnId) -> Option<Slot> {
        let slot = id.slot();
        (self.slots.contains(slot.index()) && self.generations.id(slot) == id).then_some(slot)
    }

    /// The id of the connection in a slot.
    pub(crate) fn id(&self, slot: Slot) -> ConnId {
        self.generations.id(slot)
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&Conn> {
        self.slots.get(slot.index())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Conn> {
        self.slots.get_mut(slot.index())
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All slots are below this number.
    pub(crate) fn end(&self) -> usize {
        self.slots.capacity()
    }

    /// All connections with their slots.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Conn)> {
        self.slots.iter().map(|(index, conn)| (Slot(index as u32), conn))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.slots.iter_mut().map(|(_, conn)| conn)
    }

    pub(crate) const fn side(&self) -> &Side {
        &self.side
    }

    pub(crate) const fn side_mut(&mut self) -> &mut Side {
        &mut self.side
    }

    pub(crate) const fn identities(&self) -> &Identities {
        &self.identities
    }

    pub(crate) const fn identities_mut(&mut self) -> &mut Identities {
        &mut self.identities
    }

    pub(crate) const fn origins(&self) -> &Origins {
        &self.origins
    }

    pub(crate) const fn origins_mut(&mut self) -> &mut Origins {
        &mut self.origins
    }

    pub(crate) const fn memory(&self) -> Memory {
        self.memory
    }

    /// Bytes of incomplete request heads.
    pub(crate) const fn heads_bytes(&self) -> usize {
        self.heads_bytes
    }

    /// Memory in bytes of incomplete messages.
    pub(crate) const fn incomplete_bytes(&self) -> usize {
        self.incomplete_bytes
    }

    /// Takes out the kept bytes of a request head.
    pub(crate) fn take_head(&mut self, slot: Slot) -> Vec<u8> {
        let reader = &mut self.slots[slot.index()].reader;
        self.memory.heads -= reader.held_bytes() as u64;
        let head = reader.take();
        self.heads_bytes -= head.len();
        head
    }

    /// Keeps a request head that is not complete.
    pub(crate) fn keep_head(&mut self, slot: Slot, head: &[u8]) {
        let reader = &mut self.slots[slot.index()].reader;
        reader.keep(head);
        self.heads_bytes += head.len();
        self.memory.heads += reader.held_bytes() as u64;
    }

    /// Takes out the reader of an established connection, for as long as it reads.
    pub(crate) fn take_reader(&mut self, slot: Slot) -> Reader {
        let reader = std::mem::take(&mut self.slots[slot.index()].reader);
        self.memory.input -= reader.held_bytes() as u64;
        reader
    }

    /// Puts the reader back, if the connection is still read; `None` when the reader has failed. `before` is how many
    /// bytes were incomplete when it was taken out. Returns how many are incomplete now.
    pub(crate) fn put_reader(&mut self, slot: Slot, reader: Option<Reader>, before: usize) -> usize {
        let conn = &mut self.slots[slot.index()];
        let mut after = 0;
        if let Some(reader) = reader
            && matches!(conn.phase(), Phase::Open | Phase::Leaving | Phase::Closing)
        {
            after = reader.incomplete_bytes();
            self.memory.input += reader.held_bytes() as u64;
            conn.reader = reader;
        }
        self.incomplete_bytes = self.incomplete_bytes - before + after;
        after
    }

    /// Keeps input of a connection that has no handshake or has done with it, and whose input is read elsewhere.
    pub(crate) fn keep_input(&mut self, slot: Slot, data: &[u8]) {
        self.change_reader(slot, |reader| reader.keep(data));
    }

    /// Takes out the input that was kept.
    pub(crate) fn take_input(&mut self, slot: Slot) -> Vec<u8> {
        self.change_reader(slot, Reader::take)
    }

    /// Keeps whole frames for the next time that the connection may be read.
    pub(crate) fn put_off(&mut self, slot: Slot, frames: &[u8]) {
        self.change_reader(slot, |reader| reader.put_off(frames));
    }

    fn change_reader<R>(&mut self, slot: Slot, change: impl FnOnce(&mut Reader) -> R) -> R {
        let reader = &mut self.slots[slot.index()].reader;
        let (held, incomplete) = (reader.held_bytes() as u64, reader.incomplete_bytes());
        let result = change(reader);
        self.memory.input = self.memory.input - held + reader.held_bytes() as u64;
        self.incomplete_bytes = self.incomplete_bytes - incomplete + reader.incomplete_bytes();
        result
    }

    /// Drops the kept bytes of a connection's input.
    pub(crate) fn forget_input(&mut self, slot: Slot) {
        let conn = &mut self.slots[slot.index()];
        let held = conn.reader.held_bytes() as u64;
        if conn.is(Phase::Handshake) {
            self.heads_bytes -= conn.reader.buffered().len();
            self.memory.heads -= held;
        } else {
            self.incomplete_bytes -= conn.reader.incomplete_bytes();
            self.memory.input -= held;
        }
        conn.reader = Reader::default();
    }

    /// Adds a channel.
    pub(crate) fn add_channel(&mut self, slot: Slot, channel: Channel) {
        let conn = &mut self.slots[slot.index()];
        self.memory.channels += channel.join_ref.heap_bytes() as u64;
        self.memory.channels -= conn.spilled_bytes();
        conn.channels.push(channel);
        self.memory.channels += conn.spilled_bytes();
    }

    /// Takes one channel out.
    pub(crate) fn take_channel(&mut self, slot: Slot, position: usize) -> Channel {
        let channel = self.slots[slot.index()].channels.swap_remove(position);
        self.memory.channels -= channel.join_ref.heap_bytes() as u64;
        channel
    }

    /// Takes all channels out.
    pub(crate) fn take_channels(&mut self, slot: Slot) -> smallvec::SmallVec<[Channel; 1]> {
        let conn = &mut self.slots[slot.index()];
        self.memory.channels -= conn.channels_bytes();
        std::mem::take(&mut conn.channels)
    }

    /// Joins a channel again, with another ref and other options. Returns the ref that it had.
    pub(crate) fn join_again(
        &mut self,
        slot: Slot,
        position: usize,
        join_ref: JoinRef,
        asked: Asked,
    ) -> JoinRef {
        let channel = &mut self.slots[slot.index()].channels[position];
        channel.seat = Seat::new(channel.seat.position(), asked);
        let old = std::mem::replace(&mut channel.join_ref, join_ref);
        let now = channel.join_ref.heap_bytes() as u64;
        self.memory.channels = self.memory.channels + now - old.heap_bytes() as u64;
        old
    }

    /// Keeps what a new connection has said about itself.
    pub(crate) fn introduce(&mut self, slot: Slot, info: Box<ConnectInfo>) {
        self.memory.channels += info.held_bytes() as u64;
        self.side.introduce(slot, info);
    }

    /// Drops the side entry and the identity of a connection that has ended.
    pub(crate) fn forget_aside(&mut self, slot: Slot) {
        if let Some(info) = self.side.forget(slot) {
            self.memory.channels -= info.held_bytes() as u64;
        }
        self.identities.forget(slot);
        self.rates.forget(slot);
    }

    /// Charges a connection for so many messages and bytes.
    #[inline]
    pub(crate) fn charge(
        &mut self,
        slot: Slot,
        now_millis: u64,
        said: (u32, usize),
        limits: &Limits,
    ) -> Heard {
        self.rates.charge(&mut self.side, slot, now_millis, said, limits)
    }

    /// Charges a connection for a join, see [`rate::charge_join`].
    pub(crate) fn charge_join(&mut self, slot: Slot, now_millis: u64, rate: u32) -> Result<bool, u64> {
        rate::charge_join(&mut self.side, slot, now_millis, rate)
    }

    /// How many messages a connection may say at once now.
    pub(crate) fn may_say(&self, slot: Slot, now_millis: u64, limits: &Limits) -> u32 {
        rate::left(&self.side, slot, now_millis, limits)
    }

    /// Whether a connection has said all that it may for now.
    pub(crate) fn is_beyond_rate(&self, slot: Slot, now_millis: u64, limits: &Limits) -> bool {
        rate::is_beyond(&self.side, slot, now_millis, limits)
    }

    /// Whether a connection may be read at its rates.
    pub(crate) fn pace(&mut self, slot: Slot, now_millis: u64, limits: &Limits) -> Pace {
        self.rates.pace(&mut self.side, slot, now_millis, limits)
    }

    /// Ends a [`Pace::WaitsUntil`] whose deadline has come. False when the connection no longer waits.
    pub(crate) fn end_wait(&mut self, slot: Slot) -> bool {
        rate::end_wait(&mut self.side, slot)
    }

    /// Gives memory of a past peak back, and drops buckets that are empty again.
    pub(crate) fn trim(&mut self, now_millis: u64) {
        self.rates.trim(&mut self.side, now_millis, !self.slots.is_empty());
        self.identities.trim();
        self.origins.trim();
        if self.slots.is_empty() && self.slots.capacity() > KEPT {
            self.slots.shrink_to_fit();
            self.generations.trim();
            self.ages.clear();
        }
    }
}
