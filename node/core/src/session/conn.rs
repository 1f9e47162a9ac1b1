//! The slot of a connection: the state that every connection has, 64 bytes of it. State that only few connections
//! have is in the side table ([`super::side`]).

use std::num::NonZeroU8;

use smallvec::SmallVec;

use super::{lifecycle::Phase, wire::Wire};
use crate::{
    egress::outbox::Queue,
    protocol::{JoinRef, Vsn, realtime::Asked},
    topics::room::RoomId,
    ws::Reader,
};

/// Bits about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// Waits in the list of connections with broadcasts to flush.
    pub(crate) const DIRTY: Self = Self(1);
    /// Waits in the list of connections with replies to flush.
    pub(crate) const URGENT: Self = Self(1 << 1);
    /// The kernel took less than offered; wait until the socket is writable.
    pub(crate) const BLOCKED: Self = Self(1 << 2);
    /// The handshake succeeded and a place is taken.
    pub(crate) const ESTABLISHED: Self = Self(1 << 3);
    /// Waits in the list of connections with broadcasts of large rooms to flush.
    pub(crate) const BULK: Self = Self(1 << 4);
    /// The queue is half full although the socket may take more.
    pub(crate) const PRESSED: Self = Self(1 << 5);
    /// Has no socket: it is a session of long-poll, and blocked while no poll waits.
    pub(crate) const POLLED: Self = Self(1 << 6);

    /// The queue of the blocked connection is nearly full, which was counted.
    pub(crate) const NEAR: Self = Self(1 << 7);

    pub(crate) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) const fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    /// Clears the flag and tells whether it was set.
    pub(crate) const fn take(&mut self, flag: Self) -> bool {
        let had = self.has(flag);
        self.0 &= !flag.0;
        had
    }
}

/// The phase and the wire in one byte, so that the fan-out asks for both with one look: four bits of the phase, two of the
/// serializer version's number, one for compression, and one that is always set. A byte that is never 0 lets the table of
/// connections mark its free slots without a byte of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(NonZeroU8);

const PHASE: u8 = 0x0f;
const VSN_SHIFT: u8 = 4;
const VSN: u8 = 0x03;
const DEFLATE: u8 = 0x40;
/// 0x80.
const TAKEN: NonZeroU8 = NonZeroU8::MIN.saturating_add(0x7f);

const _: () = assert!(Phase::ALL.len() <= PHASE as usize + 1 && Vsn::ALL.len() <= VSN as usize + 1);

impl State {
    const fn new(phase: Phase, wire: Wire) -> Self {
        let deflate = if wire.deflate { DEFLATE } else { 0 };
        let bits = deflate | (wire.vsn.index() as u8) << VSN_SHIFT | phase as u8;
        Self(TAKEN.saturating_add(bits))
    }

    const fn phase(self) -> Phase {
        Phase::ALL[(self.0.get() & PHASE) as usize]
    }

    const fn is(self, phase: Phase) -> bool {
        self.0.get() & PHASE == phase as u8
    }

    const fn vsn(self) -> Vsn {
        Vsn::ALL[(self.0.get() >> VSN_SHIFT & VSN) as usize]
    }

    const fn deflates(self) -> bool {
        self.0.get() & DEFLATE != 0
    }

    const fn wire(self) -> Wire {
        Wire { vsn: self.vsn(), deflate: self.deflates() }
    }
}

/// A joined topic.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) room: RoomId,
    pub(crate) seat: Seat,
    pub(crate) join_ref: JoinRef,
}

/// The position of a member among those of its room, and what it asked for when it joined a room of Supabase's Realtime,
/// in four bytes: 30 bits of the position, which memory bounds far below that, and one for each option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat(u32);

const HEARS_ITSELF: u32 = 1 << 31;
const ACKNOWLEDGED: u32 = 1 << 30;
const OPTIONS: u32 = HEARS_ITSELF | ACKNOWLEDGED;

impl Seat {
    pub(crate) const fn new(position: u32, asked: Asked) -> Self {
        let hears_itself = if asked.hears_itself { HEARS_ITSELF } else { 0 };
        let acknowledged = if asked.acknowledged { ACKNOWLEDGED } else { 0 };
        Self(position & !OPTIONS | hears_itself | acknowledged)
    }

    pub(crate) const fn position(self) -> u32 {
        self.0 & !OPTIONS
    }

    /// The same with another position.
    #[must_use]
    pub(crate) const fn moved_to(self, position: u32) -> Self {
        Self(position & !OPTIONS | self.0 & OPTIONS)
    }

