//! Turns the bytes of a socket into whole messages.
//!
//! The common case, whole frames in one read, is parsed in the shard's scratch buffer and owns nothing. Only an
//! incomplete frame or a fragmented message is copied out, into one box that goes away when it is complete.

use super::{
    close::is_allowed_from_peer,
    frame::{Header, Opcode, WsError},
};

/// A message of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The closing handshake: the payload to echo (code and reason, or nothing). Nothing after it is read.
    Close(&'a [u8]),
}

/// Whether the reader goes on with the bytes that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Keep the remaining bytes for the next call.
    Pause,
    /// Forget the remaining bytes: the connection ends.
    Stop,
}

/// Incomplete input of one connection.
#[derive(Debug, Default)]
struct Partial {
    /// Bytes kept, of which the first `parsed` are done with.
    bytes: Vec<u8>,
    /// How many bytes are done with. If the rest moved to the front after each pause, that would cost the square of
    /// what is kept.
    parsed: usize,
    /// Payload of the fragments so far.
    message: Vec<u8>,
    /// Opcode of the fragmented message, if one is under way.
    opcode: Option<Opcode>,
    /// Whether `bytes` were put off by [`Flow::Pause`].
    paused: bool,
    /// When it became incomplete, on the caller's clock.
    since: u16,
}

/// The reading side of one connection: one pointer, null while nothing is incomplete.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

