//! The headers in which a proxy names the client that it speaks for: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//!
//! Each proxy on the way appends the address that it saw, so the list is read from its end. An entry counts when the
//! one who wrote it is trusted: the first address from the end that belongs to no trusted proxy is the client's, and
//! what stands before it may be anybody's invention. One of the two headers counts, and not both: a proxy that appends
//! to one passes the other on as the client made it.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::Networks;

/// Most entries of a chain that are looked at, from its end. A request passes one to three proxies.
const MAX_HOPS: usize = 16;

/// The header that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

impl ForwardedHeader {
    /// Its name in a request, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The address that an entry of the header names; `None` for `unknown`, names that hide one, and what is none.
    fn address(self, entry: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(entry.trim_ascii()),
            Self::Forwarded => {
                let mut found = None;
                for pair in split_outside_quotes(entry, b';') {
                    let equals = pair.iter().position(|byte| *byte == b'=')?;
                    let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
                    if name.eq_ignore_ascii_case(b"for") {
                        // RFC 7239 section 4: each parameter once.
                        if found.is_some() {
                            return None;
                        }
                        found = Some(node(unquoted(value)?)?);
                    }
                }
                found
            }
        }
    }
}

/// The client of a request, which the proxy that sent it names in a header.
#[derive(Debug)]
pub struct Search<'a> {
    peer: IpAddr,
    header: ForwardedHeader,
    trusted: &'a Networks,
    found: Cell<Option<IpAddr>>,
}

impl<'a> Search<'a> {
    /// A search for the client of a request from a trusted proxy.
    #[must_use]
    pub const fn new(peer: IpAddr, header: ForwardedHeader, trusted: &'a Networks) -> Self {
        Self { peer, header, trusted, found: Cell::new(None) }
    }

    /// The name of the header that has to be looked at, in lower case.
    #[must_use]
    pub const fn header(&self) -> &'static str {
        self.header.name()
    }

    /// Looks at the values of that header, in their order.
    pub fn look<'v>(&self, values: impl DoubleEndedIterator<Item = &'v [u8]>) {
        self.found.set(Some(client(self.peer, values, self.header, self.trusted)));
    }

    /// The client; none before the head of the request was whole.
    #[must_use]
    pub const fn found(&self) -> Option<IpAddr> {
        self.found.get()
    }
}

/// The client's address, when a trusted `peer` has sent a request with these values of the header, in their order.
///
/// An entry that names no address counts as the address of the proxy that wrote it. So does a missing header: it was
/// the proxy that asked.
#[must_use]
pub fn client<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    header: ForwardedHeader,
    trusted: &Networks,
) -> IpAddr {
    let mut known = peer;
    let entries = values.rev().flat_map(|value| FromEnd(Some(value)));
    for entry in entries.take(MAX_HOPS) {
        if !trusted.contain(known) {
            break;
        }
        match header.address(entry) {
            Some(address) => known = address.to_canonical(),
            None => break,
        }
    }
    known
}

/// The entries of a list with commas, the last one first. A comma between quotes belongs to its entry; the quotes are
/// paired from the end, so that a single quote that a client has left in its own entries does not swallow the entry
/// that a proxy has appended.
struct FromEnd<'a>(Option<&'a [u8]>);

impl<'a> Iterator for FromEnd<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let left = self.0.take()?;
        let mut quoted = false;
        for (at, byte) in left.iter().enumerate().rev() {
            match byte {
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    self.0 = Some(&left[..at]);
                    return Some(&left[at + 1..]);
                }
                _ => {}
            }
        }
        Some(left)
    }
}

fn split_outside_quotes(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    bytes.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == separator && !quoted
    })
}

/// The text of a token or of a quoted string. No address needs a backslash.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(value) };
    rest.strip_suffix(b"\"").filter(|text| !text.iter().any(|byte| b"\"\\".contains(byte)))
}

