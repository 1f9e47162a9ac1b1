//! Requests that a proxy and the node could take apart in different ways, or that lead where they should not, and frames that are
//! none. The attackers of a test say a table of them by turns.

use std::sync::OnceLock;

use node_core::{
    config::NodeConfig,
    counters::{CloseReason, RefuseReason},
};

use super::{CONNECTIONS, KIND, Manner, REQUEST, door::handshake, frame, run};

/// A second request, behind each first one. Nobody may read it.
const SECOND: &str = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

/// The nodes of these tests answer to one host, by which the pair connects.
fn of_one_host(config: &mut NodeConfig) {
    config.auth.served_hosts = vec!["127.0.0.1".to_owned()];
}

/// A good request for a WebSocket, with more headers.
fn with(headers: &str) -> String {
    let request = String::from_utf8(handshake(headers)).expect("text");
    request.replacen("host: n", "host: 127.0.0.1", 1)
}

/// A good one with something else in the place of a part of it.
fn but(part: &str, other: &str) -> String {
    let request = with("");
    assert!(request.contains(part), "{part}");
    request.replacen(part, other, 1)
}

/// The same with another target.
fn to(target: &str) -> String {
    but("/socket/websocket?vsn=2.0.0", target)
}

/// Names, and requests that are refused for this reason.
pub(super) fn requests() -> &'static [(&'static str, String, RefuseReason)] {
    static ALL: OnceLock<Vec<(&str, String, RefuseReason)>> = OnceLock::new();
    ALL.get_or_init(make_requests)
}

fn make_requests() -> Vec<(&'static str, String, RefuseReason)> {
    use RefuseReason::{BadRequest, HeaderTooLarge, Host, Method, NotFound, Origin, Subprotocol, Version};
    let many = "x: y\r\n".repeat(101);
    vec![
        ("a bare line feed before a length", with("x: y\ncontent-length: 44\r\n"), BadRequest),
        ("two lengths in one header", with("content-length: 0, 0\r\n"), BadRequest),
        ("a negative length", with("content-length: -1\r\n"), BadRequest),
        ("a length in hexadecimal digits", with("content-length: 0x0\r\n"), BadRequest),
        ("a length beyond any number", with(&format!("content-length: {}\r\n", "9".repeat(99))), BadRequest),
        ("an unknown encoding", with("transfer-encoding: xchunked\r\n"), BadRequest),
        ("an encoding behind a vertical tab", with("transfer-encoding: \u{b}chunked\r\n"), BadRequest),
        ("two encodings", with("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n"), BadRequest),
        ("a zero byte in a header", with("x: a\0b\r\n"), BadRequest),
        ("a header without a colon", with("x\r\n"), BadRequest),
        ("a header without a name", with(": x\r\n"), BadRequest),
        ("a name with a blank", with("x y: z\r\n"), BadRequest),
        ("a hundred and one headers", with(&many), HeaderTooLarge),
        ("a head of 33 KB", with(&format!("x: {}\r\n", "y".repeat(33_000))), HeaderTooLarge),
        ("two hosts", with("host: 127.0.0.1\r\n"), BadRequest),
        ("no host", but("host: 127.0.0.1\r\n", ""), BadRequest),
        ("a host that is not served", but("host: 127.0.0.1", "host: evil.example"), Host),
        ("a host behind a user", but("host: 127.0.0.1", "host: 127.0.0.1@evil.example"), Host),
        ("another host in the target", to("http://evil.example/socket/websocket?vsn=2.0.0"), Host),
        (
            "a host in the target alone",
            to("http://127.0.0.1/socket/websocket").replace("host: 127.0.0.1\r\n", ""),
            BadRequest,
        ),
        ("a user in the target", to("http://127.0.0.1@evil.example/socket/websocket"), BadRequest),
        ("a target of another scheme", to("file:///socket/websocket"), BadRequest),
        ("a target without a slash", to("socket/websocket"), BadRequest),
        ("a fragment in the target", to("/socket/websocket#/x?vsn=2.0.0"), BadRequest),
        ("a path upwards", to("/socket/x/../websocket?vsn=2.0.0"), NotFound),
        ("a path upwards in escapes", to("/socket/x/%2e%2e/websocket?vsn=2.0.0"), NotFound),
        ("a path below the socket's", to("/socket/websocket/x?vsn=2.0.0"), NotFound),
        ("a parameter behind a semicolon", to("/socket/websocket;x=y?vsn=2.0.0"), NotFound),
        ("a query that is no text", to("/socket/websocket?vsn=2.0.0&x=%ff"), BadRequest),
        ("a list in the place of a version", to("/socket/websocket?vsn[]=2.0.0"), Version),
        ("a tunnel", "CONNECT 10.0.0.1:80 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".to_owned(), Method),
        ("a method in small letters", but("GET", "get"), BadRequest),
        ("an older version of HTTP", but("HTTP/1.1", "HTTP/1.0"), BadRequest),
        ("a version of HTTP that there is not", but("HTTP/1.1", "HTTP/1.9"), BadRequest),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), BadRequest),
        ("two keys", with("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), BadRequest),
        ("a key that is too long", but("dGhlIHNhbXBsZSBub25jZQ==", &"A".repeat(24)), BadRequest),
        ("two versions of the protocol", with("sec-websocket-version: 13\r\n"), BadRequest),
        ("an older version of the protocol", but("version: 13", "version: 8"), BadRequest),
        ("two origins", with("origin: http://127.0.0.1\r\norigin: http://127.0.0.1\r\n"), BadRequest),
        ("a page of somebody else", with("origin: https://evil.example\r\n"), Origin),
        ("a page without an origin", with("origin: null\r\n"), Origin),
        ("an origin behind a user", with("origin: http://127.0.0.1@evil.example\r\n"), Origin),
        ("another protocol", with("sec-websocket-protocol: mqtt\r\n"), Subprotocol),
    ]
}

