//! A node runs out of descriptors: it logs that, keeps serving and answering probes, does not spin, and accepts again
//! when some are free.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::Command,
};

use crate::support::process::{Process, command};
use crate::support::wait::{HANG, wait};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// Hard limit of the child. A node opens about 30 itself.
const NOFILE: usize = 64;

fn metric(node: &Process, name: &str) -> f64 {
    let (_, text) = node.ask("GET", "/metrics", None, "");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("the accept queue takes it");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    client(format!("ws://{address}/socket/websocket?vsn=2.0.0"), stream).expect("the handshake").0
}

/// A connection that will be established as soon as it is accepted, and then stays.
fn ask_for_socket(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the accept queue takes it");
    let request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sends");
    stream
}

fn heartbeat(socket: &mut WebSocket<TcpStream>) {
    socket.send(Message::text(r#"[null,"1","phoenix","heartbeat",{}]"#)).expect("sends");
    assert!(socket.read().expect("an answer").into_text().expect("text").contains("phx_reply"));
}

#[test]
fn without_descriptors_the_node_serves_on_and_accepts_again_later() {
    let original = command();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {NOFILE}; exec \"$0\" \"$@\"")]);
    command.arg(original.get_program()).args(original.get_args()).arg("--dev");
    let node = Process::start(command);
    let mut first = connect(node.listen);
    let flood: Vec<_> = (0..NOFILE).map(|_| ask_for_socket(node.listen)).collect();
    wait("the shortage is counted", || metric(&node, "channelcluster_node_accept_errors_total") >= 1.0);
    assert_eq!((node.ask("GET", "/healthz", None, "").0, node.ready()), (200, 200), "probes of a full node");
    // No client had to leave for that.
    assert!(metric(&node, "channelcluster_node_closed_total{reason=\"idle_timeout\"}") == 0.0);
    heartbeat(&mut first);
    drop(flood);
    // The accept queue has to be empty, too: a connection for which there is no descriptor when it is accepted is
    // closed, and the next client's could be that one.
    wait("the flood is gone", || {
        let [accepted, dropped, handshaking, connections] =
            ["accepted_total", "accept_errors_total", "handshaking", "connections"]
                .map(|name| node.metric(&format!("channelcluster_node_{name}")).expect("a metric"));
        accepted + dropped >= (1 + NOFILE) as f64 && (handshaking, connections) == (0.0, 1.0)
    });
    heartbeat(&mut connect(node.listen));
    // A node that tries ten times a second does not spin.
    assert!(metric(&node, "channelcluster_node_accept_errors_total") < 2_000.0);
}
