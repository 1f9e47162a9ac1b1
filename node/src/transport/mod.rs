//! The listener for clients, and the transports that carry the bytes of a shard's connections. The rest of the node accepts,
//! reads and writes through here and does not know whether a socket, TLS or something else is below.

use std::os::fd::{AsFd, OwnedFd};

use node_core::{
    egress::outbox::{Outbox, Queue},
    session::id::Slot,
};
use rustix::event::epoll::EventFlags;

mod accept;
mod plain;
mod settings;

pub(crate) use accept::Listener;
pub use settings::Settings;

/// Places of a past peak from which on they are given back.
const KEPT: usize = 1_024;

/// The meaning that an edge of epoll at a socket has for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    /// There is input, or its end, or an error.
    pub(crate) input: bool,
    /// The peer ended its output, or the transport failed: read until the end or the error shows.
    pub(crate) ended: bool,
    /// The transport takes output.
    pub(crate) output: bool,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes. Less than there was room for means that nothing is left, and that more will be a new edge.
    Bytes(usize),
    /// Nothing is there.
    Nothing,
    /// A signal came first.
    Interrupted,
    /// The peer has ended its output, or the transport failed.
    Ended,
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// So many bytes were taken of so many offered.
    Sent { taken: usize, offered: usize },
    /// The transport failed.
    Failed,
}

/// The transport of each connection, by its slot.
#[derive(Debug)]
pub(crate) struct Transports {
    sockets: Vec<Option<OwnedFd>>,
    scratch: Box<[u8]>,
}

impl Default for Transports {
    fn default() -> Self {
        Self { sockets: Vec::new(), scratch: vec![0; plain::COPY_BYTES].into_boxed_slice() }
    }
}

impl Transports {
    /// A connection has this socket.
    pub(crate) fn insert(&mut self, slot: Slot, socket: OwnedFd) {
        if self.sockets.len() <= slot.index() {
            self.sockets.resize_with(slot.index() + 1, || None);
        }
        self.sockets[slot.index()] = Some(socket);
    }

    /// The meaning of an edge for a connection. A plain socket keeps nothing back, so the slot does not matter here; a
    /// transport that itself waits for its socket goes on first.
    pub(crate) const fn on_ready(&mut self, _slot: Slot, flags: EventFlags) -> Edge {
        plain::on_ready(flags)
    }

    /// Closes the transport of a connection. False when the connection has none.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        self.sockets.get_mut(slot.index()).is_some_and(|place| place.take().is_some())
    }

    /// Reads once. Without a transport there is nothing.
    pub(crate) fn read(&mut self, slot: Slot, buffer: &mut [u8]) -> Taken {
        self.socket(slot).map_or(Taken::Nothing, |socket| plain::read(socket.as_fd(), buffer))
    }

    /// Writes everything that is queued, once.
    pub(crate) fn write(&mut self, slot: Slot, outbox: &Outbox, queue: &Queue) -> Written {
        match self.sockets.get(slot.index()) {
            Some(Some(socket)) => plain::write(socket.as_fd(), outbox, queue, &mut self.scratch),
            _ => Written::Failed,
        }
    }

    /// Ends the output of a connection; its input stays.
    pub(crate) fn end_output(&mut self, slot: Slot) {
        if let Some(socket) = self.socket(slot) {
            plain::end_output(socket.as_fd());
        }
    }

    /// Sends last words to each connection for which there are some, in one write each, and ends their output.
    pub(crate) fn say_last(&mut self, words: impl Fn(Slot) -> Option<Vec<u8>>) {
        for (index, socket) in self.sockets.iter().enumerate() {
            // There are as many as descriptors, far fewer than 2^32.
            if let Some(socket) = socket
                && let Some(bytes) = words(Slot(index as u32))
            {
                plain::say_last(socket.as_fd(), &bytes);
            }
        }
    }

    /// Gives the memory of a past peak back; no connection may be left.
    pub(crate) fn trim(&mut self) {
        if self.sockets.len() > KEPT {
            self.sockets = Vec::new();
        }
    }

    fn socket(&self, slot: Slot) -> Option<&OwnedFd> {
        self.sockets.get(slot.index())?.as_ref()
    }
}
