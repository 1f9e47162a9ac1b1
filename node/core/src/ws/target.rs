//! The request target in each form that RFC 9112, section 3.2, lets a client or proxy send.

use std::borrow::Cow;

use super::host;
use crate::counters::RefuseReason;

/// The parts of a request target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Host and port of an absolute target, which count instead of the `Host` header.
    pub(crate) authority: Option<&'a str>,
    path: &'a str,
    pub(crate) query: &'a str,
}

impl<'a> Target<'a> {
    /// Reads a target. `*` is for OPTIONS and a bare authority for CONNECT, neither of which is served here.
    pub(crate) fn read(method: &str, text: &'a str) -> Result<Self, RefuseReason> {
        if (method == "CONNECT" && !text.starts_with('/')) || (method == "OPTIONS" && text == "*") {
            return Err(RefuseReason::Method);
        }
        // Clients never send a fragment.
        if text.contains('#') {
            return Err(RefuseReason::BadRequest);
        }
        let (authority, rest) = if text.starts_with('/') {
            (None, text)
        } else {
            let (authority, rest) = absolute(text).ok_or(RefuseReason::BadRequest)?;
            (Some(authority), rest)
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Self { authority, path, query })
    }

    /// Whether the path is this one.
    pub(crate) fn is_path(&self, path: &str) -> bool {
        self.path == path || segments(self.path).eq(segments(path))
    }

    /// Whether the path is `last` right below `mount`.
    pub(crate) fn is_below(&self, mount: &str, last: &str) -> bool {
        let plain = self.path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/'));
        plain == Some(last) || segments(self.path).eq(segments(mount).chain([last]))
    }
}

/// The segments of a path by which Phoenix finds a socket (`path_info` of plug/lib/plug/conn/adapter.ex): without empty
/// ones, and not decoded.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Authority and the rest of `http://host[:port][/path][?query]`. RFC 9110, section 4.2.4, wants user names refused.
fn absolute(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let name = host::without_port(authority);
    let is_authority = host::has_valid_port(authority) && host::is_entry(name) && !name.starts_with('*');
    is_authority.then_some((authority, rest))
}

/// Decodes `%41`, and `+`, which is a blank. A percent sign that no two digits follow stands for itself.
pub(super) fn unescape(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return text.as_bytes().into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (value, behind) = match escaped(byte, after) {
            Some(escaped) => escaped,
            None if byte == b'+' => (b' ', after),
            None => (byte, after),
        };
        out.push(value);
        rest = behind;
    }
    out.into()
}

/// The byte that a percent sign and the two digits after it stand for, and what follows these.
fn escaped(byte: u8, after: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = after.split_first_chunk::<2>().filter(|_| byte == b'%')?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    // Two digits of four bits each make one byte.
    Some(((high? << 4 | low?) as u8, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_paths_are_compared_by_segment() {
        for (text, authority) in [
            ("/socket/websocket?vsn=2.0.0", None),
            ("/socket/websocket/?vsn=2.0.0", None),
            ("//socket//websocket?vsn=1&vsn=2%2E0.0", None),
            ("http://chat.example.org/socket/websocket?vsn=2.0.0", Some("chat.example.org")),
            ("HTTPS://chat.example.org:8443/socket/websocket?vsn=2.0.0", Some("chat.example.org:8443")),
            ("ws://[::1]:80/socket/websocket?vsn=2.0.0", Some("[::1]:80")),
            ("ws://h:/socket/websocket?vsn=2.0.0", Some("h:")),
            ("ws://h:080/socket/websocket?vsn=2.0.0", Some("h:080")),
        ] {
            let target = Target::read("GET", text).expect(text);
            assert_eq!(
                (target.authority, target.is_below("/socket", "websocket")),
                (authority, true),
                "{text}"
            );
            assert!(target.query.starts_with("vsn="), "{text}");
        }
        let root = Target::read("GET", "http://h?x").expect("absolute");
        assert!(root.is_path("/") && root.query == "x");
        for other in [
            "/socket",
            "/socket/websockets",
            "/socket%2Fwebsocket",
            "/socket/%77ebsocket",
            "/a/socket/websocket",
        ] {
            assert!(!Target::read("GET", other).expect(other).is_below("/socket", "websocket"), "{other}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        use RefuseReason::{BadRequest, Method};
        for (method, text, reason) in [
            ("OPTIONS", "*", Method),
            ("CONNECT", "chat.example.org:80", Method),
            ("GET", "*", BadRequest),
            ("GET", "", BadRequest),
            ("GET", "socket/websocket", BadRequest),
            ("GET", "chat.example.org:80", BadRequest),
            ("GET", "ftp://h/", BadRequest),
            ("GET", "http:///socket", BadRequest),
            ("GET", "http://u@h/", BadRequest),
            ("GET", "http://h:x/", BadRequest),
            ("GET", "http://h:65536/", BadRequest),
            ("GET", "http://h:80:/", BadRequest),
            ("GET", "http://*.h/", BadRequest),
            ("GET", "/#a", BadRequest),
        ] {
            assert_eq!(Target::read(method, text), Err(reason), "{method} {text}");
        }
    }
}
