//! How to speak with a server: one file per protocol, and one enum with all of them.
//!
//! A delivery is recognised by its stamp, in the same way for all, so a dialect only says how to get in, how to
//! publish, and what a message without a stamp means. Only NATS, whose WebSocket frames are pieces of a byte stream,
//! needs its messages taken apart first ([`Dialect::is_stream`]).

mod nats;
mod nchan;
mod phoenix;
mod pusher;
mod socketio;
mod uws;

use super::stamp::Stamp;
use super::wire;
pub(super) use nats::{Item, next_item};
pub(super) use pusher::Keys;

/// The protocols by name, as a flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// Phoenix Channels v2
    #[default]
    Phoenix,
    /// A relay on uWebSockets: the topic in the query, messages verbatim to all of it
    Uws,
    /// Engine.IO 4 and Socket.IO 5 over WebSocket
    Socketio,
    /// NATS over WebSocket
    Nats,
    /// nchan's nchan_pubsub location
    Nchan,
    /// Pusher Channels with client events
    Pusher,
}

/// A protocol with its settings.
#[derive(Clone, Debug)]
pub(super) enum Dialect {
    Phoenix,
    Uws,
    Socketio,
    Nats,
    Nchan,
    Pusher(Keys),
}

/// The room that a connection is to be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a> {
    /// The room's name as the dialect spells it.
    pub(super) topic: &'a str,
    /// Reference of this join.
    pub(super) join: u32,
}

/// A publish that is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publish<'a> {
    pub(super) channel: Channel<'a>,
    /// Reference of the message.
    pub(super) reference: u32,
    pub(super) stamp: Stamp,
    /// Bytes of the payload object.
    pub(super) size: usize,
}

/// The meaning of a message without a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// The connection is in its room.
    Joined,
    /// The server does not let it in.
    Refused(String),
    /// The server did not take a publish.
    Rejected(String),
    /// The server ended the membership.
    Ended(String),
    /// The answer to a heartbeat.
    Alive,
    /// Anything else.
    Other,
}

impl Dialect {
    pub(super) fn new(name: DialectName, keys: Keys) -> Dialect {
        match name {
            DialectName::Phoenix => Dialect::Phoenix,
            DialectName::Uws => Dialect::Uws,
            DialectName::Socketio => Dialect::Socketio,
            DialectName::Nats => Dialect::Nats,
            DialectName::Nchan => Dialect::Nchan,
            DialectName::Pusher => Dialect::Pusher(keys),
        }
    }

    /// The name of a room: `prefix` and its number, in characters that the dialect allows.
    pub(super) fn topic(&self, prefix: &str, room: u32) -> String {
        match self {
            Dialect::Nats => nats::subject(prefix, room),
            Dialect::Pusher(_) => pusher::channel(prefix, room),
            _ => format!("{prefix}{room}"),
        }
    }

    /// Appends the request path with its query to `out`; `given` is the path of the URL, empty when it has none.
    pub(super) fn path(&self, out: &mut Vec<u8>, given: &str, topic: &str) {
        match self {
            Dialect::Phoenix => phoenix::path(out, given),
            Dialect::Uws => uws::path(out, given, topic),
            Dialect::Socketio => socketio::path(out, given),
            Dialect::Nats => nats::path(out, given),
            Dialect::Nchan => nchan::path(out, given, topic),
            Dialect::Pusher(keys) => pusher::path(out, given, keys),
        }
    }

    /// Opcode of the messages sent.
    pub(super) fn opcode(&self) -> u8 {
        if self.is_stream() { wire::BINARY } else { wire::TEXT }
    }

