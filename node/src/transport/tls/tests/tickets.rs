//! Tickets, as their keys change.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::HandshakeKind::{self, Full, Resumed};

use super::*;
use crate::args::ClientCertificates;

/// How a client shakes hands with a node, with the ticket that it has.
fn kind(watch: &TlsWatch, config: &Arc<ClientConfig>) -> HandshakeKind {
    let (_pair, client) = connected(watch.identity(), config);
    client.handshake_kind().unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A certificate, and a Secret of the fleet.
struct Dirs(TestDir, TestDir);

impl Dirs {
    fn new(name: &str) -> Self {
        let dirs = Self(TestDir::new(name), TestDir::new(&format!("{name}-secrets")));
        put(dirs.0.path(), ONE);
        dirs
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { secrets: Some(self.1.path().to_owned()), ..files(self.0.path()) }
    }

    fn start(&self) -> TlsWatch {
        TlsWatch::start(self.files()).unwrap()
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.1.path().join(name), text).unwrap();
    }
}

/// What a node says of the keys of tickets at a look that finds no other certificate.
fn told(watch: &mut TlsWatch) -> Option<Result<(), String>> {
    assert!(watch.changed().is_none(), "the certificate is the same");
    watch.tickets_changed().map(|told| told.map_err(|error| error.to_string()))
}

#[test]
fn a_client_resumes_on_every_node_that_has_the_secret_of_the_fleet() {
    let (dir, mut node) = watch("tls-tickets");
    let dirs = Dirs::new("tls-shared-tickets");
    dirs.put("tls-ticket-key", "a secret of the fleet");
    let [mut one, two] = [(); 2].map(|()| dirs.start());
    let config = any_client();
    assert_eq!([&one, &two, &one].map(|watch| kind(watch, &config)), [Full, Resumed, Resumed]);
    // Another secret takes its place on the first node, then on the second.
    dirs.put("tls-ticket-key", "another secret of the fleet");
    assert_eq!(told(&mut one), Some(Ok(())));
    assert_eq!([&one, &one, &two].map(|watch| kind(watch, &config)), [Full, Resumed, Full]);
    // Without a secret a node knows its own tickets, also after its certificate has changed.
    let config = any_client();
    assert_eq!([&node, &node, &one].map(|watch| kind(watch, &config)), [Full, Resumed, Full]);
    assert_eq!(kind(&node, &config), Full, "the last ticket is of the other node");
    put(dir.path(), TWO);
    assert!(node.changed().unwrap().is_ok() && node.tickets_changed().is_none());
    assert_eq!(kind(&node, &config), Resumed);
    assert!(!format!("{one:?}").contains("secret of the fleet"));
}

#[test]
fn a_client_resumes_across_a_rotation_and_not_by_a_key_that_is_erased() {
    let dirs = Dirs::new("tls-rotation");
    dirs.put("tls-ticket-key", "a");
    let [mut one, mut two] = [(); 2].map(|()| dirs.start());
    let config = any_client();
    assert_eq!(kind(&one, &config), Full);
    // The operator takes the one key over, with the next one. The first node reads it.
    let begun = now();
    dirs.put("tls-ticket-keys", format!("{} a\n{} b\n", begun - 10, begun + 600));
    assert_eq!(told(&mut one), Some(Ok(())));
    assert_eq!([&one, &two].map(|watch| kind(watch, &config)), [Resumed, Resumed]);
    assert_eq!((told(&mut two), told(&mut two)), (Some(Ok(())), None));
    let before = any_client();
    assert_eq!(kind(&one, &before), Full);
    // The time of the next one has come.
    dirs.put("tls-ticket-keys", format!("{} a\n{} b\n", begun - 10, begun - 5));
    assert_eq!([&mut one, &mut two].map(told), [Some(Ok(())), Some(Ok(()))]);
    // A ticket from before resumes on another node after it, and is followed by one of the next key.
    assert_eq!([&two, &one].map(|watch| kind(watch, &config)), [Resumed, Resumed]);
    dirs.put("tls-ticket-keys", format!("{} b\n{} c\n", begun - 5, begun + 600));
    assert_eq!(told(&mut two), Some(Ok(())));
    assert_eq!(kind(&two, &config), Resumed, "its ticket is of the key that is left");
    assert_eq!([&two, &two].map(|watch| kind(watch, &before)), [Full, Resumed], "the old key is erased");
}

