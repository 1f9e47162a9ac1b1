//! Rooms whose policy has a backend asked: who waits, for how long, and what comes of each answer.

use super::harness::{Client, Sim};
use crate::{
    backend::{Decision, Inquiry, Verdict},
    broadcast::Payload,
    config::{Dialect, Hook, Hooks, NodeConfig, OnFailure, Policy, TopicPattern},
    counters::JoinRefusal,
    ledger::Kind,
    limits::{HOOK_BYTES, HOOKS_WAITING},
    shard::{Event, Mail},
};

const WITHIN: u64 = 2_000;

fn asking(on_failure: OnFailure, hooks: &[Hook]) -> impl Fn(&mut NodeConfig) {
    let hooks = hooks.to_vec();
    move |config| {
        let hooked = |topics: &str, dialect| Policy {
            hooks: hooks.clone(),
            dialect,
            ..Policy::of(TopicPattern(topics.to_owned()))
        };
        config.rooms.policies.insert(0, hooked("room:h*", None));
        config.rooms.policies.insert(0, hooked("realtime:h*", Some(Dialect::Realtime)));
        config.rooms.ack_events.push("acked".to_owned());
        config.hooks = Some(Hooks {
            url: "http://backend.chat.svc/hooks".to_owned(),
            timeout_millis: WITHIN,
            on_failure,
            max_in_flight: 10,
        });
    }
}

fn sim(on_failure: OnFailure, hooks: &[Hook]) -> Sim {
    Sim::new(1, false, asking(on_failure, hooks))
}

/// Answers a question; none is no usable answer.
fn answer(sim: &mut Sim, inquiry: &Inquiry, json: Option<&str>) {
    let decision = json.map(|json| Decision::read(json.as_bytes()).expect("an answer"));
    let verdict = Verdict { connection: inquiry.connection, number: inquiry.number, decision };
    sim.shards[0].handle(Event::Mail(Mail::Verdict(Box::new(verdict))));
    sim.settle();
}

fn asked(sim: &mut Sim) -> Inquiry {
    assert_eq!(sim.inquiries.len(), 1, "one question");
    sim.inquiries.pop().expect("a question")
}

fn answered(sim: &mut Sim, json: &str) {
    let inquiry = asked(sim);
    answer(sim, &inquiry, Some(json));
}

