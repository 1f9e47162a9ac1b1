//! Which pages may connect: the `Origin` rules of the public port.
//!
//! A missing header is allowed (native clients send none), an empty one is refused as in Phoenix. Where origins are
//! listed the list alone decides. Otherwise the origin's host must be the host that the client addressed, whatever
//! the port. That keeps other people's pages out as long as only our own names lead here; [`Auth::served_hosts`]
//! makes sure of it.

use super::{
    entry::{host, matches},
    host::{self, Names},
};
use crate::config::Auth;

/// Hosts whose pages may connect in dev mode besides, so that an origin that is on a list can be tried. Nobody can
/// register such a name (RFC 6761, section 6.2). A resolver of the local network may still answer it, and the pages
/// that it leads to may then connect: dev mode holds nothing that is worth more.
const DEV_HOSTS: [&str; 2] = ["allowed.test", "*.allowed.test"];

/// Whether clients may address this node by that host, as the `Host` header or the request target has it.
#[must_use]
pub fn is_served(authority: &[u8], auth: &Auth) -> bool {
    if auth.names == Names::Any && auth.served_hosts.is_empty() {
        return true;
    }
    let Ok(authority) = std::str::from_utf8(authority) else { return false };
    let host = host::without_port(authority);
    let is_listed =
        auth.served_hosts.is_empty() || auth.served_hosts.iter().any(|l| host::is_listed(host, l));
    auth.names.allow(host) && is_listed
}

/// Whether a handshake with this `Origin`, addressed to that host, may go on.
#[must_use]
pub fn is_allowed(origin: Option<&[u8]>, addressed: &[u8], auth: &Auth) -> bool {
    let Some(origin) = origin else { return true };
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let listed = &auth.allowed_origins;
    if !listed.is_empty() {
        return !origin.is_empty() && listed.iter().any(|entry| matches(origin, entry));
    }
    let Some(host) = host(origin) else { return false };
    if auth.names != Names::Any {
        return auth.names.allow(host) || DEV_HOSTS.iter().any(|listed| host::is_listed(host, listed));
    }
    let Ok(addressed) = std::str::from_utf8(addressed) else { return false };
    let addressed = host::without_port(addressed);
    !addressed.is_empty() && host::is_same(host, addressed)
}

