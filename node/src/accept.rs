//! The listening socket of a shard.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::{self, Errno},
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

/// Length of the accept queue asked for; the kernel cuts it to net.core.somaxconn.
pub(crate) const BACKLOG: i32 = 4_096;
/// Pause after accept ran out of descriptors or memory: trying again at once would spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Most accepts per turn, so that a connect storm leaves the established ones their share.
const ACCEPTS_PER_TURN: usize = 128;

/// One shard's listener.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
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
    pub(crate) fn bind(addr: SocketAddr, ceiling: i32) -> io::Result<Self> {
        let fd = bound(addr, true)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(Self { fd, waiting: true, ceiling, paused_until: None })
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.fd
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
        for _ in 0..ACCEPTS_PER_TURN {
            match rustix::net::accept_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) if fd.as_raw_fd() < self.ceiling => {
                    if !sink(fd) {
                        return self.pause(now);
                    }
                }
                Err(Errno::AGAIN) => {
                    self.waiting = false;
                    break;
                }
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

fn bound(addr: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, shared)?;
    // Accepted sockets inherit it, which saves a call per connection. Frames leave in one write per turn already.
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::bind(&fd, &addr)?;
    Ok(fd)
}

/// Holds the address for the shards, which all bind it. Fails when another process listens there: with SO_REUSEPORT
/// alone the two would silently share the connections.
pub(crate) fn reserve(addr: SocketAddr) -> std::io::Result<(OwnedFd, SocketAddr)> {
    drop(bound(addr, false)?);
    let fd = bound(addr, true)?;
    let addr = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
    Ok((fd, addr))
}
