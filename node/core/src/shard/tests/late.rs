//! Events that come too late: for a connection that has ended, and whose slot another connection has by now.

use super::harness::{REQUEST, Sim};
use crate::{
    counters::JoinRefusal,
    protocol::Payload,
    session::id::ConnId,
    shard::{Event, backend::Stand},
    topic::TopicName,
};

#[test]
fn what_is_meant_for_a_connection_that_has_ended_does_not_reach_the_next_one_in_its_slot() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 1_000);
    let first = sim.connect();
    let id = sim.shards[0].sessions.id(first.1);
    assert_eq!(sim.shards[0].slot(id), Some(first.1));
    sim.lose(first);
    assert_eq!(sim.shards[0].slot(id), None, "nobody has it");

    let next = sim.accept(0);
    assert_eq!(next.1, first.1, "the slot is given out again");
    assert_eq!((sim.shards[0].slot(id), id.slot()), (None, next.1));
    sim.http(next, REQUEST);
    // Events of the kernel come late, too: a token of the first connection must not keep the second from being idle,
    // nor make the shard take it for writable.
    sim.limit(next, Some(0));
    sim.text(next, r#"[null,"1","phoenix","heartbeat",{}]"#);
    let late = ConnId::from_token(id.to_token());
    for _ in 0..8 {
        sim.pass(500);
        sim.shards[0].handle(Event::Input(late));
        sim.shards[0].handle(Event::Writable(late));
    }
    assert!(!sim.shards[0].has_flushes(), "it is still blocked");
    sim.limit(next, None);
    assert_eq!(sim.sent(next).last(), Some(&super::harness::Sent::Close(1002)), "it was idle");
}

#[test]
fn a_join_may_be_finished_in_a_later_turn_as_things_are_then() {
    let mut sim = Sim::new(1, true, |config| config.limits.max_channels_per_connection = 1);
    let (client, other) = (sim.connect(), sim.connect());
    let name = TopicName::parse("room:1").expect("a topic");
    let rules = sim.shards[0].join_rules(name);
    assert!(sim.shards[0].check_join(client.1, name, rules).is_ok());
    sim.join(other, "room:1", "1");
    assert_eq!(sim.counters().memberships, 1, "the check claims nothing");
    sim.pass(1_000);
    sim.shards[0].finish_join(client.1, name, ("\"5\"", "\"6\""), Payload::Json("{}"), Stand::Unasked);
    sim.settle();
    let ok = r#"["5","6","room:1","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!((sim.texts(client), sim.counters().memberships), (vec![ok.to_owned()], 2));
    // The member may join again, and a second channel does not fit.
    let again = |topic| {
        let name = TopicName::parse(topic).expect("a topic");
        sim.shards[0].check_join(client.1, name, rules).err()
    };
    assert_eq!([again("room:1"), again("room:2")], [None, Some(JoinRefusal::TooManyChannels)]);
}

#[test]
fn a_join_that_is_finished_after_the_connection_was_closed_claims_nothing() {
    let mut sim = Sim::new(1, false, |config| config.limits.idle_timeout_millis = 1_000);
    let client = sim.connect();
    let name = TopicName::parse("room:1").expect("a topic");
    // An unmasked frame breaks the protocol: the connection is closed, and its slot is not free yet.
    sim.bytes(client, &[0x81, 0x00]);
    sim.shards[0].finish_join(client.1, name, ("\"5\"", "\"6\""), Payload::Json("{}"), Stand::Unasked);
    sim.settle();
    assert_eq!(sim.counters().memberships, 0);
}
