//! What a browser says with a request to the dashboard: its session, and from where it was made.

use axum::http::{
    HeaderMap, HeaderValue, Uri,
    header::{self, HeaderName},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use node_core::dashboard::sessions::SESSION_MILLIS;

/// Random bytes of the id of a session.
pub(super) const ID_BYTES: usize = 32;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The cookie with the id of a session.
#[derive(Debug)]
pub(super) struct Cookie {
    name: String,
}

impl Cookie {
    /// A cookie with a name of this process' own. Browsers do not tell the ports of a host apart: with one name for all nodes, a
    /// login to one that is reached at another port of `localhost` would end the session of the first.
    pub(super) fn new() -> Self {
        Self { name: format!("channelcluster-dashboard-{:08x}", rand::random::<u32>()) }
    }

    /// The id that a request has.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<[u8; ID_BYTES]> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == self.name)?;
        URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()
    }

    /// The header that gives an id to a browser, for use by TLS alone if it came so.
    pub(super) fn give(&self, id: &[u8; ID_BYTES], by_tls: bool) -> HeaderValue {
        self.header(&URL_SAFE_NO_PAD.encode(id), SESSION_MILLIS / 1_000, by_tls)
    }

    /// The header that takes it away.
    pub(super) fn take(&self, by_tls: bool) -> HeaderValue {
        self.header("", 0, by_tls)
    }

    fn header(&self, value: &str, seconds: u64, by_tls: bool) -> HeaderValue {
        let secure = if by_tls { "; Secure" } else { "" };
        let text =
            format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", self.name);
        // It is made of letters and digits.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Whether the browser came by TLS, which a proxy ends in front of this port.
pub(super) fn is_by_tls(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

/// Whether a form was sent from a page of this site. The browser says so in `Sec-Fetch-Site` (Fetch Metadata); where it does not, as
/// to `http://` without a name of this machine, the origin has to be that of the request. Without both nothing is known.
pub(super) fn is_of_this_site(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return [b"same-origin".as_slice(), b"none"].contains(&site.as_bytes());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the address.
    let host = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin =
        origin.and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")));
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    #[test]
    fn a_form_of_another_site_is_told_from_one_of_this_one() {
        let uri = Uri::from_static("/dashboard/login");
        let is_ours = |pairs: &[(&'static str, &str)]| is_of_this_site(&uri, &headers(pairs));
        for good in [
            &[("host", "n:9400"), ("origin", "http://n:9400")][..],
            &[("host", "N.example"), ("origin", "https://n.example")],
            &[("host", "behind:1"), ("origin", "https://n.example"), ("sec-fetch-site", "same-origin")],
            &[("host", "n"), ("sec-fetch-site", "none")],
        ] {
            assert!(is_ours(good), "{good:?}");
        }
        for bad in [
            &[("host", "n:9400")][..],
            &[("host", "n:9400"), ("origin", "null")],
            &[("host", "n:9400"), ("origin", "http://n:9401")],
            &[("host", "n:9400"), ("origin", "http://n:9400.evil.test")],
            &[("host", "n:9400"), ("origin", "http://evil.test/n:9400")],
            &[("host", "n:9400"), ("origin", "ftp://n:9400")],
            &[("host", "n"), ("origin", "http://n"), ("sec-fetch-site", "cross-site")],
            &[("host", "n"), ("origin", "http://n"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://n")],
        ] {
            assert!(!is_ours(bad), "{bad:?}");
        }
        let http2 = Uri::from_static("http://n:9400/dashboard/login");
        assert!(is_of_this_site(&http2, &headers(&[("origin", "http://n:9400")])));
    }

    #[test]
    fn the_cookie_is_found_among_others_and_nothing_else_is_taken_for_it() {
        let (cookie, id) = (Cookie::new(), [7; ID_BYTES]);
        let given = cookie.give(&id, false);
        let pair = given.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        let read = |text: &str| cookie.read(&headers(&[("cookie", text)]));
        assert_eq!(read(&pair), Some(id));
        assert_eq!(read(&format!("a=b; {pair}; c=d")), Some(id));
        let (name, value) = pair.split_once('=').expect("a pair");
        for bad in [format!("x{pair}"), format!("other={value}"), format!("{name}=AAAA"), format!("{name}=%")]
        {
            assert_eq!(read(&bad), None, "{bad}");
        }
        assert_ne!(Cookie::new().name, cookie.name);
    }
}
