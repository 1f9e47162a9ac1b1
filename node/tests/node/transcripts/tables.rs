//! What the lines of recorded exchanges do not say: headers, raw frames, who had joined before; and the differences.

use super::wire::{KEY, frame, text};

/// Exchanges, by their names or the start of these, of features that the node does not have, with the page's reason.
pub(super) const NOT_BUILT: [(&str, &str); 1] = [("v2/presence", "not built yet")];

/// Exchanges in which the node does something else on purpose, with the page's reason.
pub(super) const DIFFERENT: [(&str, &str); 4] = [
    ("hs/short_key", "RFC 6455, section 4.2.1, demands a key of 16 bytes"),
    ("v2/duplicate_keys", "payloads are passed on as they came, and never built as a tree"),
    ("v2/topic_10k", "a topic is part of a subject of NATS and of the header between nodes"),
    ("v2/topic_300", "a topic is part of a subject of NATS and of the header between nodes"),
];

/// Exchanges, by the start of their names, whose client had joined `room:@` before.
const JOINED: [&str; 13] = [
    "bin/",
    "v1/broadcast",
    "v1/echo",
    "v1/leave",
    "v1/rejoin",
    "v2/broadcast_",
    "v2/duplicate_keys",
    "v2/leave",
    "v2/many_frames",
    "v2/numbers_kept",
    "v2/phx_reply_",
    "v2/push_",
    "v2/reserved_",
];

/// Whether the clients of an exchange had joined before its first line.
pub(super) fn has_joined(name: &str) -> bool {
    name != "v2/leave_unjoined" && JOINED.iter().any(|start| name.starts_with(start))
}

/// Headers of the handshake in an exchange.
pub(super) fn headers(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut headers = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ];
    let (gone, given): (&[&str], &[(&str, &str)]) = match name {
        "hs/no_upgrade_header" => (&["Upgrade", "Connection"], &[]),
        "hs/upgrade_h2c" => (&["Upgrade"], &[("Upgrade", "h2c")]),
        "hs/upgrade_case" => {
            (&["Upgrade", "Connection"], &[("Upgrade", "WebSocket"), ("Connection", "UPGRADE")])
        }
        "hs/no_key" => (&["Sec-WebSocket-Key"], &[]),
        "hs/short_key" => (&["Sec-WebSocket-Key"], &[("Sec-WebSocket-Key", "c2hvcnQ=")]),
        "hs/version_8" => (&["Sec-WebSocket-Version"], &[("Sec-WebSocket-Version", "8")]),
        "hs/no_version" => (&["Sec-WebSocket-Version"], &[]),
        "hs/origin_ok" => (&[], &[("Origin", "http://localhost:3000")]),
        "hs/origin_null" => (&[], &[("Origin", "null")]),
        "hs/origin_empty" => (&[], &[("Origin", "")]),
        "hs/proto_unknown" => (&[], &[("Sec-WebSocket-Protocol", "graphql-ws")]),
        "hs/proto_auth_only" => (&[], &[("Sec-WebSocket-Protocol", "base64url.bearer.phx.dG9rZW4")]),
        "hs/unknown_extension" => (&[], &[("Sec-WebSocket-Extensions", "x-unknown; a=1")]),
        _ => (&[], &[]),
    };
    headers.retain(|(header, _)| !gone.contains(header));
    headers.extend_from_slice(given);
    headers
}

/// The bytes of an exchange about frames, whose lines only name them.
pub(super) fn raw(name: &str, words: &str) -> Option<Vec<u8>> {
    let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes()[..], reason].concat());
    let heartbeat = r#"[null,"1","phoenix","heartbeat",{}]"#;
    Some(match name.strip_prefix("ws/").filter(|case| *case == words)? {
        "ping" => frame(0x89, b"hi"),
        "ping_125" => frame(0x89, &[b'p'; 125]),
        "ping_126" => frame(0x89, &[b'p'; 126]),
        "close_empty" => frame(0x88, b""),
        "close_4000" => close(4000, b"bye"),
        "close_bad_utf8_reason" => close(1000, b"\xff\xfe"),
        "two_closes" => [close(1000, b""), close(1000, b"")].concat(),
        "unmasked" => [&[0x81, heartbeat.len() as u8][..], heartbeat.as_bytes()].concat(),
        "rsv3" => frame(0x91, heartbeat.as_bytes()),
        "opcode_3" => frame(0x83, b"x"),
        "opcode_11" => frame(0x8b, b"x"),
        "bad_utf8" => frame(0x81, b"\xff\xfe"),
        "text_inside_fragments" => [frame(0x01, b"[null,"), text(heartbeat)].concat(),
        "length_msb" => [&[0x81, 0xff, 0x80][..], &[0; 7], &[0; 4]].concat(),
        other => panic!("no bytes are known for {other}"),
    })
}
