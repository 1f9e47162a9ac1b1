//! What stands before a request of a proxy's: a header of the PROXY protocol, or one that names the client.

use std::net::{IpAddr, Ipv4Addr};

use crate::proxy::{
    ForwardedHeader, Networks,
    forwarded::client,
    header::{self, Beginning, MAX_PROXY_HEADER_BYTES},
    network::Network,
};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The bytes are the beginning of a connection, the lines of a header, and a network.
pub(super) fn check(bytes: &[u8]) {
    beginning(bytes);
    named(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(network) = Network::parse(text)
    {
        assert_eq!(Network::parse(&network.to_string()), Ok(network));
    }
}

/// A header is found whole, in whatever parts it comes, and a decision never changes.
fn beginning(bytes: &[u8]) {
    let whole = header::read(bytes);
    let end = match whole {
        Beginning::Header { bytes: end, client } => {
            assert!(end <= bytes.len() && end <= MAX_PROXY_HEADER_BYTES);
            assert!(client.is_none_or(|client| client == client.to_canonical()));
            assert_eq!(header::read(&bytes[..end]), whole);
            end
        }
        Beginning::Incomplete => {
            assert!(bytes.len() < MAX_PROXY_HEADER_BYTES, "a bound");
            bytes.len()
        }
        Beginning::Other => return,
    };
    for part in 0..end {
        assert_eq!(header::read(&bytes[..part]), Beginning::Incomplete, "{part}");
    }
}

/// The client is who a trusted proxy says, whatever stands before it.
fn named(bytes: &[u8]) {
    let trusted = Networks::read(&["10.0.0.0/8".to_owned()]);
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let lines = || bytes.split(|byte| *byte == b'\n');
        assert_eq!(
            client(CLIENT, lines(), header, &trusted),
            CLIENT,
            "no proxy is believed that is not trusted"
        );
        let found = client(PEER, lines(), header, &trusted);
        assert_eq!(found, found.to_canonical());
        let own = match header {
            ForwardedHeader::XForwardedFor => "192.0.2.1",
            ForwardedHeader::Forwarded => "proto=https;for=\"192.0.2.1:80\"",
        };
        assert_eq!(
            client(PEER, lines().chain([own.as_bytes()]), header, &trusted),
            CLIENT,
            "a line of its own"
        );
        let appended = [bytes, b", ", own.as_bytes()].concat();
        assert_eq!(client(PEER, [&appended[..]].into_iter(), header, &trusted), CLIENT, "the end of a line");
    }
}
