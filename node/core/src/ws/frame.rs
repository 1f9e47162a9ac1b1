//! One frame: its header, masking and encoding (RFC 6455 section 5).

use super::close::{CloseCode, answer_to};

/// First byte of an unfragmented text frame.
pub const FIN_TEXT: u8 = 0x81;
/// First byte of an unfragmented binary frame.
pub const FIN_BINARY: u8 = 0x82;
/// Longest payload of a control frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
/// The bit of the first byte of a message that says that it is compressed (RFC 7692 section 6).
pub const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const MASK_BYTES: usize = 4;
const LONGEST_HEADER_BYTES: usize = 2 + 8 + MASK_BYTES;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xa,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame, which may stand between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Why the peer's bytes cannot be accepted; the connection is closed with [`WsError::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// The bytes break the protocol.
    #[error("frame breaks RFC 6455")]
    Protocol,
    /// A text message is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A compressed message is not DEFLATE data, or not all of it.
    #[error("compressed message cannot be inflated")]
    Deflate,
    /// A message is longer than allowed.
    #[error("message is longer than the limit")]
    TooBig,
}

impl WsError {
    /// The close code to answer with.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::ProtocolError,
            Self::Utf8 | Self::Deflate => CloseCode::InvalidPayload,
            Self::TooBig => CloseCode::TooBig,
        }
    }
}

