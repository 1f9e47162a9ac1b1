//! Messages that are under way when the node says goodbye to a connection, and when it breaks off.

use super::harness::{Client, Sent, Sim, drain, masked, stay};
use crate::{counters::CloseReason, limits::CLOSE_TIMEOUT_MILLIS};

const CLOSE: [u8; 2] = 1012u16.to_be_bytes();

/// Two members of `room:1`; the first of them is told to go.
fn goodbye(
    shards: u8,
    vsn: &str,
    change: impl FnOnce(&mut crate::config::NodeConfig),
) -> (Sim, Client, Client) {
    let mut sim = Sim::new(shards, true, change);
    let leaver = sim.connect_to(0, vsn);
    let stayer = sim.connect_to(usize::from(shards) - 1, "2.0.0");
    let join = if vsn == "1.0.0" {
        r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}"#
    } else {
        r#"["1","1","room:1","phx_join",{}]"#
    };
    sim.text(leaver, join);
    sim.texts(leaver);
    sim.join(stayer, "room:1", "1");
    sim.shards[0].handle(drain(1));
    sim.settle();
    assert_eq!(sim.sent(leaver), [Sent::Close(1012)]);
    (sim, leaver, stayer)
}

#[test]
fn what_a_drained_client_had_under_way_reaches_the_others_and_nothing_reaches_it() {
    for shards in [1, 2] {
        let (mut sim, leaver, stayer) = goodbye(shards, "2.0.0", |_| {});
        sim.bus.clear();
        sim.text(leaver, r#"["1","2","room:1","m_ack",{"n":1}]"#);
        sim.bytes(leaver, &masked(0x82, b"\x00\x01\x01\x06\x0112room:1mxyz"));
        sim.text(leaver, r#"[null,"9","phoenix","heartbeat",{}]"#);
        sim.bytes(leaver, &masked(0x89, b"ping"));
        let heard = sim.sent(stayer);
        assert_eq!(heard[0], Sent::Text(r#"[null,null,"room:1","m",{"n":1}]"#.to_owned()));
        assert!(matches!(&heard[1], Sent::Binary(_)), "{heard:?}");
        assert_eq!(sim.bus.iter().filter(|said| *said == "publish room:1").count(), 2);
        sim.text(stayer, r#"["1","3","room:1","m",{"n":2}]"#);
        assert_eq!(sim.sent(leaver), [], "nothing follows a close frame");
        assert_eq!(sim.counters().memberships, 2, "it is a member until it has gone");
        sim.bytes(leaver, &masked(0x88, &CLOSE));
        assert_eq!((sim.closed.clone(), sim.counters().memberships), (vec![leaver], 1));
        assert_eq!(sim.counters().closed[CloseReason::Drain as usize], 1);
    }
}

#[test]
fn a_v1_client_is_served_to_the_end_too() {
    let (mut sim, leaver, stayer) = goodbye(1, "1.0.0", |_| {});
    sim.text(leaver, r#"{"topic":"room:1","event":"m","payload":{"n":1},"ref":"2","join_ref":"1"}"#);
    assert_eq!(sim.texts(stayer), [r#"[null,null,"room:1","m",{"n":1}]"#]);
    // It no longer counts as a member whose serializer cannot carry a binary message.
    sim.bytes(stayer, &masked(0x82, b"\x00\x01\x01\x06\x0512room:1m_ackxyz"));
    let replied = r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#.to_owned();
    assert!(sim.sent(stayer).contains(&Sent::Text(replied)));
    assert_eq!(sim.sent(leaver), []);
}

#[test]
fn a_join_and_a_leave_under_way_count() {
    let (mut sim, leaver, stayer) = goodbye(1, "2.0.0", |_| {});
    sim.join(stayer, "room:2", "5");
    sim.text(leaver, r#"["2","2","room:2","phx_join",{}]"#);
    sim.text(leaver, r#"["2","3","room:2","m",{}]"#);
    sim.text(leaver, r#"["1","4","room:1","phx_leave",{}]"#);
    sim.text(leaver, r#"["1","5","room:1","m",{}]"#);
    assert_eq!(sim.texts(stayer), [r#"[null,null,"room:2","m",{}]"#], "it had left the other");
    assert_eq!((sim.sent(leaver), sim.counters().memberships), (vec![], 3));
    sim.lose(leaver);
    assert_eq!(sim.counters().memberships, 2);
}

#[test]
fn a_message_that_began_before_the_goodbye_is_taken_when_it_is_whole() {
    let mut sim = Sim::new(1, false, |_| {});
    let (leaver, stayer) = (sim.connect(), sim.connect());
    for client in [leaver, stayer] {
        sim.join(client, "room:1", "1");
    }
    let frame = masked(0x81, br#"["1","2","room:1","m",{}]"#);
    let (begin, end) = frame.split_at(10);
    sim.bytes(leaver, begin);
    sim.shards[0].handle(drain(1));
    sim.settle();
    sim.bytes(leaver, end);
    assert_eq!(sim.texts(stayer), [r#"[null,null,"room:1","m",{}]"#]);
}

#[test]
fn who_never_answers_is_heard_for_the_time_out_and_then_leaves() {
    let (mut sim, leaver, stayer) = goodbye(1, "2.0.0", |_| {});
    sim.shards[0].handle(stay());
    sim.pass(CLOSE_TIMEOUT_MILLIS / 2);
    sim.text(leaver, r#"["1","2","room:1","m",{}]"#);
    assert_eq!(sim.texts(stayer).len(), 1);
    sim.pass(CLOSE_TIMEOUT_MILLIS / 2 + 1_250);
    assert_eq!((sim.closed.clone(), sim.counters().memberships), (vec![leaver], 1));
}

#[test]
fn a_leaver_that_breaks_the_protocol_is_gone_at_once() {
    let (mut sim, leaver, _) = goodbye(1, "2.0.0", |_| {});
    sim.bytes(leaver, &[0xff, 0xff]);
    assert_eq!((sim.closed.clone(), sim.counters().memberships), (vec![leaver], 1));
}

#[test]
fn an_idle_client_is_heard_when_it_speaks_up_too_late() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 1_000);
    let (idle, stayer) = (sim.connect(), sim.connect());
    sim.join(idle, "room:1", "1");
    sim.join(stayer, "room:1", "1");
    for _ in 0..6 {
        sim.pass(500);
        sim.text(stayer, r#"[null,"9","phoenix","heartbeat",{}]"#);
    }
    assert_eq!(sim.sent(idle), [Sent::Close(1002)]);
    sim.texts(stayer);
    sim.text(idle, r#"["1","2","room:1","m",{}]"#);
    assert_eq!(sim.texts(stayer), [r#"[null,null,"room:1","m",{}]"#]);
}

#[test]
fn who_is_closed_for_what_it_did_is_not_heard_any_more() {
    let mut sim = Sim::dev();
    let (wrong, stayer) = (sim.connect(), sim.connect());
    sim.join(wrong, "room:1", "1");
    sim.join(stayer, "room:1", "1");
    let mut data = vec![0xff, 0xff];
    data.extend(masked(0x81, br#"["1","2","room:1","m",{}]"#));
    sim.bytes(wrong, &data);
    sim.text(wrong, r#"["1","2","room:1","m",{}]"#);
    assert_eq!(sim.sent(wrong), [Sent::Close(1002)]);
    assert_eq!((sim.texts(stayer).len(), sim.counters().memberships), (0, 1));
}

#[test]
fn what_was_said_before_a_goodbye_is_heard_although_a_flush_window_held_it() {
    let window = |config: &mut crate::config::NodeConfig| {
        config.rooms.policies = vec![crate::config::Policy {
            flush_window_millis: Some(1_000),
            ..crate::config::Policy::of(crate::config::TopicPattern("room:*".to_owned()))
        }];
    };
    let mut sim = Sim::new(1, false, window);
    let (leaver, stayer) = (sim.connect(), sim.connect());
    sim.join(leaver, "room:1", "1");
    sim.join(stayer, "room:1", "1");
    sim.text(stayer, r#"["1","2","room:1","m",{}]"#);
    assert_eq!(sim.sent(leaver), [], "held");
    sim.shards[0].handle(drain(1));
    sim.settle();
    let said = Sent::Text(r#"[null,null,"room:1","m",{}]"#.to_owned());
    assert_eq!(sim.sent(leaver), [said, Sent::Close(1012)]);
}
