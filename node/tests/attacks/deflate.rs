//! Attacks with compressed messages.

use flate2::{Compress, Compression, FlushCompress};
use node_core::counters::{CloseReason, Counters};

use super::{CONNECTIONS, KIND, Manner, frame, join, push, run};

/// The handshake of a client that asks for compression.
pub(super) fn request() -> Vec<u8> {
    let head = super::REQUEST.strip_suffix(b"\r\n").expect("an empty line");
    [head, b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"].concat()
}

/// The payload of a compressed message.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1_024);
    Compress::new(Compression::best(), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .expect("room");
    out.truncate(out.len() - 4);
    out
}

fn closed(counters: &Counters, reason: CloseReason) -> usize {
    usize::try_from(counters.closed[reason as usize]).expect("few")
}

/// Each attacker says this once, and is closed for this reason.
fn closes(name: &'static str, once: fn(usize) -> Vec<u8>, reason: CloseReason) {
    let counters = run(&Manner { name, deflate: true, once, ..KIND });
    assert_eq!(closed(&counters, reason), CONNECTIONS, "{name}: {:?}", counters.closed);
}

#[test]
fn bombs() {
    closes("bombs", |_| frame(0xc1, &deflated(&vec![b' '; 1 << 20])), CloseReason::TooBig);
}

#[test]
fn bombs_in_fragments() {
    let once = |_| {
        let bomb = deflated(&vec![b' '; 1 << 20]);
        let parts: Vec<_> = bomb.chunks(200).map(|part| frame(0x00, part)).collect();
        [frame(0x41, b""), parts.concat(), frame(0x80, b"")].concat()
    };
    closes("bombs in fragments", once, CloseReason::TooBig);
}

#[test]
fn truncated_deflate_data() {
    let once = |_| {
        let body = deflated(&push("room:x", "m", 30_000));
        frame(0xc1, &body[..body.len() / 2])
    };
    closes("truncated deflate data", once, CloseReason::Deflate);
}

#[test]
fn deflate_data_of_a_reserved_type() {
    closes("deflate data of a reserved type", |_| frame(0xc1, &[0x06; 1_000]), CloseReason::Deflate);
}

#[test]
fn compressed_control_frames() {
    closes("compressed control frames", |_| frame(0xc9, &deflated(b"ping")), CloseReason::Protocol);
}

#[test]
fn compressed_continuations() {
    let once = |_| [frame(0x41, &deflated(b"[")), frame(0xc0, b"")].concat();
    closes("compressed continuations", once, CloseReason::Protocol);
}

#[test]
fn compressed_text_that_is_no_text() {
    closes("compressed text that is no text", |_| frame(0xc1, &deflated(&[0xff; 60_000])), CloseReason::Utf8);
}

#[test]
fn compressed_messages_that_were_not_negotiated() {
    let once = |_| frame(0xc1, &deflated(b"[]"));
    let counters = run(&Manner { name: "compressed messages that were not negotiated", once, ..KIND });
    assert_eq!(closed(&counters, CloseReason::Protocol), CONNECTIONS);
}

/// A message of 60 KB in which nearly nothing is said: thousands of blocks without content.
#[test]
fn tiny_blocks() {
    let once = |_| {
        let said = deflated(br#"[null,"1","phoenix","heartbeat",{}]"#);
        frame(0xc1, &[&[0, 0, 0, 0xff, 0xff].repeat(12_000)[..], &said].concat())
    };
    let counters = run(&Manner { name: "tiny blocks", deflate: true, once, ..KIND });
    assert_eq!(counters.heartbeats, CONNECTIONS as u64, "they are what they say");
}

#[test]
fn tiny_blocks_that_are_all_the_last() {
    let once = |_| frame(0xc1, &[&[3, 0].repeat(30_000)[..], &[0]].concat());
    closes("tiny blocks that are all the last", once, CloseReason::Deflate);
}

/// The distance leads before the beginning of the message.
#[test]
fn distances_that_lead_nowhere() {
    // A block with fixed codes: not the last one, a length of 3, a distance of 1, and its end.
    closes("distances that lead nowhere", |_| frame(0xc1, &[0x02, 0x02, 0x00]), CloseReason::Deflate);
}

/// A block that declares more codes than there are.
#[test]
fn tables_of_codes_that_are_wrong() {
    closes("tables of codes that are wrong", |_| frame(0xc1, &[0xfc; 1_000]), CloseReason::Deflate);
}

/// Nothing is agreed on by these, so compressed messages break the protocol.
#[test]
fn offers_that_are_wrong() {
    let once = |number: usize| {
        const OFFERS: [&str; 5] = [
            "permessage-deflate; client_max_window_bits=99",
            "permessage-deflate; server_max_window_bits=0",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame",
        ];
        let request = super::REQUEST.strip_suffix(b"\r\n").expect("an empty line");
        let offer = format!("sec-websocket-extensions: {}\r\n\r\n", OFFERS[number % OFFERS.len()]);
        [request, offer.as_bytes(), &frame(0xc1, &deflated(b"[]"))].concat()
    };
    let counters = run(&Manner { name: "offers that are wrong", handshake: false, group: 1, once, ..KIND });
    assert_eq!(counters.opened, 2 + CONNECTIONS as u64);
    assert_eq!(closed(&counters, CloseReason::Protocol), CONNECTIONS);
}

/// A few hundred bytes each make the longest message that is allowed.
#[test]
fn messages_that_inflate_to_the_longest() {
    let again = |_| {
        let text = format!(r#"[null,"1","phoenix","heartbeat",{{"x":"{}"}}]"#, " ".repeat(65_000));
        frame(0xc1, &deflated(text.as_bytes()))
    };
    let counters = run(&Manner {
        name: "messages that inflate to the longest",
        deflate: true,
        again,
        quota: 400,
        ..KIND
    });
    assert!(counters.inflated_to_bytes > 100 * counters.inflated_bytes, "{counters:?}");
}

#[test]
fn endless_compressed_fragments() {
    let once = |_| {
        let mut all = frame(0x41, &deflated(b"["));
        // Just below the longest message.
        (0..64).for_each(|_| all.extend_from_slice(&frame(0x00, &[0x55; 1_000])));
        all
    };
    let again = |_| frame(0x89, b"");
    run(&Manner { name: "endless compressed fragments", deflate: true, once, again, quota: 6_000, ..KIND });
}

#[test]
fn unread_compressed_broadcasts() {
    let counters = run(&Manner {
        name: "unread compressed broadcasts",
        deflate: true,
        group: 20,
        once: |number| join(&format!("room:{number}"), "1"),
        again: |number| push(&format!("room:{number}"), "m", 8_000),
        ..KIND
    });
    assert!(counters.deflated_messages > 0);
}

/// The longest head that is taken, full of offers that are declined.
#[test]
fn offers_without_end() {
    let once = |_| {
        let request = super::REQUEST.strip_suffix(b"\r\n").expect("an empty line");
        let offers = "permessage-deflate; server_max_window_bits=9,".repeat(700);
        [request, b"sec-websocket-extensions: ", offers.as_bytes(), b"\r\n\r\n"].concat()
    };
    let counters = run(&Manner { name: "offers without end", handshake: false, once, ..KIND });
    assert_eq!(counters.opened, 2 + CONNECTIONS as u64, "without compression");
}
