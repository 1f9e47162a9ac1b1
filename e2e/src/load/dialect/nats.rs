//! NATS over WebSocket: the client protocol of a TCP connection, cut into binary frames at any place.

use super::{Channel, Control, Publish, base};
use crate::load::stamp::{append, payload};
use std::ops::Range;

/// Longest protocol line accepted, bytes (INFO is the longest).
const MAX_LINE: usize = 32 << 10;

pub(super) fn path(out: &mut Vec<u8>, given: &str) {
    base(out, given, "/");
}

/// A subject has words with dots between.
pub(super) fn subject(prefix: &str, room: u32) -> String {
    format!("{}{room}", prefix.replace(':', "."))
}

/// Appends the client's answer to the server's INFO; the server's PONG shows that it took all of it.
fn hello(out: &mut Vec<u8>, channel: &Channel<'_>) {
    append(
        out,
        format_args!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":true,\"tls_required\":false,\"headers\":false,\
             \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1,\"name\":\"loadgen\"}}\r\nSUB {} 1\r\nPING\r\n",
            channel.topic
        ),
    );
}

pub(super) fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let size = publish.size.max(crate::load::stamp::MIN_PAYLOAD);
    append(out, format_args!("PUB {} {size}\r\n", publish.channel.topic));
    payload(out, &publish.stamp, size);
    out.extend_from_slice(b"\r\n");
}

/// One item of the server's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A message, as the place of its payload in the bytes read.
    Message(Range<usize>),
    Info,
    Ping,
    Pong,
    Ok,
    /// An error, in the server's words.
    Error(String),
}

impl Item {
    /// The meaning of the item for a connection; appends the answer that it needs to `answer`.
    pub(crate) fn control(self, channel: &Channel<'_>, answer: &mut Vec<u8>) -> Control {
        match self {
            Item::Info => {
                hello(answer, channel);
                Control::Other
            }
            Item::Ping => {
                answer.extend_from_slice(b"PONG\r\n");
                Control::Other
            }
            Item::Pong => Control::Joined,
            Item::Error(what) => Control::Rejected(what),
            Item::Message(_) | Item::Ok => Control::Other,
        }
    }
}

/// Reads the first item of `stream` and how many bytes it is; `None` when it has not come in whole yet.
///
/// # Errors
/// A name for the error count when this is not the NATS protocol.
pub(crate) fn next_item(stream: &[u8]) -> Result<Option<(Item, usize)>, &'static str> {
    let Some(end) = memchr::memchr(b'\n', stream) else {
        return if stream.len() > MAX_LINE { Err("NATS line too long") } else { Ok(None) };
    };
    let line = stream[..end].strip_suffix(b"\r").ok_or("not the NATS protocol")?;
    let item = match line {
        [b'M', b'S', b'G', b' ', ..] => {
            let length = size(line).ok_or("NATS message without a size")?;
            let payload = end + 1..end + 1 + length;
            let whole = payload.end + 2;
            return Ok((stream.len() >= whole).then_some((Item::Message(payload), whole)));
        }
        b"PING" => Item::Ping,
        b"PONG" => Item::Pong,
        b"+OK" => Item::Ok,
        line if line.starts_with(b"INFO ") => Item::Info,
        line if line.starts_with(b"-ERR") => {
            Item::Error(String::from_utf8_lossy(&line[4..]).trim().trim_matches('\'').to_owned())
        }
        _ => return Err("not the NATS protocol"),
    };
    Ok(Some((item, end + 1)))
}

/// The last word of a MSG line.
fn size(line: &[u8]) -> Option<usize> {
    let digits = line.rsplit(|byte| *byte == b' ').next().filter(|digits| (1..=8).contains(&digits.len()))?;
    digits
        .iter()
        .try_fold(0, |size, digit| digit.is_ascii_digit().then(|| size * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_wherever_the_stream_is_cut() {
        let stream =
            b"INFO {\"a\":1}\r\nPONG\r\nMSG room.1 1 5\r\nhello\r\nMSG room.1 1 0\r\n\r\n+OK\r\nPING\r\n\
                       -ERR 'Slow Consumer'\r\n";
        let whole = [
            Item::Info,
            Item::Pong,
            Item::Message(36..41),
            Item::Message(59..59),
            Item::Ok,
            Item::Ping,
            Item::Error("Slow Consumer".into()),
        ];
        for cut in 0..=stream.len() {
            let (mut seen, mut at) = (Vec::new(), 0);
            for end in [cut, stream.len()] {
                while let Some((item, used)) = next_item(&stream[at..end]).unwrap() {
                    seen.push(match item {
                        Item::Message(payload) => Item::Message(payload.start + at..payload.end + at),
                        other => other,
                    });
                    at += used;
                }
            }
            assert_eq!(seen, whole, "cut at {cut}");
        }
        assert!(next_item(b"HTTP/1.1 400\r\n").is_err());
        assert!(next_item(b"MSG a 1 x\r\n").is_err());
        assert_eq!(next_item(b"MSG a 1 5\r\nhel"), Ok(None));
    }

    #[test]
    fn what_a_client_says() {
        let mut out = Vec::new();
        hello(&mut out, &Channel { topic: "room.1", join: 1 });
        let text = String::from_utf8(out).unwrap();
        let (connect, rest) = text.split_once("\r\n").unwrap();
        let options: serde_json::Value =
            serde_json::from_str(connect.strip_prefix("CONNECT ").unwrap()).unwrap();
        assert_eq!(options["echo"], true);
        assert_eq!(rest, "SUB room.1 1\r\nPING\r\n");
        let mut out = Vec::new();
        publish(&mut out, &super::super::tests::publish("room.1"));
        let text = super::super::tests::TEXT;
        assert_eq!(String::from_utf8(out).unwrap(), format!("PUB room.1 {}\r\n{text}\r\n", text.len()));
    }
}
