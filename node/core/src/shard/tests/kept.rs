//! Transports that take output which their socket does not take, as TLS does, and that end for reasons of their own.

use super::harness::{Sent, Sim, masked};
use crate::{
    counters::{CloseReason, RefuseReason},
    limits::CLOSE_TIMEOUT_MILLIS,
    shard::Event,
};

/// Two members of `room:1`, of which the second has a transport that keeps records.
fn pair() -> (Sim, super::harness::Client, super::harness::Client) {
    let mut sim = Sim::dev();
    sim.keeps_records = true;
    let (speaker, keeper) = (sim.connect(), sim.connect());
    assert_eq!(keeper.1.0 % 2, 1);
    sim.join(speaker, "room:1", "1");
    sim.join(keeper, "room:1", "1");
    (sim, speaker, keeper)
}

#[test]
fn what_a_transport_keeps_is_sent_once_and_before_the_rest() {
    let (mut sim, speaker, keeper) = pair();
    sim.limit(keeper, Some(7));
    for number in 0..20 {
        sim.text(speaker, &format!(r#"["1",null,"room:1","n",{{"n":{number}}}]"#));
    }
    assert!(sim.counters().short_writes > 0);
    for _ in 0..30 {
        sim.limit(keeper, Some(11));
    }
    sim.limit(keeper, None);
    let heard = sim.texts(keeper);
    let said: Vec<String> =
        (0..20).map(|number| format!(r#"[null,null,"room:1","n",{{"n":{number}}}]"#)).collect();
    assert_eq!(heard, said);
}

#[test]
fn a_connection_does_not_end_before_its_transport_has_sent_the_last_bytes() {
    let (mut sim, _, keeper) = pair();
    sim.limit(keeper, Some(0));
    sim.bytes(keeper, &masked(0x88, &1000u16.to_be_bytes()));
    assert!(sim.closed.is_empty(), "the answer to its close frame waits in the transport");
    sim.limit(keeper, None);
    assert_eq!((sim.closed.clone(), sim.sent(keeper)), (vec![keeper], vec![Sent::Close(1000)]));

    let (mut sim, _, keeper) = pair();
    sim.limit(keeper, Some(0));
    sim.bytes(keeper, &masked(0x88, &1000u16.to_be_bytes()));
    sim.pass(CLOSE_TIMEOUT_MILLIS + 1_000);
    assert_eq!(sim.closed, [keeper], "but not for ever");
}

#[test]
fn a_worn_transport_says_goodbye_politely() {
    let (mut sim, speaker, keeper) = pair();
    sim.shards[0].handle(Event::Worn(keeper.1));
    sim.settle();
    assert_eq!(sim.sent(keeper), [Sent::Close(1012)]);
    sim.text(keeper, r#"["1",null,"room:1","n",{"n":1}]"#);
    assert_eq!(sim.texts(speaker), [r#"[null,null,"room:1","n",{"n":1}]"#], "what it had under way");
    sim.shards[0].handle(Event::Worn(keeper.1));
    sim.bytes(keeper, &masked(0x88, &1012u16.to_be_bytes()));
    assert_eq!((sim.closed.clone(), sim.counters().closed[CloseReason::Worn as usize]), (vec![keeper], 1));
}

#[test]
fn a_transport_that_cannot_begin_is_refused_and_an_open_one_is_not() {
    let (mut sim, speaker, _) = pair();
    let new = sim.accept(0);
    for client in [new, speaker] {
        sim.shards[0].handle(Event::Unfit(client.1, RefuseReason::Tls));
    }
    sim.settle();
    assert_eq!((sim.closed.clone(), sim.counters().refused[RefuseReason::Tls as usize]), (vec![new], 1));
    assert_eq!(sim.counters().handshaking, 0);
}

#[test]
fn bytes_in_a_transport_count_as_memory_of_a_stuck_client() {
    let (mut sim, speaker, keeper) = pair();
    sim.limit(keeper, Some(0));
    sim.text(speaker, r#"["1",null,"room:1","n",{}]"#);
    let aside = sim.shards[0].sessions.side().get(keeper.1).expect("it is blocked");
    assert!(aside.unsent > 0);
    let before = sim.shards[0].held();
    sim.shards[0].handle(Event::Transport(1_000));
    assert_eq!(sim.shards[0].held(), before + 1_000);
    sim.limit(keeper, None);
    assert!(sim.shards[0].sessions.side().get(keeper.1).is_none());
}
