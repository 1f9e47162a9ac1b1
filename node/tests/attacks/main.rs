//! Thousands of connections make a node keep as much as they can, in a test for each kind of attack. What the process
//! allocates stays near its budget, a pair of clients in another room hear each other meanwhile, and neither of them
//! is closed.
//!
//! Both ends are in this process, and an allocator counts what all its threads hold; the attackers' ends hold next to
//! nothing of it. Rates are off, so that only the ledger keeps the attackers from the memory.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use node::{mailbox::bus_queue, sysinfo};
use node_core::{
    config::{Compression, NodeConfig, Policy, TopicPattern},
    counters::{Counters, RefuseReason},
    ledger::Kind,
    limits::CLOSE_TIMEOUT_MILLIS,
};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt::set_socket_recv_buffer_size,
};

mod bus;
mod deflate;
mod door;
mod forged;
#[path = "../node/support/forgery.rs"]
mod forgery;
#[path = "../node/support/frame.rs"]
mod frame;
mod handshakes;
mod kinds;
mod longpoll;
mod messages;
mod proxied;
mod serializers;
mod smuggled;
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
    /// Whether it has more to say, and somebody to say it to.
    open: bool,
}

impl Attacker {
    /// Connects from one of this machine's addresses.
    fn connect(source: Ipv4Addr, address: SocketAddr, handshake: Option<&[u8]>) -> Self {
        let mut stream = if source == Ipv4Addr::LOCALHOST {
            TcpStream::connect(address).expect("connects")
        } else {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            let socket = socket.expect("a socket");
            bind(&socket, &SocketAddr::from((source, 0))).expect("an address of this machine");
            connect(&socket, &address).expect("connects");
            TcpStream::from(socket)
        };
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
                self.open = false;
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

/// How many were refused for this reason.
fn refused(counters: &Counters, reason: RefuseReason) -> usize {
    counters.refused[reason as usize] as usize
}

/// The behaviour of an attacker.
struct Manner {
    name: &'static str,
    handshake: bool,
    /// Whether it asks for compression.
    deflate: bool,
    /// The address of this machine that it connects from.
    source: Ipv4Addr,
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
    source: Ipv4Addr::LOCALHOST,
    group: CONNECTIONS,
    once: |_| Vec::new(),
    again: |_| Vec::new(),
    quota: 256 * 1_024,
    half_closes: false,
    stopped_bus: false,
    change: |_| {},
};

/// A client that hears what others say.
trait Talker {
    fn say(&mut self, text: &str);
    fn hear(&mut self) -> String;
}

impl Talker for Client {
    fn say(&mut self, text: &str) {
        self.send(text);
    }

    fn hear(&mut self) -> String {
        self.read()
    }
}

/// Two clients hear each other, in turn, until told to stop. Returns the longest time from saying a message to
/// hearing it.
fn talk<T: Talker>([mut one, mut two]: [T; 2], stop: &AtomicBool, heard: &AtomicU64) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Relaxed) {
        let said = Instant::now();
        let number = heard.load(Relaxed);
        one.say(&format!(r#"["1","2","room:pair","m",{{"n":{number}}}]"#));
        let expected = format!(r#"[null,null,"room:pair","m",{{"n":{number}}}]"#);
        assert_eq!(two.hear(), expected);
        longest = longest.max(said.elapsed());
        assert_eq!(one.hear(), expected);
        heard.fetch_add(1, Relaxed);
        std::mem::swap(&mut one, &mut two);
        std::thread::sleep(LOOK);
    }
    longest
}

/// Counters that show that the node still does something for the attackers. The others have the pair's own messages in them.
fn activity(node: &Node) -> [u64; 9] {
    let counters = node.counters();
    let ends: u64 = counters.closed.iter().chain(&counters.refused).sum();
    [
        ends,
        counters.opened,
        counters.joins,
        counters.heartbeats,
        counters.polls,
        counters.posts,
        counters.inflated_messages,
        counters.malformed_messages,
        counters.handshaking,
    ]
}

/// Lets attackers say more, each by `say` with its number, until nothing changes any more.
fn let_them_say(node: &Node, attackers: &mut [Attacker], mut say: impl FnMut(usize, &mut Attacker) -> bool) {
    let (mut quiet, mut last) = (0, activity(node));
    while quiet < QUIET_LOOKS {
        let said = attackers.iter_mut().enumerate().fold(false, |moved, (n, one)| say(n, one) | moved);
        let now = activity(node);
        quiet = if said || now != last { 0 } else { quiet + 1 };
        last = now;
        if !said {
            std::thread::sleep(LOOK);
        }
    }
}

fn attack(node: &Node, kind: &Manner) -> Vec<Attacker> {
    let deflate = deflate::request();
    let request = kind.handshake.then_some(if kind.deflate { &deflate } else { REQUEST });
    let connect = |_| Attacker::connect(kind.source, node.addr(), request);
    let mut attackers: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    // The words of one group at a time: those of all would be much memory.
    let mut words = (usize::MAX, Vec::new(), Vec::new());
    let_them_say(node, &mut attackers, |number, attacker| {
        let group = number / kind.group;
        if !attacker.open {
            return false;
        }
        if words.0 != group {
            words = (group, (kind.once)(group), (kind.again)(group));
        }
        attacker.say(&words.1, &words.2, kind.quota)
    });
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

fn take_turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    sysinfo::raise_nofile(None).expect("a limit of open files");
    turn
}

/// Two clients in the room `room:pair`.
fn pair(node: &Node) -> [Client; 2] {
    [(); 2].map(|()| {
        let mut client = node.client();
        client.join("room:pair");
        client
    })
}

/// Tells others to stop when it is dropped.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs an attack while two clients hear each other, and returns the counters at its end. What the attack returns is kept until
/// then.
fn beside<A>(name: &str, node: &Node, pair: [impl Talker + Send; 2], attack: impl FnOnce() -> A) -> Counters {
    let before = sys::begin();
    let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let (longest, counters) = std::thread::scope(|scope| {
        // Or a failed attack would leave the pair talking.
        let stopping = Stopping(&stop);
        let pair = scope.spawn(|| talk(pair, &stop, &heard));
        let attackers = attack();
        let now = heard.load(Relaxed);
        wait("the pair still hears each other", || heard.load(Relaxed) > now + 2);
        let counters = node.counters();
        drop(stopping);
        let longest = pair.join().expect("the pair was served to the end");
        drop(attackers);
        (longest, counters)
    });
    let growth = sys::highest() - before;
    let memory: Vec<_> =
        Kind::ALL.iter().map(|kind| (kind.label(), counters.memory[*kind as usize] / 1_024)).collect();
    println!(
        "{name}: grew by {:.1} MiB, the pair heard each other {} times, at the latest after {longest:?}; held KiB {memory:?}, \
         closed {:?}, refused {:?}, joins {} refused {:?}",
        growth as f64 / MIB as f64,
        heard.load(Relaxed),
        counters.closed,
        counters.refused,
        counters.joins,
        counters.joins_refused
    );
    assert!(growth < MOST_GROWTH, "{name}: grew by {} MiB", growth / MIB);
    counters
}

/// Runs an attack on a node without TLS and returns the counters at its end.
fn run(kind: &Manner) -> Counters {
    let _turn = take_turn();
    let (mut config, (commands, receiver)) = (config(), bus_queue());
    (kind.change)(&mut config);
    let close_timeout = Duration::from_millis(CLOSE_TIMEOUT_MILLIS);
    let node = Node::start_of(2, close_timeout, config.clone(), kind.stopped_bus.then_some(&commands));
    let bus = kind.stopped_bus.then(|| Stopped::start(&config, node.shards(), receiver));
    let counters = beside(kind.name, &node, pair(&node), || {
        let attackers = attack(&node, kind);
        if kind.stopped_bus {
            // The kernel takes the bytes long before the node does.
            let all = (kind.quota / (kind.again)(CONNECTIONS).len() * CONNECTIONS) as u64;
            wait("all is taken", || node.counters().publishes >= all);
        }
        attackers
    });
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
