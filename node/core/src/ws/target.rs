//! The request target in each form that RFC 9112, section 3.2, lets a client or proxy send.

use std::borrow::Cow;

use super::host;
use crate::counters::RefuseReason;

/// The parts of a request target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host and port of an absolute target, which count instead of the `Host` header.
    pub(super) authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    /// Reads a target. `*` is for OPTIONS and a bare authority for CONNECT, neither of which is served here.
    pub(super) fn read(method: &str, text: &'a str) -> Result<Self, RefuseReason> {
        if method == "CONNECT" || (method == "OPTIONS" && text == "*") {
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

    /// The segments of the path as Plug reads them: decoded, and without empty ones.
    fn segments(&self) -> impl Iterator<Item = Cow<'a, str>> {
        segments(self.path).map(percent_decode)
    }

    /// Whether the path is this one.
    pub(super) fn is_path(&self, path: &str) -> bool {
        self.path == path || self.segments().eq(segments(path))
    }

    /// Whether the path is `last` right below `mount`.
    pub(super) fn is_below(&self, mount: &str, last: &str) -> bool {
        let plain = self.path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/'));
        plain == Some(last) || self.segments().eq(segments(mount).chain([last]))
    }

    /// The last value of a query parameter (as Plug decodes repeated ones), percent-decoded.
    pub(super) fn last_parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query
            .split('&')
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(key) == name).then(|| percent_decode(value))
            })
            .next_back()
    }
}

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
    let (name, _port) = host::split_port(authority)?;
    host::is_entry(name).then_some((authority, rest)).filter(|_| !name.starts_with('*'))
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.first_chunk::<2>().and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                out.push(value);
                rest = &after[2..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_paths_are_compared_by_segment() {
        for (text, authority) in [
            ("/socket/websocket?vsn=2.0.0", None),
            ("/socket/websocket/?vsn=2.0.0", None),
            ("//socket//%77ebsocket?vsn=1&vsn=2%2E0.0", None),
            ("http://chat.example.org/socket/websocket?vsn=2.0.0", Some("chat.example.org")),
            ("HTTPS://chat.example.org:8443/socket/websocket?vsn=2.0.0", Some("chat.example.org:8443")),
            ("ws://[::1]:80/socket/websocket?vsn=2.0.0", Some("[::1]:80")),
        ] {
            let target = Target::read("GET", text).expect(text);
            assert_eq!(
                (target.authority, target.is_below("/socket", "websocket")),
                (authority, true),
                "{text}"
            );
            assert_eq!(target.last_parameter("vsn").as_deref(), Some("2.0.0"), "{text}");
        }
        let root = Target::read("GET", "http://h?x").expect("absolute");
        assert!(root.is_path("/") && root.last_parameter("x").as_deref() == Some(""));
        for other in ["/socket", "/socket/websockets", "/socket%2Fwebsocket", "/a/socket/websocket"] {
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
            ("GET", "http://*.h/", BadRequest),
            ("GET", "/#a", BadRequest),
        ] {
            assert_eq!(Target::read(method, text), Err(reason), "{method} {text}");
        }
    }
}
