//! Engine.IO 4 (first digit of a message) and Socket.IO 5 (second digit of an Engine.IO message), text only. The
//! server script joins a room on `join` with an acknowledgement, and emits as `msg` what `pub` brought.

use super::{Channel, Control, Publish, base, parameter};
use crate::load::stamp::{append, payload};

pub(super) fn path(out: &mut Vec<u8>, given: &str) {
    base(out, given, "/socket.io/");
    parameter(out, format_args!("EIO=4&transport=websocket"));
}

pub(super) fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    out.extend_from_slice(br#"42["pub","#);
    payload(out, &publish.stamp, publish.size);
    out.push(b']');
}

pub(super) fn control(
    message: &[u8],
    channel: &Channel<'_>,
    answer: &mut Vec<u8>,
) -> Result<Control, &'static str> {
    Ok(match message {
        // Engine.IO: open, close, ping, no operation.
        [b'0', ..] => {
            answer.extend_from_slice(b"40");
            Control::Other
        }
        [b'1', ..] => Control::Ended("engine.io close".into()),
        [b'2', rest @ ..] => {
            answer.push(b'3');
            answer.extend_from_slice(rest);
            Control::Other
        }
        [b'6', ..] => Control::Other,
        // Socket.IO: connected, disconnected, event, acknowledgement of message 0, connection refused.
        [b'4', b'0', ..] => {
            append(answer, format_args!(r#"420["join","{}"]"#, channel.topic));
            Control::Other
        }
        [b'4', b'1', ..] => Control::Ended("socket.io disconnect".into()),
        [b'4', b'2', ..] => Control::Other,
        [b'4', b'3', b'0', b'[', ..] => Control::Joined,
        [b'4', b'4', rest @ ..] => Control::Refused(String::from_utf8_lossy(rest).into_owned()),
        _ => return Err("not an Engine.IO 4 message"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_in_step_by_step() {
        let channel = Channel { topic: "room:1", join: 1 };
        let steps: [(&[u8], Control, &[u8]); 7] = [
            (br#"0{"sid":"x","pingInterval":25000}"#, Control::Other, b"40"),
            (br#"40{"sid":"y"}"#, Control::Other, br#"420["join","room:1"]"#),
            (br#"430["ok"]"#, Control::Joined, b""),
            (br#"42["msg",{"a":1}]"#, Control::Other, b""),
            (b"2", Control::Other, b"3"),
            (b"41", Control::Ended("socket.io disconnect".into()), b""),
            (br#"44{"message":"no"}"#, Control::Refused(r#"{"message":"no"}"#.into()), b""),
        ];
        for (message, meaning, said) in steps {
            let mut answer = Vec::new();
            assert_eq!(control(message, &channel, &mut answer), Ok(meaning));
            assert_eq!(answer, said);
        }
        assert!(control(b"hello", &channel, &mut Vec::new()).is_err());
        let mut out = Vec::new();
        publish(&mut out, &super::super::tests::publish("room:1"));
        let text = super::super::tests::TEXT;
        assert_eq!(String::from_utf8(out).unwrap(), format!(r#"42["pub",{text}]"#));
    }
}
