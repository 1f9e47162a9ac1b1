//! A silent connection is asked for a sign of life, and closed when it gives none.

use super::harness::{Sent, Sim};
use crate::counters::CloseReason;

/// A pong, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

#[test]
fn a_listener_that_answers_pings_is_not_idle_and_one_that_does_not_is() {
    let mut sim = Sim::new(1, false, |config| config.limits.ping_interval_millis = Some(20_000));
    let (alive, deaf, busy) = (sim.connect(), sim.connect(), sim.connect());
    let mut pings = (0, 0);
    for _ in 0..600 {
        sim.pass(250);
        sim.text(busy, r#"[null,"4","phoenix","heartbeat",{}]"#);
        assert!(!sim.sent(busy).contains(&Sent::Ping), "who speaks is not asked");
        for sent in sim.sent(alive) {
            assert_eq!(sent, Sent::Ping);
            pings.0 += 1;
            sim.bytes(alive, &PONG);
        }
        pings.1 += sim.sent(deaf).iter().filter(|sent| **sent == Sent::Ping).count();
    }
    // 150 seconds of silence, each of a little more than the interval.
    assert!((6..=7).contains(&pings.0), "{pings:?}");
    // Pings go out after 20 and 40 seconds, and after 60 unless the connection is closed first.
    assert!((2..=3).contains(&pings.1), "{pings:?}");
    assert_eq!(sim.counters().closed[CloseReason::Idle as usize], 1);
    assert_eq!(sim.counters().connections, 2);
}

#[test]
fn no_pings_are_sent_unless_they_are_asked_for_nor_to_who_takes_nothing() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.pass(59_000);
    assert_eq!(sim.sent(client), []);
    let mut sim = Sim::new(1, false, |config| config.limits.ping_interval_millis = Some(1_000));
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.limit(client, Some(0));
    sim.text(client, r#"["1",null,"room:1","m",{}]"#);
    let queued = sim.counters().send_queue_bytes;
    sim.pass(10_000);
    assert_eq!(sim.counters().send_queue_bytes, queued);
}

/// A sweep goes by places in the table: connections that it passes over while the table grows are asked in the next
/// round.
#[test]
fn who_is_silent_is_asked_also_when_the_table_grows_between_two_sweeps() {
    for grown_at in (8_000..12_000).step_by(250) {
        let mut sim = Sim::new(1, false, |config| config.limits.ping_interval_millis = Some(10_000));
        let clients: Vec<_> = (0..8).map(|_| sim.connect()).collect();
        sim.pass(grown_at);
        for _ in 0..24 {
            sim.connect();
        }
        sim.pass(14_000 - grown_at);
        for client in clients {
            assert!(sim.sent(client).contains(&Sent::Ping), "{client:?}, grown at {grown_at} ms");
        }
    }
}
