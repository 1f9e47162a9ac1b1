//! The listening sockets of a shard.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{io::Errno, net::SocketFlags};
use shell::socket::{self, Sharing};

/// Length of the accept queue asked for; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4_096;
/// Pause after accept ran out of descriptors or memory: trying again at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Most accepts per turn, so that a connect storm leaves the established ones their share.
const ACCEPTS_PER_TURN: usize = 128;

/// One shard's listener, at one or more addresses.
#[derive(Debug)]
pub(crate) struct Listener {
    fds: Vec<OwnedFd>,
    /// Whether connections may wait: set by an edge, cleared when accept finds none.
    waiting: bool,
    /// The kernel gives the lowest free number, so a client's number tells how many are in use in this table.
    ceiling: i32,
    paused_until: Option<Instant>,
}

/// What an accept round met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    /// Accept calls that failed for lack of descriptors, memory or place.
    pub(crate) exhausted: u64,
}

impl Listener {
    /// Listens beside the other shards; the kernel spreads connections over them. Clients get descriptors below
    /// `ceiling`.
    pub(super) fn bind(addresses: &[SocketAddr], ceiling: i32) -> std::io::Result<Self> {
        let bind = |address: &SocketAddr| {
            let fd = socket::bound(*address, Sharing::Shared)?;
            rustix::net::listen(&fd, BACKLOG)?;
            Ok(fd)
        };
        let fds = addresses.iter().map(bind).collect::<std::io::Result<_>>()?;
        Ok(Self { fds, waiting: true, ceiling, paused_until: None })
    }

    pub(crate) fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    pub(crate) const fn on_ready(&mut self) {
        self.waiting = true;
    }

    /// Whether [`Listener::accept`] would do something now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.waiting && self.paused_until.is_none_or(|until| now >= until)
    }

    /// Whether accepting is suspended until a later tick.
    pub(crate) const fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Accepts what waits, up to a bound per turn. `sink` tells whether there was a place for the socket.
    pub(crate) fn accept(&mut self, now: Instant, mut sink: impl FnMut(OwnedFd) -> bool) -> Round {
        self.paused_until = None;
        let mut addresses = self.fds.iter();
        let Some(mut next) = addresses.next() else { return Round::default() };
        for _ in 0..ACCEPTS_PER_TURN {
            match rustix::net::accept_with(next, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) if fd.as_raw_fd() < self.ceiling => {
                    if !sink(fd) {
                        return self.pause(now);
                    }
                }
                Err(Errno::AGAIN) => match addresses.next() {
                    Some(other) => next = other,
                    None => {
                        self.waiting = false;
                        break;
                    }
                },
                Ok(_) | Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause(now);
                }
                // accept(2): errors of the connection itself are to be treated like EAGAIN by trying the next one.
                Err(_) => {}
            }
        }
        Round::default()
    }

    fn pause(&mut self, now: Instant) -> Round {
        self.paused_until = Some(now + EXHAUSTED_PAUSE);
        Round { exhausted: 1 }
    }
}

/// Holds the addresses for the shards, which all bind them. Fails when another process listens there: with SO_REUSEPORT
/// alone the two would silently share the connections. Of several addresses one may be of a family that there is not here.
pub(super) fn reserve(addresses: &[SocketAddr]) -> std::io::Result<(Vec<OwnedFd>, Vec<SocketAddr>)> {
    let mut reserved = (Vec::new(), Vec::new());
    for (index, address) in addresses.iter().enumerate() {
        match reserve_one(*address) {
            Ok((fd, bound)) => {
                reserved.0.push(fd);
                reserved.1.push(bound);
            }
            Err(error) if index > 0 && socket::is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reserved)
}

fn reserve_one(address: SocketAddr) -> std::io::Result<(OwnedFd, SocketAddr)> {
    drop(socket::bound(address, Sharing::Alone)?);
    let fd = socket::bound(address, Sharing::Shared)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
    Ok((fd, bound))
}
