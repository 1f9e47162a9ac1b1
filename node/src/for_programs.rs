//! The headers of answers that are for programs and for no browser.

use axum::{http::header, response::Response};

/// What a port says is for programs. A browser that gets hold of it shall neither show it in a frame, nor take it for
/// something else, nor run anything of it.
pub(crate) async fn only(mut response: Response) -> Response {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}
