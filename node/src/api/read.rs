//! Reads bodies and queries, and says what is wrong with them as problems.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Json, Path, Query, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use super::problem::{Problem, Sort};

/// JSON of a body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = Json::<T>::from_request(request, state).await;
        read.map(|Json(value)| Self(value)).map_err(|error: JsonRejection| {
            let text = error.body_text();
            match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    Problem::new(Sort::TooLarge, text, "send less in one request")
                }
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    Problem::new(Sort::MediaType, text, "send Content-Type: application/json")
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    Problem::new(Sort::Invalid, text, "see /v1/openapi.json for the fields and their types")
                }
                _ => Problem::new(Sort::Malformed, text, "send one JSON object"),
            }
        })
    }
}

/// The parameters of a query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|error: QueryRejection| {
            Problem::new(Sort::Malformed, error.body_text(), "see /v1/openapi.json for the parameters")
        })
    }
}

/// A part of the path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(value)| Self(value)).map_err(|error: PathRejection| {
            Problem::new(
                Sort::Malformed,
                error.body_text(),
                "write names in the path percent-encoded, as UTF-8",
            )
        })
    }
}
