//! What a backend is told when something cannot be done: `application/problem+json` (RFC 9457) with a remedy.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use node_core::api::request::Wrong;
use serde::Serialize;

/// The media type of RFC 9457.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// Seconds after which a backend may try again when the node was too busy.
const RETRY_SECONDS: u32 = 1;

/// The sorts of problems. A type is the sort behind `urn:channelcluster:problem:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The body or the query cannot be read.
    Malformed,
    /// A value is wrong.
    Invalid,
    /// There is no key, or nobody knows it.
    Unauthorized,
    /// The key is not good for this.
    Forbidden,
    /// There is no such path, or nothing of that name.
    NotFound,
    /// The path has other methods.
    Method,
    /// The body is longer than one may be.
    TooLarge,
    /// The body is said to be something else than JSON.
    MediaType,
    /// A publication with this idempotency key is under way.
    InProgress,
    /// The idempotency key was used for another publication.
    KeyReused,
    /// The node is too busy.
    Busy,
    /// The nodes that know about an idempotency key do not answer.
    NoAnswer,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Method,
        Self::TooLarge,
        Self::MediaType,
        Self::InProgress,
        Self::KeyReused,
        Self::Busy,
        Self::NoAnswer,
    ];

    /// Its name, status and title.
    #[must_use]
    pub const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST, "the request cannot be read"),
            Self::Invalid => ("invalid", StatusCode::UNPROCESSABLE_ENTITY, "a value is wrong"),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "a key is needed"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "the key is not good for this"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "there is no such thing"),
            Self::Method => ("method", StatusCode::METHOD_NOT_ALLOWED, "the path has other methods"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
            Self::MediaType => ("media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not JSON"),
            Self::InProgress => ("in-progress", StatusCode::CONFLICT, "the first one is under way"),
            Self::KeyReused => (
                "key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "the idempotency key was used for something else",
            ),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "the node is too busy"),
            Self::NoAnswer => ("no-answer", StatusCode::SERVICE_UNAVAILABLE, "other nodes do not answer"),
        }
    }
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What sort of problem it is.
    pub sort: Sort,
    /// The field that is wrong, if it is one.
    pub field: Option<&'static str>,
    /// What happened this time.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// A problem as it is written.
#[derive(Debug, Serialize)]
pub(super) struct Written<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    remedy: &'a str,
}

impl Problem {
    /// A problem that is not about one field.
    pub fn new(sort: Sort, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { sort, field: None, detail: detail.into(), remedy: remedy.into() }
    }

    /// The problem of a node that has no room.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(Sort::Busy, detail, "try again after a second, with the same idempotency key")
    }

    pub(super) fn written(&self) -> Written<'_> {
        let (name, status, title) = self.sort.parts();
        Written {
            kind: format!("urn:channelcluster:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            field: self.field,
            remedy: &self.remedy,
        }
    }
}

impl From<Wrong> for Problem {
    fn from(Wrong { field, detail, remedy }: Wrong) -> Self {
        Self { sort: Sort::Invalid, field: Some(field), detail, remedy }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (_, status, _) = self.sort.parts();
        let mut response = (status, Json(self.written())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match self.sort {
            Sort::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Sort::Busy | Sort::NoAnswer => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
            }
            _ => {}
        }
        response
    }
}
