//! Close codes (RFC 6455 section 7.4) that the node sends, and the check of the codes that it receives.

/// A code that the node closes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// A frame broke RFC 6455. Also the code of the idle timeout, as in Bandit.
    ProtocolError = 1002,
    /// Text that is not UTF-8.
    InvalidPayload = 1007,
    /// A message above the limit.
    TooBig = 1009,
    /// The node goes away and the client shall come back. Never 1000: phoenix.js does not reconnect after that.
    Restart = 1012,
    /// The node keeps as much of incomplete messages as it may.
    TryAgainLater = 1013,
    /// The client read too slowly and its send queue was full. Private range (4000-4999).
    SlowConsumer = 4008,
}

impl CloseCode {
    /// The reason text sent along, at most 123 bytes.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ProtocolError => "protocol error",
            Self::InvalidPayload => "invalid UTF-8",
            Self::TooBig => "message too big",
            Self::Restart => "node restarts",
            Self::TryAgainLater => "try again later",
            Self::SlowConsumer => "slow consumer",
        }
    }
}

/// Whether a peer may send this code: a registered one (RFC 6455 and the IANA registry up to 1014), a library's
/// (3000-3999) or an application's (4000-4999).
#[must_use]
pub const fn is_allowed_from_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
