//! Messages to clients, each as one complete WebSocket frame, built in one allocation of the exact size.
//!
//! Encoding happens once per message and wire variant; members of a room share the result.

use bytes::Bytes;

use super::{Vsn, decode_text, json::escaped};
use crate::{
    limits::MAX_TOPIC_BYTES,
    ws::frame::{FIN_TEXT, header_bytes, split_server_frame, write_header},
};

/// Response of a reply that carries nothing.
pub const EMPTY: &str = "{}";

/// Concatenates `parts` behind a frame header.
pub(super) fn frame(first_byte: u8, parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(header_bytes(length) + length);
    write_header(&mut out, first_byte, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into()
}

/// Pieces of a payload; fewer are filled up with nothing.
type Pieces<'a> = [&'a str; 5];

/// Any message: `join_ref` and `reference` are raw JSON, `payload` JSON in pieces. V1 carries no `join_ref`.
fn message(
    vsn: Vsn,
    (join_ref, reference): (&str, &str),
    topic: &str,
    event: &str,
    [a, b, c, d, e]: Pieces<'_>,
) -> Bytes {
    let (topic, event) = (&*escaped(topic), &*escaped(event));
    match vsn {
        Vsn::V2 => {
            text(&["[", join_ref, ",", reference, ",\"", topic, "\",\"", event, "\",", a, b, c, d, e, "]"])
        }
        Vsn::V1 => text(&[
            "{\"topic\":\"",
            topic,
            "\",\"event\":\"",
            event,
            "\",\"payload\":",
            a,
            b,
            c,
            d,
            e,
            ",\"ref\":",
            reference,
            "}",
        ]),
    }
}

/// As much of a topic as a valid one has: a client may make up any, and would get it all back.
fn bounded(topic: &str) -> &str {
    &topic[..topic.floor_char_boundary(MAX_TOPIC_BYTES)]
}

fn text<const PARTS: usize>(parts: &[&str; PARTS]) -> Bytes {
    frame(FIN_TEXT, &parts.map(str::as_bytes))
}

/// A reply. `status` is `ok` or `error`, `response` JSON. Of a topic longer than [`MAX_TOPIC_BYTES`] it repeats the start.
#[must_use]
pub fn reply(vsn: Vsn, refs: (&str, &str), topic: &str, status: &str, response: &str) -> Bytes {
    let payload = ["{\"status\":\"", status, "\",\"response\":", response, "}"];
    message(vsn, refs, bounded(topic), "phx_reply", payload)
}

/// An error reply with a reason, which is plain text without quotes, and as much of the topic as [`reply`] repeats.
#[must_use]
pub fn error(vsn: Vsn, refs: (&str, &str), topic: &str, reason: &str) -> Bytes {
    let payload = ["{\"status\":\"error\",\"response\":{\"reason\":\"", reason, "\"}}", "", ""];
    message(vsn, refs, bounded(topic), "phx_reply", payload)
}

/// The graceful end of a channel. Both refs are the one it was joined with: that is how a client tells the channel that
/// ended from the one that took its place, and V1 has no other field to say it in.
#[must_use]
pub fn phx_close(vsn: Vsn, join_ref: &str, topic: &str) -> Bytes {
    message(vsn, (join_ref, join_ref), topic, "phx_close", [EMPTY, "", "", "", ""])
}

/// A message to all members of a topic.
#[must_use]
pub fn broadcast(vsn: Vsn, topic: &str, event: &str, payload: &str) -> Bytes {
    message(vsn, (super::NULL, super::NULL), topic, event, [payload, "", "", "", ""])
}

/// The V1 form of a V2 broadcast frame; `None` when it has none, as binary has not.
#[must_use]
pub fn broadcast_to_v1(frame: &[u8]) -> Option<Bytes> {
    let (FIN_TEXT, payload) = split_server_frame(frame)? else { return None };
    let message = decode_text(Vsn::V2, std::str::from_utf8(payload).ok()?).ok()?;
    match message.payload {
        super::Payload::Json(json) => Some(broadcast(Vsn::V1, &message.topic, &message.event, json)),
        super::Payload::Binary(_) => None,
    }
}

