//! A bus that greets, takes a login, and then neither reads nor says anything.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use node::{
    bus::{Bus, BusState, Credentials, Identity},
    mailbox::BusReceiver,
    threads::Shards,
};
use node_core::config::{Bus as BusConfig, Nats, NodeConfig};
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// Lets every connection log in and then does nothing more with it. The thread that accepts ends with the process.
fn listen() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // The window is small: bytes that the kernel takes are no memory of the node, and hide for a while that nobody
    // reads.
    set_socket_recv_buffer_size(&listener, 4_096).expect("a small window");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut left = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // A node that only looks whether a server greets has gone by then.
            if greet(&mut stream).is_ok() {
                left.push(stream);
            }
        }
    });
    address
}

fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(
        b"INFO {\"server_id\":\"x\",\"version\":\"2.11.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n",
    )?;
    let mut said = Vec::new();
    while !said.ends_with(b"PING\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        said.push(byte[0]);
    }
    stream.write_all(b"PONG\r\n")
}

/// The node's side of such a bus, once it has logged in.
pub(crate) struct Stopped {
    bus: Bus,
    pub(crate) state: Arc<BusState>,
}

impl Stopped {
    pub(crate) fn start(config: &NodeConfig, shards: &Shards, commands: BusReceiver) -> Self {
        let nats = Nats { urls: vec![format!("nats://{}", listen())], user: None };
        let mut config = config.clone();
        config.fixed.bus = Some(BusConfig::Nats(nats));
        let identity = Identity { node_name: "n".to_owned(), boot_id: 1 };
        let state = Arc::<BusState>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let members = (shards.handles().to_vec(), Arc::clone(shards.topics()));
        let api = tokio::sync::mpsc::channel(1).0;
        let shared = node::bus::Shared {
            state: Arc::clone(&state),
            fleet: Arc::default(),
            peers: Arc::default(),
            api,
        };
        let bus = Bus::start(runtime, &config, Credentials::None, identity, commands, members, shared);
        let bus = bus.expect("a thread").expect("a bus");
        super::support::wait("the login", || state.ever_connected());
        Self { bus, state }
    }

    pub(crate) fn stop(self) {
        self.bus.stop();
    }
}
