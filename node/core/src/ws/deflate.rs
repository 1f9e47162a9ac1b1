//! permessage-deflate (RFC 7692) without context takeover: each message is compressed by itself.
//!
//! So a message to many clients is compressed once and all of them get the same bytes, a shard needs one [`Deflater`]
//! and one [`Inflater`] for all of its connections, and a connection that is idle costs what one without compression
//! costs. zlib-rs, behind flate2, does the work. miniz_oxide was as fast on the way out and took 1.5 times as long on the way in
//! (docs/decisions/015-deflate-once.md), and it cannot bound its window, which clients may ask for.

use std::fmt;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{
    WsError,
    frame::{RSV1, first_server_frame, header_bytes, write_header},
};
use crate::{config, counters::Counters, limits::MAX_DEFLATED_BYTES};

/// Size of the largest window, as its base-2 logarithm (RFC 7692 section 7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;
/// The same of the smallest one that zlib compresses with.
pub const MIN_WINDOW_BITS: u8 = 9;

/// The end of a flush, which a sender leaves out (RFC 7692 section 7.2.1).
const FLUSH_END: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same, and an empty block that says that it is the last one: data that is cut off does not come to its end there.
const MESSAGE_END: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// Memory in bytes that the state of zlib-rs takes: window, hash tables and pending output; a test compares them.
const COMPRESS_BYTES: usize = 372 << 10;
const DECOMPRESS_BYTES: usize = 48 << 10;
/// Most blocks of a message that say that they are the last one, but for the one that is. Senders that do without a flush
/// make one; two bytes make another, and going on after it takes 50 times as long as reading them.
const MAX_LAST_BLOCKS: usize = 16;
/// A buffer that grew larger than this, in bytes, is not kept for long.
const KEPT_BUFFER_BYTES: usize = 256 << 10;
/// Least size of the buffer for a message, in bytes. It grows to the double up to the longest message.
const LEAST_BUFFER_BYTES: usize = 4 << 10;

/// Compresses messages, each by itself. Its memory is allocated with the first one.
pub struct Deflater {
    window_bits: u8,
    /// With the level that it is made for.
    state: Option<(u8, Compress)>,
    buffer: Vec<u8>,
    is_used: bool,
}

impl Default for Deflater {
    fn default() -> Self {
        Self::within(MAX_WINDOW_BITS)
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

impl Deflater {
    /// One whose receivers keep a window of this size; it lies between [`MIN_WINDOW_BITS`] and [`MAX_WINDOW_BITS`].
    #[must_use]
    pub const fn within(window_bits: u8) -> Self {
        Self { window_bits, state: None, buffer: Vec::new(), is_used: false }
    }

    /// The payload of a compressed message; `None` when it would not be shorter than `below` bytes. `level` is 1, the
    /// fastest, to 9.
    pub fn message(&mut self, level: u8, payload: &[u8], below: usize) -> Option<&[u8]> {
        let Self { window_bits, state, buffer, is_used } = self;
        *is_used = true;
        let compress = match state {
            Some((made, compress)) if *made == level => compress,
            state => {
                let fresh =
                    Compress::new_with_window_bits(Compression::new(level.into()), false, *window_bits);
                &mut state.insert((level, fresh)).1
            }
        };
        if buffer.len() < below {
            buffer.resize(below, 0);
        }
        let room = &mut buffer[..below];
        compress.reset();
        compress.compress(payload, room, FlushCompress::Sync).ok()?;
        // Of a flush that fills the buffer a part may be missing.
        let (read, written) = (compress.total_in() as usize, compress.total_out() as usize);
        let is_whole = read == payload.len() && written < below;
        room[..written].strip_suffix(&FLUSH_END).filter(|_| is_whole)
    }

    /// A run of frames as those get it who take compressed messages: each frame that is worth it is compressed. When
    /// none is, this is the same run.
    #[inline(never)]
    pub(crate) fn run(
        &mut self,
        run: &Bytes,
        compression: config::Compression,
        counters: &mut Counters,
    ) -> Bytes {
        let least = compression.min_bytes as usize;
        let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
        while let Some((first, payload, rest)) = first_server_frame(&run[at..]) {
            let end = run.len() - rest.len();
            if (least..=MAX_DEFLATED_BYTES).contains(&payload.len())
                && let Some(body) = self.message(compression.level, payload, payload.len())
            {
                out.reserve_exact(at - copied + header_bytes(body.len()) + body.len());
                out.extend_from_slice(&run[copied..at]);
                write_header(&mut out, first | RSV1, body.len());
                out.extend_from_slice(body);
                copied = end;
                counters.deflated_messages += 1;
                counters.deflated_bytes += payload.len() as u64;
                counters.deflated_to_bytes += body.len() as u64;
            }
            at = end;
        }
        if copied == 0 {
            return run.clone();
        }
        out.extend_from_slice(&run[copied..]);
        out.into()
    }

    /// Memory in bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        let state = if self.state.is_some() { COMPRESS_BYTES } else { 0 };
        state + self.buffer.capacity()
    }

    /// Gives the memory back when nothing was compressed since the last call.
    pub(crate) fn trim(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            *self = Self::within(self.window_bits);
        } else if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
    }
}

