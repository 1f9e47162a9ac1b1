//! Rooms whose members speak Supabase's Realtime.

use super::harness::{Client, Sent, Sim, masked, remote};
use crate::{
    auth::tests::{SECRET, keyring, shared},
    broadcast::{Broadcast, Content},
    config::{Auth, Dialect, Policy, Publish, TopicPattern},
    counters::CloseReason,
    protocol::Payload,
    shard::Event,
};

const SAID: &str = r#"{"type":"broadcast","event":"move","payload":{"x":1}}"#;
const UNREADABLE: &str = "payload must be an object with an event";

/// Joins `realtime:1` with these options, as text of V2.
fn join(sim: &mut Sim, client: Client, broadcast: &str) {
    let config =
        format!(r#"{{"config":{{"broadcast":{broadcast},"presence":{{"enabled":true}},"private":true}}}}"#);
    sim.text(client, &format!(r#"["1","1","realtime:1","phx_join",{config}]"#));
    let joined = r#"["1","1","realtime:1","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#;
    assert_eq!(sim.texts(client), [joined]);
}

/// A member that speaks V1.
fn old_member(sim: &mut Sim, shard: usize) -> Client {
    let client = sim.connect_to(shard, "1.0.0");
    sim.text(client, r#"{"topic":"realtime:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert!(sim.texts(client)[0].contains(r#"{"postgres_changes":[]}"#));
    client
}

/// A user broadcast push with the refs 1 and 2.
fn user_push(topic: &str, event: &str, encoding: u8, data: &[u8]) -> Vec<u8> {
    let head = [3, 1, 1, topic.len() as u8, event.len() as u8, 0, encoding];
    masked(0x82, &[&head[..], b"12", topic.as_bytes(), event.as_bytes(), data].concat())
}

/// The user broadcast of the event `move` in `realtime:1` that members of V2 get.
fn user_broadcast(encoding: u8, data: &[u8]) -> Sent {
    Sent::Binary([&[4, 10, 4, 0, encoding][..], b"realtime:1move", data].concat())
}

fn text(text: &str) -> Sent {
    Sent::Text(text.to_owned())
}

fn refused(reason: &str) -> String {
    format!(r#"["1","2","realtime:1","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#)
}

#[test]
fn members_hear_themselves_and_get_answers_only_when_they_asked() {
    let mut sim = Sim::dev();
    let reply = r#"["1","2","realtime:1","phx_reply",{"status":"ok","response":{}}]"#;
    let said = format!(r#"[null,null,"realtime:1","broadcast",{SAID}]"#);
    for (asked, hears_itself, acknowledged) in [
        ("{}", false, false),
        (r#"{"self":true}"#, true, false),
        (r#"{"ack":true}"#, false, true),
        (r#"{"self":true,"ack":true}"#, true, true),
    ] {
        let (speaker, listener) = (sim.connect(), sim.connect());
        join(&mut sim, speaker, asked);
        join(&mut sim, listener, "{}");
        let bytes = user_push("realtime:1", "move", 1, br#"{"x":1}"#);
        for (bytes, heard) in [
            (masked(0x81, format!(r#"["1","2","realtime:1","broadcast",{SAID}]"#).as_bytes()), text(&said)),
            (bytes, user_broadcast(1, br#"{"x":1}"#)),
        ] {
            sim.bytes(speaker, &bytes);
            let mut expected = vec![heard.clone(); usize::from(hears_itself)];
            expected.extend(acknowledged.then(|| text(reply)));
            assert_eq!(sim.sent(speaker), expected, "{asked}");
            assert_eq!(sim.sent(listener), [heard]);
        }
        // The options of a new join count from then on, and a leave of others changes nothing about them.
        sim.lose(listener);
        sim.text(speaker, r#"["5","5","realtime:1","phx_join",{"config":{"broadcast":{"self":true}}}]"#);
        assert_eq!(sim.texts(speaker).len(), 2, "the reply, and the end of the channel before");
        sim.text(speaker, &format!(r#"[null,"6","realtime:1","broadcast",{SAID}]"#));
        assert_eq!(sim.sent(speaker), [text(&said)]);
        sim.lose(speaker);
    }
}

#[test]
fn each_version_gets_the_form_that_it_can_read_on_every_shard() {
    let mut sim = Sim::new(2, false, |_| {});
    let speaker = sim.connect();
    join(&mut sim, speaker, r#"{"ack":true}"#);
    let members: Vec<_> = (0..2)
        .map(|shard| {
            let new = sim.connect_to(shard, "2.0.0");
            join(&mut sim, new, "{}");
            (new, old_member(&mut sim, shard))
        })
        .collect();
    sim.bytes(speaker, &user_push("realtime:1", "move", 1, br#" {"x":1}"#));
    for (new, old) in &members {
        assert_eq!(sim.sent(*new), [user_broadcast(1, br#" {"x":1}"#)]);
        let payload = r#"{"type":"broadcast","event":"move","payload": {"x":1}}"#;
        assert_eq!(
            sim.texts(*old),
            [format!(r#"{{"topic":"realtime:1","event":"broadcast","payload":{payload},"ref":null}}"#)]
        );
    }
    assert!(sim.texts(speaker)[0].contains(r#""response":{}"#));
    // Bytes are for V2 alone: one member on the sender's shard misses them.
    sim.bytes(speaker, &user_push("realtime:1", "move", 0, b"\xff\x00"));
    for (new, old) in &members {
        assert_eq!((sim.sent(*new), sim.sent(*old)), (vec![user_broadcast(0, b"\xff\x00")], vec![]));
    }
    assert!(sim.texts(speaker)[0].contains(r#""response":{"undelivered":1}"#));
    // What a client of V1 says goes to all as text.
    let old = members[0].1;
    sim.text(old, &format!(r#"{{"topic":"realtime:1","event":"broadcast","payload":{SAID},"ref":"2"}}"#));
    assert_eq!(sim.sent(members[1].0), [text(&format!(r#"[null,null,"realtime:1","broadcast",{SAID}]"#))]);
    assert_eq!((sim.sent(old), sim.counters().publishes), (vec![], 3));
}

#[test]
fn what_members_could_not_read_is_refused() {
    let mut sim = Sim::dev();
    let (client, other) = (sim.connect(), sim.connect());
    join(&mut sim, client, "{}");
    join(&mut sim, other, "{}");
    for (event, payload, reason) in [
        ("broadcast", "{}", UNREADABLE),
        ("broadcast", r#"{"event":5}"#, UNREADABLE),
        ("broadcast", r#"{"event":"a","ids":[]}"#, UNREADABLE),
        ("broadcast", r#"["a"]"#, UNREADABLE),
        ("presence", r#"{"type":"presence","event":"track","payload":{}}"#, "presence is not served"),
        ("presence_diff", "{}", "event not allowed"),
        ("move", "{}", "event not allowed"),
        ("echo", "{}", "event not allowed"),
        ("broadcast_ack", SAID, "event not allowed"),
    ] {
        sim.text(client, &format!(r#"["1","2","realtime:1","{event}",{payload}]"#));
        assert_eq!(sim.texts(client), [refused(reason)], "{event} {payload}");
    }
    // A binary push of Phoenix: realtime-js would raise in each member.
    sim.bytes(client, &masked(0x82, b"\0\x01\x01\x0a\x0912realtime:1broadcast{}"));
    assert_eq!(sim.texts(client), [refused(UNREADABLE)]);
    assert_eq!((sim.sent(other), sim.counters().publishes), (vec![], 0));
    sim.text(client, r#"["1","2","realtime:1","phx_reply",{}]"#);
    assert_eq!(sim.texts(client), [r#"["1","1","realtime:1","phx_error",{"reason":"channel_crash"}]"#]);
}

#[test]
fn user_broadcasts_are_part_of_the_protocol_in_such_topics_alone() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.bytes(client, &user_push("realtime:1", "move", 1, b"{}"));
    assert_eq!(
        sim.texts(client),
        [r#"[null,"2","realtime:1","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#]
    );
    join(&mut sim, client, "{}");
    // An event of a user steers nothing, whatever its name is; an old channel's is dropped.
    for event in ["phx_leave", "phx_join", "access_token", "phx_close", ""] {
        sim.bytes(client, &user_push("realtime:1", event, 1, b"null"));
    }
    sim.bytes(client, &masked(0x82, b"\x03\x01\x01\x0a\x04\0\x0192realtime:1move{}"));
    assert_eq!((sim.sent(client), sim.counters().publishes), (vec![], 5));
    sim.join(client, "room:1", "1");
    for topic in ["room:1", "phoenix", "$cluster", "elsewhere", ""] {
        let client = sim.connect();
        sim.bytes(client, &user_push(topic, "heartbeat", 1, b"{}"));
        assert_eq!(
            sim.sent(client),
            [Sent::Close(1011)],
            "{topic}: as Phoenix, which does not know the kind"
        );
    }
    assert_eq!(sim.counters().closed[CloseReason::Malformed as usize], 5);
}

#[test]
fn policies_and_tokens_are_about_the_events_of_users() {
    const SETTINGS: &str =
        r#"{"algorithms": ["HS256"], "keyFile": "s/k", "topics": ["*"], "publish": ["realtime:{sub}"]}"#;
    let token = |user: &str| shared(&serde_json::json!({"sub": user, "exp": 1_800_000_060}));
    let mut sim = Sim::new(1, false, |config| {
        config.auth = Auth {
            anonymous: true,
            jwt: vec![serde_json::from_str(SETTINGS).expect("settings")],
            keys: keyring(SETTINGS, SECRET),
            token_param: Some("apikey".to_owned()),
            ..Auth::default()
        };
        let policy = |topics: &str| Policy {
            dialect: Some(Dialect::Realtime),
            ..Policy::of(TopicPattern(topics.to_owned()))
        };
        config.rooms.policies = vec![
            Policy { publish: Some(Publish::Nobody), ..policy("realtime:news") },
            Policy { events: Some(vec!["move".to_owned()]), ..policy("realtime:*") },
        ];
    });
    sim.shards[0].handle(Event::TimeOfDay(1_800_000_000_000));
    let client = sim.connect_to(0, &format!("2.0.0&apikey={}", token("1")));
    for topic in ["realtime:1", "realtime:2", "realtime:news"] {
        // The token of the join is about the same user.
        let payload = format!(r#"{{"access_token":"{}"}}"#, token("1"));
        sim.text(client, &format!(r#"["1","1","{topic}","phx_join",{payload}]"#));
        assert!(sim.texts(client)[0].contains("ok"), "{topic}");
    }
    for (topic, event, reason) in [
        ("realtime:1", "move", None),
        ("realtime:1", "moved", Some("event not allowed")),
        ("realtime:2", "move", Some("publish not allowed")),
        ("realtime:news", "move", Some("publish not allowed")),
    ] {
        sim.bytes(client, &user_push(topic, event, 1, b"{}"));
        let answers = sim.texts(client);
        assert_eq!(answers.first().map(|text| text.contains(reason.unwrap_or("?"))), reason.map(|_| true));
        sim.text(client, &format!(r#"["1","2","{topic}","broadcast",{{"event":"{event}"}}]"#));
        assert_eq!(sim.texts(client), answers, "both forms are alike");
    }
    let payload = format!(r#"{{"access_token":"{}"}}"#, token("2"));
    sim.text(client, &format!(r#"["2","2","realtime:1","phx_join",{payload}]"#));
    assert_eq!(sim.sent(client), [Sent::Close(4001)], "nobody vouches for this connection any more");
}

#[test]
fn other_nodes_cannot_say_what_members_could_not_read() {
    let mut sim = Sim::dev();
    let (realtime, plain) = (sim.connect(), sim.connect());
    join(&mut sim, realtime, "{}");
    sim.join(plain, "room:1", "1");
    let mut say = |topic, event, payload| {
        let packed = Broadcast::pack(&Content { topic, event, payload }).expect("short names");
        sim.shards[0].handle(remote(packed, false));
        sim.settle();
        (sim.sent(realtime), sim.sent(plain))
    };
    assert_eq!(say("realtime:1", "move", Payload::UserJson("1")).0, [user_broadcast(1, b"1")]);
    assert_eq!(say("realtime:1", "broadcast", Payload::Json(SAID)).0.len(), 1);
    assert_eq!(say("room:1", "broadcast", Payload::Json("{}")).1.len(), 1);
    for (topic, event, payload) in [
        ("realtime:1", "broadcast", Payload::Json("{}")),
        ("realtime:1", "move", Payload::Json(SAID)),
        ("realtime:1", "broadcast", Payload::Binary(b"{}")),
        ("room:1", "move", Payload::UserJson("{}")),
        ("room:1", "move", Payload::UserBinary(b"")),
    ] {
        assert_eq!(say(topic, event, payload), (vec![], vec![]), "{topic} {event} {payload:?}");
    }
    assert_eq!(sim.counters().malformed_messages, 5);
}
