//! Headers, content types and alerts as they stand on the wire (RFC 8446, sections 5.1, 5.2 and 6).

/// Length of a record's header in bytes.
pub const HEADER_BYTES: usize = 5;
/// Length of an AEAD tag in bytes, for all cipher suites of TLS 1.3.
pub(super) const TAG_BYTES: usize = 16;
/// Most bytes of data in a record.
pub const MAX_PLAINTEXT_BYTES: usize = 1 << 14;
/// Bytes by which a sealed record is longer than its data: header, content type and tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Longest record in bytes, with its header. A peer may add padding up to 256 bytes beyond the longest data.
pub const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_PLAINTEXT_BYTES + 256;

/// The content type of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// An alert.
    Alert = 21,
    /// A handshake message.
    Handshake = 22,
    /// Application data; every sealed record says so on the outside.
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
}

impl Alert {
    /// The alert's message: level and description.
    pub(super) const fn message(self) -> [u8; 2] {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let level = if matches!(self, Self::CloseNotify | Self::UserCanceled) { WARNING } else { FATAL };
        [level, self as u8]
    }
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
