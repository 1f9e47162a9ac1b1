//! The header of the PROXY protocol at the beginning of a socket, and the address of its peer.
//!
//! The header is looked at where the kernel has it and taken out only when it is whole. So nothing is kept of one that
//! is not complete, and what follows is left for the transport of the connection, whatever that is.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
};

use node_core::{
    counters::RefuseReason,
    proxy::header::{self, Beginning, MAX_PROXY_HEADER_BYTES},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, getpeername, recv},
};

use super::Taken;

/// The address at the other end of a socket. A peer that has gone already has none that matters.
pub(crate) fn peer(socket: &OwnedFd) -> IpAddr {
    let address = getpeername(socket).ok().flatten().and_then(|address| SocketAddr::try_from(address).ok());
    address.map_or(Ipv6Addr::UNSPECIFIED.into(), |address| address.ip())
}

/// Looks for a header, and takes it out when it is whole.
pub(super) fn read_header(fd: BorrowedFd<'_>) -> Taken {
    let mut buffer = [0; MAX_PROXY_HEADER_BYTES];
    let there = match recv(fd, &mut buffer, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        Ok((0, _)) => return Taken::Ended,
        Ok((count, _)) => count,
        Err(Errno::AGAIN) => return Taken::Nothing,
        Err(Errno::INTR) => return Taken::Again,
        Err(_) => return Taken::Ended,
    };
    match header::read(&buffer[..there]) {
        Beginning::Incomplete => Taken::Nothing,
        Beginning::Other => Taken::Unfit(RefuseReason::ProxyHeader),
        // These bytes are there, so they come at once and all.
        Beginning::Header { bytes, client } => match recv(fd, &mut buffer[..bytes], RecvFlags::DONTWAIT) {
            Ok((count, _)) if count == bytes => Taken::Introduced(client),
            Err(Errno::INTR) => Taken::Again,
            _ => Taken::Ended,
        },
    }
}
