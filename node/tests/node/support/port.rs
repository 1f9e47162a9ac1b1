//! A free port that stays free. The tests of the operator use it, too.

use tokio::net::TcpSocket;

/// A port for a server that starts later, or goes and comes back. Meanwhile a socket that is bound to it without
/// listening keeps it: the kernel chooses it for no other socket, not even for the client's end of a connection.
pub(crate) struct Port(TcpSocket);

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Go and tokio set the option as well; only with both can the server bind beside this socket.
        socket.set_reuseaddr(true).expect("an option");
        // A port that is taken on one address alone could be given to a socket of another one, and then no server could
        // have it on all.
        socket.bind(([0, 0, 0, 0], 0).into()).expect("a free port");
        Port(socket)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().expect("its address").port()
    }
}
