//! The description of the API, OpenAPI 3.1, which the tests hold to the routes and types.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// The description, a JSON text.
const DOCUMENT: &str = include_str!("openapi.json");

/// The description of the API.
#[must_use]
pub const fn document() -> &'static str {
    DOCUMENT
}

/// `GET /v1/openapi.json`. It tells nothing about the node, so it needs no key.
pub(super) async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
