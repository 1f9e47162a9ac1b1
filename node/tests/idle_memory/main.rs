//! The memory that idle connections cost a whole shard, tables of the shell included, counted by an allocator of this
//! process's own. `cargo xtask gates` compares it with the recorded figure.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use node::{
    sysinfo,
    transport::{Settings, TlsFiles, TlsWatch},
};
use node_core::config::NodeConfig;

#[path = "../node/support/tls.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod tls;
#[path = "../node/support/wait.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod wait;

#[path = "../shards/support.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod support;
#[path = "../../core/tests/memory/sys.rs"]
mod sys;

use support::Node;
use tls::Certificate;

/// Joined connections, in rooms of 100. Both ends are in this process, and twice as many descriptors fit into the
/// lowest hard limit that is usual.
const CONNECTIONS: usize = 5_000;
const ROOM: usize = 100;
/// The same with TLS, whose handshakes take their time.
const TLS_CONNECTIONS: usize = 2_000;
/// Most bytes of a connection with TLS, its slot and its room included.
const MOST_TLS_BYTES: usize = 300;
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
fn read_until(stream: &mut impl Read, end: &[u8]) {
    let mut answer = [0; 512];
    let mut length = 0;
    while !answer[..length].ends_with(end) {
        let more = stream.read(&mut answer[length..]).expect("an answer in time");
        assert!(more > 0, "{}", String::from_utf8_lossy(&answer[..length]));
        length += more;
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(HANG)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Becomes a WebSocket and joins a room.
fn join(stream: &mut (impl Read + Write), room: usize) {
    stream.write_all(REQUEST).expect("sends");
    read_until(stream, b"\r\n\r\n");
    let text = format!(r#"["3","3","room:{room:06}","phx_join",{{}}]"#);
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("a short text")];
    frame.extend_from_slice(&MASK);
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).expect("sends");
    read_until(stream, br#"{"status":"ok","response":{}}]"#);
}

/// The bytes that `count` connections take, made one after the other, so that each turn of the shard has one connection to
/// look at, in every run.
fn idle_bytes(node: &Node, count: usize, mut joined: impl FnMut(usize) -> TcpStream) -> usize {
    let mut clients = Vec::with_capacity(count + 1);
    // The first connection makes the node allocate things that it has only once.
    clients.push(joined(count));
    let before = allocated_at_rest();
    clients.extend((0..count).map(|connection| joined(connection / ROOM)));
    let after = allocated_at_rest();
    assert_eq!(node.counters().connections, clients.len() as u64);
    after - before
}

/// The machine may be busy, and nobody is to be closed meanwhile.
fn patient(config: &mut NodeConfig) {
    config.limits.idle_timeout_millis = 600_000;
    config.limits.handshake_timeout_millis = 60_000;
}

fn plain() -> usize {
    let node = Node::start(1, patient);
    idle_bytes(&node, CONNECTIONS, |room| {
        let mut stream = connect(node.addr());
        join(&mut stream, room);
        stream
    })
}

/// The client's own state of TLS is dropped when it has joined: an idle connection does not need it.
fn with_tls() -> usize {
    let certificate = Certificate::of("one");
    let files = TlsFiles::at(certificate.path().to_owned());
    let watch = TlsWatch::start(files).expect("a certificate");
    let settings = Settings::at(vec![Node::any_address()]).with_tls(watch.identity());
    let node = Node::start_on(1, settings, patient);
    let config = tls::client_config();
    idle_bytes(&node, TLS_CONNECTIONS, |room| {
        let mut stream = tls::connect(node.addr(), &config);
        join(&mut stream, room);
        stream.sock
    })
}

#[test]
fn figures() {
    sysinfo::raise_nofile(None).expect("a limit of open files");
    let (plain, tls) = (plain(), with_tls());
    assert!(tls / TLS_CONNECTIONS < MOST_TLS_BYTES, "{} bytes per connection", tls / TLS_CONNECTIONS);
    // The xtask reads these lines; the harness may have begun one.
    println!("\nfigure idle_5000_in_node_bytes {plain}");
    println!("figure idle_2000_with_tls_in_node_bytes {tls}");
}
