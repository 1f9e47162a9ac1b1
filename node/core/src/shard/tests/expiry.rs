//! The end of tokens on open connections: the warning before it, and what goes on without a token until another one comes.

use serde_json::{Value, json};

use super::{
    harness::{Client, Sent, Sim},
    tokens::{NOW, answer, auth, claims, connect, joins, refresh},
};
use crate::{
    auth::tests::shared,
    config::{Auth, NodeConfig, OnExpiry},
    counters::JoinRefusal,
    shard::{Event, Mail},
};

fn sim(auth: Auth) -> Sim {
    let mut sim = Sim::new(1, false, |config| config.auth = auth);
    sim.shards[0].handle(Event::TimeOfDay(NOW * 1_000));
    sim
}

fn warned(lead_millis: u64, on_expiry: OnExpiry) -> Auth {
    Auth { expiry_warning_millis: Some(lead_millis), on_expiry, ..auth(true) }
}

/// Milliseconds in the one warning that the client got since the last look, if it got one.
fn warning(sim: &mut Sim, client: Client) -> Option<u64> {
    let texts = sim.texts(client);
    assert!(texts.len() < 2, "{texts:?}");
    let message: Value = serde_json::from_str(texts.first()?).expect("JSON");
    assert_eq!((&message[0], &message[1], &message[2]), (&Value::Null, &Value::Null, &json!("phoenix")));
    assert_eq!(message[3], "token_expiring");
    message[4]["expires_in_ms"].as_u64()
}

/// Joins with a token in the payload; whether the client was let in.
fn joins_with(sim: &mut Sim, client: Client, topic: &str, token: &str) -> bool {
    let payload = json!({"access_token": token, "more": [1]});
    sim.text(client, &format!(r#"["7","7","{topic}","phx_join",{payload}]"#));
    let answer = sim.texts(client).pop().expect("an answer");
    answer.contains(r#""status":"ok""#)
}

#[test]
fn a_client_is_told_once_before_its_token_ends_and_again_for_the_next_one() {
    let mut sim = sim(warned(5_000, OnExpiry::Close));
    let ann = connect(&mut sim, "ann", 20);
    let (nobody, _) = answer(&mut sim, None);
    sim.join(ann, "room:1", "1");
    sim.pass(14_500);
    assert_eq!(warning(&mut sim, ann), None);
    sim.pass(750);
    let left = warning(&mut sim, ann).expect("a warning");
    assert!((4_500..=5_000).contains(&left), "{left}");
    sim.pass(2_000);
    assert_eq!(warning(&mut sim, ann), None, "once");
    refresh(&mut sim, ann, &json!(shared(&claims("ann", 30))));
    sim.pass(7_000);
    assert_eq!(warning(&mut sim, ann), None, "the other one ends later");
    sim.pass(1_500);
    assert!(warning(&mut sim, ann).is_some());
    sim.pass(5_000);
    assert_eq!(sim.sent(ann), [Sent::Close(4001)]);
    // One that ends within the time is told at once.
    let late = connect(&mut sim, "bob", 34);
    sim.pass(500);
    assert!(warning(&mut sim, late).is_some());
    assert!(sim.sent(nobody).is_empty(), "it has no token");
    assert_eq!((sim.counters().token_warnings, sim.counters().tokens_expired), (3, 1));
    sim.check_ledgers();
}

#[test]
fn another_lead_time_counts_for_tokens_that_are_there() {
    let mut sim = sim(auth(false));
    let ann = connect(&mut sim, "ann", 20);
    sim.pass(1_000);
    let config = NodeConfig { auth: warned(60_000, OnExpiry::Close), ..NodeConfig::dev() };
    sim.shards[0].handle(Event::Mail(Mail::Reload(config.into())));
    sim.pass(500);
    assert!(warning(&mut sim, ann).is_some());
}

#[test]
fn channels_end_with_the_token_and_come_back_with_another_one() {
    let mut sim = sim(Auth { on_expiry: OnExpiry::EndChannels, ..auth(true) });
    let ann = connect(&mut sim, "ann", 10);
    let bob = connect(&mut sim, "bob", 100);
    sim.join(ann, "room:1", "1");
    sim.join(ann, "room:ann:x", "2");
    sim.join(bob, "room:1", "1");
    sim.pass(10_250);
    let mut ends = sim.texts(ann);
    ends.sort();
    let end = |topic: &str, join_ref: &str| {
        format!(r#"["{join_ref}","{join_ref}","{topic}","phx_error",{{"reason":"token_expired"}}]"#)
    };
    assert_eq!(ends, [end("room:1", "1"), end("room:ann:x", "2")]);
    assert!(sim.sent(bob).is_empty());
    sim.text(bob, r#"["1","2","room:1","say",{}]"#);
    assert!(sim.texts(ann).is_empty(), "it is no member any more");
    sim.sent(bob);

    // Everybody may join room:1 here without a token, but not who had one that has ended.
    sim.text(ann, r#"["1","1","room:1","phx_join",{}]"#);
    let error = r#"{"status":"error","response":{"reason":"token_expired"}}"#;
    assert_eq!(sim.texts(ann), [format!(r#"["1","1","room:1","phx_reply",{error}]"#)]);
    // With the old token in the join it is told the same, as often as it tries.
    for _ in 0..2 {
        assert!(!joins_with(&mut sim, ann, "room:1", &shared(&claims("ann", 10))));
    }
    assert_eq!(sim.counters().joins_refused[JoinRefusal::TokenExpired as usize], 3);
    sim.text(ann, r#"[null,"9","phoenix","heartbeat",{}]"#);
    assert_eq!(sim.texts(ann).len(), 1, "the connection goes on");

    let fresh = shared(&claims("ann", 30));
    assert!(joins_with(&mut sim, ann, "room:1", &fresh), "its token counts for this join already");
    assert!(joins(&mut sim, ann, "room:ann:x"));
    assert_eq!(sim.counters().tokens_expired, 1);
    sim.pass(20_000);
    assert_eq!(sim.texts(ann).len(), 2, "the second one ended");
    let payload = json!({"access_token": shared(&claims("bob", 90))});
    sim.text(ann, &format!(r#"["7","7","room:1","phx_join",{payload}]"#));
    assert_eq!(sim.sent(ann), [Sent::Close(4001)], "somebody else's token");
    sim.check_ledgers();
}

#[test]
fn a_join_may_bring_a_token_whose_rights_count_from_then_on() {
    let mut sim = sim(auth(false));
    let ann = connect(&mut sim, "ann", 10);
    assert!(joins_with(&mut sim, ann, "room:1", &shared(&claims("ann", 30))));
    sim.pass(15_000);
    assert!(sim.sent(ann).is_empty(), "the first one has ended, and does not count any more");
    for bad in [shared(&claims("bob", 90)), shared(&claims("ann", 1)), "a.b.c".to_owned()] {
        let ann = connect(&mut sim, "ann", 90);
        let payload = json!({"access_token": bad});
        sim.text(ann, &format!(r#"["7","7","room:1","phx_join",{payload}]"#));
        assert_eq!(sim.sent(ann), [Sent::Close(4001)], "{bad}");
    }
    // Without a token at the connect nothing is looked for, so that an application may call its own things so.
    let mut open = self::sim(auth(true));
    let (nobody, _) = answer(&mut open, None);
    assert!(joins_with(&mut open, nobody, "room:1", "whatever"));
    assert_eq!(open.counters().token_cache_misses, 0);
}