#[test]
fn keys_that_cannot_be_read_are_told_once_and_the_former_go_on_beside_a_new_certificate() {
    let dirs = Dirs::new("tls-broken-tickets");
    dirs.put("tls-ticket-keys", "1 key");
    let mut node = dirs.start();
    let config = any_client();
    assert_eq!([(); 2].map(|()| kind(&node, &config)), [Full, Resumed]);
    let nine: String = (0..9).map(|from| format!("{from} key\n")).collect();
    let list = "is no list of keys of tickets";
    for (broken, says) in [
        (&b"key of nothing"[..], list),
        (b"", "1 to 4096 bytes"),
        (nine.as_bytes(), list),
        (&[b'x'; 5_000], "1 to 4096 bytes"),
        (b"1 \xff", "tls-ticket-keys"),
    ] {
        dirs.put("tls-ticket-keys", broken);
        let error = told(&mut node).unwrap().unwrap_err();
        assert!(error.contains(says) && error.contains("tls-ticket-keys"), "{error}");
        assert!(!error.contains("nothing"), "{error}");
        assert_eq!((told(&mut node), kind(&node, &config)), (None, Resumed));
    }
    // A new certificate counts, and nothing is told again.
    put(dirs.0.path(), TWO);
    assert!(node.changed().unwrap().is_ok() && node.tickets_changed().is_none());
    let (_pair, client) = connected(node.identity(), &any_client());
    let shown = CertificateDer::from_pem_slice(TWO[0].as_bytes()).unwrap();
    assert_eq!(client.peer_certificates().unwrap()[0], shown);
    assert_eq!(kind(&node, &config), Resumed);
    // A certificate that is broken does not stop keys of tickets.
    put(dirs.0.path(), ["x", "x"]);
    dirs.put("tls-ticket-keys", "1 other");
    assert!(node.changed().unwrap().is_err() && node.tickets_changed().unwrap().is_ok());
    assert_eq!([(); 2].map(|()| kind(&node, &config)), [Full, Resumed]);
}

#[test]
fn a_node_starts_with_keys_that_cannot_be_read() {
    let dirs = Dirs::new("tls-broken-start");
    dirs.put("tls-ticket-keys", "key of nothing");
    let mut node = dirs.start();
    let config = any_client();
    assert_eq!([(); 2].map(|()| kind(&node, &config)), [Full, Resumed], "it has a key of its own");
    assert!(told(&mut node).unwrap().unwrap_err().contains("is no list"));
    assert_eq!((told(&mut node), kind(&dirs.start(), &config)), (None, Full));
    // Nodes that find the one key of before take that.
    dirs.put("tls-ticket-key", "key");
    let config = any_client();
    assert_eq!([dirs.start(), dirs.start()].map(|node| kind(&node, &config)), [Full, Resumed]);
    dirs.put("tls-ticket-keys", "1 key");
    assert_eq!((told(&mut node), kind(&node, &config)), (Some(Ok(())), Resumed));
}

/// The former tickets would let clients in who have shown a certificate of the former CA.
#[test]
fn with_another_ca_the_former_tickets_do_not_go_on_beside_keys_that_cannot_be_read() {
    let dirs = Dirs::new("tls-broken-ca");
    let ca = |name: &str| {
        let from = format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(from, dirs.0.path().join("ca.pem")).unwrap();
    };
    ca("ca.crt");
    dirs.put("tls-ticket-keys", "1 key");
    let files = TlsFiles {
        client_ca: Some(dirs.0.path().join("ca.pem")),
        client_certificates: ClientCertificates::Optional,
        ..dirs.files()
    };
    let mut node = TlsWatch::start(files).unwrap();
    let config = any_client();
    assert_eq!([(); 2].map(|()| kind(&node, &config)), [Full, Resumed]);
    dirs.put("tls-ticket-keys", "broken");
    ca("other-ca.crt");
    assert!(node.changed().unwrap().is_ok() && node.tickets_changed().unwrap().is_err());
    assert_eq!([(); 2].map(|()| kind(&node, &config)), [Full, Resumed]);
}

#[test]
fn other_keys_of_tickets_do_not_make_the_end_of_the_certificate_be_told_again() {
    let dirs = Dirs::new("tls-end-tickets");
    let mut node = dirs.start();
    let end = node.identity().not_after();
    assert_eq!(node.ending(end - 60), Some(end));
    for (text, is_good) in [("1 key", true), ("broken", false)] {
        dirs.put("tls-ticket-keys", text);
        assert_eq!(told(&mut node).unwrap().is_ok(), is_good);
        assert_eq!(node.ending(end - 50), None);
    }
}
