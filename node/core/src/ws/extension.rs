//! The header `Sec-WebSocket-Extensions` (RFC 6455 section 9.1): permessage-deflate is the one extension that there is.

use super::deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS};

const NAME: &str = "permessage-deflate";
/// What every answer says, whether the client asked for it or not: no message needs the ones before it.
const ALWAYS: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What was agreed about compressed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Largest window of the server, as its base-2 logarithm, where the client asked for a bound.
    server_max_window_bits: Option<u8>,
}

impl Agreed {
    /// Size of the window that the client keeps, as its base-2 logarithm.
    #[must_use]
    pub fn window_bits(self) -> u8 {
        self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS)
    }

    /// The value of the header in the answer.
    pub(crate) fn answer(self) -> String {
        match self.server_max_window_bits {
            Some(bits) => format!("{ALWAYS}; server_max_window_bits={bits}"),
            None => ALWAYS.to_owned(),
        }
    }
}

/// The first offer of permessage-deflate that can be taken; none when there is none. The server cannot compress within a
/// window smaller than `least_window_bits`, and declines offers that ask for it.
///
/// A quoted value may hold what separates offers and parameters, but no value of this extension does: what such a
/// text is cut into has another name or a value that is none, and is declined as well.
pub(crate) fn negotiate<'h>(lines: impl Iterator<Item = &'h [u8]>, least_window_bits: u8) -> Option<Agreed> {
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .find_map(|offer| read(offer, least_window_bits.max(MIN_WINDOW_BITS)))
}

/// What one offer comes to. A parameter that is not known, has a wrong value or comes twice declines it (RFC 7692 section 7).
fn read(offer: &[u8], least_window_bits: u8) -> Option<Agreed> {
    let mut parts = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(NAME.as_bytes()) {
        return None;
    }
    let (mut seen, mut server_max_window_bits) = (0_u8, None);
    for part in parts {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (part[..at].trim_ascii(), Some(part[at + 1..].trim_ascii())),
            None => (part, None),
        };
        let name = name.to_ascii_lowercase();
        let bit = match (&*name, value) {
            (b"server_no_context_takeover", None) => 1,
            (b"client_no_context_takeover", None) => 1 << 1,
            // It says how little the client could do with, and the answer need not ask for it: each message is inflated
            // with the largest window.
            (b"client_max_window_bits", None) => 1 << 2,
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                1 << 2
            }
            (b"server_max_window_bits", Some(value)) => {
                server_max_window_bits = Some(window_bits(value).filter(|bits| *bits >= least_window_bits)?);
                1 << 3
            }
            _ => return None,
        };
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
    }
    Some(Agreed { server_max_window_bits })
}

/// A number from 8 to 15 without leading zeros (RFC 7692 section 7.1.2.1), which may stand in quotes.
fn window_bits(value: &[u8]) -> Option<u8> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match inner.unwrap_or(value) {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&str], least: u8) -> Option<String> {
        negotiate(lines.iter().map(|line| line.as_bytes()), least).map(Agreed::answer)
    }

    #[test]
    fn no_context_is_kept_whatever_the_client_asks() {
        for offer in [
            // Chromium, Firefox, Node.js' ws and undici, and Python's websockets say this.
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "Permessage-Deflate ;  client_max_window_bits = \"8\"",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
        ] {
            assert_eq!(answer(&[offer], 15).as_deref(), Some(ALWAYS), "{offer}");
        }
        assert_eq!(answer(&["foo; a=\"b, c\"", "permessage-deflate"], 15).as_deref(), Some(ALWAYS));
    }

    #[test]
    fn a_window_of_the_servers_is_bounded_or_declined() {
        let ask = |bits: &str| format!("permessage-deflate; server_max_window_bits={bits}");
        let agreed = |bits: u8| Some(format!("{ALWAYS}; server_max_window_bits={bits}"));
        assert_eq!(answer(&[&ask("15")], 15), agreed(15));
        assert_eq!(answer(&[&ask("14")], 15), None);
        assert_eq!(answer(&[&ask("\"9\"")], 9), agreed(9));
        assert_eq!(answer(&[&ask("8")], 8), None, "zlib has no such window");
        // The next offer counts when the first is declined.
        let both = format!("{}, permessage-deflate; client_max_window_bits", ask("10"));
        assert_eq!(answer(&[&both], 15).as_deref(), Some(ALWAYS));
        let offer = negotiate([ask("11").as_bytes()].into_iter(), 9);
        assert_eq!(offer.map(Agreed::window_bits), Some(11));
    }

    #[test]
    fn wrong_offers_are_declined() {
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate2",
            "permessage-deflate; foo",
            "permessage-deflate; ",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"",
            "permessage-deflate; client_max_window_bits=a",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover=\"\"",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(answer(&[offer], 9), None, "{offer}");
        }
    }
}
