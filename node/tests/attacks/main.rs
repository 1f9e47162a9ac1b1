//! Thousands of connections make a node keep as much as they can, in a test for each kind of attack. What the process
//! allocates stays near its budget, a pair of clients in another room hear each other meanwhile, and neither of them
//! is closed.
//!
//! Both ends are in this process, and an allocator counts what all its threads hold; the attackers' ends hold next to
//! nothing of it. Rates are off, so that only the ledger keeps the attackers from the memory.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use node::{mailbox::bus_queue, sysinfo};
use node_core::{
    config::{Compression, NodeConfig, Policy, TopicPattern},
    counters::{CloseReason, Counters, JoinRefusal, RefuseReason},
    ledger::Kind,
    limits::CLOSE_TIMEOUT_MILLIS,
};
use rustix::net::sockopt::set_socket_recv_buffer_size;

mod bus;
mod deflate;
mod door;
#[path = "../node/support/frame.rs"]
mod frame;
mod handshakes;
mod serializers;
#[path = "../shards/support.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod support;
mod sys;
#[path = "../node/support/tls.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod tls;
#[path = "../node/support/wait.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod wait;

use bus::Stopped;
use support::{Client, HANG, Node, wait};

/// Attackers of each kind.
const CONNECTIONS: usize = 2_000;
const MIB: usize = 1 << 20;
/// How much memory clients may make the node hold, and by how much the whole process may grow.
const BUDGET: u64 = 64 << 20;
const MOST_GROWTH: usize = 80 * MIB;
/// Looks without any change after which an attack has done what it can.
const QUIET_LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(10);
const REQUEST: &[u8] = b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// One attack runs at a time, because the allocator counts for all.
static TURN: Mutex<()> = Mutex::new(());

/// A frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame::frame(first, [0; 4], payload)
}

fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

