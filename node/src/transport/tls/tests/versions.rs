//! TLS 1.2 where it is asked for, and records of both versions with rustls on the other side.

use node_core::tls::{ALERT_BYTES, Alert, Content, End, Session, Version};
use rustls::{
    ExtractedSecrets,
    HandshakeKind::{Full, Resumed},
    ServerConnection,
    version::{TLS12, TLS13},
};

use super::*;
use crate::args::TlsVersion;

/// A node that speaks TLS 1.2 as well.
fn old_watch(name: &str) -> (TestDir, TlsWatch) {
    let dir = TestDir::new(name);
    put(dir.path(), ONE);
    let files = TlsFiles { min_version: TlsVersion::Tls12, ..files(dir.path()) };
    let watch = TlsWatch::start(files).unwrap();
    (dir, watch)
}

/// A client that speaks one version with the suites of one AEAD, by a part of their names.
fn config_of(version: &'static rustls::SupportedProtocolVersion, aead: &str) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(aead));
    // A short hello has fewer places to be cut.
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let mut config = client_config_of(provider, version);
    config.enable_secret_extraction = true;
    config
}

fn old_client() -> Arc<ClientConfig> {
    Arc::new(config_of(&TLS12, "AES_128_GCM"))
}

const AEADS: [&str; 3] = ["AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305"];

#[test]
fn each_suite_of_tls_1_2_carries_data_of_all_lengths_both_ways() {
    let (_dir, watch) = old_watch("tls12-suites");
    for aead in AEADS {
        let config = Arc::new(config_of(&TLS12, aead));
        let (pair, client) = connected(watch.identity(), &config);
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
        assert_eq!((pair.tls().held, pair.tls().shaking), (link::LINK_BYTES, 0));
        carries_all_lengths(&watch, &config);
    }
}

/// Shakes hands with the client's bytes cut in each flight, and says something behind the Finished.
fn exchange_12(watch: &TlsWatch, config: &Arc<ClientConfig>, cuts: [&[usize]; 2]) -> [usize; 2] {
    let (mut pair, mut client) = (Pair::new(watch.identity()), client(config));
    let hello = flight(&mut pair, &mut client, cuts[0]);
    let finished = flight(&mut pair, &mut client, cuts[1]);
    client.writer().write_all(b"question").unwrap();
    let bytes = output(&mut client);
    assert_eq!(pair.send(&bytes, &[]).data, b"question", "{cuts:?}");
    answers_and_closes(&mut pair, &mut client);
    [hello, finished]
}

#[test]
fn every_cut_of_a_handshake_of_tls_1_2_gives_the_same() {
    let (_dir, watch) = old_watch("tls12-cuts");
    let config = old_client();
    let [hello, finished] = exchange_12(&watch, &config, [&[], &[]]);
    for cut in 1..hello {
        exchange_12(&watch, &config, [&[cut], &[]]);
    }
    for cut in 1..finished {
        exchange_12(&watch, &config, [&[], &[cut]]);
    }
    let bytes: Vec<usize> = (1..hello.min(finished)).collect();
    exchange_12(&watch, &config, [&bytes, &bytes]);
}

#[test]
fn without_the_word_a_client_of_tls_1_2_is_refused() {
    let (_dir, watch) = watch("tls12-refused");
    let (mut pair, mut client) = (Pair::new(watch.identity()), client(&old_client()));
    assert_eq!(pair.send(&output(&mut client), &[]).last, Some(Taken::Unfit(RefuseReason::Tls)));
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes), Err(Error::AlertReceived(AlertDescription::ProtocolVersion)));
}

#[test]
fn sessions_of_tls_1_2_get_no_ticket_and_those_of_tls_1_3_do() {
    let (_dir, watch) = old_watch("tls12-tickets");
    let kinds = |config: &Arc<ClientConfig>| {
        [(); 2].map(|()| connected(watch.identity(), config).1.handshake_kind().unwrap())
    };
    assert_eq!(kinds(&old_client()), [Full, Full]);
    assert_eq!(kinds(&any_client()), [Full, Resumed]);
}

#[test]
fn a_client_of_tls_1_2_has_to_offer_the_extended_master_secret() {
    let (_dir, watch) = old_watch("tls12-ems");
    let (mut pair, mut client) = (Pair::new(watch.identity()), client(&old_client()));
    let mut hello = output(&mut client);
    // The extension of RFC 7627 has number 23 and is empty. It becomes one of no meaning.
    let at = hello.windows(4).rposition(|four| four == [0, 23, 0, 0]).unwrap();
    hello[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    assert_eq!(pair.send(&hello, &[]).last, Some(Taken::Unfit(RefuseReason::Tls)));
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes), Err(Error::AlertReceived(AlertDescription::HandshakeFailure)));
}

