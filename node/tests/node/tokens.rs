//! Tokens from outside: the node with its files of keys, and clients with tokens that were signed here.

use std::{fs, path::PathBuf, process::Command};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    forgery::{SECRET, seconds_from_now},
    process::{Process, command},
    wait::wait,
};

const CONFIG: &str = "\
auth:
  jwt:
  - {issuer: ids, audience: chat, algorithms: [EdDSA], keyFile: tokens/id.pem, topics: [\"room:*\", \"user:{sub}:*\"]}
  - {issuer: backend, algorithms: [HS256], keyFile: tokens/secret, leewayMillis: 0}
";

/// The files of a node; removed when dropped.
pub(crate) struct Mounts(PathBuf);

impl Mounts {
    pub(crate) fn new(config: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("channel-node-tokens-{:x}", rand::random::<u64>()));
        fs::create_dir_all(dir.join("jwt/tokens")).unwrap();
        let mounts = Mounts(dir);
        mounts.write("node.yaml", config);
        mounts.write("admin-token", "token");
        mounts.write("jwt/tokens/id.pem", &pem(&pair(1)));
        mounts.write("jwt/tokens/secret", SECRET);
        mounts
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // At once, as the kubelet does it: who reads in between would read half of it.
        let new = self.0.join(format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.join(name)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = command();
        command.arg("--config").arg(self.0.join("node.yaml")).arg("--secrets").arg(&self.0);
        command.arg("--token-keys").arg(self.0.join("jwt"));
        command
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn pem(pair: &Ed25519KeyPair) -> String {
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
}

pub(crate) fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A token of the issuer with the key pair.
fn token(pair: &Ed25519KeyPair, user: &str) -> String {
    let claims = json!({"iss": "ids", "aud": ["chat", "mail"], "sub": user, "exp": seconds_from_now(3_600)});
    signed(&json!({"alg": "EdDSA", "typ": "JWT"}), &claims, |message| pair.sign(message).as_ref().to_vec())
}

/// A token of the issuer with the shared secret.
pub(crate) fn shared(secret: &str, user: &str, exp: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let claims = json!({"iss": "backend", "sub": user, "exp": exp});
    signed(&json!({"alg": "HS256"}), &claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

/// The status of the answer to a handshake with this token.
pub(crate) fn status(node: &Process, token: &str) -> u16 {
    Client::connect(node.listen, Some(token)).map_or_else(|status| status, |_| 101)
}

#[test]
fn a_client_with_a_token_joins_its_topics_and_others_do_not_get_in() {
    let mounts = Mounts::new(CONFIG);
    let node = Process::start(mounts.command());
    let (ann, stranger) = (token(&pair(1), "ann"), token(&pair(2), "ann"));
    let mut client = Client::connect(node.listen, Some(&ann)).unwrap();
    for (topic, status) in
        [("room:1", "ok"), ("user:ann:inbox", "ok"), ("user:bob:inbox", "error"), ("other", "error")]
    {
        let reply = client.joined(topic);
        assert_eq!(reply["status"], status, "{topic}");
        assert!(status == "ok" || reply["response"]["reason"] == "unauthorized", "{topic}: {reply}");
    }
    assert_eq!(Client::connect(node.listen, None).err(), Some(403));
    for bad in
        [&*stranger, "a.b.c", &shared(SECRET, "ann", seconds_from_now(0)), &shared("x", "ann", 9_999_999_999)]
    {
        assert_eq!(status(&node, bad), 403, "{bad}");
    }
    let mut metrics = String::new();
    for line in [
        "channelcluster_node_refused_total{reason=\"no_token\"} 1",
        "channelcluster_node_refused_total{reason=\"token\"} 3",
        "channelcluster_node_refused_total{reason=\"token_expired\"} 1",
        "channelcluster_node_joins_refused_total{reason=\"unauthorized\"} 2",
    ] {
        // A shard shows its counters at the end of a turn, and a client may have its answer before.
        wait(line, || {
            metrics = node.ask("GET", "/metrics", None, "").1;
            metrics.lines().any(|got| got == line)
        });
    }
    for token in [&*ann, &stranger] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!node.has_logged(signature) && !metrics.contains(signature));
    }
}

#[test]
fn a_connection_ends_with_its_token_unless_another_one_came() {
    let mounts = Mounts::new(CONFIG);
    let node = Process::start(mounts.command());
    let soon = seconds_from_now(4);
    let connect = || {
        let mut client = Client::connect(node.listen, Some(&shared(SECRET, "ann", soon))).unwrap();
        client.joined("room:1");
        client
    };
    let (mut stays, mut ends) = (connect(), connect());
    let fresh = shared(SECRET, "ann", seconds_from_now(3_600));
    stays.send(&json!(["1", null, "room:1", "access_token", {"access_token": fresh}]));
    assert_eq!(ends.closed(), 4001);
    assert!(seconds_from_now(0) >= soon);
    stays.send(&json!([null, "9", "phoenix", "heartbeat", {}]));
    assert_eq!(stays.until(|message| message[1] == "9")[4]["status"], "ok");
}

#[test]
fn keys_are_rotated_without_a_restart_and_wrong_ones_change_nothing() {
    let mounts = Mounts::new(CONFIG);
    let node = Process::start(mounts.command());
    let (old, new) = (token(&pair(1), "ann"), token(&pair(2), "ann"));
    assert_eq!((status(&node, &old), status(&node, &new)), (101, 403));
    let mut open = Client::connect(node.listen, Some(&old)).unwrap();

    mounts.write("jwt/tokens/id.pem", &format!("{}{}", pem(&pair(1)), pem(&pair(2))));
    node.signal(Signal::HUP);
    wait("the new key to be taken", || status(&node, &new) == 101);
    assert_eq!(status(&node, &old), 101, "both are good while one takes the place of the other");

    mounts.write("jwt/tokens/id.pem", "no key");
    node.signal(Signal::HUP);
    wait("the wrong file to be refused", || {
        node.metric("channelcluster_node_config_reload_failures_total").is_some_and(|count| count > 0.0)
    });
    assert_eq!((status(&node, &old), status(&node, &new)), (101, 101));

    mounts.write("jwt/tokens/id.pem", &pem(&pair(2)));
    node.signal(Signal::HUP);
    wait("the old key to be gone", || status(&node, &old) == 403);
    assert_eq!(status(&node, &new), 101);
    assert_eq!(open.joined("room:1")["status"], "ok", "what is open stays open");
}

/// The file of the ConfigMap comes before the pods that have the Secret.
#[test]
fn issuers_whose_keys_are_not_mounted_yet_do_not_count() {
    let mounts = Mounts::new("auth: {anonymous: true}");
    let node = Process::start(mounts.command());
    mounts.write("node.yaml", &CONFIG.replace("tokens/secret", "later/secret"));
    node.signal(Signal::HUP);
    wait("the missing file to be told", || node.has_logged("later/secret"));
    assert!(Client::connect(node.listen, None).is_ok(), "auth is as it was, as a whole");
    fs::create_dir(mounts.0.join("jwt/later")).unwrap();
    mounts.write("jwt/later/secret", SECRET);
    node.signal(Signal::HUP);
    wait("the issuers to count", || Client::connect(node.listen, None).is_err());
    assert_eq!(status(&node, &shared(SECRET, "ann", 9_999_999_999)), 101);
}

#[test]
fn a_node_without_the_keys_that_it_needs_does_not_start() {
    let mounts = Mounts::new(CONFIG);
    mounts.write("jwt/tokens/secret", "hunter2");
    let output = mounts.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("tokens/secret") && said.contains("32 bytes") && !said.contains("hunter2"),
        "{said}"
    );
}
