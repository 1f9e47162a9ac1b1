//! Random bytes, short writes, losses, time and drains: under any of them nothing panics and nothing is left behind.

use arbitrary::{Result, Unstructured};

use std::sync::Arc;

use super::{
    harness::{Client, REQUEST, Sim, deflate_request, deflated, drain, masked, remote, said, stay},
    news::Listener,
};
use crate::{
    broadcast::{Broadcast, Content, Kind, Packed},
    config::{Compression, NodeConfig},
    moving::{MoveOrder, MoveTask, Share},
    protocol::{Payload, msgpack::from_json},
    shard::{Event, Mail, Shard},
};

const TOPICS: [&str; 10] = [
    "room:1",
    "room:1",
    "room:1",
    "room:2",
    "room:3",
    "realtime:1",
    "realtime:1",
    "$cluster",
    "phoenix",
    "other",
];
const EVENTS: [&str; 14] = [
    "broadcast",
    "broadcast",
    "m",
    "m",
    "m_ack",
    "echo",
    "phx_join",
    "phx_join",
    "phx_join",
    "phx_leave",
    "phx_close",
    "stop",
    "push_me",
    "whoami",
];

const COMPRESSION: Compression = Compression { level: 1, min_bytes: 32 };

/// A message, which is good more often than not.
fn message(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let topic = u.choose(&TOPICS)?;
    let event = if *topic == "phoenix" { "heartbeat" } else { u.choose(&EVENTS)? };
    let join_ref = u.choose(&["null", "null", "null", "\"1\"", "7"])?;
    let filler = "x".repeat(u.int_in_range(0..=300)?);
    let text = if u.ratio(1, 40)? {
        format!(r#"[{join_ref},"9",null,"{event}",{{}}]"#)
    } else {
        let asked = r#""config":{"broadcast":{"self":true,"ack":true}}"#;
        format!(r#"[{join_ref},"9","{topic}","{event}",{{"event":"{filler}",{asked}}}]"#)
    };
    Ok(match u.int_in_range(0..=50)? {
        0 => masked(0x82, b"\0\x01\x01\x06\x0119room:1m\x01\x02"),
        7 => masked(0x82, b"\x03\0\x01\x0a\x01\0\x019realtime:1m{}"),
        8 => masked(0x82, b"\x03\0\x01\x0a\x01\0\09realtime:1m\xff"),
        17 => masked(0x82, b"\x95\xc0\xa19\xa6room:1\xa1m\xc4\x01\xff"),
        18..=21 => masked(0x82, &from_json(&text)),
        1 => masked(0x88, &1000u16.to_be_bytes()),
        2 => masked(0x89, b"ping"),
        3 => masked(0x01, text.as_bytes()),
        4 => (0..u.int_in_range(1..=20)?).map(|_| u.arbitrary()).collect::<Result<_>>()?,
        5 => REQUEST.as_bytes().to_vec(),
        6 => masked(*u.choose(&[0x00, 0x80])?, text.as_bytes()),
        9 => masked(0xc1, text.as_bytes()),
        10 => masked(0xc1, &deflated(&vec![b'x'; u.int_in_range(0..=3_000)?])),
        11..=16 => masked(*u.choose(&[0xc1, 0xc1, 0xc1, 0x41, 0xc9])?, &deflated(text.as_bytes())),
        _ => masked(0x81, text.as_bytes()),
    })
}

fn step(u: &mut Unstructured<'_>, sim: &mut Sim, open: &mut Vec<Client>) -> Result<()> {
    let shards = sim.shards.len();
    let pick = u.int_in_range(0..=15usize)?;
    let Some(client) = open.get(pick).copied() else {
        let shard = u.int_in_range(0..=shards - 1)?;
        let peer = u.choose(&["10.0.0.1", "10.0.0.1", "192.0.2.1", "2001:db8::1"])?;
        let (client, _) = sim.accept_from(shard, peer).expect("few are refused at a time");
        open.push(client);
        if u.ratio(9, 10)? {
            let vsn = u.choose(&["1.0.0", "2.0.0", "2.0.0", "2.0.0&user_id=ann", "2.0.0%2Bmsgpack"])?;
            let named = u.choose(&[
                "",
                "X-Forwarded-For: 192.0.2.9\r\n\r\n",
                "X-Forwarded-For: 10.0.0.2, x\r\n\r\n",
            ])?;
            let request = if u.arbitrary()? { deflate_request() } else { REQUEST.to_owned() };
            let request = request.replace("2.0.0", vsn);
            let request =
                if named.is_empty() { request } else { request.replace("\r\n\r\n", &format!("\r\n{named}")) };
            sim.bytes(client, request.as_bytes());
        }
        return Ok(());
    };
    match u.int_in_range(0..=49)? {
        0 => sim.lose(client),
        1 => sim.limit(client, Some(u.int_in_range(0..=200)?)),
        2 => sim.limit(client, None),
        3 => sim.pass(u.int_in_range(1..=5_000)?),
        4 => {
            let shard = &mut sim.shards[u.int_in_range(0..=shards - 1)?];
            match u.int_in_range(0..=4)? {
                0 => shard.handle(drain(u.int_in_range(1..=50)?)),
                1 => shard.handle(stay()),
                2 => shard.handle(Event::Mail(Mail::Move(MoveOrder::Stop))),
                _ => shard.handle(Event::Mail(Mail::Move(MoveOrder::Close(task(u)?)))),
            }
            sim.settle();
        }
        5 => sim.flushes_per_turn = u.int_in_range(1..=10)?,
        6 => {
            let until = sim.now_millis + u.int_in_range(1..=100)?;
            let shard = &mut sim.shards[u.int_in_range(0..=shards - 1)?];
            shard.egress.put_off(until);
        }
        7..=14 => from_elsewhere(u, sim, client)?,
        _ => {
            let mut bytes = message(u)?;
            if u.ratio(1, 20)? {
                bytes.pop();
            }
            if u.ratio(1, 3)? {
                bytes.extend(message(u)?);
            }
            sim.bytes(client, &bytes);
        }
    }
    Ok(())
}

/// What a shard may be told to move.
fn task(u: &mut Unstructured<'_>) -> Result<MoveTask> {
    let milliwrites = if u.arbitrary()? { Share::NO_BOUND } else { u.int_in_range(0..=10_000)? };
    Ok(MoveTask {
        operation: u.int_in_range(1..=3)?,
        share: Share { connections: u.int_in_range(0..=10)?, milliwrites },
        milliconnections_per_second: u.int_in_range(1..=50_000)?,
        min_age_millis: u.int_in_range(0..=3_000)?,
        lease_millis: u.int_in_range(1_000..=20_000)?,
    })
}

/// An event that does not come from a client.
fn from_elsewhere(u: &mut Unstructured<'_>, sim: &mut Sim, client: Client) -> Result<()> {
    let shard = u.int_in_range(0..=sim.shards.len() - 1)?;
    let (topic, late) = (*u.choose(&TOPICS)?, u.arbitrary()?);
    match u.int_in_range(0..=4)? {
        0 => {
            let length = u.arbitrary_len::<u8>()?.min(300);
            let kind = Kind::of(u.int_in_range(0..=3)?).expect("a kind");
            let (topic_bytes, event_bytes) = (u.int_in_range(0..=8)?, u.int_in_range(0..=8)?);
            let packed = Packed { kind, topic_bytes, event_bytes, bytes: u.bytes(length)? };
            sim.shards[shard].handle(remote(packed.copied(), late));
        }
        1 => {
            sim.shards[shard].handle(remote(said(topic, u.choose(&EVENTS)?), late));
        }
        2 => {
            let data = [u.arbitrary()?];
            let payload = *u.choose(&[Payload::Binary(&data), Payload::UserBinary(&data)])?;
            let content = Content { topic, event: "m", payload };
            sim.shards[shard].handle(remote(Broadcast::pack(&content).expect("short names"), late));
        }
        3 => sim.shards[shard].handle(Event::Mail(Mail::ClusterStats("{}".into()))),
        _ => {
            let mut config = NodeConfig::dev();
            small(&mut config);
            config.limits.send_queue_frames = u.int_in_range(1..=20)?;
            config.limits.memory_budget = (config.limits.send_queue_frames > 10).then_some(8_000);
            config.limits.max_frame_bytes = u.int_in_range(200..=2_000)?;
            config.limits.idle_timeout_millis = u.int_in_range(1_000..=60_000)?;
            config.rooms.max_members = u.int_in_range(1..=8)?;
            config.chat_page = u.arbitrary()?;
            config.limits.max_connections_per_address = u.int_in_range(0..=3)?;
            config.compression = u.arbitrary::<bool>()?.then_some(COMPRESSION);
            let config = Arc::new(config);
            sim.shards
                .iter_mut()
                .for_each(|shard| shard.handle(Event::Mail(Mail::Reload(Arc::clone(&config)))));
            let id = sim.shards[client.0].sessions.id(client.1);
            sim.shards[client.0].handle(Event::Input(id));
            let farewell = sim.shards[client.0].farewell(client.1);
            assert!(farewell.is_none_or(|frame| frame[0] == 0x88));
        }
    }
    sim.settle();
    Ok(())
}

/// Sets bounds that a few clients reach.
fn small(config: &mut NodeConfig) {
    config.limits.send_queue_frames = 6;
    config.limits.send_queue_bytes = 1_500;
    config.limits.max_frame_bytes = 1_200;
    config.limits.idle_timeout_millis = 20_000;
    config.limits.max_connections = 10;
    config.limits.max_connections_per_address = 3;
    config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
    config.limits.max_rooms = Some(2);
    config.rooms.max_members = 4;
    config.fixed.dev = true;
    let window = serde_json::from_str(r#"{"topics": "room:2", "flushWindowMillis": 100}"#);
    config.rooms.policies.push(window.expect("a policy"));
}

/// Takes the steps that `u` gives, then ends the node.
pub(crate) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let shards = u.int_in_range(1..=3)?;
    let mut sim = Sim::new(shards, u.arbitrary()?, |config| {
        small(config);
        // Some budgets are so small that every stage is reached.
        config.limits.memory_budget = [Some(6_000), None, Some(20_000)][usize::from(shards) - 1];
        // What compresses needs far more than these.
        config.compression = config.limits.memory_budget.is_none().then_some(COMPRESSION);
    });
    sim.keeps_records = shards > 1;
    let mut listener = Listener::default();
    sim.listen();
    let mut open = Vec::new();
    for _ in 0..u.int_in_range(1..=200)? {
        let stepped = step(u, &mut sim, &mut open);
        let closed = std::mem::take(&mut sim.closed);
        open.retain(|client| !closed.contains(client));
        check(&mut sim, open.len());
        listener.hear(&mut sim);
        if stepped.is_err() {
            break;
        }
    }
    let counters = sim.end(10_000);
    listener.check_end(&mut sim, &counters);
    let left = [counters.connections, counters.handshaking, counters.rooms, counters.memberships];
    assert_eq!((left, counters.send_queue_bytes), ([0; 4], 0));
    assert!(sim.shards.iter().all(|shard| shard.sessions.heads_bytes() == 0));
    let opened = counters.opened;
    assert_eq!(counters.closed.iter().sum::<u64>(), opened, "each end has one reason");
    assert_eq!(counters.refused.iter().sum::<u64>() + opened, counters.accepted);
    assert_eq!(sim.shards[0].options.registry.topics(), 0);
    assert!(sim.shards[0].options.addresses.is_empty());
    Ok(())
}

/// Checks what is true between any two steps.
fn check(sim: &mut Sim, open: usize) {
    let sockets: usize = sim.shards.iter().map(Shard::connections).sum();
    assert_eq!(sockets, open);
    sim.incomplete_bytes();
    sim.check_ledgers();
    let counters = sim.counters();
    assert_eq!(counters.connections + counters.handshaking, open as u64);
    assert!(counters.connections <= 10);
    for shard in &sim.shards {
        let (backlog, pressed) = shard.egress.waiting();
        assert!(!shard.has_flushes() && pressed == 0);
        assert!(backlog == 0 || shard.egress.next_millis() > Some(sim.now_millis));
    }
}

#[cfg(test)]
#[test]
fn nothing_panics_and_nothing_is_left() {
    arbtest::arbtest(run).size_min(1_024).budget_ms(500);
}