    /// Whether WebSocket messages are pieces of a byte stream.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Dialect::Nats)
    }

    /// Whether a publish comes back to its sender.
    pub(super) fn echoes(&self) -> bool {
        !matches!(self, Dialect::Pusher(_))
    }

    /// Whether a refused or ended membership can be asked for again on the same connection.
    pub(super) fn rejoins(&self) -> bool {
        matches!(self, Dialect::Phoenix)
    }

    /// Appends the client's first message after the upgrade, when the client speaks first; true when the connection
    /// is in its room already.
    pub(super) fn opened(&self, out: &mut Vec<u8>, channel: &Channel<'_>) -> bool {
        match self {
            Dialect::Phoenix => {
                phoenix::join(out, channel);
                false
            }
            Dialect::Nchan => true,
            Dialect::Uws | Dialect::Socketio | Dialect::Nats | Dialect::Pusher(_) => false,
        }
    }

    /// Reads a whole message that carries no stamp, and appends the answer that it needs to `answer`.
    ///
    /// # Errors
    /// A name for the error count when the server does not speak this dialect.
    pub(super) fn control(
        &self,
        message: &[u8],
        channel: &Channel<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<Control, &'static str> {
        match self {
            Dialect::Phoenix => phoenix::control(message, channel),
            Dialect::Uws => Ok(uws::control(message)),
            Dialect::Socketio => socketio::control(message, channel, answer),
            Dialect::Pusher(keys) => pusher::control(message, channel, keys, answer),
            // nchan sends no messages of its own; NATS is read as a stream.
            Dialect::Nchan | Dialect::Nats => Ok(Control::Other),
        }
    }

    /// Appends one publish.
    pub(super) fn publish(&self, out: &mut Vec<u8>, publish: &Publish<'_>) {
        match self {
            Dialect::Phoenix => phoenix::publish(out, publish),
            Dialect::Uws | Dialect::Nchan => super::stamp::payload(out, &publish.stamp, publish.size),
            Dialect::Socketio => socketio::publish(out, publish),
            Dialect::Nats => nats::publish(out, publish),
            Dialect::Pusher(_) => pusher::publish(out, publish),
        }
    }

    /// Appends a heartbeat; false when clients of this dialect send none.
    pub(super) fn heartbeat(&self, out: &mut Vec<u8>, reference: u32) -> bool {
        if !matches!(self, Dialect::Phoenix) {
            return false;
        }
        phoenix::heartbeat(out, reference);
        true
    }
}

/// Appends a path, or `default` when none was given.
fn base(out: &mut Vec<u8>, given: &str, default: &str) {
    out.extend_from_slice(if given.is_empty() { default } else { given }.as_bytes());
}

/// Appends one more parameter to a path that may have a query.
fn parameter(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.push(if out.contains(&b'?') { b'&' } else { b'?' });
    super::stamp::append(out, text);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::stamp::Finder;

    pub(super) const STAMP: Stamp = Stamp { run: 0xdead_beef, number: 77, intended_ns: 1 << 40, sender: 4 };
    pub(super) const TEXT: &str = r#"{"lg":"deadbeef.0000004d.0000010000000000.00000004","pad":"pr"}"#;

    pub(super) fn publish<'a>(topic: &'a str) -> Publish<'a> {
        Publish { channel: Channel { topic, join: 3 }, reference: 9, stamp: STAMP, size: TEXT.len() }
    }

    fn all() -> Vec<Dialect> {
        use clap::ValueEnum;
        let keys = Keys { key: "k".into(), secret: "s".into() };
        DialectName::value_variants().iter().map(|name| Dialect::new(*name, keys.clone())).collect()
    }

    #[test]
    fn every_publish_has_the_same_payload_and_is_recognised() {
        for dialect in all() {
            let topic = dialect.topic("room:load-", 7);
            let mut out = Vec::new();
            dialect.publish(&mut out, &publish(&topic));
            assert!(String::from_utf8_lossy(&out).contains(TEXT), "{dialect:?}");
            assert_eq!(Finder::default().find(&out), Some(STAMP), "{dialect:?}");
        }
    }

    #[test]
    fn paths_are_those_of_the_servers() {
        let path = |dialect: &Dialect, given| {
            let mut out = Vec::new();
            dialect.path(&mut out, given, "room:load-7");
            String::from_utf8(out).unwrap()
        };
        let default: Vec<String> = all().iter().map(|dialect| path(dialect, "")).collect();
        assert_eq!(
            default,
            [
                "/socket/websocket?vsn=2.0.0",
                "/?room=room:load-7",
                "/socket.io/?EIO=4&transport=websocket",
                "/",
                "/pubsub?room=room:load-7",
                "/app/k?protocol=7&client=js&version=8.0",
            ]
        );
        assert_eq!(path(&Dialect::Phoenix, "/x?a=1"), "/x?a=1&vsn=2.0.0");
        assert_eq!(path(&Dialect::Nchan, "/ws"), "/ws?room=room:load-7");
    }

    #[test]
    fn topics_have_only_legal_characters() {
        let topics: Vec<String> = all().iter().map(|dialect| dialect.topic("room:load-", 7)).collect();
        let plain = "room:load-7";
        assert_eq!(topics, [plain, plain, plain, "room.load-7", plain, "private-room-load-7"]);
    }
}