fn joins(sim: &mut Sim, client: Client, topic: &str) {
    sim.text(client, &format!(r#"["1","1","{topic}","phx_join",{{"key":1}}]"#));
}

fn member(sim: &mut Sim) -> Client {
    let client = sim.connect();
    joins(sim, client, "room:h1");
    if !sim.inquiries.is_empty() {
        answered(sim, r#"{"allow":true}"#);
    }
    assert_eq!(sim.texts(client), [reply("1", r#"{"status":"ok","response":{}}"#)]);
    client
}

fn reply(reference: &str, payload: &str) -> String {
    format!(r#"["1","{reference}","room:h1","phx_reply",{payload}]"#)
}

fn says(sim: &mut Sim, client: Client, reference: &str, event: &str) {
    sim.text(client, &format!(r#"["1","{reference}","room:h1","{event}",{{"n":{reference}}}]"#));
}

fn pushed(event: &str, payload: &str) -> String {
    format!(r#"[null,null,"room:h1","{event}",{payload}]"#)
}

#[test]
fn a_join_waits_for_the_answer_and_others_do_not() {
    let mut sim = sim(OnFailure::Refuse, &[Hook::Join]);
    let [client, other] = [sim.connect(), sim.connect()];
    joins(&mut sim, client, "room:h1");
    let inquiry = asked(&mut sim);
    let content = inquiry.said.unpack().expect("readable");
    assert_eq!((content.topic, content.event), ("room:h1", "phx_join"));
    assert_eq!((content.payload, inquiry.within_millis), (Payload::Json(r#"{"key":1}"#), WITHIN));
    assert!(sim.texts(client).is_empty() && sim.counters().hooks_waiting == 1);
    sim.join(other, "room:free", "1");
    answer(&mut sim, &inquiry, Some(r#"{"allow":true,"response":{"color":"red"}}"#));
    assert_eq!(sim.texts(client), [reply("1", r#"{"status":"ok","response":{"color":"red"}}"#)]);
    answer(&mut sim, &inquiry, Some(r#"{"allow":false}"#));
    assert!(sim.texts(client).is_empty(), "a question is answered once");
    assert_eq!(sim.shards[0].counters().joins, 2);
}

#[test]
fn what_the_backend_refuses_is_refused_in_its_words() {
    let mut sim = sim(OnFailure::Allow, &[Hook::Join, Hook::Publish]);
    let client = sim.connect();
    joins(&mut sim, client, "room:h1");
    let long = "x".repeat(300);
    answered(&mut sim, &format!(r#"{{"allow":false,"reason":"é{long}"}}"#));
    let told = sim.texts(client).pop().expect("an answer");
    assert!(told.contains(&format!("\"é{}\"", "x".repeat(254))), "{told}");
    let member = member(&mut sim);
    says(&mut sim, member, "2", "new_msg");
    answered(&mut sim, r#"{"allow":false}"#);
    let denied = reply("2", r#"{"status":"error","response":{"reason":"unauthorized"}}"#);
    assert_eq!(sim.texts(member), [denied]);
    let counters = sim.shards[0].counters();
    assert_eq!((counters.hooks_denied, counters.publish_refused), (2, 1));
    assert_eq!(counters.joins_refused[JoinRefusal::Hook as usize], 1);
}

#[test]
fn a_publish_is_changed_answered_or_told_as_the_backend_says() {
    let mut sim = sim(OnFailure::Refuse, &[Hook::Publish]);
    let [one, two] = [member(&mut sim), member(&mut sim)];
    says(&mut sim, one, "2", "new_msg");
    answered(&mut sim, r#"{"allow":true,"payload":{"n":"***"}}"#);
    for client in [one, two] {
        assert_eq!(sim.texts(client), [pushed("new_msg", r#"{"n":"***"}"#)]);
    }
    says(&mut sim, one, "3", "ask");
    answered(&mut sim, r#"{"allow":true,"publish":false,"response":{"is":42}}"#);
    assert_eq!(sim.texts(one), [reply("3", r#"{"status":"ok","response":{"is":42}}"#)]);
    says(&mut sim, one, "4", "quiet");
    answered(&mut sim, r#"{"allow":true,"publish":false}"#);
    assert_eq!(sim.texts(one), [reply("4", r#"{"status":"ok","response":{}}"#)]);
    assert!(sim.texts(two).is_empty(), "what is answered is told to nobody else");
    says(&mut sim, one, "5", "acked");
    answered(&mut sim, r#"{"allow":true}"#);
    let acked = [pushed("acked", r#"{"n":5}"#), reply("5", r#"{"status":"ok","response":{}}"#)];
    assert_eq!(sim.texts(one), acked);
    assert_eq!(sim.texts(two), acked[..1]);
}

#[test]
fn what_a_client_says_keeps_its_order_while_it_waits() {
    let mut sim = sim(OnFailure::Refuse, &[Hook::Publish]);
    let [one, two] = [member(&mut sim), member(&mut sim)];
    let frames: Vec<u8> = (2..5)
        .flat_map(|n| {
            super::harness::masked(0x81, format!(r#"["1","{n}","room:h1","m",{{"n":{n}}}]"#).as_bytes())
        })
        .collect();
    sim.bytes(one, &frames);
    for n in 2..5 {
        assert!(sim.texts(two).is_empty() && !sim.shards[0].may_read(one.1, false));
        answered(&mut sim, r#"{"allow":true}"#);
        assert_eq!(sim.texts(two), [pushed("m", &format!(r#"{{"n":{n}}}"#))]);
    }
    assert!(sim.inquiries.is_empty() && sim.shards[0].may_read(one.1, false));
}

#[test]
fn without_an_answer_in_time_it_is_as_declared_and_late_ones_change_nothing() {
    for (on_failure, told) in [
        (
            OnFailure::Refuse,
            reply(
                "2",
                r#"{"status":"error","response":{"reason":"backend unavailable","retry_after_ms":1000}}"#,
            ),
        ),
        (OnFailure::Allow, pushed("m", r#"{"n":2}"#)),
    ] {
        let mut sim = sim(on_failure, &[Hook::Publish]);
        let client = member(&mut sim);
        says(&mut sim, client, "2", "m");
        let inquiry = asked(&mut sim);
        sim.pass(WITHIN - 50);
        assert!(sim.texts(client).is_empty());
        sim.pass(50);
        assert_eq!(sim.texts(client), [told.as_str()]);
        answer(&mut sim, &inquiry, Some(r#"{"allow":true}"#));
        assert!(sim.texts(client).is_empty());
        says(&mut sim, client, "3", "m");
        let inquiry = asked(&mut sim);
        answer(&mut sim, &inquiry, None);
        assert_eq!(sim.texts(client), [told.replace('2', "3")]);
        let counters = sim.counters();
        assert_eq!((counters.hooks_asked, counters.hooks_failed, counters.hooks_waiting), (2, 2, 0));
    }
}

#[test]
fn who_leaves_while_it_waits_is_forgotten_and_the_next_in_its_slot_is_another() {
    let mut sim = sim(OnFailure::Refuse, &[Hook::Join]);
    let client = sim.connect();
    joins(&mut sim, client, "room:h1");
    let inquiry = asked(&mut sim);
    assert!(sim.shards[0].held_by_kind()[Kind::Hooks as usize] > 0);
    sim.lose(client);
    assert_eq!(sim.shards[0].held_by_kind()[Kind::Hooks as usize], 0);
    let next = sim.connect();
    assert_eq!(next.1, client.1);
    joins(&mut sim, next, "room:h1");
    answer(&mut sim, &inquiry, Some(r#"{"allow":true}"#));
    assert!(sim.texts(next).is_empty());
    sim.pass(WITHIN);
    assert!(sim.texts(next)[0].contains("backend unavailable"));
    assert_eq!(sim.shards[0].counters().joins, 0);
}

#[test]
fn a_room_that_is_full_or_forbidden_asks_nobody_and_an_answer_is_looked_at_again() {
    let mut sim = Sim::new(1, false, |config| {
        asking(OnFailure::Refuse, &[Hook::Join])(config);
        config.limits.max_channels_per_connection = 1;
    });
    let client = sim.connect();
    sim.join(client, "room:free", "1");
    joins(&mut sim, client, "room:h1");
    assert!(sim.inquiries.is_empty() && sim.texts(client)[0].contains("too many channels"));
    let other = sim.connect();
    joins(&mut sim, other, "room:h1");
    let inquiry = asked(&mut sim);
    let mut config = NodeConfig::clone(&sim.shards[0].config);
    config.rooms.topics = vec![TopicPattern("room:f*".to_owned())];
    sim.shards[0].handle(Event::Mail(Mail::Reload(config.into())));
    answer(&mut sim, &inquiry, Some(r#"{"allow":true}"#));
    assert!(sim.texts(other)[0].contains("unmatched topic"));
}

#[test]
fn in_rooms_of_realtime_the_backend_is_asked_as_well() {
    let mut sim = sim(OnFailure::Refuse, &[Hook::Join, Hook::Publish]);
    let client = sim.connect();
    let config = r#"{"config":{"broadcast":{"self":true,"ack":false}}}"#;
    sim.text(client, &format!(r#"["1","1","realtime:h1","phx_join",{config}]"#));
    answered(&mut sim, r#"{"allow":true}"#);
    assert!(sim.texts(client)[0].contains(r#""status":"ok""#));
    let said = |n: u32| format!(r#"{{"type":"broadcast","event":"m","payload":{{"n":{n}}}}}"#);
    sim.text(client, &format!(r#"["1","2","realtime:h1","broadcast",{}]"#, said(1)));
    answered(&mut sim, &format!(r#"{{"allow":true,"payload":{}}}"#, said(2)));
    let told = sim.texts(client).pop().expect("a message");
    assert!(told.contains(r#""n":2"#), "{told}");
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let mut sim = Sim::new(1, false, |config| {
        asking(OnFailure::Refuse, &[Hook::Join])(config);
        config.limits.messages_per_second = 0;
    });
    for _ in 0..HOOKS_WAITING {
        let client = sim.connect();
        joins(&mut sim, client, "room:h1");
    }
    let client = sim.connect();
    joins(&mut sim, client, "room:h1");
    assert!(sim.texts(client)[0].contains("backend unavailable"));
    assert_eq!(sim.inquiries.len(), HOOKS_WAITING);
    sim.pass(WITHIN);
    assert_eq!(sim.shards[0].held_by_kind()[Kind::Hooks as usize], 0);
    let long = "x".repeat(60_000);
    let mut refused = 0;
    for _ in 0..=HOOK_BYTES / 60_000 {
        let client = sim.connect();
        sim.text(client, &format!(r#"["1","1","room:h1","phx_join",{{"key":"{long}"}}]"#));
        refused += usize::from(!sim.texts(client).is_empty());
    }
    assert!(refused == 1 || refused == 2, "{refused}");
    assert!(sim.shards[0].held_by_kind()[Kind::Hooks as usize] <= HOOK_BYTES + (1 << 20));
}
