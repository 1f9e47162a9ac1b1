//! Client addresses: the limit of their connections, proxies that name them, and the PROXY protocol.

use std::sync::Arc;

use super::harness::{Client, REQUEST, Sim};
use crate::{
    config::NodeConfig,
    counters::{CloseReason, RefuseReason},
    proxy::ForwardedHeader,
    session::origins::MAX_REFUSALS,
    shard::{Event, Mail},
};

const PROXY: &str = "10.0.0.1";
const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn limited(config: &mut NodeConfig, most: u32) {
    config.limits.max_connections_per_address = most;
    config.proxies.trusted = vec!["10.0.0.0/8".to_owned()];
}

fn node(shards: u8, most: u32) -> Sim {
    Sim::new(shards, false, |config| limited(config, most))
}

/// A handshake with this header, and the status of the answer.
fn upgrade(sim: &mut Sim, client: Client, header: &str) -> String {
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{header}\r\n"));
    let answer = sim.http(client, &request);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A connection from a peer, and the status of its handshake with this header.
fn come(sim: &mut Sim, shard: usize, peer: &str, header: &str) -> (Client, String) {
    let (client, _) = sim.accept_from(shard, peer).expect("not dropped");
    let status = upgrade(sim, client, header);
    (client, status)
}

fn refused(sim: &mut Sim, reason: RefuseReason) -> u64 {
    sim.counters().refused[reason as usize]
}

#[test]
fn an_address_has_so_many_connections_on_all_shards_and_no_more() {
    let mut sim = node(2, 2);
    let (first, status) = come(&mut sim, 0, ONE, "");
    assert_eq!(status, "101");
    assert_eq!(come(&mut sim, 1, ONE, "").1, "101");
    let (third, _) = sim.accept_from(1, ONE).unwrap();
    let answer = String::from_utf8(sim.take_output(third)).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "it is told before it asks"
    );
    assert!(sim.output_ended(third));
    assert_eq!(come(&mut sim, 1, OTHER, "").1, "101", "another address has its own");
    sim.lose(third);
    sim.lose(first);
    assert_eq!(come(&mut sim, 1, ONE, "").1, "101", "a place was given back");
    assert_eq!(refused(&mut sim, RefuseReason::AddressFull), 1);
    sim.check_ledgers();
}

#[test]
fn half_open_connections_count_too_and_a_network_of_ipv6_is_one_client() {
    let mut sim = node(1, 2);
    for host in ["2001:db8:1:2::1", "2001:db8:1:2::2"] {
        sim.accept_from(0, host).unwrap();
    }
    let (client, _) = sim.accept_from(0, "2001:db8:1:2:3::3").unwrap();
    assert!(sim.output_ended(client));
    assert!(!sim.accept_from(0, "2001:db8:1:3::1").is_some_and(|(client, _)| sim.output_ended(client)));
    sim.pass(10_000);
    assert_eq!(come(&mut sim, 0, "2001:db8:1:2::4", "").1, "101", "those that said nothing are gone");
}

#[test]
fn without_a_limit_nothing_is_looked_at() {
    let sim = Sim::new(1, false, |config| config.proxies.trusted = vec![PROXY.to_owned()]);
    assert!(!sim.shards[0].asks_for_peers());
    let mut sim = Sim::new(1, false, |_| {});
    for _ in 0..100 {
        assert_eq!(come(&mut sim, 0, ONE, "").1, "101");
    }
    assert!(sim.shards[0].sessions.origins().is_empty());
}

#[test]
fn a_proxy_names_the_client_and_nobody_else_can() {
    let mut sim = node(1, 1);
    assert_eq!(come(&mut sim, 0, PROXY, "X-Forwarded-For: 192.0.2.1\r\n").1, "101");
    assert_eq!(come(&mut sim, 0, PROXY, "X-Forwarded-For: 192.0.2.2\r\n").1, "101");
    assert_eq!(come(&mut sim, 0, PROXY, "X-Forwarded-For: 192.0.2.1\r\n").1, "429");
    let forged = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(come(&mut sim, 0, PROXY, forged).1, "429", "what the proxy has added last counts");
    assert_eq!(come(&mut sim, 0, PROXY, "Forwarded: for=192.0.2.1\r\n").1, "101", "the proxy itself");
    assert_eq!(come(&mut sim, 0, PROXY, "").1, "429", "which has its one place now");
    // A client that is no proxy is who it is, whatever it says.
    assert_eq!(come(&mut sim, 0, "203.0.113.1", "X-Forwarded-For: 192.0.2.77\r\n").1, "101");
    let (client, _) = sim.accept_from(0, "203.0.113.1").unwrap();
    assert!(sim.output_ended(client));
    sim.check_ledgers();
}

#[test]
fn the_other_header_can_be_chosen() {
    let mut sim = Sim::new(1, false, |config| {
        limited(config, 1);
        config.proxies.header = ForwardedHeader::Forwarded;
    });
    let both = "Forwarded: for=\"[2001:db8::1]:1\";proto=https\r\nX-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(come(&mut sim, 0, PROXY, both).1, "101");
    assert_eq!(
        come(&mut sim, 0, PROXY, "X-Forwarded-For: 192.0.2.9\r\nForwarded: for=\"[2001:db8::2]\"\r\n").1,
        "429"
    );
}

