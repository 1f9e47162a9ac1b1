//! Listening sockets that both address families reach.
//!
//! The unspecified IPv6 address with `IPV6_V6ONLY` off takes connections of IPv6 and of IPv4, so it is the default
//! everywhere; a machine without IPv6 (booted with `ipv6.disable=1`, or a network namespace without it) gets the
//! unspecified IPv4 address instead. The system's default of the option (`net.ipv6.bindv6only`) plays no part.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};

/// Whether other sockets of the process may listen at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They may not: when another process listens there, it is noticed.
    Alone,
    /// They may, and the kernel spreads connections over them (`SO_REUSEPORT`).
    Shared,
}

/// Every address of both families, at a port.
#[must_use]
pub const fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// A socket for listening that is bound to an address and does not block. Sockets that are accepted from it have
/// Nagle's algorithm off and are probed while idle (`SO_KEEPALIVE`, in the rhythm of `net.ipv4.tcp_keepalive_*`):
/// they inherit both, which saves two calls per connection.
///
/// # Errors
/// Those of socket(2), setsockopt(2) and bind(2).
pub fn bound(address: SocketAddr, sharing: Sharing) -> io::Result<OwnedFd> {
    match bound_to(address, sharing) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address == everywhere(address.port()) => {
            Ok(bound_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), sharing)?)
        }
        done => Ok(done?),
    }
}

fn bound_to(address: SocketAddr, sharing: Sharing) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, !address.ip().is_unspecified())?;
    }
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, sharing == Sharing::Shared)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_socket_keepalive(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

/// Listens at an address, with an accept queue of `backlog` at most (the kernel cuts it to `net.core.somaxconn`).
///
/// # Errors
/// As [`bound`], and those of listen(2).
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let fd = bound(address, Sharing::Alone)?;
    rustix::net::listen(&fd, backlog)?;
    Ok(TcpListener::from(fd))
}

/// Whether this error means that no address of this family and kind can be listened at here: the machine has no IPv6.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| absent.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn both_families_reach_the_default_address() {
        let listener = listen(everywhere(0), 16).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Where loopback has no IPv6 address, sockets of that family may exist all the same.
        match TcpListener::bind("[::1]:0") {
            Ok(_) => drop(TcpStream::connect(("::1", port)).unwrap()),
            Err(error) => println!("skipped for IPv6, which is not there: {error}"),
        }
    }

    #[test]
    fn one_family_can_be_asked_for() {
        let listener = listen("0.0.0.0:0".parse().unwrap(), 16).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(TcpStream::connect(("::1", port)).is_err());
    }

    #[test]
    fn accepted_sockets_are_kept_alive_and_not_delayed() {
        let listener = listen(everywhere(0), 16).unwrap();
        let _client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let accepted = loop {
            match rustix::net::accept(&listener) {
                Ok(accepted) => break accepted,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert!(sockopt::socket_keepalive(&accepted).unwrap() && sockopt::tcp_nodelay(&accepted).unwrap());
    }

    #[test]
    fn an_address_in_use_is_told() {
        let first = listen(everywhere(0), 16).unwrap();
        let error = listen(everywhere(first.local_addr().unwrap().port()), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(!is_absent(&error));
    }
}
