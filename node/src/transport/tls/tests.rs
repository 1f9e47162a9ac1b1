//! TLS of a shard over a pair of sockets, with rustls as the client.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use bytes::Bytes;
use node_core::tls::MAX_RECORD_BYTES;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt::set_socket_send_buffer_size};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, Error, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{super::Transports, *};
use crate::test_dir::TestDir;

mod identity;
mod tickets;
mod turns;
mod versions;

const SLOT: Slot = Slot(3);
const CA: &str = include_str!("../../../tests/data/tls/ca.crt");
const ONE: [&str; 2] =
    [include_str!("../../../tests/data/tls/one.crt"), include_str!("../../../tests/data/tls/one.key")];
const TWO: [&str; 2] =
    [include_str!("../../../tests/data/tls/two.crt"), include_str!("../../../tests/data/tls/two.key")];

fn put(dir: &Path, [certificate, key]: [&str; 2]) {
    std::fs::write(dir.join("tls.crt"), certificate).unwrap();
    std::fs::write(dir.join("tls.key"), key).unwrap();
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles::at(dir.to_owned())
}

fn watch(name: &str) -> (TestDir, TlsWatch) {
    let dir = TestDir::new(name);
    put(dir.path(), ONE);
    let watch = TlsWatch::start(files(dir.path())).unwrap();
    (dir, watch)
}

fn client_config(provider: CryptoProvider) -> ClientConfig {
    client_config_of(provider, &rustls::version::TLS13)
}

fn client_config_of(
    provider: CryptoProvider,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn any_client() -> Arc<ClientConfig> {
    Arc::new(client_config(rustls::crypto::aws_lc_rs::default_provider()))
}

/// A shard's side of one connection, and the client's socket.
struct Pair {
    transports: Transports,
    peer: UnixStream,
    buffer: Vec<u8>,
    now: u64,
}

/// What a pump of input gave.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    data: Vec<u8>,
    /// What the last read said when it was not that nothing is there.
    last: Option<Taken>,
}

impl Pair {
    fn new(identity: &Arc<Identity>) -> Self {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (here, there) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let mut transports = Transports::new(Some(Tls::new(Arc::clone(identity))));
        transports.insert(SLOT, here);
        Self { transports, peer: UnixStream::from(there), buffer: vec![0; 64 * 1024], now: 0 }
    }

    fn socket(&self) -> &OwnedFd {
        self.transports.sockets[SLOT.index()].as_ref().unwrap()
    }

    fn tls(&self) -> &Tls {
        self.transports.tls.as_ref().unwrap()
    }

    /// Reads until nothing is left, as the turns of a shard do.
    fn pump(&mut self) -> Got {
        let mut data = Vec::new();
        loop {
            self.transports.begin_turn(self.now, false);
            let most = self.buffer.len();
            let last = match self.transports.read(SLOT, &mut self.buffer, most) {
                Taken::Bytes(count) | Taken::Part(count) => {
                    data.extend_from_slice(&self.buffer[..count]);
                    continue;
                }
                Taken::Again => continue,
                Taken::Nothing => None,
                other => Some(other),
            };
            return Got { data, last };
        }
    }

    /// Sends bytes of the client in pieces that end at the cuts, with a pump after each.
    fn send(&mut self, bytes: &[u8], cuts: &[usize]) -> Got {
        let (mut all, mut from) = (Vec::new(), 0);
        for to in cuts.iter().copied().chain([bytes.len()]) {
            // It fails when the node has ended the connection.
            self.peer.write_all(&bytes[from..to]).ok();
            from = to;
            let got = self.pump();
            all.extend(got.data);
            if got.last.is_some() {
                return Got { data: all, last: got.last };
            }
        }
        Got { data: all, last: None }
    }

