//! The life of one connection on a worker: connect, upgrade, join, read, end, and again.

use super::ledger::{Ledger, Receipt};
use super::phoenix::{self, Control};
use super::slot::{Phase, reconnect_delay_ms, rejoin_delay_ms};
use super::sys;
use super::wire;
use super::worker::{Timer, Worker};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::cmp::Reverse;
use std::io;
use std::net::SocketAddr;

/// How long connect, upgrade and join may take together; phoenix.js' timeout, ns.
const JOIN_TIMEOUT_NS: u64 = 10_000_000_000;
/// Bytes read from a socket at once.
const READ: usize = 64 << 10;
/// Bytes waiting for a server that does not read before the connection is given up.
const MAX_PENDING: usize = 1 << 20;
/// The close code that stands for a connection lost without one (RFC 6455 section 7.4.1).
const ABNORMAL: u16 = 1006;

/// Why reading a socket ended its connection.
struct End {
    code: u16,
    error: String,
}

impl End {
    fn broken(error: impl Into<String>) -> End {
        End { code: ABNORMAL, error: error.into() }
    }
}

impl Worker {
    /// Opens the socket of a slot.
    pub(super) fn open(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.phase = Phase::Connecting;
        slot.opened_at = self.now;
        let options = &self.shared.options;
        let target = &self.shared.targets[slot.connection as usize % self.shared.targets.len()];
        let source = match options.source_addresses.len() {
            0 => None,
            count => Some(SocketAddr::new(options.source_addresses[slot.connection as usize % count], 0)),
        };
        let generation = slot.generation;
        match connect(target.address, source) {
            Ok(socket) => {
                let added =
                    epoll::add(&self.poll, &socket, EventData::new_u64(index.into()), EventFlags::OUT);
                slot.socket = Some(socket);
                match added {
                    Ok(()) => self.at(self.now + JOIN_TIMEOUT_NS, index, generation),
                    Err(error) => self.end(index, ABNORMAL, &format!("epoll: {error}")),
                }
            }
            Err(error) => self.end(index, ABNORMAL, &format!("connect: {}", name(&error))),
        }
    }

    fn at(&mut self, due: u64, slot: u32, generation: u32) {
        self.timers.push(Reverse(Timer { due, slot, generation }));
    }

    /// A slot's timer: time to connect or join again, or too late to go on waiting.
    pub(super) fn on_timer(&mut self, index: u32) {
        match self.slots[index as usize].phase {
            Phase::Closed => self.open(index),
            Phase::Left => {
                let slot = &mut self.slots[index as usize];
                let generation = slot.generation;
                self.at(self.now + JOIN_TIMEOUT_NS, index, generation);
                self.join(index);
            }
            Phase::Connecting => self.end(index, ABNORMAL, "connect: timeout"),
            Phase::Upgrading => self.end(index, ABNORMAL, "upgrade: timeout"),
            Phase::Joining => self.end(index, ABNORMAL, "join: timeout"),
            Phase::Joined => {}
        }
    }

    /// Something happened on a socket.
    pub(super) fn on_event(&mut self, index: u32, flags: EventFlags) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(socket) = &slot.socket else { return };
        if slot.phase == Phase::Connecting {
            match socket.take_error() {
                Ok(None) => {
                    slot.phase = Phase::Upgrading;
                    let target = slot.connection as usize % self.handshakes.len();
                    let request = self.handshakes[target].request().to_vec();
                    self.rearm(index, EventFlags::IN);
                    self.send_bytes(index, &request);
                }
                Ok(Some(error)) | Err(error) => {
                    self.end(index, ABNORMAL, &format!("connect: {}", name(&error)));
                }
            }
            return;
        }
        if flags.contains(EventFlags::OUT) {
            self.flush(index);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
            && let Err(end) = self.read(index)
        {
            self.end(index, end.code, &end.error);
        }
    }

    fn rearm(&mut self, index: u32, flags: EventFlags) {
        let slot = &self.slots[index as usize];
        if let Some(socket) = &slot.socket
            && let Err(error) = epoll::modify(&self.poll, socket, EventData::new_u64(index.into()), flags)
        {
            self.stats.error(&format!("epoll: {error}"));
        }
    }

