//! Random requests of long-poll on connections of any shard, in parts and several at once, with losses, short writes, time
//! and drains: under any of them nothing panics and nothing is left behind.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};

use super::harness::{Client, REQUEST, Sim, drain, masked, remote, said, stay};
use crate::{
    config::NodeConfig,
    shard::{Event, Mail, Shard},
};

const EVENTS: [&str; 6] = ["m", "m", "echo", "phx_join", "phx_join", "phx_leave"];
const METHODS: [&str; 8] = ["GET", "GET", "GET", "POST", "POST", "POST", "OPTIONS", "PUT"];
const HEADERS: [&str; 8] = [
    "",
    "",
    "content-type: application/x-ndjson\r\n",
    "content-type: application/x-ndjson\r\n",
    "connection: close\r\n",
    "transfer-encoding: chunked\r\n",
    "origin: http://evil.example\r\n",
    "access-control-request-headers: x-a, \"b\"\r\n",
];

/// A message, which is good more often than not.
fn message(u: &mut Unstructured<'_>) -> Result<String> {
    let topic = u.choose(&["room:1", "room:1", "room:2", "phoenix", "other"])?;
    let event = if *topic == "phoenix" { "heartbeat" } else { u.choose(&EVENTS)? };
    let filler = "x".repeat(u.int_in_range(0..=300)?);
    Ok(match u.int_in_range(0..=20)? {
        0 => "AAEBBgExMnJvb206MW0=".to_owned(),
        1 => "[".to_owned() + &filler,
        2 => filler,
        _ => format!(r#"[null,"9","{topic}","{event}",{{"x":"{filler}"}}]"#),
    })
}

fn request(u: &mut Unstructured<'_>, tokens: &[String]) -> Result<Vec<u8>> {
    let token = if tokens.is_empty() || u.ratio(1, 6)? { "" } else { u.choose(tokens)? };
    let messages: Vec<_> = (0..u.int_in_range(0..=4)?).map(|_| message(u)).collect::<Result<_>>()?;
    let (method, headers, vsn) = (*u.choose(&METHODS)?, *u.choose(&HEADERS)?, u.choose(&["1", "2", "2"])?);
    let body = if method == "POST" { messages.join("\n") } else { String::new() };
    let (path, length) = (format!("/socket/longpoll?vsn={vsn}.0.0&token={token}"), body.len());
    let length = if u.ratio(1, 30)? { u.int_in_range(0..=2_000_000)? } else { length };
    Ok(match u.int_in_range(0..=30)? {
        0 => REQUEST.as_bytes().to_vec(),
        1 => masked(0x81, body.as_bytes()),
        2 => b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        _ => {
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}content-length: {length}\r\n\r\n{body}")
                .into()
        }
    })
}

/// Collects the tokens of new sessions.
fn listen(sim: &mut Sim, client: Client, tokens: &mut Vec<String>) {
    let output = sim.take_output(client);
    let text = String::from_utf8_lossy(&output);
    for rest in text.split("\"token\":\"").skip(1) {
        let token = rest.split('"').next().unwrap_or_default().to_owned();
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
}

fn step(u: &mut Unstructured<'_>, sim: &mut Sim, open: &mut Vec<Client>, tokens: &[String]) -> Result<()> {
    let shards = sim.shards.len();
    let pick = u.int_in_range(0..=9usize)?;
    let Some(client) = open.get(pick).copied() else {
        open.push(sim.accept(u.int_in_range(0..=shards - 1)?));
        return Ok(());
    };
    match u.int_in_range(0..=39)? {
        0 | 1 => sim.lose(client),
        2 => sim.limit(client, Some(u.int_in_range(0..=200)?)),
        3 => sim.limit(client, None),
        4 | 5 => sim.pass(u.int_in_range(1..=20_000)?),
        6 => {
            let order = if u.arbitrary()? { drain(u.int_in_range(1..=50)?) } else { stay() };
            sim.shards[u.int_in_range(0..=shards - 1)?].handle(order);
            sim.settle();
        }
        7..=9 => {
            let event = remote(said("room:1", "m"), false);
            sim.shards[u.int_in_range(0..=shards - 1)?].handle(event);
            sim.settle();
        }
        10 => {
            let mut config = NodeConfig::dev();
            small(&mut config);
            config.limits.send_queue_frames = u.int_in_range(1..=20)?;
            config.limits.max_frame_bytes = u.int_in_range(100..=2_000)?;
            config.limits.memory_budget = u.arbitrary::<bool>()?.then_some(12_000);
            config.limits.messages_per_second = u.int_in_range(0..=10)?;
            config.long_poll = u.ratio(9, 10)?;
            let config = Arc::new(config);
            for shard in &mut sim.shards {
                shard.handle(Event::Mail(Mail::Reload(Arc::clone(&config))));
            }
            sim.settle();
        }
        _ => {
            let mut bytes = request(u, tokens)?;
            if u.ratio(1, 4)? {
                bytes.extend(request(u, tokens)?);
            }
            let cut = if u.ratio(1, 3)? { u.int_in_range(0..=bytes.len())? } else { bytes.len() };
            let (first, rest) = bytes.split_at(cut);
            sim.bytes(client, first);
            if !sim.closed.contains(&client) && !rest.is_empty() && u.ratio(9, 10)? {
                sim.bytes(client, rest);
            }
        }
    }
    Ok(())
}

fn small(config: &mut NodeConfig) {
    config.limits.send_queue_frames = 6;
    config.limits.send_queue_bytes = 1_500;
    config.limits.max_frame_bytes = 400;
    config.limits.idle_timeout_millis = 20_000;
    config.limits.max_connections = 6;
    config.limits.max_rooms = Some(2);
    config.rooms.max_members = 4;
}

/// Takes the steps that `u` gives, then ends the node.
pub(crate) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let shards = u.int_in_range(1..=3)?;
    let mut sim = Sim::new(shards, false, small);
    let (mut open, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..u.int_in_range(1..=200)? {
        let stepped = step(u, &mut sim, &mut open, &tokens);
        for client in &open {
            listen(&mut sim, *client, &mut tokens);
        }
        let closed = std::mem::take(&mut sim.closed);
        open.retain(|client| !closed.contains(client));
        check(&mut sim, open.len());
        if stepped.is_err() {
            break;
        }
    }
    let counters = sim.end(30_000);
    let left = [counters.connections, counters.handshaking, counters.polling, counters.poll_sessions];
    assert_eq!((left, counters.rooms, counters.memberships, counters.send_queue_bytes), ([0; 4], 0, 0, 0));
    assert_eq!(counters.closed.iter().sum::<u64>(), counters.opened, "each end has one reason");
    Ok(())
}

/// Checks what is true between any two steps.
fn check(sim: &mut Sim, open: usize) {
    sim.incomplete_bytes();
    sim.check_ledgers();
    let counters = sim.counters();
    let all: usize = sim.shards.iter().map(Shard::connections).sum();
    assert_eq!(all as u64, open as u64 + counters.poll_sessions);
    assert_eq!(counters.connections + counters.handshaking + counters.polling, all as u64);
    assert!(counters.connections <= 6);
    for shard in &sim.shards {
        let (backlog, pressed) = shard.egress.waiting();
        assert!(!shard.has_flushes() && (backlog, pressed) == (0, 0));
    }
}

#[cfg(test)]
#[test]
fn nothing_panics_and_nothing_is_left() {
    arbtest::arbtest(run).size_min(1_024).budget_ms(500);
}
