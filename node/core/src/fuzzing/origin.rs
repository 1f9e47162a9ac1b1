//! The head of a request, and which pages may connect.

use crate::{
    broadcast::NodeTag,
    config::Auth,
    longpoll::{
        self,
        token::{KEY_BYTES, TokenKey},
    },
    ws::{
        entry::check_entry,
        handshake::{self, Page, Request, Rules},
        host::Names,
        origin::{is_allowed, is_served},
    },
};

/// The bytes up to the first line feed are an entry of the list, those up to the second the host, then comes the
/// origin. All of them together are also the head of a request.
pub(super) fn check(bytes: &[u8]) {
    head(bytes);
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (entry, host, origin) = (next(), next(), next());
    let Ok(entry) = std::str::from_utf8(entry) else { return };
    let list = |entry: &str| Auth { allowed_origins: vec![entry.to_owned()], ..Auth::default() };
    let listed = list(entry);
    assert!(is_allowed(None, host, &listed), "programs send no origin");
    assert!(!is_allowed(Some(b""), host, &listed), "an empty one is refused");
    assert!(is_allowed(Some(b"https://anywhere"), host, &list("*")));
    let allowed = is_allowed(Some(origin), host, &listed);
    assert_eq!(allowed, is_allowed(Some(origin), b"elsewhere.invalid", &listed), "the list alone counts");
    if entry != "*" && !entry.contains('*') && allowed {
        // The two are equal except for case, the scheme's own port and the form of an address.
        let scheme = |text: &[u8]| text.split(|byte| *byte == b':').next().map(<[u8]>::to_ascii_lowercase);
        assert_eq!(scheme(origin), scheme(entry.as_bytes()), "{entry:?}");
    }
    if check_entry(entry).is_ok() && entry != "*" {
        let sent = entry.replace('*', "a");
        assert!(is_allowed(Some(sent.as_bytes()), b"elsewhere", &listed), "{entry:?} is listed and matches");
    }
    for names in [Names::Loopback, Names::Addresses] {
        let dev = Auth { names, ..Auth::default() };
        assert!(!is_served(b"evil.example", &dev) && !is_allowed(Some(b"http://evil.example"), host, &dev));
        assert_eq!(names.allow_request(Some(host), None), is_served(host, &dev));
    }
}

/// A head that grows byte by byte is incomplete until it is decided, and then the decision is that of the whole head.
fn head(bytes: &[u8]) {
    let auth = Auth { allowed_origins: vec!["https://app.example.org".to_owned()], ..Auth::default() };
    let key = TokenKey::new(&[7; KEY_BYTES], NodeTag::of(1));
    let long_poll = longpoll::request::Rules { key: &key, peers: None, max_body_bytes: 1_000, dev: true };
    let rules = Rules {
        path: "/socket",
        max_head_bytes: 32 << 10,
        auth: &auth,
        page: Some(Page { html: b"<p>", policy: "" }),
        ready: true,
        dev: true,
        client: None,
        long_poll: Some(long_poll),
        deflate_window_bits: Some(15),
    };
    let whole = handshake::read(bytes, &rules);
    if let Request::Upgrade { head_len, response, .. } = &whole {
        assert!(*head_len <= bytes.len() && response.ends_with(b"\r\n\r\n"));
        assert_eq!(
            handshake::read(&bytes[..*head_len], &rules),
            whole,
            "what follows the head is not looked at"
        );
        // For short heads each byte is tried; for long ones some, since each try costs as much as the head is long.
        for end in (0..*head_len).step_by(1 + head_len / 256).chain([head_len - 1]) {
            assert_eq!(handshake::read(&bytes[..end], &rules), Request::Incomplete, "{end}");
            assert!(
                handshake::may_be_whole(&bytes[..*head_len], end, rules.max_head_bytes),
                "its end is seen in whatever parts it comes"
            );
        }
    }
    match whole {
        Request::LongPoll(request) => assert!(request.head_len <= bytes.len()),
        Request::Declined(_, response) => {
            // What a client sent must make no header of its own.
            let end = response.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
            assert!(response.starts_with(b"HTTP/1.1 ") && response[end + 4..].iter().all(|b| *b != b'\r'));
        }
        Request::Refused(reason) => assert!(handshake::refusal(reason).starts_with(b"HTTP/1.1 ")),
        Request::Incomplete | Request::Upgrade { .. } | Request::Answer(_) => {}
    }
}
