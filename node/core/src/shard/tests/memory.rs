//! Near the budget: which connections are read less, refused and closed, and which never are.

use super::harness::{Client, Sent, Sim, masked};
use crate::{
    config::NodeConfig,
    counters::{CloseReason, JoinRefusal, RefuseReason},
    ledger::{Kind, Stage, bus_bytes},
    protocol::{Vsn, encode},
    shard::Progress,
    ws::CloseCode,
};

const BUDGET: u64 = 1 << 20;
const SLOW: u16 = CloseCode::SlowConsumer as u16;

fn with_budget(budget: u64) -> Sim {
    Sim::new(1, false, |config| {
        config.limits.memory_budget = Some(budget);
        config.limits.messages_per_second = 0;
        config.limits.bytes_per_second = 0;
    })
}

/// A connection that takes nothing more, with about so many bytes queued.
fn hog(sim: &mut Sim, bytes: usize) -> Client {
    let client = sim.connect();
    sim.join(client, "room:hogs", "1");
    sim.limit(client, Some(0));
    fill(sim, client, bytes);
    client
}

fn fill(sim: &mut Sim, client: Client, bytes: usize) {
    let text = format!(r#"["1","2","room:hogs","echo",{{"x":"{}"}}]"#, "x".repeat(10_000));
    (0..bytes / 10_000).for_each(|_| sim.text(client, &text));
}

fn said_to(sim: &mut Sim, from: Client, to: Client) -> bool {
    sim.text(from, r#"["1","2","room:pair","m",{}]"#);
    sim.texts(from);
    sim.texts(to) == [r#"[null,null,"room:pair","m",{}]"#]
}

fn pair(sim: &mut Sim) -> (Client, Client) {
    let pair = (sim.connect(), sim.connect());
    sim.join(pair.0, "room:pair", "1");
    sim.join(pair.1, "room:pair", "1");
    pair
}

#[test]
fn who_holds_most_and_takes_least_goes_first_and_who_takes_all_never() {
    let mut sim = with_budget(BUDGET);
    let (one, two) = pair(&mut sim);
    let (small, large) = (hog(&mut sim, 120_000), hog(&mut sim, 400_000));
    sim.pass(2_000);
    let fresh = hog(&mut sim, 470_000);
    fill(&mut sim, fresh, 40_000);
    sim.limit(large, None);
    assert_eq!(sim.sent(large).last(), Some(&Sent::Close(SLOW)));
    for client in [small, fresh] {
        sim.limit(client, None);
        let sent = sim.sent(client);
        assert!(sent.iter().all(|sent| matches!(sent, Sent::Text(_))), "{sent:?}");
    }
    assert!(said_to(&mut sim, one, two));
    assert_eq!(sim.counters().closed[CloseReason::Memory as usize], 1);
    sim.check_ledgers();
}

#[test]
fn whatever_is_asked_for_the_sum_stays_below_the_budget_and_a_pair_is_heard() {
    let mut sim = with_budget(BUDGET);
    let (one, two) = pair(&mut sim);
    for _ in 0..50 {
        hog(&mut sim, 200_000);
        assert!(sim.shards[0].held() < BUDGET, "{}", sim.shards[0].held());
        assert!(said_to(&mut sim, one, two));
        sim.pass(500);
    }
    let counters = sim.counters();
    assert!(counters.closed[CloseReason::Memory as usize] >= 40);
    assert_eq!(counters.closed[CloseReason::SlowConsumer as usize], 0);
    assert!(counters.memory[Kind::Queues as usize] > 0);
}

#[test]
fn near_the_budget_connections_and_joins_are_refused_and_later_taken_again() {
    let mut sim = with_budget(BUDGET);
    let member = sim.connect();
    let hog = hog(&mut sim, 450_000);
    let fuller = self::hog(&mut sim, 500_000);
    assert_eq!(sim.shards[0].gauge.stage, Stage::Refuse, "{}", sim.shards[0].held());
    let late = sim.accept(0);
    let answer = sim.http(late, super::harness::REQUEST);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"), "{answer}");
    sim.text(member, r#"["1","1","room:new","phx_join",{}]"#);
    assert!(sim.texts(member)[0].contains("node is full"));
    let counters = sim.counters();
    assert_eq!(counters.refused[RefuseReason::Memory as usize], 1);
    assert_eq!(counters.joins_refused[JoinRefusal::Memory as usize], 1);
    sim.limit(hog, None);
    sim.limit(fuller, None);
    sim.pass(500);
    assert_eq!(sim.shards[0].gauge.stage, Stage::Free);
    sim.join(member, "room:new", "1");
    sim.connect();
}

#[test]
fn who_takes_nothing_is_not_read_while_memory_is_short_and_is_named_when_it_takes_again() {
    let mut sim = with_budget(BUDGET);
    let (one, _) = pair(&mut sim);
    let hogs = [hog(&mut sim, 450_000), hog(&mut sim, 430_000)];
    let shard = &mut sim.shards[0];
    assert!(shard.gauge.stage > Stage::Free, "{}", shard.held());
    assert_eq!(shard.read_bytes(65_536), 4_096);
    assert!(shard.may_read(one.1, false), "it takes what it is sent");
    assert!(!shard.may_read(hogs[0].1, false) && !shard.may_read(hogs[0].1, false));
    assert!(shard.may_read(hogs[0].1, true), "its end must be seen");
    assert!(!shard.may_read(hogs[1].1, false));
    assert_eq!(shard.counters().reads_held, 2);
    sim.limit(hogs[0], None);
    assert!(sim.resumed.contains(&hogs[0]), "{:?}", sim.resumed);
    sim.pass(500);
    assert!(sim.resumed.contains(&hogs[1]), "memory is free again");
}

#[test]
fn input_that_is_kept_is_given_up_with_its_connection() {
    let mut sim = with_budget(BUDGET);
    let (one, two) = pair(&mut sim);
    let fragment = masked(0x01, &[b'x'; 60_000]);
    let clients: Vec<_> = (0..40).map(|_| sim.connect()).collect();
    for client in clients {
        sim.bytes(client, &fragment);
        assert!(sim.shards[0].held() < BUDGET);
    }
    assert!(said_to(&mut sim, one, two));
    assert!(sim.counters().closed[CloseReason::Memory as usize] > 20);
    sim.check_ledgers();
}

/// 4 KiB of heartbeats: as many as one read brings when memory is short.
fn beats() -> Vec<u8> {
    masked(0x81, br#"[null,"2","phoenix","heartbeat",{}]"#).repeat(100)
}

/// The messages that wait here are whole, but the client was allowed far fewer.
#[test]
fn who_says_too_much_is_given_up_before_what_it_said_fills_the_memory() {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.memory_budget = Some(BUDGET);
        config.limits.messages_per_second = 10;
        config.limits.bytes_per_second = 0;
    });
    let (one, two) = pair(&mut sim);
    let clients: Vec<_> = (0..60).map(|_| sim.connect()).collect();
    for (shard, id) in clients {
        assert_eq!(sim.shards[shard].on_data(id, &mut beats().repeat(15)), Progress::Paused);
        sim.settle();
        assert!(sim.shards[0].held() < BUDGET, "{}", sim.shards[0].held());
    }
    assert!(said_to(&mut sim, one, two));
    let counters = sim.counters();
    assert!(counters.closed[CloseReason::Memory as usize] > 30, "{:?}", counters.closed);
    sim.check_ledgers();
}

/// Here the node does not keep up with its clients.
#[test]
fn input_that_the_node_itself_put_off_closes_nobody_and_stays_within_the_budget() {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.memory_budget = Some(BUDGET);
        config.limits.send_queue_frames = 4;
    });
    let talker = sim.connect();
    sim.join(talker, "room:1", "1");
    let clients: Vec<_> = (0..400).map(|_| sim.connect()).collect();
    // A queue is half full and not written, so the shard pauses after each message.
    sim.flushes_per_turn = 0;
    for _ in 0..3 {
        let (shard, id) = talker;
        sim.shards[shard].on_data(id, &mut masked(0x81, br#"["1","2","room:1","m",{}]"#));
    }
    assert!(sim.shards[0].is_over_budget());
    let (mut put_off, mut held) = (Vec::new(), 0);
    for (shard, id) in clients {
        if sim.shards[shard].may_read(id, false) {
            assert_eq!(sim.shards[shard].on_data(id, &mut beats()), Progress::Paused);
            put_off.push(id);
        } else {
            held += 1;
        }
        assert!(sim.shards[0].held() < BUDGET, "{}", sim.shards[0].held());
    }
    assert!(held > 100 && put_off.len() > 100, "{held} {}", put_off.len());
    // The shard catches up: it serves the messages that wait, and then reads the connections that it did not read.
    sim.flushes_per_turn = usize::MAX;
    sim.resumed.clear();
    for id in put_off {
        sim.settle();
        assert!(sim.shards[0].may_read(id, false), "it waits here already");
        while sim.shards[0].on_data(id, &mut []) == Progress::Paused {
            sim.settle();
        }
    }
    sim.settle();
    assert_eq!((sim.resumed.len(), sim.counters().closed.iter().sum::<u64>()), (held, 0));
    sim.check_ledgers();
}

#[test]
fn what_the_bus_may_hold_comes_off_the_budget_first() {
    let allowance = |has_bus| {
        let mut sim = Sim::new(1, has_bus, |config| config.limits.memory_budget = Some(BUDGET));
        sim.pass(500);
        sim.shards[0].gauge.ledger.allowance()
    };
    assert_eq!(
        allowance(false) - allowance(true),
        bus_bytes(BUDGET, NodeConfig::dev().limits.max_frame_bytes.into(), NodeConfig::dev().long_poll)
    );
}

#[test]
fn topics_take_half_of_the_budget_at_most() {
    let mut sim = with_budget(BUDGET);
    let name = "x".repeat(200);
    let mut refused = 0;
    for client in 0..40 {
        let joiner = sim.connect();
        for topic in 0..90 {
            sim.text(joiner, &format!(r#"["1","1","room:{client}-{topic}-{name}","phx_join",{{}}]"#));
            refused += sim.texts(joiner).iter().filter(|text| text.contains("node is full")).count();
        }
        assert!(sim.shards[0].options.registry.bytes() <= BUDGET / 2 + 1_000);
    }
    assert!(refused > 1_000, "{refused}");
    assert_eq!(sim.counters().closed.iter().sum::<u64>(), 0, "who only asks for much is refused, not closed");
    let (one, two) = (sim.connect(), sim.connect());
    sim.join(one, &format!("room:0-0-{name}"), "1");
    sim.text(two, &format!(r#"["1","1","room:0-0-{name}","phx_leave",{{}}]"#));
    assert_eq!(sim.texts(two).len(), 1);
}

/// Of a topic that a client made up, a reply repeats no more than a valid topic has.
#[test]
fn answers_repeat_no_more_of_a_topic_than_a_valid_one_has() {
    let long = "\u{e4}".repeat(10_000);
    for vsn in ["1.0.0", "2.0.0"] {
        for event in ["phx_join", "phx_leave", "m", "echo", &long] {
            let mut sim = Sim::dev();
            let client = sim.connect_to(0, vsn);
            for topic in [long.clone(), format!("room:{long}")] {
                let text = if vsn == "2.0.0" {
                    format!(r#"["1","2","{topic}","{event}",{{}}]"#)
                } else {
                    format!(r#"{{"topic":"{topic}","event":"{event}","payload":{{}},"ref":"2"}}"#)
                };
                sim.text(client, &text);
                let answers = sim.texts(client);
                assert!(answers.len() == 1 && answers[0].len() < 500, "{event:.20}: {}", answers[0].len());
            }
        }
    }
    let reply = encode::reply(Vsn::V2, ("null", "null"), &"x".repeat(255), "ok", "{}");
    assert!(String::from_utf8_lossy(&reply).contains(&"x".repeat(255)));
}
