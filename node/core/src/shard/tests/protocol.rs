use super::harness::{Sent, Sim, masked, remote};
use crate::{
    broadcast::{Kind, Packed},
    config::{Policy, Publish, TopicPattern},
    counters::{CloseReason, JoinRefusal},
    limits::MAX_TOPIC_BYTES,
    shard::{Event, Mail},
};

#[test]
fn heartbeat_is_answered_whatever_is_joined() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.text(client, r#"[null,"4","phoenix","heartbeat",{}]"#);
    assert_eq!(sim.texts(client), [r#"[null,"4","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
}

#[test]
fn a_publish_reaches_every_member_on_every_shard_once() {
    let mut sim = Sim::new(3, false, |_| {});
    let clients: Vec<_> = (0..9).map(|i| sim.connect_to(i % 3, "2.0.0")).collect();
    for client in &clients[..8] {
        sim.join(*client, "room:1", "1");
    }
    sim.text(clients[0], r#"["1","2","room:1","said",{"n": 1}]"#);
    for client in &clients[..8] {
        assert_eq!(sim.texts(*client), [r#"[null,null,"room:1","said",{"n": 1}]"#]);
    }
    assert_eq!(sim.texts(clients[8]), [""; 0]);
    let counters = sim.counters();
    assert_eq!((counters.publishes, counters.writes, counters.remote_received), (1, 8, 2));
    assert_eq!((counters.connections, counters.rooms, counters.memberships), (9, 3, 8));
}

#[test]
fn ack_suffix_and_echo_of_dev_mode() {
    let mut sim = Sim::dev();
    let (a, b) = (sim.connect(), sim.connect());
    sim.join(a, "room:1", "1");
    sim.join(b, "room:1", "9");
    sim.text(a, r#"["1","2","room:1","said_ack",{}]"#);
    assert_eq!(
        sim.texts(a),
        [
            r#"[null,null,"room:1","said",{}]"#,
            r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#
        ]
    );
    assert_eq!(sim.texts(b), [r#"[null,null,"room:1","said",{}]"#]);
    sim.text(b, r#"[null,"3","room:1","echo",{"x":[1]}]"#);
    // A null join_ref always counts as current, and the reply carries the channel's own.
    assert_eq!(sim.texts(b), [r#"["9","3","room:1","phx_reply",{"status":"ok","response":{"x":[1]}}]"#]);
    assert_eq!(sim.texts(a), [""; 0]);
}

#[test]
fn policies_acknowledge_silence_and_refuse() {
    let mut sim = Sim::new(1, false, |config| {
        config.rooms.ack_events = vec!["order".to_owned()];
        let policy = |topics: &str| Policy::of(TopicPattern(topics.to_owned()));
        config.rooms.policies = vec![
            Policy { publish: Some(Publish::Nobody), ..policy("room:news") },
            Policy { echo_to_sender: Some(false), ..policy("room:quiet") },
            Policy { events: Some(vec!["move".to_owned()]), ..policy("room:game") },
        ];
    });
    let (a, b) = (sim.connect(), sim.connect());
    for topic in ["room:news", "room:quiet", "room:x", "room:game"] {
        sim.join(a, topic, "1");
        sim.join(b, topic, "1");
    }
    sim.text(a, r#"["1","2","room:x","order",{}]"#);
    assert_eq!(sim.texts(a).len(), 2);
    assert_eq!(sim.texts(b).len(), 1);
    sim.text(a, r#"["1","3","room:quiet","m",{}]"#);
    assert_eq!((sim.texts(a).len(), sim.texts(b).len()), (0, 1));
    sim.text(a, r#"["1","4","room:news","m",{}]"#);
    let refused = sim.texts(a);
    assert!(refused[0].contains("publish not allowed"), "{refused:?}");
    assert_eq!(sim.texts(b).len(), 0);
    for (event, allowed) in [("move", true), ("move_ack", true), ("moved", false), ("m", false)] {
        sim.text(a, &format!(r#"["1","5","room:game","{event}",{{}}]"#));
        let refused = sim.texts(a).iter().any(|text| text.contains("event not allowed"));
        assert_eq!((refused, sim.texts(b).len()), (!allowed, usize::from(allowed)), "{event}");
    }
}

#[test]
fn a_token_is_given_to_nobody_whatever_carries_it() {
    let mut sim = Sim::new(1, true, |config| config.rooms.events = Some(vec!["access_token".to_owned()]));
    let (old, new, other) = (sim.connect_to(0, "1.0.0"), sim.connect(), sim.connect());
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(sim.texts(old).len(), 1);
    sim.join(new, "room:1", "1");
    sim.join(other, "room:1", "1");
    sim.bus.clear();
    sim.text(old, r#"{"topic":"room:1","event":"access_token","payload":{"access_token":"s"},"ref":"2"}"#);
    sim.text(new, r#"["1","2","room:1","access_token",{"access_token":"s"}]"#);
    sim.text(new, r#"["1","2","room:1","\u0061ccess_token",{"access_token":"s"}]"#);
    sim.bytes(new, &masked(0x82, b"\0\x01\x01\x06\x0c12room:1access_tokens"));
    assert_eq!(sim.counters().access_tokens, 4);
    // The suffix that asks for an answer does not make the event pass either.
    sim.text(new, r#"["1","2","room:1","access_token_ack",{"access_token":"s"}]"#);
    let answer = sim.texts(new);
    assert!(answer.len() == 1 && answer[0].contains("reserved event"), "{answer:?}");
    assert_eq!((sim.sent(old), sim.sent(other), sim.bus.len()), (vec![], vec![], 0));
}

#[test]
fn events_of_presence_and_payloads_that_are_no_object_are_refused() {
    let mut sim = Sim::dev();
    let (a, b) = (sim.connect(), sim.connect());
    sim.join(a, "room:1", "1");
    sim.join(b, "room:1", "1");
    for (event, payload) in [("presence_diff", "{}"), ("presence_state_ack", "{}"), ("m", "[]")] {
        sim.text(a, &format!(r#"["1","2","room:1","{event}",{payload}]"#));
        let replies = sim.texts(a);
        assert!(replies.len() == 1 && replies[0].contains(r#""status":"error""#), "{event}: {replies:?}");
        assert_eq!(sim.texts(b), [""; 0], "{event}");
    }
}

#[test]
fn unknown_topics_are_unmatched_with_null_join_ref() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    let error = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;
    sim.text(client, r#"["1","2","other","phx_join",{}]"#);
    sim.text(client, r#"["1","3","room:1","m",{}]"#);
    sim.text(client, r#"["1","4","phoenix","other",{}]"#);
    assert_eq!(
        sim.texts(client),
        [
            format!(r#"[null,"2","other","phx_reply",{error}]"#),
            format!(r#"[null,"3","room:1","phx_reply",{error}]"#),
            format!(r#"[null,"4","phoenix","phx_reply",{error}]"#),
        ]
    );
}

#[test]
fn a_topic_that_the_bus_cannot_carry_cannot_be_joined_whatever_the_patterns() {
    let mut sim = Sim::new(1, true, |config| config.rooms.topics = vec![TopicPattern("*".to_owned())]);
    let client = sim.connect();
    for (topic, reason) in [("", "unmatched topic"), (&*"x".repeat(MAX_TOPIC_BYTES + 1), "topic too long")] {
        sim.text(client, &format!(r#"["1","2","{topic}","phx_join",{{}}]"#));
        let replies = sim.texts(client);
        assert!(replies.len() == 1 && replies[0].contains(reason), "{replies:?}");
    }
    assert!(sim.bus.is_empty(), "{:?}", sim.bus);
    let refused = sim.counters().joins_refused;
    assert_eq!([JoinRefusal::Unmatched, JoinRefusal::TopicTooLong].map(|why| refused[why as usize]), [1, 1]);
    sim.join(client, "x", "1");
    assert_eq!(sim.bus, ["join x"]);
}

#[test]
fn a_rejoin_is_answered_before_the_old_channel_closes() {
    let mut sim = Sim::new(1, false, |config| config.rooms.max_members = 1);
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["5","6","room:1","phx_join",{}]"#);
    assert_eq!(
        sim.texts(client),
        [
            r#"["5","6","room:1","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["1","1","room:1","phx_close",{}]"#
        ]
    );
    sim.text(client, r#"["1","7","room:1","echo",{}]"#);
    assert_eq!(sim.texts(client), [""; 0], "a stale join_ref is dropped silently");
    sim.text(client, r#"["5","8","room:1","echo",{}]"#);
    assert_eq!(sim.texts(client).len(), 1);
    assert_eq!(sim.counters().memberships, 1);
}

#[test]
fn leave_is_answered_and_closes_the_channel() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["0","2","room:1","phx_leave",{}]"#);
    assert_eq!(sim.texts(client), [""; 0], "stale");
    sim.text(client, r#"["1","3","room:1","phx_leave",{}]"#);
    assert_eq!(
        sim.texts(client),
        [
            r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
            r#"["1","1","room:1","phx_close",{}]"#
        ]
    );
    sim.text(client, r#"["1","4","room:1","phx_leave",{}]"#);
    assert_eq!(sim.texts(client), [r#"["1","4","room:1","phx_reply",{"status":"ok","response":{}}]"#]);
    let counters = sim.counters();
    assert_eq!((counters.rooms, counters.memberships), (0, 0));
}

/// The expected answers were recorded from Phoenix 1.8 where a V1 message has no join_ref. Where it has one they are
/// as Phoenix's serializer writes them: realtime clients send it, and tell by it the channel that ended from the one
/// in its place.
#[test]
fn a_close_in_v1_carries_the_ref_of_the_channel_that_ended() {
    let mut sim = Sim::dev();
    let client = sim.connect_to(0, "1.0.0");
    let ok = |reference: &str| {
        format!(
            r#"{{"topic":"room:v","event":"phx_reply","payload":{{"status":"ok","response":{{}}}},"ref":{reference}}}"#
        )
    };
    let close = |reference: &str| {
        format!(r#"{{"topic":"room:v","event":"phx_close","payload":{{}},"ref":{reference}}}"#)
    };
    let mut say = |event: &str, rest: &str| {
        sim.text(client, &format!(r#"{{"topic":"room:v","event":"{event}","payload":{{}},{rest}}}"#));
        sim.texts(client)
    };
    assert_eq!(say("phx_join", r#""ref":"6","join_ref":"6""#), [ok(r#""6""#)]);
    assert_eq!(say("phx_join", r#""ref":"21","join_ref":"21""#), [ok(r#""21""#), close(r#""6""#)]);
    assert_eq!(say("phx_leave", r#""ref":"22","join_ref":"6""#), [""; 0], "stale");
    assert_eq!(say("phx_leave", r#""ref":"22","join_ref":"21""#), [ok(r#""22""#), close(r#""21""#)]);
    // These are recorded as v1/rejoin and v1/leave_twice.
    assert_eq!(say("phx_join", r#""ref":"1""#), [ok(r#""1""#)]);
    assert_eq!(say("phx_join", r#""ref":"2""#), [ok(r#""2""#), close("null")]);
    assert_eq!(say("phx_leave", r#""ref":"3""#), [ok(r#""3""#), close("null")]);
    assert_eq!(say("phx_leave", r#""ref":"4""#), [ok(r#""4""#)]);
}

/// All members must be able to read a message, so one that strict readers refuse is refused to its sender.
#[test]
fn text_that_strict_readers_refuse_reaches_nobody() {
    let mut sim = Sim::dev();
    let (old, new) = (sim.connect_to(0, "1.0.0"), sim.connect());
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(sim.texts(old).len(), 1);
    sim.join(new, "room:1", "1");
    let payloads = [r#"{"t":"\ud83d"}"#, r#"{"\udc00":1}"#, r#"{"n":1e999}"#, r#"{"n":[-1e400]}"#];
    let mut said = Vec::new();
    for payload in payloads {
        for event in ["m", "echo", "m_ack", "phx_join"] {
            said.push((
                format!(r#"{{"topic":"room:1","event":"{event}","payload":{payload},"ref":"2"}}"#),
                format!(r#"["1","2","room:1","{event}",{payload}]"#),
            ));
        }
    }
    for (join_ref, reference, topic, event) in [
        (r#""\ud83d""#, "1", "room:1", "m"),
        ("1", r#""\ud83d""#, "room:1", "m"),
        ("1", "1e999", "room:1", "m"),
        ("1", "1", r"room:\ud83d", "m"),
        ("1", "1", "room:1", r"\ud83d"),
    ] {
        said.push((
            format!(r#"{{"topic":"{topic}","event":"{event}","payload":{{}},"ref":{reference},"join_ref":{join_ref}}}"#),
            format!(r#"[{join_ref},{reference},"{topic}","{event}",{{}}]"#),
        ));
    }
    for (v1, v2) in &said {
        for (vsn, text) in [("1.0.0", v1), ("2.0.0", v2)] {
            let client = sim.connect_to(0, vsn);
            sim.text(client, text);
            assert_eq!(sim.sent(client), [Sent::Close(1011)], "{text:.100}");
            sim.lose(client);
        }
    }
    assert_eq!((sim.texts(old).len(), sim.texts(new).len()), (0, 0));
    assert_eq!(sim.counters().malformed_messages as usize, 2 * said.len());
    sim.text(new, r#"["1","2","room:1","m",{"t":"\ud83d\ude00","n":1e308}]"#);
    assert_eq!(sim.texts(new), [r#"[null,null,"room:1","m",{"t":"\ud83d\ude00","n":1e308}]"#]);
}

#[test]
fn v1_and_v2_share_a_room() {
    let mut sim = Sim::dev();
    let (old, new) = (sim.connect_to(0, "1.0.0"), sim.connect());
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(
        sim.texts(old),
        [r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#]
    );
    sim.join(new, "room:1", "1");
    sim.text(old, r#"{"topic":"room:1","event":"m","payload":{"a":1},"ref":"2"}"#);
    assert_eq!(sim.texts(new), [r#"[null,null,"room:1","m",{"a":1}]"#]);
    assert_eq!(sim.texts(old), [r#"{"topic":"room:1","event":"m","payload":{"a":1},"ref":null}"#]);
}

#[test]
fn binary_reaches_v2_and_is_counted_for_v1() {
    let mut sim = Sim::dev();
    let (old, new) = (sim.connect_to(0, "1.0.0"), sim.connect());
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    assert_eq!(sim.texts(old).len(), 1);
    sim.join(new, "room:1", "7");
    sim.bytes(new, &masked(0x82, b"\0\x01\x01\x06\x0179room:1m\x01\x02"));
    assert_eq!(sim.sent(new), [Sent::Binary(b"\x02\x06\x01room:1m\x01\x02".to_vec())]);
    assert_eq!((sim.texts(old).len(), sim.counters().unencodable_writes), (0, 1));
    sim.bytes(new, &masked(0x82, b"\0\x01\x01\x06\x0579room:1m_ack\x01"));
    let told = r#"["7","9","room:1","phx_reply",{"status":"ok","response":{"undelivered":1}}]"#;
    assert_eq!(sim.sent(new)[1], Sent::Text(told.to_owned()));
    // An empty join_ref is "" and not null, hence stale.
    sim.bytes(new, &masked(0x82, b"\0\0\x01\x06\x019room:1m\x01"));
    assert_eq!(sim.sent(new), []);
    sim.bytes(new, &masked(0x82, b"\0\x01\x01\x06\x0479room:1echo\x05"));
    assert_eq!(sim.sent(new), [Sent::Binary(b"\x01\x01\x01\x06\x0279room:1ok\x05".to_vec())]);
}

#[test]
fn a_malformed_message_ends_the_connection_and_nothing_after_it_is_read() {
    let mut sim = Sim::dev();
    let stayer = sim.connect();
    sim.join(stayer, "room:1", "1");
    let push = masked(0x81, br#"["1","9","room:1","m",{}]"#);
    let bad: [&[u8]; 6] =
        [b"", b"{}", b"[1]", b"nonsense", br#"["1","2","room:1","m","#, b"\x01\x01\x01\x06\x01"];
    for (number, bad) in bad.iter().enumerate() {
        let client = sim.connect();
        sim.join(client, "room:1", "1");
        let first = if number < 5 { 0x81 } else { 0x82 };
        sim.bytes(client, &[&masked(first, bad)[..], &push].concat());
        assert_eq!(sim.sent(client), [Sent::Close(1011)], "{bad:?}");
        assert!(sim.output_ended(client), "the peer need not answer");
        sim.bytes(client, &push);
        assert_eq!((sim.texts(stayer).len(), sim.counters().memberships), (0, 1));
        sim.lose(client);
    }
    let counters = sim.counters();
    assert_eq!((counters.malformed_messages, counters.closed[CloseReason::Malformed as usize]), (6, 6));
}

#[test]
fn the_reserved_topic_tells_the_node_and_takes_nothing() {
    let mut sim = Sim::new(2, true, |_| {});
    let client = sim.connect();
    sim.text(client, r#"["1","2","$cluster","phx_join",{}]"#);
    assert_eq!(
        sim.texts(client),
        [r#"["1","2","$cluster","phx_reply",{"status":"ok","response":{"node":"n1","version":"0.1.0"}}]"#]
    );
    sim.text(client, r#"["1","3","$cluster","stats",{"fake":1}]"#);
    assert!(sim.texts(client)[0].contains("publish not allowed"));
    sim.shards[0].handle(Event::Mail(Mail::ClusterStats(r#"{"nodes":1}"#.into())));
    sim.settle();
    assert_eq!(sim.texts(client), [r#"[null,null,"$cluster","stats",{"nodes":1}]"#]);
    assert!(sim.bus.is_empty(), "{:?}", sim.bus);
    let mut sim = Sim::new(1, false, |config| config.chat_page = false);
    let client = sim.connect();
    sim.text(client, r#"["1","2","$cluster","phx_join",{}]"#);
    assert!(sim.texts(client)[0].contains("unmatched topic"));
}

#[test]
fn the_bus_hears_first_joins_last_leaves_and_publishes() {
    let mut sim = Sim::new(1, true, |_| {});
    let (a, b) = (sim.connect(), sim.connect());
    sim.join(a, "room:1", "1");
    sim.join(b, "room:1", "1");
    sim.text(a, r#"["1","2","room:1","m",{}]"#);
    sim.lose(a);
    sim.lose(b);
    assert_eq!(sim.bus, ["join room:1", "publish room:1", "leave room:1"]);
}

#[test]
fn pings_and_the_closing_handshake() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.bytes(client, &masked(0x89, b"hi"));
    assert_eq!(sim.sent(client), [Sent::Pong(b"hi".to_vec())]);
    sim.bytes(client, &masked(0x88, &4000u16.to_be_bytes()));
    assert_eq!(sim.sent(client), [Sent::Close(1000)], "whatever code came, as Bandit answers");
    assert_eq!(sim.closed, [client]);
    let counters = sim.counters();
    assert_eq!((counters.connections, counters.memberships), (0, 0));
    assert_eq!(counters.closed[CloseReason::Peer as usize], 1);
}

#[test]
fn frames_that_break_the_protocol_close_with_its_code() {
    for (frame, code, reason) in [
        (vec![0xc1, 0x80, 0, 0, 0, 0], 1002, CloseReason::Protocol),
        (masked(0x81, &[0xff]), 1007, CloseReason::Utf8),
        (masked(0x88, &[3, 232, 0xff]), 1002, CloseReason::Protocol),
        (vec![0x81, 0xff, 0, 0, 0, 0, 0, 2, 0, 0], 1009, CloseReason::TooBig),
    ] {
        let mut sim = Sim::dev();
        let client = sim.connect();
        sim.bytes(client, &frame);
        if sim.sent(client).is_empty() {
            sim.bytes(client, &[0, 0, 0, 0]);
        } else {
            sim = Sim::dev();
            let client = sim.connect();
            sim.bytes(client, &frame);
            assert_eq!(sim.sent(client), [Sent::Close(code)]);
            assert!(sim.output_ended(client) && sim.closed.is_empty(), "waits for the peer to end");
            sim.lose(client);
        }
        assert_eq!(sim.counters().closed[reason as usize], 1);
    }
}

#[test]
fn messages_cut_anywhere_and_sent_byte_by_byte_are_the_same() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    let mut bytes = masked(0x81, br#"["1","1","room:1","phx_join",{}]"#);
    bytes.extend(masked(0x01, br#"["1","2","room:1","#));
    bytes.extend(masked(0x89, b""));
    bytes.extend(masked(0x80, br#""echo",{}]"#));
    for byte in bytes {
        sim.bytes(client, &[byte]);
    }
    let sent = sim.sent(client);
    assert!(matches!(&sent[..], [Sent::Text(_), Sent::Pong(_), Sent::Text(_)]), "{sent:?}");
}

#[test]
fn bytes_from_elsewhere_that_are_no_text_reach_nobody() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    for (bytes, kind) in [
        (&b""[..], Kind::Json),
        (b"room:1", Kind::Binary),
        (b"room:1m{\"\xff\"}", Kind::Json),
        (b"room:\xffm{}", Kind::Binary),
        (b"room:1\xff{}", Kind::Binary),
    ] {
        let packed = Packed { kind, topic_bytes: 6, event_bytes: 1, bytes };
        sim.shards[0].handle(remote(packed.copied(), false));
    }
    sim.settle();
    assert_eq!((sim.sent(client).len(), sim.counters().malformed_messages), (0, 5));
}
