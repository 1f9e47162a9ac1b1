//! What Supabase's Realtime adds to Phoenix Channels: options of a join, and user broadcasts.
//!
//! A user broadcast is an event of a user inside of an event [`BROADCAST`] of the protocol. There are two forms of it. As
//! text it is the payload `{"type":"broadcast","event":…,"payload":…}`, which is passed on as it came. The serializer of
//! `vsn` 2.0.0 has binary messages of kinds of their own for it besides (`node/core/src/protocol/binary.rs`), whose
//! payload is JSON or bytes; clients of `vsn` 1.0.0 get the former as text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::Payload;

/// The event of the protocol that carries the events of users.
pub const BROADCAST: &str = "broadcast";
/// The event by which a client says that it is present.
pub const PRESENCE: &str = "presence";
/// The response to a join: no changes of a database are sent, whichever the client asks for.
pub const JOINED: &str = r#"{"postgres_changes":[]}"#;

/// The text form of a user broadcast: what stands before the event, between it and the payload, and at the end.
pub(super) const TEXT_FORM: [&str; 3] = [r#"{"type":"broadcast","event":""#, r#"","payload":"#, "}"];

/// What a member asked for when it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Whether it gets its own broadcasts (`self`).
    pub hears_itself: bool,
    /// Whether each of its broadcasts is answered (`ack`).
    pub acknowledged: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Join {
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    broadcast: Broadcast,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Broadcast {
    ack: Option<Switch>,
    #[serde(rename = "self")]
    hears_itself: Option<Switch>,
}

/// Supabase's server takes the words as well.
#[derive(Deserialize)]
#[serde(untagged)]
enum Switch {
    Bool(bool),
    Word(String),
}

impl Switch {
    fn is_on(&self) -> bool {
        match self {
            Self::Bool(on) => *on,
            Self::Word(word) => word.eq_ignore_ascii_case("true"),
        }
    }
}

impl Asked {
    /// Reads the payload of a join. What is not there, or is of another type, was not asked for.
    #[must_use]
    pub fn read(payload: Payload<'_>) -> Self {
        let Payload::Json(json) = payload else { return Self::default() };
        let Config { broadcast } = serde_json::from_str::<Join>(json).unwrap_or_default().config;
        let is_on = |switch: Option<Switch>| switch.is_some_and(|switch| switch.is_on());
        Self { hears_itself: is_on(broadcast.hears_itself), acknowledged: is_on(broadcast.ack) }
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default, deserialize_with = "is_there")]
    ids: bool,
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// The user's event in the text form of a user broadcast. `None` when there is none that members could read: realtime-js
/// raises an exception in each member for an event that is no text, and for `ids`, by which it knows changes of a
/// database.
#[must_use]
pub fn user_event(json: &str) -> Option<Cow<'_, str>> {
    // The library would take an array of the values as well.
    let said = json.starts_with('{').then(|| serde_json::from_str::<Said<'_>>(json));
    said?.ok().filter(|said| !said.ids).map(|said| said.event)
}

/// Whether members who speak Realtime may be given this payload of this event.
#[must_use]
pub fn is_readable(event: &str, payload: Payload<'_>) -> bool {
    match payload {
        Payload::UserJson(_) | Payload::UserBinary(_) => true,
        Payload::Json(json) => event == BROADCAST && user_event(json).is_some(),
        Payload::Binary(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_supabase_reads_them() {
        let both = Asked { hears_itself: true, acknowledged: true };
        for (json, asked) in [
            (
                r#"{"config":{"broadcast":{"ack":true,"self":true},"presence":{"key":""},"private":false}}"#,
                both,
            ),
            (r#"{"config":{"broadcast":{"ack":"True","self":"true","replay":{"since":1}}}}"#, both),
            (r#"{"config":{"broadcast":{"self":true}}}"#, Asked { acknowledged: false, ..both }),
            (r#"{"config":{"broadcast":{"ack":true,"self":null}}}"#, Asked { hears_itself: false, ..both }),
            (r#"{"config":{"broadcast":{"ack":false,"self":"no"}}}"#, Asked::default()),
            (r#"{"config":{"broadcast":{"ack":1,"self":true}}}"#, Asked::default()),
            (r#"{"config":{"broadcast":[]}}"#, Asked::default()),
            (r#"{"config":null}"#, Asked::default()),
            ("{}", Asked::default()),
            ("7", Asked::default()),
        ] {
            assert_eq!(Asked::read(Payload::Json(json)), asked, "{json}");
        }
        assert_eq!(Asked::read(Payload::Binary(b"{}")), Asked::default());
    }

    #[test]
    fn a_broadcast_has_an_event_that_every_member_can_read() {
        for (json, event) in [
            (r#"{"type":"broadcast","event":"a","payload":{"ids":[1]}}"#, Some("a")),
            (r#"{"\u0065vent":"\"","more":[[[]]]}"#, Some("\"")),
            (r#"{"event":5}"#, None),
            (r#"{"event":null}"#, None),
            (r#"{"event":"a","event":"b"}"#, None),
            (r#"{"event":"a","ids":[1]}"#, None),
            (r#"{"event":"a","\u0069ds":null}"#, None),
            (r#"["a"]"#, None),
            ("{}", None),
            (r#""a""#, None),
        ] {
            assert_eq!(user_event(json).as_deref(), event, "{json}");
        }
        assert!(is_readable("e", Payload::UserBinary(b"")) && is_readable("e", Payload::UserJson("1")));
        assert!(is_readable("broadcast", Payload::Json(r#"{"event":"a"}"#)));
        assert!(!is_readable("e", Payload::Json(r#"{"event":"a"}"#)));
        assert!(!is_readable("broadcast", Payload::Binary(b"{}")));
    }
}
