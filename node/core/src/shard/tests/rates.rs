//! How much a connection may say: one that says more is told once, waits, and loses nothing.

use super::harness::{Client, Sim, begin, drain, masked};
use crate::{config::Limits, shard::Progress};

/// Feeds input as the thread does: it waits while the connection may not be read. Returns how many milliseconds all
/// of it took.
fn flood(sim: &mut Sim, (shard, id): Client, data: &[u8]) -> u64 {
    let begun = sim.now_millis;
    let (mut data, mut paused) = (data.to_vec(), false);
    loop {
        sim.resumed.clear();
        if sim.shards[shard].may_read(id, false) {
            let more = if paused { Vec::new() } else { std::mem::take(&mut data) };
            paused = sim.shards[shard].on_data(id, &mut more.clone()) == Progress::Paused;
            sim.settle();
            if !paused {
                return sim.now_millis - begun;
            }
        }
        // The test takes turns when they are due, and the connection must be resumed in one of them.
        while !sim.shards[shard].may_read(id, false) && sim.resumed.is_empty() {
            sim.now_millis = sim.shards[shard].next_deadline().max(sim.now_millis);
            let now = sim.now_millis;
            begin(&mut sim.shards[shard], now);
            sim.carry_out(shard);
            assert!(sim.resumed.is_empty() || sim.resumed == [(shard, id)]);
        }
    }
}

fn limited(change: impl FnOnce(&mut Limits)) -> (Sim, Client) {
    let mut sim = Sim::new(1, false, |config| change(&mut config.limits));
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    (sim, client)
}

fn message(number: usize) -> Vec<u8> {
    masked(0x81, format!(r#"["1","2","room:1","m",{{"n":{number}}}]"#).as_bytes())
}

#[test]
fn who_says_too_much_is_told_once_and_read_at_its_pace_and_nothing_is_lost() {
    let (mut sim, client) = limited(|limits| limits.messages_per_second = 100);
    let data: Vec<u8> = (0..1_000).flat_map(message).collect();
    let millis = flood(&mut sim, client, &data);
    // 500 messages come at once, the join among them, and the rest at 100 per second.
    assert!((4_500..=5_500).contains(&millis), "{millis}");
    let texts = sim.texts(client);
    let (told, said): (Vec<_>, Vec<_>) =
        texts.into_iter().partition(|text| text.contains(r#""reason":"rate limited""#));
    assert_eq!((told.len(), sim.counters().rate_limited), (1, 1));
    let expected = (0..1_000).map(|n| format!(r#"[null,null,"room:1","m",{{"n":{n}}}]"#));
    assert!(said.iter().eq(expected.collect::<Vec<_>>().iter()), "{}", said.len());
}

#[test]
fn bytes_count_as_well_and_pings_as_messages() {
    let (mut sim, client) = limited(|limits| limits.bytes_per_second = 10_000);
    let long = masked(0x81, format!(r#"["1","2","room:1","m",{{"x":"{}"}}]"#, "x".repeat(30_000)).as_bytes());
    assert_eq!(flood(&mut sim, client, &long), 0);
    assert_eq!(flood(&mut sim, client, &long), 0);
    let millis = flood(&mut sim, client, &long);
    assert!((900..1_500).contains(&millis), "{millis}");

    let (mut sim, client) = limited(|limits| limits.messages_per_second = 100);
    let millis = flood(&mut sim, client, &masked(0x89, b"").repeat(1_000));
    assert!((4_500..=5_500).contains(&millis), "{millis}");
}

#[test]
fn without_a_rate_nobody_waits_and_a_connection_at_rest_costs_nothing() {
    let (mut sim, client) = limited(|limits| {
        limits.messages_per_second = 0;
        limits.bytes_per_second = 0;
    });
    let data: Vec<u8> = (0..5_000).flat_map(message).collect();
    assert_eq!((flood(&mut sim, client, &data), sim.shards[0].buckets()), (0, 0));

    let (mut sim, client) = limited(|_| {});
    assert_eq!((flood(&mut sim, client, &message(1)), sim.shards[0].buckets()), (0, 0), "it says little");
    let many: Vec<u8> = (0..10).flat_map(message).collect();
    assert_eq!((flood(&mut sim, client, &many), sim.shards[0].buckets()), (0, 1));
    sim.pass(1_000);
    assert_eq!(sim.shards[0].buckets(), 0);
}

/// Messages that are counted without a bucket are no second allowance, however they are spread over time.
#[test]
fn who_says_little_at_a_time_says_no_more_than_its_rate() {
    for (at_once, pause) in
        [(1, 50), (7, 50), (8, 50), (12, 50), (20, 50), (16, 100), (40, 250), (70, 250), (90, 300)]
    {
        let (mut sim, client) = limited(|limits| limits.messages_per_second = 200);
        let data: Vec<u8> = (0..at_once).flat_map(message).collect();
        let (begun, mut said) = (sim.now_millis, 0);
        while sim.now_millis - begun < 20_000 {
            said += at_once as u64;
            flood(&mut sim, client, &data);
            sim.pass(pause);
        }
        // The terms: the burst, the rate, what a byte of `Rates` counts in two sweeps, and the last messages.
        let most = 1_000 + (sim.now_millis - begun) / 5 + 2 * 7 + at_once as u64;
        assert!(said <= most, "{said} of {most} by {at_once} each {pause} ms");
    }
}

#[test]
fn one_flood_holds_back_nobody_else_and_leaves_with_its_connection() {
    let (mut sim, client) = limited(|limits| limits.messages_per_second = 10);
    let other = sim.connect();
    sim.join(other, "room:2", "1");
    let (shard, id) = client;
    sim.shards[shard].on_data(id, &mut (0..200).flat_map(message).collect::<Vec<_>>());
    sim.settle();
    assert!(!sim.shards[shard].may_read(id, false));
    assert!(sim.shards[shard].may_read(other.1, false));
    sim.lose(client);
    sim.pass(60_000);
    assert!(sim.resumed.is_empty() && sim.shards[shard].timers.deadlines() == 0);
}

/// The close frame that ends a connection may come with messages before it in the same read.
#[test]
fn what_a_connection_says_at_its_end_is_not_charged_to_the_next_with_its_id() {
    let (mut sim, client) = limited(|limits| limits.messages_per_second = 10);
    sim.shards[0].handle(drain(1));
    sim.settle();
    let mut data: Vec<u8> = (0..30).flat_map(message).collect();
    data.extend(masked(0x88, &1012u16.to_be_bytes()));
    sim.bytes(client, &data);
    assert_eq!((sim.closed.clone(), sim.shards[0].buckets()), (vec![client], 0));
}
