//! A free port that stays free: the kernel gives it to nobody else while this lives.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port that is bound and not listened on. A server that sets `SO_REUSEADDR`, too, can bind beside it.
pub(crate) struct Port(Socket);

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}