    /// What the node has sent.
    fn receive(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4_096]);
        while let Ok(count @ 1..) = self.peer.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    /// Writes data as a shard does that has queued it, until the socket takes no more. Returns what is left of it.
    fn write(&mut self, outbox: &mut Outbox, queue: &mut Queue) -> Option<usize> {
        while !queue.is_empty() {
            match self.transports.write(SLOT, outbox, queue) {
                Written::Sent { taken, offered } => {
                    assert_eq!(taken, offered);
                    outbox.advance(queue, taken);
                }
                Written::Kept { taken, unsent } => {
                    outbox.advance(queue, taken);
                    return Some(unsent);
                }
                Written::Failed => panic!("the socket works"),
            }
        }
        None
    }

    fn say(&mut self, bytes: &'static [u8]) {
        let (mut outbox, mut queue) = (Outbox::default(), Queue::default());
        outbox.push_one(&mut queue, Bytes::from_static(bytes));
        assert_eq!(self.write(&mut outbox, &mut queue), None);
    }
}

fn output(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives bytes to the client, and returns the data in them.
fn input(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        let state = client.process_new_packets()?;
        let mut piece = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut piece).unwrap();
        data.extend(piece);
    }
    Ok(data)
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap()
}

/// A connection after its handshake.
fn connected(identity: &Arc<Identity>, config: &Arc<ClientConfig>) -> (Pair, ClientConnection) {
    let (mut pair, mut client) = (Pair::new(identity), client(config));
    for _ in 0..2 {
        assert_eq!(pair.send(&output(&mut client), &[]), Got { data: Vec::new(), last: None });
        let bytes = pair.receive();
        assert_eq!(input(&mut client, &bytes).unwrap(), b"");
    }
    assert!(!client.is_handshaking());
    (pair, client)
}

/// Shakes hands with the client's bytes cut in each flight, says something behind the Finished at once, and hears an answer.
fn exchange(identity: &Arc<Identity>, config: &Arc<ClientConfig>, cuts: [&[usize]; 2]) -> [usize; 2] {
    let (mut pair, mut client) = (Pair::new(identity), client(config));
    let hello = flight(&mut pair, &mut client, cuts[0]);
    client.writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
    client.writer().write_all(b"\r\nmore").unwrap();
    let finished = output(&mut client);
    let got = pair.send(&finished, cuts[1]);
    assert_eq!((&got.data[..], got.last), (&b"GET / HTTP/1.1\r\n\r\nmore"[..], None), "{cuts:?}");
    answers_and_closes(&mut pair, &mut client);
    [hello, finished.len()]
}

/// A flight of a client's handshake, cut there, that brings no data to either side. Returns its length in bytes.
fn flight(pair: &mut Pair, client: &mut ClientConnection, cuts: &[usize]) -> usize {
    let bytes = output(client);
    assert_eq!(pair.send(&bytes, cuts), Got { data: Vec::new(), last: None }, "{cuts:?}");
    let answer = pair.receive();
    assert_eq!(input(client, &answer).unwrap(), b"");
    bytes.len()
}

/// The node says something, and the client closes.
fn answers_and_closes(pair: &mut Pair, client: &mut ClientConnection) {
    pair.say(b"answer");
    let bytes = pair.receive();
    assert_eq!(input(client, &bytes).unwrap(), b"answer");
    client.send_close_notify();
    assert_eq!(pair.send(&output(client), &[]).last, Some(Taken::Ended));
}

#[test]
fn every_cut_of_a_handshake_with_data_behind_it_gives_the_same() {
    let (_dir, watch) = watch("tls-cuts");
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // A short hello has fewer places to be cut.
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let config = Arc::new(client_config(provider));
    let [hello, finished] = exchange(watch.identity(), &config, [&[], &[]]);
    for cut in 1..hello {
        exchange(watch.identity(), &config, [&[cut], &[]]);
    }
    for cut in 1..finished {
        exchange(watch.identity(), &config, [&[], &[cut]]);
        exchange(watch.identity(), &config, [&[], &[cut.min(finished - 8), finished - 7]]);
    }
    let bytes: Vec<usize> = (1..hello.min(finished)).collect();
    exchange(watch.identity(), &config, [&bytes, &bytes]);
}

#[test]
fn each_suite_carries_data_of_all_lengths_both_ways() {
    let (_dir, watch) = watch("tls-suites");
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|one| one.suite() == suite);
        carries_all_lengths(&watch, &Arc::new(client_config(provider)));
    }
}

