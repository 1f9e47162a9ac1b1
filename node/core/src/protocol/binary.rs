//! Binary messages of V2: a kind, one length byte per name, the names, the data.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Malformed, Message, Payload, encode, json};
use crate::{limits::MAX_REF_BYTES, ws::frame::FIN_BINARY};

const KIND_PUSH: u8 = 0;
const KIND_REPLY: u8 = 1;
const KIND_BROADCAST: u8 = 2;

/// Reads `0, join_ref_size, ref_size, topic_size, event_size, join_ref, ref, topic, event, data`.
pub(super) fn decode_push(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let (&[kind, join_ref, reference, topic, event], mut rest) =
        bytes.split_first_chunk::<5>().ok_or(Malformed)?;
    if kind != KIND_PUSH || usize::from(join_ref.max(reference)) > MAX_REF_BYTES {
        return Err(Malformed);
    }
    let mut text = |length: u8| {
        let (name, after) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        rest = after;
        std::str::from_utf8(name).map_err(|_| Malformed)
    };
    let (join_ref, reference, topic, event) = (text(join_ref)?, text(reference)?, text(topic)?, text(event)?);
    Ok(Message {
        join_ref: quoted(join_ref),
        reference: quoted(reference),
        topic: topic.into(),
        event: event.into(),
        payload: Payload::Binary(rest),
    })
}

fn quoted(text: &str) -> Cow<'static, str> {
    format!("\"{}\"", json::escaped(text)).into()
}

/// The bytes of a ref that is known as JSON.
fn unquoted(raw: &str) -> Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => inner.into(),
        Some(_) => serde_json::from_str::<String>(raw).map_or_else(|_| raw.into(), Cow::Owned),
        None if raw == super::NULL => "".into(),
        None => raw.into(),
    }
}

/// Whether names fit their one length byte each.
pub(super) fn fits(topic: &str, event: &str) -> bool {
    topic.len().max(event.len()) <= usize::from(u8::MAX)
}

/// Appends a broadcast frame; the names must fit.
pub(super) fn append_broadcast(out: &mut Vec<u8>, topic: &str, event: &str, data: &[u8]) {
    let head = [KIND_BROADCAST, topic.len() as u8, event.len() as u8];
    encode::append_frame(out, FIN_BINARY, &[&head, topic.as_bytes(), event.as_bytes(), data]);
}

/// A reply frame. `None` when a name is longer than 255 bytes.
pub(super) fn reply(
    (join_ref, reference): (&str, &str),
    topic: &str,
    status: &str,
    data: &[u8],
) -> Option<Bytes> {
    frame(KIND_REPLY, [&*unquoted(join_ref), &*unquoted(reference), topic, status], data)
}

/// A push frame of the server, which has no ref. `None` when a name is longer than 255 bytes.
pub(super) fn push(join_ref: &str, topic: &str, event: &str, data: &[u8]) -> Option<Bytes> {
    frame(KIND_PUSH, [&*unquoted(join_ref), topic, event], data)
}

/// A frame of a kind, one length byte for each name, the names, and the data.
fn frame<const NAMES: usize>(kind: u8, names: [&str; NAMES], data: &[u8]) -> Option<Bytes> {
    let mut head = vec![kind];
    for name in names {
        head.push(u8::try_from(name.len()).ok()?);
    }
    names.iter().for_each(|name| head.extend_from_slice(name.as_bytes()));
    let mut out = Vec::new();
    encode::append_frame(&mut out, FIN_BINARY, &[&head, data]);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes of Phoenix's test/phoenix/socket/v2_json_serializer_test.exs.
    #[test]
    fn golden_push() {
        let bytes = b"\x00\x02\x03\x05\x0512123topicevent\x65\x66\x67";
        let message = decode_push(bytes).expect("valid");
        assert_eq!(
            (&*message.join_ref, &*message.reference, &*message.topic, &*message.event),
            ("\"12\"", "\"123\"", "topic", "event")
        );
        assert_eq!(message.payload, Payload::Binary(&[101, 102, 103]));
    }

    #[test]
    fn golden_reply_push_and_broadcast() {
        let reply = reply(("\"12\"", "\"123\""), "topic", "ok", &[101, 102, 103]).expect("short names");
        assert_eq!(&reply[..], b"\x82\x14\x01\x02\x03\x05\x0212123topicok\x65\x66\x67");
        let push = push("\"12\"", "topic", "event", &[101, 102, 103]).expect("short names");
        assert_eq!(&push[..], b"\x82\x13\x00\x02\x05\x0512topicevent\x65\x66\x67");
        assert_eq!(super::push("null", &"t".repeat(256), "event", b""), None);
        let mut broadcast = Vec::new();
        append_broadcast(&mut broadcast, "topic", "event", &[101, 102, 103]);
        assert_eq!(&broadcast[..], b"\x82\x10\x02\x05\x05topicevent\x65\x66\x67");
    }

    #[test]
    fn cut_or_foreign_bytes_are_malformed() {
        let whole = b"\x00\x02\x03\x05\x0512123topicevent";
        for end in 0..whole.len() {
            assert_eq!(decode_push(&whole[..end]), Err(Malformed), "{end}");
        }
        assert_eq!(decode_push(b"\x01\0\0\0\0"), Err(Malformed));
        assert_eq!(decode_push(b"\0\0\0\x01\0\xff"), Err(Malformed));
    }
}
