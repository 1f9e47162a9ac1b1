//! Topics, events and payloads that are longer, or nested deeper, than the configuration allows.

use super::harness::{Client, Sent, Sim, masked};
use crate::{
    config::{Limits, NodeConfig},
    counters::{JoinRefusal, Limit},
    limits::MAX_JSON_DEPTH,
    shard::{Event, Mail},
};

fn limited(change: impl FnOnce(&mut Limits)) -> (Sim, [Client; 2]) {
    let mut sim = Sim::new(1, false, |config| change(&mut config.limits));
    let clients = [sim.connect(), sim.connect()];
    clients.iter().for_each(|client| sim.join(*client, "room:1", "1"));
    (sim, clients)
}

/// The reason of the one answer that the client of an event gets; none when the event is broadcast.
fn refusal(sim: &mut Sim, [from, to]: [Client; 2], event: &str, payload: &str) -> Option<String> {
    sim.text(from, &format!(r#"["1","2","room:1","{event}",{payload}]"#));
    let (answers, heard) = (sim.texts(from), sim.texts(to));
    let is_refused = answers[0].contains("phx_reply");
    assert_eq!((answers.len(), heard.len()), (1, usize::from(!is_refused)));
    let answer: serde_json::Value = serde_json::from_str(&answers[0]).expect("JSON");
    (answer[3] == "phx_reply").then(|| answer[4]["response"]["reason"].as_str().expect("a reason").to_owned())
}

fn nested(levels: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

fn near(sim: &mut Sim, limit: Limit) -> u64 {
    sim.counters().near[limit as usize]
}

#[test]
fn a_topic_may_be_as_long_as_the_limit_and_is_counted_from_80_percent_on() {
    let (mut sim, [client, _]) = limited(|limits| limits.max_topic_bytes = 20);
    let topic = |bytes: usize| format!("room:{}", "x".repeat(bytes - 5));
    sim.join(client, &topic(15), "2");
    assert_eq!(near(&mut sim, Limit::Topic), 0);
    sim.join(client, &topic(16), "3");
    sim.join(client, &topic(20), "4");
    assert_eq!(near(&mut sim, Limit::Topic), 2);
    for bytes in [21, 255, 300] {
        sim.text(client, &format!(r#"["5","5","{}","phx_join",{{}}]"#, topic(bytes)));
        let answers = sim.texts(client);
        assert!(answers.len() == 1 && answers[0].contains(r#""reason":"topic too long""#), "{answers:?}");
    }
    assert_eq!(sim.counters().joins_refused[JoinRefusal::TopicTooLong as usize], 3);
}

#[test]
fn an_event_may_be_as_long_as_the_limit_and_protocol_events_do_not_count() {
    let (mut sim, clients) = limited(|limits| limits.max_event_bytes = 20);
    let event = |bytes| "e".repeat(bytes);
    assert_eq!(refusal(&mut sim, clients, &event(15), "{}"), None);
    assert_eq!(near(&mut sim, Limit::Event), 0);
    assert_eq!(refusal(&mut sim, clients, &event(20), "{}"), None);
    assert_eq!(near(&mut sim, Limit::Event), 1);
    assert_eq!(refusal(&mut sim, clients, &event(21), "{}").as_deref(), Some("event name too long"));
    let counters = sim.counters();
    assert_eq!((counters.publish_refused, counters.beyond_limit), (1, 1));
}

#[test]
fn a_payload_may_be_as_long_as_the_limit() {
    let (mut sim, clients) = limited(|limits| limits.max_payload_bytes = 100);
    let payload = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!(refusal(&mut sim, clients, "m", &payload(79)), None);
    assert_eq!(near(&mut sim, Limit::Payload), 0);
    assert_eq!(refusal(&mut sim, clients, "m", &payload(100)), None);
    assert_eq!(near(&mut sim, Limit::Payload), 1);
    assert_eq!(refusal(&mut sim, clients, "m", &payload(101)).as_deref(), Some("payload too large"));
    // Bytes are as long as they are.
    let [from, to] = clients;
    for (bytes, heard) in [(100, 1), (101, 0)] {
        let push = [&[0, 1, 1, 6, 1][..], b"12room:1m", &vec![0xff; bytes]].concat();
        sim.bytes(from, &masked(0x82, &push));
        assert_eq!(sim.sent(to).len(), heard, "{bytes}");
    }
    let answer = sim.sent(from).pop().expect("an answer");
    assert!(matches!(answer, Sent::Text(text) if text.contains("payload too large")));
    assert_eq!(sim.counters().beyond_limit, 2);
}

#[test]
fn a_payload_may_be_nested_as_deep_as_the_limit() {
    let (mut sim, clients) = limited(|limits| limits.max_json_depth = 10);
    for levels in [2, 7] {
        assert_eq!(refusal(&mut sim, clients, "m", &nested(levels)), None, "{levels}");
    }
    assert_eq!(near(&mut sim, Limit::JsonDepth), 0);
    assert_eq!(refusal(&mut sim, clients, "m", &nested(10)), None);
    assert_eq!(near(&mut sim, Limit::JsonDepth), 1);
    assert_eq!(refusal(&mut sim, clients, "m", r#"{"a":"[[[[[[[[[[[[[[[[","b":[{},{}]}"#), None, "a text");
    for levels in [11, MAX_JSON_DEPTH] {
        let reason = refusal(&mut sim, clients, "m", &nested(levels));
        assert_eq!(reason.as_deref(), Some("payload nested too deeply"), "{levels}");
    }
    // With the limit that a reload brings the same message goes through.
    let config = NodeConfig::dev();
    sim.shards[0].handle(Event::Mail(Mail::Reload(config.into())));
    assert_eq!(refusal(&mut sim, clients, "m", &nested(11)), None);
}

/// Whatever stands in it: nobody is given it, and its sender is told so instead of being closed.
#[test]
fn deeper_than_anything_that_is_read_is_answered_in_every_serializer() {
    let mut sim = Sim::dev();
    let member = sim.connect();
    sim.join(member, "room:1", "1");
    let deep = nested(30_000);
    for event in ["m", "echo", "phx_join"] {
        for payload in [&nested(MAX_JSON_DEPTH + 1), &deep, &deep[..20_000]] {
            let v2 = sim.connect();
            sim.text(v2, &format!(r#"["1","2","room:1","{event}",{payload}]"#));
            let error = r#"{"status":"error","response":{"reason":"payload nested too deeply"}}"#;
            assert_eq!(sim.texts(v2), [format!(r#"["1","2","room:1","phx_reply",{error}]"#)]);
        }
        let v1 = sim.connect_to(0, "1.0.0");
        sim.text(v1, &format!(r#"{{"topic":"room:1","event":"{event}","payload":{deep},"ref":"2"}}"#));
        assert!(sim.texts(v1)[0].contains("nested too deeply"));
        let packed = sim.connect_to(0, "2.0.0%2Bmsgpack");
        let head = [&b"\x95\xa11\xa12\xa6room:1"[..], &[0xa0 | event.len() as u8], event.as_bytes()].concat();
        sim.bytes(packed, &masked(0x82, &[&head[..], &[0x91; 1_000]].concat()));
        let [Sent::Binary(answer)] = &sim.sent(packed)[..] else { panic!("one answer") };
        assert!(String::from_utf8_lossy(answer).contains("nested too deeply"));
    }
    assert!(sim.sent(member).is_empty());
    assert_eq!(sim.counters().beyond_limit, 15);
    // A message that is malformed before its payload is none.
    for text in [&format!(r#"["1","\ud83d","room:1","m",{deep}]"#), &format!(r#"["1",{deep}"#), &deep] {
        let client = sim.connect();
        sim.text(client, text);
        assert_eq!(sim.sent(client), [Sent::Close(1011)]);
    }
}

#[test]
fn events_of_users_of_realtime_have_the_same_limits() {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.max_event_bytes = 20;
        config.limits.max_payload_bytes = 200;
    });
    let client = sim.connect();
    sim.text(client, r#"["1","1","realtime:1","phx_join",{"config":{"broadcast":{"self":true}}}]"#);
    sim.sent(client);
    let mut said = |event: usize, payload: usize| {
        let (event, payload) = ("e".repeat(event), "x".repeat(payload));
        let said = format!(r#"{{"type":"broadcast","event":"{event}","payload":{{"a":"{payload}"}}}}"#);
        sim.text(client, &format!(r#"["1","2","realtime:1","broadcast",{said}]"#));
        sim.texts(client).pop().expect("an answer")
    };
    assert!(!said(20, 10).contains("phx_reply"));
    assert!(said(21, 10).contains("event name too long"));
    assert!(said(1, 200).contains("payload too large"));
}
