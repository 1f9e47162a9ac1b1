//! Connections with a token: who gets in, what they may join, how they go on, and how they end.

use std::sync::Arc;

use serde_json::{Value, json};

use super::harness::{Client, REQUEST, Sent, Sim, drain, masked};
use crate::{
    auth::{
        Issuer, Jwt, Keyring,
        tests::{SECRET, keyring, shared, token},
    },
    config::{Auth, NodeConfig, TopicPattern},
    counters::{CloseReason, JoinRefusal, RefuseReason},
    ledger::Kind,
    limits::EXPIRIES_PER_TICK,
    shard::{Event, Mail},
};

const SETTINGS: &str =
    r#"{"algorithms": ["HS256"], "keyFile": "s/k", "leewayMillis": 0, "topics": ["room:1", "room:{sub}:*"]}"#;
/// The time of day when a test begins, in seconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn auth(anonymous: bool) -> Auth {
    Auth {
        anonymous,
        jwt: vec![serde_json::from_str(SETTINGS).expect("settings")],
        keys: keyring(SETTINGS, SECRET),
        ..Auth::default()
    }
}

pub(super) fn sim(auth: Auth) -> Sim {
    let mut sim = Sim::new(1, false, |config| config.auth = auth);
    sim.shards[0].handle(Event::TimeOfDay(NOW * 1_000));
    sim
}

pub(super) fn claims(user: &str, seconds: u64) -> Value {
    json!({"sub": user, "exp": NOW + seconds})
}

/// The answer to a handshake with this token.
pub(super) fn answer(sim: &mut Sim, token: Option<&str>) -> (Client, String) {
    let client = sim.accept(0);
    let header = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{header}\r\n"));
    let answer = sim.http(client, &request);
    (client, answer)
}

pub(super) fn connect(sim: &mut Sim, user: &str, seconds: u64) -> Client {
    let (client, answer) = answer(sim, Some(&shared(&claims(user, seconds))));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client
}