fn carries_all_lengths(watch: &TlsWatch, config: &Arc<ClientConfig>) {
    let (mut pair, mut client) = connected(watch.identity(), config);
    for length in [1, 100, 16_383, 16_384, 16_385, 60_000] {
        let sent: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        client.writer().write_all(&sent).unwrap();
        let bytes = output(&mut client);
        assert!(pair.send(&bytes, &[bytes.len() / 2]) == Got { data: sent.clone(), last: None });
        let (mut outbox, mut queue) = (Outbox::default(), Queue::default());
        for part in sent.chunks(7_000) {
            outbox.push_one(&mut queue, Bytes::copy_from_slice(part));
        }
        assert_eq!(pair.write(&mut outbox, &mut queue), None);
        let bytes = pair.receive();
        assert!(input(&mut client, &bytes).unwrap() == sent, "{config:?} {length}");
    }
}

#[test]
fn what_the_socket_does_not_take_is_kept_and_goes_first() {
    let (_dir, watch) = watch("tls-short");
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    set_socket_send_buffer_size(pair.socket(), 4_608).unwrap();
    let sent: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    let (mut outbox, mut queue) = (Outbox::default(), Queue::default());
    for part in sent.chunks(1_000) {
        outbox.push_one(&mut queue, Bytes::copy_from_slice(part));
    }
    let idle = pair.transports.begin_turn(0, false).unwrap();
    let (mut heard, mut kept) = (Vec::new(), 0);
    loop {
        let unsent = pair.write(&mut outbox, &mut queue);
        if let Some(unsent) = unsent {
            kept += 1;
            let held = pair.transports.begin_turn(0, false).unwrap() - idle;
            assert!((unsent..2 * MAX_RECORD_BYTES).contains(&held), "{held} bytes for {unsent}");
        }
        let bytes = pair.receive();
        heard.extend(input(&mut client, &bytes).unwrap());
        if pair.transports.on_ready(SLOT, EventFlags::OUT).output && queue.is_empty() {
            break;
        }
    }
    let bytes = pair.receive();
    heard.extend(input(&mut client, &bytes).unwrap());
    assert!(kept > 10 && heard == sent, "{kept} times, {} bytes", heard.len());
    assert_eq!(pair.transports.begin_turn(0, false), Some(idle), "nothing of it is left");
}

#[test]
fn an_idle_connection_takes_little_and_an_ended_one_nothing() {
    let (_dir, watch) = watch("tls-idle");
    let (mut pair, _client) = connected(watch.identity(), &any_client());
    let tls = pair.tls();
    assert_eq!((tls.held, tls.incomplete, tls.shaking), (link::LINK_BYTES, 0, 0));
    assert!(pair.transports.remove(SLOT));
    let tls = pair.tls();
    assert_eq!((tls.held, tls.incomplete, tls.shaking), (0, 0, 0));
    // One that goes in the middle of its handshake leaves nothing either.
    let mut pair = Pair::new(watch.identity());
    let hello = output(&mut client(&any_client()));
    pair.send(&hello[..20], &[]);
    assert!(pair.tls().held > 0 && pair.tls().incomplete > 0 && pair.tls().shaking == 0);
    pair.send(&hello[20..], &[]);
    assert_eq!((pair.tls().shaking, pair.tls().incomplete), (1, 0));
    assert!(pair.tls().held > handshake::SHAKING_BYTES);
    pair.now = STALLED_MILLIS;
    pair.transports.begin_turn(pair.now, false);
    assert_eq!(pair.transports.stalled(), [SLOT]);
    assert!(pair.transports.remove(SLOT));
    assert_eq!((pair.tls().held, pair.tls().incomplete, pair.tls().shaking), (0, 0, 0));
}

