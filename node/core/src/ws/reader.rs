//! From bytes as they come off a socket to whole messages.
//!
//! The common case, whole frames in one read, is parsed in the shard's scratch buffer and owns nothing. Only an
//! incomplete frame or a fragmented message is copied out, into one box that goes away when it is complete.

use super::{
    close::is_allowed_from_peer,
    frame::{Header, Opcode, WsError},
};

/// What the peer said.
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

/// Whether the reader shall go on with what it has.
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
    /// Bytes not parsed yet.
    bytes: Vec<u8>,
    /// Payload of the fragments so far.
    message: Vec<u8>,
    /// Opcode of the fragmented message, if one is under way.
    opcode: Option<Opcode>,
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
        self.partial.as_ref().map_or(&[], |partial| &partial.bytes)
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
        let mut kept = match &mut self.partial {
            Some(partial) if !partial.bytes.is_empty() => {
                partial.bytes.extend_from_slice(data);
                std::mem::take(&mut partial.bytes)
            }
            _ => Vec::new(),
        };
        let input = if kept.is_empty() { &mut *data } else { &mut kept[..] };
        let mut at = 0;
        let flow = loop {
            let Some(header) = Header::parse(&input[at..], max_message_bytes)? else { break Flow::Continue };
            let payload_at = at + header.header_len;
            let Some(payload) = input.get_mut(payload_at..payload_at + header.payload_len) else {
                break Flow::Continue;
            };
            header.unmask(payload);
            at = payload_at + header.payload_len;
            match self.frame(&header, payload, max_message_bytes, sink)? {
                Flow::Continue => {}
                other => break other,
            }
        };
        if flow == Flow::Stop {
            self.partial = None;
            return Ok(flow);
        }
        self.put_back(kept, data, at);
        Ok(flow)
    }

    /// Keeps what follows `at`, in the buffer it is already in when there is one.
    fn put_back(&mut self, mut kept: Vec<u8>, data: &[u8], at: usize) {
        if kept.is_empty() {
            self.keep(&data[at..]);
        } else {
            kept.drain(..at);
            if !kept.is_empty() {
                self.partial.get_or_insert_default().bytes = kept;
            }
        }
        if self.partial.as_ref().is_some_and(|p| p.bytes.is_empty() && p.opcode.is_none()) {
            self.partial = None;
        }
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        max_message_bytes: usize,
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
                if partial.message.len() + payload.len() > max_message_bytes {
                    return Err(WsError::TooBig);
                }
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
    std::str::from_utf8(reason).map_err(|_| WsError::Utf8)?;
    Ok(())
}