/// The record layer in the place of a client's, with the secrets that rustls had there.
fn taken_over(client: ClientConnection) -> Session {
    let version = match client.protocol_version().unwrap() {
        rustls::ProtocolVersion::TLSv1_2 => Version::Tls12,
        _ => Version::Tls13,
    };
    let ExtractedSecrets { tx, rx } = client.dangerous_extract_secrets().unwrap();
    let ((suite, sealing), (_, opening)) =
        (handshake::secrets(&tx).unwrap(), handshake::secrets(&rx).unwrap());
    Session::new(version, suite, &sealing, &opening, 0).unwrap()
}

fn sealed(session: &mut Session, content: Content, data: &[u8]) -> Vec<u8> {
    let (mut record, head) = (vec![0; data.len() + OVERHEAD_BYTES], session.head_bytes());
    record[head..head + data.len()].copy_from_slice(data);
    let length = session.seal(content, &mut record, data.len()).unwrap();
    record.truncate(length);
    record
}

fn feed(server: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        server.process_new_packets().unwrap();
    }
}

#[test]
fn records_are_those_of_rustls_in_the_clients_role_too() {
    let (_dir, watch) = old_watch("tls12-roles");
    for (version, aead) in [&TLS12, &TLS13].into_iter().flat_map(|version| AEADS.map(|aead| (version, aead)))
    {
        let mut client = client(&Arc::new(config_of(version, aead)));
        let mut server = ServerConnection::new(watch.identity().config()).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            feed(&mut server, &output(&mut client));
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            assert_eq!(input(&mut client, &bytes).unwrap(), b"");
        }
        let mut session = taken_over(client);
        for length in [0, 1, 100, 16_384] {
            let data: Vec<u8> = (0..length).map(|at| (at * 11) as u8).collect();
            let record = sealed(&mut session, Content::Data, &data);
            feed(&mut server, &record);
            let mut heard = vec![0; length];
            server.reader().read_exact(&mut heard).unwrap();
            assert!(heard == data, "{aead} {length}");
            server.writer().write_all(&data).unwrap();
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let opened = session.open(&mut bytes);
            assert!(bytes[..opened.data] == data && opened.end.is_none(), "{aead} {length}: {opened:?}");
        }
        server.send_close_notify();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        assert_eq!(session.open(&mut bytes).end, Some(End::Closed));
        let mut room = [0; ALERT_BYTES];
        let record = session.alert(Alert::CloseNotify, &mut room).unwrap();
        server.read_tls(&mut &record[..]).unwrap();
        assert!(server.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn another_handshake_on_a_connection_of_tls_1_2_is_its_end() {
    let (_dir, watch) = old_watch("tls12-again");
    let (mut pair, client) = connected(watch.identity(), &old_client());
    let mut session = taken_over(client);
    let before = sealed(&mut session, Content::Data, b"before");
    let hello = sealed(&mut session, Content::Handshake, &[1, 0, 0, 0]);
    let got = pair.send(&[before, hello].concat(), &[]);
    assert_eq!(got, Got { data: b"before".to_vec(), last: Some(Taken::Ended) });
    let mut bytes = pair.receive();
    assert_eq!((bytes[0], session.open(&mut bytes).end), (21, None), "a warning and nothing more");
}

#[test]
fn a_broken_record_of_tls_1_2_is_answered_with_an_alert_and_a_close_is_said() {
    let (_dir, watch) = old_watch("tls12-broken");
    let (mut pair, mut client) = connected(watch.identity(), &old_client());
    client.writer().write_all(b"data").unwrap();
    let mut bytes = output(&mut client);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(pair.send(&bytes, &[]), Got { data: Vec::new(), last: Some(Taken::Ended) });
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes), Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
    let (mut pair, mut client) = connected(watch.identity(), &old_client());
    pair.transports.say_last(|slot| (slot == SLOT).then(|| b"bye".to_vec()));
    let bytes = pair.receive();
    assert_eq!(input(&mut client, &bytes).unwrap(), b"bye");
    assert_eq!(client.reader().read(&mut [0]).unwrap(), 0);
}