/// Inflates messages, each by itself. Its memory is allocated with the first one.
#[derive(Default)]
pub struct Inflater {
    state: Option<Decompress>,
    buffer: Vec<u8>,
    is_used: bool,
    inflated: Inflated,
    in_call: usize,
}

/// What an [`Inflater`] has inflated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inflated {
    /// Messages.
    pub(crate) messages: u64,
    /// Their bytes as they came.
    pub(crate) before: usize,
    /// Their bytes inflated.
    pub(crate) after: usize,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

impl Inflater {
    /// Inflates the payload of a compressed message, of which one byte beyond `max_bytes` is inflated at most.
    ///
    /// # Errors
    /// [`WsError::TooBig`] when it is longer than `max_bytes`, [`WsError::Deflate`] when it is no whole DEFLATE data.
    pub fn message(&mut self, payload: &[u8], max_bytes: usize) -> Result<&[u8], WsError> {
        self.is_used = true;
        let Self { state, buffer, inflated, in_call, .. } = self;
        let state = state.get_or_insert_with(|| Decompress::new_with_window_bits(false, MAX_WINDOW_BITS));
        state.reset(false);
        let (mut length, mut ends, mut last_blocks) = (0, false, 0);
        for part in [payload, &MESSAGE_END] {
            let mut rest = part;
            while !rest.is_empty() {
                if ends {
                    // A block that says that it is the last one may stand in the middle (RFC 7692 section 7.2.3.4).
                    last_blocks += 1;
                    if last_blocks > MAX_LAST_BLOCKS {
                        return Err(WsError::Deflate);
                    }
                    state.reset(false);
                }
                let read;
                (read, ends) = step(state, rest, buffer, &mut length, max_bytes)?;
                rest = &rest[read..];
            }
        }
        // What the last bytes stand for may not have found room.
        while !ends {
            (_, ends) = step(state, &[], buffer, &mut length, max_bytes)?;
        }
        if length > max_bytes {
            return Err(WsError::TooBig);
        }
        inflated.messages += 1;
        inflated.before += payload.len();
        inflated.after += length;
        *in_call += length;
        Ok(&buffer[..length])
    }

    /// Begins a call of a reader.
    pub(super) const fn begin_call(&mut self) {
        self.in_call = 0;
    }

    /// Bytes that were inflated in this call.
    pub(super) const fn in_call(&self) -> usize {
        self.in_call
    }

    /// What was inflated since this was last asked.
    pub(crate) fn take_inflated(&mut self) -> Inflated {
        std::mem::take(&mut self.inflated)
    }

    /// Memory in bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        let state = if self.state.is_some() { DECOMPRESS_BYTES } else { 0 };
        state + self.buffer.capacity()
    }

    /// Gives the memory back when nothing was inflated since the last call.
    pub(crate) fn trim(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            *self = Self::default();
        } else if self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
    }
}

