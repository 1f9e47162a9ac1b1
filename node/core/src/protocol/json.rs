//! Decoding of JSON text messages, and strings as JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Malformed, Message, NULL, OddMessage, Payload,
    scan::{self, Scanner},
};
use crate::limits::{MAX_JSON_DEPTH, MAX_REF_BYTES};

/// A message of V1 whose payload may be nested to any depth: the library does not look at how deep a value is that it skips.
#[derive(Deserialize)]
struct DeepV1<'a> {
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

/// Bytes that [`is_plain`] looks at together.
const WORD: usize = 8;
/// The keys of a message of V1.
const KEYS: [&str; 5] = ["join_ref", "ref", "topic", "event", "payload"];

/// `[join_ref, ref, topic, event, payload]`; further elements are ignored, as in Phoenix.
pub(super) fn decode_v2(text: &str) -> Result<Message<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    let mut message = begin_v2(&mut scanner)?;
    message.payload = Payload::Json(scanner.value()?);
    end_v2(&mut scanner)?;
    check_refs(message)
}

/// Takes what comes before the payload, in whose place is null.
#[inline(always)]
fn begin_v2<'a>(scanner: &mut Scanner<'a>) -> Result<Message<'a>, Malformed> {
    scanner.expect(b'[')?;
    let join_ref = scanner.value()?;
    scanner.expect(b',')?;
    let reference = scanner.value()?;
    scanner.expect(b',')?;
    let topic = scanner.string()?;
    scanner.expect(b',')?;
    let event = scanner.string()?;
    scanner.expect(b',')?;
    let (join_ref, reference) = (join_ref.into(), reference.into());
    Ok(Message { join_ref, reference, topic, event, payload: Payload::Json(NULL) })
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

/// As [`decode_v2`] up to the event, when what follows has more levels than are read.
pub(super) fn decode_deep_v2(text: &str) -> Option<Message<'_>> {
    let read = || -> Result<_, Malformed> {
        let mut scanner = Scanner::new(text);
        let message = begin_v2(&mut scanner)?;
        Ok((check_refs(message)?, scanner.rest()))
    };
    let (message, rest) = read().ok()?;
    (scan::levels(rest) > MAX_JSON_DEPTH).then_some(message)
}

/// As [`decode_v1`] without the payload, when that has more levels than are read.
pub(super) fn decode_deep_v1(text: &str) -> Option<Message<'_>> {
    // The library would take an array of these values as well.
    let object = text.trim_ascii_start().starts_with('{').then_some(text)?;
    let DeepV1 { topic, event, payload, r#ref, join_ref } = serde_json::from_str(object).ok()?;
    let (join_ref, reference) = (join_ref.map_or(NULL, RawValue::get), r#ref.get());
    let is_strict = [join_ref, reference].into_iter().all(|part| scan::check(part).is_ok());
    let is_deep = scan::levels(payload.get()) > MAX_JSON_DEPTH;
    let (join_ref, reference) = (join_ref.into(), reference.into());
    let message = Message { join_ref, reference, topic, event, payload: Payload::Json(NULL) };
    if is_strict && is_deep { check_refs(message).ok() } else { None }
}

/// The values of [`KEYS`] as raw JSON. The first of a key counts, as in Phoenix, and others than these mean nothing.
fn members(text: &str) -> Result<[Option<&str>; KEYS.len()], Malformed> {
    let mut scanner = Scanner::new(text);
    let mut found = [None; KEYS.len()];
    scanner.expect(b'{')?;
    loop {
        let key = scanner.string()?;
        scanner.expect(b':')?;
        let value = scanner.value()?;
        if let Some(at) = KEYS.iter().position(|known| *known == key) {
            found[at].get_or_insert(value);
        }
        match scanner.token()? {
            b',' => {}
            b'}' => break,
            _ => return Err(Malformed),
        }
    }
    scanner.end()?;
    Ok(found)
}

/// As [`decode_v1`], with names that are any JSON.
pub(super) fn decode_odd_v1(text: &str) -> Option<OddMessage<'_>> {
    let [join_ref, Some(reference), Some(topic), Some(event), Some(_)] = members(text).ok()? else {
        return None;
    };
    OddMessage::new([join_ref.unwrap_or(NULL), reference, topic, event])
}

pub(super) fn decode_v1(text: &str) -> Result<Message<'_>, Malformed> {
    let [join_ref, Some(reference), Some(topic), Some(event), Some(payload)] = members(text)? else {
        return Err(Malformed);
    };
    check_refs(Message {
        join_ref: join_ref.unwrap_or(NULL).into(),
        reference: reference.into(),
        topic: Scanner::new(topic).string()?,
        event: Scanner::new(event).string()?,
        payload: Payload::Json(payload),
    })
}

fn check_refs(message: Message<'_>) -> Result<Message<'_>, Malformed> {
    let fits = message.join_ref.len() <= MAX_REF_BYTES && message.reference.len() <= MAX_REF_BYTES;
    if fits { Ok(message) } else { Err(Malformed) }
}

/// Whether no byte has to be escaped in a JSON string. It looks at eight bytes at a time, as most names are short.
fn is_plain(bytes: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; WORD]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; WORD]);
    // Not zero when a byte is less than `bound`, which is at most 128 (Warren, Hacker's Delight, section 6-1).
    let below = |word: u64, bound: u8| word.wrapping_sub(EACH * u64::from(bound)) & !word & HIGH;
    let special = |word: [u8; WORD]| {
        let word = u64::from_ne_bytes(word);
        let is = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
        below(word, 0x20) | is(b'"') | is(b'\\')
    };
    // The last word may overlap the one before.
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\');
    };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(special(*last), |found, word| found | special(*word)) == 0
}

/// The text between the quotes of a JSON string.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if is_plain(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    // Display of a JSON string cannot fail and always has its two quotes.
    let quoted = serde_json::Value::from(text).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_byte_that_has_to_be_escaped_is_seen_at_every_place() {
        for length in 0..=26 {
            let mut bytes = vec![b'\x7f'; length];
            assert!(is_plain(&bytes), "{length}");
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    let plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&bytes), plain, "{byte} at {at} of {length}");
                }
                bytes[at] = 0xff;
            }
        }
    }
}
