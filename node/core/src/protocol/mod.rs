//! The Phoenix Channels messages, versions 1 and 2 of the serializer, JSON and binary, and MessagePack.
//!
//! Decoding borrows: a payload is a slice of the input that was checked to be JSON and is never built as a tree, so a
//! publish costs one copy of its bytes whatever it holds. Refs are any JSON value and are echoed as they came.

use std::borrow::Cow;

use bytes::Bytes;

pub use crate::broadcast::Payload;

use crate::broadcast::Content;

mod binary;
pub mod encode;
pub mod foreign;
mod json;
pub(crate) mod msgpack;
mod odd;
mod raw_ref;
pub mod realtime;
mod scan;
mod v1;
mod v2;
mod version;

pub use odd::OddMessage;
pub use raw_ref::{JoinRef, RawRef};
pub use scan::levels;

/// JSON of an absent ref.
pub const NULL: &str = "null";

pub use keys::ACCESS_TOKEN;

/// Whether an event has the prefix of those by which Phoenix steers channels.
#[must_use]
pub fn is_phoenix_event(event: &str) -> bool {
    event.starts_with(keys::PHOENIX_EVENT_PREFIX)
}

/// Whether an event belongs to the protocol. A client that could broadcast such events could close the channels of
/// others or make up who is present, and others would hear the token that it pushes.
#[must_use]
pub fn is_reserved_event(event: &str) -> bool {
    is_phoenix_event(event) || matches!(event, keys::PRESENCE_STATE | keys::PRESENCE_DIFF | ACCESS_TOKEN)
}

/// Serializer version of a connection, which is also the variant of a broadcast that it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Vsn {
    /// `1.0.x`: JSON objects, text only; the default of a client that says nothing.
    V1,
    /// `2.0.x`: JSON arrays, and binary messages.
    V2,
    /// `2.0.x+msgpack`: the arrays as MessagePack.
    MessagePack,
}

/// Pieces of a JSON payload, with empty ones at the end when there are fewer.
type Pieces<'a> = [&'a str; 5];

/// How one version writes and reads messages: everything that a new version has to implement.
trait Serializer: Sync {
    /// Reads a text message.
    fn decode_text<'a>(&self, text: &'a str) -> Result<Message<'a>, Malformed>;
    /// Reads a binary message.
    fn decode_binary<'a>(&self, bytes: &'a [u8], into: Translation<'a>) -> Result<Message<'a>, Unreadable>;
    /// Reads what stands before the payload of a message that is not read because it is nested too deep.
    fn decode_deep<'a>(&self, raw: Raw<'a>) -> Option<Message<'a>>;
    /// Reads a text message whose topic or event is no string.
    fn decode_odd<'a>(&self, text: &'a str) -> Option<OddMessage<'a>>;
    /// A message to one client, as one frame; both refs are raw JSON.
    fn message(&self, refs: (&str, &str), topic: &str, event: &str, pieces: &Pieces<'_>) -> Bytes;
    /// A reply about a topic that is given as raw JSON, as one frame.
    fn odd_reply(&self, refs: (&str, &str), topic: &str, pieces: &Pieces<'_>) -> Bytes;
    /// A reply with bytes as its response; `None` when the version has no such message.
    fn binary_reply(&self, refs: (&str, &str), topic: &str, status: &str, data: &[u8]) -> Option<Bytes>;
    /// A push of bytes to one client; `None` when the version has no such message.
    fn binary_push(&self, join_ref: &str, topic: &str, event: &str, data: &[u8]) -> Option<Bytes>;
    /// Whether [`Serializer::broadcast`] can write this content.
    fn carries(&self, content: &Content<'_>) -> bool;
    /// Appends a message to all members of a topic, as one frame.
    fn broadcast(&self, content: &Content<'_>, out: &mut Vec<u8>);
}

impl Vsn {
    /// All versions, by [`Vsn::index`].
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::MessagePack];

    /// Position in [`Vsn::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    const fn serializer(self) -> &'static dyn Serializer {
        match self {
            Self::V1 => &v1::V1,
            Self::V2 => &v2::V2,
            Self::MessagePack => &msgpack::MessagePack,
        }
    }

    /// Whether clients of this version can get this content.
    #[must_use]
    pub fn carries(self, content: &Content<'_>) -> bool {
        self.serializer().carries(content)
    }

    /// The serializer for the parameter `vsn`; `None` when there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Stock clients ask for these two.
        match text {
            "1.0.0" => return Some(Self::V1),
            "2.0.0" => return Some(Self::V2),
            // A plus in a query that is not escaped stands for a blank.
            "2.0.0 msgpack" => return Some(Self::MessagePack),
            _ => {}
        }
        match version::minor_line(text)? {
            ("1", "0") => Some(Self::V1),
            ("2", "0") if version::build(text) == Some("msgpack") => Some(Self::MessagePack),
            ("2", "0") => Some(Self::V2),
            _ => None,
        }
    }
}