fn push(topic: &str, event: &str, payload_bytes: usize) -> Vec<u8> {
    text(&format!(r#"["1","2","{topic}","{event}",{{"x":"{}"}}]"#, "x".repeat(payload_bytes)))
}

fn join(topic: &str, join_ref: &str) -> Vec<u8> {
    text(&format!(r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{}}]"#))
}

/// A connection that reads nothing but the answer to its handshake.
struct Attacker {
    stream: TcpStream,
    /// Bytes that it has said already.
    said: usize,
    open: bool,
}

impl Attacker {
    fn connect(address: SocketAddr, handshake: Option<&[u8]>) -> Self {
        let mut stream = TcpStream::connect(address).expect("connects");
        set_socket_recv_buffer_size(&stream, 4_096).expect("a small window");
        let mut open = true;
        if let Some(request) = handshake {
            stream.set_read_timeout(Some(HANG)).expect("a timeout");
            stream.write_all(request).expect("sends");
            let mut answer = [0; 256];
            let count = stream.read(&mut answer).unwrap_or(0);
            // Attacks of some kinds use memory up before the last attacker has connected.
            open = answer[..count].starts_with(b"HTTP/1.1 101 ");
        }
        stream.set_nonblocking(true).expect("non-blocking");
        Self { stream, said: 0, open }
    }

    /// Says more of `once`, then of `again` over and over up to the quota. Returns whether the kernel took any bytes.
    fn say(&mut self, once: &[u8], again: &[u8], quota: usize) -> bool {
        let before = self.said;
        while self.open {
            let rest = if self.said < once.len() {
                &once[self.said..]
            } else if again.is_empty() || self.said - once.len() >= quota {
                break;
            } else {
                &again[(self.said - once.len()) % again.len()..]
            };
            match self.stream.write(rest) {
                Ok(count) => self.said += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
        }
        self.said > before
    }
}

/// The behaviour of an attacker.
struct Manner {
    name: &'static str,
    handshake: bool,
    /// Whether it asks for compression.
    deflate: bool,
    /// How many attackers say the same.
    group: usize,
    /// The bytes that it says once, by the number of its group.
    once: fn(usize) -> Vec<u8>,
    /// The bytes that it says over and over.
    again: fn(usize) -> Vec<u8>,
    /// How many bytes it tries to say.
    quota: usize,
    /// Whether it ends its side when it has said all.
    half_closes: bool,
    /// Whether the node has a bus, which stands still.
    stopped_bus: bool,
    /// What is different in the node's configuration.
    change: fn(&mut NodeConfig),
}

const KIND: Manner = Manner {
    name: "",
    handshake: true,
    deflate: false,
    group: CONNECTIONS,
    once: |_| Vec::new(),
    again: |_| Vec::new(),
    quota: 256 * 1_024,
    half_closes: false,
    stopped_bus: false,
    change: |_| {},
};

/// Two clients hear each other, in turn, until told to stop. Returns the longest time from saying a message to
/// hearing it.
fn talk(mut one: Client, mut two: Client, stop: &AtomicBool, heard: &AtomicU64) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Relaxed) {
        let said = Instant::now();
        let number = heard.load(Relaxed);
        one.send(&format!(r#"["1","2","room:pair","m",{{"n":{number}}}]"#));
        let expected = format!(r#"[null,null,"room:pair","m",{{"n":{number}}}]"#);
        two.expect(&expected);
        longest = longest.max(said.elapsed());
        one.expect(&expected);
        heard.fetch_add(1, Relaxed);
        std::mem::swap(&mut one, &mut two);
        std::thread::sleep(LOOK);
    }
    longest
}

/// Counters that show that the node still does something for the attackers.
fn activity(node: &Node) -> [u64; 6] {
    let counters = node.counters();
    let ends: u64 = counters.closed.iter().chain(&counters.refused).sum();
    // The other counters have the pair's own messages in them.
    let (joins, inflated) = (counters.joins, counters.inflated_messages);
    [ends, counters.opened, joins, inflated, counters.malformed_messages, counters.handshaking]
}

fn attack(node: &Node, kind: &Manner) -> Vec<Attacker> {
    let deflate = deflate::request();
    let request = kind.handshake.then_some(if kind.deflate { &deflate } else { REQUEST });
    let mut attackers: Vec<_> = (0..CONNECTIONS).map(|_| Attacker::connect(node.addr(), request)).collect();
    let (mut quiet, mut last) = (0, activity(node));
    while quiet < QUIET_LOOKS {
        let mut moved = false;
        for (group, attackers) in attackers.chunks_mut(kind.group).enumerate() {
            let (once, again) = ((kind.once)(group), (kind.again)(group));
            for attacker in attackers {
                moved |= attacker.say(&once, &again, kind.quota);
            }
        }
        let now = activity(node);
        quiet = if moved || now != last { 0 } else { quiet + 1 };
        last = now;
        if !moved {
            std::thread::sleep(LOOK);
        }
    }
    if kind.half_closes {
        for attacker in &attackers {
            // This fails where the node has closed first.
            attacker.stream.shutdown(Shutdown::Write).ok();
        }
        std::thread::sleep(LOOK * QUIET_LOOKS);
    }
    attackers
}

fn config() -> NodeConfig {
    let mut config = NodeConfig::dev();
    config.compression = Some(Compression::default());
    config.limits.memory_budget = Some(BUDGET);
    config.limits.messages_per_second = 0;
    config.limits.bytes_per_second = 0;
    // A slow machine may take as long as it needs.
    config.limits.handshake_timeout_millis = 60_000;
    config.limits.idle_timeout_millis = 3_600_000;
    // In these rooms the sender does not get its own messages back.
    let topics = TopicPattern("room:others-*".to_owned());
    config.rooms.policies.push(Policy { echo_to_sender: Some(false), ..Policy::of(topics) });
    config
}

/// Runs an attack and returns the counters at its end.
fn run(kind: &Manner) -> Counters {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    sysinfo::raise_nofile(None).expect("a limit of open files");
    let (mut config, (commands, receiver)) = (config(), bus_queue());
    (kind.change)(&mut config);
    let close_timeout = Duration::from_millis(CLOSE_TIMEOUT_MILLIS);
    let node = Node::start_of(2, close_timeout, config.clone(), kind.stopped_bus.then_some(&commands));
    let bus = kind.stopped_bus.then(|| Stopped::start(&config, node.shards(), receiver));
    let (mut one, mut two) = (node.client(), node.client());
    one.join("room:pair");
    two.join("room:pair");
    let before = sys::begin();
    let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let (longest, counters) = std::thread::scope(|scope| {
        let pair = scope.spawn(|| talk(one, two, &stop, &heard));
        let attackers = attack(&node, kind);
        let now = heard.load(Relaxed);
        wait("the pair still hears each other", || heard.load(Relaxed) > now + 2);
        if kind.stopped_bus {
            // The kernel takes the bytes long before the node does.
            let all = (kind.quota / (kind.again)(CONNECTIONS).len() * CONNECTIONS) as u64;
            wait("all is taken", || node.counters().publishes >= all);
        }
        let counters = node.counters();
        stop.store(true, Relaxed);
        let longest = pair.join().expect("the pair was served to the end");
        drop(attackers);
        (longest, counters)
    });
    let growth = sys::highest() - before;
    let memory: Vec<_> =
        Kind::ALL.iter().map(|kind| (kind.label(), counters.memory[*kind as usize] / 1_024)).collect();
    println!(
        "{}: grew by {:.1} MiB, the pair heard each other {} times, at the latest after {longest:?}; held KiB {memory:?}, \
         closed {:?}, refused {:?}, joins {} refused {:?}",
        kind.name,
        growth as f64 / MIB as f64,
        heard.load(Relaxed),
        counters.closed,
        counters.refused,
        counters.joins,
        counters.joins_refused
    );
    assert!(growth < MOST_GROWTH, "{}: grew by {} MiB", kind.name, growth / MIB);
    if let Some(bus) = bus {
        let dropped = counters.bus_queue_dropped + bus.state.counts.dropped_out.load(Relaxed);
        println!(
            "{}: the bus took {}, dropped {dropped}",
            kind.name,
            bus.state.counts.published.load(Relaxed)
        );
        assert!(dropped > counters.publishes / 2, "{dropped}: the bus did not stand still");
        bus.stop();
    }
    counters
}

#[test]
fn giant_topics() {
    run(&Manner { name: "giant topics", again: |_| push(&"t".repeat(60_000), "m", 1), ..KIND });
}

#[test]
fn giant_refs() {
    let again = |_| text(&format!(r#"["{0}","{0}","room:x","phx_join",{{}}]"#, "r".repeat(30_000)));
    run(&Manner { name: "giant refs", again, ..KIND });
}

#[test]
fn giant_events() {
    let again = |_| push("room:x", &"e".repeat(60_000), 1);
    run(&Manner { name: "giant events", once: |_| join("room:x", "1"), again, ..KIND });
}

#[test]
fn unread_replies() {
    let again = |number| push(&format!("room:{number}"), "echo", 30_000);
    run(&Manner {
        name: "unread replies",
        once: |number| join(&format!("room:{number}"), "1"),
        again,
        ..KIND
    });
}

#[test]
fn unread_small_replies() {
    let again = |_| text(r#"[null,"1","phoenix","heartbeat",{}]"#);
    run(&Manner { name: "unread small replies", again, quota: 64 * 1_024, ..KIND });
}

#[test]
fn unread_broadcasts() {
    run(&Manner {
        name: "unread broadcasts",
        group: 20,
        once: |number| join(&format!("room:{number}"), "1"),
        again: |number| push(&format!("room:{number}"), "m", 8_000),
        ..KIND
    });
}

#[test]
fn unread_pongs() {
    run(&Manner { name: "unread pongs", again: |_| frame(0x89, &[b'x'; 125]), ..KIND });
}

#[test]
fn paused_input() {
    let once = |_| frame(0x89, b"").repeat(64 * 1_024 / 6);
    run(&Manner { name: "paused input", once, ..KIND });
}

#[test]
fn slow_heads() {
    let once = |_| {
        let mut head = b"GET /socket/websocket HTTP/1.1\r\nhost: n\r\ncookie: ".to_vec();
        head.resize(8_000, b'x');
        head
    };
    run(&Manner { name: "slow heads", handshake: false, once, ..KIND });
}

#[test]
fn sessions_that_nobody_polls() {
    let again = |_| b"GET /socket/longpoll HTTP/1.1\r\nhost: n\r\n\r\n".to_vec();
    let quota = 6 * 1_024;
    let counters =
        run(&Manner { name: "sessions that nobody polls", handshake: false, again, quota, ..KIND });
    assert!(counters.refused[RefuseReason::Memory as usize] > 0, "{:?}", counters.refused);
}

#[test]
fn endless_fragments() {
    let once = |_| {
        let mut all = frame(0x01, b"[");
        // Just below the longest message.
        (0..64).for_each(|_| all.extend_from_slice(&frame(0x00, &[b' '; 1_000])));
        all
    };
    let again = |_| frame(0x89, b"");
    run(&Manner { name: "endless fragments", once, again, quota: 6_000, ..KIND });
}

#[test]
fn frames_that_never_end() {
    let once = |_| {
        let mut all = frame(0x81, &[b' '; 65_000]);
        all.truncate(64_000);
        all
    };
    run(&Manner { name: "frames that never end", once, ..KIND });
}

#[test]
fn many_rooms() {
    let once = |number| {
        let filler = "x".repeat(200);
        (0..100).flat_map(|room| join(&format!("room:{number}-{room}-{filler}"), "1")).collect()
    };
    let counters = run(&Manner { name: "many rooms", group: 1, once, ..KIND });
    // The attackers take no answers, so the node may close some of them for that; it refuses their joins first.
    let refused = counters.joins_refused[JoinRefusal::Memory as usize];
    let closed = counters.closed[CloseReason::Memory as usize];
    assert!(refused > 10 * closed.max(1), "{refused} joins were refused, {closed} closed");
}

#[test]
fn many_channels() {
    let once = |_| {
        let reference = "r".repeat(62);
        (0..100).flat_map(|room| join(&format!("room:{room}"), &reference)).collect()
    };
    let again = |_| Vec::new();
    run(&Manner { name: "many channels", once, again, ..KIND });
}

#[test]
fn half_closed_sockets() {
    let again = |_| push("room:x", "echo", 30_000);
    run(&Manner {
        name: "half-closed sockets",
        once: |_| join("room:x", "1"),
        again,
        half_closes: true,
        ..KIND
    });
}

#[test]
fn half_closed_after_a_refusal() {
    let once = |_| b"GET /nothing HTTP/1.1\r\nhost: n\r\n\r\n".to_vec();
    run(&Manner { name: "half-closed after a refusal", handshake: false, once, half_closes: true, ..KIND });
}

/// No member is here to hear them and the other nodes cannot be reached: their messages can only wait on the way to
/// the bus.
#[test]
fn publishers_beside_a_stopped_bus() {
    let counters = run(&Manner {
        name: "publishers beside a stopped bus",
        group: 1,
        once: |number| join(&format!("room:others-{number}"), "1"),
        again: |number| push(&format!("room:others-{number}"), "m", 8_000),
        stopped_bus: true,
        ..KIND
    });
    assert_eq!(counters.closed.iter().sum::<u64>(), 0, "nobody is held back or closed for the bus");
}

/// One publisher says as much as it can in a room of two: the node takes its messages at the rate, tells it so, and
/// loses none.
#[test]
fn one_publisher_is_taken_at_its_rate() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::start(1, |_| {});
    let mut listener = node.client();
    listener.join("room:x");
    let mut publisher = Attacker::connect(node.addr(), Some(REQUEST));
    let started = Instant::now();
    let message = text(r#"["1","2","room:x","m",{}]"#);
    let all = message.repeat(20_000);
    publisher.say(&join("room:x", "1"), &all, MIB);
    wait("it is told", || node.counters().rate_limited == 1);
    for _ in 0..200 {
        publisher.say(&join("room:x", "1"), &all, MIB);
        listener.expect(r#"[null,null,"room:x","m",{}]"#);
        let publishes = node.counters().publishes;
        // 1,250 at once, 250 per second, and the messages of one read, which are taken before the rate is applied.
        let most = 1_250 + 250 * (started.elapsed().as_secs() + 1) + 64;
        assert!(publishes <= most, "{publishes} in {:?}", started.elapsed());
    }
    assert_eq!(node.counters().closed.iter().sum::<u64>(), 0);
}
