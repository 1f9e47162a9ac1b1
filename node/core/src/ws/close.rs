//! Close codes (RFC 6455 section 7.4) that the node sends, and the check of the codes that it receives.

/// A code that the node closes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// A frame broke RFC 6455. Also the code of the idle timeout, as in Bandit.
    ProtocolError = 1002,
    /// Text that is not UTF-8, or a compressed message that cannot be inflated.
    InvalidPayload = 1007,
    /// A message above the limit.
    TooBig = 1009,
    /// A message that is no Phoenix message: an internal error to Bandit, because Phoenix raises one.
    Malformed = 1011,
    /// The node goes away and the client shall come back. Never 1000: phoenix.js does not reconnect after that.
    Restart = 1012,
    /// The node keeps as much of incomplete messages as it may.
    TryAgainLater = 1013,
    /// The token of the client is not valid any more, or the one that it gave for it. Private range (4000-4999), so that
    /// phoenix.js comes back, with the token that it has then.
    Token = 4001,
    /// The client read too slowly and its send queue was full. Private range (4000-4999).
    SlowConsumer = 4008,
}

impl CloseCode {
    /// The reason text sent along, at most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ProtocolError => "protocol error",
            Self::InvalidPayload => "invalid payload",
            Self::TooBig => "message too big",
            Self::Malformed => "malformed message",
            Self::Restart => "node restarts",
            Self::TryAgainLater => "try again later",
            Self::Token => "token not valid",
            Self::SlowConsumer => "slow consumer",
        }
    }
}

/// The code that a close frame is answered with.
pub const NORMAL: u16 = 1000;

/// Whether a peer may send this code: a registered one (RFC 6455 and the IANA registry up to 1014), a library's, an
/// application's, or one above them, which RFC 6455 says nothing about and Bandit takes.
#[must_use]
pub const fn is_allowed_from_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..)
}

/// The code that answers a close frame with this payload, as Bandit answers it (bandit/lib/bandit/websocket/connection.ex):
/// codes that were registered after RFC 6455 are not among those that it takes for a normal end.
#[must_use]
pub fn answer_to(payload: &[u8]) -> u16 {
    match payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code)) {
        Some(1012..=1014) => CloseCode::ProtocolError as u16,
        _ => NORMAL,
    }
}
