//! Makes messages to clients, each as one complete WebSocket frame in one allocation of the exact size.
//!
//! A message is encoded once per serializer version; the members of a room share the result.

use bytes::Bytes;

use super::{NULL, Payload, Vsn};
use crate::{
    broadcast::Content,
    limits::MAX_TOPIC_BYTES,
    ws::frame::{FIN_TEXT, header_bytes, write_header},
};

/// Response of a reply that carries nothing.
pub const EMPTY: &str = "{}";

/// About how many bytes a serializer adds to the parts of a broadcast.
const ABOUT_FRAME_BYTES: usize = 64;

/// Appends a frame of `parts`, and reserves no more memory than that takes.
pub(super) fn append_frame(out: &mut Vec<u8>, first_byte: u8, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    out.reserve_exact(header_bytes(length) + length);
    write_header(out, first_byte, length);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The same for text.
pub(super) fn append_text<const PARTS: usize>(out: &mut Vec<u8>, parts: &[&str; PARTS]) {
    append_frame(out, FIN_TEXT, &parts.map(str::as_bytes));
}

/// The first bytes of a topic, as many as a valid one may have: a client may make up a topic of any length, and would
/// get all of it back.
fn bounded(topic: &str) -> &str {
    &topic[..topic.floor_char_boundary(MAX_TOPIC_BYTES)]
}

/// A reply. `status` is `ok` or `error`, `response` JSON. It repeats only the start of a topic longer than
/// [`MAX_TOPIC_BYTES`].
#[must_use]
pub fn reply(vsn: Vsn, refs: (&str, &str), topic: &str, status: &str, response: &str) -> Bytes {
    let payload = ["{\"status\":\"", status, "\",\"response\":", response, "}"];
    vsn.serializer().message(refs, bounded(topic), "phx_reply", &payload)
}

/// An error reply with a reason, which is plain text without quotes, and as much of the topic as [`reply`] repeats.
#[must_use]
pub fn error(vsn: Vsn, refs: (&str, &str), topic: &str, reason: &str) -> Bytes {
    let payload = ["{\"status\":\"error\",\"response\":{\"reason\":\"", reason, "\"}}", "", ""];
    vsn.serializer().message(refs, bounded(topic), "phx_reply", &payload)
}

/// The same with the time in milliseconds after which the client may try again.
#[must_use]
pub fn error_for_now(
    vsn: Vsn,
    refs: (&str, &str),
    topic: &str,
    reason: &str,
    retry_after_millis: u64,
) -> Bytes {
    let millis = retry_after_millis.to_string();
    let begin = "{\"status\":\"error\",\"response\":{\"reason\":\"";
    let payload = [begin, reason, "\",\"retry_after_ms\":", &millis, "}}"];
    vsn.serializer().message(refs, bounded(topic), "phx_reply", &payload)
}

/// A reply about a topic that is no string, whose JSON is repeated as it came.
#[must_use]
pub fn odd_reply(vsn: Vsn, refs: (&str, &str), topic: &str, status: &str, response: &str) -> Bytes {
    let payload = ["{\"status\":\"", status, "\",\"response\":", response, "}"];
    vsn.serializer().odd_reply(refs, topic, &payload)
}

/// The graceful end of a channel, after which clients do not join again by themselves. Both refs are the ref that the channel was joined with: by it a client tells the
/// channel that ended from the one that took its place, and V1 has no other field for it.
#[must_use]
pub fn phx_close(vsn: Vsn, join_ref: &str, topic: &str) -> Bytes {
    vsn.serializer().message((join_ref, join_ref), topic, "phx_close", &[EMPTY, "", "", "", ""])
}

/// The end of a channel after which clients join again, with a reason, which is plain text without quotes. The refs are those
/// of [`phx_close`].
#[must_use]
pub fn phx_error(vsn: Vsn, join_ref: &str, topic: &str, reason: &str) -> Bytes {
    let payload = ["{\"reason\":\"", reason, "\"}", "", ""];
    vsn.serializer().message((join_ref, join_ref), topic, "phx_error", &payload)
}

/// A reply whose response is a payload. `None` when the serializer has no such message, or when a name is too long for
/// it.
#[must_use]
pub fn payload_reply(
    vsn: Vsn,
    refs: (&str, &str),
    topic: &str,
    status: &str,
    payload: Payload<'_>,
) -> Option<Bytes> {
    match payload {
        Payload::Json(json) => Some(reply(vsn, refs, topic, status, json)),
        Payload::Binary(data) => vsn.serializer().binary_reply(refs, topic, status, data),
        Payload::UserJson(_) | Payload::UserBinary(_) => None,
    }
}

/// An event that the server pushes to one member of a topic. `None` as for [`payload_reply`].
#[must_use]
pub fn push(vsn: Vsn, join_ref: &str, topic: &str, event: &str, payload: Payload<'_>) -> Option<Bytes> {
    let serializer = vsn.serializer();
    match payload {
        Payload::Json(json) => {
            Some(serializer.message((join_ref, NULL), topic, event, &[json, "", "", "", ""]))
        }
        Payload::Binary(data) => serializer.binary_push(join_ref, topic, event, data),
        Payload::UserJson(_) | Payload::UserBinary(_) => None,
    }
}

/// Messages to the members of a topic as one run of frames, without those that the serializer cannot carry, and how
/// many it could.
#[must_use]
pub fn broadcasts(vsn: Vsn, contents: &[Content<'_>]) -> (Bytes, usize) {
    let (serializer, mut out, mut able) = (vsn.serializer(), Vec::new(), 0);
    if let [_, _, ..] = contents {
        // About as much memory as all of them take, so that the run need not be moved for each.
        out.reserve(contents.iter().map(|content| content.bytes() + ABOUT_FRAME_BYTES).sum());
    }
    for content in contents {
        if serializer.carries(content) {
            serializer.broadcast(content, &mut out);
            able += 1;
        }
    }
    (out.into(), able)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::decode_text, ws::frame::split_server_frame};

    fn body(frame: &Bytes) -> &str {
        let (first, payload) = split_server_frame(frame).expect("one frame");
        assert_eq!(first, FIN_TEXT);
        std::str::from_utf8(payload).expect("UTF-8")
    }

    /// The expected shapes are those of phoenix-1.8's V2 and V1 serializers.
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
        assert_eq!(
            body(&phx_error(Vsn::V2, "1", "t", "channel_crash")),
            r#"[1,1,"t","phx_error",{"reason":"channel_crash"}]"#
        );
        let payload = Payload::Json(r#"{"a":1}"#);
        let pushed = |vsn| push(vsn, "\"1\"", "t", "e", payload).expect("JSON");
        assert_eq!(body(&pushed(Vsn::V2)), r#"["1",null,"t","e",{"a":1}]"#);
        assert_eq!(body(&pushed(Vsn::V1)), r#"{"topic":"t","event":"e","payload":{"a":1},"ref":null}"#);
        assert_eq!(
            body(&odd_reply(Vsn::V2, ("null", "7"), r#"{"a": 1}"#, "ok", EMPTY)),
            r#"[null,7,{"a": 1},"phx_reply",{"status":"ok","response":{}}]"#
        );
        assert_eq!(
            body(&odd_reply(Vsn::V1, ("null", "7"), "null", "ok", EMPTY)),
            r#"{"topic":null,"event":"phx_reply","payload":{"status":"ok","response":{}},"ref":7}"#
        );
    }

    #[test]
    fn broadcasts_in_each_version() {
        let text = Content::json("room:\"q\"\n", "e\\", r#"{"a":[1]}"#);
        let (v2, able) = broadcasts(Vsn::V2, &[text]);
        assert_eq!((body(&v2), able), (r#"[null,null,"room:\"q\"\n","e\\",{"a":[1]}]"#, 1));
        let (v1, able) = broadcasts(Vsn::V1, &[text]);
        let expected = r#"{"topic":"room:\"q\"\n","event":"e\\","payload":{"a":[1]},"ref":null}"#;
        assert_eq!((body(&v1), able), (expected, 1));
        let binary = Content { topic: "t", event: "e", payload: Payload::Binary(b"x") };
        assert_eq!(broadcasts(Vsn::V1, &[binary]), (Bytes::new(), 0));
        assert_eq!(broadcasts(Vsn::V1, &[text, binary]), (v1, 1));
        let (both, able) = broadcasts(Vsn::V2, &[text, binary]);
        assert_eq!(
            (&both[..v2.len()], &both[v2.len()..], able),
            (&v2[..], &b"\x82\x06\x02\x01\x01tex"[..], 2)
        );
    }

    #[test]
    fn decoding_follows_phoenix() {
        let message =
            decode_text(Vsn::V2, r#" ["1", 2 ,"t\u0061","e",{"x": [1, 2]} ,"extra",{}] "#).expect("valid");
        assert_eq!((&*message.join_ref, &*message.reference), ("\"1\"", "2"));
        assert_eq!((&*message.topic, &*message.event), ("ta", "e"));
        assert_eq!(message.payload, Payload::Json(r#"{"x": [1, 2]}"#));
        let v1 = decode_text(Vsn::V1, r#"{"topic":"t","event":"e","payload":{},"ref":"9"}"#).expect("valid");
        assert_eq!((&*v1.join_ref, &*v1.reference), ("null", "\"9\""));
        let long = format!(r#"[null,"{}","t","e",{{}}]"#, "r".repeat(crate::limits::MAX_REF_BYTES));
        for bad in ["", "{}", "[]", "[1,2,3,4]", r#"[null,null,"t","e"]"#, r#"[null,null,1,"e",{}]"#, &long] {
            assert!(decode_text(Vsn::V2, bad).is_err(), "{bad:.60}");
        }
        for bad in [
            "[]",
            r#"["t","e",{},"9"]"#,
            r#"{"topic":"t","event":"e","payload":{}}"#,
            r#"{"topic":"t","payload":{},"ref":1}"#,
        ] {
            assert!(decode_text(Vsn::V1, bad).is_err(), "{bad}");
        }
    }
}
