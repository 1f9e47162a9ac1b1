//! The certificate, as it changes, and those of clients.

use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::args::ClientCertificates;

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
fn the_end_of_the_certificate_is_known_and_told_once_a_day_when_it_is_near() {
    let (dir, mut watch) = watch("tls-end");
    // As `openssl x509 -enddate` says it.
    let [one, two] = [4_949_569_997, 4_949_569_997];
    assert_eq!(watch.identity().not_after(), one);
    assert_eq!(watch.ending(one - 8 * 86_400), None);
    assert_eq!([one - 60, one - 50].map(|now| watch.ending(now)), [Some(one), None]);
    assert_eq!(watch.ending(one + 86_400), Some(one), "the next day");
    put(dir.path(), TWO);
    assert!(watch.changed().unwrap().is_ok());
    assert_eq!(watch.identity().not_after(), two);
    assert_eq!(watch.ending(two - 60), Some(two));
    assert_eq!(watch.ending(two - 90 * 86_400), None);
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
fn an_optional_certificate_is_verified_when_it_is_shown() {
    let (dir, secrets) = (TestDir::new("tls-optional"), TestDir::new("tls-optional-secrets"));
    put(dir.path(), ONE);
    std::fs::write(secrets.path().join("tls-ticket-keys"), "1 key").unwrap();
    let ca = format!("{}/tests/data/tls/ca.crt", env!("CARGO_MANIFEST_DIR"));
    let strict = TlsFiles {
        client_ca: Some(ca.into()),
        secrets: Some(secrets.path().to_owned()),
        ..files(dir.path())
    };
    let easy = TlsFiles { client_certificates: ClientCertificates::Optional, ..strict.clone() };
    let [strict, easy] = [strict, easy].map(|files| TlsWatch::start(files).unwrap());
    let (member, stranger, nobody) =
        (client_with(Some("client")), client_with(Some("stranger")), client_with(None));
    let (got, heard) = last_flight(&easy, &stranger);
    assert_eq!((got.data.len(), got.last), (0, Some(Taken::Unfit(RefuseReason::Tls))));
    assert_eq!(heard, Err(Error::AlertReceived(AlertDescription::UnknownCA)));
    for config in [&member, &nobody, &nobody] {
        assert_eq!(last_flight(&easy, config).0, Got { data: b"data".to_vec(), last: None });
    }
    // A ticket of one that has shown none is none for a node that asks for one, though they share the keys.
    let (got, heard) = last_flight(&strict, &nobody);
    assert_eq!((got.data.len(), got.last), (0, Some(Taken::Unfit(RefuseReason::Tls))));
    assert_eq!(heard, Err(Error::AlertReceived(AlertDescription::CertificateRequired)));
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
