//! One socket: how it is opened, which events are awaited on it, and why it ended.

use super::sys;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// The events awaited on a connection that reads. They are edges, which spare the kernel a second look at each socket
/// that was read to its end.
pub(super) const READABLE: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
/// The events awaited on a connection that does not read: its end, but no bytes.
pub(super) const DEAF: EventFlags = EventFlags::RDHUP.union(EventFlags::ET);

/// The close code that stands for a connection lost without a close frame (RFC 6455 section 7.4.1).
pub(super) const ABNORMAL: u16 = 1006;
/// Receive buffer asked for on connections that will not read, bytes; the kernel makes it the smallest that it has.
const SLOW_RECEIVE_BUFFER: usize = 1;

/// Why reading a socket ended its connection.
pub(super) struct End {
    pub(super) code: u16,
    pub(super) error: String,
}

impl End {
    pub(super) fn broken(error: impl Into<String>) -> End {
        End { code: ABNORMAL, error: error.into() }
    }
}

pub(super) fn connect(target: SocketAddr, source: Option<SocketAddr>, slow: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if slow {
        // It is set before connecting, because the window's scale is agreed on then.
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER)?;
    }
    if let Some(source) = source {
        sys::bind_address_no_port(&socket)?;
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A short name for an error: its text, without the number if there is one.
pub(super) fn name(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| Errno::from_raw_os_error(code).kind().to_string())
}
