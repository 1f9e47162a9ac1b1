//! MessagePack: what is read from it any reader of JSON takes, and what is written says the same.

use serde_json::Value;

use crate::{
    broadcast::Content,
    protocol::{
        Payload, Translation, Unreadable, Vsn, decode_binary, decode_text, encode,
        msgpack::{from_json, to_json},
    },
    ws::frame::{FIN_BINARY, split_server_frame},
};

/// JSON is at most so many times as long as the MessagePack that it comes from: `false` and a comma are one byte.
const MOST_TIMES: usize = 6;
/// MessagePack is at most so many quarters as long as the JSON that it comes from: `0.1` and a comma are nine bytes.
const MOST_QUARTERS: usize = 9;

/// The first byte chooses what the rest is: MessagePack, a message in it, or JSON.
pub(super) fn check(bytes: &[u8]) {
    let Some((&how, body)) = bytes.split_first() else { return };
    match how % 3 {
        0 => value(body),
        1 => message(body),
        _ => json(body),
    }
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON that any reader can read")
}

fn value(body: &[u8]) {
    let Ok(json) = to_json(body, usize::MAX) else { return };
    assert!(json.len() <= MOST_TIMES * body.len(), "{} of {}", json.len(), body.len());
    assert_eq!(to_json(body, json.len()), Ok(json.clone()));
    assert_eq!(to_json(body, json.len() - 1), Err(Unreadable::TooBig));
    assert!(body.len() < 2 || to_json(&body[..body.len() - 1], usize::MAX).is_err(), "it was cut");
    parsed(&json);
    // Written again it may be shorter, and says exactly the same.
    let again = from_json(&json);
    assert!(again.len() <= body.len());
    assert_eq!(to_json(&again, usize::MAX), Ok(json));
}

fn json(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    // Nothing panics whatever the text is.
    from_json(text);
    // What a client may say as JSON is translated, and says the same.
    let message = format!("[null,null,\"t\",\"e\",{text}]");
    let Ok(message) = decode_text(Vsn::V2, &message) else { return };
    let Payload::Json(payload) = message.payload else { return };
    let packed = from_json(payload);
    assert!(
        packed.len() <= MOST_QUARTERS * payload.len().div_ceil(4),
        "{} of {}",
        packed.len(),
        payload.len()
    );
    let again = to_json(&packed, usize::MAX).expect("MessagePack of this program's own");
    assert!(is_same(&parsed(&again), &parsed(payload)), "{again} {payload}");
}

/// Whether two values are equal, but for the last bits of floats: this reader of JSON is not exact about them.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let [one, other] = [one, other].map(|number| number.as_f64().expect("a float"));
            (one - other).abs() <= one.abs() * 1e-15
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

fn message(body: &[u8]) {
    let mut json = String::new();
    let into = Translation { json: &mut json, most_bytes: body.len() };
    let Ok(message) = decode_binary(Vsn::MessagePack, body, into) else { return };
    let refs = [&message.join_ref, &message.reference].map(|raw| parsed(raw));
    let content = Content { topic: &message.topic, event: &message.event, payload: message.payload };
    let (run, able) = encode::broadcasts(Vsn::MessagePack, &[content]);
    assert_eq!(able, 1);
    let (first, said) = split_server_frame(&run).expect("one whole frame");
    assert_eq!(first, FIN_BINARY);
    let mut json = String::new();
    let into = Translation { json: &mut json, most_bytes: usize::MAX };
    let again = decode_binary(Vsn::MessagePack, said, into).expect("what is sent can be read");
    assert_eq!(
        (&again.topic, &again.event, again.payload),
        (&message.topic, &message.event, message.payload)
    );
    // A reply repeats the refs.
    let reply = encode::reply(Vsn::MessagePack, (&message.join_ref, &message.reference), "t", "ok", "{}");
    let (_, said) = split_server_frame(&reply).expect("one whole frame");
    let reply = parsed(&to_json(said, usize::MAX).expect("a reply without bytes"));
    assert_eq!([&reply[0], &reply[1]], [&refs[0], &refs[1]]);
}
