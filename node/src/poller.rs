//! Everything that touches epoll: a shard's own instance, which is itself one `AsyncFd` in the shard's runtime.
//!
//! Every descriptor is registered once, edge-triggered, for input and output. An edge for output comes only after a
//! send took less than offered, so a short write needs no system call to be told when to go on. (A future per socket
//! instead costs 500 bytes more per connection, a level-triggered epoll one more system call per short write.)

use std::os::fd::{AsFd, OwnedFd};

use node_core::session::id::ConnId;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io,
};
use tokio::io::unix::AsyncFd;

use crate::sys::watch_input;

/// Events taken per call. A turn that fills it calls again before it sleeps.
const EVENTS: usize = 1_024;
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
const INBOX: u64 = u64::MAX - 2;

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Connections wait to be accepted.
    Listener,
    /// Another thread rang.
    Wake,
    /// Another shard handed connections over.
    Inbox,
    /// The socket of a connection.
    Conn {
        /// Its id. The connection may have ended by now.
        id: ConnId,
        /// The flags of the event.
        flags: EventFlags,
    },
}

/// A shard's epoll instance.
pub(crate) struct Poller {
    epoll: AsyncFd<OwnedFd>,
    events: Vec<Event>,
}

impl Poller {
    /// Must be called inside the shard's runtime.
    pub(crate) fn new() -> std::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let epoll = watch_input(epoll)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    pub(crate) fn add_listener(&self, fd: impl AsFd) -> io::Result<()> {
        self.add(fd, LISTENER, EventFlags::IN)
    }

    pub(crate) fn add_wake(&self, fd: impl AsFd) -> io::Result<()> {
        self.add(fd, WAKE, EventFlags::IN)
    }

    pub(crate) fn add_inbox(&self, fd: impl AsFd) -> io::Result<()> {
        self.add(fd, INBOX, EventFlags::IN)
    }

    pub(crate) fn add_conn(&self, fd: impl AsFd, id: ConnId) -> io::Result<()> {
        self.add(fd, id.to_token(), EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP)
    }

    fn add(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        epoll::add(self.epoll.get_ref(), fd, EventData::new_u64(token), flags | EventFlags::ET)
    }

    /// Takes what is ready now, without waiting. Returns whether that was all.
    pub(crate) fn take(&mut self, mut sink: impl FnMut(Ready)) -> io::Result<bool> {
        self.events.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(self.epoll.get_ref(), spare_capacity(&mut self.events), Some(&now)) {
            Ok(_) => {}
            Err(io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            sink(match event.data.u64() {
                LISTENER => Ready::Listener,
                WAKE => Ready::Wake,
                INBOX => Ready::Inbox,
                token => Ready::Conn { id: ConnId::from_token(token), flags: event.flags },
            });
        }
        Ok(self.events.len() < EVENTS)
    }

    /// Waits until something may be ready. Safe to cancel.
    pub(crate) async fn ready(&self) -> std::io::Result<()> {
        // It is cleared before the events are taken: whatever becomes ready from here on is a new edge.
        self.epoll.readable().await?.clear_ready();
        Ok(())
    }
}
