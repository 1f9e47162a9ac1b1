//! Phoenix messages: a message that is taken from a client can be sent again, and any client can read it.

use serde_json::Value;

use crate::{
    broadcast::{Broadcast, Content},
    limits::{MAX_REF_BYTES, MAX_TOPIC_BYTES},
    protocol::{
        JoinRef, Malformed, Message, NULL, OddMessage, Payload, RawRef, Translation, Vsn, decode_binary,
        decode_odd, decode_text, encode,
    },
    ws::frame::{FIN_BINARY, FIN_TEXT, split_server_frame},
};

/// The first byte chooses serializer and form; the rest is the message.
pub(super) fn check(bytes: &[u8]) {
    let Some((&how, body)) = bytes.split_first() else { return };
    let mut unused = String::new();
    let vsn = if how & 1 == 0 { Vsn::V2 } else { Vsn::V1 };
    let message = if how & 2 == 0 {
        let Ok(text) = std::str::from_utf8(body) else { return };
        let parsed = Vsn::parse(text);
        assert!(parsed.is_none() || text.starts_with("1.0.") || text.starts_with("2.0."));
        if let Some(odd) = decode_odd(vsn, text) {
            assert!(decode_text(vsn, text).is_err(), "what is read needs no second look");
            odd_reply(vsn, &odd);
        }
        decode_text(vsn, text)
    } else {
        let into = Translation { json: &mut unused, most_bytes: body.len() };
        decode_binary(vsn, body, into).map_err(|_| Malformed)
    };
    if let Ok(message) = message {
        assert!(is_readable(&message), "strict readers cannot read it");
        refs(&message);
        replies(vsn, &message);
        broadcasts(&message);
    }
}

/// Whether strict readers can read what the message carries.
fn is_readable(message: &Message<'_>) -> bool {
    let payload = match message.payload {
        Payload::Json(json) | Payload::UserJson(json) => json,
        Payload::Binary(_) | Payload::UserBinary(_) => NULL,
    };
    [&message.join_ref, &message.reference, payload]
        .iter()
        .all(|raw| serde_json::from_str::<Value>(raw).is_ok())
}

/// The JSON of one whole text frame.
fn json(frame: &[u8]) -> Value {
    let (first, payload) = split_server_frame(frame).expect("one whole frame");
    assert_eq!(first, FIN_TEXT);
    serde_json::from_slice(payload).expect("JSON that any reader can read")
}

fn refs(message: &Message<'_>) {
    for raw in [&message.join_ref, &message.reference] {
        // A binary ref is quoted here, and escapes make it longer.
        assert!(raw.len() <= 2 + 6 * MAX_REF_BYTES, "{raw}");
        let kept = RawRef::new(raw);
        assert_eq!(kept.as_str(), &**raw);
        assert_eq!(kept, kept.clone());
        serde_json::from_str::<Value>(raw).expect("a ref is JSON");
    }
    let kept = JoinRef::new(&message.join_ref, &message.reference);
    let of_channel = if message.join_ref == NULL { &message.reference } else { &message.join_ref };
    assert_eq!(kept.given_and_own(), (&*message.join_ref, &**of_channel));
}

fn odd_reply(vsn: Vsn, message: &OddMessage<'_>) {
    let refs = (message.join_ref, message.reference);
    let said = json(&encode::odd_reply(vsn, refs, message.topic, "ok", encode::EMPTY));
    let said_topic = if vsn == Vsn::V2 { &said[2] } else { &said["topic"] };
    assert_eq!(*said_topic, serde_json::from_str::<Value>(message.topic).expect("a topic is JSON"));
}