/// Whether the client was let into the room.
pub(super) fn joins(sim: &mut Sim, client: Client, topic: &str) -> bool {
    sim.text(client, &format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
    let answer = sim.texts(client).pop().expect("an answer");
    let refused = answer
        == format!(
            r#"["1","1","{topic}","phx_reply",{{"status":"error","response":{{"reason":"unauthorized"}}}}]"#
        );
    assert!(refused || answer.contains(r#""status":"ok""#), "{answer}");
    !refused
}

/// Gives the server a token on a topic.
pub(super) fn refresh(sim: &mut Sim, client: Client, token: &Value) {
    let payload = json!({"access_token": token});
    sim.text(client, &format!(r#"["1",null,"room:1","access_token",{payload}]"#));
}

#[test]
fn only_who_has_a_good_token_gets_in() {
    let mut sim = sim(auth(false));
    let forged = shared(&claims("ann", 10)).replace('.', ".A");
    let refused = [
        (None, RefuseReason::NoToken),
        (Some(""), RefuseReason::Token),
        (Some("a.b.c"), RefuseReason::Token),
        (Some(&*forged), RefuseReason::Token),
        (Some(&*shared(&claims("ann", 0))), RefuseReason::TokenExpired),
        (Some(&*shared(&json!({"sub": "ann"}))), RefuseReason::Token),
    ]
    .map(|(token, reason)| (token.map(str::to_owned), reason));
    for (token, reason) in refused {
        let before = sim.counters().refused[reason as usize];
        let (_, answer) = answer(&mut sim, token.as_deref());
        assert_eq!(answer, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(sim.counters().refused[reason as usize], before + 1, "{token:?}");
    }
    connect(&mut sim, "ann", 10);
    let counters = sim.counters();
    assert_eq!((counters.opened, counters.accepted), (1, 7));
    sim.check_ledgers();
}

/// Sends a request of long-poll on a connection of its own, and returns the body of the answer.
fn poll(sim: &mut Sim, method: &str, query: &str, headers: &str, body: &str) -> Value {
    let client = sim.accept(0);
    let length = body.len();
    let answer = sim.http(
        client,
        &format!(
            "{method} /socket/longpoll?vsn=2.0.0{query} HTTP/1.1\r\nHost: h\r\n{headers}content-length: {length}\r\n\r\n{body}"
        ),
    );
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn a_long_poll_session_needs_a_token_has_its_rights_and_ends_with_it() {
    let mut sim = sim(auth(false));
    for headers in ["", "X-Phoenix-AuthToken: a.b.c\r\n", "X-Phoenix-AuthToken: \u{e4}\r\n"] {
        assert_eq!(poll(&mut sim, "GET", "", headers, ""), json!({"status": 403}), "{headers}");
    }
    let token = shared(&claims("ann", 10));
    for header in ["X-Phoenix-AuthToken: ", "Authorization: Bearer "] {
        let opened = poll(&mut sim, "GET", "", &format!("{header}{token}\r\n"), "");
        let session = format!("&token={}", opened["token"].as_str().expect("a token"));
        for (topic, status) in [("room:1", "ok"), ("room:ann:1", "ok"), ("room:bob:1", "error")] {
            let join = format!(r#"["1","1","{topic}","phx_join",{{}}]"#);
            assert_eq!(poll(&mut sim, "POST", &session, "", &join), json!({"status": 200}));
            let said = poll(&mut sim, "GET", &session, "", "")["messages"][0].to_string();
            assert!(said.contains(&format!(r#"\"status\":\"{status}\""#)), "{topic}: {said}");
        }
        sim.check_ledgers();
        sim.pass(11_000);
        // With no token of its own this request gets no other session.
        assert_eq!(poll(&mut sim, "GET", &session, "", ""), json!({"status": 410}));
        sim.shards[0].handle(Event::TimeOfDay(NOW * 1_000));
    }
    let counters = sim.counters();
    assert_eq!((counters.closed[CloseReason::Token as usize], counters.poll_sessions), (2, 0));
    assert_eq!(counters.memory[Kind::Identities as usize], 0);
}

/// Phoenix calls the token of a session `token`, and applications call theirs so.
#[test]
fn the_token_of_a_session_and_that_of_an_issuer_may_have_one_name() {
    let mut sim = sim(Auth { token_param: Some("token".to_owned()), ..auth(false) });
    let token = format!("&token={}", shared(&claims("ann", 100)));
    let opened = poll(&mut sim, "GET", &token, "", "");
    assert_eq!(opened["status"], 410, "a new one");
    let session = format!("{token}&token={}", opened["token"].as_str().expect("a token"));
    assert_eq!(
        poll(&mut sim, "POST", &session, "", r#"["1","1","room:ann:1","phx_join",{}]"#)["status"],
        200
    );
    let said = poll(&mut sim, "GET", &session, "", "");
    assert!(said["status"] == 200 && said["messages"][0].to_string().contains("ok"), "{said}");
    assert_eq!(poll(&mut sim, "GET", "&token=a.b.c", "", "")["status"], 403);
    // The token of a session of another process: with the issuer's there is another session, without it none.
    let stale = format!("&token={}", "A".repeat(32));
    assert_eq!(poll(&mut sim, "GET", &stale, "", ""), json!({"status": 410}));
    assert_eq!(poll(&mut sim, "POST", &format!("{token}{stale}"), "", "[]")["status"], 410);
    assert!(poll(&mut sim, "GET", &format!("{token}{stale}"), "", "")["token"].is_string());
    assert_eq!(poll(&mut sim, "GET", "", "", ""), json!({"status": 403}), "it had none");
    sim.pass(20_000);
    assert_eq!(poll(&mut sim, "GET", &session, "", ""), json!({"status": 410}), "its session is gone");
}

#[test]
fn the_subprotocol_and_the_named_parameter_carry_a_token_and_no_other_place_does() {
    let token = shared(&claims("ann", 10));
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, &token);
    let protocol = REQUEST.replace(
        "\r\n\r\n",
        &format!("\r\nSec-WebSocket-Protocol: phoenix, base64url.bearer.phx.{encoded}\r\n\r\n"),
    );
    let query = |name: &str| REQUEST.replace("vsn=2.0.0", &format!("vsn=2.0.0&{name}={token}"));
    for (param, request, taken) in [
        (None, protocol, true),
        (None, query("token"), false),
        (Some("jwt"), query("jwt"), true),
        (Some("jwt"), query("token"), false),
        (None, query("access_token"), false),
    ] {
        let mut sim = sim(Auth { token_param: param.map(str::to_owned), ..auth(false) });
        let client = sim.accept(0);
        let answer = sim.http(client, &request);
        assert_eq!(answer.starts_with("HTTP/1.1 101 "), taken, "{request} {answer}");
        assert!(!answer.contains(&encoded), "{answer}");
    }
}

#[test]
fn a_token_allows_its_topics_and_none_allows_those_of_everybody() {
    let anonymous_topics = vec![TopicPattern("room:open:*".to_owned())];
    let mut sim = sim(Auth { anonymous_topics, ..auth(true) });
    let ann = connect(&mut sim, "ann", 10);
    let (nobody, _) = answer(&mut sim, None);
    for (client, topic, allowed) in [
        (ann, "room:1", true),
        (ann, "room:ann:x", true),
        (ann, "room:bob:x", false),
        (ann, "room:open:x", false),
        (nobody, "room:open:x", true),
        (nobody, "room:1", false),
        (nobody, "room:ann:x", false),
    ] {
        assert_eq!(joins(&mut sim, client, topic), allowed, "{topic}");
    }
    assert_eq!(sim.counters().joins_refused[JoinRefusal::Unauthorized as usize], 4);
    sim.text(ann, r#"["1","2","other","phx_join",{}]"#);
    assert!(sim.texts(ann)[0].contains("unmatched topic"), "what is not served is not served to anybody");
    sim.text(ann, r#"["1","3","$cluster","phx_join",{}]"#);
    assert!(
        sim.texts(ann)[0].contains(r#""status":"ok""#),
        "the node's own topics are not the token's to give"
    );
    // A bad token is not the same as none.
    let (_, refused) = answer(&mut sim, Some("a.b.c"));
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[test]
fn a_token_bounds_where_its_holder_publishes() {
    let settings = r#"{"algorithms": ["HS256"], "keyFile": "s/k", "publish": ["room:{sub}:*"]}"#;
    let keys = keyring(settings, SECRET);
    let jwt = vec![serde_json::from_str(settings).expect("settings")];
    let mut sim = sim(Auth { jwt, keys, ..auth(true) });
    let ann = connect(&mut sim, "ann", 10);
    let (nobody, _) = answer(&mut sim, None);
    for client in [ann, nobody] {
        sim.join(client, "room:ann:1", "1");
        sim.join(client, "room:2", "1");
    }
    sim.text(ann, r#"["1","2","room:ann:1","m",{}]"#);
    assert_eq!((sim.texts(ann).len(), sim.texts(nobody).len()), (1, 1));
    sim.text(ann, r#"["1","3","room:2","m",{}]"#);
    let refused = sim.texts(ann);
    assert!(refused[0].contains("publish not allowed"), "{refused:?}");
    sim.text(ann, r#"["1","4","room:2","echo",{"x":1}]"#);
    assert!(sim.texts(ann)[0].contains(r#"{"x":1}"#), "only what others hear is bounded");
    sim.text(nobody, r#"["1","5","room:2","m",{}]"#);
    assert_eq!((sim.texts(ann).len(), sim.texts(nobody).len()), (1, 1), "its rooms' policies decide");
    assert_eq!(sim.counters().publish_refused, 1);
}

#[test]
fn a_connection_ends_with_its_token() {
    let mut sim = sim(auth(true));
    let (ann, bob) = (connect(&mut sim, "ann", 10), connect(&mut sim, "bob", 20));
    let (nobody, _) = answer(&mut sim, None);
    for client in [ann, bob, nobody] {
        sim.join(client, "room:1", "1");
    }
    sim.pass(9_900);
    assert!(sim.sent(ann).is_empty());
    sim.pass(350);
    assert_eq!(sim.sent(ann), [Sent::Close(4001)]);
    // What it says until it has read that is not taken any more.
    sim.text(ann, r#"["1","2","room:1","late",{}]"#);
    assert!(sim.sent(bob).is_empty() && sim.sent(nobody).is_empty());
    assert_eq!(sim.counters().closed[CloseReason::Token as usize], 1);
    sim.bytes(ann, &masked(0x88, &4001u16.to_be_bytes()));
    sim.pass(10_000);
    assert_eq!((sim.sent(bob), sim.sent(nobody)), (vec![Sent::Close(4001)], vec![]));
    sim.bytes(bob, &masked(0x88, &4001u16.to_be_bytes()));
    assert_eq!(sim.closed.len(), 2);
    assert_eq!(sim.shards[0].held_by_kind()[Kind::Identities as usize], 0);
}

/// The clock of a machine may be set, and a token ends by the clock.
#[test]
fn the_time_of_day_is_the_clocks() {
    let mut sim = sim(auth(false));
    let ann = connect(&mut sim, "ann", 100);
    sim.shards[0].handle(Event::TimeOfDay((NOW - 50) * 1_000));
    sim.pass(20_000);
    assert!(sim.sent(ann).is_empty());
    sim.shards[0].handle(Event::TimeOfDay((NOW + 100) * 1_000));
    sim.pass(250);
    assert_eq!(sim.sent(ann), [Sent::Close(4001)]);
}

#[test]
fn another_token_of_the_same_user_takes_the_place_of_the_first() {
    let mut sim = sim(auth(false));
    let (ann, bob) = (connect(&mut sim, "ann", 10), connect(&mut sim, "bob", 100));
    sim.join(ann, "room:1", "1");
    sim.join(bob, "room:1", "1");
    refresh(&mut sim, ann, &json!(shared(&claims("ann", 30))));
    refresh(&mut sim, ann, &Value::Null);
    refresh(&mut sim, ann, &json!(7));
    sim.pass(20_000);
    assert!(sim.sent(ann).is_empty() && sim.sent(bob).is_empty(), "no answer, and nobody else sees it");
    sim.check_ledgers();
    sim.pass(10_250);
    assert_eq!(sim.sent(ann), [Sent::Close(4001)], "the second one ended");
    let other = json!(shared(&claims("ann", 1_000)));
    let ended = json!(shared(&claims("bob", 1)));
    for token in [other, ended, json!("a.b.c"), json!("")] {
        let bob = connect(&mut sim, "bob", 100);
        sim.join(bob, "room:1", "1");
        refresh(&mut sim, bob, &token);
        assert_eq!(sim.sent(bob), [Sent::Close(4001)], "{token}");
    }
    assert_eq!(sim.counters().access_tokens, 7);
    assert!(sim.sent(bob).is_empty());
}

#[test]
fn a_token_that_comes_again_is_not_verified_again_until_something_changes() {
    let mut sim = sim(auth(false));
    let counts = |sim: &mut Sim| (sim.counters().token_cache_hits, sim.counters().token_cache_misses);
    let ann = connect(&mut sim, "ann", 10);
    assert_eq!(counts(&mut sim), (0, 1));
    let again = connect(&mut sim, "ann", 10);
    assert_eq!(counts(&mut sim), (1, 1));
    assert!(
        joins(&mut sim, again, "room:ann:x") && !joins(&mut sim, again, "room:bob:x"),
        "its rights are the same"
    );
    sim.join(ann, "room:1", "1");
    refresh(&mut sim, ann, &json!(shared(&claims("ann", 10))));
    assert_eq!(counts(&mut sim), (2, 1));
    // One letter more is another token.
    let forged = shared(&claims("ann", 10)) + "A";
    assert!(answer(&mut sim, Some(&forged)).1.starts_with("HTTP/1.1 403 "));
    assert!(answer(&mut sim, Some(&forged)).1.starts_with("HTTP/1.1 403 "));
    assert_eq!(counts(&mut sim), (2, 3), "what is refused is not remembered");
    sim.check_ledgers();

    let config = NodeConfig { auth: auth(false), ..NodeConfig::dev() };
    sim.shards[0].handle(Event::Mail(Mail::Reload(Arc::new(config))));
    connect(&mut sim, "ann", 10);
    assert_eq!(counts(&mut sim), (2, 4), "other keys know no token");
    sim.pass(10_250);
    assert!(answer(&mut sim, Some(&shared(&claims("ann", 10)))).1.starts_with("HTTP/1.1 403 "));
    assert_eq!(sim.counters().refused[RefuseReason::TokenExpired as usize], 1);
}

/// The keys of an issuer are fetched, and the issuer is away.
#[test]
fn where_keys_cannot_be_had_the_known_go_on_and_the_unknown_are_to_come_again() {
    let mut sim = sim(auth(false));
    let ann = connect(&mut sim, "ann", 10);
    sim.join(ann, "room:1", "1");
    let away = r#"{"algorithms": ["ES256"], "jwks": {"url": "https://id.example/keys"}}"#;
    let settings: Jwt = serde_json::from_str(away).expect("settings");
    let keys = Keyring::new(vec![Issuer::fetched(&settings, None, Arc::default()).expect("no keys")]);
    let auth = Auth { jwt: vec![settings], keys, ..Auth::default() };
    let config = NodeConfig { auth, ..NodeConfig::dev() };
    sim.shards[0].handle(Event::Mail(Mail::Reload(Arc::new(config))));
    let fresh = token(r#"{"alg":"ES256"}"#, &claims("ann", 99).to_string(), |_| vec![1; 64]);
    let (_, answer) = answer(&mut sim, Some(&fresh));
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\n"), "{answer}");
    assert_eq!(sim.counters().refused[RefuseReason::NoKeys as usize], 1);
    refresh(&mut sim, ann, &json!(fresh));
    assert!(sim.sent(ann).is_empty(), "it has the token that it came with");
    sim.pass(10_250);
    assert_eq!(sim.sent(ann), [Sent::Close(4001)], "until that one ends");
}

#[test]
fn a_token_of_a_connection_that_came_without_one_changes_nothing() {
    let mut sim = sim(auth(true));
    let (nobody, _) = answer(&mut sim, None);
    sim.join(nobody, "room:1", "1");
    for token in [shared(&claims("ann", 10)), "a.b.c".to_owned()] {
        refresh(&mut sim, nobody, &json!(token));
    }
    sim.pass(20_000);
    assert!(sim.sent(nobody).is_empty());
}

#[test]
fn tokens_that_end_together_end_their_connections_a_bounded_number_at_a_time() {
    let mut sim = sim(auth(false));
    let token = shared(&claims("ann", 10));
    let count = EXPIRIES_PER_TICK + 10;
    for _ in 0..count {
        let (_, answer) = answer(&mut sim, Some(&token));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
    sim.pass(10_000);
    let closed = |sim: &mut Sim| sim.counters().closed[CloseReason::Token as usize] as usize;
    assert_eq!(closed(&mut sim), EXPIRIES_PER_TICK);
    sim.pass(250);
    assert_eq!(closed(&mut sim), count);
}

#[test]
fn a_token_that_ends_while_the_connection_is_asked_to_go_gives_no_more_rights() {
    let mut sim = sim(auth(false));
    let ann = connect(&mut sim, "ann", 1);
    sim.shards[0].handle(drain(1));
    sim.settle();
    assert_eq!(sim.sent(ann), [Sent::Close(1012)]);
    sim.pass(1_500);
    sim.text(ann, r#"["1","1","room:1","phx_join",{}]"#);
    assert_eq!(sim.counters().joins, 0);
}