    pub(crate) const fn asked(self) -> Asked {
        Asked { hears_itself: self.0 & HEARS_ITSELF != 0, acknowledged: self.0 & ACKNOWLEDGED != 0 }
    }
}

/// One connection. One channel is stored in place: most clients join one.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) reader: Reader,
    pub(crate) channels: SmallVec<[Channel; 1]>,
    pub(crate) queue: Queue,
    /// Coarse time of the last data, or of the start of the phase when it is not [`Phase::Open`].
    pub(crate) stamp: u16,
    state: State,
    pub(crate) flags: Flags,
}

impl Conn {
    pub(crate) fn new(stamp: u16) -> Self {
        Self {
            reader: Reader::default(),
            channels: SmallVec::new(),
            queue: Queue::default(),
            stamp,
            state: State::new(Phase::Handshake, Wire::plain(Vsn::V2)),
            flags: Flags(0),
        }
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub(crate) const fn is(&self, phase: Phase) -> bool {
        self.state.is(phase)
    }

    /// Sets the phase, which only [`super::lifecycle::step`] chooses.
    pub(crate) const fn enter(&mut self, phase: Phase) {
        self.state = State::new(phase, self.state.wire());
    }

    pub(crate) const fn speak(&mut self, wire: Wire) {
        self.state = State::new(self.state.phase(), wire);
    }

    pub(crate) const fn vsn(&self) -> Vsn {
        self.state.vsn()
    }

    /// Whether messages may be compressed, in both directions.
    pub(crate) const fn deflates(&self) -> bool {
        self.state.deflates()
    }

    /// Whether this connection gets broadcasts as a V2 client without compression. Nearly all connections do, and one comparison tells.
    pub(crate) const fn is_plain_listener(&self) -> bool {
        self.state.0.get() == State::new(Phase::Open, Wire::plain(Vsn::V2)).0.get()
    }

    /// The form in which this connection gets broadcasts; none when it gets none.
    pub(crate) const fn listens(&self) -> Option<Wire> {
        if self.is(Phase::Leaving) { None } else { Some(self.state.wire()) }
    }

    /// Whether the socket has taken all that was queued.
    pub(crate) const fn is_all_sent(&self) -> bool {
        self.queue.is_empty() && !self.flags.has(Flags::BLOCKED)
    }

    /// Frames that the connection adds to the shard's backlog.
    pub(crate) const fn backlog(&self) -> u64 {
        if self.flags.has(Flags::BLOCKED) { 0 } else { self.queue.frames() as u64 }
    }

    /// Memory in bytes of the channels beside the slot.
    pub(crate) fn channels_bytes(&self) -> u64 {
        let refs: usize = self.channels.iter().map(|channel| channel.join_ref.heap_bytes()).sum();
        self.spilled_bytes() + refs as u64
    }

    /// Memory in bytes of the list of channels when it does not fit the slot.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        let channels = &self.channels;
        if channels.spilled() { (channels.capacity() * size_of::<Channel>()) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_one_channel_takes_64_bytes() {
        let mut slab = slab::Slab::new();
        slab.insert(Conn::new(0));
        let entry = size_of::<Option<Conn>>();
        assert_eq!((size_of::<Conn>(), entry), (64, 64));
    }

    #[test]
    fn position_and_options_do_not_touch_each_other() {
        for (hears_itself, acknowledged) in [(false, false), (false, true), (true, false), (true, true)] {
            let asked = Asked { hears_itself, acknowledged };
            let seat = Seat::new(7, asked);
            assert_eq!((seat.position(), seat.asked()), (7, asked));
            let moved = seat.moved_to(u32::MAX >> 2);
            assert_eq!((moved.position(), moved.asked()), (u32::MAX >> 2, asked));
        }
    }

    #[test]
    fn phase_and_wire_do_not_touch_each_other() {
        let mut conn = Conn::new(0);
        let wires = Vsn::ALL.map(|vsn| [Wire::plain(vsn), Wire::deflated(vsn)]);
        for (number, wire) in wires.into_iter().flatten().enumerate() {
            conn.speak(wire);
            for phase in Phase::ALL {
                conn.enter(phase);
                assert_eq!((conn.phase(), conn.vsn(), conn.deflates()), (phase, wire.vsn, wire.deflate));
                assert_eq!(conn.listens(), (phase != Phase::Leaving).then_some(wire));
                assert_eq!(conn.is_plain_listener(), (phase, wire) == (Phase::Open, Wire::plain(Vsn::V2)));
            }
            assert!(number < Wire::COUNT && wire.index() < Wire::COUNT);
        }
    }
}
