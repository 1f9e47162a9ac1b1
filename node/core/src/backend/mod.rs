//! Questions to a backend: what a shard asks, and what the backend says.

pub mod breaker;
pub mod sign;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{api::order::ConnectionRef, broadcast::Broadcast, config::Hook, protocol};

/// Most bytes of a reason that the backend gives; of a longer one the client is told so many.
pub const REASON_BYTES: usize = 256;

/// A question to the backend.
#[derive(Debug)]
pub struct Inquiry {
    /// What it is about.
    pub hook: Hook,
    /// The number of the question on its connection.
    pub number: u32,
    /// The connection that waits for the answer.
    pub connection: ConnectionRef,
    /// The user whom the connection's token names.
    pub user: Option<String>,
    /// The topic, the event and the payload that the client sent.
    pub said: Broadcast,
    /// Time in milliseconds that is left for the answer.
    pub within_millis: u64,
}

/// The answer to an [`Inquiry`].
#[derive(Debug)]
pub struct Verdict {
    /// The connection that waits.
    pub connection: ConnectionRef,
    /// The number of the question.
    pub number: u32,
    /// What the backend says; none when it gave no usable answer.
    pub decision: Option<Decision>,
}

/// What a backend decides: the JSON of its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Whether the client may.
    pub allow: bool,
    /// Why not: the `reason` of the reply that the client gets.
    #[serde(default)]
    pub reason: Option<String>,
    /// A JSON object that the client gets as the response of its reply.
    #[serde(default)]
    pub response: Option<Box<RawValue>>,
    /// A JSON object that is published in the place of the client's payload.
    #[serde(default)]
    pub payload: Option<Box<RawValue>>,
    /// Whether members are told; when not, the client alone gets an answer.
    #[serde(default = "yes")]
    pub publish: bool,
}

const fn yes() -> bool {
    true
}

/// Why an answer of the backend is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is something else. What it is does not appear, since it may be a secret.
    #[error("its answer is no JSON object of the form {{\"allow\": true}}, at line {line} column {column}")]
    Shape {
        /// Line, from 1 on; 0 when it is no object at all.
        line: usize,
        /// Column, from 1 on.
        column: usize,
    },
    /// A part has to be an object that every reader takes.
    #[error("the {0} of its answer is no object that every reader of JSON takes")]
    NoObject(&'static str),
}

impl Decision {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(json: &[u8]) -> Result<Self, Unusable> {
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(Unusable::Shape { line: 0, column: 0 });
        }
        let shape = |error: serde_json::Error| Unusable::Shape { line: error.line(), column: error.column() };
        let decision: Self = serde_json::from_slice(json).map_err(shape)?;
        for (name, part) in [("response", &decision.response), ("payload", &decision.payload)] {
            if part.as_ref().is_some_and(|part| !protocol::is_good_object(part.get())) {
                return Err(Unusable::NoObject(name));
            }
        }
        Ok(decision)
    }

    /// Everything that was asked for may be done as it was asked for.
    #[must_use]
    pub const fn yes() -> Self {
        Self { allow: true, reason: None, response: None, payload: None, publish: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_or_it_is_said_why_not() {
        let full = r#"{"allow": true, "response": {"a": 1}, "payload": {}, "publish": false}"#;
        let decision = Decision::read(full.as_bytes()).unwrap();
        assert_eq!(decision.response.unwrap().get(), r#"{"a": 1}"#);
        assert!(decision.allow && !decision.publish && decision.reason.is_none());
        assert!(Decision::read(br#"{"allow": false, "reason": "no"}"#).unwrap().publish);
        assert_eq!(
            Decision::read(br#"{"allow": true, "payload": [1]}"#).unwrap_err(),
            Unusable::NoObject("payload")
        );
        let deep =
            format!(r#"{{"allow": true, "payload": {{"a": {}1{}}}}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(Decision::read(deep.as_bytes()).unwrap_err(), Unusable::NoObject("payload"));
        for bad in
            ["", "{}", "true", "[true]", "<html>", r#"{"allow": 1}"#, r#"{"allow": true, "alow": true}"#]
        {
            let error = Decision::read(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, Unusable::Shape { .. }), "{bad}");
        }
        let secret = Decision::read(br#"{"eyJhbGciOi": 1}"#).unwrap_err().to_string();
        assert!(!secret.contains("eyJ"), "what it says may be a secret: {secret}");
    }
}