/// Whether bytes from elsewhere are what a broadcast must be before it is given to members: one whole frame, text or
/// binary.
#[must_use]
pub fn is_broadcast_frame(frame: &[u8]) -> bool {
    matches!(split_server_frame(frame), Some((FIN_TEXT | crate::ws::frame::FIN_BINARY, _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(frame: &Bytes) -> &str {
        let (first, payload) = split_server_frame(frame).expect("one frame");
        assert_eq!(first, FIN_TEXT);
        std::str::from_utf8(payload).expect("UTF-8")
    }

    /// Shapes of phoenix-1.8's V2 and V1 serializers.
    #[test]
    fn golden_messages() {
        let refs = ("\"1\"", "\"2\"");
        assert_eq!(
            body(&reply(Vsn::V2, refs, "room:a", "ok", EMPTY)),
            r#"["1","2","room:a","phx_reply",{"status":"ok","response":{}}]"#
        );
        assert_eq!(
            body(&reply(Vsn::V1, refs, "room:a", "ok", EMPTY)),
            r#"{"topic":"room:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}"#
        );
        assert_eq!(
            body(&error(Vsn::V2, ("null", "7"), "x", "unmatched topic")),
            r#"[null,7,"x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#
        );
        assert_eq!(body(&phx_close(Vsn::V2, "\"1\"", "t")), r#"["1","1","t","phx_close",{}]"#);
        assert_eq!(
            body(&phx_close(Vsn::V1, "\"1\"", "t")),
            r#"{"topic":"t","event":"phx_close","payload":{},"ref":"1"}"#
        );
    }

    #[test]
    fn broadcasts_and_their_v1_form() {
        let v2 = broadcast(Vsn::V2, "room:\"q\"\n", "e\\", r#"{"a":[1]}"#);
        assert_eq!(body(&v2), r#"[null,null,"room:\"q\"\n","e\\",{"a":[1]}]"#);
        let v1 = broadcast_to_v1(&v2).expect("text");
        assert_eq!(body(&v1), r#"{"topic":"room:\"q\"\n","event":"e\\","payload":{"a":[1]},"ref":null}"#);
        assert!(is_broadcast_frame(&v2) && !is_broadcast_frame(&v2[1..]));
        assert_eq!(broadcast_to_v1(&super::super::binary::broadcast("t", "e", b"x").expect("short")), None);
    }

    #[test]
    fn decoding_follows_phoenix() {
        let message =
            decode_text(Vsn::V2, r#" ["1", 2 ,"t\u0061","e",{"x": [1, 2]} ,"extra",{}] "#).expect("valid");
        assert_eq!((&*message.join_ref, &*message.reference), ("\"1\"", "2"));
        assert_eq!((&*message.topic, &*message.event), ("ta", "e"));
        assert_eq!(message.payload, super::super::Payload::Json(r#"{"x": [1, 2]}"#));
        let v1 = decode_text(Vsn::V1, r#"{"topic":"t","event":"e","payload":{},"ref":"9"}"#).expect("valid");
        assert_eq!((&*v1.join_ref, &*v1.reference), ("null", "\"9\""));
        let long = format!(r#"[null,"{}","t","e",{{}}]"#, "r".repeat(crate::limits::MAX_REF_BYTES));
        for bad in ["", "{}", "[]", "[1,2,3,4]", r#"[null,null,"t","e"]"#, r#"[null,null,1,"e",{}]"#, &long] {
            assert!(decode_text(Vsn::V2, bad).is_err(), "{bad:.60}");
        }
        for bad in
            ["[]", r#"{"topic":"t","event":"e","payload":{}}"#, r#"{"topic":"t","payload":{},"ref":1}"#]
        {
            assert!(decode_text(Vsn::V1, bad).is_err(), "{bad}");
        }
    }
}