/// The header of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Last (or only) fragment of a message.
    pub fin: bool,
    /// Kind of frame.
    pub opcode: Opcode,
    /// Bytes of the header itself.
    pub header_len: usize,
    /// Bytes of the payload.
    pub payload_len: usize,
    mask: [u8; MASK_BYTES],
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` when it is not complete yet.
    ///
    /// # Errors
    /// When the frame may not come from a client, or its payload is longer than `max_payload_bytes`.
    #[inline(always)]
    pub fn parse(bytes: &[u8], max_payload_bytes: usize) -> Result<Option<Self>, WsError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = Opcode::from_bits(first & 0xf).ok_or(WsError::Protocol)?;
        let fin = first & FIN != 0;
        let short_length = second & !MASKED;
        if first & RESERVED_BITS != 0 || second & MASKED == 0 {
            return Err(WsError::Protocol);
        }
        if opcode.is_control() && (!fin || usize::from(short_length) > MAX_CONTROL_BYTES) {
            return Err(WsError::Protocol);
        }
        let (payload_len, length_bytes) = match short_length {
            LENGTH_16 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            LENGTH_64 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        let payload_len = usize::try_from(payload_len).map_err(|_| WsError::TooBig)?;
        if payload_len > max_payload_bytes && !opcode.is_control() {
            return Err(WsError::TooBig);
        }
        let Some(&mask) = rest[length_bytes..].first_chunk::<MASK_BYTES>() else { return Ok(None) };
        Ok(Some(Self { fin, opcode, header_len: 2 + length_bytes + MASK_BYTES, payload_len, mask }))
    }

    /// The same for a client that may compress messages, with whether the message that begins with this frame is compressed:
    /// only the first frame of a message of data may say so (RFC 7692 section 6).
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn parse_deflate(bytes: &[u8], max_payload_bytes: usize) -> Result<Option<(Self, bool)>, WsError> {
        let is_compressed = bytes.first().is_some_and(|first| first & RESERVED_BITS == RSV1);
        let mut start = [0; LONGEST_HEADER_BYTES];
        let start = &mut start[..bytes.len().min(LONGEST_HEADER_BYTES)];
        start.copy_from_slice(&bytes[..start.len()]);
        if is_compressed {
            start[0] &= !RSV1;
        }
        match Self::parse(start, max_payload_bytes)? {
            Some(header) if is_compressed && !matches!(header.opcode, Opcode::Text | Opcode::Binary) => {
                Err(WsError::Protocol)
            }
            header => Ok(header.map(|header| (header, is_compressed))),
        }
    }

    /// Removes the mask from the payload, in place.
    pub fn unmask(&self, payload: &mut [u8]) {
        unmask(self.mask, payload);
    }

    /// Removes the mask from a part of the payload that begins so many bytes behind its start, in place.
    pub(super) fn unmask_from(&self, start: usize, part: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(start % MASK_BYTES);
        unmask(mask, part);
    }
}

fn unmask(mask: [u8; MASK_BYTES], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(word) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Length of the header that [`write_header`] writes.
#[must_use]
pub const fn header_bytes(payload_len: usize) -> usize {
    match payload_len {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    }
}

/// Appends the header of an unmasked, unfragmented frame.
pub fn write_header(out: &mut Vec<u8>, first_byte: u8, payload_len: usize) {
    out.push(first_byte);
    if let Ok(length) = u8::try_from(payload_len)
        && length < LENGTH_16
    {
        out.push(length);
    } else if let Ok(length) = u16::try_from(payload_len) {
        out.push(LENGTH_16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(LENGTH_64);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}

/// Appends a frame as a client sends it. Its mask is 0 and changes nothing.
pub fn append_client_frame(out: &mut Vec<u8>, first_byte: u8, payload: &[u8]) {
    let second = out.len() + 1;
    write_header(out, first_byte, payload.len());
    out[second] |= MASKED;
    out.extend_from_slice(&[0; MASK_BYTES]);
    out.extend_from_slice(payload);
}

/// Splits one complete unmasked frame, as a server sends it, into its first byte and payload. `None` when `frame` is
/// anything else.
#[must_use]
pub fn split_server_frame(frame: &[u8]) -> Option<(u8, &[u8])> {
    first_server_frame(frame)
        .filter(|(_, _, rest)| rest.is_empty())
        .map(|(first, payload, _)| (first, payload))
}

/// Splits the first unmasked frame off a run of such frames: its first byte, its payload, and the rest of the run. `None`
/// when the run does not begin with a complete one.
#[must_use]
pub fn first_server_frame(run: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let &[first, second, ref rest @ ..] = run else { return None };
    let (length, payload) = match second {
        LENGTH_16 => {
            let (length, payload) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*length)), payload)
        }
        LENGTH_64 => {
            let (length, payload) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*length), payload)
        }
        length @ 0..LENGTH_16 => (u64::from(length), rest),
        // The mask bit is set, and only clients mask.
        MASKED.. => return None,
    };
    let (payload, rest) = payload.split_at_checked(usize::try_from(length).ok()?)?;
    Some((first, payload, rest))
}

/// A control frame; `payload` is cut to what fits.
#[must_use]
pub fn control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL_BYTES)];
    let mut out = Vec::with_capacity(2 + payload.len());
    write_header(&mut out, FIN | opcode as u8, payload.len());
    out.extend_from_slice(payload);
    out
}

/// A close frame with one of the node's own codes.
#[must_use]
pub fn close(code: CloseCode) -> Vec<u8> {
    close_saying(code as u16, code.reason())
}

/// A close frame with a code and a reason of somebody else's choice.
#[must_use]
pub fn close_saying(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    control(Opcode::Close, &payload)
}

/// The answer to a peer's close frame with this payload.
#[must_use]
pub fn close_answer(payload: &[u8]) -> Vec<u8> {
    control(Opcode::Close, &answer_to(payload).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_is_its_own_inverse_at_every_length() {
        for length in 0..40 {
            let header = Header {
                fin: true,
                opcode: Opcode::Text,
                header_len: 6,
                payload_len: length,
                mask: [1, 2, 3, 4],
            };
            let plain: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut bytes = plain.clone();
            header.unmask(&mut bytes);
            let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ [1, 2, 3, 4][i % 4]).collect();
            assert_eq!(bytes, expected);
            header.unmask(&mut bytes);
            assert_eq!(bytes, plain);
        }
    }

    #[test]
    fn server_frames_split_at_each_length_form() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frame = Vec::new();
            write_header(&mut frame, FIN_TEXT, length);
            assert_eq!(frame.len(), header_bytes(length));
            frame.resize(frame.len() + length, b'x');
            let (first, payload) = split_server_frame(&frame).expect("complete");
            assert_eq!((first, payload.len()), (FIN_TEXT, length));
            frame.push(0);
            assert_eq!(split_server_frame(&frame), None);
            let (_, payload, rest) = first_server_frame(&frame).expect("complete");
            assert_eq!((payload.len(), rest), (length, &[0][..]));
        }
        // The second byte has the mask bit; without the check it would read as a length of 128 or more.
        let masked = [&[FIN_TEXT, 0x80 | 5][..], &[b'x'; 0x80 | 5]].concat();
        assert_eq!(split_server_frame(&masked), None);
    }

    #[test]
    fn a_clients_frame_reads_as_it_was_written() {
        for length in [0, 125, 126, 65_536] {
            let mut frame = vec![7];
            append_client_frame(&mut frame, FIN_BINARY, &vec![b'x'; length]);
            let header = Header::parse(&frame[1..], length).expect("allowed").expect("complete");
            assert_eq!((header.opcode, header.payload_len), (Opcode::Binary, length));
            header.unmask(&mut frame[1 + header.header_len..]);
            assert!(frame[1 + header.header_len..].iter().all(|byte| *byte == b'x'));
        }
    }

    #[test]
    fn an_unmasked_client_frame_is_refused() {
        assert_eq!(Header::parse(&[0x81, 0x00], 10), Err(WsError::Protocol));
    }

    #[test]
    fn only_the_first_frame_of_a_message_of_data_may_say_that_it_is_compressed() {
        for (first, good) in [
            (0xc1, true),
            (0x41, true),
            (0xc2, true),
            (0xc0, false),
            (0x40, false),
            (0xc8, false),
            (0xc9, false),
            (0xca, false),
            (0xa1, false),
            (0x91, false),
            (0xe1, false),
        ] {
            let frame = [first, 0x80, 0, 0, 0, 0];
            let read = Header::parse_deflate(&frame, 10).map(|read| read.map(|(_, compressed)| compressed));
            assert_eq!(read, if good { Ok(Some(true)) } else { Err(WsError::Protocol) }, "{first:x}");
            assert_eq!(Header::parse(&frame, 10), Err(WsError::Protocol));
        }
        let plain = Header::parse_deflate(&[0x81, 0x80, 0, 0, 0, 0], 10);
        assert_eq!(plain.map(|read| read.map(|(_, compressed)| compressed)), Ok(Some(false)));
        assert_eq!(Header::parse_deflate(&[], 10), Ok(None));
    }

    #[test]
    fn a_length_with_its_top_bit_set_is_too_long_as_any_other() {
        let frame = [0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0];
        assert_eq!(Header::parse(&frame, usize::MAX >> 1), Err(WsError::TooBig));
    }

    #[test]
    fn a_close_frame_is_answered_as_bandit_does() {
        for (code, answer) in [
            (1000u16, 1000u16),
            (1001, 1000),
            (1011, 1000),
            (3000, 1000),
            (4000, 1000),
            (5000, 1000),
            (1012, 1002),
            (1014, 1002),
        ] {
            let payload = [&code.to_be_bytes()[..], b"bye"].concat();
            assert_eq!(close_answer(&payload), [&[0x88, 2][..], &answer.to_be_bytes()].concat(), "{code}");
        }
        assert_eq!(close_answer(b""), [0x88, 2, 0x03, 0xe8]);
    }
}
