//! Serializer V1, `vsn` 1.0.x: JSON objects, text only. Its messages carry no `join_ref`.

use bytes::Bytes;

use super::{
    Malformed, Message, Payload, Pieces, Serializer,
    encode::append_text,
    json::{self, escaped},
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

    fn decode_binary<'a>(&self, _: &'a [u8]) -> Result<Message<'a>, Malformed> {
        Err(Malformed)
    }

    fn message(&self, (_, reference): (&str, &str), topic: &str, event: &str, pieces: &Pieces<'_>) -> Bytes {
        let mut out = Vec::new();
        append(&mut out, reference, topic, event, pieces);
        out.into()
    }

    fn binary_reply(&self, _: (&str, &str), _: &str, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn carries(&self, content: &Content<'_>) -> bool {
        matches!(content.payload, Payload::Json(_))
    }

    fn broadcast(&self, content: &Content<'_>, out: &mut Vec<u8>) {
        if let Payload::Json(json) = content.payload {
            append(out, super::NULL, content.topic, content.event, &[json, "", "", "", ""]);
        }
    }
}
