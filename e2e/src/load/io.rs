//! Reads and writes the bytes of one connection: the path that every delivery takes.

use super::dialect::{Channel, Control, Item, next_item};
use super::ledger::Receipt;
use super::slot::{HEARTBEAT, Phase};
use super::socket::{ABNORMAL, DEAF, End, READABLE, name};
use super::stamp::Stamp;
use super::wire;
use super::worker::{READ, Worker};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::ops::Range;

/// When so many bytes wait for a server that does not read, the connection is given up.
const MAX_PENDING: usize = 1 << 20;

/// What may be left on a socket after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// There may be more.
    Unknown,
    /// There was nothing more then; later bytes are an edge of their own. Only the end of the stream may be there
    /// already.
    Short,
    /// There was nothing at all.
    Nothing,
}

impl Worker {
    pub(super) fn rearm(&mut self, index: u32, flags: EventFlags) {
        let slot = &self.slots[index as usize];
        if let Some(socket) = &slot.socket
            && let Err(error) = epoll::modify(&self.poll, socket, EventData::new_u64(index.into()), flags)
        {
            self.stats.error(&format!("epoll: {error}"));
        }
    }

    /// The events awaited on a connection besides room to write.
    fn interest(&self, index: u32) -> EventFlags {
        let slow = self.slots[index as usize].phase == Phase::Slow && !self.resumed;
        if slow { DEAF } else { READABLE }
    }

    /// Sends the content of `message`.
    pub(super) fn send_message(&mut self, index: u32) {
        let message = std::mem::take(&mut self.message);
        self.send(index, self.shared.dialect.opcode(), &message);
        self.message = message;
    }

    /// Sends one frame.
    pub(super) fn send(&mut self, index: u32, opcode: u8, payload: &[u8]) {
        self.frame.clear();
        let mask = self.next_mask();
        wire::encode(&mut self.frame, opcode, payload, mask);
        self.send_frame(index);
    }

    /// Sends the content of `frame`.
    pub(super) fn send_frame(&mut self, index: u32) {
        if self.slots[index as usize].socket.is_none() {
            return;
        }
        self.stats.counters.bytes_out += self.frame.len() as u64;
        if let Some(tls) = &mut self.tls
            && let Err(error) = tls.seal(index, &mut self.frame)
        {
            self.end(index, ABNORMAL, &format!("tls: {error}"));
            return;
        }
        self.send_bytes(index);
    }

    /// Sends the bytes of `frame` as they are.
    fn send_bytes(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = &slot.socket else { return };
        let waiting = slot.extra().map_or(0, |extra| extra.pending.len());
        let sent = if waiting == 0 {
            match rustix::net::send(socket, &self.frame, SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                // The reading side finds the reason and ends the connection.
                Err(_) => return,
            }
        } else {
            0
        };
        if sent < self.frame.len() {
            let pending = &mut slot.extra_mut().pending;
            pending.extend_from_slice(&self.frame[sent..]);
            if pending.len() > MAX_PENDING {
                self.end(index, ABNORMAL, "server does not read");
            } else {
                self.rearm(index, self.interest(index) | EventFlags::OUT);
            }
        }
    }

    pub(super) fn flush(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let mut done = true;
        if let (Some(socket), Some(extra)) = (&slot.socket, slot.extra()) {
            let sent = rustix::net::send(socket, &extra.pending, SendFlags::NOSIGNAL).unwrap_or(0);
            let pending = &mut slot.extra_mut().pending;
            pending.drain(..sent);
            done = pending.is_empty();
        }
        if done {
            if slot.extra().is_some() {
                slot.extra_mut().pending = Vec::new();
                slot.slim();
            }
            self.rearm(index, self.interest(index));
        }
    }

