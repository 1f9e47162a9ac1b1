//! The grammar of origins, and of the entries of a list of origins.
//!
//! A list takes only what browsers send (RFC 6454 section 6.2, and URLs as the WHATWG writes them), so that no entry
//! can be listed that never matches. The CRD has the same grammar as regular expressions; a test holds the two
//! together.

use super::host;

/// The parts of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = host::split_port(authority)?;
        let first = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let is_scheme = first && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        is_scheme.then_some(Self { scheme, host, port })
    }

    fn is_web(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("http") || self.scheme.eq_ignore_ascii_case("https")
    }

    /// Browsers leave the scheme's own port out.
    fn port(&self) -> Option<u16> {
        let usual = if self.scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
        self.port.or(Some(usual)).filter(|_| self.is_web()).or(self.port)
    }

    fn is_listed(&self, listed: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(listed.scheme)
            && self.port() == listed.port()
            && host::is_listed(self.host, listed.host)
    }
}

/// The host of an origin, if it has one.
pub(super) fn host(origin: &str) -> Option<&str> {
    Parts::read(origin).map(|parts| parts.host)
}

/// Whether an origin, as a browser sends it, is meant by an entry of a list.
pub(super) fn matches(origin: &str, entry: &str) -> bool {
    match entry {
        "*" => true,
        "null" => origin == "null",
        _ => match (Parts::read(origin), Parts::read(entry)) {
            (Some(origin), Some(entry)) => origin.is_listed(&entry),
            _ => false,
        },
    }
}

/// Checks an entry of a list of origins.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_entry(entry: &str) -> Result<(), &'static str> {
    if matches!(entry, "*" | "null") {
        return Ok(());
    }
    let has = |chars: &[char]| entry.contains(chars);
    if entry.contains(char::is_whitespace) {
        return Err("has a blank in it: remove it");
    }
    if !entry.is_ascii() {
        return Err("has letters that browsers send in another form: write the host as xn--...");
    }
    let Some((_, authority)) = entry.split_once("://") else {
        return Err("has no scheme: write https://HOST or https://HOST:PORT");
    };
    if has(&['@']) {
        return Err("names a user, which browsers do not send: leave it out");
    }
    if has(&['?', '#']) {
        return Err("has a query or fragment, which browsers do not send: leave it out");
    }
    if authority.contains('/') {
        return Err("has a path, which browsers do not send: leave it out, and the / at the end as well");
    }
    let Some(parts) = Parts::read(entry) else {
        return Err("has no scheme or port that a browser sends: write https://HOST or https://HOST:PORT");
    };
    if ["ws", "wss"].iter().any(|scheme| parts.scheme.eq_ignore_ascii_case(scheme)) {
        return Err("is an address of a socket: write the origin of the page, https://HOST");
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match parts.is_web() {
        true if host::is_entry(parts.host) => Ok(()),
        true if parts.host.contains('*') => {
            Err("has * in a place where it stands for nothing: write https://*.HOST, for one label or more")
        }
        true => Err("has no host as browsers send it: write a name, 10.0.0.1 or [::1]"),
        false if parts.host.contains('*') => Err("has *, which counts only after http:// and https://"),
        false if parts.host.bytes().all(is_plain) && (!parts.host.is_empty() || parts.port.is_none()) => {
            Ok(())
        }
        false => Err("has no host as apps and extensions send it: write SCHEME://ID, or SCHEME://"),
    }
}