/// Inflates as much as there is room for behind the first `length` bytes of the buffer, which grows for that up to one byte
/// beyond `max_bytes`: that byte tells that a message is too long. Returns how much was read, and whether the last block
/// has come to its end.
fn step(
    state: &mut Decompress,
    data: &[u8],
    buffer: &mut Vec<u8>,
    length: &mut usize,
    max_bytes: usize,
) -> Result<(usize, bool), WsError> {
    if *length > max_bytes {
        return Err(WsError::TooBig);
    }
    let most = max_bytes.saturating_add(1);
    if *length == buffer.len() {
        let size = (2 * *length).max(LEAST_BUFFER_BYTES).min(most);
        buffer.reserve_exact(size - *length);
        buffer.resize(size, 0);
    }
    let end = buffer.len().min(most);
    let (read, written) = (state.total_in(), state.total_out());
    let status = state.decompress(data, &mut buffer[*length..end], FlushDecompress::Sync);
    let (read, written) = (state.total_in() - read, state.total_out() - written);
    *length += written as usize;
    match status {
        Ok(Status::StreamEnd) => Ok((read as usize, true)),
        Ok(_) if read + written > 0 => Ok((read as usize, false)),
        _ => Err(WsError::Deflate),
    }
}

#[cfg(test)]
mod tests {
    use arbitrary::{Result, Unstructured};

    use super::*;
    use crate::ws::frame::{FIN_BINARY, FIN_TEXT};

    const MAX: usize = 10_000;

