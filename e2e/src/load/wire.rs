//! RFC 6455 as a client speaks it, on byte slices: the handshake, masked frames out, unmasked frames in.
//!
//! It has only what a generator needs: messages in one frame, and permessage-deflate without context takeover.

use super::stamp::append;
use flate2::{Decompress, FlushDecompress};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

/// Largest frame accepted from a server, bytes.
pub(super) const MAX_FRAME: u64 = 16 << 20;
/// Largest response head accepted, bytes.
pub(super) const MAX_HEAD: usize = 8 << 10;

/// Text frame (RFC 6455 section 11.8).
pub(super) const TEXT: u8 = 1;
/// Binary frame.
pub(super) const BINARY: u8 = 2;
/// Close frame.
pub(super) const CLOSE: u8 = 8;
/// Ping frame.
pub(super) const PING: u8 = 9;
/// Pong frame.
pub(super) const PONG: u8 = 10;

/// One whole frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Kind of the frame: one of the constants of this module.
    pub(super) opcode: u8,
    /// The payload.
    pub(super) payload: &'a [u8],
    /// Bytes of the frame with its header.
    pub(super) length: usize,
    /// Whether the message is compressed.
    pub(super) compressed: bool,
}

/// Inflates compressed messages, each by itself.
pub(super) struct Inflater {
    state: Decompress,
    message: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Inflater {
        Inflater { state: Decompress::new(false), message: Vec::with_capacity(64 << 10) }
    }

    /// The message of a payload.
    ///
    /// # Errors
    /// A short name, for the error count, of what is wrong with it.
    pub(super) fn message(&mut self, payload: &[u8]) -> Result<&[u8], &'static str> {
        self.state.reset(false);
        self.message.clear();
        for mut part in [payload, &[0, 0, 0xff, 0xff]] {
            while !part.is_empty() {
                if self.message.len() == self.message.capacity() {
                    if self.message.len() as u64 > MAX_FRAME {
                        return Err("message too large");
                    }
                    self.message.reserve(self.message.len());
                }
                let read = self.state.total_in();
                self.state
                    .decompress_vec(part, &mut self.message, FlushDecompress::Sync)
                    .map_err(|_| "bad compressed data")?;
                part = &part[(self.state.total_in() - read) as usize..];
            }
        }
        Ok(&self.message)
    }
}

/// Reads the first frame of `bytes`; `None` when it has not come in whole yet.
///
/// # Errors
/// A short name, for the error count, of something that a client must not accept from a server.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let opcode = first & 0x0f;
    let compressed = first & 0x70 == 0x40 && matches!(opcode, TEXT | BINARY);
    if first & 0x70 != 0 && !compressed {
        return Err("frame with reserved bits");
    }
    if second & 0x80 != 0 {
        return Err("masked frame from the server");
    }
    if first & 0x80 == 0 || opcode == 0 {
        return Err("fragmented message");
    }
    let (length, head) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > MAX_FRAME {
        return Err("frame too large");
    }
    let end = head + length as usize;
    Ok(bytes.get(head..end).map(|payload| Frame { opcode, payload, length: end, compressed }))
}

/// Appends one masked frame to `out`.
pub(super) fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: u32) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let key = mask.to_be_bytes();
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// The upgrade request of one worker and the answer that it must get. The nonce is drawn once per worker, because it
/// only guards against caches, which are no WebSocket servers.
pub(super) struct Handshake {
    key: String,
    accept: String,
    deflate: bool,
}

impl Handshake {
    /// A handshake with a nonce of its own, which asks for compression or not.
    pub(super) fn new(deflate: bool) -> Handshake {
        let key = generate_key();
        Handshake { accept: derive_accept_key(key.as_bytes()), key, deflate }
    }

