//! Checks broadcasts of other nodes like a client's message.
//!
//! A sender that has the password of the bus may write anything there, and a node of another version may be less
//! strict. A broadcast that does not pass here would tell members something false about their channel, or would end
//! the connections of all members at once.

use super::{Payload, is_reserved_event, scan};
use crate::{
    broadcast::{Content, Packed},
    limits::MAX_EVENT_BYTES,
};

/// Why a broadcast of another node is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotABroadcast {
    /// Longer than a client's message may make it.
    #[error("it is longer than limits.maxFrameBytes allows")]
    TooBig,
    /// Not UTF-8, or no JSON object that every client reads.
    #[error("it is no broadcast of Phoenix")]
    Shape,
    /// It names another topic than its subject.
    #[error("its topic is not that of its subject")]
    Topic,
    /// Its event is the protocol's own or too long.
    #[error("its event may not be broadcast")]
    Event,
}

/// Checks whether the members of a topic may be given this broadcast of another node. A client's message may have
/// `max_message_bytes`; a broadcast has its brackets, quotes, refs and escapes no more, and so is shorter.
///
/// # Errors
/// See [`NotABroadcast`].
pub fn check(packed: &Packed<&[u8]>, topic: &str, max_message_bytes: usize) -> Result<(), NotABroadcast> {
    if packed.len() > max_message_bytes {
        return Err(NotABroadcast::TooBig);
    }
    let Content { topic: said, event, payload } = packed.unpack().ok_or(NotABroadcast::Shape)?;
    if said != topic {
        return Err(NotABroadcast::Topic);
    }
    // The event of a user is inside of an event of the protocol.
    let is_reserved = !payload.is_of_user() && is_reserved_event(event);
    if event.len() > MAX_EVENT_BYTES || is_reserved {
        return Err(NotABroadcast::Event);
    }
    match payload {
        Payload::Json(json) if json.starts_with('{') => scan::check(json).map_err(|_| NotABroadcast::Shape),
        Payload::Json(_) => Err(NotABroadcast::Shape),
        Payload::UserJson(json) => scan::check(json).map_err(|_| NotABroadcast::Shape),
        Payload::Binary(_) | Payload::UserBinary(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broadcast::{Broadcast, Kind},
        protocol::{Vsn, decode_text},
    };

    const MAX: usize = 1_024;

    fn binary<'a>(topic: &'a str, event: &'a str, data: &'a [u8]) -> Content<'a> {
        Content { topic, event, payload: Payload::Binary(data) }
    }

    fn about(content: &Content<'_>) -> Result<(), NotABroadcast> {
        check(&Broadcast::pack(content).expect("short names").borrowed(), "room:1", MAX)
    }

    #[test]
    fn what_nodes_send_passes() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(900));
        for payload in ["{}", r#"{"a":"\ud83d\ude00"}"#, &long] {
            assert_eq!(about(&Content::json("room:1", "said", payload)), Ok(()), "{payload}");
        }
        let odd = "room:\"é\"\n";
        let packed = Broadcast::pack(&Content::json(odd, "e\\", "{}")).expect("short names");
        assert_eq!(check(&packed.borrowed(), odd, MAX), Ok(()));
        assert_eq!(about(&binary("room:1", "e", &[0xff; 9])), Ok(()));
        for payload in [Payload::UserJson("[1]"), Payload::UserBinary(b"\xff")] {
            assert_eq!(about(&Content { topic: "room:1", event: "phx_close", payload }), Ok(()));
        }
    }

    #[test]
    fn the_longest_message_of_a_client_passes() {
        // The shortest form of the message: one byte for each ref.
        let said = |pad: usize| format!(r#"[1,2,"room:1","e",{{"a":"{}"}}]"#, "x".repeat(pad));
        let said = said(MAX - said(0).len());
        let message = decode_text(Vsn::V2, &said).expect("valid");
        let content = Content { topic: &message.topic, event: &message.event, payload: message.payload };
        assert_eq!(about(&content), Ok(()));
        let longest = vec![0; MAX - 7];
        assert_eq!(about(&binary("room:1", "e", &longest)), Ok(()));
        assert_eq!(about(&binary("room:1", "ev", &longest)), Err(NotABroadcast::TooBig));
    }

    #[test]
    fn forged_broadcasts_are_told_apart_and_refused() {
        use NotABroadcast::{Event, Shape, Topic};
        for (content, why) in [
            (Content::json("room:1", "e", "hello"), Shape),
            (Content::json("room:1", "e", ""), Shape),
            (Content::json("room:1", "e", "[]"), Shape),
            (Content::json("room:1", "e", "{}{}"), Shape),
            (Content::json("room:1", "e", r#"{"a":"\ud83d"}"#), Shape),
            (Content::json("room:1", "e", r#"{"a":1e999}"#), Shape),
            (Content::json("room:2", "e", "{}"), Topic),
            (Content::json("room:1", "phx_close", "{}"), Event),
            (Content::json("room:1", "phx_reply", "{}"), Event),
            (Content::json("room:1", "presence_diff", "{}"), Event),
            (Content::json("room:1", "access_token", "{}"), Event),
            (binary("room:2", "e", b""), Topic),
            (binary("room:1", "phx_error", b""), Event),
            (Content { payload: Payload::UserJson("{}{}"), ..Content::json("room:1", "e", "") }, Shape),
        ] {
            assert_eq!(about(&content), Err(why), "{content:?}");
        }
        for (topic_bytes, event_bytes, bytes) in
            [(6, 1, &b"room:1"[..]), (7, 0, b"room:1"), (6, 1, b"room:1\xff"), (6, 1, b"room:1e\xff")]
        {
            let packed = Packed { kind: Kind::Json, topic_bytes, event_bytes, bytes };
            assert_eq!(check(&packed, "room:1", MAX), Err(Shape));
        }
    }
}
