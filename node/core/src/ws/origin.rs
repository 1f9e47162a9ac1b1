//! Which pages may connect: the `Origin` rules of the public port.
//!
//! A missing header is allowed (native clients send none), an empty one is refused as Phoenix does. Otherwise the
//! origin's host must be the host that the client addressed, whatever the port, or the origin must be listed.

/// Whether a handshake with these headers may go on. `listed` holds origins such as `https://example.org`, or `*`.
#[must_use]
pub fn is_allowed(origin: Option<&[u8]>, host: &[u8], listed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    if origin.is_empty() {
        return false;
    }
    if listed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let (Some((_, authority)), Ok(host)) = (origin.split_once("://"), std::str::from_utf8(host)) else {
        return false;
    };
    let addressed = without_port(host);
    !addressed.is_empty() && without_port(authority).eq_ignore_ascii_case(addressed)
}

/// The host of `host[:port]` or `[v6]:port`.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let listed = ["https://app.example.org".to_owned(), "http://dev.example.org:3000".to_owned()];
        for (origin, allowed) in [
            (None, true),
            (Some(""), false),
            (Some("null"), false),
            (Some("http://chat.example.org"), true),
            (Some("https://CHAT.example.org:8443"), true),
            (Some("https://evil.example.org"), false),
            (Some("https://chat.example.org.evil.org"), false),
            (Some("https://app.example.org"), true),
            (Some("https://app.example.org:8443"), false),
            (Some("http://dev.example.org:3000"), true),
        ] {
            let got = is_allowed(origin.map(str::as_bytes), b"chat.example.org:4000", &listed);
            assert_eq!(got, allowed, "{origin:?}");
        }
        assert!(is_allowed(Some(b"http://[::1]:3000"), b"[::1]", &[]));
        assert!(is_allowed(Some(b"null"), b"h", &["*".to_owned()]));
        assert!(!is_allowed(Some(b"http://"), b"", &[]));
    }
}
