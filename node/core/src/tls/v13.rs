//! Records of TLS 1.3 (RFC 8446, section 5.2): the content type is sealed with the data, and padding may follow it.

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::{
    cipher::{Direction, once},
    wire::{Alert, Content, End, HEADER_BYTES, Inner, MAX_PLAINTEXT_BYTES, TAG_BYTES},
};

/// Bytes by which a sealed record is longer than its data: header, content type and tag.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// `KeyUpdate` among handshake messages (RFC 8446, section 4).
const KEY_UPDATE: u8 = 24;

/// Whether a record may begin with this byte.
pub(super) const fn is_outside(byte: u8) -> bool {
    byte == Content::Data as u8
}

/// Seals the `length` bytes behind the room for the header. Returns the length of the record.
pub(super) fn seal(
    key: &LessSafeKey,
    direction: &Direction,
    sequence: u64,
    content: Content,
    buffer: &mut [u8],
    length: usize,
) -> Option<usize> {
    let whole = length + OVERHEAD_BYTES;
    let header = header(whole - HEADER_BYTES);
    buffer[..HEADER_BYTES].copy_from_slice(&header);
    let (inner, tag) = buffer[HEADER_BYTES..whole].split_at_mut(length + 1);
    inner[length] = content as u8;
    let nonce = once(direction.nonce(sequence));
    let made = key.seal_in_place_separate_tag(nonce, Aad::from(header), inner).ok()?;
    tag.copy_from_slice(made.as_ref());
    Some(whole)
}

/// Opens a whole record.
pub(super) fn open<'a>(
    key: &LessSafeKey,
    direction: &Direction,
    sequence: u64,
    record: &'a mut [u8],
) -> Result<Inner<'a>, Alert> {
    let body = &mut record[HEADER_BYTES..];
    // The version of a header is to be ignored for all purposes.
    let aad = Aad::from(header(body.len()));
    let nonce = once(direction.nonce(sequence));
    let inner = key.open_in_place(nonce, aad, body).map_err(|_| Alert::BadRecordMac)?;
    if inner.len() > MAX_PLAINTEXT_BYTES + 1 {
        return Err(Alert::RecordOverflow);
    }
    // Zeros after the content type are padding.
    let last = inner.iter().rposition(|byte| *byte != 0);
    let at = last.ok_or(Alert::UnexpectedMessage)?;
    Ok(Inner { content: inner[at], data: &inner[..at] })
}

/// The meaning of a record without data for the application; nothing, or that the connection ends.
pub(super) fn heed(Inner { content, data }: Inner<'_>) -> Result<(), End> {
    Err(match (content, data) {
        (_, []) => End::Broken(Alert::UnexpectedMessage),
        (content, [_, description]) if content == Content::Alert as u8 => {
            if *description == Alert::UserCanceled as u8 {
                return Ok(());
            }
            End::Closed
        }
        (content, _) if content == Content::Alert as u8 => End::Broken(Alert::DecodeError),
        // The next key comes of a secret that the handshake does not give away.
        (content, [KEY_UPDATE, ..]) if content == Content::Handshake as u8 => {
            End::Broken(Alert::InternalError)
        }
        _ => End::Broken(Alert::UnexpectedMessage),
    })
}

/// The header of a sealed record of which `length` bytes follow.
const fn header(length: usize) -> [u8; HEADER_BYTES] {
    // At most 2^14 + 256.
    let [high, low] = (length as u16).to_be_bytes();
    [Content::Data as u8, 3, 3, high, low]
}
