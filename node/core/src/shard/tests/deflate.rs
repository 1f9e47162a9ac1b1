//! Compressed messages in both directions, beside members that have none of it.

use arbitrary::Unstructured;

use super::harness::{Client, Sent, Sim, deflated, masked};
use crate::{
    config::{Compression, NodeConfig, Policy},
    counters::CloseReason,
    ledger::Kind,
    shard::{Event, Mail, Progress},
};

const LEAST: usize = 100;

fn on(config: &mut NodeConfig) {
    config.compression = Some(Compression { level: 2, min_bytes: LEAST as u32 });
}

/// A message to the room, with a payload of about so many bytes.
fn message(bytes: usize) -> String {
    format!(r#"["1","2","room:1","m",{{"x":"{}"}}]"#, "abcdefgh".repeat(bytes / 8))
}

fn heard(bytes: usize) -> String {
    message(bytes).replace(r#""1","2""#, "null,null")
}

/// Sends a text compressed.
fn say(sim: &mut Sim, client: Client, text: &str) {
    sim.bytes(client, &masked(0xc1, &deflated(text.as_bytes())));
}

#[test]
fn members_with_and_without_compression_hear_the_same_and_it_is_compressed_once() {
    let mut sim = Sim::new(2, false, on);
    let plain = [sim.connect(), sim.connect_to(1, "2.0.0")];
    let deflated =
        [sim.connect_deflate(0, "2.0.0"), sim.connect_deflate(0, "2.0.0"), sim.connect_deflate(1, "2.0.0")];
    for client in plain.into_iter().chain(deflated) {
        sim.join(client, "room:1", "1");
    }
    let before = sim.counters();
    say(&mut sim, deflated[0], &message(5_000));
    let sent = sim.counters().sent_bytes - before.sent_bytes;
    for client in plain.into_iter().chain(deflated) {
        assert_eq!(sim.texts(client), [heard(5_000)]);
    }
    assert!(sent < 2 * 5_100 + 3 * 200, "{sent}: three of five got it compressed");
    let counters = sim.counters();
    // Once on each shard.
    assert_eq!((counters.deflated_messages, counters.deflated_bytes), (2, 2 * heard(5_000).len() as u64));
    assert!(counters.deflated_to_bytes < 300);
    assert_eq!((counters.inflated_messages, counters.inflated_to_bytes), (1, message(5_000).len() as u64));
    assert!(counters.inflated_bytes < 100 && counters.writes == 5);
    sim.check_ledgers();
    assert!(counters.memory[Kind::Compression as usize] > 100_000);
    sim.pass(1_000);
    assert_eq!(sim.counters().memory[Kind::Compression as usize], 0, "it is given back");
}

#[test]
fn short_messages_and_replies_are_sent_as_they_are() {
    let mut sim = Sim::new(1, false, on);
    let client = sim.connect_deflate(0, "2.0.0");
    sim.join(client, "room:1", "1");
    let first_byte = |sim: &mut Sim, text: &str| {
        sim.text(client, text);
        sim.take_output(client)[0]
    };
    assert_eq!(first_byte(&mut sim, &message(40)), 0x81);
    assert_eq!(first_byte(&mut sim, &message(200)), 0xc1);
    assert_eq!(first_byte(&mut sim, &message(200).replace("\"m\"", "\"echo\"")), 0x81);
    assert_eq!(sim.counters().deflated_messages, 1);
}

/// Members of all forms hear the same, whatever is said, at once or in a window.
#[test]
fn whatever_is_said_all_hear_the_same() {
    arbtest::arbtest(|u: &mut Unstructured<'_>| {
        let window = u.arbitrary::<bool>()?;
        let mut sim = Sim::new(1, false, |config| {
            on(config);
            if window {
                let policy: Policy =
                    serde_json::from_str(r#"{"topics":"room:1","flushWindowMillis":100}"#).expect("a policy");
                config.rooms.policies = vec![policy];
            }
        });
        let members: Vec<_> = ["2.0.0", "1.0.0"]
            .into_iter()
            .flat_map(|vsn| [(vsn, false), (vsn, true)])
            .map(|(vsn, deflate)| {
                let client = if deflate { sim.connect_deflate(0, vsn) } else { sim.connect_to(0, vsn) };
                let join = if vsn == "2.0.0" {
                    r#"["1","1","room:1","phx_join",{}]"#
                } else {
                    r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#
                };
                sim.text(client, join);
                sim.sent(client);
                client
            })
            .collect();
        for _ in 0..u.int_in_range(1..=5)? {
            let text = message(u.int_in_range(0..=2_000)?);
            if u.arbitrary()? {
                say(&mut sim, members[1], &text);
            } else {
                sim.text(members[0], &text);
            }
        }
        sim.pass(200);
        let sent: Vec<_> = members.iter().map(|member| sim.sent(*member)).collect();
        assert!(!sent[0].is_empty() && !sent[2].is_empty());
        assert!(sent[0] == sent[1] && sent[2] == sent[3], "{sent:?}");
        sim.check_ledgers();
        Ok(())
    })
    .budget_ms(300);
}

#[test]
fn a_compressed_message_may_come_in_parts_with_control_frames_between() {
    let mut sim = Sim::new(1, false, on);
    let client = sim.connect_deflate(0, "2.0.0");
    sim.join(client, "room:1", "1");
    let body = deflated(message(600).as_bytes());
    let (one, rest) = body.split_at(body.len() / 3);
    let (two, three) = rest.split_at(rest.len() / 2);
    let mut bytes = masked(0x41, one);
    bytes.extend(masked(0x89, b"hi"));
    bytes.extend(masked(0x00, two));
    bytes.extend(masked(0x80, three));
    // One that is not compressed may follow, and its text is checked again.
    bytes.extend(masked(0x01, b"[null,\"3\",\"phoenix\","));
    bytes.extend(masked(0x80, b"\"heartbeat\",{}]"));
    for byte in bytes {
        sim.bytes(client, &[byte]);
    }
    let sent = sim.sent(client);
    let [Sent::Pong(_), Sent::Text(said), Sent::Text(beat)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((said, beat.contains("phx_reply")), (&heard(600), true));
}

#[test]
fn wrong_frames_close_with_their_codes() {
    let bomb = deflated(&vec![b'x'; 65_537]);
    let not_text = deflated(b"[null,\"1\",\"phoenix\xff\",\"heartbeat\",{}]");
    let good = deflated(message(600).as_bytes());
    let parts = [masked(0x41, &good), masked(0xc0, b"")].concat();
    let again = [masked(0x41, &good), masked(0xc1, &good)].concat();
    for (bytes, code, reason) in [
        (masked(0xc1, &bomb), 1009, CloseReason::TooBig),
        ([masked(0x41, &bomb[..50]), masked(0x80, &bomb[50..])].concat(), 1009, CloseReason::TooBig),
        (masked(0xc1, &not_text), 1007, CloseReason::Utf8),
        (masked(0xc1, b"\x06"), 1007, CloseReason::Deflate),
        (masked(0xc1, b""), 1007, CloseReason::Deflate),
        (masked(0xc1, &good[..good.len() - 2]), 1007, CloseReason::Deflate),
        (masked(0xc9, b""), 1002, CloseReason::Protocol),
        (masked(0xc0, b""), 1002, CloseReason::Protocol),
        (parts, 1002, CloseReason::Protocol),
        (again, 1002, CloseReason::Protocol),
        (masked(0xe1, &good), 1002, CloseReason::Protocol),
        (masked(0xa1, b"{}"), 1002, CloseReason::Protocol),
    ] {
        let mut sim = Sim::new(1, false, on);
        let client = sim.connect_deflate(0, "2.0.0");
        sim.bytes(client, &bytes);
        assert_eq!(sim.sent(client), [Sent::Close(code)]);
        assert_eq!(sim.counters().closed[reason as usize], 1, "{reason:?}");
        // Of the inflater's buffer and no more.
        let held = sim.counters().memory[Kind::Compression as usize];
        assert!(held < 200_000, "{held}");
        sim.check_ledgers();
    }
    let mut sim = Sim::new(1, false, on);
    let client = sim.connect();
    sim.bytes(client, &masked(0xc1, &good));
    assert_eq!(sim.sent(client), [Sent::Close(1002)], "it was not negotiated");
}

#[test]
fn the_rate_counts_what_is_inflated_and_one_read_inflates_little() {
    let mut sim = Sim::new(1, false, |config| {
        on(config);
        config.limits.bytes_per_second = 100_000;
    });
    let client = sim.connect_deflate(0, "2.0.0");
    let beat = format!(r#"[null,"1","phoenix","heartbeat",{{"x":"{}"}}]"#, "x".repeat(50_000));
    let mut many = masked(0xc1, &deflated(beat.as_bytes())).repeat(100);
    assert!(many.len() < 50_000, "{}", many.len());
    let (shard, slot) = client;
    assert_eq!(sim.shards[shard].on_data(slot, &mut many), Progress::Paused);
    assert_eq!(sim.counters().received_messages, 2, "50,000 bytes each");
    sim.settle();
    let mut turns = 0;
    while sim.shards[shard].may_read(slot, false) {
        assert_eq!(sim.shards[shard].on_data(slot, &mut []), Progress::Paused);
        sim.settle();
        turns += 1;
    }
    // 500,000 bytes at once.
    assert!((4..=6).contains(&turns), "{turns}");
    let told = sim.texts(client).iter().filter(|text| text.contains("rate limited")).count();
    assert_eq!(told, 1);
}

#[test]
fn when_it_is_turned_off_those_who_have_it_get_plain_messages_and_may_go_on() {
    let mut sim = Sim::new(1, false, on);
    let client = sim.connect_deflate(0, "2.0.0");
    sim.join(client, "room:1", "1");
    sim.shards[0].handle(Event::Mail(Mail::Reload(NodeConfig::dev().into())));
    say(&mut sim, client, &message(600));
    assert_eq!(sim.take_output(client)[0], 0x81);
    let late = sim.accept(0);
    let response = sim.http(late, &super::harness::deflate_request());
    assert!(response.starts_with("HTTP/1.1 101 ") && !response.contains("extensions"), "{response}");
    assert_eq!(sim.counters().deflated_messages, 0);
}