/// An address in one of the forms that proxies write: alone, in brackets, with a port.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').unwrap_or(if port.is_empty() { "0" } else { "" });
        return is_port(port).then(|| address.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?;
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let (address, port) = text.rsplit_once(':')?;
    is_port(port).then(|| address.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?
}

/// Whether this is a port or a name that hides one (RFC 7239 section 6).
fn is_port(text: &str) -> bool {
    let hidden = text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    hidden || (!text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn trusted() -> Networks {
        Networks::read(&["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()])
    }

    fn found(header: ForwardedHeader, peer: &str, values: &[&str]) -> String {
        let values = values.iter().map(|value| value.as_bytes());
        client(peer.parse().unwrap(), values, header, &trusted()).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        let x = |peer, values: &[&str]| found(ForwardedHeader::XForwardedFor, peer, values);
        assert_eq!(x(PEER, &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(
            x(PEER, &["198.51.100.9, 203.0.113.7, 10.0.0.2"]),
            "203.0.113.7",
            "what is before is not believed"
        );
        assert_eq!(
            x(PEER, &["198.51.100.9", "203.0.113.7"]),
            "203.0.113.7",
            "each proxy may add a line of its own"
        );
        assert_eq!(x("192.0.2.1", &["203.0.113.7"]), "192.0.2.1", "not a proxy");
        assert_eq!(x(PEER, &[]), PEER);
        assert_eq!(x(PEER, &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "a client among the proxies");
        for (entry, is) in [
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("\t203.0.113.7 ", "203.0.113.7"),
            ("unknown", PEER),
            ("_hidden", PEER),
            ("", PEER),
            ("203.0.113.7:", PEER),
            ("203.0.113.7 x", PEER),
            ("203.0.113", PEER),
            ("[203.0.113.7]", PEER),
            ("[2001:db8::1]4711", PEER),
        ] {
            assert_eq!(x(PEER, &[&format!("198.51.100.9,{entry}")]), is, "{entry}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_writes_it() {
        let f = |values: &[&str]| found(ForwardedHeader::Forwarded, PEER, values);
        assert_eq!(f(&["For=\"[2001:db8:cafe::17]:4711\";proto=https"]), "2001:db8:cafe::17");
        assert_eq!(f(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60");
        assert_eq!(f(&["for=192.0.2.43, for=198.51.100.17"]), "198.51.100.17");
        assert_eq!(
            f(&["for=192.0.2.43", "proto=http; for=198.51.100.17;host=\"a,b;for=x\""]),
            "198.51.100.17"
        );
        assert_eq!(f(&["for=192.0.2.43,for=10.0.0.9;by=_hidden"]), "192.0.2.43");
        for nobody in
            ["for=unknown", "proto=http", "for=\"", "for", "", "for=1.2.3.4;for=5.6.7.8", "for=\"1.2.3.4\\\""]
        {
            assert_eq!(f(&[nobody]), PEER, "{nobody}");
        }
    }

    #[test]
    fn a_client_cannot_swallow_what_a_proxy_appends() {
        for forged in
            ["for=\"", "for=\"1.2.3.4", "for=\"a\\\"", "\"\"\"", "for=1.2.3.4;host=\"x", ",,,", "for=\\"]
        {
            let line = format!("{forged}, for=\"203.0.113.7:80\"");
            assert_eq!(found(ForwardedHeader::Forwarded, PEER, &[&line]), "203.0.113.7", "{forged}");
        }
    }

    #[test]
    fn a_chain_without_an_end_is_cut() {
        let long = vec!["10.0.0.2"; 10_000].join(",");
        assert_eq!(found(ForwardedHeader::XForwardedFor, PEER, &[&long]), "10.0.0.2");
        let long = format!("203.0.113.7,{}", vec!["10.0.0.2"; MAX_HOPS].join(","));
        assert_eq!(found(ForwardedHeader::XForwardedFor, PEER, &[&long]), "10.0.0.2");
    }

    proptest! {
        /// Whatever a client writes before it, the address that a trusted proxy appends is the one that is found.
        #[test]
        fn what_a_proxy_appends_counts(forged in proptest::collection::vec(any::<u8>(), 0..200), bits in any::<u128>()) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical();
            prop_assume!(!trusted().contain(address));
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                let own = match (header, address) {
                    (ForwardedHeader::XForwardedFor, _) => format!(", {address}"),
                    (_, IpAddr::V4(_)) => format!(", for={address};proto=https"),
                    (_, IpAddr::V6(_)) => format!(", proto=https;for=\"[{address}]:1\""),
                };
                let line = [&forged, own.as_bytes()].concat();
                let peer = PEER.parse().unwrap();
                prop_assert_eq!(client(peer, [&line[..]].into_iter(), header, &trusted()), address);
            }
        }
    }
}