    /// Sends one frame.
    pub(super) fn send(&mut self, index: u32, opcode: u8, payload: &[u8]) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        wire::encode(&mut frame, opcode, payload, self.next_mask());
        self.send_bytes(index, &frame);
        self.frame = frame;
    }

    fn send_bytes(&mut self, index: u32, bytes: &[u8]) {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = &slot.socket else { return };
        self.stats.counters.bytes_out += bytes.len() as u64;
        let sent = if slot.pending.is_empty() {
            match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                // The reading side finds out why and ends the connection.
                Err(_) => return,
            }
        } else {
            0
        };
        if sent < bytes.len() {
            slot.pending.extend_from_slice(&bytes[sent..]);
            if slot.pending.len() > MAX_PENDING {
                self.end(index, ABNORMAL, "server does not read");
            } else {
                self.rearm(index, EventFlags::IN | EventFlags::OUT);
            }
        }
    }

    fn flush(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = &slot.socket else { return };
        if let Ok(sent) = rustix::net::send(socket, &slot.pending, SendFlags::NOSIGNAL) {
            slot.pending.drain(..sent);
        }
        if slot.pending.is_empty() {
            slot.pending = Vec::new();
            self.rearm(index, EventFlags::IN);
        }
    }

    fn read(&mut self, index: u32) -> Result<(), End> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.read_into(index, &mut scratch);
        self.scratch = scratch;
        result
    }

    fn read_into(&mut self, index: u32, scratch: &mut Vec<u8>) -> Result<(), End> {
        let slot = &mut self.slots[index as usize];
        let Some(socket) = &slot.socket else { return Ok(()) };
        let kept = slot.partial.len();
        if scratch.len() < kept + READ {
            scratch.resize(kept + READ, 0);
        }
        scratch[..kept].copy_from_slice(&slot.partial);
        let got = match rustix::net::recv(socket, &mut scratch[kept..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(End::broken("connection closed by the server")),
            Ok((got, _)) => got,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(End::broken(format!("read: {}", name(&error.into())))),
        };
        slot.partial = Vec::new();
        self.now = self.shared.now();
        let bytes = &scratch[..kept + got];
        let used = self.on_bytes(index, bytes)?;
        let slot = &mut self.slots[index as usize];
        if slot.socket.is_some() && used < bytes.len() {
            slot.partial = bytes[used..].to_vec();
        }
        Ok(())
    }

    /// Takes the whole messages at the front of `bytes`; returns how many bytes they were.
    fn on_bytes(&mut self, index: u32, bytes: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        if self.slots[index as usize].phase == Phase::Upgrading {
            let target = self.slots[index as usize].connection as usize % self.handshakes.len();
            match self.handshakes[target].response(bytes) {
                Ok(None) => return Ok(0),
                Ok(Some(length)) => used = length,
                Err(error) => return Err(End::broken(format!("upgrade: {error}"))),
            }
            self.slots[index as usize].attempts = 0;
            self.join(index);
        }
        while let Some(frame) = wire::decode(&bytes[used..]).map_err(End::broken)? {
            used += frame.length;
            self.stats.counters.bytes_in += frame.length as u64;
            match frame.opcode {
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
        Ok(used)
    }

    fn on_message(&mut self, index: u32, message: &[u8]) -> Result<(), End> {
        if let Some(stamp) = phoenix::stamp(message) {
            self.on_delivery(index, stamp);
            return Ok(());
        }
        match phoenix::control(message).map_err(End::broken)? {
            Control::Reply { reference: Some(reference), outcome } => {
                self.on_reply(index, reference, outcome);
            }
            Control::Ended(how) if self.slots[index as usize].phase == Phase::Joined => {
                self.account(index, true);
                self.leave(index, &format!("channel ended: {how}"));
            }
            Control::Reply { reference: None, .. } | Control::Ended(_) | Control::Other => {}
        }
        Ok(())
    }

    fn on_delivery(&mut self, index: u32, stamp: phoenix::Stamp) {
        let slot = &mut self.slots[index as usize];
        if stamp.run != self.shared.run {
            self.stats.counters.foreign += 1;
            return;
        }
        if slot.phase != Phase::Joined {
            self.stats.counters.early += 1;
            return;
        }
        let room = &self.shared.rooms[self.shared.plan.room_of(slot.connection) as usize];
        let counters = &mut self.stats.counters;
        let receipt = slot.ledger.receive(stamp.number, |number| {
            if room.is_void(number) {
                counters.interrupted += 1;
            } else {
                counters.lost += 1;
            }
        });
        match receipt {
            Receipt::Counted => {
                counters.received += 1;
                let latency = self.now.saturating_sub(stamp.intended_ns);
                self.stats.latency.saturating_record(latency);
                self.interval.saturating_record(latency);
            }
            Receipt::Duplicate => counters.duplicates += 1,
            Receipt::Early => counters.early += 1,
        }
    }

    fn on_reply(&mut self, index: u32, reference: u32, outcome: Result<(), String>) {
        let slot = &mut self.slots[index as usize];
        if reference == slot.heartbeat_reference {
            slot.heartbeat_reference = 0;
        } else if slot.phase == Phase::Joining && reference == slot.join_reference {
            match outcome {
                Ok(()) => self.joined(index),
                Err(reason) => self.leave(index, &format!("join refused: {reason}")),
            }
        } else if let Err(reason) = outcome {
            self.stats.error(&format!("publish refused: {reason}"));
        }
    }

    fn joined(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let room = self.shared.plan.room_of(slot.connection);
        slot.phase = Phase::Joined;
        slot.joins = 0;
        slot.heartbeat_reference = 0;
        slot.ledger = Ledger::open(self.shared.rooms[room as usize].next());
        let members = &mut self.rooms[self.shared.plan.local_room(room)].members;
        slot.place = members.len() as u32;
        members.push(index);
        self.joined_now += 1;
        if let Some(down_at) = slot.down_at.take() {
            self.stats.counters.rejoined += 1;
            self.stats.reconnect.saturating_record(self.now - down_at);
        } else {
            self.stats.connect.saturating_record(self.now - slot.opened_at);
        }
        if !slot.joined_once {
            slot.joined_once = true;
            self.stats.counters.joined += 1;
        }
        self.decided(index);
    }

    fn decided(&mut self, index: u32) {
        if !std::mem::replace(&mut self.slots[index as usize].decided, true) {
            self.undecided -= 1;
        }
    }

    /// Counts a failed attempt to get into the room.
    fn failed(&mut self, index: u32, error: &str) {
        if self.slots[index as usize].joined_once {
            self.stats.counters.failed_reconnects += 1;
            self.stats.error(&format!("reconnect: {error}"));
        } else {
            self.stats.counters.failed_connects += 1;
            self.stats.error(error);
        }
        self.decided(index);
    }

    /// The channel is gone or was refused while the socket lives on.
    fn leave(&mut self, index: u32, error: &str) {
        let slot = &mut self.slots[index as usize];
        if slot.phase == Phase::Joined {
            slot.phase = Phase::Left;
            self.stats.error(error);
        } else {
            slot.phase = Phase::Left;
            self.failed(index, error);
        }
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        if self.shared.options.reconnect {
            let due = self.now + rejoin_delay_ms(slot.joins.into()) * 1_000_000;
            slot.joins = slot.joins.saturating_add(1);
            let generation = slot.generation;
            self.at(due, index, generation);
        }
    }

    /// The connection is over, by whatever cause.
    pub(super) fn end(&mut self, index: u32, code: u16, error: &str) {
        let phase = self.slots[index as usize].phase;
        if phase == Phase::Joined {
            self.account(index, true);
            self.stats.counters.disconnects += 1;
            *self.stats.close_codes.entry(code).or_default() += 1;
            if code == ABNORMAL {
                self.stats.error(&format!("disconnect: {error}"));
            }
        } else if phase != Phase::Left {
            self.failed(index, error);
        }
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Closed;
        slot.generation = slot.generation.wrapping_add(1);
        // Closing the descriptor takes it out of the epoll, too.
        slot.socket = None;
        slot.partial = Vec::new();
        slot.pending = Vec::new();
        // Like phoenix.js, which takes 1000 for the end of the session.
        if self.shared.options.reconnect && code != 1000 {
            let due = self.now + reconnect_delay_ms(slot.attempts.into()) * 1_000_000;
            slot.attempts = slot.attempts.saturating_add(1);
            let generation = slot.generation;
            self.at(due, index, generation);
        }
    }

    /// Takes a joined slot out of its room and closes its account. When the connection was `cut`, what had
    /// not arrived is excused, and so are its own publishes that had not come back.
    pub(super) fn account(&mut self, index: u32, cut: bool) {
        let slot = &mut self.slots[index as usize];
        let room_number = self.shared.plan.room_of(slot.connection);
        let local = &mut self.rooms[self.shared.plan.local_room(room_number)];
        let room = &self.shared.rooms[room_number as usize];
        let (next, counters) = (room.next(), &mut self.stats.counters);
        counters.owed += u64::from(slot.ledger.owed(next));
        slot.ledger.missing_below(next, |number| {
            if cut && local.recent.contains(&(number, index)) {
                room.declare_void(number);
            }
            if cut || room.is_void(number) {
                counters.interrupted += 1;
            } else {
                counters.lost += 1;
            }
        });
        if cut {
            slot.down_at = Some(self.now);
        }
        local.members.swap_remove(slot.place as usize);
        if let Some(moved) = local.members.get(slot.place as usize) {
            let place = slot.place;
            self.slots[*moved as usize].place = place;
        }
        self.joined_now -= 1;
    }
}

fn connect(target: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        sys::bind_address_no_port(&socket)?;
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A short name for an error; the text without the number where there is one.
fn name(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| Errno::from_raw_os_error(code).kind().to_string())
}
