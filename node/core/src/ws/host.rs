//! Hosts in the form of the `Host` and `Origin` headers and of lists of hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the text is a label of a host name.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether the text is a host name: labels of letters, digits, `-` and `_`, perhaps with a dot after the last. When
/// the last label is a number the text is an address, which has one form only.
pub(crate) fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    name.split('.').all(is_label) && !is_number
}

/// The address that a host is, in the form of URLs: `10.0.0.1`, `[::1]`.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        // A browser never writes an IPv6 address with an IPv4 address in it.
        Some(rest) if !rest.contains('.') => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        Some(_) => None,
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Splits `host[:port]` of an origin into host and port. `None` when the port is no number from 1 to 65,535 without zeros in front.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => {
            let (host, port) = (&authority[..colon], &authority[colon + 1..]);
            let is_plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
            Some((host, Some(port.parse().ok().filter(|_| is_plain)?)))
        }
        _ => Some((authority, None)),
    }
}

/// Whether nothing or a port follows the host in a `Host` header. A port is one of RFC 3986, section 3.2.3: digits, of
/// which there may be none, also with zeros in front, for a number up to 65,535.
pub(crate) fn has_valid_port(authority: &str) -> bool {
    let end = if authority.starts_with('[') {
        let Some(bracket) = authority.find(']') else { return false };
        bracket + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let rest = &authority[end..];
    let is_port = |port: &str| {
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    };
    rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)
}

/// The host of `host[:port]` in a `Host` header; the port is not checked.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => &authority[..colon],
        _ => authority,
    }
}

/// Whether two hosts are the same.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || matches!((address(a), address(b)), (Some(a), Some(b)) if a == b)
}

/// Whether a host is the listed one, or, for `*.example.org`, has one label or more before the rest.
pub(crate) fn is_listed(host: &str, listed: &str) -> bool {
    let Some(rest) = listed.strip_prefix('*') else { return is_same(host, listed) };
    // The rest begins with its dot, so what is before it are whole labels.
    let Some(cut) = host.len().checked_sub(rest.len()) else { return false };
    let (front, back) = (host.get(..cut), host.get(cut..));
    front.is_some_and(|front| front.split('.').all(is_label))
        && back.is_some_and(|back| back.eq_ignore_ascii_case(rest))
}

/// Whether a list may hold this host: a name, also with `*.` in front, or an address.
pub(crate) fn is_entry(text: &str) -> bool {
    text.strip_prefix("*.").map_or_else(|| is_name(text) || address(text).is_some(), is_name)
}

/// A bound on the hosts that a node answers to, which holds beside any list. It is not in the file: dev mode sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// Any host.
    #[default]
    Any,
    /// `localhost` and loopback addresses. When somebody makes another name lead here, its pages name that host and
    /// are refused.
    Loopback,
    /// The same and every other address: a client that uses an address was not led here by somebody's name.
    Addresses,
}

impl Names {
    /// Whether a node may be addressed by this host, without a port.
    #[must_use]
    pub fn allow(self, host: &str) -> bool {
        let (is_loopback, is_address) = match address(host) {
            Some(address) => (address.is_loopback(), true),
            None => (host.eq_ignore_ascii_case("localhost"), false),
        };
        match self {
            Self::Any => true,
            Self::Loopback => is_loopback,
            Self::Addresses => is_loopback || is_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        for name in ["a", "a-b_c.example.org", "example.org.", "xn--bcher-kva.example", "1.a", "0xg"] {
            assert!(is_name(name) && address(name).is_none() && is_entry(name), "{name}");
        }
        for address_text in ["10.0.0.1", "[::1]", "[2001:DB8::1]"] {
            assert!(!is_name(address_text) && address(address_text).is_some() && is_entry(address_text));
        }
        for neither in
            ["", ".", "a..b", "a b", "bücher", "127.1", "1", "a.0x1", "a.0x", "::1", "[::1", "[::1.2.3.4]"]
        {
            assert!(!is_entry(neither), "{neither}");
        }
        assert!(is_entry("*.example.org") && !is_entry("*") && !is_entry("*.10.0.0.1") && !is_entry("*.*.a"));
    }

    #[test]
    fn a_wildcard_stands_for_one_label_or_more() {
        for (host, allowed) in [
            ("a.example.org", true),
            ("A.b.EXAMPLE.org", true),
            ("example.org", false),
            (".example.org", false),
            ("evilexample.org", false),
            ("a.example.org.evil", false),
            ("a.example.org.", false),
            ("..example.org", false),
            ("a..example.org", false),
            ("evil.test/.example.org", false),
            ("evil.test/a.example.org", false),
            ("evil.test@a.example.org", false),
            ("evil.test:80.example.org", false),
            ("evil.test\\.example.org", false),
            ("*.example.org", false),
            ("xn--bcher-kva.example.org", true),
            ("1.2.example.org", true),
            ("ü", false),
        ] {
            assert_eq!(is_listed(host, "*.example.org"), allowed, "{host}");
        }
        assert!(is_listed("[::1]", "[0:0:0:0:0:0:0:1]") && !is_listed("[::2]", "[::1]"));
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for (host, loopback, addresses) in [
            ("localhost", true, true),
            ("LOCALHOST", true, true),
            ("127.0.0.1", true, true),
            ("127.8.9.1", true, true),
            ("[::1]", true, true),
            ("10.0.0.1", false, true),
            ("[2001:db8::1]", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("", false, false),
        ] {
            let got = (Names::Loopback.allow(host), Names::Addresses.allow(host));
            assert_eq!(got, (loopback, addresses), "{host}");
            assert!(Names::Any.allow(host));
        }
    }

    #[test]
    fn a_request_is_judged_by_host_and_origin() {
        let rule = |host: Option<&str>, origin: Option<&str>| {
            Names::Loopback.allow_request(host.map(str::as_bytes), origin.map(str::as_bytes))
        };
        assert!(rule(Some("localhost:9400"), None) && rule(Some("[::1]:1"), Some("http://localhost:5173")));
        assert!(!rule(None, None) && !rule(Some("evil.example:80"), None));
        for origin in ["http://evil.example", "null", "", "file://", "http://localhost.evil.example:80"] {
            assert!(!rule(Some("127.0.0.1:9400"), Some(origin)), "{origin}");
        }
        assert!(Names::Any.allow_request(None, Some(b"\xff")));
    }
}
