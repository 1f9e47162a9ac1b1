//! Records of TLS 1.2 with AEADs (RFC 5246, section 6.2.3.3): the content type stands in the header, and the number of the record
//! is among the additional data. With AES-GCM each record says a part of its nonce (RFC 5288), with ChaCha20-Poly1305 none (RFC 7905).

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::{
    cipher::{Direction, EXPLICIT_BYTES, Suite, once},
    wire::{Alert, Content, End, HEADER_BYTES, Inner, MAX_PLAINTEXT_BYTES, TAG_BYTES},
};

/// Most bytes by which a sealed record is longer than its data: header, a part of the nonce, and tag.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + EXPLICIT_BYTES + TAG_BYTES;
/// `ClientHello` among handshake messages (RFC 5246, section 7.4).
const CLIENT_HELLO: u8 = 1;
/// Levels of an alert (RFC 5246, section 7.2).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Bytes between the header and the data.
pub(super) const fn explicit_bytes(suite: Suite) -> usize {
    if suite.is_aes() { EXPLICIT_BYTES } else { 0 }
}

/// Whether a record may begin with this byte.
pub(super) const fn is_outside(byte: u8) -> bool {
    byte == Content::Data as u8 || byte == Content::Alert as u8 || byte == Content::Handshake as u8
}

/// Seals the `length` bytes behind the room for the header and the part of the nonce. Returns the length of the record.
pub(super) fn seal(
    key: &LessSafeKey,
    (direction, suite): (&Direction, Suite),
    sequence: u64,
    content: Content,
    buffer: &mut [u8],
    length: usize,
) -> Option<usize> {
    let (nonce, explicit) = (direction.nonce(sequence), explicit_bytes(suite));
    let data = HEADER_BYTES + explicit;
    let whole = data + length + TAG_BYTES;
    // At most 2^14 + 24.
    let [high, low] = ((whole - HEADER_BYTES) as u16).to_be_bytes();
    let header = [content as u8, 3, 3, high, low];
    buffer[..HEADER_BYTES].copy_from_slice(&header);
    buffer[HEADER_BYTES..data].copy_from_slice(&nonce[nonce.len() - explicit..]);
    let (inner, tag) = buffer[data..whole].split_at_mut(length);
    let aad = Aad::from(additional(sequence, header, length));
    let made = key.seal_in_place_separate_tag(once(nonce), aad, inner).ok()?;
    tag.copy_from_slice(made.as_ref());
    Some(whole)
}

/// Opens a whole record.
pub(super) fn open<'a>(
    key: &LessSafeKey,
    (direction, suite): (&Direction, Suite),
    sequence: u64,
    record: &'a mut [u8],
) -> Result<Inner<'a>, Alert> {
    let (header, body) = record.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Alert::DecodeError)?;
    let nonce = if suite.is_aes() {
        direction.said_nonce(*body.first_chunk().ok_or(Alert::BadRecordMac)?)
    } else {
        direction.nonce(sequence)
    };
    let body = &mut body[explicit_bytes(suite)..];
    let length = body.len().checked_sub(TAG_BYTES).ok_or(Alert::BadRecordMac)?;
    let aad = Aad::from(additional(sequence, *header, length));
    let inner = key.open_in_place(once(nonce), aad, body).map_err(|_| Alert::BadRecordMac)?;
    if inner.len() > MAX_PLAINTEXT_BYTES {
        return Err(Alert::RecordOverflow);
    }
    Ok(Inner { content: header[0], data: inner })
}

/// The meaning of a record without data for the application; nothing, or that the connection ends.
pub(super) fn heed(Inner { content, data }: Inner<'_>) -> Result<(), End> {
    let is_alert = content == Content::Alert as u8;
    Err(match data {
        [] => End::Broken(Alert::UnexpectedMessage),
        [_, description] if is_alert && *description == Alert::CloseNotify as u8 => End::Closed,
        [WARNING, _] if is_alert => return Ok(()),
        [FATAL, _] if is_alert => End::Closed,
        _ if is_alert => End::Broken(Alert::DecodeError),
        // It asks for another handshake on this connection, of which there is one.
        [CLIENT_HELLO, ..] => End::Broken(Alert::NoRenegotiation),
        _ => End::Broken(Alert::UnexpectedMessage),
    })
}

/// The additional data of a record (RFC 5246, section 6.2.3.3), whose header says type and version, with `length` bytes of data.
fn additional(sequence: u64, header: [u8; HEADER_BYTES], length: usize) -> [u8; 13] {
    let mut additional = [0; 13];
    additional[..8].copy_from_slice(&sequence.to_be_bytes());
    additional[8..11].copy_from_slice(&header[..3]);
    // A record has less than 2^16 bytes.
    additional[11..].copy_from_slice(&(length as u16).to_be_bytes());
    additional
}