#[test]
fn a_close_is_said_and_heard() {
    let (_dir, watch) = watch("tls-close");
    for keeps_input in [true, false] {
        let (mut pair, mut client) = connected(watch.identity(), &any_client());
        if keeps_input {
            pair.transports.end_output(SLOT);
        } else {
            assert!(pair.transports.remove(SLOT));
        }
        let bytes = pair.receive();
        assert_eq!(input(&mut client, &bytes).unwrap(), b"");
        // Without the alert this would be an unexpected end of file.
        assert_eq!(client.reader().read(&mut [0]).unwrap(), 0);
    }
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    pair.transports.say_last(|slot| (slot == SLOT).then(|| b"bye".to_vec()));
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes).unwrap(), b"bye");
    assert_eq!(client.reader().read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_key_update_or_a_broken_record_is_answered_with_an_alert() {
    let (_dir, watch) = watch("tls-broken");
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    client.writer().write_all(b"before").unwrap();
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b"after").unwrap();
    let bytes = output(&mut client);
    assert_eq!(pair.send(&bytes, &[]), Got { data: b"before".to_vec(), last: Some(Taken::Ended) });
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes), Err(Error::AlertReceived(AlertDescription::InternalError)));

    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    client.writer().write_all(b"data").unwrap();
    let mut bytes = output(&mut client);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(pair.send(&bytes, &[]), Got { data: Vec::new(), last: Some(Taken::Ended) });
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes), Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
    // A record cut off by the end of the connection is no data.
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    client.writer().write_all(b"data").unwrap();
    let bytes = output(&mut client);
    assert_eq!(pair.send(&bytes[..10], &[]), Got { data: Vec::new(), last: None });
    pair.peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(pair.pump(), Got { data: Vec::new(), last: Some(Taken::Ended) });
}

#[test]
fn a_record_that_does_not_come_whole_ends_its_connection() {
    let (_dir, watch) = watch("tls-slow");
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    client.writer().write_all(&[7; 16_000]).unwrap();
    let bytes = output(&mut client);
    for (at, byte) in bytes[..40].iter().enumerate() {
        pair.now = at as u64 * 1_000;
        let got = pair.send(&[*byte], &[]);
        assert_eq!(got.last.is_some(), at > 30, "after {at} s");
    }
    // Whole records in between are progress.
    let (mut pair, mut client) = connected(watch.identity(), &any_client());
    for second in 0..100 {
        client.writer().write_all(b"data").unwrap();
        client.writer().write_all(b"data").unwrap();
        let bytes = output(&mut client);
        pair.now = second * 1_000;
        let got = pair.send(&bytes, &[5, bytes.len() - 5]);
        assert_eq!((got.data.len(), got.last), (8, None));
    }
}

#[test]
fn what_is_no_tls_1_3_is_refused() {
    let (_dir, watch) = watch("tls-refused");
    let unfit = Some(Taken::Unfit(RefuseReason::Tls));
    let mut pair = Pair::new(watch.identity());
    assert_eq!(pair.send(b"GET / HTTP/1.1\r\n\r\n", &[]).last, unfit);
    let answer = String::from_utf8(pair.receive()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && body.contains("wss://"), "{answer}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    for garbage in
        [&b"\0\x01\x02"[..], &[22, 3, 1, 0xff, 0xff], &[22, 3, 1, 0, 4, 9, 9, 9, 9], &[23, 3, 3, 0, 1, 0]]
    {
        assert_eq!(Pair::new(watch.identity()).send(garbage, &[]).last, unfit, "{garbage:?}");
    }
    // More hello than any honest client says.
    let mut pair = Pair::new(watch.identity());
    let piece = [&[22, 3, 1, 0x40, 0][..], &[1, 0, 0xff, 0xff], &[0; 0x4000 - 4]].concat();
    let more = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    assert_eq!(pair.send(&piece, &[]).last, None);
    assert_eq!(pair.send(&more, &[]).last, unfit);

    let mut config = client_config(rustls::crypto::aws_lc_rs::default_provider());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (mut pair, mut other) = (Pair::new(watch.identity()), client(&Arc::new(config.clone())));
    assert_eq!(pair.send(&output(&mut other), &[]).last, unfit);
    let bytes = pair.receive();
    assert_eq!(input(&mut other, &bytes), Err(Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let (_pair, client) = connected(watch.identity(), &Arc::new(config));
    assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
}
