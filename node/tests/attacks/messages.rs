//! Attacks with messages, fragments and heads that are good by themselves, in numbers and sizes that are not.

use std::{net::Ipv4Addr, time::Instant};

use node_core::counters::{CloseReason, JoinRefusal, RefuseReason};

use super::{Attacker, KIND, MIB, Manner, Node, REQUEST, frame, join, push, run, take_turn, text, wait};

#[test]
fn giant_topics() {
    run(&Manner { name: "giant topics", again: |_| push(&"t".repeat(60_000), "m", 1), ..KIND });
}

#[test]
fn giant_refs() {
    let again = |_| text(&format!(r#"["{0}","{0}","room:x","phx_join",{{}}]"#, "r".repeat(30_000)));
    run(&Manner { name: "giant refs", again, ..KIND });
}

#[test]
fn giant_events() {
    let again = |_| push("room:x", &"e".repeat(60_000), 1);
    run(&Manner { name: "giant events", once: |_| join("room:x", "1"), again, ..KIND });
}

#[test]
fn unread_replies() {
    let again = |number| push(&format!("room:{number}"), "echo", 30_000);
    run(&Manner {
        name: "unread replies",
        once: |number| join(&format!("room:{number}"), "1"),
        again,
        ..KIND
    });
}

#[test]
fn unread_small_replies() {
    let again = |_| text(r#"[null,"1","phoenix","heartbeat",{}]"#);
    run(&Manner { name: "unread small replies", again, quota: 64 * 1_024, ..KIND });
}

#[test]
fn unread_broadcasts() {
    run(&Manner {
        name: "unread broadcasts",
        group: 20,
        once: |number| join(&format!("room:{number}"), "1"),
        again: |number| push(&format!("room:{number}"), "m", 8_000),
        ..KIND
    });
}

#[test]
fn unread_pongs() {
    run(&Manner { name: "unread pongs", again: |_| frame(0x89, &[b'x'; 125]), ..KIND });
}

#[test]
fn paused_input() {
    let once = |_| frame(0x89, b"").repeat(64 * 1_024 / 6);
    run(&Manner { name: "paused input", once, ..KIND });
}

#[test]
fn slow_heads() {
    let once = |_| {
        let mut head = b"GET /socket/websocket HTTP/1.1\r\nhost: n\r\ncookie: ".to_vec();
        head.resize(8_000, b'x');
        head
    };
    run(&Manner { name: "slow heads", handshake: false, once, ..KIND });
}

#[test]
fn sessions_that_nobody_polls() {
    let again = |_| b"GET /socket/longpoll HTTP/1.1\r\nhost: n\r\n\r\n".to_vec();
    let quota = 6 * 1_024;
    let counters =
        run(&Manner { name: "sessions that nobody polls", handshake: false, again, quota, ..KIND });
    assert!(counters.refused[RefuseReason::Memory as usize] > 0, "{:?}", counters.refused);
}

#[test]
fn endless_fragments() {
    let once = |_| {
        let mut all = frame(0x01, b"[");
        // Just below the longest message.
        (0..64).for_each(|_| all.extend_from_slice(&frame(0x00, &[b' '; 1_000])));
        all
    };
    let again = |_| frame(0x89, b"");
    run(&Manner { name: "endless fragments", once, again, quota: 6_000, ..KIND });
}

#[test]
fn frames_that_never_end() {
    let once = |_| {
        let mut all = frame(0x81, &[b' '; 65_000]);
        all.truncate(64_000);
        all
    };
    run(&Manner { name: "frames that never end", once, ..KIND });
}

#[test]
fn many_rooms() {
    let once = |number| {
        let filler = "x".repeat(200);
        (0..100).flat_map(|room| join(&format!("room:{number}-{room}-{filler}"), "1")).collect()
    };
    let counters = run(&Manner { name: "many rooms", group: 1, once, ..KIND });
    // The attackers take no answers, so the node may close some of them for that; it refuses their joins first.
    let refused = counters.joins_refused[JoinRefusal::Memory as usize];
    let closed = counters.closed[CloseReason::Memory as usize];
    assert!(refused > 10 * closed.max(1), "{refused} joins were refused, {closed} closed");
}

#[test]
fn many_channels() {
    let once = |_| {
        let reference = "r".repeat(62);
        (0..100).flat_map(|room| join(&format!("room:{room}"), &reference)).collect()
    };
    let again = |_| Vec::new();
    run(&Manner { name: "many channels", once, again, ..KIND });
}

#[test]
fn half_closed_sockets() {
    let again = |_| push("room:x", "echo", 30_000);
    run(&Manner {
        name: "half-closed sockets",
        once: |_| join("room:x", "1"),
        again,
        half_closes: true,
        ..KIND
    });
}

#[test]
fn half_closed_after_a_refusal() {
    let once = |_| b"GET /nothing HTTP/1.1\r\nhost: n\r\n\r\n".to_vec();
    run(&Manner { name: "half-closed after a refusal", handshake: false, once, half_closes: true, ..KIND });
}

/// No member is here to hear them and the other nodes cannot be reached: their messages can only wait on the way to
/// the bus.
#[test]
fn publishers_beside_a_stopped_bus() {
    let counters = run(&Manner {
        name: "publishers beside a stopped bus",
        group: 1,
        once: |number| join(&format!("room:others-{number}"), "1"),
        again: |number| push(&format!("room:others-{number}"), "m", 8_000),
        stopped_bus: true,
        ..KIND
    });
    assert_eq!(counters.closed.iter().sum::<u64>(), 0, "nobody is held back or closed for the bus");
}

/// One publisher says as much as it can in a room of two: the node takes its messages at the rate, tells it so, and
/// loses none.
#[test]
fn one_publisher_is_taken_at_its_rate() {
    let _turn = take_turn();
    let node = Node::start(1, |_| {});
    let mut listener = node.client();
    listener.join("room:x");
    let mut publisher = Attacker::connect(Ipv4Addr::LOCALHOST, node.addr(), Some(REQUEST));
    let started = Instant::now();
    let message = text(r#"["1","2","room:x","m",{}]"#);
    let all = message.repeat(20_000);
    publisher.say(&join("room:x", "1"), &all, MIB);
    wait("it is told", || node.counters().rate_limited == 1);
    for _ in 0..200 {
        publisher.say(&join("room:x", "1"), &all, MIB);
        listener.expect(r#"[null,null,"room:x","m",{}]"#);
        let publishes = node.counters().publishes;
        // 1,250 at once, 250 per second, and the messages of one read, which are taken before the rate is applied.
        let most = 1_250 + 250 * (started.elapsed().as_secs() + 1) + 64;
        assert!(publishes <= most, "{publishes} in {:?}", started.elapsed());
    }
    assert_eq!(node.counters().closed.iter().sum::<u64>(), 0);
}
