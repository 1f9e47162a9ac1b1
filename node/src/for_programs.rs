//! The headers of answers that are for programs and for no browser, unless they say otherwise themselves.

use axum::{http::header, response::Response};

/// What a port says is for programs. A browser that gets hold of it shall neither show it in a frame, nor take it for
/// something else, nor run anything of it. Only the pages of the dashboard bring a policy of their own.
pub(crate) async fn only(mut response: Response) -> Response {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().entry(name).or_insert(header::HeaderValue::from_static(value));
    }
    response
}