impl Reader {
    /// Bytes kept for later, incomplete or paused.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        self.partial.as_ref().map_or(&[], |partial| &partial.bytes[partial.parsed..])
    }

    /// Memory in bytes of everything that is kept here, in whatever state.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.bytes.capacity() + partial.message.capacity())
    }

    /// Memory in bytes that an incomplete frame or message takes here: its buffers as they are allocated. Bytes that
    /// [`Flow::Pause`] put off are not in it, since they wait for the caller and not for the peer;
    /// [`Reader::held_bytes`] has them.
    #[must_use]
    pub fn incomplete_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let unparsed = if partial.paused { 0 } else { partial.bytes.capacity() };
            unparsed + partial.message.capacity()
        })
    }

    /// Since when the input here has been incomplete, on a clock that now shows `now`. With `anew` it begins now.
    pub fn incomplete_since(&mut self, now: u16, anew: bool) -> u16 {
        let Some(partial) = &mut self.partial else { return now };
        if anew {
            partial.since = now;
        }
        partial.since
    }

    /// Keeps bytes without parsing them.
    pub fn keep(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.partial.get_or_insert_default().bytes.extend_from_slice(data);
        }
    }

    /// Takes the kept bytes out.
    pub fn take(&mut self) -> Vec<u8> {
        self.partial.take().map_or_else(Vec::new, |partial| partial.bytes)
    }

    /// Parses `data` after what was kept and calls `sink` for each message. Returns [`Flow::Pause`] when `sink` asked
    /// for it and something may be left to parse.
    ///
    /// # Errors
    /// When the peer broke the protocol; the reader is not to be fed again.
    pub fn feed(
        &mut self,
        data: &mut [u8],
        max_message_bytes: usize,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, WsError> {
        let (mut kept, mut at) = match &mut self.partial {
            Some(partial) if !partial.bytes.is_empty() => {
                if !data.is_empty() {
                    partial.bytes.drain(..partial.parsed);
                    partial.parsed = 0;
                    partial.bytes.extend_from_slice(data);
                }
                (std::mem::take(&mut partial.bytes), std::mem::take(&mut partial.parsed))
            }
            _ => (Vec::new(), 0),
        };
        let input = if kept.is_empty() { &mut *data } else { &mut kept[..] };
        let flow = loop {
            let Some(header) = Header::parse(&input[at..], max_message_bytes)? else { break Flow::Continue };
            if header.opcode == Opcode::Continuation {
                self.check_fits(&header, max_message_bytes)?;
            }
            let payload_at = at + header.header_len;
            let Some(payload) = input.get_mut(payload_at..payload_at + header.payload_len) else {
                break Flow::Continue;
            };
            header.unmask(payload);
            at = payload_at + header.payload_len;
            match self.frame(&header, payload, sink)? {
                Flow::Continue => {}
                other => break other,
            }
        };
        if flow == Flow::Stop {
            self.partial = None;
            return Ok(flow);
        }
        self.put_back(kept, data, at, flow == Flow::Pause);
        Ok(flow)
    }

    /// Refuses a fragment by its header, before its payload is waited for.
    fn check_fits(&self, header: &Header, max_message_bytes: usize) -> Result<(), WsError> {
        let so_far = self.partial.as_ref().map_or(0, |partial| partial.message.len());
        if header.payload_len > max_message_bytes.saturating_sub(so_far) {
            return Err(WsError::TooBig);
        }
        Ok(())
    }

    /// Keeps the bytes that follow `at`, in the buffer that they are in already when there is one.
    fn put_back(&mut self, mut kept: Vec<u8>, data: &[u8], at: usize, paused: bool) {
        if kept.is_empty() {
            self.keep(&data[at..]);
        } else {
            let left = kept.len() - at;
            if left > 0 {
                let mut parsed = at;
                // A few bytes must not keep the memory of a long frame before them.
                if at > 0 && left < kept.capacity() / 2 {
                    kept.drain(..at);
                    kept.shrink_to_fit();
                    parsed = 0;
                }
                let partial = self.partial.get_or_insert_default();
                (partial.bytes, partial.parsed) = (kept, parsed);
            }
        }
        let Some(partial) = &mut self.partial else { return };
        partial.paused = paused;
        if partial.bytes.is_empty() && partial.opcode.is_none() {
            self.partial = None;
        }
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, WsError> {
        let fragmented = self.partial.as_ref().and_then(|partial| partial.opcode);
        match (header.opcode, fragmented) {
            (Opcode::Ping, _) => Ok(sink(Event::Ping(payload))),
            (Opcode::Pong, _) => Ok(sink(Event::Pong)),
            (Opcode::Close, _) => {
                check_close(payload)?;
                sink(Event::Close(payload));
                Ok(Flow::Stop)
            }
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => Err(WsError::Protocol),
            (opcode, None) if header.fin => deliver(opcode, payload, sink),
            (opcode, None) => {
                let partial = self.partial.get_or_insert_default();
                partial.opcode = Some(opcode);
                partial.message.extend_from_slice(payload);
                Ok(Flow::Continue)
            }
            (_, Some(opcode)) => {
                let partial = self.partial.get_or_insert_default();
                partial.message.extend_from_slice(payload);
                if !header.fin {
                    return Ok(Flow::Continue);
                }
                partial.opcode = None;
                let message = std::mem::take(&mut partial.message);
                deliver(opcode, &message, sink)
            }
        }
    }
}

fn deliver(
    opcode: Opcode,
    message: &[u8],
    sink: &mut impl FnMut(Event<'_>) -> Flow,
) -> Result<Flow, WsError> {
    if opcode == Opcode::Text {
        let text = std::str::from_utf8(message).map_err(|_| WsError::Utf8)?;
        Ok(sink(Event::Text(text)))
    } else {
        Ok(sink(Event::Binary(message)))
    }
}

/// A close payload is empty, or an allowed code and a UTF-8 reason (RFC 6455 section 5.5.1).
fn check_close(payload: &[u8]) -> Result<(), WsError> {
    if payload.is_empty() {
        return Ok(());
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(WsError::Protocol)?;
    if !is_allowed_from_peer(u16::from_be_bytes(*code)) {
        return Err(WsError::Protocol);
    }
    // A text that is not UTF-8 has the code 1007, but a close frame that breaks the protocol has 1002, as in Bandit.
    std::str::from_utf8(reason).map_err(|_| WsError::Protocol)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_000;

    /// A frame of 126 bytes or more, with a mask of zeros.
    fn frame(first: u8, length: u16) -> Vec<u8> {
        let mut frame = vec![first, 0x80 | 126];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.resize(8, 0);
        frame.resize(8 + usize::from(length), b'x');
        frame
    }

    fn feed(reader: &mut Reader, data: &[u8], flow: Flow) -> Result<Flow, WsError> {
        reader.feed(&mut data.to_vec(), MAX, &mut |_| flow)
    }

    #[test]
    fn a_fragment_that_makes_the_message_too_long_is_refused_by_its_header() {
        for (length, result) in [(400, Ok(Flow::Continue)), (401, Err(WsError::TooBig))] {
            let mut reader = Reader::default();
            assert_eq!(feed(&mut reader, &frame(0x01, 600), Flow::Continue), Ok(Flow::Continue));
            assert_eq!(feed(&mut reader, &frame(0x80, length)[..8], Flow::Continue), result);
        }
    }

    #[test]
    fn a_message_of_just_the_limit_takes_control_frames_between_and_leaves_nothing() {
        let mut reader = Reader::default();
        let data = frame(0x02, 1_000);
        let (most, last) = data.split_at(1_007);
        let ping: &[u8] = &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'];
        for (data, least) in [(most, 1_007), (last, 1_000), (ping, 1_000)] {
            assert_eq!(feed(&mut reader, data, Flow::Continue), Ok(Flow::Continue));
            assert!(reader.incomplete_bytes() >= least, "{}", reader.incomplete_bytes());
        }
        assert_eq!(feed(&mut reader, &[0x80, 0x80, 0, 0, 0, 0], Flow::Continue), Ok(Flow::Continue));
        assert_eq!(reader.incomplete_bytes(), 0);
        assert!(reader.partial.is_none());
    }

    #[test]
    fn what_was_paused_is_incomplete_when_it_was_looked_at() {
        let mut reader = Reader::default();
        let mut data = frame(0x82, 300);
        data.extend_from_slice(&frame(0x82, 300)[..100]);
        assert_eq!(feed(&mut reader, &data, Flow::Pause), Ok(Flow::Pause));
        assert_eq!((reader.buffered().len(), reader.incomplete_bytes()), (100, 0));
        assert_eq!(feed(&mut reader, &[], Flow::Continue), Ok(Flow::Continue));
        assert!(reader.incomplete_bytes() >= 100);
    }

    #[test]
    fn the_start_of_a_frame_does_not_keep_the_memory_of_the_one_before() {
        let mut reader = Reader::default();
        let mut data = frame(0x82, 900);
        data.push(0x82);
        let (most, rest) = data.split_at(800);
        assert_eq!(feed(&mut reader, most, Flow::Continue), Ok(Flow::Continue));
        assert!(reader.incomplete_bytes() >= 800);
        assert_eq!(feed(&mut reader, rest, Flow::Continue), Ok(Flow::Continue));
        assert!((1..100).contains(&reader.incomplete_bytes()), "{}", reader.incomplete_bytes());
    }
}
