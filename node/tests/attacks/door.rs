//! Attacks before the handshake: requests with two readings, invented addresses, and the PROXY protocol.

use node_core::counters::{CloseReason, JoinRefusal, RefuseReason};

use super::{CONNECTIONS, KIND, Manner, NodeConfig, frame, join, refused, run};

/// The beginning of a connection that a proxy passes on for this client.
pub(super) fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.200 1024 80\r\n").into_bytes()
}

/// The header of the PROXY protocol is required, and all of this machine may send it.
pub(super) fn introduced(config: &mut NodeConfig) {
    config.proxies.trusted = vec!["127.0.0.0/8".to_owned()];
    config.proxies.protocol = true;
}

pub(super) fn handshake(headers: &str) -> Vec<u8> {
    let request = String::from_utf8(super::REQUEST.to_vec()).expect("text");
    request.replace("\r\n\r\n", &format!("\r\n{headers}\r\n")).into_bytes()
}

/// Requests for a WebSocket and for long-poll, by turns, with a second request where a reader of another mind would see
/// the body of the first.
fn two_requests(number: usize, headers: &str) -> Vec<u8> {
    let first = match number % 2 {
        0 => handshake(headers),
        _ => format!("POST /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\n{headers}\r\n").into_bytes(),
    };
    [first, b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\n\r\n".to_vec()].concat()
}

/// Each first request is refused, and no second one is read.
fn is_refused(name: &'static str, once: fn(usize) -> Vec<u8>) {
    let counters = run(&Manner { name, handshake: false, group: 1, once, ..KIND });
    assert_eq!((refused(&counters, RefuseReason::BadRequest), counters.polls), (CONNECTIONS, 0), "{name}");
}

#[test]
fn a_length_twice() {
    is_refused("a length twice", |n| two_requests(n, "content-length: 0\r\ncontent-length: 44\r\n"));
}

#[test]
fn a_length_with_a_sign() {
    is_refused("a length with a sign", |n| two_requests(n, "content-length: +0\r\n"));
}

#[test]
fn a_length_and_an_encoding() {
    is_refused("a length and an encoding", |n| {
        two_requests(n, "content-length: 0\r\ntransfer-encoding: chunked\r\n")
    });
}

#[test]
fn an_encoding_alone() {
    is_refused("an encoding alone", |n| two_requests(n, "transfer-encoding: chunked\r\n"));
}

#[test]
fn folded_headers() {
    is_refused("folded headers", |n| two_requests(n, "x: y\r\n content-length: 44\r\n"));
}

#[test]
fn bare_carriage_returns() {
    is_refused("bare carriage returns", |n| two_requests(n, "x: y\rcontent-length: 44\r\n"));
}

#[test]
fn a_blank_before_the_colon() {
    is_refused("a blank before the colon", |n| two_requests(n, "content-length : 44\r\n"));
}

/// The attackers are no proxies, so they are one client, which has its places and no more.
#[test]
fn invented_addresses() {
    let change = |config: &mut NodeConfig| {
        introduced(config);
        config.proxies.trusted = vec!["127.0.0.1".to_owned()];
        config.limits.max_connections_per_address = 100;
    };
    let once = |number: usize| {
        let (a, b) = (number / 250, number % 250);
        let headers = format!("x-forwarded-for: 10.1.{a}.{b}\r\nforwarded: for=10.1.{a}.{b}\r\n");
        [line("192.0.2.66"), handshake(&headers)].concat()
    };
    let counters =
        run(&Manner { name: "invented addresses", handshake: false, group: 1, once, change, ..KIND });
    assert_eq!(refused(&counters, RefuseReason::AddressFull), CONNECTIONS - 100);
    assert_eq!(counters.opened, 102);
}

/// A proxy that is trusted, and thousands of addresses before the one that it appends.
#[test]
fn ten_thousand_addresses_in_a_header() {
    let change = |config: &mut NodeConfig| {
        config.proxies.trusted = vec!["127.0.0.1".to_owned(), "::".to_owned()];
        config.limits.max_connections_per_address = 100;
    };
    let once = |_| handshake(&format!("x-forwarded-for: {}192.0.2.66\r\n", "::,".repeat(10_000)));
    let counters =
        run(&Manner { name: "ten thousand addresses in a header", handshake: false, once, change, ..KIND });
    assert_eq!(refused(&counters, RefuseReason::AddressFull), CONNECTIONS - 100);
}

#[test]
fn thousands_of_connections_of_one_address() {
    let change = |config: &mut NodeConfig| {
        introduced(config);
        config.limits.max_connections_per_address = 50;
    };
    let once = |_| [line("192.0.2.66"), handshake(""), join("room:x", "1")].concat();
    let counters = run(&Manner {
        name: "thousands of connections of one address",
        handshake: false,
        once,
        change,
        ..KIND
    });
    assert_eq!((refused(&counters, RefuseReason::AddressFull), counters.joins), (CONNECTIONS - 50, 52));
    assert_eq!(counters.closed[CloseReason::Memory as usize], 0);
}

#[test]
fn slow_headers_of_the_proxy_protocol() {
    let once = |number: usize| line("192.0.2.66")[..1 + number % 40].to_vec();
    let counters = run(&Manner {
        name: "slow headers of the PROXY protocol",
        handshake: false,
        group: 1,
        once,
        change: introduced,
        ..KIND
    });
    assert_eq!(counters.handshaking as usize, CONNECTIONS, "each has its time, and keeps nothing");
}

/// Each attacker is dropped for the header that it has, or lacks.
fn is_dropped(name: &'static str, once: fn(usize) -> Vec<u8>) {
    let counters = run(&Manner { name, handshake: false, once, change: introduced, ..KIND });
    assert_eq!(refused(&counters, RefuseReason::ProxyHeader), CONNECTIONS, "{name}");
}

#[test]
fn huge_headers_of_the_proxy_protocol() {
    is_dropped("huge headers of the PROXY protocol", |_| {
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[b'x'; 65_535]].concat()
    });
    is_dropped("endless lines of the PROXY protocol", |_| [b"PROXY TCP4 ", &[b'1'; 4_096][..]].concat());
}

