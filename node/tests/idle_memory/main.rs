//! The memory that idle connections cost a whole shard, tables of the shell included, counted by an allocator of this
//! process's own. `cargo xtask gates` compares it with the recorded figure.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use node::sysinfo;

#[path = "../shards/support.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod support;
#[path = "../../core/tests/memory/sys.rs"]
mod sys;

use support::Node;

/// Joined connections, in rooms of 100. Both ends are in this process, and twice as many descriptors fit into the
/// lowest hard limit that is usual.
const CONNECTIONS: usize = 5_000;
const ROOM: usize = 100;
/// Masks of clients are random; this one leaves the text readable.
const MASK: [u8; 4] = [0; 4];
const REQUEST: &[u8] = b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// The shard gives back memory that it kept for connections that spoke, in its ticks, which are 250 ms apart.
const LOOK: Duration = Duration::from_millis(50);
const QUIET_LOOKS: u32 = 20;
const HANG: Duration = Duration::from_secs(120);

/// The allocated bytes, once they have not changed for a second.
fn allocated_at_rest() -> usize {
    let (start, mut seen, mut quiet) = (Instant::now(), sys::allocated(), 0);
    while quiet < QUIET_LOOKS {
        assert!(start.elapsed() < HANG, "what is allocated does not come to rest");
        std::thread::sleep(LOOK);
        let now = sys::allocated();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
    seen
}

/// Waits for an answer that ends like this. Owns no memory.
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut answer = [0; 512];
    let mut length = 0;
    while !answer[..length].ends_with(end) {
        let more = stream.read(&mut answer[length..]).expect("an answer in time");
        assert!(more > 0, "{}", String::from_utf8_lossy(&answer[..length]));
        length += more;
    }
}

/// Clients join one after the other, so that each turn of the shard has one connection to look at, in every run.
fn join(address: SocketAddr, room: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream.write_all(REQUEST).expect("sends");
    read_until(&mut stream, b"\r\n\r\n");
    let text = format!(r#"["3","3","room:{room:06}","phx_join",{{}}]"#);
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("a short text")];
    frame.extend_from_slice(&MASK);
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).expect("sends");
    read_until(&mut stream, br#"{"status":"ok","response":{}}]"#);
    stream
}

#[test]
fn figures() {
    sysinfo::raise_nofile(None).expect("a limit of open files");
    let node = Node::start(1, |_| {});
    let mut clients = Vec::with_capacity(CONNECTIONS + 1);
    // The first connection makes the node allocate things that it has only once.
    clients.push(join(node.addr(), CONNECTIONS));
    let before = allocated_at_rest();
    clients.extend((0..CONNECTIONS).map(|connection| join(node.addr(), connection / ROOM)));
    let after = allocated_at_rest();
    assert_eq!(node.counters().connections, clients.len() as u64);
    // The xtask reads this line; the harness may have begun one.
    println!("\nfigure idle_5000_in_node_bytes {}", after - before);
}
