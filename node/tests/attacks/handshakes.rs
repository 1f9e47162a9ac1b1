//! Attacks on TLS: handshakes that go no further, records that never come whole, and what is no TLS at all.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
};

use node::transport::{Settings, TlsFiles, TlsWatch};
use rustls::{ClientConfig, ClientConnection};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::{
    AtomicBool, AtomicU64, Attacker, BUDGET, CONNECTIONS, CloseReason, Counters, Duration, Instant, LOOK,
    MIB, MOST_GROWTH, Node, PoisonError, QUIET_LOOKS, REQUEST, RefuseReason, Relaxed, TURN, activity, config,
    sys, sysinfo,
    tls::{Certificate, TlsStream, client_config, connect},
    wait,
};

/// A record of the greatest length without its last bytes.
const MOST_OF_A_RECORD: usize = 16_000;
/// Most bytes of incomplete records of a shard.
const INCOMPLETE: usize = 16 * MIB;

fn config_of_clients() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(client_config)
}

/// The first record that a client says.
fn hello() -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config_of_clients()), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

/// A record with this beginning that lacks its end.
fn most_of_a_record(head: [u8; 3]) -> Vec<u8> {
    [&head[..], &[0x40, 0x10], &[7; MOST_OF_A_RECORD]].concat()
}

/// A client in `room:pair`.
struct Member(WebSocket<TlsStream>);

impl Member {
    fn join(address: SocketAddr) -> Self {
        let stream = connect(address, config_of_clients());
        let (socket, _) =
            client("wss://localhost/socket/websocket?vsn=2.0.0", stream).expect("the handshake");
        let mut member = Self(socket);
        member.say(r#"["1","1","room:pair","phx_join",{}]"#);
        assert!(member.hear().contains(r#""status":"ok""#));
        member
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("a connection");
    }

    fn hear(&mut self) -> String {
        self.0.read().expect("a message").into_text().expect("text").as_str().to_owned()
    }
}

/// As the pair of the other attacks, over TLS.
fn talk([mut one, mut two]: [Member; 2], stop: &AtomicBool, heard: &AtomicU64) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Relaxed) {
        let said = Instant::now();
        let number = heard.load(Relaxed);
        one.say(&format!(r#"["1","2","room:pair","m",{{"n":{number}}}]"#));
        let expected = format!(r#"[null,null,"room:pair","m",{{"n":{number}}}]"#);
        assert_eq!((two.hear(), one.hear()), (expected.clone(), expected));
        longest = longest.max(said.elapsed());
        heard.fetch_add(1, Relaxed);
        std::mem::swap(&mut one, &mut two);
        std::thread::sleep(LOOK);
    }
    longest
}

/// Attackers that say this, after a handshake or in its place, until nothing changes any more.
fn attack(node: &Node, shakes: bool, once: &[u8]) -> Vec<Attacker> {
    let connect = |_| {
        let stream = if shakes {
            let mut stream = connect(node.addr(), config_of_clients());
            stream.write_all(REQUEST).expect("sends");
            stream.sock
        } else {
            TcpStream::connect(node.addr()).expect("connects")
        };
        stream.set_nonblocking(true).expect("non-blocking");
        Attacker { stream, said: 0, open: true }
    };
    let mut attackers: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    let (mut quiet, mut last) = (0, activity(node));
    while quiet < QUIET_LOOKS {
        let moved = attackers.iter_mut().fold(false, |moved, one| one.say(once, b"", 0) | moved);
        let now = activity(node);
        quiet = if moved || now != last { 0 } else { quiet + 1 };
        last = now;
        std::thread::sleep(LOOK);
    }
    attackers
}

fn run(name: &str, shakes: bool, once: &[u8]) -> Counters {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    sysinfo::raise_nofile(None).expect("a limit of open files");
    let certificate = Certificate::of("one");
    let files = TlsFiles { certificate: certificate.path().to_owned(), secrets: None, client_ca: None };
    let watch = TlsWatch::start(files).expect("a certificate");
    let settings = Settings::at(vec![Node::any_address()]).with_tls(watch.identity());
    let node = Node::start_with_all(1, Duration::from_secs(2), config(), None, settings);
    let pair = [(); 2].map(|()| Member::join(node.addr()));
    let before = sys::begin();
    let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
    let counters = std::thread::scope(|scope| {
        let pair = scope.spawn(|| talk(pair, &stop, &heard));
        let attackers = attack(&node, shakes, once);
        let now = heard.load(Relaxed);
        wait("the pair still hears each other", || heard.load(Relaxed) > now + 2);
        let counters = node.counters();
        stop.store(true, Relaxed);
        let longest = pair.join().expect("the pair was served to the end");
        println!(
            "{name}: the pair heard each other {} times, at the latest after {longest:?}",
            heard.load(Relaxed)
        );
        drop(attackers);
        counters
    });
    let growth = sys::highest() - before;
    let held = counters.memory[super::Kind::Transport as usize];
    println!(
        "{name}: grew by {:.1} MiB, refused {:?}, closed {:?}",
        growth as f64 / MIB as f64,
        counters.refused,
        counters.closed
    );
    assert!(growth < MOST_GROWTH && held < BUDGET, "{name}: grew by {} MiB", growth / MIB);
    counters
}

fn refused(counters: &Counters, reason: RefuseReason) -> usize {
    counters.refused[reason as usize] as usize
}

#[test]
fn hellos_that_nothing_follows() {
    let counters = run("hellos that nothing follows", false, &hello());
    let short = refused(&counters, RefuseReason::Memory);
    assert_eq!(counters.handshaking as usize + short, CONNECTIONS);
    assert!(short < CONNECTIONS / 2, "{short}");
}

#[test]
fn half_hellos() {
    let hello = hello();
    let counters = run("half hellos", false, &hello[..hello.len() / 2]);
    assert_eq!(counters.handshaking as usize, CONNECTIONS, "each has its time, and keeps little");
}

#[test]
fn long_records_of_a_handshake_that_never_end() {
    let counters = run("long records of a handshake", false, &most_of_a_record([22, 3, 1]));
    // The shard keeps as many as it may.
    assert!((1_000..=INCOMPLETE / MOST_OF_A_RECORD).contains(&(counters.handshaking as usize)));
}

#[test]
fn long_records_that_never_end() {
    let counters = run("long records", true, &most_of_a_record([23, 3, 3]));
    let ended = counters.closed[CloseReason::Lost as usize] as usize;
    assert!((1_000..=INCOMPLETE / MOST_OF_A_RECORD).contains(&(CONNECTIONS - ended)), "{ended}");
}

#[test]
fn records_that_nobody_has_sealed() {
    let counters = run(
        "records that nobody has sealed",
        true,
        &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    );
    assert_eq!(counters.closed[CloseReason::Lost as usize] as usize, CONNECTIONS);
}

#[test]
fn what_is_no_tls() {
    for once in [REQUEST, &[0; 4_096], &[22, 3, 1, 0xff, 0xff], &[22, 3, 1, 0, 4, 9, 9, 9, 9]] {
        let counters = run("what is no TLS", false, once);
        assert_eq!(refused(&counters, RefuseReason::Tls), CONNECTIONS);
    }
}