    /// Appends the request for `path` (with its query) at `host`, with `subprotocols` when there are any.
    pub(super) fn request(&self, out: &mut Vec<u8>, host: &str, path: &[u8], subprotocols: Option<&str>) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(path);
        append(
            out,
            format_args!(
                " HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: channelcluster-loadgen\r\n",
                self.key
            ),
        );
        if let Some(subprotocols) = subprotocols {
            append(out, format_args!("Sec-WebSocket-Protocol: {subprotocols}\r\n"));
        }
        if self.deflate {
            out.extend_from_slice(
                b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            );
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Length of the response head once it is whole and accepts the upgrade; `None` while it is not whole.
    ///
    /// # Errors
    /// Why the upgrade failed, as a name for the error count.
    pub(super) fn response(&self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Ok(None),
            Ok(httparse::Status::Partial) => Err("response head too large".into()),
            Err(error) => Err(format!("response head: {error}")),
            Ok(httparse::Status::Complete(length)) => {
                let code = response.code.unwrap_or(0);
                if code != 101 {
                    return Err(format!("http {code}"));
                }
                let accepted = response.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("sec-websocket-accept")
                        && header.value == self.accept.as_bytes()
                });
                let extension =
                    response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-extensions"));
                // The inflater keeps nothing of one message for the next.
                let agreed = extension
                    .map(|header| header.value.windows(26).any(|part| part == b"server_no_context_takeover"));
                match agreed {
                    _ if !accepted => Err("wrong Sec-WebSocket-Accept".into()),
                    Some(true) if self.deflate => Ok(Some(length)),
                    None if !self.deflate => Ok(Some(length)),
                    _ => Err("other extensions than asked for".into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_examples_of_rfc_6455() {
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(
            decode(&hello),
            Ok(Some(Frame { opcode: TEXT, payload: b"Hello", length: 7, compressed: false }))
        );
        for cut in 0..hello.len() {
            assert_eq!(decode(&hello[..cut]), Ok(None));
        }
        let mut medium = vec![0x82, 0x7e, 0x01, 0x00];
        medium.extend([7; 256]);
        assert_eq!(decode(&medium).map(|f| f.map(|f| f.length)), Ok(Some(260)));
        assert_eq!(decode(&[0x01, 0x03, 0x48, 0x65, 0x6c]), Err("fragmented message"));
        assert_eq!(decode(&[0x81, 0x85, 0x37, 0xfa]), Err("masked frame from the server"));
    }

    #[test]
    fn encodes_the_masked_example_of_rfc_6455() {
        let mut out = Vec::new();
        encode(&mut out, TEXT, b"Hello", 0x37fa_213d);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn compressed_messages_are_inflated_each_by_itself() {
        // The example of RFC 7692, section 7.2.3.1.
        let hello = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let frame = decode(&hello).unwrap().unwrap();
        assert!(frame.compressed && frame.length == hello.len());
        let mut inflater = Inflater::new();
        for _ in 0..2 {
            assert_eq!(inflater.message(frame.payload), Ok(&b"Hello"[..]));
        }
        assert_eq!(inflater.message(&[0x06]), Err("bad compressed data"));
        assert_eq!(decode(&[0xc9, 0x00]), Err("frame with reserved bits"));
    }

    #[test]
    fn the_answer_has_compression_where_it_was_asked_for() {
        for deflate in [true, false] {
            let handshake = Handshake::new(deflate);
            let mut request = Vec::new();
            handshake.request(&mut request, "h", b"/", None);
            let asks = request.windows(18).any(|part| part == b"permessage-deflate");
            let head = format!("HTTP/1.1 101 S\r\nSec-WebSocket-Accept: {}\r\n", handshake.accept);
            let with = format!(
                "{head}Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n"
            );
            let without = format!("{head}\r\n");
            let good = [with, without].map(|answer| handshake.response(answer.as_bytes()).is_ok());
            assert_eq!((asks, good), (deflate, [deflate, !deflate]));
        }
    }

    #[test]
    fn the_upgrade_needs_the_right_accept_key() {
        let handshake = Handshake::new(false);
        let mut request = Vec::new();
        handshake.request(&mut request, "127.0.0.1:4000", b"/x?a=1", Some("phoenix, x"));
        assert!(request.ends_with(b"\r\nSec-WebSocket-Protocol: phoenix, x\r\n\r\n"));
        request.clear();
        handshake.request(&mut request, "127.0.0.1:4000", b"/x?a=1", None);
        assert!(!request.windows(8).any(|bytes| bytes == b"Protocol"));
        assert!(request.starts_with(b"GET /x?a=1 HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nUpgrade"));
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            handshake.accept
        );
        assert_eq!(handshake.response(good.as_bytes()), Ok(Some(good.len())));
        assert_eq!(handshake.response(&good.as_bytes()[..30]), Ok(None));
        let forged = good.replace(&handshake.accept, "AAAA");
        assert!(handshake.response(forged.as_bytes()).is_err());
        assert_eq!(handshake.response(b"HTTP/1.1 503 Busy\r\n\r\n"), Err("http 503".into()));
    }
}
