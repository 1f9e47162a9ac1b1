//! The head of a request, and which pages may connect.

use crate::{
    config::NodeConfig,
    ws::{
        handshake::{self, Request, Rules},
        origin::is_allowed,
    },
};

/// Up to the first line feed the bytes are an entry of the list, up to the second the host, then the origin. All of them
/// are the head of a request as well.
pub(super) fn check(bytes: &[u8]) {
    head(bytes);
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (entry, host, origin) = (next(), next(), next());
    let Ok(entry) = std::str::from_utf8(entry) else { return };
    let listed = [entry.to_owned()];
    assert!(is_allowed(None, host, &listed), "programs send no origin");
    assert!(!is_allowed(Some(b""), host, &listed), "an empty one is refused");
    assert!(is_allowed(Some(b"https://anywhere"), host, &["*".to_owned()]));
    if entry != "*" && is_allowed(Some(origin), host, &listed) {
        let is_listed = entry.as_bytes().eq_ignore_ascii_case(origin);
        assert!(
            is_listed || is_allowed(Some(origin), host, &[]),
            "neither listed nor the host that was addressed"
        );
        assert!(is_listed || !is_allowed(Some(origin), b"elsewhere.invalid", &[]));
    }
    let mut config = NodeConfig::dev();
    config.auth.allowed_origins = listed.to_vec();
    if config.validate().is_empty() && entry != "*" {
        assert!(
            is_allowed(Some(entry.as_bytes()), b"elsewhere", &listed),
            "{entry:?} is listed and matches itself"
        );
    }
}

/// A head that grows byte by byte is incomplete until it is decided, and is then decided as the whole is.
fn head(bytes: &[u8]) {
    let listed = ["https://app.example.org".to_owned()];
    let rules = Rules { path: "/socket", allowed_origins: &listed, page: Some(b"<p>") };
    let whole = handshake::read(bytes, &rules);
    if let Request::Upgrade { head_len, response, .. } = &whole {
        assert!(*head_len <= bytes.len() && response.ends_with(b"\r\n\r\n"));
        assert_eq!(
            handshake::read(&bytes[..*head_len], &rules),
            whole,
            "what follows the head is not looked at"
        );
        for end in 0..*head_len {
            assert_eq!(handshake::read(&bytes[..end], &rules), Request::Incomplete, "{end}");
        }
    }
    if let Request::Refused(reason) = whole {
        assert!(handshake::refusal(reason).starts_with(b"HTTP/1.1 "));
    }
}
