//! Decoding of JSON text messages, and strings as JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Malformed, Message, NULL, OddMessage, Payload,
    scan::{self, Scanner},
};
use crate::limits::MAX_REF_BYTES;

/// A message of V1 with names that are any JSON.
#[derive(Deserialize)]
struct OddV1<'a> {
    #[serde(borrow)]
    topic: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    r#ref: &'a RawValue,
    #[serde(borrow)]
    join_ref: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct V1<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    r#ref: &'a RawValue,
    #[serde(borrow)]
    join_ref: Option<&'a RawValue>,
}

/// `[join_ref, ref, topic, event, payload]`; further elements are ignored, as in Phoenix.
pub(super) fn decode_v2(text: &str) -> Result<Message<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.expect(b'[')?;
    let join_ref = scanner.value()?;
    scanner.expect(b',')?;
    let reference = scanner.value()?;
    scanner.expect(b',')?;
    let topic = scanner.string()?;
    scanner.expect(b',')?;
    let event = scanner.string()?;
    scanner.expect(b',')?;
    let payload = scanner.value()?;
    end_v2(&mut scanner)?;
    let (join_ref, reference) = (join_ref.into(), reference.into());
    check_refs(Message { join_ref, reference, topic, event, payload: Payload::Json(payload) })
}

/// Takes what follows the payload.
#[inline(always)]
fn end_v2(scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    loop {
        match scanner.token()? {
            b']' => break,
            b',' => scanner.value()?,
            _ => return Err(Malformed),
        };
    }
    scanner.end()
}

/// As [`decode_v2`], with names that are any JSON.
pub(super) fn decode_odd_v2(text: &str) -> Option<OddMessage<'_>> {
    let read = || -> Result<_, Malformed> {
        let mut scanner = Scanner::new(text);
        let mut parts = [NULL; 5];
        for (part, before) in parts.iter_mut().zip(*b"[,,,,") {
            scanner.expect(before)?;
            *part = scanner.value()?;
        }
        end_v2(&mut scanner)?;
        Ok(parts)
    };
    let [join_ref, reference, topic, event, _payload] = read().ok()?;
    OddMessage::new([join_ref, reference, topic, event])
}

/// As [`decode_v1`], with names that are any JSON.
pub(super) fn decode_odd_v1(text: &str) -> Option<OddMessage<'_>> {
    let OddV1 { topic, event, payload, r#ref, join_ref } = object(text).ok()?;
    let parts = [join_ref.map_or(NULL, RawValue::get), r#ref.get(), topic.get(), event.get()];
    let is_strict = parts.into_iter().chain([payload.get()]).all(|part| scan::check(part).is_ok());
    if is_strict { OddMessage::new(parts) } else { None }
}

/// Reads an object. The library would take an array of its values as well.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Malformed);
    }
    serde_json::from_str(text).map_err(|_| Malformed)
}

pub(super) fn decode_v1(text: &str) -> Result<Message<'_>, Malformed> {
    let V1 { topic, event, payload, r#ref, join_ref } = object(text)?;
    // The library separates the fields, but reads the parts that it only passes on less strictly.
    for raw in [Some(payload), Some(r#ref), join_ref].into_iter().flatten() {
        scan::check(raw.get())?;
    }
    check_refs(Message {
        join_ref: join_ref.map_or(NULL, RawValue::get).into(),
        reference: r#ref.get().into(),
        topic,
        event,
        payload: Payload::Json(payload.get()),
    })
}

fn check_refs(message: Message<'_>) -> Result<Message<'_>, Malformed> {
    let fits = message.join_ref.len() <= MAX_REF_BYTES && message.reference.len() <= MAX_REF_BYTES;
    if fits { Ok(message) } else { Err(Malformed) }
}

/// The text between the quotes of a JSON string.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        return Cow::Borrowed(text);
    }
    // Display of a JSON string cannot fail and always has its two quotes.
    let quoted = serde_json::Value::from(text).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}
