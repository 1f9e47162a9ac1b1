//! Rates of connects and of joins, and what is counted before a limit is reached.

use super::harness::{Client, REQUEST, Sim, masked};
use crate::{
    config::Limits,
    counters::{JoinRefusal, Limit, RefuseReason},
};

const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn node(shards: u8, change: impl FnOnce(&mut Limits)) -> Sim {
    Sim::new(shards, false, |config| {
        config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
        change(&mut config.limits);
    })
}

/// A connection from a peer, and the status of what it is answered.
fn come(sim: &mut Sim, shard: usize, peer: &str, header: &str) -> (Client, String) {
    let (client, _) = sim.accept_from(shard, peer).expect("not dropped");
    let answer = if sim.output_ended(client) {
        String::from_utf8(sim.take_output(client)).expect("text")
    } else {
        sim.http(client, &REQUEST.replace("\r\n\r\n", &format!("\r\n{header}\r\n")))
    };
    let status = answer.split(' ').nth(1).expect("a status").to_owned();
    assert_eq!(status == "101", !answer.contains("retry-after: 1\r\n"), "{answer}");
    (client, status)
}

fn near(sim: &mut Sim, limit: Limit) -> u64 {
    sim.counters().near[limit as usize]
}

fn join(sim: &mut Sim, client: Client, topic: &str) -> String {
    sim.text(client, &format!(r#"["1","2","{topic}","phx_join",{{}}]"#));
    sim.texts(client).remove(0)
}

#[test]
fn the_node_takes_so_many_connects_per_second_on_all_shards() {
    let mut sim = node(2, |limits| limits.handshakes_per_second = 2);
    assert!(sim.shards[0].asks_for_peers());
    let statuses: Vec<_> = (0..12).map(|n| come(&mut sim, n % 2, ONE, "").1).collect();
    assert_eq!(statuses, [["101"; 10].as_slice(), &["503"; 2]].concat());
    sim.pass(500);
    assert_eq!([come(&mut sim, 0, OTHER, "").1, come(&mut sim, 1, OTHER, "").1], ["101", "503"]);
    let counters = sim.counters();
    assert_eq!((counters.refused[RefuseReason::Rate as usize], near(&mut sim, Limit::Handshakes)), (3, 1));
}

#[test]
fn an_address_connects_so_often_per_second_also_behind_a_proxy() {
    let mut sim = node(2, |limits| limits.handshakes_per_second_per_address = 1);
    for shard in [0, 1] {
        let (direct, named) =
            (format!("192.0.2.{}", 10 + shard), format!("X-Forwarded-For: 192.0.2.{}\r\n", 20 + shard));
        for (peer, header) in [(&*direct, ""), ("10.0.0.1", &*named)] {
            let statuses: Vec<_> = (0..6).map(|n| come(&mut sim, (shard + n) % 2, peer, header).1).collect();
            assert_eq!(statuses, ["101", "101", "101", "101", "101", "429"], "{peer} {header}");
        }
    }
    assert_eq!(sim.counters().refused[RefuseReason::AddressRate as usize], 4);
    assert_eq!(near(&mut sim, Limit::AddressHandshakes), 4);
    sim.pass(1_000);
    assert_eq!(come(&mut sim, 0, "192.0.2.10", "").1, "101");
    sim.check_ledgers();
}

#[test]
fn addresses_are_forgotten_when_their_connections_and_rates_are_over() {
    let mut sim = node(1, |limits| limits.handshakes_per_second_per_address = 1);
    let clients: Vec<_> = (0..100).map(|n| come(&mut sim, 0, &format!("192.0.2.{n}"), "").0).collect();
    clients.into_iter().for_each(|client| sim.lose(client));
    assert_eq!(sim.shards[0].options.addresses.len(), 100);
    sim.pass(10_000);
    assert!(sim.shards[0].options.addresses.is_empty());
}

#[test]
fn a_connection_joins_so_often_per_second_and_is_told_when_it_may_again() {
    let mut sim = node(1, |limits| limits.joins_per_second = 2);
    let client = sim.connect();
    for n in 0..10 {
        assert!(join(&mut sim, client, &format!("room:{n}")).contains(r#""status":"ok""#));
    }
    let told = r#"["1","2","room:x","phx_reply",{"status":"error","response":{"reason":"rate limited","retry_after_ms":500}}]"#;
    assert_eq!(join(&mut sim, client, "room:x"), told);
    let other = sim.connect();
    assert!(join(&mut sim, other, "room:x").contains(r#""status":"ok""#), "others have their own");
    sim.pass(500);
    assert!(join(&mut sim, client, "room:x").contains(r#""status":"ok""#));
    let counters = sim.counters();
    assert_eq!((counters.joins_refused[JoinRefusal::Rate as usize], counters.joins), (1, 12));
    assert_eq!(near(&mut sim, Limit::Joins), 1);
    sim.pass(20_000);
    assert!(sim.shards[0].sessions.side().iter().next().is_none(), "nothing is kept of who joins seldom");
}

#[test]
fn the_connections_of_an_address_join_so_often_together() {
    let mut sim = node(2, |limits| limits.joins_per_second_per_address = 1);
    let proxied = "X-Forwarded-For: 192.0.2.1\r\n";
    let clients = [
        come(&mut sim, 0, ONE, "").0,
        come(&mut sim, 1, "10.0.0.1", proxied).0,
        come(&mut sim, 1, ONE, "").0,
    ];
    clients.iter().for_each(|client| drop(sim.take_output(*client)));
    for n in 0..5 {
        assert!(join(&mut sim, clients[n % 3], &format!("room:{n}")).contains(r#""status":"ok""#), "{n}");
    }
    for client in clients {
        assert!(
            join(&mut sim, client, "room:x").contains(r#""reason":"rate limited","retry_after_ms":1000"#)
        );
    }
    let (other, _) = come(&mut sim, 0, OTHER, "");
    sim.take_output(other);
    assert!(join(&mut sim, other, "room:x").contains(r#""status":"ok""#));
    assert_eq!(sim.counters().joins_refused[JoinRefusal::AddressRate as usize], 3);
    assert_eq!(near(&mut sim, Limit::AddressJoins), 1);
}

/// Each limit of a connection or a room, at 80 percent and not before.
#[test]
fn what_comes_near_a_limit_is_counted_before_it_is_reached() {
    let mut sim = Sim::new(1, false, |config| {
        config.limits.max_channels_per_connection = 5;
        config.limits.max_frame_bytes = 1_024;
        config.limits.messages_per_second = 10;
        config.limits.send_queue_bytes = 4_096;
        config.rooms.max_members = 5;
        config.limits.max_connections_per_address = 5;
    });
    let clients: Vec<_> = (0..4)
        .map(|n| {
            assert_eq!(near(&mut sim, Limit::AddressConnections), 0, "{n}");
            let (client, _) = come(&mut sim, 0, ONE, "");
            sim.take_output(client);
            client
        })
        .collect();
    assert_eq!(near(&mut sim, Limit::AddressConnections), 1);
    for client in &clients[..3] {
        join(&mut sim, *client, "room:x");
    }
    assert_eq!(near(&mut sim, Limit::Members), 0);
    join(&mut sim, clients[3], "room:x");
    for n in 0..2 {
        join(&mut sim, clients[3], &format!("room:{n}"));
    }
    assert_eq!((near(&mut sim, Limit::Members), near(&mut sim, Limit::Channels)), (1, 0));
    join(&mut sim, clients[3], "room:2");
    assert_eq!(near(&mut sim, Limit::Channels), 1);

    let payload = |bytes: usize| format!(r#"["1","2","room:x","echo",{{"x":"{}"}}]"#, "x".repeat(bytes - 34));
    sim.text(clients[0], &payload(819));
    assert_eq!((payload(819).len(), near(&mut sim, Limit::Frame)), (819, 0));
    sim.text(clients[0], &payload(820));
    assert_eq!(near(&mut sim, Limit::Frame), 1);

    let some = |count| masked(0x8a, b"").repeat(count);
    sim.bytes(clients[1], &some(38));
    assert_eq!(near(&mut sim, Limit::Messages), 0, "with its join 39");
    sim.bytes(clients[1], &some(1));
    sim.bytes(clients[1], &some(1));
    assert_eq!((near(&mut sim, Limit::Messages), sim.counters().rate_limited), (1, 0));

    sim.limit(clients[2], Some(0));
    for count in [0, 0, 0, 1] {
        sim.text(clients[2], &payload(800));
        sim.pass(1_200);
        assert_eq!(near(&mut sim, Limit::SendQueue), count);
    }
    sim.pass(5_000);
    assert_eq!(near(&mut sim, Limit::SendQueue), 1, "once until it takes data again");
    sim.limit(clients[2], None);
    assert_eq!(sim.counters().closed.iter().sum::<u64>(), 0, "all were warned of, and none was closed");
}