/// A proxy sends the requests of several clients on one connection.
#[test]
fn sessions_of_long_poll_count_by_the_client_of_their_request() {
    let mut sim = node(2, 1);
    let (http, _) = sim.accept_from(0, PROXY).unwrap();
    let open = |sim: &mut Sim, client: &str| {
        let head = format!(
            "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n"
        );
        sim.http(http, &head)
    };
    assert!(open(&mut sim, ONE).contains(r#""status":410"#));
    assert!(open(&mut sim, OTHER).contains(r#""status":410"#));
    assert_eq!(sim.counters().poll_sessions, 2);
    let answer = open(&mut sim, ONE);
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    sim.check_ledgers();
    sim.lose(http);
    sim.pass(20_000);
    assert_eq!(sim.counters().closed[CloseReason::Lost as usize], 2);
    assert!(sim.shards[0].options.addresses.is_empty());
}

#[test]
fn a_client_that_polls_directly_counts_with_its_sockets_and_its_session() {
    let mut sim = node(1, 2);
    let (http, _) = sim.accept_from(0, ONE).unwrap();
    let request = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(sim.http(http, request).contains(r#""status":410"#));
    assert!(sim.http(http, request).starts_with("HTTP/1.1 429 "));
    sim.lose(http);
    assert_eq!(come(&mut sim, 0, ONE, "").1, "101", "beside its session");
}

fn introduce(sim: &mut Sim, client: Client, source: Option<&str>) {
    let source = source.map(|text| text.parse().unwrap());
    sim.shards[client.0].handle(Event::Introduced(client.1, source));
    sim.settle();
}

#[test]
fn with_the_proxy_protocol_the_header_says_who_the_client_is() {
    let mut sim = Sim::new(1, false, |config| {
        limited(config, 1);
        config.proxies.protocol = true;
    });
    assert_eq!(sim.accept_from(0, ONE), None, "no proxy");
    assert_eq!(refused(&mut sim, RefuseReason::ProxyHeader), 1);
    let come = |sim: &mut Sim, source| {
        let (client, awaits_header) = sim.accept_from(0, PROXY).unwrap();
        assert!(awaits_header);
        introduce(sim, client, source);
        if sim.output_ended(client) {
            return String::from_utf8(sim.take_output(client)).unwrap()[9..12].to_owned();
        }
        upgrade(sim, client, "X-Forwarded-For: 203.0.113.99\r\n")
    };
    assert_eq!(come(&mut sim, Some(ONE)), "101");
    assert_eq!(come(&mut sim, Some(OTHER)), "101");
    assert_eq!(come(&mut sim, Some(ONE)), "429");
    // Behind another proxy, or from the proxy itself, the header of the request counts.
    assert_eq!(come(&mut sim, Some("10.0.0.2")), "101");
    assert_eq!(come(&mut sim, None), "429");
    let (client, _) = sim.accept_from(0, PROXY).unwrap();
    sim.shards[0].handle(Event::Unfit(client.1, RefuseReason::ProxyHeader));
    sim.settle();
    assert!(sim.closed.contains(&client));
    let (slow, _) = sim.accept_from(0, PROXY).unwrap();
    sim.pass(10_000);
    assert!(sim.closed.contains(&slow));
    assert_eq!(refused(&mut sim, RefuseReason::Timeout), 1);
    assert_eq!(refused(&mut sim, RefuseReason::ProxyHeader), 2);
    sim.check_ledgers();
}

#[test]
fn the_proxy_protocol_alone_costs_no_entry_once_the_header_came() {
    let mut sim = Sim::new(1, false, |config| {
        config.proxies.trusted = vec![PROXY.to_owned()];
        config.proxies.protocol = true;
    });
    let (client, _) = sim.accept_from(0, PROXY).unwrap();
    introduce(&mut sim, client, Some(ONE));
    assert!(sim.shards[0].sessions.origins().is_empty());
    assert_eq!(upgrade(&mut sim, client, ""), "101");
}

#[test]
fn a_flood_of_one_address_is_dropped_and_another_address_is_served() {
    let mut sim = node(1, 1);
    assert_eq!(come(&mut sim, 0, ONE, "").1, "101");
    let told: Vec<_> = (0..MAX_REFUSALS).map(|_| sim.accept_from(0, ONE).unwrap().0).collect();
    assert_eq!(sim.accept_from(0, ONE), None);
    assert_eq!(refused(&mut sim, RefuseReason::AddressFull), MAX_REFUSALS as u64 + 1);
    assert_eq!(come(&mut sim, 0, OTHER, "").1, "101");
    sim.lose(told[0]);
    assert!(sim.accept_from(0, ONE).is_some());
    sim.pass(5_000);
    let counters = sim.counters();
    assert_eq!((counters.connections, counters.handshaking), (2, 0));
    sim.check_ledgers();
}

#[test]
fn a_reload_changes_the_limit_for_those_who_come() {
    let mut sim = node(1, 1);
    let (first, _) = come(&mut sim, 0, ONE, "");
    let reload = |sim: &mut Sim, most| {
        let mut config = NodeConfig::dev();
        limited(&mut config, most);
        sim.shards[0].handle(Event::Mail(Mail::Reload(Arc::new(config))));
        sim.settle();
    };
    reload(&mut sim, 0);
    assert!(!sim.shards[0].asks_for_peers());
    let uncounted = sim.connect();
    reload(&mut sim, 2);
    assert_eq!(come(&mut sim, 0, ONE, "").1, "101");
    assert!(sim.accept_from(0, ONE).is_some_and(|(client, _)| sim.output_ended(client)));
    reload(&mut sim, 1);
    assert_eq!(sim.counters().connections, 3, "nobody is closed for it");
    sim.lose(uncounted);
    sim.lose(first);
    sim.check_ledgers();
    assert_eq!(sim.shards[0].options.addresses.len(), 1);
}
