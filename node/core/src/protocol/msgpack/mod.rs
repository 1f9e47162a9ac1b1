//! Serializer MessagePack, `vsn` `2.0.0+msgpack`: the messages of V2 as MessagePack instead of JSON, each in a binary frame.
//! Bytes as a payload are its type bin.
//!
//! Members of one room may speak different serializers, so a payload is JSON wherever it is not on its way from or to a
//! client of this one, and is translated there. No library does that as it is needed: those for serde build a tree or
//! buffer every map of JSON again at each level to learn its length, and none refuses what JSON has no form for, or stops
//! at a bound before it grows.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    Malformed, Message, NULL, OddMessage, Payload, Pieces, Raw, Serializer, Translation, Unreadable, encode,
    realtime::BROADCAST,
};
use crate::{broadcast::Content, limits::MAX_REF_BYTES, ws::frame::FIN_BINARY};

mod read;
mod write;

use read::Reader;
use write::{ARRAY_OF_5, MAP_OF_2, MAP_OF_3, NIL};

/// The serializer of this module.
#[derive(Debug)]
pub(super) struct MessagePack;

/// The JSON of the one MessagePack value in `bytes`, of at most so many bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn to_json(bytes: &[u8], most_bytes: usize) -> Result<String, Unreadable> {
    let (mut reader, mut json) = (Reader::new(bytes), String::new());
    reader.value(&mut Translation { json: &mut json, most_bytes })?;
    reader.end()?;
    Ok(json)
}

/// The MessagePack of a JSON text, which must be valid.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn from_json(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::json(&mut out, json);
    out
}

/// A ref as JSON.
fn reference(reader: &mut Reader<'_>) -> Result<Cow<'static, str>, Unreadable> {
    if reader.takes(NIL) {
        return Ok(NULL.into());
    }
    let mut json = String::new();
    match reader.value(&mut Translation { json: &mut json, most_bytes: MAX_REF_BYTES }) {
        Ok(()) => Ok(json.into()),
        Err(_) => Err(Unreadable::Malformed),
    }
}

/// What stands before the payload of a message.
struct Names<'a> {
    join_ref: Cow<'static, str>,
    reference: Cow<'static, str>,
    topic: &'a str,
    event: &'a str,
}

/// `[join_ref, ref, topic, event,`.
fn names<'a>(reader: &mut Reader<'a>) -> Result<Names<'a>, Unreadable> {
    if !reader.takes(ARRAY_OF_5) {
        return Err(Unreadable::Malformed);
    }
    let (join_ref, reference) = (reference(reader)?, reference(reader)?);
    Ok(Names { join_ref, reference, topic: reader.text()?, event: reader.text()? })
}

/// Begins a message: `[join_ref, ref, topic, event,`, refs as raw JSON.
fn begin((join_ref, reference): (&str, &str), topic: &str, event: &str) -> Vec<u8> {
    let mut out = vec![ARRAY_OF_5];
    write::json(&mut out, join_ref);
    write::json(&mut out, reference);
    write::text(&mut out, topic);
    write::text(&mut out, event);
    out
}

fn frame(body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    encode::append_frame(&mut out, FIN_BINARY, &[body]);
    out.into()
}

impl Serializer for MessagePack {
    fn decode_text<'a>(&self, _: &'a str) -> Result<Message<'a>, Malformed> {
        Err(Malformed)
    }

    /// `[join_ref, ref, topic, event, payload]`.
    fn decode_binary<'a>(&self, bytes: &'a [u8], into: Translation<'a>) -> Result<Message<'a>, Unreadable> {
        let mut reader = Reader::new(bytes);
        let Names { join_ref, reference, topic, event } = names(&mut reader)?;
        let payload = match reader.bytes()? {
            Some(data) => Payload::Binary(data),
            None => {
                // The names and the payload together must pass as a message on other nodes too.
                let most_bytes = into.most_bytes.saturating_sub(topic.len() + event.len());
                let json = into.json;
                reader.value(&mut Translation { json: &mut *json, most_bytes })?;
                Payload::Json(json)
            }
        };
        reader.end()?;
        Ok(Message { join_ref, reference, topic: topic.into(), event: event.into(), payload })
    }

    fn decode_deep<'a>(&self, raw: Raw<'a>) -> Option<Message<'a>> {
        let Raw::Binary(bytes) = raw else { return None };
        let mut reader = Reader::new(bytes);
        let Names { join_ref, reference, topic, event } = names(&mut reader).ok()?;
        // It stops where the message was refused, which was before the payload grew beyond its bound.
        let value = reader.value(&mut Translation { json: &mut String::new(), most_bytes: usize::MAX });
        let payload = Payload::Json(NULL);
        let message = Message { join_ref, reference, topic: topic.into(), event: event.into(), payload };
        (value == Err(Unreadable::TooDeep)).then_some(message)
    }

    fn decode_odd<'a>(&self, _: &'a str) -> Option<OddMessage<'a>> {
        None
    }

    fn message(&self, refs: (&str, &str), topic: &str, event: &str, pieces: &Pieces<'_>) -> Bytes {
        let mut out = begin(refs, topic, event);
        write::json(&mut out, &pieces.concat());
        frame(&out)
    }

    fn odd_reply(&self, refs: (&str, &str), topic: &str, pieces: &Pieces<'_>) -> Bytes {
        self.message(refs, topic, "phx_reply", pieces)
    }

    fn binary_reply(&self, refs: (&str, &str), topic: &str, status: &str, data: &[u8]) -> Option<Bytes> {
        let mut out = begin(refs, topic, "phx_reply");
        out.push(MAP_OF_2);
        write::text(&mut out, "status");
        write::text(&mut out, status);
        write::text(&mut out, "response");
        write::bytes(&mut out, data);
        Some(frame(&out))
    }

    fn binary_push(&self, join_ref: &str, topic: &str, event: &str, data: &[u8]) -> Option<Bytes> {
        let mut out = begin((join_ref, NULL), topic, event);
        write::bytes(&mut out, data);
        Some(frame(&out))
    }

    fn carries(&self, _: &Content<'_>) -> bool {
        true
    }

    fn broadcast(&self, content: &Content<'_>, out: &mut Vec<u8>) {
        let Content { topic, event, payload } = *content;
        let said = if payload.is_of_user() { BROADCAST } else { event };
        let mut body = begin((NULL, NULL), topic, said);
        if payload.is_of_user() {
            body.push(MAP_OF_3);
            write::text(&mut body, "type");
            write::text(&mut body, BROADCAST);
            write::text(&mut body, "event");
            write::text(&mut body, event);
            write::text(&mut body, "payload");
        }
        match payload {
            Payload::Json(json) | Payload::UserJson(json) => write::json(&mut body, json),
            Payload::Binary(data) | Payload::UserBinary(data) => write::bytes(&mut body, data),
        }
        encode::append_frame(out, FIN_BINARY, &[&body]);
    }
}

#[cfg(test)]
mod tests;
