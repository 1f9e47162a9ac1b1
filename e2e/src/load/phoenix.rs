//! Phoenix v2 messages of a generator: written into a reused buffer, recognised without parsing JSON where
//! it is a delivery (that is all but a few of them).
//!
//! A publish carries a stamp: run, publish number in the room, intended send time, sender. The run tells
//! messages of another generator (or of a person) in the same room from our own.

use serde_json::value::RawValue;
use std::io::Write;

/// What a publish of this generator says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Random number of the run.
    pub(super) run: u32,
    /// Number of the publish in its room.
    pub(super) number: u32,
    /// When the schedule wanted it sent, nanoseconds since the run's origin.
    pub(super) intended_ns: u64,
    /// Connection that sent it.
    pub(super) sender: u32,
}

const MARK: &[u8] = br#""lg":""#;
/// Bytes of a stamp: 8 + 8 + 16 + 8 hexadecimal digits and three dots.
const STAMP: usize = 43;
/// Bytes of the payload object around the padding: `{"lg":"<stamp>","pad":""}`.
pub(super) const MIN_PAYLOAD: usize = 8 + STAMP + 10;

/// Event name of the generator's publishes.
pub(super) const EVENT: &str = "load";

/// Writes a join of `topic`.
pub(super) fn join(out: &mut Vec<u8>, reference: u32, topic: &str) {
    write_to(out, format_args!(r#"["{reference}","{reference}","{topic}","phx_join",{{}}]"#));
}

/// Writes a heartbeat.
pub(super) fn heartbeat(out: &mut Vec<u8>, reference: u32) {
    write_to(out, format_args!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#));
}

/// Writes a publish whose payload object has `size` bytes (at least [`MIN_PAYLOAD`]).
pub(super) fn publish(out: &mut Vec<u8>, join: u32, reference: u32, topic: &str, stamp: &Stamp, size: usize) {
    let Stamp { run, number, intended_ns, sender } = stamp;
    write_to(
        out,
        format_args!(
            r#"["{join}","{reference}","{topic}","{EVENT}",{{"lg":"{run:08x}.{number:08x}.{intended_ns:016x}.{sender:08x}","pad":""#
        ),
    );
    out.resize(out.len() + size.saturating_sub(MIN_PAYLOAD), b'x');
    out.extend_from_slice(br#""}]"#);
}

fn write_to(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

/// The stamp of a delivery, or `None` when the message is not one.
pub(super) fn stamp(message: &[u8]) -> Option<Stamp> {
    let at = memchr::memmem::find(message, MARK)? + MARK.len();
    let text = std::str::from_utf8(message.get(at..at + STAMP)?).ok()?;
    let hex = |range: std::ops::Range<usize>| u64::from_str_radix(text.get(range)?, 16).ok();
    Some(Stamp {
        run: hex(0..8)? as u32,
        number: hex(9..17)? as u32,
        intended_ns: hex(18..34)?,
        sender: hex(35..43)? as u32,
    })
}

/// A message that is not a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// A reply to the message with this reference.
    Reply {
        /// Reference of the message answered; `None` when it is not one of ours.
        reference: Option<u32>,
        /// The status, or the reason given with an error.
        outcome: Result<(), String>,
    },
    /// The server ended the channel: `phx_error` or `phx_close`.
    Ended(&'static str),
    /// Anything else.
    Other,
}

/// Reads a message that carries no stamp.
///
/// # Errors
/// A name for the error count when it is not a Phoenix v2 message.
pub(super) fn control(message: &[u8]) -> Result<Control, &'static str> {
    type Message<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);
    let (_, reference, _, event, payload): Message<'_> =
        serde_json::from_slice(message).map_err(|_| "not a Phoenix v2 message")?;
    Ok(match event {
        "phx_reply" => {
            let reply: serde_json::Value = serde_json::from_str(payload.get()).unwrap_or_default();
            let outcome = if reply["status"] == "ok" {
                Ok(())
            } else {
                Err(reply["response"]["reason"].as_str().unwrap_or("no reason").to_owned())
            };
            Control::Reply { reference: reference.and_then(|r| r.parse().ok()), outcome }
        }
        "phx_error" => Control::Ended("phx_error"),
        "phx_close" => Control::Ended("phx_close"),
        _ => Control::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_json_of_the_asked_size_and_reads_back() {
        let stamp = Stamp { run: 0xdead_beef, number: 77, intended_ns: 123_456_789_012, sender: 4 };
        for size in [0, MIN_PAYLOAD, MIN_PAYLOAD + 1, 512] {
            let mut out = Vec::new();
            publish(&mut out, 1, 9, "room:load-3", &stamp, size);
            let value: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(value[..4], ["1", "9", "room:load-3", EVENT]);
            assert_eq!(value[4].to_string().len(), size.max(MIN_PAYLOAD));
            assert_eq!(super::stamp(&out), Some(stamp));
        }
    }

    #[test]
    fn control_messages_are_told_apart() {
        let ok = br#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#;
        assert_eq!(control(ok), Ok(Control::Reply { reference: Some(1), outcome: Ok(()) }));
        let full = br#"[null,"1","room:1","phx_reply",{"status":"error","response":{"reason":"room full"}}]"#;
        assert_eq!(
            control(full),
            Ok(Control::Reply { reference: Some(1), outcome: Err("room full".into()) })
        );
        assert_eq!(control(br#"["1","1","room:1","phx_error",{}]"#), Ok(Control::Ended("phx_error")));
        assert_eq!(control(br#"[null,null,"room:1","hello",{"a":1}]"#), Ok(Control::Other));
        assert!(control(b"{}").is_err());
        let mut out = Vec::new();
        join(&mut out, 5, "room:2");
        heartbeat(&mut out, 6);
        assert_eq!(out, br#"["5","5","room:2","phx_join",{}][null,"6","phoenix","heartbeat",{}]"#);
    }
}
