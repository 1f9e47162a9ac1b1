//! The Phoenix Channels messages, versions 1 and 2 of the serializer, JSON and binary.
//!
//! Decoding borrows: a payload is a slice of the input that was checked to be JSON and is never built as a tree, so a
//! publish costs one copy of its bytes whatever it holds. Refs are any JSON value and are echoed as they came.

use std::borrow::Cow;

pub mod binary;
pub mod encode;
pub mod foreign;
mod json;
mod raw_ref;
mod scan;

pub use raw_ref::RawRef;

/// JSON of an absent ref.
pub const NULL: &str = "null";

/// The event by which realtime clients hand a new token to the server. It is for the server alone.
pub const ACCESS_TOKEN: &str = "access_token";

/// By how many bytes a broadcast may be longer than the message that asked for it: two refs of one byte become `null`.
pub const BROADCAST_GROWTH_BYTES: usize = 6;

/// Whether an event is the protocol's own. A client that could broadcast these could close the channels of others, make
/// up who is present, or be overheard with its token.
#[must_use]
pub fn is_reserved_event(event: &str) -> bool {
    event.starts_with("phx_") || matches!(event, "presence_state" | "presence_diff" | ACCESS_TOKEN)
}

/// Serializer version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Vsn {
    /// `1.0.x`: JSON objects, text only; the default of a client that says nothing.
    V1,
    /// `2.0.x`: JSON arrays, and binary messages.
    V2,
}

impl Vsn {
    /// The serializer for the parameter `vsn`; `None` when there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = || parts.next()?.parse::<u16>().ok();
        let (major, minor, _patch) = (number()?, number()?, number()?);
        match (major, minor, parts.next()) {
            (1, 0, None) => Some(Self::V1),
            (2, 0, None) => Some(Self::V2),
            _ => None,
        }
    }
}

/// The payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Valid JSON of any type.
    Json(&'a str),
    /// Opaque bytes.
    Binary(&'a [u8]),
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
    /// The event, unescaped.
    pub event: Cow<'a, str>,
    /// The payload.
    pub payload: Payload<'a>,
}

/// The bytes are no Phoenix message of this serializer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Phoenix message")]
pub struct Malformed;

/// Reads a text message.
///
/// # Errors
/// When it is not JSON, lacks an element, or has a ref longer than [`crate::limits::MAX_REF_BYTES`].
pub fn decode_text(vsn: Vsn, text: &str) -> Result<Message<'_>, Malformed> {
    match vsn {
        Vsn::V1 => json::decode_v1(text),
        Vsn::V2 => json::decode_v2(text),
    }
}

/// Reads a binary message.
///
/// # Errors
/// When it is no push, is cut short, holds text that is not UTF-8, or comes from a V1 client.
pub fn decode_binary(vsn: Vsn, bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    match vsn {
        Vsn::V1 => Err(Malformed),
        Vsn::V2 => binary::decode_push(bytes),
    }
}