fn replies(vsn: Vsn, message: &Message<'_>) {
    let Message { join_ref, reference, topic, .. } = message;
    let read = |raw: &str| serde_json::from_str::<Value>(raw).expect("checked");
    let frames = [
        encode::reply(vsn, (join_ref, reference), topic, "ok", encode::EMPTY),
        encode::error(vsn, (NULL, reference), topic, "unmatched topic"),
        encode::phx_close(vsn, join_ref, topic),
        encode::phx_error(vsn, join_ref, topic, "channel_crash"),
    ];
    // A reply repeats no more of a made-up topic than a valid one has; only a joined topic is ended.
    let start = &topic[..topic.floor_char_boundary(MAX_TOPIC_BYTES)];
    for (frame, repeated) in frames.iter().zip([start, start, &**topic, &**topic]) {
        let said = json(frame);
        let said_topic = if vsn == Vsn::V2 { &said[2] } else { &said["topic"] };
        assert_eq!(said_topic, repeated);
    }
    let said = json(&frames[0]);
    let said_reference = if vsn == Vsn::V2 { &said[1] } else { &said["ref"] };
    assert_eq!(*said_reference, read(reference));
    if let Payload::Binary(data) = message.payload {
        let frames = [
            encode::payload_reply(Vsn::V2, (join_ref, reference), topic, "error", message.payload),
            encode::push(Vsn::V2, join_ref, topic, "pushed", message.payload),
        ];
        for frame in frames.iter().flatten() {
            let (first, payload) = split_server_frame(frame).expect("one whole frame");
            assert!(first == FIN_BINARY && payload.ends_with(data));
        }
    }
}

/// The payload of a binary user broadcast of this content, whose encoding has this number.
fn user_payload<'a>(frame: &'a [u8], content: &Content<'_>, encoding: u8) -> &'a [u8] {
    let (first, body) = split_server_frame(frame).expect("one whole frame");
    assert_eq!(first, FIN_BINARY);
    let Content { topic, event, .. } = *content;
    let head = [4, topic.len() as u8, event.len() as u8, 0, encoding];
    let names = [&head[..], topic.as_bytes(), event.as_bytes()].concat();
    body.strip_prefix(&*names).expect("the names of the content")
}

fn broadcasts(message: &Message<'_>) {
    let content = Content { topic: &message.topic, event: &message.event, payload: message.payload };
    let Some(packed) = Broadcast::pack(&content) else { return };
    assert_eq!(packed.unpack(), Some(content));
    let Content { topic, event, .. } = content;
    let both = [Vsn::V1, Vsn::V2].map(|vsn| encode::broadcasts(vsn, &[content]));
    let [(v1, v1_able), (v2, v2_able)] = both;
    match content.payload {
        Payload::Json(payload) => {
            let expected: Value =
                serde_json::from_str(payload).expect("a payload is JSON that any reader can read");
            assert_eq!(json(&v2), serde_json::json!([null, null, topic, event, expected]));
            assert_eq!(
                json(&v1),
                serde_json::json!({"topic": topic, "event": event, "payload": expected, "ref": null})
            );
            assert_eq!((v1_able, v2_able), (1, 1));
        }
        Payload::Binary(data) => {
            assert_eq!((v1.len(), v1_able, v2_able), (0, 0, 1));
            let (first, body) = split_server_frame(&v2).expect("one whole frame");
            assert_eq!(first, FIN_BINARY);
            let names =
                [&[2, topic.len() as u8, event.len() as u8], topic.as_bytes(), event.as_bytes()].concat();
            assert_eq!(body.strip_prefix(&*names), Some(data));
        }
        Payload::UserJson(payload) => {
            let expected: Value = serde_json::from_str(payload).expect("JSON that any reader can read");
            let said = serde_json::json!({"type": "broadcast", "event": event, "payload": expected});
            assert_eq!(
                json(&v1),
                serde_json::json!({"topic": topic, "event": "broadcast", "payload": said, "ref": null})
            );
            assert_eq!((v1_able, user_payload(&v2, &content, 1)), (1, payload.as_bytes()));
        }
        Payload::UserBinary(data) => {
            assert_eq!((v1.len(), v1_able, user_payload(&v2, &content, 0)), (0, 0, data));
        }
    }
}
