//! Channels that end although their clients did not leave.

use super::harness::{Sent, Sim, masked};

const UNMATCHED: &str = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;

/// Phoenix's own serializers tell a channel's end by such events; one that a client sends crashes the channel there.
#[test]
fn a_channel_that_is_sent_an_event_of_phoenix_crashes_and_can_be_joined_again() {
    let mut sim = Sim::new(1, true, |_| {});
    let (client, other) = (sim.connect(), sim.connect());
    sim.join(other, "room:1", "1");
    for event in ["phx_close", "phx_error", "phx_reply", "phx_x", "phx_reply_ack"] {
        sim.join(client, "room:1", "7");
        sim.text(client, &format!(r#"["6","8","room:1","{event}",{{}}]"#));
        assert_eq!(sim.texts(client), [""; 0], "a stale join_ref is dropped silently");
        sim.text(client, &format!(r#"["7","8","room:1","{event}",{{}}]"#));
        assert_eq!(sim.texts(client), [r#"["7","7","room:1","phx_error",{"reason":"channel_crash"}]"#]);
        sim.text(client, r#"["7","9","room:1","echo",{}]"#);
        assert_eq!(sim.texts(client), [format!(r#"[null,"9","room:1","phx_reply",{UNMATCHED}]"#)]);
        assert_eq!((sim.texts(other).len(), sim.counters().memberships), (0, 1), "{event}");
    }
    assert_eq!(sim.counters().publish_refused, 5);
    sim.join(client, "room:1", "7");
    sim.bytes(client, &masked(0x82, b"\0\x01\x01\x06\x0978room:1phx_closex"));
    assert_eq!(sim.texts(client).len(), 1);
    sim.lose(other);
    assert_eq!(sim.bus, ["join room:1", "leave room:1"]);

    let old = sim.connect_to(0, "1.0.0");
    sim.text(old, r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#);
    sim.text(old, r#"{"topic":"room:1","event":"phx_close","payload":{},"ref":"2"}"#);
    assert_eq!(
        sim.texts(old)[1],
        r#"{"topic":"room:1","event":"phx_error","payload":{"reason":"channel_crash"},"ref":null}"#
    );
}

#[test]
fn what_a_window_holds_comes_before_the_end_of_the_channel() {
    let mut sim = Sim::new(1, false, |config| {
        config.rooms.policies =
            serde_json::from_str(r#"[{"topics": "room:*", "flushWindowMillis": 100}]"#).expect("policies");
    });
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.text(client, r#"["1","2","room:1","m",{}]"#);
    sim.text(client, r#"["1","3","room:1","phx_close",{}]"#);
    assert_eq!(
        sim.texts(client),
        [r#"[null,null,"room:1","m",{}]"#, r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#]
    );
}

#[test]
fn topics_and_events_that_are_no_strings_are_answered_as_they_came() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    for (said, told) in [
        (r#"["1","2",null,"phx_join",{}]"#, format!(r#"[null,"2",null,"phx_reply",{UNMATCHED}]"#)),
        (r#"["1",2,{"a": 1},"m",{}]"#, format!(r#"[null,2,{{"a": 1}},"phx_reply",{UNMATCHED}]"#)),
        (r#"["1","2","room:2",null,{}]"#, format!(r#"[null,"2","room:2","phx_reply",{UNMATCHED}]"#)),
        (
            r#"["1","2",[],"phx_leave",{}]"#,
            r#"["1","2",[],"phx_reply",{"status":"ok","response":{}}]"#.to_owned(),
        ),
    ] {
        sim.text(client, said);
        assert_eq!(sim.texts(client), [told], "{said}");
    }
    sim.text(client, r#"["0","2","room:1",null,{}]"#);
    assert_eq!(sim.texts(client), [""; 0], "a stale join_ref is dropped silently");
    sim.text(client, r#"["1","2","room:1",5,{}]"#);
    assert_eq!(sim.texts(client), [r#"["1","1","room:1","phx_error",{"reason":"channel_crash"}]"#]);
    let old = sim.connect_to(0, "1.0.0");
    sim.text(old, r#"{"topic":7,"event":"m","payload":{},"ref":"2"}"#);
    assert_eq!(
        sim.texts(old),
        [format!(r#"{{"topic":7,"event":"phx_reply","payload":{UNMATCHED},"ref":"2"}}"#)]
    );
    assert_eq!(sim.counters().malformed_messages, 0);
}

/// Phoenix's serializer of V1 does not look at the kind of a frame.
#[test]
fn a_v1_message_may_come_as_bytes() {
    let mut sim = Sim::dev();
    let client = sim.connect_to(0, "1.0.0");
    sim.bytes(client, &masked(0x82, br#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#));
    assert!(matches!(&sim.sent(client)[..], [Sent::Text(_)]));
}
