//! Attacks on TLS: handshakes that go no further, records that never come whole or may not come, and what is no TLS at all.

use std::{
    borrow::Cow,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
};

use node::transport::{Settings, TlsFiles, TlsWatch};
use node_core::{
    counters::{CloseReason, RefuseReason},
    tls::{Alert, Content, HEADER_BYTES, OVERHEAD_BYTES, Secrets, Session, Suite, Version},
};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ExtractedSecrets, RootCertStore,
    crypto::aws_lc_rs::default_provider, version::TLS12,
};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::{
    Attacker, BUDGET, CONNECTIONS, Counters, Duration, MIB, Node, REQUEST, Talker, beside, config,
    let_them_say, refused, take_turn, text,
    tls::{Certificate, TlsStream, client_config, connect},
};

/// A record of the greatest length without its last bytes.
const MOST_OF_A_RECORD: usize = 16_000;
/// Most bytes of incomplete records of a shard.
const INCOMPLETE: usize = 16 * MIB;
/// Where a hello of rustls has the length of its list of cipher suites, which follows it: behind the header of the record, that
/// of the message, the version, 32 random bytes, and a session id of 32 bytes with its length.
const SUITES_AT: usize = 5 + 4 + 2 + 32 + 1 + 32;
/// Announces a change of cipher that TLS 1.3 does not have.
const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// A client whose secrets can be taken out.
fn config_of_clients() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let mut config = ClientConfig::clone(&client_config());
        config.enable_secret_extraction = true;
        Arc::new(config)
    })
}

/// The first record of such a client.
fn hello_of(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

fn hello() -> Vec<u8> {
    hello_of(config_of_clients())
}

/// The hello of a client that speaks TLS 1.2 and nothing newer.
fn old_hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .expect("TLS 1.2")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    hello_of(&Arc::new(config))
}

/// A hello that offers a suite of RC4 and MD5 in the place of each of its own.
fn weak_hello() -> Vec<u8> {
    let mut hello = hello();
    let (lengths, suites) = hello[SUITES_AT..].split_at_mut(2);
    let length = usize::from(u16::from_be_bytes([lengths[0], lengths[1]]));
    assert!((2..100).contains(&length), "{length} bytes are no list of suites");
    suites[..length].chunks_exact_mut(2).for_each(|suite| suite.copy_from_slice(&[0, 4]));
    hello
}

/// The hello of a client that speaks HTTP/2 and nothing else.
fn hello_for_another_protocol() -> Vec<u8> {
    let mut config = ClientConfig::clone(config_of_clients());
    config.alpn_protocols = vec![b"h2".to_vec()];
    hello_of(&Arc::new(config))
}

