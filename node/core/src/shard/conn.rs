//! What a shard remembers of one connection, as small as it can be: see the test of its size.

use smallvec::SmallVec;

use crate::{
    outbox::Queue,
    protocol::{RawRef, Vsn},
    room::RoomId,
    ws::Reader,
};

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The request head is being read.
    Handshake,
    /// WebSocket messages flow.
    Open,
    /// A close frame was queued as a polite goodbye. What the peer had under way is served to the others until its own
    /// close frame; the peer itself gets nothing more, and so neither replies nor broadcasts.
    Leaving,
    /// A close frame was queued; the peer's is awaited, and what comes before it is not wanted.
    Closing,
    /// Sends what is queued, ends the output, then discards input until the peer ends too. For answers after which
    /// unread input may exist: closing at once would reset the connection and lose them.
    Linger,
    /// The same once the output has ended.
    Drop,
    /// Sends what is queued, then closes: the peer's close frame was answered.
    Final,
    /// Nothing more is read or written.
    Gone,
}

/// Bits about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// Waits in the list of connections with broadcasts to flush.
    pub(super) const DIRTY: Self = Self(1);
    /// Waits in the list of connections with replies to flush.
    pub(super) const URGENT: Self = Self(1 << 1);
    /// The kernel took less than offered; wait until the socket is writable.
    pub(super) const BLOCKED: Self = Self(1 << 2);
    /// The handshake succeeded and a place is taken.
    pub(super) const ESTABLISHED: Self = Self(1 << 3);
    /// Is a member of its rooms and gets nothing of what is said there: see [`Phase::Leaving`].
    pub(super) const MUTED: Self = Self(1 << 4);
    /// Speaks serializer V1.
    pub(super) const V1: Self = Self(1 << 5);
    /// Waits in the list of connections with broadcasts of large rooms to flush.
    pub(super) const BULK: Self = Self(1 << 6);
    /// The queue is half full although the socket may take more.
    pub(super) const PRESSED: Self = Self(1 << 7);

    pub(super) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether broadcasts go to this connection as a V2 client gets them: one look for what nearly all are.
    pub(super) const fn is_plain_listener(self) -> bool {
        self.0 & (Self::V1.0 | Self::MUTED.0) == 0
    }

    pub(super) const fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    /// Clears the flag and tells whether it was set.
    pub(super) const fn take(&mut self, flag: Self) -> bool {
        let had = self.has(flag);
        self.0 &= !flag.0;
        had
    }
}

/// A joined topic.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) room: RoomId,
    /// Position among the room's members.
    pub(super) position: u32,
    pub(super) join_ref: RawRef,
}

/// One connection. One channel is stored in place: most clients join one.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) reader: Reader,
    pub(super) channels: SmallVec<[Channel; 1]>,
    pub(super) queue: Queue,
    /// Coarse time of the last data, or of the start of the phase when it is not [`Phase::Open`].
    pub(super) stamp: u16,
    pub(super) phase: Phase,
    pub(super) flags: Flags,
}

impl Conn {
    pub(super) fn new(stamp: u16) -> Self {
        Self {
            reader: Reader::default(),
            channels: SmallVec::new(),
            queue: Queue::default(),
            stamp,
            phase: Phase::Handshake,
            flags: Flags(0),
        }
    }

    /// What the connection adds to the shard's backlog.
    pub(super) const fn backlog(&self) -> u64 {
        if self.flags.has(Flags::BLOCKED) { 0 } else { self.queue.frames() as u64 }
    }

    pub(super) const fn vsn(&self) -> Vsn {
        if self.flags.has(Flags::V1) { Vsn::V1 } else { Vsn::V2 }
    }

    /// The version in which it hears what is said in its rooms; none when it hears nothing.
    pub(super) const fn listens(&self) -> Option<Vsn> {
        if self.flags.has(Flags::MUTED) { None } else { Some(self.vsn()) }
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
}
