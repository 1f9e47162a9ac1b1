//! Binary messages of V2: a kind, one length byte per name, the names, the data. Kinds 3 and 4 are those of Supabase's
//! Realtime (supabase/realtime, `lib/realtime_web/socket/v2_serializer.ex`), which Phoenix does not know.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Malformed, Message, Payload, encode, json, scan};
use crate::{limits::MAX_REF_BYTES, ws::frame::FIN_BINARY};

const KIND_PUSH: u8 = 0;
const KIND_REPLY: u8 = 1;
const KIND_BROADCAST: u8 = 2;
const KIND_USER_PUSH: u8 = 3;
const KIND_USER_BROADCAST: u8 = 4;

/// What the payload of a user broadcast is.
const ENCODING_BYTES: u8 = 0;
const ENCODING_JSON: u8 = 1;

/// Reads a push or a user broadcast push.
pub(super) fn decode(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    match bytes.split_first() {
        Some((&KIND_PUSH, rest)) => decode_push(rest),
        Some((&KIND_USER_PUSH, rest)) => decode_user_push(rest),
        _ => Err(Malformed),
    }
}

/// Reads what follows the kind: `join_ref_size, ref_size, topic_size, event_size, join_ref, ref, topic, event, data`.
fn decode_push(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let (&[join_ref, reference, topic, event], mut rest) = bytes.split_first_chunk::<4>().ok_or(Malformed)?;
    let names = names(&mut rest, [join_ref, reference, topic, event])?;
    Ok(message(names, Payload::Binary(rest)))
}

/// Reads what follows the kind: `join_ref_size, ref_size, topic_size, event_size, metadata_size, encoding, join_ref, ref,
/// topic, event, metadata, payload`. The metadata says whether Supabase is to keep the message, which is for its database
/// alone.
fn decode_user_push(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let (&[join_ref, reference, topic, event, metadata, encoding], mut rest) =
        bytes.split_first_chunk::<6>().ok_or(Malformed)?;
    let names = names(&mut rest, [join_ref, reference, topic, event])?;
    let metadata = text(&mut rest, metadata)?;
    if !metadata.is_empty() {
        scan::check(metadata)?;
    }
    let payload = match encoding {
        ENCODING_BYTES => Payload::UserBinary(rest),
        ENCODING_JSON => {
            let json = std::str::from_utf8(rest).map_err(|_| Malformed)?;
            scan::check(json)?;
            Payload::UserJson(json)
        }
        _ => return Err(Malformed),
    };
    Ok(message(names, payload))
}

/// Takes a text of so many bytes off the front.
fn text<'a>(rest: &mut &'a [u8], length: u8) -> Result<&'a str, Malformed> {
    let (name, after) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
    *rest = after;
    std::str::from_utf8(name).map_err(|_| Malformed)
}

/// Takes both refs, the topic and the event off the front.
fn names<'a>(rest: &mut &'a [u8], lengths: [u8; 4]) -> Result<[&'a str; 4], Malformed> {
    if usize::from(lengths[0].max(lengths[1])) > MAX_REF_BYTES {
        return Err(Malformed);
    }
    let mut names = [""; 4];
    for (name, length) in names.iter_mut().zip(lengths) {
        *name = text(rest, length)?;
    }
    Ok(names)
}

fn message<'a>([join_ref, reference, topic, event]: [&'a str; 4], payload: Payload<'a>) -> Message<'a> {
    Message {
        join_ref: quoted(join_ref),
        reference: quoted(reference),
        topic: topic.into(),
        event: event.into(),
        payload,
    }
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

/// Appends a user broadcast with JSON as its payload, or with bytes; the names must fit.
pub(super) fn append_user_broadcast(
    out: &mut Vec<u8>,
    topic: &str,
    event: &str,
    (is_json, data): (bool, &[u8]),
) {
    let encoding = if is_json { ENCODING_JSON } else { ENCODING_BYTES };
    // There is no metadata.
    let head = [KIND_USER_BROADCAST, topic.len() as u8, event.len() as u8, 0, encoding];
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
        let message = decode(bytes).expect("valid");
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

    /// The bytes that the serializer of realtime-js makes and reads.
    #[test]
    fn golden_user_broadcasts() {
        let push = b"\x03\x02\x03\x05\x05\x00\x0112123topicevent{\"a\":1}";
        let message = decode(push).expect("valid");
        assert_eq!(
            (&*message.join_ref, &*message.reference, &*message.topic, &*message.event),
            ("\"12\"", "\"123\"", "topic", "event")
        );
        assert_eq!(message.payload, Payload::UserJson(r#"{"a":1}"#));
        let push = b"\x03\x02\x03\x05\x05\x10\x0012123topicevent{\"persist\":true}\xff";
        assert_eq!(decode(push).expect("valid").payload, Payload::UserBinary(b"\xff"));
        let mut out = Vec::new();
        append_user_broadcast(&mut out, "topic", "event", (true, br#"{"a":1}"#));
        assert_eq!(&out[..], b"\x82\x16\x04\x05\x05\x00\x01topicevent{\"a\":1}");
        out.clear();
        append_user_broadcast(&mut out, "topic", "event", (false, b"\xff"));
        assert_eq!(&out[..], b"\x82\x10\x04\x05\x05\x00\x00topicevent\xff");
    }

    #[test]
    fn cut_or_foreign_bytes_are_malformed() {
        let whole = b"\x00\x02\x03\x05\x0512123topicevent";
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), Err(Malformed), "{end}");
        }
        let whole = b"\x03\x02\x03\x05\x05\x02\x0112123topicevent{}[]";
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), Err(Malformed), "{end}");
        }
        for bad in [
            &b"\x01\0\0\0\0"[..],
            b"\x04\0\0\0\0\0\0",
            b"\0\0\0\x01\0\xff",
            b"\x03\0\0\0\0\0\x02{}",
            b"\x03\0\0\0\0\0\x01",
            b"\x03\0\0\0\0\0\x01\"\xff\"",
            b"\x03\0\0\0\0\0\x01{\"n\":1e999}",
            b"\x03\0\0\0\0\x01\x01{{}",
            b"\x03\0\0\0\x01\0\0\xff",
        ] {
            assert_eq!(decode(bad), Err(Malformed), "{bad:?}");
        }
        let long_ref = [&b"\x03\x41\0\0\0\0\0"[..], &[b'1'; 65]].concat();
        assert_eq!(decode(&long_ref), Err(Malformed));
    }
}
