//! Priorities of clients: the order in which clients are refused, and closed, when memory is short.

use serde_json::json;

use super::{
    harness::{Client, Sent, Sim, masked},
    polls,
    tokens::{NOW, answer},
};
use crate::{
    auth::tests::{SECRET, keyring, shared},
    config::Auth,
    counters::{CloseReason, JoinRefusal, RefuseReason},
    ledger::Stage,
    shard::Event,
    ws::CloseCode,
};

const BUDGET: u64 = 1 << 20;
const SETTINGS: &str =
    r#"{"algorithms": ["HS256"], "keyFile": "s/k", "leewayMillis": 0, "priorityClaim": "tier"}"#;
/// The priorities, and a value that says none.
const TIERS: [&str; 4] = ["low", "normal", "gold", "high"];

fn sim(settings: &str) -> Sim {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.memory_budget = Some(BUDGET);
        config.limits.messages_per_second = 0;
        config.limits.bytes_per_second = 0;
        config.auth = Auth {
            anonymous: true,
            jwt: vec![serde_json::from_str(settings).expect("settings")],
            keys: keyring(settings, SECRET),
            ..Auth::default()
        };
    });
    sim.shards[0].handle(Event::TimeOfDay(NOW * 1_000));
    sim
}

/// A connection of this priority, and whether it was let in.
fn comes(sim: &mut Sim, tier: &str) -> (Client, bool) {
    let token = shared(&json!({"sub": "ann", "exp": NOW + 1_000, "tier": tier}));
    let (client, answer) = answer(sim, Some(&token));
    let is_in = answer.starts_with("HTTP/1.1 101 ");
    assert!(is_in || answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"), "{answer}");
    (client, is_in)
}

/// A client that takes nothing more and is sent so many bytes.
fn hog(sim: &mut Sim, tier: &str, bytes: usize) -> Client {
    let (client, _) = comes(sim, tier);
    sim.join(client, "room:hogs", "1");
    sim.limit(client, Some(0));
    fill(sim, client, bytes);
    client
}

fn fill(sim: &mut Sim, client: Client, bytes: usize) {
    let text = format!(r#"["1","2","room:hogs","echo",{{"x":"{}"}}]"#, "x".repeat(1_900));
    (0..bytes / 2_000).for_each(|_| sim.text(client, &text));
}

/// Fills the memory up to so many thousandths of what the shard may hold.
fn fill_to(sim: &mut Sim, client: Client, permille: u64) {
    while used(sim) < permille {
        fill(sim, client, 2_000);
    }
    assert!(used(sim) < permille + 8, "{}", used(sim));
}

/// The thousandths that are used of what the shard may hold.
fn used(sim: &Sim) -> u64 {
    sim.shards[0].gauge.ledger.permille(sim.shards[0].held())
}

#[test]
fn clients_of_low_priority_are_refused_first_and_clients_of_high_priority_last() {
    let mut sim = sim(SETTINGS);
    let members = TIERS.map(|tier| comes(&mut sim, tier).0);
    let hogs = [300_000, 300_000, 0].map(|bytes| hog(&mut sim, "high", bytes));
    let forged = format!("{}AAAA", shared(&json!({"sub": "ann", "exp": NOW + 1_000, "tier": "high"})));
    for (permille, refused) in [(840, 0), (855, 1), (890, 1), (902, 3), (932, 3), (942, 4)] {
        fill_to(&mut sim, hogs[2], permille);
        for (rank, (tier, member)) in TIERS.into_iter().zip(members).enumerate() {
            let (client, is_in) = comes(&mut sim, tier);
            assert_eq!(is_in, rank >= refused, "{tier} at {permille}");
            if is_in {
                sim.lose(client);
            }
            sim.text(member, r#"["1","1","room:new","phx_join",{}]"#);
            let answer = sim.texts(member).pop().expect("an answer");
            assert_eq!(answer.contains("node is full"), rank < refused, "{tier} at {permille}: {answer}");
            sim.text(member, r#"["1","2","room:new","phx_leave",{}]"#);
            sim.texts(member);
        }
        // A token that is not verified gives no priority.
        let (_, forged) = answer(&mut sim, Some(&forged));
        assert!(forged.starts_with(if refused < 4 { "HTTP/1.1 403 " } else { "HTTP/1.1 503 " }), "{forged}");
        // A client without a token is one like most.
        let (nobody, answer) = answer(&mut sim, None);
        assert_eq!(answer.starts_with("HTTP/1.1 101 "), refused < 2, "{permille}: {answer}");
        if refused < 2 {
            sim.lose(nobody);
        }
    }
    let counters = sim.counters();
    assert_eq!(counters.refused[RefuseReason::MemoryLow as usize], 2);
    // Twice three of the four, all of them at last, three without a token, and a forged one at last.
    assert_eq!(counters.refused[RefuseReason::Memory as usize], 3 + 3 + 4 + 3 + 1);
    assert_eq!(counters.joins_refused[JoinRefusal::Memory as usize], 2 + 6 + 4);
    assert_eq!(counters.closed[CloseReason::Memory as usize], 0);
    hogs.into_iter().for_each(|hog| sim.limit(hog, None));
    sim.pass(500);
    assert!(comes(&mut sim, "low").1, "memory is free again");
    sim.check_ledgers();
}

#[test]
fn without_a_claim_in_the_configuration_all_are_refused_alike() {
    let mut sim = sim(r#"{"algorithms": ["HS256"], "keyFile": "s/k", "leewayMillis": 0}"#);
    let hogs = [300_000, 300_000, 0].map(|bytes| hog(&mut sim, "high", bytes));
    for (permille, is_in) in [(890, true), (902, false)] {
        fill_to(&mut sim, hogs[2], permille);
        let unknown = sim.accept(0);
        let answer = sim.http(unknown, "GET /socket");
        assert_eq!(answer.is_empty(), is_in, "{permille}: {answer}");
        for tier in TIERS {
            assert_eq!(comes(&mut sim, tier).1, is_in, "{tier} at {permille}");
        }
    }
    assert_eq!(sim.counters().refused[RefuseReason::MemoryLow as usize], 0);
}

#[test]
fn of_clients_that_take_nothing_those_of_low_priority_are_closed_first() {
    let mut sim = sim(SETTINGS);
    let (low, normal) = (hog(&mut sim, "low", 200_000), hog(&mut sim, "normal", 300_000));
    let high = hog(&mut sim, "high", 400_000);
    while sim.counters().closed[CloseReason::Memory as usize] == 0 {
        fill(&mut sim, high, 2_000);
    }
    assert!(sim.shards[0].gauge.stage < Stage::Close);
    for (client, is_closed) in [(low, true), (normal, false), (high, false)] {
        sim.limit(client, None);
        let closed = Sent::Close(CloseCode::SlowConsumer as u16);
        assert_eq!(sim.sent(client).last() == Some(&closed), is_closed);
    }
    assert_eq!(sim.counters().closed[CloseReason::Memory as usize], 1);
}

/// Low priority does not make a client with a few bytes worth closing: that would free nothing.
#[test]
fn a_client_that_holds_much_is_closed_before_many_of_lower_priority_that_hold_little() {
    let mut sim = sim(SETTINGS);
    let little: Vec<_> = (0..50).map(|_| comes(&mut sim, "low").0).collect();
    little.iter().for_each(|client| sim.bytes(*client, &masked(0x01, b"0123456789")[..10]));
    let (normal, high) = (hog(&mut sim, "normal", 420_000), hog(&mut sim, "high", 420_000));
    while sim.counters().closed[CloseReason::Memory as usize] == 0 {
        fill(&mut sim, high, 2_000);
    }
    sim.limit(normal, None);
    assert_eq!(sim.sent(normal).last(), Some(&Sent::Close(CloseCode::SlowConsumer as u16)));
    assert_eq!(sim.counters().closed[CloseReason::Memory as usize], 1);
    sim.check_ledgers();
}

/// Requests that do not end say nothing about their client, so they must not use up what is kept for high priority.
#[test]
fn incomplete_requests_leave_room_for_clients_of_high_priority() {
    for further in [false, true] {
        let mut sim = sim(SETTINGS);
        let begun: Vec<_> = (0..40).map(|_| sim.accept(0)).collect();
        if further {
            for client in &begun {
                let answer = sim.http(*client, &polls::text("GET", "", "", ""));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
        }
        let hogs = [250_000, 250_000, 0].map(|bytes| hog(&mut sim, "high", bytes));
        fill_to(&mut sim, hogs[2], 905);
        let part = format!("GET /socket/longpoll HTTP/1.1\r\nx: {}", "x".repeat(2_000));
        let answers: Vec<_> = begun.iter().map(|client| sim.http(*client, &part)).collect();
        assert!(answers[0].is_empty(), "{}", answers[0]);
        assert!(answers[39].starts_with("HTTP/1.1 503 "), "{}", answers[39]);
        assert!((915..928).contains(&used(&sim)), "{}", used(&sim));
        assert!(comes(&mut sim, "high").1, "{}", used(&sim));
        sim.check_ledgers();
    }
}
