//! Frames as clients send and read them.

#![cfg_attr(not(test), allow(dead_code, reason = "the fuzz targets use less of it than the tests"))]

pub(crate) const REQUEST: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// The header by which clients ask for compression.
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

pub(super) fn split(output: &[u8]) -> Option<(u8, Vec<u8>, Vec<u8>)> {
    let (&[first, short], rest) = output.split_first_chunk::<2>()?;
    let (length, rest) = match short {
        126 => {
            let (bytes, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*bytes).into(), rest)
        }
        127 => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*bytes) as usize, rest)
        }
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first, payload.to_vec(), rest.to_vec()))
}

/// A frame as a client sends it.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 11, 13, 17];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The request of a client that asks for compression.
pub(super) fn deflate_request() -> String {
    format!("{}{DEFLATE}", REQUEST.strip_suffix("\r\n").expect("it ends with an empty line"))
}

/// The payload of a compressed message, whether that is shorter or not.
pub(super) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    let mut compress = flate2::Compress::new(flate2::Compression::new(6), false);
    compress.compress_vec(payload, &mut out, flate2::FlushCompress::Sync).expect("there is room");
    out.truncate(out.len() - 4);
    out
}
