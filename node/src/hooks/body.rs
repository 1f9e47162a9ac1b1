//! What a backend is sent: a JSON object.

use base64::{Engine, engine::general_purpose::STANDARD};
use node_core::{
    backend::Inquiry,
    broadcast::{Content, Payload},
    config::Hook,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// The version of the form, by which backends can tell a later one.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    connection: String,
    user: Option<&'a str>,
    topic: &'a str,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// The question as it is sent; none when it cannot be read.
pub(super) fn of(inquiry: &Inquiry) -> Option<Vec<u8>> {
    let Content { topic, event, payload } = inquiry.said.unpack()?;
    let (json, bytes) = match payload {
        Payload::Json(json) | Payload::UserJson(json) => (Some(serde_json::from_str(json).ok()?), None),
        Payload::Binary(bytes) | Payload::UserBinary(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    let kind = match inquiry.hook {
        Hook::Join => "join",
        Hook::Publish => "publish",
    };
    let question = Question {
        version: VERSION,
        kind,
        connection: inquiry.connection.to_string(),
        user: inquiry.user.as_deref(),
        topic,
        event,
        payload: json,
        payload_base64: bytes,
    };
    serde_json::to_vec(&question).ok()
}
