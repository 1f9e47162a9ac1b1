//! Turns the bytes of a socket into whole messages.
//!
//! The common case, whole frames in one read, is parsed in the shard's scratch buffer and owns nothing. Only an
//! incomplete frame or a fragmented message is copied out, into one box that goes away when it is complete. Text is
//! checked as it comes, also inside a frame, so that a fault in it is told before the rest is waited for.

use super::{
    close::is_allowed_from_peer,
    frame::{Header, Opcode, WsError},
    utf8::Utf8,
};

/// Bytes of an incomplete frame that are unmasked at once to be checked.
const CHECK_BYTES: usize = 256;

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
    /// How much of the payload of the incomplete frame in `bytes` is checked to be text.
    checked: usize,
    /// The check of the text that is under way.
    text: Utf8,
    /// Whether `bytes` were put off by [`Flow::Pause`].
    paused: bool,
    /// When it became incomplete, on the caller's clock.
    since: u16,
}

impl Partial {
    /// Begins or goes on with the check of a text, of which `begun` says that it is under way already.
    fn text(&mut self, begun: bool) -> &mut Utf8 {
        if !begun && self.checked == 0 {
            self.text = Utf8::default();
        }
        &mut self.text
    }

    /// Checks what has come of the payload of an incomplete frame, which is still masked.
    fn check(&mut self, header: &Header, begun: bool, came: &[u8]) -> Result<(), WsError> {
        let mut buffer = [0; CHECK_BYTES];
        for part in came[self.checked..].chunks(CHECK_BYTES) {
            let plain = &mut buffer[..part.len()];
            plain.copy_from_slice(part);
            header.unmask_from(self.checked, plain);
            self.text(begun).push(plain)?;
            self.checked += part.len();
        }
        Ok(())
    }
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

    /// Keeps whole frames without parsing them, as after [`Flow::Pause`].
    pub fn put_off(&mut self, frames: &[u8]) {
        self.keep(frames);
        if let Some(partial) = &mut self.partial {
            partial.paused = true;
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
            // A message that is one frame, which nearly all are, needs no look at what came before.
            let begun = if self.partial.is_none() && header.opcode != Opcode::Continuation {
                None
            } else {
                self.begun(&header, max_message_bytes)?
            };
            let payload_at = at + header.header_len;
            let Some(payload) = input.get_mut(payload_at..payload_at + header.payload_len) else {
                self.check_start(&header, begun, &input[payload_at..])?;
                break Flow::Continue;
            };
            header.unmask(payload);
            at = payload_at + header.payload_len;
            match self.frame(&header, begun, payload, sink)? {
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

    /// The opcode of the fragmented message that is under way. Refuses a frame that may not follow, by its header and
    /// before its payload is waited for.
    #[cold]
    fn begun(&self, header: &Header, max_message_bytes: usize) -> Result<Option<Opcode>, WsError> {
        let under_way = |partial: &Partial| (partial.opcode, partial.message.len());
        let (begun, so_far) = self.partial.as_deref().map_or((None, 0), under_way);
        match (header.opcode, begun) {
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => Err(WsError::Protocol),
            (Opcode::Continuation, Some(_))
                if header.payload_len > max_message_bytes.saturating_sub(so_far) =>
            {
                Err(WsError::TooBig)
            }
            _ => Ok(begun),
        }
    }

    /// Checks what has come of a frame that is not complete, if it is text.
    #[cold]
    fn check_start(&mut self, header: &Header, begun: Option<Opcode>, came: &[u8]) -> Result<(), WsError> {
        let is_text = !header.opcode.is_control() && begun.unwrap_or(header.opcode) == Opcode::Text;
        if !is_text {
            return Ok(());
        }
        self.partial.get_or_insert_default().check(header, begun.is_some(), came)
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
        begun: Option<Opcode>,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, WsError> {
        match (header.opcode, begun) {
            (Opcode::Ping, _) => Ok(sink(Event::Ping(payload))),
            (Opcode::Pong, _) => Ok(sink(Event::Pong)),
            (Opcode::Close, _) => {
                check_close(payload)?;
                sink(Event::Close(payload));
                Ok(Flow::Stop)
            }
            (opcode, None) if header.fin => {
                if let Some(partial) = &mut self.partial {
                    partial.checked = 0;
                }
                deliver(opcode, payload, sink)
            }
            (opcode, begun) => {
                let partial = self.partial.get_or_insert_default();
                let (opcode, checked) = (begun.unwrap_or(opcode), partial.checked);
                if opcode == Opcode::Text && !header.fin {
                    partial.text(begun.is_some()).push(&payload[checked..])?;
                }
                partial.checked = 0;
                partial.message.extend_from_slice(payload);
                partial.opcode = Some(opcode).filter(|_| !header.fin);
                if !header.fin {
                    return Ok(Flow::Continue);
                }
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

    /// A masked text frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [7, 11, 13, 17];
        let length = u8::try_from(payload.len()).expect("a short one");
        let head = [first, 0x80 | length, MASK[0], MASK[1], MASK[2], MASK[3]];
        let payload = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        head.into_iter().chain(payload).collect()
    }

    /// How many bytes of a stream are taken one by one before a fault is told.
    fn taken(stream: &[u8]) -> (usize, Option<WsError>) {
        let mut reader = Reader::default();
        for (at, byte) in stream.iter().enumerate() {
            if let Err(error) = feed(&mut reader, &[*byte], Flow::Continue) {
                return (at, Some(error));
            }
        }
        (stream.len(), None)
    }

    #[test]
    fn a_fault_in_a_text_is_told_with_the_byte_that_makes_it() {
        let bad = Some(WsError::Utf8);
        let ping = masked(0x89, b"hi");
        let part = masked(0x01, b"ab\xe2\x82");
        let stream = |more: &[Vec<u8>]| more.concat();
        // Inside a frame, with a header of six bytes before it.
        assert_eq!(taken(&masked(0x81, b"abcde\xffxyz")), (6 + 5, bad));
        // In a fragment, with a ping before it, where the character began in the fragment before.
        let second = stream(&[part.clone(), ping.clone(), masked(0x00, b"\xac\xff.")]);
        assert_eq!(taken(&second), (part.len() + ping.len() + 6 + 1, bad));
        let second = stream(&[part.clone(), masked(0x80, b"(xyz")]);
        assert_eq!(taken(&second), (part.len() + 6, bad));
        // The text is whole but for its last character.
        assert_eq!(taken(&stream(&[masked(0x81, b"ab\xe2\x82")])), (9, bad));
        // Every message begins anew, whatever the one before it ended with.
        let good = masked(0x81, "\u{20ac}".as_bytes());
        let all = stream(&[part.clone(), masked(0x80, b"\xac"), good.clone(), good, part.clone()]);
        assert_eq!(taken(&all), (all.len(), None));
        // Bytes are not text.
        let binary = stream(&[masked(0x02, b"\xff"), masked(0x80, b"\xff\xfe"), masked(0x82, b"\xff\xff")]);
        assert_eq!(taken(&binary), (binary.len(), None));
    }

    #[test]
    fn a_frame_that_may_not_follow_is_refused_by_its_header() {
        let wrong = Some(WsError::Protocol);
        assert_eq!(taken(&masked(0x80, b"abc")), (5, wrong));
        for second in [0x81, 0x02] {
            let part = masked(0x01, b"a");
            let both = [part.clone(), masked(second, b"\xff")].concat();
            assert_eq!(taken(&both), (part.len() + 5, wrong));
        }
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
