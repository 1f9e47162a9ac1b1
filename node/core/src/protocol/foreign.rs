//! Broadcasts of other nodes, checked like what a client says.
//!
//! Whoever holds the password of the bus may write anything there, and a node of another version may be less strict. What
//! does not pass here would be a lie about a channel, or bytes that end the connections of all members at once.

use super::{BROADCAST_GROWTH_BYTES, NULL, Payload, Vsn, binary, decode_text, is_reserved_event};
use crate::{
    limits::MAX_EVENT_BYTES,
    ws::frame::{FIN_BINARY, FIN_TEXT, split_server_frame},
};

/// Why a frame of another node is given to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotABroadcast {
    /// Not one whole text or binary frame.
    #[error("it is not one whole frame")]
    Frame,
    /// Longer than a client's message may make it.
    #[error("it is longer than limits.maxFrameBytes allows")]
    TooBig,
    /// Not UTF-8, not JSON that every client reads, or no broadcast of Phoenix.
    #[error("it is no broadcast of Phoenix")]
    Shape,
    /// It names another topic than its subject.
    #[error("its topic is not that of its subject")]
    Topic,
    /// Its event is the protocol's own, empty or too long.
    #[error("its event may not be broadcast")]
    Event,
}

/// Whether the members of a topic may be given this frame of another node. A client's message may have
/// `max_message_bytes`.
///
/// # Errors
/// See [`NotABroadcast`].
pub fn check(frame: &[u8], topic: &str, max_message_bytes: usize) -> Result<(), NotABroadcast> {
    let (first, body) = split_server_frame(frame).ok_or(NotABroadcast::Frame)?;
    if body.len() > max_message_bytes.saturating_add(BROADCAST_GROWTH_BYTES) {
        return Err(NotABroadcast::TooBig);
    }
    match first {
        FIN_TEXT => {
            let text = std::str::from_utf8(body).map_err(|_| NotABroadcast::Shape)?;
            let message = decode_text(Vsn::V2, text).map_err(|_| NotABroadcast::Shape)?;
            let is_object = matches!(message.payload, Payload::Json(json) if json.starts_with('{'));
            if message.join_ref != NULL || message.reference != NULL || !is_object {
                return Err(NotABroadcast::Shape);
            }
            names((&message.topic, &message.event), topic)
        }
        FIN_BINARY => names(binary::broadcast_names(body).ok_or(NotABroadcast::Shape)?, topic),
        _ => Err(NotABroadcast::Frame),
    }
}

fn names((said, event): (&str, &str), topic: &str) -> Result<(), NotABroadcast> {
    if said != topic {
        return Err(NotABroadcast::Topic);
    }
    if event.len() > MAX_EVENT_BYTES || is_reserved_event(event) {
        return Err(NotABroadcast::Event);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::encode;

    const MAX: usize = 1_024;

    fn text(body: &[u8]) -> Vec<u8> {
        encode::frame(FIN_TEXT, &[body]).to_vec()
    }

    fn about(frame: &[u8]) -> Result<(), NotABroadcast> {
        check(frame, "room:1", MAX)
    }

    #[test]
    fn what_nodes_send_passes() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(900));
        for payload in ["{}", r#"{"a":"\ud83d\ude00"}"#, &long] {
            assert_eq!(about(&encode::broadcast(Vsn::V2, "room:1", "said", payload)), Ok(()), "{payload}");
        }
        let odd = "room:\"é\"\n";
        assert_eq!(check(&encode::broadcast(Vsn::V2, odd, "e\\", "{}"), odd, MAX), Ok(()));
        assert_eq!(about(&binary::broadcast("room:1", "e", &[0xff; 9]).expect("short names")), Ok(()));
    }

    #[test]
    fn the_longest_message_of_a_client_passes_and_one_byte_more_does_not() {
        // The shortest way to say it: one byte for each ref.
        let said = |pad: usize| format!(r#"[1,2,"room:1","e",{{"a":"{}"}}]"#, "x".repeat(pad));
        let pad = MAX - said(0).len();
        let broadcast = |pad: usize| {
            let said = said(pad);
            let message = decode_text(Vsn::V2, &said).expect("valid");
            let Payload::Json(json) = message.payload else { panic!("text") };
            encode::broadcast(Vsn::V2, &message.topic, &message.event, json)
        };
        assert_eq!(about(&broadcast(pad)), Ok(()));
        assert_eq!(about(&broadcast(pad + 1)), Err(NotABroadcast::TooBig));
    }

    #[test]
    fn forged_frames_are_told_apart_and_refused() {
        use NotABroadcast::{Event, Frame, Shape, Topic};
        for (frame, why) in [
            (text(b"\xff"), Shape),
            (text(b"hello"), Shape),
            (text(br#"{"topic":"room:1","event":"e","payload":{},"ref":null}"#), Shape),
            (text(br#"["1",null,"room:1","e",{}]"#), Shape),
            (text(br#"[null,"1","room:1","e",{}]"#), Shape),
            (text(br#"[null,null,"room:1","e",[]]"#), Shape),
            (text(br#"[null,null,"room:1","e",{"a":"\ud83d"}]"#), Shape),
            (text(br#"[null,null,"room:1","e",{"a":1e999}]"#), Shape),
            (text(br#"[null,null,"room:2","e",{}]"#), Topic),
            (text(br#"[null,null,"room:1","phx_close",{}]"#), Event),
            (text(br#"[null,null,"room:1","phx_reply",{}]"#), Event),
            (text(br#"[null,null,"room:1","presence_diff",{}]"#), Event),
            (text(br#"[null,null,"room:1","access_token",{}]"#), Event),
            (encode::broadcast(Vsn::V2, "room:1", &"e".repeat(256), "{}").to_vec(), Event),
            (binary::broadcast("room:2", "e", b"").expect("short names").to_vec(), Topic),
            (binary::broadcast("room:1", "phx_error", b"").expect("short names").to_vec(), Event),
            (binary::reply_ok("\"1\"", "\"1\"", "room:1", b"").expect("short names").to_vec(), Shape),
            (encode::frame(FIN_BINARY, &[b"\x02\x06\x01room:1"]).to_vec(), Shape),
            (encode::frame(FIN_BINARY, &[b"\x02\x06\x01room:1\xff"]).to_vec(), Shape),
            (vec![0x88, 0], Frame),
            (vec![0x81, 1], Frame),
        ] {
            assert_eq!(about(&frame), Err(why), "{}", String::from_utf8_lossy(&frame));
        }
    }
}
