//! The listener for clients, and the transports that carry the bytes of a shard's connections. The rest of the node accepts,
//! reads and writes through here and does not know whether a socket, TLS or something else is below.

use std::{
    collections::HashSet,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use node_core::{
    counters::RefuseReason,
    egress::outbox::{Outbox, Queue},
    session::id::Slot,
};
use rustix::event::epoll::EventFlags;

mod accept;
mod plain;
mod proxy;
mod settings;
mod tls;

pub(crate) use accept::Listener;
pub(crate) use proxy::peer;
pub use settings::Settings;
use tls::Tls;
pub use tls::{Identity, TicketsError, TlsError, TlsFiles, TlsWatch};

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
    /// So many bytes, and there may be more.
    Part(usize),
    /// Nothing is there.
    Nothing,
    /// Nothing for the connection yet, and there may be more.
    Again,
    /// The peer has ended its output, or the transport failed.
    Ended,
    /// The transport cannot go on before the connection has begun, for this reason.
    Unfit(RefuseReason),
    /// A header of the PROXY protocol, which names the client; none when the proxy speaks for itself. More may be there.
    Introduced(Option<IpAddr>),
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// So many bytes were taken of so many offered.
    Sent { taken: usize, offered: usize },
    /// So many bytes were taken, and so many wait in the transport for its socket.
    Kept { taken: usize, unsent: usize },
    /// The transport failed.
    Failed,
}

/// The transport of each connection, by its slot.
#[derive(Debug)]
pub(crate) struct Transports {
    sockets: Vec<Option<OwnedFd>>,
    /// Connections of which a header of the PROXY protocol is to be read before anything else.
    unintroduced: HashSet<Slot>,
    scratch: Box<[u8]>,
    /// All connections speak TLS, or none does and there is nothing of it.
    tls: Option<Box<Tls>>,
}

impl Transports {
    fn new(tls: Option<Tls>) -> Self {
        let scratch = vec![0; plain::COPY_BYTES].into_boxed_slice();
        Self { sockets: Vec::new(), unintroduced: HashSet::new(), scratch, tls: tls.map(Box::new) }
    }

    /// Begins a turn at a time in milliseconds. While memory is short, no connection begins that needs more than its socket.
    /// Returns the memory in bytes that the transports hold for their connections, besides sockets; none when they never hold
    /// any.
    pub(crate) fn begin_turn(&mut self, now_millis: u64, is_short_of_memory: bool) -> Option<usize> {
        self.tls.as_mut().map(|tls| tls.begin_turn(now_millis, is_short_of_memory))
    }

    /// Whether the turn has worked so much at input that it should read no further connections.
    pub(crate) fn has_read_enough(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_read_enough())
    }

    /// A connection has this socket.
    pub(crate) fn insert(&mut self, slot: Slot, socket: OwnedFd) {
        if self.sockets.len() <= slot.index() {
            self.sockets.resize_with(slot.index() + 1, || None);
        }
        self.sockets[slot.index()] = Some(socket);
        if let Some(tls) = &mut self.tls {
            tls.insert(slot);
        }
    }

    /// The connection begins with a header of the PROXY protocol, before anything of TLS.
    pub(crate) fn expect_header(&mut self, slot: Slot) {
        self.unintroduced.insert(slot);
    }

    /// The meaning of an edge for a connection. A plain socket keeps nothing back, so the slot does not matter there; TLS may
    /// wait for its socket itself, and goes on first.
    pub(crate) fn on_ready(&mut self, slot: Slot, flags: EventFlags) -> Edge {
        match (&mut self.tls, self.sockets.get(slot.index())) {
            (Some(tls), Some(Some(socket))) => tls.on_ready(slot, socket.as_fd(), flags),
            _ => plain::on_ready(flags),
        }
    }

    /// Closes the transport of a connection. False when the connection has none.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        if !self.unintroduced.is_empty() {
            self.unintroduced.remove(&slot);
        }
        let Some(socket) = self.sockets.get_mut(slot.index()).and_then(Option::take) else { return false };
        if let Some(tls) = &mut self.tls {
            tls.remove(slot, socket.as_fd());
        }
        true
    }

    /// Reads once, at most `most` bytes of a socket, into a buffer that may be longer. Without a transport there is nothing.
    pub(crate) fn read(&mut self, slot: Slot, buffer: &mut [u8], most: usize) -> Taken {
        if !self.unintroduced.is_empty() && self.unintroduced.contains(&slot) {
            return self.read_header(slot);
        }
        match (self.sockets.get(slot.index()), &mut self.tls) {
            (Some(Some(socket)), None) => plain::read(socket.as_fd(), &mut buffer[..most]),
            (Some(Some(socket)), Some(tls)) => tls.read(slot, socket.as_fd(), buffer, most),
            _ => Taken::Nothing,
        }
    }

    #[cold]
    fn read_header(&mut self, slot: Slot) -> Taken {
        let Some(Some(socket)) = self.sockets.get(slot.index()) else { return Taken::Nothing };
        let taken = proxy::read_header(socket.as_fd());
        if matches!(taken, Taken::Introduced(_)) {
            self.unintroduced.remove(&slot);
        }
        taken
    }

    /// Writes what is queued, once: all of it, or one record of TLS.
    pub(crate) fn write(&mut self, slot: Slot, outbox: &Outbox, queue: &Queue) -> Written {
        match (self.sockets.get(slot.index()), &mut self.tls) {
            (Some(Some(socket)), None) => plain::write(socket.as_fd(), outbox, queue, &mut self.scratch),
            (Some(Some(socket)), Some(tls)) => tls.write(slot, socket.as_fd(), outbox, queue),
            _ => Written::Failed,
        }
    }

    /// A connection whose transport cannot carry much more; each once.
    pub(crate) fn pop_worn(&mut self) -> Option<Slot> {
        self.tls.as_mut()?.pop_worn()
    }

    /// Connections that keep memory of their transport for long without getting on.
    pub(crate) fn stalled(&self) -> Vec<Slot> {
        self.tls.iter().flat_map(|tls| tls.stalled()).collect()
    }

    /// Ends the output of a connection; its input stays.
    pub(crate) fn end_output(&mut self, slot: Slot) {
        match (self.sockets.get(slot.index()), &mut self.tls) {
            (Some(Some(socket)), None) => plain::end_output(socket.as_fd()),
            (Some(Some(socket)), Some(tls)) => tls.end_output(slot, socket.as_fd()),
            _ => {}
        }
    }

    /// Sends last words to each connection for which there are some, in one write each, and ends their output.
    pub(crate) fn say_last(&mut self, words: impl Fn(Slot) -> Option<Vec<u8>>) {
        for (index, socket) in self.sockets.iter().enumerate() {
            // There are as many as descriptors, far fewer than 2^32.
            if let Some(socket) = socket
                && let Some(bytes) = words(Slot(index as u32))
            {
                match &mut self.tls {
                    None => plain::say_last(socket.as_fd(), &bytes),
                    Some(tls) => tls.say_last(Slot(index as u32), socket.as_fd(), &bytes),
                }
            }
        }
    }

    /// Gives the memory of a past peak back; no connection may be left.
    pub(crate) fn trim(&mut self) {
        if self.sockets.len() > KEPT {
            self.sockets = Vec::new();
            self.tls.iter_mut().for_each(|tls| tls.trim());
            self.unintroduced = HashSet::new();
        }
    }
}