/// A hello of which each record has one byte.
fn hello_in_crumbs() -> Vec<u8> {
    hello()[HEADER_BYTES..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect()
}

/// A hello of 40 KB, in records of the greatest length.
fn huge_hello() -> Vec<u8> {
    let message = [&[1, 0, 0xa0, 0][..], &[0; 0xa000]].concat();
    let records = message.chunks(16_384).map(|part| {
        let length = u16::try_from(part.len()).expect("short").to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

/// A record with this beginning that lacks its end.
fn most_of_a_record(head: [u8; 3]) -> Vec<u8> {
    [&head[..], &[0x40, 0x10], &[7; MOST_OF_A_RECORD]].concat()
}

/// Seals records of a client.
pub(super) struct Sealer(Session);

impl Sealer {
    fn of(client: ClientConnection) -> Self {
        let ExtractedSecrets { tx, rx } = client.dangerous_extract_secrets().expect("secrets");
        let ((suite, sealing), (_, opening)) = (secrets(&tx), secrets(&rx));
        Self(Session::new(Version::Tls13, suite, &sealing, &opening, 0).expect("a session"))
    }

    fn seal(&mut self, content: Content, data: &[u8]) -> Vec<u8> {
        let mut record = vec![0; data.len() + OVERHEAD_BYTES];
        record[HEADER_BYTES..HEADER_BYTES + data.len()].copy_from_slice(data);
        let length = self.0.seal(content, &mut record, data.len()).expect("a new key");
        record.truncate(length);
        record
    }
}

fn secrets((sequence, secrets): &(u64, ConnectionTrafficSecrets)) -> (Suite, Secrets<'_>) {
    let (suite, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
        _ => panic!("a suite of TLS 1.3"),
    };
    (suite, Secrets { sequence: *sequence, key: key.as_ref(), iv: iv.as_ref() })
}

/// Seals the words of an attacker.
type Seal = fn(&mut Sealer) -> Vec<u8>;

/// The words of an attacker.
pub(super) enum Says {
    /// In the place of a handshake.
    First(Vec<u8>),
    /// After a handshake and a request, as they are.
    Then(Vec<u8>),
    /// After a handshake and a request, with the keys of the connection.
    Sealed(Seal),
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
}

impl Talker for Member {
    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("a connection");
    }

    fn hear(&mut self) -> String {
        self.0.read().expect("a message").into_text().expect("text").as_str().to_owned()
    }
}

/// An attacker, and what it says.
fn attacker(address: SocketAddr, says: &Says) -> (Attacker, Cow<'_, [u8]>) {
    let (stream, words) = match says {
        Says::First(words) => (TcpStream::connect(address).expect("connects"), Cow::Borrowed(&words[..])),
        Says::Then(_) | Says::Sealed(_) => {
            let mut stream = connect(address, config_of_clients());
            stream.write_all(REQUEST).expect("sends");
            let (client, socket) = stream.into_parts();
            let words = match says {
                Says::First(words) | Says::Then(words) => Cow::Borrowed(&words[..]),
                Says::Sealed(seal) => Cow::Owned(seal(&mut Sealer::of(client))),
            };
            (socket, words)
        }
    };
    stream.set_nonblocking(true).expect("non-blocking");
    (Attacker { stream, said: 0, open: true }, words)
}

/// Runs an attack on a node with TLS whose pair speaks TLS too. The attackers say these words by turns.
fn run(name: &str, says: &[Says]) -> Counters {
    let _turn = take_turn();
    let certificate = Certificate::of("one");
    let files = TlsFiles::at(certificate.path().to_owned());
    let watch = TlsWatch::start(files).expect("a certificate");
    let settings = Settings::at(vec![Node::any_address()]).with_tls(watch.identity());
    let node = Node::start_with_all(1, Duration::from_secs(2), config(), None, settings);
    let pair = [(); 2].map(|()| Member::join(node.addr()));
    let counters = beside(name, &node, pair, || {
        let all = (0..CONNECTIONS).map(|number| attacker(node.addr(), &says[number % says.len()]));
        let (mut attackers, words): (Vec<_>, Vec<_>) = all.unzip();
        let_them_say(&node, &mut attackers, |number, one| one.say(&words[number], b"", 0));
        attackers
    });
    let held = counters.memory[super::Kind::Transport as usize];
    assert!(held < BUDGET, "{name}: {held} bytes");
    counters
}

/// Words that end a handshake before it begins, or soon after, each with its name.
pub(super) fn failures() -> Vec<(&'static str, Says)> {
    let all = [
        ("a request without TLS", REQUEST.to_vec()),
        ("a frame without TLS", text("[]")),
        ("zeros", vec![0; 4_096]),
        ("a record longer than any", vec![22, 3, 1, 0xff, 0xff]),
        ("nonsense in a record", vec![22, 3, 1, 0, 4, 9, 9, 9, 9]),
        ("the hello of SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("an alert in the place of a hello", vec![21, 3, 3, 0, 2, 2, 40]),
        ("data in the place of a hello", vec![23, 3, 3, 0, 4, 1, 2, 3, 4]),
        ("a change of cipher in the place of a hello", CHANGE_CIPHER_SPEC.to_vec()),
        ("empty records in the place of a hello", [22, 3, 1, 0, 0].repeat(100)),
        (
            "a finished handshake in the place of a hello",
            [&[22, 3, 3, 0, 36, 20, 0, 0, 32][..], &[7; 32]].concat(),
        ),
        ("changes of cipher without end", [hello(), CHANGE_CIPHER_SPEC.repeat(100)].concat()),
        ("two hellos", hello().repeat(2)),
        ("a hello and data without a key", [&hello()[..], &[23, 3, 3, 0, 32], &[7; 32]].concat()),
        ("a client of TLS 1.2", old_hello()),
        ("a client with weak suites alone", weak_hello()),
        ("a client of HTTP/2 alone", hello_for_another_protocol()),
    ];
    all.map(|(name, words)| (name, Says::First(words))).into()
}

/// Words that end a connection whose handshake is done, each with their name.
pub(super) fn endings() -> Vec<(&'static str, Says)> {
    let unsealed = [
        ("a hello in a session", hello()),
        ("a change of cipher in a session", CHANGE_CIPHER_SPEC.to_vec()),
        ("an alert that nobody sealed", vec![21, 3, 3, 0, 2, 1, 0]),
        ("a request that nobody sealed", REQUEST.to_vec()),
        ("zeros in a session", vec![0; 4_096]),
        ("a record longer than any in a session", vec![23, 3, 3, 0x41, 1]),
        ("a record too short for its tag", vec![23, 3, 3, 0, 3, 1, 2, 3]),
    ];
    let sealed: [(_, Seal); 7] = [
        ("records without data", |sealer| (0..40).flat_map(|_| sealer.seal(Content::Data, b"")).collect()),
        ("giving up over and over again", |sealer| {
            (0..40).flat_map(|_| sealer.seal(Content::Alert, &[1, Alert::UserCanceled as u8])).collect()
        }),
        ("another hello by a session's key", |sealer| {
            sealer.seal(Content::Handshake, &hello()[HEADER_BYTES..])
        }),
        ("other keys", |sealer| sealer.seal(Content::Handshake, &[24, 0, 0, 1, 1])),
        ("a message of a handshake without content", |sealer| sealer.seal(Content::Handshake, b"")),
        ("a record that comes twice", |sealer| sealer.seal(Content::Data, &text("[]")[..3]).repeat(2)),
        ("records in another order", |sealer| {
            let first = sealer.seal(Content::Data, b"\x81");
            [sealer.seal(Content::Data, b"\x81"), first].concat()
        }),
    ];
    let unsealed = unsealed.into_iter().map(|(name, words)| (name, Says::Then(words)));
    unsealed.chain(sealed.into_iter().map(|(name, seal)| (name, Says::Sealed(seal)))).collect()
}

/// Without the names.
fn words(named: Vec<(&str, Says)>) -> Vec<Says> {
    named.into_iter().map(|(_, says)| says).collect()
}

#[test]
fn hellos_that_nothing_follows() {
    let counters = run("hellos that nothing follows", &[Says::First(hello())]);
    let short = refused(&counters, RefuseReason::Memory);
    assert_eq!(counters.handshaking as usize + short, CONNECTIONS);
    assert!(short < CONNECTIONS / 2, "{short}");
}

#[test]
fn hellos_in_crumbs() {
    let counters = run("hellos in crumbs", &[Says::First(hello_in_crumbs())]);
    let short = refused(&counters, RefuseReason::Memory);
    assert_eq!(counters.handshaking as usize + short, CONNECTIONS);
    assert!(short < CONNECTIONS / 2, "{short}");
}

#[test]
fn half_hellos() {
    let hello = hello();
    let counters = run("half hellos", &[Says::First(hello[..hello.len() / 2].to_vec())]);
    assert_eq!(counters.handshaking as usize, CONNECTIONS, "each has its time, and keeps little");
}

#[test]
fn silence_in_the_place_of_a_hello() {
    let counters = run("silence in the place of a hello", &[Says::First(Vec::new())]);
    assert_eq!(counters.handshaking as usize, CONNECTIONS, "each has its time, and keeps nothing");
}

#[test]
fn huge_hellos() {
    let counters = run("huge hellos", &[Says::First(huge_hello())]);
    let ended = [RefuseReason::Tls, RefuseReason::Lost, RefuseReason::Memory]
        .map(|reason| refused(&counters, reason));
    assert_eq!(ended.iter().sum::<usize>(), CONNECTIONS, "{ended:?}");
}

#[test]
fn long_records_of_a_handshake_that_never_end() {
    let counters = run("long records of a handshake", &[Says::First(most_of_a_record([22, 3, 1]))]);
    // The shard keeps as many as it may.
    assert!((1_000..=INCOMPLETE / MOST_OF_A_RECORD).contains(&(counters.handshaking as usize)));
}

#[test]
fn long_records_that_never_end() {
    let counters = run("long records", &[Says::Then(most_of_a_record([23, 3, 3]))]);
    let ended = counters.closed[CloseReason::Lost as usize] as usize;
    assert!((1_000..=INCOMPLETE / MOST_OF_A_RECORD).contains(&(CONNECTIONS - ended)), "{ended}");
}

#[test]
fn records_that_nobody_has_sealed() {
    let record = [&[23, 3, 3, 0, 20][..], &[7; 20]].concat();
    let counters = run("records that nobody has sealed", &[Says::Then(record)]);
    assert_eq!(counters.closed[CloseReason::Lost as usize] as usize, CONNECTIONS);
}

/// Each byte of five heartbeats has a record of its own.
#[test]
fn records_of_one_byte() {
    let seal: Seal = |sealer| {
        let heartbeats = text(r#"[null,"1","phoenix","heartbeat",{}]"#).repeat(5);
        heartbeats.iter().flat_map(|byte| sealer.seal(Content::Data, &[*byte])).collect()
    };
    let counters = run("records of one byte", &[Says::Sealed(seal)]);
    assert_eq!(counters.heartbeats as usize, 5 * CONNECTIONS, "they are what they say");
}

#[test]
fn what_is_no_handshake() {
    let counters = run("what is no handshake", &words(failures()));
    assert_eq!(refused(&counters, RefuseReason::Tls), CONNECTIONS, "{:?}", counters.refused);
}

#[test]
fn what_may_not_come_in_a_session() {
    let counters = run("what may not come in a session", &words(endings()));
    assert_eq!(counters.opened as usize, 2 + CONNECTIONS);
    assert_eq!(counters.closed[CloseReason::Lost as usize] as usize, CONNECTIONS, "{:?}", counters.closed);
}
