//! Keys of tokens that the node fetches, from issuers that change them, are away, and answer everything but keys.

use std::{fs, net::SocketAddr, time::Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    support::{
        client::Client,
        forgery::{SECRET, seconds_from_now},
        issuer::{IssuerServer, Reply, certificate},
        process::Process,
        wait::wait,
    },
    tokens::{Mounts, pair, shared, signed, status},
};

/// Two issuers: keys of the first are fetched at `url`, those of the second stand in a file.
fn config(url: &str, more: &str) -> String {
    format!(
        "\
auth:
  jwt:
  - {{issuer: ids, algorithms: [EdDSA], jwks: {{url: \"{url}\"{more}}}}}
  - {{issuer: backend, algorithms: [HS256], keyFile: tokens/secret}}
"
    )
}

fn jwk(pair: &Ed25519KeyPair, id: &str) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": id, "x": x})
}

/// The set with the key of each of these seeds, which has its seed as its name.
fn set(seeds: &[u8]) -> String {
    let keys: Vec<_> = seeds.iter().map(|seed| jwk(&pair(*seed), &seed.to_string())).collect();
    json!({"keys": keys}).to_string()
}

fn token(seed: u8) -> String {
    let claims = json!({"iss": "ids", "sub": "ann", "exp": seconds_from_now(3_600)});
    signed(&json!({"alg": "EdDSA", "kid": seed.to_string()}), &claims, |message| {
        pair(seed).sign(message).as_ref().to_vec()
    })
}

/// The value of a metric of the first issuer.
fn figure(node: &Process, name: &str) -> f64 {
    let (_, text) = node.ask("GET", "/metrics", None, "");
    let begins = format!("channelcluster_node_token_keys_{name}{{issuer=\"0\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begins));
    line.unwrap_or_else(|| panic!("no {begins}")).parse().unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/keys?of=ids")
}

#[test]
fn without_keys_a_token_is_to_come_again_and_with_them_the_known_go_on_whatever_the_issuer_answers() {
    let issuer = IssuerServer::start(false);
    let elsewhere = IssuerServer::start(false);
    let mounts = Mounts::new(&config(&url(issuer.address), ", refreshMillis: 1000"));
    let node = Process::start(mounts.command());
    assert_eq!((node.ready(), status(&node, &token(1))), (200, 503), "the issuer says nothing");
    let other = shared(SECRET, "bob", seconds_from_now(60));
    assert_eq!((status(&node, &other), status(&node, "a.b.c")), (101, 403));

    issuer.reply(Reply::answer("200 OK", "etag: \"one\"\r\ncache-control: max-age=1\r\n", &set(&[1])));
    wait("the first keys", || status(&node, &token(1)) == 101);
    assert_eq!(status(&node, &token(2)), 403, "the issuer was asked just now and has no such key");
    let mut open = Client::connect(node.listen, Some(&token(1))).unwrap();
    wait("a request with the tag", || {
        issuer.requests().last().is_some_and(|head| head.contains("if-none-match: \"one\""))
    });
    issuer.reply(Reply::answer("304 Not Modified", "", ""));
    let (before, failed) = (figure(&node, "fetches_total"), figure(&node, "fetch_failures_total"));
    wait("sets that are the same", || figure(&node, "fetches_total") > before + 2.0);
    assert_eq!(figure(&node, "fetch_failures_total"), failed);
    assert!(figure(&node, "age_seconds") < 30.0);

    let endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\": [".to_vec();
    let no_text = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff".to_vec();
    let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"keys\": [".to_vec();
    let head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    let moved = format!("location: http://{}/keys\r\n", elsewhere.address);
    for (what, reply, told) in [
        ("an error", Reply::answer("500 Internal Server Error", "", &set(&[2])), "answers 500"),
        ("nothing there", Reply::answer("404 Not Found", "", ""), "answers 404"),
        ("another place", Reply::answer("302 Found", &moved, ""), "answers 302"),
        ("a page", Reply::set("<html>hunter2</html>"), "holds no JWK Set"),
        ("no keys", Reply::set(r#"{"keys": []}"#), "holds no key for EdDSA"),
        ("a secret", Reply::set(r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#), "holds no key for EdDSA"),
        ("a body without end", Reply::Endless(endless), "more than 262144 bytes"),
        ("a head without end", Reply::Endless(head), "does not answer with HTTP"),
        ("no text", Reply::Bytes(no_text), "no text"),
        ("a body that breaks off", Reply::Bytes(broken), "breaks off"),
        ("no HTTP", Reply::Bytes(b"SSH-2.0-x\r\n\r\n".to_vec()), "does not answer with HTTP"),
        ("nothing", Reply::Bytes(Vec::new()), "does not answer with HTTP"),
    ] {
        let failed = figure(&node, "fetch_failures_total");
        issuer.reply(reply);
        wait(what, || figure(&node, "fetch_failures_total") > failed + 1.0);
        wait(told, || node.has_logged(told));
        assert_eq!((status(&node, &token(1)), status(&node, &other)), (101, 101), "{what}");
        assert_eq!(node.ready(), 200, "{what}");
    }
    assert!(!node.has_logged("hunter2"), "nothing of an answer is told");
    assert!(elsewhere.requests().is_empty(), "a redirect is not followed");

    issuer.reply(Reply::set(&set(&[2, 3])));
    wait("the new keys", || status(&node, &token(2)) == 101);
    assert_eq!((status(&node, &token(3)), status(&node, &token(1))), (101, 403));
    assert_eq!(open.joined("room:1")["status"], "ok", "what is open stays open");
    for head in issuer.requests() {
        assert!(head.starts_with("GET /keys?of=ids HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains(&format!("host: {}\r\n", issuer.address)) && !head.contains("authorization"),
            "{head}"
        );
    }
}

/// The time between two fetches is an hour here, so only tokens can bring one forward.
#[test]
fn a_new_key_counts_by_the_first_token_that_names_it_and_tokens_do_not_make_the_node_hammer() {
    let issuer = IssuerServer::start(false);
    let mounts = Mounts::new(&config(&url(issuer.address), ", refreshMillis: 3600000"));
    let node = Process::start(mounts.command());
    issuer.reply(Reply::set(&set(&[1])));
    wait("the first keys", || status(&node, &token(1)) == 101);
    let begun = Instant::now();
    issuer.reply(Reply::set(&set(&[1, 2])));
    let (old, new, forged) = (token(1), token(2), token(3));
    let mut tries = 0;
    wait("the new key", || {
        tries += 1;
        assert_eq!(status(&node, &old), 101);
        assert_ne!(status(&node, &forged), 101);
        status(&node, &new) == 101
    });
    assert!(tries > 20, "only {tries} tokens named a key that is not known");
    assert_eq!(issuer.requests().len(), 2, "in {:?}", begun.elapsed());
    for _ in 0..100 {
        assert_eq!(status(&node, &forged), 403);
    }
    assert_eq!(issuer.requests().len(), 2);
}

#[test]
fn an_issuer_that_is_slow_is_given_up_and_asked_again() {
    let issuer = IssuerServer::start(false);
    let mounts = Mounts::new(&config(&url(issuer.address), ", refreshMillis: 1000"));
    let node = Process::start(mounts.command());
    wait("the slow answer to be given up", || node.has_logged("took more than 10 s"));
    assert_eq!((node.ready(), status(&node, &token(1))), (200, 503));
    issuer.reply(Reply::set(&set(&[1])));
    wait("the keys", || status(&node, &token(1)) == 101);
}

#[test]
fn the_certificate_of_an_issuer_is_verified_by_the_authorities_that_are_declared() {
    let issuer = IssuerServer::start(true);
    issuer.reply(Reply::set(&set(&[1])));
    let port = issuer.address.port();
    let https = |host: &str, more: &str| {
        config(&format!("https://{host}:{port}/keys"), &format!(", refreshMillis: 1000{more}"))
    };
    let authority = fs::read_to_string(certificate("ca.crt")).unwrap();
    let own = ", caFile: tokens/ca.crt";
    for (config, told) in [
        // Those that browsers trust do not know it.
        (https("127.0.0.1", ""), "TLS with 127.0.0.1"),
        // It has no certificate for this name.
        (https("localhost", own), "TLS with localhost"),
        (https("[::1]", own), "cannot be reached"),
    ] {
        let mounts = Mounts::new(&config);
        mounts.write("jwt/tokens/ca.crt", &authority);
        let node = Process::start(mounts.command());
        wait(told, || node.has_logged(told));
        assert_eq!(status(&node, &token(1)), 503, "{told}");
    }
    assert!(issuer.requests().is_empty(), "nothing was asked of a server that was not verified");

    let mounts = Mounts::new(&https("127.0.0.1", own));
    mounts.write("jwt/tokens/ca.crt", "no certificate");
    let node = Process::start(mounts.command());
    wait("the wrong file to be told", || node.has_logged("holds no certificate of an authority"));
    mounts.write("jwt/tokens/ca.crt", &authority);
    wait("the keys", || status(&node, &token(1)) == 101);
}

/// Without TLS another program on the way could give its own keys.
#[test]
fn a_url_that_is_not_encrypted_is_refused_unless_it_stays_in_the_cluster() {
    let mounts = Mounts::new(&config("http://id.example.org/keys", ""));
    let output = mounts.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("auth.jwt[0].jwks.url: is not encrypted"), "{said}");
}

#[test]
fn another_url_takes_the_place_of_the_first_and_keys_stay_while_only_rights_change() {
    let (first, second) = (IssuerServer::start(false), IssuerServer::start(false));
    first.reply(Reply::set(&set(&[1])));
    let mounts = Mounts::new(&config(&url(first.address), ""));
    let node = Process::start(mounts.command());
    wait("the first keys", || status(&node, &token(1)) == 101);
    let reload = |config: &str| {
        let before = node.metric("channelcluster_node_config_reloads_total");
        mounts.write("node.yaml", config);
        node.signal(rustix::process::Signal::HUP);
        wait("the configuration", || node.metric("channelcluster_node_config_reloads_total") > before);
    };
    reload(
        &config(&url(first.address), "")
            .replace("algorithms: [EdDSA]", "algorithms: [EdDSA], topics: [\"room:*\"]"),
    );
    wait("the rights to count", || {
        Client::connect(node.listen, Some(&token(1))).unwrap().joined("other")["status"] == "error"
    });
    assert_eq!(first.requests().len(), 1, "the keys were there already");
    reload(&config(&url(second.address), ""));
    wait("the issuer without keys", || status(&node, &token(1)) == 503);
    second.reply(Reply::set(&set(&[2])));
    wait("the second keys", || status(&node, &token(2)) == 101);
    assert_eq!(status(&node, &token(1)), 403);
    assert_eq!(first.requests().len(), 1);
}