    /// Any data as a client may compress it, whether that makes it shorter or not.
    fn compressed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 100);
        Compress::new(Compression::new(6), false)
            .compress_vec(payload, &mut out, FlushCompress::Sync)
            .expect("room");
        assert!(out.ends_with(&FLUSH_END));
        out.truncate(out.len() - FLUSH_END.len());
        out
    }

    fn text(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let words = ["price", "\"id\":", "{}", ",", "\u{e4}", "0123456789"];
        let count = u.int_in_range(0..=400)?;
        (0..count).map(|_| u.choose(&words).copied()).collect::<Result<String>>().map(String::into_bytes)
    }

    #[test]
    fn what_is_deflated_inflates_to_the_same_at_each_level_and_window() {
        let mut inflater = Inflater::default();
        arbtest::arbtest(|u| {
            let (level, bits) = (u.int_in_range(1..=9)?, u.int_in_range(MIN_WINDOW_BITS..=MAX_WINDOW_BITS)?);
            let mut deflater = Deflater::within(bits);
            for _ in 0..3 {
                let said = text(u)?;
                assert_eq!(inflater.message(&compressed(&said), MAX), Ok(&*said));
                if let Some(body) = deflater.message(level, &said, said.len()) {
                    assert!(body.len() < said.len());
                    assert_eq!(inflater.message(body, MAX), Ok(&*said));
                }
            }
            Ok(())
        });
    }

    /// The receiver may keep no more than the window: what it would not have must not be referred to.
    #[test]
    fn nothing_is_referred_to_beyond_the_window() {
        let unique: Vec<u8> =
            (0..4_000_u32).flat_map(|n| (n.wrapping_mul(0x9e37_79b9) >> 16).to_be_bytes()).collect();
        let twice = [&unique[..], &unique[..]].concat();
        let length =
            |bits| Deflater::within(bits).message(6, &twice, twice.len()).map_or(twice.len(), <[u8]>::len);
        assert!(length(15) < length(12) * 3 / 4, "{} {}", length(15), length(12));
    }

    #[test]
    fn the_examples_of_rfc_7692_inflate() {
        for body in [
            // Section 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(Inflater::default().message(body, MAX), Ok(&b"Hello"[..]), "{body:x?}");
        }
        // An empty message is one byte (section 7.2.3.6).
        assert_eq!(Inflater::default().message(&[0], MAX), Ok(&b""[..]));
    }

    #[test]
    fn what_is_no_deflate_data_is_refused_and_the_next_message_is_read() {
        let good = compressed(&b"abcdefgh".repeat(100));
        let mut inflater = Inflater::default();
        let bad = [
            // Nothing at all, a block of the reserved type, a stored block with a wrong length.
            vec![],
            vec![0x06],
            vec![0x00, 0x05, 0x00, 0x00, 0x00, b'a'],
            // A copy from before the start.
            vec![0x4b, 0x04, 0x22, 0x00, 0x00],
            // The last block has ended, and no block follows.
            vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            [&good[..], &[0xff; 20]].concat(),
            b"[null,null,\"phoenix\",\"heartbeat\",{}]".to_vec(),
        ];
        let cut = (1..good.len()).map(|end| good[..end].to_vec());
        for body in bad.into_iter().chain(cut) {
            assert_eq!(inflater.message(&body, MAX), Err(WsError::Deflate), "{body:x?}");
            assert_eq!(inflater.message(&good, MAX).map(<[u8]>::len), Ok(800));
        }
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_the_longest_message_and_little_time() {
        let body = compressed(&vec![0; 10_000_000]);
        assert!(body.len() < MAX, "{}", body.len());
        let mut inflater = Inflater::default();
        assert_eq!(inflater.message(&body, MAX), Err(WsError::TooBig));
        assert!(inflater.held_bytes() <= DECOMPRESS_BYTES + MAX + 1, "{}", inflater.held_bytes());
        for (blocks, fits) in [(MAX_LAST_BLOCKS, true), (MAX_LAST_BLOCKS + 1, false)] {
            let body = [&[3, 0].repeat(blocks)[..], &[0]].concat();
            assert_eq!(inflater.message(&body, MAX), if fits { Ok(&b""[..]) } else { Err(WsError::Deflate) });
        }
        for (length, fits) in [(MAX, true), (MAX + 1, false)] {
            let body = compressed(&vec![7; length]);
            assert_eq!(inflater.message(&body, MAX).map(<[u8]>::len).ok(), fits.then_some(length));
        }
        // The buffer of a longer message is there still, and the bound counts all the same.
        assert_eq!(inflater.message(&compressed(&[7; 101]), 100), Err(WsError::TooBig));
    }

    #[test]
    fn only_frames_that_get_shorter_are_compressed_in_a_run() {
        let settings = config::Compression { level: 2, min_bytes: 100 };
        let mut counters = Counters::ZERO;
        let mut deflater = Deflater::default();
        let frame = |first, payload: &[u8]| {
            let mut frame = Vec::new();
            write_header(&mut frame, first, payload.len());
            frame.extend_from_slice(payload);
            frame
        };
        let random: Vec<u8> = (0..200_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let plain = [frame(FIN_TEXT, &[b'a'; 99]), frame(FIN_BINARY, &random)].concat();
        let run = Bytes::from(plain.clone());
        let same = deflater.run(&run, settings, &mut counters);
        assert_eq!((same.as_ptr(), counters.deflated_messages), (run.as_ptr(), 0), "nothing is copied");
        let (text, bytes) = (frame(FIN_TEXT, &[b'a'; 100]), frame(FIN_BINARY, &[0; 5_000]));
        let run = Bytes::from([&plain[..], &text, &plain, &bytes, &plain].concat());
        let mut rest = &deflater.run(&run, settings, &mut counters)[..];
        let mut inflater = Inflater::default();
        let mut seen = Vec::new();
        while let Some((first, payload, behind)) = first_server_frame(rest) {
            let payload =
                if first & RSV1 == 0 { payload } else { inflater.message(payload, MAX).expect("good") };
            seen.extend_from_slice(&frame(first & !RSV1, payload));
            rest = behind;
        }
        assert!(rest.is_empty() && seen == run);
        assert_eq!((counters.deflated_messages, counters.deflated_bytes), (2, 5_100));
        assert!((1..100).contains(&counters.deflated_to_bytes), "{}", counters.deflated_to_bytes);
    }

    #[test]
    fn memory_is_given_back_when_nothing_was_compressed_for_a_while() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        assert_eq!((deflater.held_bytes(), inflater.held_bytes()), (0, 0));
        let said = vec![b'a'; KEPT_BUFFER_BYTES + 1];
        let body = deflater.message(2, &said, said.len()).expect("shorter").to_vec();
        inflater.message(&body, said.len()).expect("good");
        for (held, state) in
            [(deflater.held_bytes(), COMPRESS_BYTES), (inflater.held_bytes(), DECOMPRESS_BYTES)]
        {
            assert!(held > state + KEPT_BUFFER_BYTES);
        }
        deflater.trim();
        inflater.trim();
        assert_eq!((deflater.held_bytes(), inflater.held_bytes()), (COMPRESS_BYTES, DECOMPRESS_BYTES));
        deflater.trim();
        inflater.trim();
        assert_eq!((deflater.held_bytes(), inflater.held_bytes()), (0, 0));
    }
}