/// Names, and what follows an upgrade and is no frame of a client.
pub(super) fn frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a header after the upgrade", b"x-forwarded-for: 10.0.0.1\r\n\r\n".to_vec()),
        ("a request after the upgrade", SECOND.as_bytes().to_vec()),
        ("a chunk after the upgrade", b"0\r\n\r\n".to_vec()),
        ("a frame without a mask", b"\x81\x02[]".to_vec()),
        ("a reserved bit", frame(0xa1, b"[]")),
        ("a reserved kind of data", frame(0x83, b"[]")),
        ("a reserved kind of control", frame(0x8b, b"")),
        ("a ping in parts", frame(0x09, b"")),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126])),
        ("the rest of no message", frame(0x80, b"[]")),
        ("a message within another", [frame(0x01, b"["), frame(0x81, b"]")].concat()),
        ("a close code of one byte", frame(0x88, &[3])),
        ("a close code that nobody may send", frame(0x88, &1_005_u16.to_be_bytes())),
    ]
}

#[test]
fn requests_with_two_readings() {
    let change = of_one_host;
    let once = |number: usize| {
        let all = requests();
        format!("{}{SECOND}", all[number % all.len()].1).into_bytes()
    };
    let name = "requests with two readings";
    let counters = run(&Manner { name, handshake: false, group: 1, once, change, ..KIND });
    let all = requests();
    for reason in RefuseReason::ALL {
        let expected = (0..CONNECTIONS).filter(|number| all[number % all.len()].2 == *reason).count();
        assert_eq!(super::refused(&counters, *reason), expected, "{reason:?}: {:?}", counters.refused);
    }
    assert_eq!((counters.opened, counters.polls), (2, 0));
}

#[test]
fn no_frames_after_the_upgrade() {
    let once = |number: usize| {
        let all = frames();
        [REQUEST, &all[number % all.len()].1].concat()
    };
    let name = "no frames after the upgrade";
    let counters = run(&Manner { name, handshake: false, group: 1, once, ..KIND });
    assert_eq!((counters.opened as usize, counters.polls), (2 + CONNECTIONS, 0));
    assert_eq!(
        counters.closed[CloseReason::Protocol as usize] as usize,
        CONNECTIONS,
        "{:?}",
        counters.closed
    );
}