/// A message from a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Raw JSON, `null` when absent.
    pub join_ref: Cow<'a, str>,
    /// Raw JSON, `null` when absent.
    pub reference: Cow<'a, str>,
    /// The topic, unescaped.
    pub topic: Cow<'a, str>,
    /// The event, unescaped; of a user broadcast that of the user.
    pub event: Cow<'a, str>,
    /// The payload.
    pub payload: Payload<'a>,
}

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'a> {
    /// As text.
    Text(&'a str),
    /// As bytes.
    Binary(&'a [u8]),
}

/// The bytes are no Phoenix message of this serializer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Phoenix message")]
pub struct Malformed;

/// Why a binary message is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// See [`Malformed`].
    #[error("not a Phoenix message")]
    Malformed,
    /// It is longer than a message may be, once it is JSON.
    #[error("too long as JSON")]
    TooBig,
    /// Its payload has more than [`crate::limits::MAX_JSON_DEPTH`] levels.
    #[error("nested too deeply")]
    TooDeep,
}

impl From<Malformed> for Unreadable {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The place for a payload that has to be translated to JSON, and the most bytes that topic, event and JSON may have
/// together. No more than that is written into it.
#[derive(Debug)]
pub struct Translation<'a> {
    /// It is empty.
    pub json: &'a mut String,
    /// In bytes.
    pub most_bytes: usize,
}

/// Whether a text is a JSON object that every reader takes, nested no deeper than a client's may be.
#[must_use]
pub fn is_good_object(text: &str) -> bool {
    text.starts_with('{') && scan::check(text).is_ok()
}

/// Reads a text message.
///
/// # Errors
/// When it is not JSON, lacks an element, or has a ref longer than [`crate::limits::MAX_REF_BYTES`].
pub fn decode_text(vsn: Vsn, text: &str) -> Result<Message<'_>, Malformed> {
    vsn.serializer().decode_text(text)
}

/// Reads a binary message.
///
/// # Errors
/// When it is no push and no user broadcast, is cut short, or holds text that is not UTF-8 or should be JSON and is not; of
/// a V1 client as [`decode_text`], which reads it. Only a payload that has to be translated can be too big.
pub fn decode_binary<'a>(
    vsn: Vsn,
    bytes: &'a [u8],
    into: Translation<'a>,
) -> Result<Message<'a>, Unreadable> {
    vsn.serializer().decode_binary(bytes, into)
}

/// Reads a message that was refused, if it was because of more than [`crate::limits::MAX_JSON_DEPTH`] levels behind its
/// event: all but its payload, of which nothing is known. A binary message of V2 is never read.
#[must_use]
pub fn decode_deep(vsn: Vsn, raw: Raw<'_>) -> Option<Message<'_>> {
    vsn.serializer().decode_deep(raw)
}

/// Reads a text message that [`decode_text`] refused, if all that is odd about it is that its topic or its event is no
/// string: Phoenix takes such a message and answers it.
#[must_use]
pub fn decode_odd(vsn: Vsn, text: &str) -> Option<OddMessage<'_>> {
    vsn.serializer().decode_odd(text)
}
