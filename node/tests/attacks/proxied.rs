//! Attackers that are no proxies and say what only proxies may say. The pair comes by a proxy that is trusted.

use std::net::Ipv4Addr;

use node_core::{config::NodeConfig, counters::RefuseReason};

use super::{
    CONNECTIONS, KIND, Manner,
    door::{handshake, line},
    refused, run,
};

const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// One proxy is trusted, and begins with a header of the PROXY protocol.
fn by_one_proxy(config: &mut NodeConfig) {
    config.proxies.trusted = vec!["127.0.0.1".to_owned()];
    config.proxies.protocol = true;
}

#[test]
fn headers_of_the_proxy_protocol_by_a_stranger() {
    let once = |number: usize| match number % 2 {
        0 => [line("192.0.2.1"), handshake("")].concat(),
        _ => {
            let binary =
                [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &[192, 0, 2, 1, 1, 1, 1, 1, 0, 1, 0, 2]];
            [binary.concat(), handshake("")].concat()
        }
    };
    let name = "headers of the PROXY protocol by a stranger";
    let change = by_one_proxy;
    let counters = run(&Manner { name, handshake: false, group: 1, source: STRANGER, once, change, ..KIND });
    assert_eq!((refused(&counters, RefuseReason::ProxyHeader), counters.opened), (CONNECTIONS, 2));
}

/// They may have as many connections as their one address, whatever they say.
fn counts_as_one(name: &'static str, once: fn(usize) -> Vec<u8>) {
    let change = |config: &mut NodeConfig| {
        config.proxies.trusted = vec!["127.0.0.1".to_owned()];
        config.limits.max_connections_per_address = 100;
    };
    let counters = run(&Manner { name, handshake: false, group: 1, source: STRANGER, once, change, ..KIND });
    let expected = (CONNECTIONS - 100, 102);
    assert_eq!((refused(&counters, RefuseReason::AddressFull), counters.opened), expected, "{name}");
}

#[test]
fn forwarded_addresses_by_a_stranger() {
    counts_as_one("forwarded addresses by a stranger", |number| {
        handshake(&format!("x-forwarded-for: 10.2.{}.{}\r\n", number / 250, number % 250))
    });
}

/// Each is among those of another header than the one that counts, or is said to come by the proxy itself.
#[test]
fn addresses_in_other_headers() {
    counts_as_one("addresses in other headers", |number| {
        let client = format!("10.3.{}.{}", number / 250, number % 250);
        let names = ["x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip", "x-cluster-client-ip"];
        handshake(&format!("{}: {client}\r\nx-forwarded-for: {client}, 127.0.0.1\r\n", names[number % 5]))
    });
}
