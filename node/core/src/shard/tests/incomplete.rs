//! Incomplete frames and messages: their memory is counted, bounded and given back.

use super::harness::{Client, Sent, Sim, drain, masked};
use crate::{
    counters::CloseReason,
    limits::MAX_INCOMPLETE_BYTES,
    shard::{Event, Mail},
    ws::CloseCode,
};

const FULL: u16 = CloseCode::TryAgainLater as u16;
/// Bytes of the fragments that use the budget up.
const PART: usize = 1024 * 1024;

/// Makes connections that each keep a fragment, together as many bytes as the shard may keep.
fn fill(sim: &mut Sim) -> Vec<Client> {
    let part = masked(0x01, &vec![b'x'; PART]);
    let clients: Vec<_> = (0..MAX_INCOMPLETE_BYTES / PART).map(|_| sim.connect()).collect();
    clients.iter().for_each(|client| sim.bytes(*client, &part));
    assert_eq!(sim.incomplete_bytes(), MAX_INCOMPLETE_BYTES);
    clients
}

fn large_messages() -> Sim {
    Sim::new(1, false, |config| config.limits.max_frame_bytes = 2 * PART as u32)
}

#[test]
fn fragments_add_up_and_a_whole_message_leaves_nothing() {
    let mut sim = Sim::dev();
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    assert_eq!(sim.incomplete_bytes(), 0);
    sim.bytes(client, &masked(0x01, br#"["1","2","room:1","#));
    let one = sim.incomplete_bytes();
    assert!(one > 0);
    sim.bytes(client, &masked(0x89, b""));
    assert_eq!(sim.incomplete_bytes(), one, "a ping is whole");
    let last = masked(0x80, br#""m",{}]"#);
    let (start, end) = last.split_at(5);
    sim.bytes(client, start);
    assert!(sim.incomplete_bytes() >= one + start.len());
    sim.bytes(client, end);
    assert_eq!(sim.incomplete_bytes(), 0);
    let said = Sent::Text(r#"[null,null,"room:1","m",{}]"#.to_owned());
    assert_eq!(sim.sent(client), [Sent::Pong(Vec::new()), said]);
}

#[test]
fn a_connection_that_ends_in_the_middle_leaves_nothing() {
    let ends: [fn(&mut Sim, Client); 6] = [
        |sim, client| sim.lose(client),
        |sim, client| sim.text(client, "not a continuation"),
        |sim, client| sim.bytes(client, &masked(0x80, &[b'x'; 65_536])),
        |sim, client| sim.bytes(client, &masked(0x88, b"")),
        |sim, _| sim.pass(70_000),
        |sim, _| {
            sim.shards[0].handle(Event::Mail(Mail::Shutdown));
            sim.settle();
            sim.pass(4_000);
        },
    ];
    for end in ends {
        let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 60_000);
        let client = sim.connect();
        sim.bytes(client, &masked(0x01, &[b'x'; 1_000]));
        assert!(sim.incomplete_bytes() >= 1_000);
        end(&mut sim, client);
        assert_eq!(sim.incomplete_bytes(), 0);
    }
}

#[test]
fn a_message_takes_no_longer_than_a_connection_may_be_idle_whatever_is_said_meanwhile() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 60_000);
    let (stuck, busy) = (sim.connect(), sim.connect());
    let heartbeat = masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#);
    let (start, end) = heartbeat.split_at(10);
    sim.bytes(stuck, &masked(0x01, b"x"));
    sim.bytes(busy, start);
    for _ in 0..3 {
        sim.pass(25_000);
        sim.bytes(stuck, &masked(0x89, b""));
        // It gets the end of one message and the start of the next: it is always incomplete, but never with the same
        // message for long.
        sim.bytes(busy, &[end, start].concat());
    }
    assert_eq!(sim.sent(stuck).last(), Some(&Sent::Close(CloseCode::ProtocolError as u16)));
    sim.bytes(stuck, &masked(0x80, b"x")[1..]);
    assert!(sim.output_ended(stuck) && sim.closed.is_empty(), "the rest is not taken for a frame");
    let answers = sim.sent(busy);
    assert!(answers.len() == 3 && answers.iter().all(|sent| matches!(sent, Sent::Text(_))), "{answers:?}");
    assert_eq!(sim.counters().closed[CloseReason::Idle as usize], 1);
    assert_eq!(sim.incomplete_bytes(), start.len());
}

#[test]
fn who_adds_beyond_the_budget_is_closed_and_the_others_go_on() {
    let mut sim = large_messages();
    let other = sim.connect();
    sim.join(other, "room:1", "1");
    let clients = fill(&mut sim);
    let late = sim.connect();
    sim.bytes(late, &masked(0x01, b"x"));
    assert_eq!(sim.sent(late), [Sent::Close(FULL)]);
    assert!(sim.output_ended(late) && sim.closed.is_empty(), "waits for the peer to end");
    sim.bytes(late, &masked(0x80, b"x"));
    assert_eq!((sim.sent(late), sim.incomplete_bytes()), (vec![], MAX_INCOMPLETE_BYTES));
    sim.text(other, r#"["1","2","room:1","m",{}]"#);
    assert_eq!(sim.texts(other).len(), 1, "whole messages need nothing of it");

    sim.bytes(clients[0], &masked(0x80, b""));
    assert_eq!(sim.sent(clients[0]), [Sent::Close(CloseCode::Malformed as u16)]);
    sim.lose(clients[1]);
    assert_eq!(sim.incomplete_bytes(), MAX_INCOMPLETE_BYTES - 2 * PART);
    sim.bytes(other, &masked(0x01, b"x"));
    assert!(sim.sent(other).is_empty(), "what went is free again");
    let closed = sim.counters().closed;
    assert_eq!((closed[CloseReason::Full as usize], closed[CloseReason::Lost as usize]), (1, 1));
}

#[test]
fn who_adds_beyond_the_budget_while_it_is_closed_ends() {
    let mut sim = large_messages();
    let first = sim.connect();
    fill(&mut sim);
    sim.shards[0].handle(drain(1));
    sim.settle();
    assert_eq!(sim.sent(first), [Sent::Close(CloseCode::Restart as u16)]);
    sim.bytes(first, &masked(0x01, b"x"));
    assert_eq!((&sim.closed[..], sim.incomplete_bytes()), (&[first][..], MAX_INCOMPLETE_BYTES));
    let closed = sim.counters().closed;
    assert_eq!((closed[CloseReason::Full as usize], closed[CloseReason::Drain as usize]), (0, 1));
}