#[test]
fn wrong_headers_of_the_proxy_protocol() {
    is_dropped("wrong headers of the PROXY protocol", |_| b"PROXY TCP9 a b c d\r\n".to_vec());
    is_dropped("datagrams in the PROXY protocol", |_| {
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c"[..], &[1; 12]].concat()
    });
}

#[test]
fn no_header_of_the_proxy_protocol() {
    is_dropped("no header of the PROXY protocol", |_| handshake(""));
}

/// The second one is the client's, and no request.
#[test]
fn two_headers_of_the_proxy_protocol() {
    let once = |number: usize| match number % 2 {
        0 => [line("192.0.2.66"), line("192.0.2.1"), handshake("")].concat(),
        _ => {
            let binary =
                [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &[192, 0, 2, 66, 1, 1, 1, 1, 0, 1, 0, 2]];
            [binary.concat(), binary.concat(), handshake("")].concat()
        }
    };
    let counters = run(&Manner {
        name: "two headers of the PROXY protocol",
        handshake: false,
        group: 1,
        once,
        change: introduced,
        ..KIND
    });
    assert_eq!((refused(&counters, RefuseReason::BadRequest), counters.opened), (CONNECTIONS, 2));
}

/// Where no header is declared, one is no request.
#[test]
fn headers_of_the_proxy_protocol_that_nobody_asked_for() {
    is_refused("headers of the PROXY protocol that nobody asked for", |_| {
        [line("192.0.2.66"), frame(0x81, b"x"), handshake("")].concat()
    });
}

/// One address connects over and over again, and hangs up each time, while another address is served.
#[test]
fn connects_over_and_over_again() {
    let change = |config: &mut NodeConfig| {
        introduced(config);
        config.limits.handshakes_per_second_per_address = 10;
    };
    let once = |_| [line("192.0.2.66"), handshake("")].concat();
    let manner = Manner { name: "connects over and over again", handshake: false, once, change, ..KIND };
    let counters = run(&manner);
    let many = refused(&counters, RefuseReason::AddressRate);
    // Fifty come at once, and ten more in each second.
    assert!(many > CONNECTIONS / 2 && counters.opened < 1_000, "{many} {}", counters.opened);
}

/// All come at once, from an address each, and the node takes as many as it is told to.
#[test]
fn a_flood_of_connects() {
    let change = |config: &mut NodeConfig| config.limits.handshakes_per_second = 20;
    let manner =
        Manner { name: "a flood of connects", handshake: false, once: |_| handshake(""), change, ..KIND };
    let counters = run(&manner);
    let many = refused(&counters, RefuseReason::Rate);
    assert!(many > CONNECTIONS / 2 && counters.opened < 1_000, "{many} {}", counters.opened);
}

/// Joins over and over again are refused at their rate, and the connection is kept.
#[test]
fn joins_over_and_over_again() {
    let change = |config: &mut NodeConfig| config.limits.joins_per_second = 20;
    let again = |_| join("room:x", "1");
    let counters =
        run(&Manner { name: "joins over and over again", again, quota: 6 * 1_024, change, ..KIND });
    let refused = counters.joins_refused[JoinRefusal::Rate as usize];
    assert!(refused > 20 * CONNECTIONS as u64, "{refused}");
    assert_eq!(counters.closed[CloseReason::Memory as usize], 0);
}
