//! Serializer V1, `vsn` 1.0.x: JSON objects, text only. Its messages carry no `join_ref`.

use bytes::Bytes;

use super::{
    Malformed, Message, OddMessage, Payload, Pieces, Raw, Serializer, Translation, Unreadable,
    encode::append_text,
    json::{self, escaped},
    realtime::{BROADCAST, TEXT_FORM},
};
use crate::broadcast::Content;

/// The serializer of this module.
#[derive(Debug)]
pub(super) struct V1;

/// `{"topic":…,"event":…,"payload":…,"ref":…}`.
fn append(out: &mut Vec<u8>, reference: &str, topic: &str, event: &str, pieces: &Pieces<'_>) {
    let (topic, event) = (&*escaped(topic), &*escaped(event));
    let [a, b, c, d, e] = *pieces;
    let head = ["{\"topic\":\"", topic, "\",\"event\":\"", event, "\",\"payload\":"];
    append_text(
        out,
        &[head[0], head[1], head[2], head[3], head[4], a, b, c, d, e, ",\"ref\":", reference, "}"],
    );
}

impl Serializer for V1 {
    fn decode_text<'a>(&self, text: &'a str) -> Result<Message<'a>, Malformed> {
        json::decode_v1(text)
    }

    /// Phoenix's serializer reads JSON out of frames of either kind.
    fn decode_binary<'a>(&self, bytes: &'a [u8], _: Translation<'a>) -> Result<Message<'a>, Unreadable> {
        Ok(json::decode_v1(std::str::from_utf8(bytes).map_err(|_| Malformed)?)?)
    }

    fn decode_deep<'a>(&self, raw: Raw<'a>) -> Option<Message<'a>> {
        json::decode_deep_v1(match raw {
            Raw::Text(text) => text,
            Raw::Binary(bytes) => std::str::from_utf8(bytes).ok()?,
        })
    }

    fn decode_odd<'a>(&self, text: &'a str) -> Option<OddMessage<'a>> {
        json::decode_odd_v1(text)
    }

    fn message(&self, (_, reference): (&str, &str), topic: &str, event: &str, pieces: &Pieces<'_>) -> Bytes {
        let mut out = Vec::new();
        append(&mut out, reference, topic, event, pieces);
        out.into()
    }

    fn odd_reply(&self, (_, reference): (&str, &str), topic: &str, pieces: &Pieces<'_>) -> Bytes {
        let (mut out, [a, b, c, d, e]) = (Vec::new(), *pieces);
        let event = ",\"event\":\"phx_reply\",\"payload\":";
        append_text(&mut out, &["{\"topic\":", topic, event, a, b, c, d, e, ",\"ref\":", reference, "}"]);
        out.into()
    }

    fn binary_reply(&self, _: (&str, &str), _: &str, _: &str, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn binary_push(&self, _: &str, _: &str, _: &str, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn carries(&self, content: &Content<'_>) -> bool {
        matches!(content.payload, Payload::Json(_) | Payload::UserJson(_))
    }

    fn broadcast(&self, content: &Content<'_>, out: &mut Vec<u8>) {
        let Content { topic, event, payload } = *content;
        match payload {
            Payload::Json(json) => append(out, super::NULL, topic, event, &[json, "", "", "", ""]),
            Payload::UserJson(json) => {
                let [head, middle, end] = TEXT_FORM;
                let pieces = [head, &escaped(event), middle, json, end];
                append(out, super::NULL, topic, BROADCAST, &pieces);
            }
            Payload::Binary(_) | Payload::UserBinary(_) => {}
        }
    }
}
