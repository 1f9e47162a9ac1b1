//! Serializer V2, `vsn` 2.0.x: JSON arrays, and binary messages.

use bytes::Bytes;

use super::{
    Malformed, Message, NULL, OddMessage, Payload, Pieces, Raw, Serializer, Translation, Unreadable, binary,
    encode::append_text,
    json::{self, escaped},
};
use crate::broadcast::Content;

/// The serializer of this module.
#[derive(Debug)]
pub(super) struct V2;

/// `[join_ref,ref,"topic","event",payload]`.
fn append(
    out: &mut Vec<u8>,
    (join_ref, reference): (&str, &str),
    topic: &str,
    event: &str,
    pieces: &Pieces<'_>,
) {
    let (topic, event) = (&*escaped(topic), &*escaped(event));
    let [a, b, c, d, e] = *pieces;
    append_text(
        out,
        &["[", join_ref, ",", reference, ",\"", topic, "\",\"", event, "\",", a, b, c, d, e, "]"],
    );
}

impl Serializer for V2 {
    fn decode_text<'a>(&self, text: &'a str) -> Result<Message<'a>, Malformed> {
        json::decode_v2(text)
    }

    fn decode_binary<'a>(&self, bytes: &'a [u8], _: Translation<'a>) -> Result<Message<'a>, Unreadable> {
        Ok(binary::decode(bytes)?)
    }

    fn decode_deep<'a>(&self, raw: Raw<'a>) -> Option<Message<'a>> {
        match raw {
            Raw::Text(text) => json::decode_deep_v2(text),
            Raw::Binary(_) => None,
        }
    }

    fn decode_odd<'a>(&self, text: &'a str) -> Option<OddMessage<'a>> {
        json::decode_odd_v2(text)
    }

    fn message(&self, refs: (&str, &str), topic: &str, event: &str, pieces: &Pieces<'_>) -> Bytes {
        let mut out = Vec::new();
        append(&mut out, refs, topic, event, pieces);
        out.into()
    }

    fn odd_reply(&self, (join_ref, reference): (&str, &str), topic: &str, pieces: &Pieces<'_>) -> Bytes {
        let (mut out, [a, b, c, d, e]) = (Vec::new(), *pieces);
        let event = ",\"phx_reply\",";
        append_text(&mut out, &["[", join_ref, ",", reference, ",", topic, event, a, b, c, d, e, "]"]);
        out.into()
    }

    fn binary_reply(&self, refs: (&str, &str), topic: &str, status: &str, data: &[u8]) -> Option<Bytes> {
        binary::reply(refs, topic, status, data)
    }

    fn binary_push(&self, join_ref: &str, topic: &str, event: &str, data: &[u8]) -> Option<Bytes> {
        binary::push(join_ref, topic, event, data)
    }

    fn carries(&self, content: &Content<'_>) -> bool {
        match content.payload {
            Payload::Json(_) => true,
            Payload::Binary(_) | Payload::UserJson(_) | Payload::UserBinary(_) => {
                binary::fits(content.topic, content.event)
            }
        }
    }

    fn broadcast(&self, content: &Content<'_>, out: &mut Vec<u8>) {
        let Content { topic, event, payload } = *content;
        match payload {
            Payload::Json(json) => append(out, (NULL, NULL), topic, event, &[json, "", "", "", ""]),
            Payload::Binary(data) => binary::append_broadcast(out, topic, event, data),
            Payload::UserJson(json) => {
                binary::append_user_broadcast(out, topic, event, (true, json.as_bytes()));
            }
            Payload::UserBinary(data) => binary::append_user_broadcast(out, topic, event, (false, data)),
        }
    }
}
