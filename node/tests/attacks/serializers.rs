//! Messages in the forms of MessagePack and of Supabase's Realtime.

use node_core::counters::CloseReason;

use crate::{CONNECTIONS, KIND, Manner, REQUEST, frame, join, run};

/// A user broadcast push of Supabase's Realtime, with the refs 1 and 2.
fn user_push(topic: &str, lengths: [u8; 6], payload_bytes: usize) -> Vec<u8> {
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(payload_bytes));
    frame(0x82, &[&[3][..], &lengths, b"12", topic.as_bytes(), b"move", payload.as_bytes()].concat())
}

#[test]
fn unread_user_broadcasts() {
    run(&Manner {
        name: "unread user broadcasts",
        group: 20,
        once: |number| join(&format!("realtime:{number:05}"), "1"),
        again: |number| user_push(&format!("realtime:{number:05}"), [1, 1, 14, 4, 0, 1], 8_000),
        ..KIND
    });
}

/// The lengths of the names lead beyond the message, which ends the connection.
#[test]
fn user_broadcasts_that_end_too_early() {
    let once = |_| [join("realtime:1", "1"), user_push("realtime:1", [1, 1, 255, 255, 255, 1], 100)].concat();
    let counters = run(&Manner { name: "user broadcasts that end too early", once, ..KIND });
    assert_eq!(counters.closed[CloseReason::Malformed as usize], CONNECTIONS as u64);
}

/// JSON that no strict reader takes, behind binary names.
#[test]
fn user_broadcasts_of_deep_json() {
    let once = |_| {
        let deep = "[".repeat(60_000);
        let head = [3, 1, 1, 10, 4, 0, 1];
        let push = [&head[..], b"12", b"realtime:1move", deep.as_bytes()].concat();
        [join("realtime:1", "1"), frame(0x82, &push)].concat()
    };
    let counters = run(&Manner { name: "user broadcasts of deep JSON", once, ..KIND });
    assert_eq!(counters.closed[CloseReason::Malformed as usize], CONNECTIONS as u64);
}

/// The handshake of a client that speaks MessagePack, in front of what it says.
fn packed(frames: &[u8]) -> Vec<u8> {
    let request = String::from_utf8_lossy(REQUEST).replace("2.0.0", "2.0.0%2Bmsgpack");
    [request.as_bytes(), frames].concat()
}

/// A message of MessagePack in `room:x`, up to its payload.
fn packed_message(event: &str, payload: &[u8]) -> Vec<u8> {
    let head = [&b"\x95\xa11\xa12\xa6room:x"[..], &[0xa0 | event.len() as u8], event.as_bytes()];
    frame(0x82, &[&head.concat(), payload].concat())
}

/// What these attackers say is malformed in many ways, each of which ends its connection before anything is allocated.
#[test]
fn messagepack_that_is_not_what_it_declares() {
    const PAYLOADS: [&[u8]; 8] = [
        // Counts and lengths of four billion, and of more than there is.
        b"\xdd\xff\xff\xff\xff\xc0",
        b"\xdf\xff\xff\xff\xff\xa0\xc0",
        b"\xdb\xff\xff\xff\xffabc",
        b"\xc6\x7f\xff\xff\xffabc",
        b"\x81\xa1a\xda\xff\xff",
        // An extension, a key that is no text, a text that is no UTF-8.
        b"\xc7\x04\xff\0\0\0\0",
        b"\x81\x01\x01",
        b"\x81\xa1\xff\xc0",
    ];
    let once = |number: usize| {
        let join = packed_message("phx_join", b"\x80");
        packed(&[join, packed_message("m", PAYLOADS[number % PAYLOADS.len()])].concat())
    };
    let kind =
        Manner { name: "MessagePack that is not what it declares", group: 1, handshake: false, once, ..KIND };
    let counters = run(&kind);
    assert_eq!(counters.closed[CloseReason::Malformed as usize], CONNECTIONS as u64);
}

/// Each gets an error as its answer.
#[test]
fn deep_messagepack() {
    let once = |_| packed(&packed_message("m", &[0x91; 60_000]));
    let counters = run(&Manner { name: "deep MessagePack", handshake: false, once, ..KIND });
    assert_eq!(counters.beyond_limit, CONNECTIONS as u64);
}

/// As JSON each message is six times as long, and longer than one may be.
#[test]
fn messagepack_that_grows() {
    let once = |_| {
        let values = [&b"\x81\xa1a\xdc\xc3\x50"[..], &[0xc2; 50_000]].concat();
        packed(&[packed_message("phx_join", b"\x80"), packed_message("m", &values)].concat())
    };
    let counters = run(&Manner { name: "MessagePack that grows", handshake: false, once, ..KIND });
    assert_eq!(counters.closed[CloseReason::TooBig as usize], CONNECTIONS as u64);
}

/// Numbers that take nine bytes each.
#[test]
fn unread_messagepack() {
    let once = |_| packed(&packed_message("phx_join", b"\x80"));
    let again = |_| {
        let numbers = [0xcb, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a].repeat(1_000);
        packed_message("m", &[&b"\x81\xa1a\xdc\x03\xe8"[..], &numbers].concat())
    };
    run(&Manner { name: "unread MessagePack", group: 20, handshake: false, once, again, ..KIND });
}
