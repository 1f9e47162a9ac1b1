//! Headers, content types and alerts as they stand on the wire (RFC 8446, sections 5.1, 5.2 and 6), and what is read of a record.

/// Length of a record's header in bytes.
pub const HEADER_BYTES: usize = 5;
/// Length of an AEAD tag in bytes, for all suites.
pub(super) const TAG_BYTES: usize = 16;
/// Most bytes of data in a record.
pub const MAX_PLAINTEXT_BYTES: usize = 1 << 14;
/// Longest record in bytes, with its header. In TLS 1.3 a peer may add padding up to 256 bytes beyond the longest data; TLS 1.2
/// would let ciphers add more, and the suites here add less.
pub const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_PLAINTEXT_BYTES + 256;

/// The content type of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// An alert.
    Alert = 21,
    /// A handshake message.
    Handshake = 22,
    /// Application data; in TLS 1.3 every sealed record says so on the outside.
    Data = 23,
}

/// Alerts that this side sends or knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The sender sends nothing more.
    CloseNotify = 0,
    /// A record or message that may not come here.
    UnexpectedMessage = 10,
    /// A record whose tag is wrong.
    BadRecordMac = 20,
    /// A record that is too long.
    RecordOverflow = 22,
    /// A message that cannot be read.
    DecodeError = 50,
    /// Something that this side cannot do, without a fault of the peer.
    InternalError = 80,
    /// The peer gives up for a reason of its own; `close_notify` follows.
    UserCanceled = 90,
    /// There is no other handshake on a connection (TLS 1.2).
    NoRenegotiation = 100,
}

impl Alert {
    /// The alert's message: level and description.
    pub(super) const fn message(self) -> [u8; 2] {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let is_warning = matches!(self, Self::CloseNotify | Self::UserCanceled | Self::NoRenegotiation);
        let level = if is_warning { WARNING } else { FATAL };
        [level, self as u8]
    }
}

/// Why nothing more can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer said that it is done, or that it gives up.
    Closed,
    /// The peer is to be told this, and the connection ends.
    Broken(Alert),
}

/// What an opened record has inside.
pub(super) struct Inner<'a> {
    pub(super) content: u8,
    pub(super) data: &'a [u8],
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The beginning of a record.
    Incomplete,
    /// A whole record of so many bytes, with its header.
    Whole(usize),
    /// The header of a record that is longer than any may be.
    TooLong,
}

/// Looks for a record at the beginning of `bytes`.
#[must_use]
pub fn next_record(bytes: &[u8]) -> Next {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Next::Incomplete };
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > MAX_RECORD_BYTES {
        Next::TooLong
    } else if bytes.len() < length {
        Next::Incomplete
    } else {
        Next::Whole(length)
    }
}