impl Names {
    /// Whether a request with these headers may be answered: its `Host` must be allowed, and its `Origin`, if there
    /// is one, must have such a host. For ports that have no other rule.
    #[must_use]
    pub fn allow_request(self, addressed: Option<&[u8]>, origin: Option<&[u8]>) -> bool {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let addressed = addressed.and_then(text).map(host::without_port);
        let origin = origin.map(|origin| text(origin).and_then(host));
        self == Self::Any
            || (addressed.is_some_and(|host| self.allow(host))
                && origin.is_none_or(|host| host.is_some_and(|host| self.allow(host))))
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;
    use crate::ws::entry::check_entry;

    fn auth(allowed_origins: &[&str], served_hosts: &[&str]) -> Auth {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Auth { allowed_origins: own(allowed_origins), served_hosts: own(served_hosts), ..Auth::default() }
    }

    #[test]
    fn without_a_list_the_addressed_host_is_allowed() {
        for (origin, allowed) in [
            (None, true),
            (Some(""), false),
            (Some("null"), false),
            (Some("http://chat.example.org"), true),
            (Some("https://CHAT.example.org:8443"), true),
            (Some("https://evil.example.org"), false),
            (Some("https://chat.example.org.evil.org"), false),
            (Some("https://chat.example.org."), false),
            (Some("https://chat.example.org@evil.org"), false),
            (Some("https://evil.org@chat.example.org"), false),
            (Some("https://evil.org/chat.example.org"), false),
            (Some("chat.example.org"), false),
            (Some("//chat.example.org"), false),
        ] {
            let got = is_allowed(origin.map(str::as_bytes), b"chat.example.org:4000", &Auth::default());
            assert_eq!(got, allowed, "{origin:?}");
        }
        assert!(is_allowed(Some(b"http://[::1]:3000"), b"[::1]", &Auth::default()));
        assert!(!is_allowed(Some(b"http://"), b"", &Auth::default()));
    }

    #[test]
    fn where_there_is_a_list_it_alone_counts() {
        let auth = auth(
            &[
                "https://app.example.org:443",
                "http://dev.example.org:3000",
                "https://*.example.net",
                "http://old.example.org:80",
                "null",
                "file://",
                "chrome-extension://abcdefghijklmnop",
                "capacitor://localhost",
                "tauri://localhost",
                "ionic://",
                "http://[0:0:0:0:0:0:0:1]:3000",
            ],
            &[],
        );
        for (origin, allowed) in [
            ("https://app.example.org", true),
            ("https://APP.example.org", true),
            ("https://app.example.org:8443", false),
            ("http://app.example.org", false),
            ("http://dev.example.org:3000", true),
            ("http://dev.example.org", false),
            ("http://old.example.org", true),
            ("https://a.example.net", true),
            ("https://a.b.example.net", true),
            ("https://example.net", false),
            ("https://evilexample.net", false),
            ("https://a.example.net:444", false),
            ("null", true),
            ("file://", true),
            ("chrome-extension://abcdefghijklmnop", true),
            ("chrome-extension://other", false),
            ("capacitor://localhost", true),
            ("tauri://localhost", true),
            ("ionic://", true),
            ("http://[::1]:3000", true),
            ("http://chat.example.org", false),
            ("", false),
        ] {
            assert_eq!(
                is_allowed(Some(origin.as_bytes()), b"chat.example.org", &auth),
                allowed,
                "{origin:?}"
            );
        }
        assert!(is_allowed(None, b"chat.example.org", &auth));
    }

    /// No browser sends most of these, and whoever does is not let in by the beginning or the end of a text.
    #[test]
    fn an_origin_that_resembles_a_listed_one_is_another() {
        let auth = auth(&["https://app.example.org", "https://*.example.net", "null"], &[]);
        for origin in [
            "https://evil-example.net",
            "https://example.net.evil.test",
            "https://a.example.net.evil.test",
            "https://evil.test/a.example.net",
            "https://evil.test/.example.net",
            "https://evil.test?.example.net",
            "https://evil.test#.example.net",
            "https://evil.test\\.example.net",
            "https://a.example.net@evil.test",
            "https://evil.test@a.example.net",
            "https://app.example.org@evil.test",
            "https://a.example.net:443@evil.test",
            "https://a.example.net.",
            "https://app.example.org.",
            "https://.example.net",
            "https://..example.net",
            "https://*.example.net",
            "https://b\u{fc}cher.example.net",
            "https://a.example.net:0443",
            "https://a.example.net:",
            "https://a.example.net/",
            "https:a.example.net",
            "https:///a.example.net",
            "//a.example.net",
            "a.example.net",
            "NULL",
            "null ",
            "null, https://app.example.org",
            "https://app.example.org https://evil.test",
        ] {
            assert!(!is_allowed(Some(origin.as_bytes()), b"chat.example.org", &auth), "{origin:?}");
        }
        for origin in
            ["https://xn--bcher-kva.example.net", "HTTPS://A.EXAMPLE.NET", "https://a.example.net:443"]
        {
            assert!(is_allowed(Some(origin.as_bytes()), b"chat.example.org", &auth), "{origin:?}");
        }
    }

    #[test]
    fn a_star_allows_all_but_an_empty_origin() {
        let auth = auth(&["*"], &[]);
        assert!(is_allowed(Some(b"null"), b"h", &auth) && is_allowed(Some(b"x-y"), b"h", &auth));
        assert!(!is_allowed(Some(b""), b"h", &auth));
    }

    #[test]
    fn only_served_hosts_are_answered_where_they_are_listed() {
        let listed = auth(&[], &["chat.example.org", "*.example.net", "[::1]"]);
        for (host, served) in [
            ("chat.example.org", true),
            ("CHAT.example.org:8080", true),
            ("a.example.net", true),
            ("[::1]:4000", true),
            ("example.net", false),
            ("evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_served(host.as_bytes(), &listed), served, "{host}");
        }
        assert!(is_served(b"evil.example", &Auth::default()) && !is_served(b"\xff", &listed));
    }

    #[test]
    fn in_dev_mode_the_names_of_this_machine_are_one() {
        let dev = Auth { names: Names::Loopback, ..Auth::default() };
        assert!(is_allowed(Some(b"http://localhost:5173"), b"127.0.0.1:4000", &dev));
        assert!(!is_allowed(Some(b"http://evil.example"), b"evil.example:80", &dev));
        assert!(is_allowed(Some(b"https://a.b.allowed.test"), b"127.0.0.1:4000", &dev));
        assert!(is_allowed(Some(b"http://allowed.test:8080"), b"127.0.0.1:4000", &dev));
        assert!(!is_allowed(Some(b"http://evilallowed.test"), b"127.0.0.1:4000", &dev));
        assert!(!is_served(b"evil.example:80", &dev) && is_served(b"localhost:80", &dev));
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_a_reason() {
        for bad in [
            "",
            "example.org",
            "https://",
            "https://app.example.org ",
            " https://app.example.org",
            "https://app.example.org/",
            "https://app.example.org/x",
            "https://u@h",
            "https://u:p@h",
            "https://h?x",
            "https://h#x",
            "https://h:0",
            "https://h:080",
            "https://h:65536",
            "https://h:",
            "https://*",
            "https://a.*.example.org",
            "https://*example.org",
            "https://*.*.example.org",
            "https://bücher.example",
            "https://127.1",
            "https://[::1",
            "https://a..b",
            "wss://example.org",
            "chrome-extension://*",
            "file:///",
            "app://:80",
            "1a://x",
            "**",
            "NULL",
        ] {
            assert!(check_entry(bad).is_err(), "{bad:?}");
        }
    }

    /// The `Origin` header that a browser with this origin sends.
    fn sent(entry: &str) -> String {
        let mut origin = entry.to_ascii_lowercase().replace('*', "a.b");
        for (scheme, port) in [("https://", ":443"), ("http://", ":80")] {
            if origin.starts_with(scheme)
                && let Some(short) = origin.strip_suffix(port)
            {
                origin = short.to_owned();
            }
        }
        origin
    }

    #[test]
    fn whatever_may_be_listed_matches_what_some_browser_sends() {
        const SCHEMES: [&str; 9] = [
            "https://",
            "http://",
            "HTTP://",
            "file://",
            "tauri://",
            "chrome-extension://",
            "wss://",
            "",
            "null",
        ];
        const PIECES: [&str; 19] = [
            "*",
            "*.",
            "a",
            "example.org",
            "LOCALHOST",
            ".",
            "10.0.0.1",
            "[::1]",
            "[2001:DB8:0:0:0:0:0:1]",
            ":",
            ":80",
            ":443",
            ":8443",
            "0x1",
            "-",
            "/",
            "@",
            " ",
            "://",
        ];
        let mut accepted = 0;
        let mut check = |entry: &str| {
            if check_entry(entry).is_ok() {
                accepted += 1;
                let (listed, header) = (auth(&[entry], &[]), sent(entry));
                let allowed = is_allowed(Some(header.as_bytes()), b"other.example", &listed);
                assert!(allowed, "{entry:?}: {header:?}");
            }
        };
        ["https://*.A.example.org:443", "http://[::1]:80", "tauri://localhost", "null", "file://"]
            .iter()
            .for_each(|entry| check(entry));
        arbtest(|u| {
            let mut entry = (*u.choose(&SCHEMES)?).to_owned();
            for _ in 0..u.int_in_range(0..=3)? {
                entry.push_str(u.choose::<&str>(&PIECES)?);
            }
            check(&entry);
            Ok(())
        });
        assert!(accepted >= 5, "only {accepted} could be listed");
    }
}
