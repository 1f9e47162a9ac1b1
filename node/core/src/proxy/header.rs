//! The header of the PROXY protocol, which stands before the first byte of a connection: version 1 in text and version
//! 2 in binary (haproxy/doc/proxy-protocol.txt, "The PROXY protocol", sections 2.1 and 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest line of version 1 in bytes, with its end (section 2.1).
const LINE_BYTES: usize = 107;
/// The beginning of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const FIXED_BYTES: usize = 16;
/// Longest header in bytes. Addresses take at most 216; the rest is for what proxies add to them, of which the largest in
/// use, a client's certificate data, takes some hundred bytes.
pub const MAX_PROXY_HEADER_BYTES: usize = 2_048;

/// What stands at the beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A header that is not complete.
    Incomplete,
    /// A whole header.
    Header {
        /// Its length in bytes; what follows is the client's.
        bytes: usize,
        /// The client's address. None when the proxy speaks for itself, as in a health check, or for a client that has
        /// none.
        client: Option<IpAddr>,
    },
    /// Anything else.
    Other,
}

/// Looks for a header at the beginning of a connection.
#[must_use]
pub fn read(bytes: &[u8]) -> Beginning {
    let is_begun = |prefix: &[u8]| bytes.len() < prefix.len() && prefix.starts_with(bytes);
    if bytes.starts_with(&SIGNATURE) {
        read_binary(bytes).unwrap_or(Beginning::Other)
    } else if bytes.starts_with(b"PROXY ") {
        read_line(bytes).unwrap_or(Beginning::Other)
    } else if is_begun(&SIGNATURE) || is_begun(b"PROXY ") {
        Beginning::Incomplete
    } else {
        Beginning::Other
    }
}

fn read_line(bytes: &[u8]) -> Option<Beginning> {
    let within = &bytes[..bytes.len().min(LINE_BYTES)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return (bytes.len() < LINE_BYTES).then_some(Beginning::Incomplete);
    };
    let line = std::str::from_utf8(within[..end].strip_suffix(b"\r")?).ok()?;
    if line.contains('\r') {
        return None;
    }
    let mut words = line.split(' ').skip(1);
    let client = match words.next()? {
        // Whatever follows is to be ignored.
        "UNKNOWN" => None,
        family @ ("TCP4" | "TCP6") => {
            let (source, destination) = (words.next()?, words.next()?);
            let (from, to) = (words.next()?, words.next()?);
            let read = |text: &str| -> Option<IpAddr> {
                match family {
                    "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                    _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                }
            };
            let source = read(source)?;
            read(destination)?;
            if !is_port(from) || !is_port(to) || words.next().is_some() {
                return None;
            }
            Some(source.to_canonical())
        }
        _ => return None,
    };
    Some(Beginning::Header { bytes: end + 1, client })
}

/// Whether this is a number from 0 to 65,535 without zeros in front.
fn is_port(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain && text.parse::<u16>().is_ok()
}

fn read_binary(bytes: &[u8]) -> Option<Beginning> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else {
        // What is there already may be wrong already.
        return bytes
            .get(SIGNATURE.len())
            .is_none_or(|command| command >> 4 == 2)
            .then_some(Beginning::Incomplete);
    };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let whole = FIXED_BYTES + length;
    if whole > MAX_PROXY_HEADER_BYTES {
        return None;
    }
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return None,
    };
    // A stream, or what cannot be said; nothing else can have come here.
    let least = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ if !is_proxied => 0,
        _ => return None,
    };
    if is_proxied && length < least {
        return None;
    }
    let Some(rest) = bytes.get(FIXED_BYTES..whole) else { return Some(Beginning::Incomplete) };
    let client = match family {
        _ if !is_proxied => None,
        0x11 => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        0x21 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets).to_canonical()),
        _ => None,
    };
    Some(Beginning::Header { bytes: whole, client })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn whole(bytes: &[u8], client: Option<&str>) {
        let client = client.map(|text| text.parse().unwrap());
        let header = Beginning::Header { bytes: bytes.len(), client };
        assert_eq!(read(bytes), header);
        let more = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(read(&more), header, "what follows is not looked at");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Beginning::Incomplete, "{end}");
        }
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        whole(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255"));
        whole(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1"));
        whole(b"PROXY TCP6 2001:db8::1 ::1 0 443\r\n", Some("2001:db8::1"));
        whole(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 443\r\n", Some("192.0.2.1"));
        whole(b"PROXY UNKNOWN\r\n", None);
        whole(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None);
        whole(&binary(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]), Some("192.0.2.1"));
        let v6: Vec<u8> = [[0x20; 16], [1; 16]].concat().into_iter().chain([0, 1, 0, 2]).collect();
        whole(&binary(0x21, 0x21, &v6), Some("2020:2020:2020:2020:2020:2020:2020:2020"));
        let with_more = [&[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4][..], &[4, 0, 1, 0]].concat();
        whole(&binary(0x21, 0x11, &with_more), Some("192.0.2.1"));
        whole(&binary(0x20, 0x00, &[]), None);
        whole(&binary(0x20, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]), None);
        whole(&binary(0x21, 0x00, &[]), None);
        whole(&binary(0x21, 0x31, &[b'x'; 216]), None);
    }

    #[test]
    fn anything_else_is_no_header() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"proxy TCP4",
            b"PROXY\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            b"PROXY TCP4 1.2.3.4\r1.2.3.4 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY \xff\r\n",
            long.as_bytes(),
            &binary(0x11, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x12, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x21, 0x11, &[0; MAX_PROXY_HEADER_BYTES]),
            b"\r\n\r\n\0\r\nQUIT\n\x31",
        ] {
            assert_eq!(read(other), Beginning::Other, "{:?}", String::from_utf8_lossy(other));
        }
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read(source in any::<[u8; 16]>(), v6 in any::<bool>(), ports in any::<(u16, u16)>(),
            extra in proptest::collection::vec(any::<u8>(), 0..300)) {
            let source = if v6 { IpAddr::from(source) } else { IpAddr::from([source[0], source[1], source[2], source[3]]) };
            let (family, name, octets) = match source {
                IpAddr::V4(v4) => (0x11, "TCP4", v4.octets().to_vec()),
                IpAddr::V6(v6) => (0x21, "TCP6", v6.octets().to_vec()),
            };
            let rest = [&octets[..], &octets, &ports.0.to_be_bytes(), &ports.1.to_be_bytes(), &extra].concat();
            let line = format!("PROXY {name} {source} {source} {} {}\r\n", ports.0, ports.1);
            for header in [binary(0x21, family, &rest), line.into_bytes()] {
                let expected = Beginning::Header { bytes: header.len(), client: Some(source.to_canonical()) };
                prop_assert_eq!(read(&header), expected);
                prop_assert_eq!(read(&header[..header.len() - 1]), Beginning::Incomplete);
            }
        }

        /// More bytes never change what was decided, and a decision comes within the bound.
        #[test]
        fn a_decision_is_final(bytes in proptest::collection::vec(any::<u8>(), 0..64), as_line in any::<bool>()) {
            let start: &[u8] = if as_line { b"PROXY " } else { &SIGNATURE };
            let all = [start, &bytes, &[b'x'; MAX_PROXY_HEADER_BYTES]].concat();
            prop_assert!(read(&all) != Beginning::Incomplete);
            let mut decided = None;
            for end in 0..all.len() {
                let now = read(&all[..end]);
                if let Some(before) = decided {
                    prop_assert_eq!(now, before);
                } else if now != Beginning::Incomplete {
                    decided = Some(now);
                }
            }
        }
    }
}
