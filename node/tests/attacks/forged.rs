//! Thousands of connections with tokens that nobody signed who may, and with good ones of thousands of users.

use std::{fs, sync::OnceLock};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use node::token_keys::KeyWatch;
use node_core::{
    config::NodeConfig,
    counters::{CloseReason, RefuseReason},
};

use super::{CONNECTIONS, KIND, Manner, door::handshake, forgery, join, refused, run, text};

/// There are issuers, and the pair is there without a token.
fn of_issuers(config: &mut NodeConfig) {
    let directory = std::env::temp_dir().join(format!("channel-node-forged-{:x}", rand::random::<u64>()));
    fs::create_dir_all(directory.join("tokens")).expect("a directory");
    for (name, content) in forgery::files() {
        fs::write(directory.join("tokens").join(name), content).expect("written");
    }
    config.auth.jwt = serde_json::from_str(forgery::ISSUERS).expect("issuers");
    KeyWatch::start(&directory, &mut config.auth).expect("keys");
    fs::remove_dir_all(directory).ok();
}

/// A handshake with this token.
fn with(token: &str) -> Vec<u8> {
    handshake(&format!("authorization: Bearer {token}\r\n"))
}

fn forged(number: usize) -> &'static str {
    let all = forgery::all();
    &all[number % all.len()].1
}

/// Each attacker is refused for its token.
fn is_refused(name: &'static str, once: fn(usize) -> Vec<u8>) {
    let counters = run(&Manner { name, handshake: false, group: 1, once, change: of_issuers, ..KIND });
    let reasons = [RefuseReason::Token, RefuseReason::TokenExpired];
    let for_tokens: usize = reasons.map(|reason| refused(&counters, reason)).iter().sum();
    assert_eq!((for_tokens, counters.opened), (CONNECTIONS, 2), "{name}: {:?}", counters.refused);
}

#[test]
fn forged_tokens() {
    is_refused("forged tokens", |number| with(forged(number)));
}

#[test]
fn forged_tokens_among_subprotocols() {
    is_refused("forged tokens among subprotocols", |number| {
        let token = STANDARD_NO_PAD.encode(forged(number));
        handshake(&format!("sec-websocket-protocol: phoenix, base64url.bearer.phx.{token}\r\n"))
    });
}

#[test]
fn forged_tokens_of_long_poll() {
    is_refused("forged tokens of long-poll", |number| {
        let token = forged(number);
        format!("GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\nx-phoenix-authtoken: {token}\r\n\r\n")
            .into_bytes()
    });
}

/// No signature is seen twice, so that each is verified.
#[test]
fn another_forged_token_each() {
    is_refused("another forged token each", |number| {
        static GOOD: OnceLock<[String; 3]> = OnceLock::new();
        let [rsa, ..] = GOOD.get_or_init(forgery::good);
        let (signed, signature) = rsa.rsplit_once('.').expect("a signature");
        with(&format!("{signed}.{number:08}{}", &signature[8..]))
    });
}

/// Each attacker came with a good token, and wants another one in its place.
#[test]
fn forged_tokens_in_the_place_of_good_ones() {
    let once = |number: usize| {
        let token = serde_json::to_string(forged(number)).expect("text");
        let push = format!(r#"["1","2","room:x","access_token",{{"access_token":{token}}}]"#);
        [with(&forgery::shared_token("ann")), join("room:x", "1"), text(&push)].concat()
    };
    let name = "forged tokens in the place of good ones";
    let counters = run(&Manner { name, handshake: false, group: 1, once, change: of_issuers, ..KIND });
    assert_eq!(counters.closed[CloseReason::Token as usize] as usize, CONNECTIONS, "{:?}", counters.closed);
}

/// Good tokens fill the memory of verified ones, and the identities of connections have names of 200 bytes.
#[test]
fn thousands_of_users_with_long_names() {
    let once = |number: usize| with(&forgery::shared_token(&format!("{number}-{}", "n".repeat(200))));
    let name = "thousands of users with long names";
    let counters = run(&Manner { name, handshake: false, group: 1, once, change: of_issuers, ..KIND });
    assert_eq!(counters.opened as usize, 2 + CONNECTIONS);
}