    /// Reads what is there; up to the end of the stream when the server has ended it.
    pub(super) fn read(&mut self, index: u32, ended: bool) -> Result<(), End> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = loop {
            match self.read_into(index, &mut scratch) {
                Ok(Left::Unknown) => {}
                Ok(Left::Short) if ended => {}
                Ok(Left::Short | Left::Nothing) => break Ok(()),
                Err(end) => break Err(end),
            }
        };
        self.scratch = scratch;
        result
    }

    fn read_into(&mut self, index: u32, scratch: &mut Vec<u8>) -> Result<Left, End> {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = &slot.socket else { return Ok(Left::Nothing) };
        let partial = slot.extra().map_or(&[][..], |extra| &extra.partial);
        let kept = partial.len();
        if scratch.len() < kept + READ {
            scratch.resize(kept + READ, 0);
        }
        scratch[..kept].copy_from_slice(partial);
        let got = match rustix::net::recv(socket, &mut scratch[kept..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(End::broken("connection closed by the server")),
            Ok((got, _)) => got,
            Err(Errno::AGAIN) => return Ok(Left::Nothing),
            Err(Errno::INTR) => return Ok(Left::Unknown),
            Err(error) => return Err(End::broken(format!("read: {}", name(&error.into())))),
        };
        let left = if kept + got == scratch.len() { Left::Unknown } else { Left::Short };
        self.now = self.shared.now();
        let end = if self.tls.is_some() {
            self.open_records(index, scratch, kept..kept + got)?
        } else {
            kept + got
        };
        let bytes = &scratch[..end];
        let received = self.stats.counters.received;
        let used = self.on_bytes(index, bytes)?;
        self.stats.counters.reads += u64::from(self.stats.counters.received > received);
        let slot = &mut self.slots[index as usize];
        if used < bytes.len() && slot.socket.is_some() {
            bytes[used..].clone_into(&mut slot.extra_mut().partial);
        } else if slot.extra().is_some() {
            slot.extra_mut().partial = Vec::new();
            slot.slim();
        }
        Ok(left)
    }

    /// Puts the data of records in their place, and sends what TLS has to say by itself. Returns the end of the data.
    fn open_records(
        &mut self,
        index: u32,
        scratch: &mut Vec<u8>,
        records: Range<usize>,
    ) -> Result<usize, End> {
        let Some(tls) = &mut self.tls else { return Ok(records.end) };
        let opened = tls.open(index, scratch, records)?;
        self.stats.counters.tls_resumed += u64::from(opened.resumed);
        if opened.answers {
            self.frame.clear();
            self.send_frame(index);
        }
        Ok(opened.end)
    }

    /// Takes the whole messages at the beginning of `bytes`; returns how many bytes they were.
    fn on_bytes(&mut self, index: u32, bytes: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        if self.slots[index as usize].phase == Phase::Upgrading {
            match self.handshake.response(bytes) {
                Ok(None) => return Ok(0),
                Ok(Some(length)) => used = length,
                Err(error) => return Err(End::broken(format!("upgrade: {error}"))),
            }
            self.slots[index as usize].extra_mut().attempts = 0;
            self.join(index);
        }
        while let Some(frame) = wire::decode(&bytes[used..]).map_err(End::broken)? {
            used += frame.length;
            match frame.opcode {
                wire::TEXT | wire::BINARY if frame.compressed => self.on_compressed(index, frame.payload)?,
                wire::TEXT | wire::BINARY => self.on_message(index, frame.payload)?,
                wire::PING => self.send(index, wire::PONG, frame.payload),
                wire::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    self.send(index, wire::CLOSE, frame.payload.get(..2).unwrap_or_default());
                    return Err(End { code, error: format!("closed with {code}") });
                }
                _ => {}
            }
            if self.slots[index as usize].socket.is_none() {
                break;
            }
        }
        self.stats.counters.bytes_in += used as u64;
        Ok(used)
    }

    fn on_compressed(&mut self, index: u32, payload: &[u8]) -> Result<(), End> {
        let mut inflater = self.inflater.take().ok_or_else(|| End::broken("frame with reserved bits"))?;
        let result = match inflater.message(payload) {
            Ok(message) => self.on_message(index, message),
            Err(error) => Err(End::broken(error)),
        };
        self.inflater = Some(inflater);
        result
    }

    fn on_message(&mut self, index: u32, message: &[u8]) -> Result<(), End> {
        if self.shared.dialect.is_stream() {
            return self.on_stream(index, message);
        }
        if let Some(stamp) = self.finder.find(message) {
            self.on_delivery(index, stamp);
            return Ok(());
        }
        let slot = &self.slots[index as usize];
        let room = self.shared.plan.local_room(self.shared.plan.room_of(slot.connection));
        let channel = Channel { topic: &self.rooms[room].topic, join: slot.join_reference() };
        self.message.clear();
        let control =
            self.shared.dialect.control(message, &channel, &mut self.message).map_err(End::broken)?;
        if !self.message.is_empty() {
            self.send_message(index);
        }
        self.on_control(index, control)
    }

    /// Takes a piece of a byte stream, as NATS has it.
    fn on_stream(&mut self, index: u32, piece: &[u8]) -> Result<(), End> {
        let slot = &mut self.slots[index as usize];
        let mut joined;
        let mut stream = piece;
        if slot.extra().is_some_and(|extra| !extra.stream.is_empty()) {
            joined = std::mem::take(&mut slot.extra_mut().stream);
            joined.extend_from_slice(piece);
            stream = &joined;
        }
        let mut at = 0;
        while let Some((item, used)) = next_item(&stream[at..]).map_err(End::broken)? {
            match item {
                Item::Message(payload) => {
                    if let Some(stamp) = self.finder.find(&stream[at..][payload]) {
                        self.on_delivery(index, stamp);
                    }
                }
                other => self.on_item(index, other)?,
            }
            at += used;
        }
        let slot = &mut self.slots[index as usize];
        if at < stream.len() && slot.socket.is_some() {
            slot.extra_mut().stream = stream[at..].to_vec();
        }
        Ok(())
    }

    fn on_item(&mut self, index: u32, item: Item) -> Result<(), End> {
        let slot = &self.slots[index as usize];
        let room = self.shared.plan.local_room(self.shared.plan.room_of(slot.connection));
        let channel = Channel { topic: &self.rooms[room].topic, join: slot.join_reference() };
        self.message.clear();
        let control = item.control(&channel, &mut self.message);
        if !self.message.is_empty() {
            self.send_message(index);
        }
        self.on_control(index, control)
    }

    #[inline]
    fn on_delivery(&mut self, index: u32, stamp: Stamp) {
        let slot = &mut self.slots[index as usize];
        let counters = &mut self.stats.counters;
        if stamp.run != self.shared.run {
            counters.foreign += 1;
            return;
        }
        if slot.phase != Phase::Joined {
            if slot.phase == Phase::Slow {
                counters.slow_received += 1;
            } else {
                counters.early += 1;
            }
            return;
        }
        let (shared, connection) = (&self.shared, slot.connection);
        let receipt = slot.ledger.receive(stamp.number, |number| {
            if shared.rooms[shared.plan.room_of(connection) as usize].is_void(number) {
                counters.interrupted += 1;
            } else {
                counters.lost += 1;
            }
        });
        match receipt {
            Receipt::Counted => {
                counters.received += 1;
                let latency = self.now.saturating_sub(stamp.intended_ns);
                if stamp.intended_ns >= self.segment.from {
                    self.interval.saturating_record(latency);
                } else {
                    self.stats.latency.saturating_record(latency);
                }
            }
            Receipt::Duplicate => counters.duplicates += 1,
            Receipt::Early => counters.early += 1,
        }
    }

    fn on_control(&mut self, index: u32, control: Control) -> Result<(), End> {
        let slot = &mut self.slots[index as usize];
        match control {
            Control::Joined if slot.phase == Phase::Joining => self.joined(index),
            Control::Refused(reason) if slot.phase == Phase::Joining => {
                let error = format!("join refused: {reason}");
                if !self.shared.dialect.rejoins() {
                    return Err(End::broken(error));
                }
                self.leave(index, &error);
            }
            Control::Ended(how) if slot.phase == Phase::Joined => {
                let error = format!("channel ended: {how}");
                if !self.shared.dialect.rejoins() {
                    return Err(End::broken(error));
                }
                self.account(index, true);
                self.leave(index, &error);
            }
            Control::Rejected(reason) => self.stats.error(&format!("publish refused: {reason}")),
            Control::Alive => {
                slot.set(HEARTBEAT, false);
            }
            Control::Joined | Control::Refused(_) | Control::Ended(_) | Control::Other => {}
        }
        Ok(())
    }
}
