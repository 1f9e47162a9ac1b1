//! RFC 6455 as the bare server speaks it: the upgrade, masked frames in, unmasked frames out.
//!
//! It lacks checks that a server for people would need, because only the generator talks to it.

use anyhow::{Result, bail, ensure};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Text frame (RFC 6455 section 11.8).
pub const TEXT: u8 = 1;
/// Binary frame.
pub const BINARY: u8 = 2;
/// Close frame.
pub const CLOSE: u8 = 8;
/// Ping frame.
pub const PING: u8 = 9;
/// Pong frame.
pub const PONG: u8 = 10;

/// Largest frame taken, bytes: a client that sends a larger one is broken.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// Largest request head taken, bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// A whole upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// Room that the path names.
    pub room: &'a str,
    /// Value of Sec-WebSocket-Key.
    pub key: &'a str,
    /// Bytes of the request.
    pub length: usize,
}

impl Upgrade<'_> {
    /// The response that accepts the upgrade.
    #[must_use]
    pub fn answer(&self) -> String {
        let accept = derive_accept_key(self.key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
    }
}

/// The room of a path like `/?room=NAME`; empty when it names none.
#[must_use]
pub fn room_of(path: &str) -> &str {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').find_map(|pair| pair.strip_prefix("room=")).unwrap_or("")
}

/// Reads an upgrade request; `None` while it has not come in whole.
///
/// # Errors
/// When it is no such request.
pub fn upgrade(bytes: &[u8]) -> Result<Option<Upgrade<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else {
        ensure!(bytes.len() < MAX_HEAD_BYTES, "request head too large");
        return Ok(None);
    };
    let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let Some(key) = key else { bail!("no Sec-WebSocket-Key") };
    let key = std::str::from_utf8(key.value)?;
    Ok(Some(Upgrade { room: room_of(request.path.unwrap_or("")), key, length }))
}

/// One frame from a client, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Kind of the frame.
    pub opcode: u8,
    /// The payload.
    pub payload: &'a [u8],
    /// Bytes of the frame with its header.
    pub length: usize,
}

/// Reads the first frame of `bytes` and unmasks it in place; `None` while it has not come in whole.
///
/// # Errors
/// When it is not masked, not the whole message, or too large.
pub fn take(bytes: &mut [u8]) -> Result<Option<Frame<'_>>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    ensure!(first & 0xf0 == 0x80, "fragments and extensions are not spoken");
    ensure!(second & 0x80 != 0, "frame without a mask");
    let (length, head) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (usize::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Ok(None),
        },
        127 => bail!("frame of more than 65,535 bytes"),
        short => (usize::from(short), 2),
    };
    ensure!(length <= MAX_FRAME_BYTES, "frame too large");
    let end = head + 4 + length;
    let Some(frame) = bytes.get_mut(head..end) else { return Ok(None) };
    let (mask, payload) = frame.split_at_mut(4);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some(Frame { opcode: first & 0x0f, payload, length: end }))
}

/// Appends one unmasked frame.
pub fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_example_of_rfc_6455_is_read() {
        let mut hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for cut in 0..hello.len() {
            assert_eq!(take(&mut hello[..cut].to_vec()).unwrap(), None);
        }
        let frame = take(&mut hello).unwrap().unwrap();
        assert_eq!((frame.opcode, frame.payload, frame.length), (TEXT, b"Hello".as_slice(), 11));
        assert!(take(&mut [0x81, 0x05]).is_err(), "no mask");
    }

    #[test]
    fn a_frame_is_written_as_rfc_6455_says() {
        let mut out = Vec::new();
        encode(&mut out, TEXT, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode(&mut out, BINARY, &[7; 256]);
        assert_eq!(out[..4], [0x82, 126, 1, 0]);
    }

    #[test]
    fn the_upgrade_of_rfc_6455_gets_its_answer() {
        let request = b"GET /?a=1&room=lobby HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest";
        assert_eq!(upgrade(&request[..40]).unwrap(), None);
        let read = upgrade(request).unwrap().unwrap();
        assert_eq!((read.room, read.length), ("lobby", request.len() - 4));
        assert!(read.answer().contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(upgrade(b"GET / HTTP/1.1\r\n\r\n").is_err());
    }
}
