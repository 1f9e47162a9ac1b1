//! The certificate and the secret of tickets, as they change.

use rustls::{
    HandshakeKind::{Full, Resumed},
    pki_types::PrivateKeyDer,
};

use super::*;

#[test]
fn a_changed_certificate_counts_for_the_next_connection_and_a_bad_one_is_told_once() {
    let (dir, mut watch) = watch("tls-reload");
    let shown = |client: &ClientConnection| client.peer_certificates().unwrap()[0].as_ref().to_vec();
    let (mut pair, mut first) = connected(watch.identity(), &any_client());
    assert!(watch.changed().is_none());
    put(dir.path(), TWO);
    assert!(watch.changed().unwrap().is_ok());
    assert!(watch.changed().is_none());
    let (_, second) = connected(watch.identity(), &any_client());
    assert_ne!(shown(&first), shown(&second));
    // The one before goes on.
    pair.say(b"still here");
    let bytes = pair.receive();
    assert_eq!(input(&mut first, &bytes).unwrap(), b"still here");

    put(dir.path(), [ONE[0], TWO[1]]);
    let error = watch.changed().unwrap().unwrap_err().to_string();
    assert!(error.contains("tls.key") && !error.contains("BEGIN"), "{error}");
    assert!(watch.changed().is_none());
    for (texts, part) in
        [(["", ONE[1]], "tls.crt"), (["x", ONE[1]], "no certificate"), ([ONE[0], "x"], "no private key")]
    {
        put(dir.path(), texts);
        let error = watch.changed().unwrap().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(TlsWatch::start(files(dir.path())).is_err());
    }
    let (_, third) = connected(watch.identity(), &any_client());
    assert_eq!(shown(&third), shown(&second), "the last good one stays in force");
    put(dir.path(), TWO);
    assert!(watch.changed().unwrap().is_ok());
    let debug = format!("{watch:?}");
    assert!(!debug.contains(&ONE[1][40..60]), "{debug}");
}

#[test]
fn a_client_resumes_on_every_node_that_has_the_secret_of_the_fleet() {
    let (dir, node) = watch("tls-tickets");
    let secrets = TestDir::new("tls-ticket-secrets");
    let put_key = |key: &str| std::fs::write(secrets.path().join("tls-ticket-key"), key).unwrap();
    put_key("a secret of the fleet");
    let shared = TlsFiles { secrets: Some(secrets.path().to_owned()), ..files(dir.path()) };
    let [mut one, two] = [(); 2].map(|()| TlsWatch::start(shared.clone()).unwrap());
    let kind = |watch: &TlsWatch, config: &Arc<ClientConfig>| {
        let (_pair, client) = connected(watch.identity(), config);
        client.handshake_kind().unwrap()
    };
    let config = any_client();
    assert_eq!([&one, &two, &one].map(|watch| kind(watch, &config)), [Full, Resumed, Resumed]);
    // Another secret takes its place on the first node, then on the second.
    put_key("another secret of the fleet");
    assert!(one.changed().unwrap().is_ok());
    assert_eq!([&one, &one, &two].map(|watch| kind(watch, &config)), [Full, Resumed, Full]);
    // Without a secret a node knows its own tickets, also after its certificate has changed.
    let config = any_client();
    let mut node = node;
    assert_eq!([&node, &node, &one].map(|watch| kind(watch, &config)), [Full, Resumed, Full]);
    assert_eq!(kind(&node, &config), Full, "the last ticket is of the other node");
    put(dir.path(), TWO);
    assert!(node.changed().unwrap().is_ok());
    assert_eq!(kind(&node, &config), Resumed);
    assert!(!format!("{one:?}").contains("secret of the fleet"));
}

/// A client that shows a certificate of the test data, or none.
fn client_with(certificate: Option<&str>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let at = |end| format!("{}/tests/data/tls/{name}.{end}", env!("CARGO_MANIFEST_DIR"));
            let chain = vec![CertificateDer::from_pem_file(at("crt")).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(at("key")).unwrap()).unwrap()
        }
    })
}

/// What comes of the last part of a handshake, in which a client shows its certificate.
fn last_flight(watch: &TlsWatch, config: &Arc<ClientConfig>) -> (Got, Result<Vec<u8>, Error>) {
    let (mut pair, mut client) = (Pair::new(watch.identity()), client(config));
    pair.send(&output(&mut client), &[]);
    let bytes = pair.receive();
    input(&mut client, &bytes).unwrap();
    client.writer().write_all(b"data").unwrap();
    let got = pair.send(&output(&mut client), &[]);
    let bytes = pair.receive();
    (got, input(&mut client, &bytes))
}

#[test]
fn with_a_ca_clients_have_to_show_a_certificate_of_it() {
    let dir = TestDir::new("tls-client-ca");
    put(dir.path(), ONE);
    let ca = |name: &str| {
        let from = format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(from, dir.path().join("ca.pem")).unwrap();
    };
    ca("ca.crt");
    let files = TlsFiles { client_ca: Some(dir.path().join("ca.pem")), ..files(dir.path()) };
    let mut watch = TlsWatch::start(files.clone()).unwrap();
    let unfit = Some(Taken::Unfit(RefuseReason::Tls));
    let (member, stranger, nobody) =
        (client_with(Some("client")), client_with(Some("stranger")), client_with(None));
    assert_eq!(last_flight(&watch, &member).0, Got { data: b"data".to_vec(), last: None });
    for (config, alert) in
        [(&stranger, AlertDescription::UnknownCA), (&nobody, AlertDescription::CertificateRequired)]
    {
        let (got, heard) = last_flight(&watch, config);
        assert_eq!((got.data.len(), got.last), (0, unfit));
        assert_eq!(heard, Err(Error::AlertReceived(alert)));
    }
    assert_eq!(last_flight(&watch, &member).0.last, None, "it resumes");
    // With other CAs the ticket is void, and the certificate is looked at.
    ca("other-ca.crt");
    assert!(watch.changed().unwrap().is_ok());
    assert_eq!(last_flight(&watch, &member).0.last, unfit);
    assert_eq!(last_flight(&watch, &stranger).0.last, None);
    std::fs::write(dir.path().join("ca.pem"), "no certificate").unwrap();
    let error = watch.changed().unwrap().unwrap_err().to_string();
    assert!(error.contains("ca.pem") && error.contains("PEM"), "{error}");
    assert!(TlsWatch::start(files).is_err());
    assert_eq!(last_flight(&watch, &stranger).0.last, None, "what was read last stays in force");
}
