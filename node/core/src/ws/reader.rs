//! Turns the bytes of a socket into whole messages.
//!
//! The common case, whole frames in one read, is parsed in the shard's scratch buffer and owns nothing. Only an
//! incomplete frame or a fragmented message is copied out, into one box that goes away when it is complete. Text is
//! checked as it comes, also inside a frame, so that a fault in it is told before the rest is waited for.

use super::{
    close::is_allowed_from_peer,
    deflate::Inflater,
    frame::{Header, Opcode, WsError},
    utf8::Utf8,
};

/// Bytes of an incomplete frame that are unmasked at once to be checked.
const CHECK_BYTES: usize = 256;
/// After so many bytes that were inflated in one call the rest of the input is put off: about as much as a read brings
/// without compression.
const INFLATED_PER_CALL: usize = 64 << 10;

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
    /// Whether that message is compressed.
    compressed: bool,
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
        self.read::<false, _>(data, Terms { max_message_bytes, inflater: None, compressed: false }, sink)
    }

    /// The same for a peer that may compress messages; the bound counts for a message as it comes and inflated. This also
    /// pauses after some compressed messages, so that one call does not inflate much more than others bring.
    ///
    /// # Errors
    /// As [`Reader::feed`].
    pub fn feed_deflate(
        &mut self,
        data: &mut [u8],
        max_message_bytes: usize,
        inflater: &mut Inflater,
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, WsError> {
        inflater.begin_call();
        self.read::<true, _>(
            data,
            Terms { max_message_bytes, inflater: Some(inflater), compressed: false },
            sink,
        )
    }

    /// Both of them, made twice: a peer that compresses nothing must not pay for it.
    fn read<const DEFLATE: bool, S: FnMut(Event<'_>) -> Flow>(
        &mut self,
        data: &mut [u8],
        mut terms: Terms<'_>,
        sink: &mut S,
    ) -> Result<Flow, WsError> {
        let max_message_bytes = terms.max_message_bytes;
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
            let Some(header) = terms.header::<DEFLATE>(&input[at..])? else {
                break Flow::Continue;
            };
            // A message that is one frame, which nearly all are, needs no look at what came before.
            let begun = if self.partial.is_none() && header.opcode != Opcode::Continuation {
                None
            } else {
                self.begun(&header, max_message_bytes)?
            };
            let payload_at = at + header.header_len;
            let Some(payload) = input.get_mut(payload_at..payload_at + header.payload_len) else {
                self.check_start((&header, begun), terms.compressed, &input[payload_at..])?;
                break Flow::Continue;
            };
            header.unmask(payload);
            at = payload_at + header.payload_len;
            match self.frame::<DEFLATE, _>((&header, begun), payload, &mut terms, sink)? {
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
    fn check_start(
        &mut self,
        (header, begun): (&Header, Option<Opcode>),
        compressed: bool,
        came: &[u8],
    ) -> Result<(), WsError> {
        let is_text = !header.opcode.is_control() && begun.unwrap_or(header.opcode) == Opcode::Text;
        let is_compressed = match begun {
            Some(_) => self.partial.as_ref().is_some_and(|partial| partial.compressed),
            None => compressed,
        };
        // Compressed text is checked when it is inflated.
        if !is_text || is_compressed {
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

    #[inline(always)]
    fn frame<const DEFLATE: bool, S: FnMut(Event<'_>) -> Flow>(
        &mut self,
        (header, begun): (&Header, Option<Opcode>),
        payload: &[u8],
        terms: &mut Terms<'_>,
        sink: &mut S,
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
                if DEFLATE && terms.compressed {
                    return terms.deliver_compressed(opcode, payload, sink);
                }
                deliver(opcode, payload, sink)
            }
            (opcode, begun) => {
                let partial = self.partial.get_or_insert_default();
                if begun.is_none() {
                    partial.compressed = terms.compressed;
                }
                let (opcode, checked) = (begun.unwrap_or(opcode), partial.checked);
                if opcode == Opcode::Text && !header.fin && !partial.compressed {
                    partial.text(begun.is_some()).push(&payload[checked..])?;
                }
                partial.checked = 0;
                partial.message.extend_from_slice(payload);
                partial.opcode = Some(opcode).filter(|_| !header.fin);
                if !header.fin {
                    return Ok(Flow::Continue);
                }
                let message = std::mem::take(&mut partial.message);
                if DEFLATE && partial.compressed {
                    return terms.deliver_compressed(opcode, &message, sink);
                }
                deliver(opcode, &message, sink)
            }
        }
    }
}

/// What a peer may send.
#[derive(Debug)]
struct Terms<'a> {
    max_message_bytes: usize,
    inflater: Option<&'a mut Inflater>,
    /// Whether the frame at hand begins a compressed message.
    compressed: bool,
}

impl Terms<'_> {
    /// Reads the header at the start of `bytes`.
    #[inline(always)]
    fn header<const DEFLATE: bool>(&mut self, bytes: &[u8]) -> Result<Option<Header>, WsError> {
        if DEFLATE { self.header_deflate(bytes) } else { Header::parse(bytes, self.max_message_bytes) }
    }

    fn header_deflate(&mut self, bytes: &[u8]) -> Result<Option<Header>, WsError> {
        let read = Header::parse_deflate(bytes, self.max_message_bytes)?;
        Ok(read.map(|(header, compressed)| {
            self.compressed = compressed;
            header
        }))
    }

    fn deliver_compressed(
        &mut self,
        opcode: Opcode,
        message: &[u8],
        sink: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, WsError> {
        let inflater = self.inflater.as_deref_mut().ok_or(WsError::Protocol)?;
        let flow = deliver(opcode, inflater.message(message, self.max_message_bytes)?, sink)?;
        let is_spent = inflater.in_call() >= INFLATED_PER_CALL;
        Ok(if flow == Flow::Continue && is_spent { Flow::Pause } else { flow })
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
mod tests;
