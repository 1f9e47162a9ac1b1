//! How an accepted socket gets to the shard that [`node_core::placement`] chooses: the descriptor itself is a message
//! (unix(7), `SCM_RIGHTS`), which also works between descriptor tables and costs 4 us of the 30 that a connection
//! costs anyway.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use node_core::placement;
pub(crate) use node_core::placement::Place;
use rustix::{
    io::{Errno, IoSliceMut},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// Most sockets taken from others per turn, as for accept.
const TAKES_PER_TURN: usize = 128;

/// Sockets that a shard holds or was given, in a cache line that only accept and close touch.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Held(AtomicU32);

#[derive(Debug)]
struct Shared {
    held: Vec<Held>,
    ends: Vec<OwnedFd>,
    /// Most sockets of one shard.
    capacity: u32,
}

/// One shard's side of the handover.
#[derive(Debug)]
pub(crate) struct Handover {
    shared: Arc<Shared>,
    index: usize,
    inbox: OwnedFd,
    /// Whether sockets may wait in the inbox: set by an edge, cleared when it is found empty.
    waiting: bool,
}

/// Makes the sides of all shards. This comes before any descriptor table is split, so that the sending ends have one
/// number in all tables.
pub(crate) fn handovers(shards: u8, capacity: u32) -> rustix::io::Result<Vec<Handover>> {
    let mut ends = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..shards {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (end, inbox) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        ends.push(end);
        inboxes.push(inbox);
    }
    let held = inboxes.iter().map(|_| Held::default()).collect();
    let shared = Arc::new(Shared { held, ends, capacity });
    let side = |(index, inbox)| Handover { shared: Arc::clone(&shared), index, inbox, waiting: false };
    Ok(inboxes.into_iter().enumerate().map(side).collect())
}

impl Handover {
    /// Readable when sockets were handed to this shard.
    pub(crate) const fn inbox(&self) -> &OwnedFd {
        &self.inbox
    }

    pub(crate) const fn on_ready(&mut self) {
        self.waiting = true;
    }

    /// Whether [`Handover::take`] would do something.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Decides where a socket that this shard accepted belongs, and counts it there.
    pub(crate) fn place(&self) -> Place {
        let held = self.shared.held.iter().map(|held| held.0.load(Relaxed));
        let place = placement::place(self.index, held, self.shared.capacity);
        match place {
            Place::Here => self.add(self.index),
            Place::At(shard) => self.add(shard),
            Place::Nowhere => {}
        }
        place
    }

    fn add(&self, shard: usize) {
        self.shared.held[shard].0.fetch_add(1, Relaxed);
    }

    /// Records that `count` sockets that were counted here are closed.
    pub(crate) fn release(&self, count: u32) {
        if count > 0 {
            self.shared.held[self.index].0.fetch_sub(count, Relaxed);
        }
    }

    /// Hands a socket to the shard that [`Handover::place`] named. When that shard takes nothing at the moment the
    /// socket comes back, counted here.
    pub(crate) fn give(&self, shard: usize, socket: OwnedFd) -> Result<(), OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        let fits = control.push(SendAncillaryMessage::ScmRights(&sockets));
        let byte = [IoSlice::new(&[0])];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if fits && sendmsg(&self.shared.ends[shard], &byte, &mut control, flags).is_ok() {
            return Ok(());
        }
        self.shared.held[shard].0.fetch_sub(1, Relaxed);
        self.add(self.index);
        Err(socket)
    }

    /// Takes the sockets that others handed here, up to a bound per turn. They are counted already.
    pub(crate) fn take(&mut self, mut sink: impl FnMut(OwnedFd)) {
        if !self.waiting {
            return;
        }
        for _ in 0..TAKES_PER_TURN {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut bytes = [IoSliceMut::new(&mut byte)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.inbox, &mut bytes, &mut control, flags) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.waiting = false;
                    return;
                }
            }
            let mut came = false;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(sockets) = message {
                    for socket in sockets {
                        came = true;
                        sink(socket);
                    }
                }
            }
            if !came {
                // The kernel drops a descriptor that the table has no place for, and delivers the byte.
                self.release(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sides: &[Handover]) -> Vec<u32> {
        sides[0].shared.held.iter().map(|held| held.0.load(Relaxed)).collect()
    }

    #[test]
    fn a_socket_travels_with_its_count() {
        let mut sides = handovers(2, 1).unwrap();
        assert_eq!(sides[0].place(), Place::Here);
        assert_eq!(sides[0].place(), Place::At(1));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        sides[0].give(1, theirs.into()).unwrap();
        assert_eq!((held(&sides), sides[1].place()), (vec![1, 1], Place::Nowhere));
        let mut got = Vec::new();
        sides[1].on_ready();
        sides[1].take(|socket| got.push(socket));
        assert!(!sides[1].is_waiting());
        rustix::io::write(&got[0], b"x").unwrap();
        let mut byte = [0];
        rustix::io::read(&ours, &mut byte[..]).unwrap();
        assert_eq!((got.len(), byte), (1, *b"x"));
        sides[1].release(1);
        assert_eq!(held(&sides), [1, 0]);
    }

    #[test]
    fn what_a_full_inbox_does_not_take_stays() {
        let sides = handovers(2, u32::MAX).unwrap();
        let socket = || -> OwnedFd { std::os::unix::net::UnixStream::pair().unwrap().0.into() };
        let mut given = 0;
        while {
            sides[0].add(1);
            sides[0].give(1, socket()).is_ok()
        } {
            given += 1;
            assert!(given < 100_000, "no bound");
        }
        assert_eq!(held(&sides), [1, given]);
    }
}
