//! Decoding of JSON text messages, and strings as JSON.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Malformed, Message, NULL, Payload};
use crate::limits::MAX_REF_BYTES;

/// A string borrowed from the input unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `[join_ref, ref, topic, event, payload]`; further elements are ignored, as Phoenix does.
struct V2<'a>(Message<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for V2<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = V2<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array [join_ref, ref, topic, event, payload]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let missing = || A::Error::custom("missing element");
                let join_ref: &RawValue = seq.next_element()?.ok_or_else(missing)?;
                let reference: &RawValue = seq.next_element()?.ok_or_else(missing)?;
                let Text(topic) = seq.next_element()?.ok_or_else(missing)?;
                let Text(event) = seq.next_element()?.ok_or_else(missing)?;
                let payload: &RawValue = seq.next_element()?.ok_or_else(missing)?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(V2(Message {
                    join_ref: join_ref.get().into(),
                    reference: reference.get().into(),
                    topic,
                    event,
                    payload: Payload::Json(payload.get()),
                }))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
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

pub(super) fn decode_v2(text: &str) -> Result<Message<'_>, Malformed> {
    let V2(message) = serde_json::from_str(text).map_err(|_| Malformed)?;
    check_refs(message)
}

pub(super) fn decode_v1(text: &str) -> Result<Message<'_>, Malformed> {
    let V1 { topic, event, payload, r#ref, join_ref } = serde_json::from_str(text).map_err(|_| Malformed)?;
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
