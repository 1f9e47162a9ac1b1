//! The subprotocols that a client offers, and the token that phoenix.js puts among them. A page of a browser can set no
//! other header of a handshake, and a token in the URL would end up in the logs of proxies.

use base64::Engine as _;

use super::base64::PADDED_OR_NOT;
use crate::counters::RefuseReason;

/// The subprotocol of phoenix.js 1.8, echoed when offered.
pub(super) const PHOENIX: &str = "phoenix";
/// The beginning of the entry with the token, by which phoenix.js tells it from subprotocols.
const TOKEN_PREFIX: &[u8] = b"base64url.bearer.phx.";

/// What a client offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// Whether [`PHOENIX`] is among it, and so is to be echoed.
    pub(super) phoenix: bool,
    /// The token, which is never echoed.
    pub(super) token: Option<String>,
}

/// Reads the lines of the header `Sec-WebSocket-Protocol`, as phoenix/lib/phoenix/transports/websocket.ex does: one
/// entry with a token is taken out, and any others must have `phoenix` among them. Two tokens are none.
///
/// # Errors
/// [`RefuseReason::Subprotocol`] when `phoenix` is missing, or the token is no base64 of a text.
pub(super) fn read<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Result<Offer, RefuseReason> {
    let (mut offered, mut tokens, mut others, mut phoenix) = (false, 0, false, false);
    let mut encoded: &[u8] = b"";
    for line in lines {
        offered = true;
        for entry in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if let Some(token) = entry.strip_prefix(TOKEN_PREFIX) {
                (encoded, tokens) = (token, tokens + 1);
            } else if !entry.is_empty() {
                others = true;
                phoenix |= entry == PHOENIX.as_bytes();
            }
        }
    }
    let has_token = tokens == 1;
    if offered && !phoenix && (others || !has_token) {
        return Err(RefuseReason::Subprotocol);
    }
    let token = has_token.then(|| decode(encoded).ok_or(RefuseReason::Subprotocol)).transpose()?;
    Ok(Offer { phoenix, token })
}

/// Decodes base64 of the standard alphabet, which phoenix.js uses, or of that for URLs, whose name the entry has.
fn decode(encoded: &[u8]) -> Option<String> {
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let encoded: Vec<u8> = encoded.iter().map(standard).collect();
    String::from_utf8(PADDED_OR_NOT.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&str]) -> Option<(bool, Option<String>)> {
        let offer = read(lines.iter().map(|line| line.as_bytes())).ok()?;
        Some((offer.phoenix, offer.token))
    }

    #[test]
    fn phoenix_is_echoed_and_others_alone_are_refused() {
        for (lines, phoenix) in [
            (&[] as &[&str], Some(false)),
            (&["phoenix"], Some(true)),
            (&["other, phoenix"], Some(true)),
            (&["other", " phoenix "], Some(true)),
            (&["Phoenix"], None),
            (&["other"], None),
            (&[""], None),
            (&[", ,"], None),
        ] {
            assert_eq!(offer(lines), phoenix.map(|phoenix| (phoenix, None)), "{lines:?}");
        }
    }

    #[test]
    fn a_token_is_taken_out_in_either_alphabet_and_with_padding_or_without() {
        let entry = |encoded: &str| format!("base64url.bearer.phx.{encoded}");
        // The text is such that its base64 has both characters in which the alphabets differ, and padding.
        let token = "\u{7ff}\u{3ff}?>";
        for encoded in ["37/Pvz8+", "37_Pvz8-"] {
            assert_eq!(offer(&[&entry(encoded)]), Some((false, Some(token.to_owned()))), "{encoded}");
        }
        for encoded in ["dG9rZW4", "dG9rZW4="] {
            let both = format!("phoenix, {}", entry(encoded));
            assert_eq!(offer(&[&both]), Some((true, Some("token".to_owned()))), "{encoded}");
        }
        assert_eq!(offer(&[&entry("")]), Some((false, Some(String::new()))));
        for bad in ["!", "a", "dG9r ZW4", "/w"] {
            assert_eq!(offer(&["phoenix", &entry(bad)]), None, "{bad}");
        }
        let other = format!("other, {}", entry("dG9rZW4"));
        assert_eq!(offer(&[&other]), None, "what is left must have phoenix in it");
        let two = format!("{0}, {0}", entry("dG9rZW4"));
        assert_eq!(offer(&[&two]), None);
        assert_eq!(offer(&[&two, "phoenix"]), Some((true, None)), "two are none, as in Phoenix");
    }
}
