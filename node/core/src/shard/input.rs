//! Bytes from a socket: the handshake, then WebSocket messages.

use std::sync::atomic::Ordering;

use super::{Conn, Flags, Phase, Shard, rate::UNCHECKED};
use crate::{
    broadcast::Content,
    config::CLUSTER_TOPIC,
    counters::{CloseReason, RefuseReason},
    limits::{MAX_HEADS_BYTES, MAX_INCOMPLETE_BYTES, STAMP_MILLIS},
    protocol::{self, Vsn, encode},
    room::ConnId,
    ws::{
        CloseCode, Event, Flow, Opcode, WsError, frame,
        handshake::{self, Request, Rules},
    },
};

/// Whether a connection's input is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input is used or kept until more arrives.
    Done,
    /// The turn's budget ended first: call [`Shard::on_data`] again with no new data, in a later turn.
    Paused,
}

impl Shard {
    /// Data arrived, in place in the thread's read buffer (it is unmasked there). With empty `data` goes on with what
    /// was kept after [`Progress::Paused`].
    pub fn on_data(&mut self, id: ConnId, data: &mut [u8]) -> Progress {
        self.counters.received_bytes += data.len() as u64;
        let stamp = self.stamp();
        let conn = &mut self.conns[id.index()];
        let progress = match conn.phase {
            Phase::Handshake => self.on_head(id, data),
            Phase::Open => {
                conn.stamp = stamp;
                self.on_frames(id, data)
            }
            Phase::Leaving | Phase::Closing => self.on_frames(id, data),
            Phase::Linger | Phase::Drop | Phase::Final | Phase::Gone => Progress::Done,
        };
        self.look_at_memory();
        progress
    }

    fn on_head(&mut self, id: ConnId, data: &[u8]) -> Progress {
        let conn = &mut self.conns[id.index()];
        self.ledger.heads -= conn.reader.held_bytes() as u64;
        let mut kept = conn.reader.take();
        let known = kept.len();
        self.heads_bytes -= known;
        let head = if kept.is_empty() {
            data
        } else {
            kept.extend_from_slice(data);
            &kept
        };
        let leaving = self.timers.is_leaving();
        let rules = Rules {
            path: &self.config.path,
            auth: &self.config.auth,
            page: self.config.chat_page.then_some(self.options.page),
            ready: !leaving && self.options.ready.load(Ordering::Relaxed),
        };
        // The first part is always looked at: what is no request is told at once.
        let request = if known == 0 || handshake::may_be_whole(head, known) {
            handshake::read(head, &rules)
        } else {
            Request::Incomplete
        };
        match request {
            Request::Incomplete if self.heads_bytes + head.len() > MAX_HEADS_BYTES => {
                self.refuse(id, RefuseReason::Full);
                Progress::Done
            }
            Request::Incomplete if self.is_short_of_memory() => {
                self.refuse(id, RefuseReason::Memory);
                Progress::Done
            }
            Request::Incomplete => {
                self.heads_bytes += head.len();
                self.change_input(id, |reader| reader.keep(head));
                Progress::Done
            }
            Request::Answer(response) => {
                self.answer(id, response.into());
                Progress::Done
            }
            Request::Refused(reason) => {
                self.refuse(id, reason);
                Progress::Done
            }
            Request::Upgrade { vsn, head_len, response } => {
                if self.is_leaving() {
                    self.refuse(id, RefuseReason::Draining);
                } else if self.is_short_of_memory() {
                    self.refuse(id, RefuseReason::Memory);
                } else if self.options.places.claim(self.config.limits.max_connections) {
                    self.establish(id, vsn, response.into());
                    let mut rest = head[head_len..].to_vec();
                    return self.on_frames(id, &mut rest);
                } else {
                    self.refuse(id, RefuseReason::Full);
                }
                Progress::Done
            }
        }
    }

    fn establish(&mut self, id: ConnId, vsn: Vsn, response: bytes::Bytes) {
        self.counters.handshaking -= 1;
        self.counters.connections += 1;
        self.counters.opened += 1;
        let stamp = self.stamp();
        let conn = &mut self.conns[id.index()];
        conn.phase = Phase::Open;
        conn.stamp = stamp;
        conn.flags.set(Flags::ESTABLISHED);
        if vsn == Vsn::V1 {
            conn.flags.set(Flags::V1);
        }
        self.queue_one(id, response);
    }

    fn refuse(&mut self, id: ConnId, reason: RefuseReason) {
        self.counters.count_refused(reason);
        self.answer(id, bytes::Bytes::from_static(handshake::refusal(reason)));
    }

    /// Sends a whole HTTP response and ends the connection.
    fn answer(&mut self, id: ConnId, response: bytes::Bytes) {
        let stamp = self.stamp();
        let conn = &mut self.conns[id.index()];
        conn.phase = Phase::Linger;
        conn.stamp = stamp;
        self.queue_one(id, response);
    }

    fn on_frames(&mut self, id: ConnId, data: &mut [u8]) -> Progress {
        let max = self.config.limits.max_frame_bytes as usize;
        let mut reader = std::mem::take(&mut self.conns[id.index()].reader);
        self.ledger.input -= reader.held_bytes() as u64;
        (self.said, self.may_say) = (0, UNCHECKED);
        let (before, messages) = (reader.incomplete_bytes(), self.counters.received_messages);
        let result = reader.feed(data, max, &mut |event| self.on_event(id, event));
        let Conn { phase, reader: place, .. } = &mut self.conns[id.index()];
        let mut after = 0;
        if result.is_ok() && matches!(phase, Phase::Open | Phase::Leaving | Phase::Closing) {
            after = reader.incomplete_bytes();
            self.ledger.input += reader.held_bytes() as u64;
            *place = reader;
        }
        self.charge(id, data.len());
        let another = before == 0 || self.counters.received_messages > messages;
        if (before > 0 || after > 0) && !self.keep_incomplete(id, (before, after), another) {
            return Progress::Done;
        }
        match result {
            Ok(Flow::Pause) => Progress::Paused,
            Ok(Flow::Continue | Flow::Stop) => Progress::Done,
            Err(error) => {
                self.on_broken(id, error);
                Progress::Done
            }
        }
    }

    /// Counts what a connection's incomplete message took and takes now. False when that is too much for the shard, or the
    /// message takes longer than a connection may be idle, and the connection was closed for it.
    fn keep_incomplete(&mut self, id: ConnId, (before, after): (usize, usize), another: bool) -> bool {
        self.incomplete_bytes = self.incomplete_bytes - before + after;
        let now = self.stamp();
        let reader = &mut self.conns[id.index()].reader;
        let age_millis = u64::from(now.wrapping_sub(reader.incomplete_since(now, another))) * STAMP_MILLIS;
        let (reason, code) = if self.incomplete_bytes > MAX_INCOMPLETE_BYTES {
            (CloseReason::Full, CloseCode::TryAgainLater)
        } else if after > 0 && age_millis > self.config.limits.idle_timeout_millis {
            // Pings between its parts would keep it for ever.
            (CloseReason::Idle, CloseCode::ProtocolError)
        } else {
            return true;
        };
        self.forget_input(id);
        self.break_off(id, reason, code);
        // The rest of the message cannot be told from a frame: it is not read.
        if matches!(self.conns[id.index()].phase, Phase::Leaving | Phase::Closing) {
            self.leave_all(id);
            self.conns[id.index()].phase = Phase::Linger;
        }
        false
    }

    fn on_broken(&mut self, id: ConnId, error: WsError) {
        let reason = match error {
            WsError::Protocol => CloseReason::Protocol,
            WsError::Utf8 => CloseReason::Utf8,
            WsError::TooBig => CloseReason::TooBig,
        };
        self.break_off(id, reason, error.code());
    }

    /// Ends a connection whose further input cannot be read.
    fn break_off(&mut self, id: ConnId, reason: CloseReason, code: CloseCode) {
        if matches!(self.conns[id.index()].phase, Phase::Leaving | Phase::Closing) {
            self.end(id);
        } else {
            self.close(id, reason, code);
        }
    }

    fn on_event(&mut self, id: ConnId, event: Event<'_>) -> Flow {
        if let Event::Close(payload) = event {
            self.on_close_frame(id, payload);
            return Flow::Stop;
        }
        let conn = &self.conns[id.index()];
        match conn.phase {
            Phase::Open | Phase::Leaving => {}
            Phase::Closing => return Flow::Continue,
            _ => return Flow::Stop,
        }
        let vsn = conn.vsn();
        match event {
            Event::Text(text) => self.on_message(id, vsn, protocol::decode_text(vsn, text)),
            Event::Binary(bytes) => self.on_message(id, vsn, protocol::decode_binary(vsn, bytes)),
            Event::Ping(payload) => self.reply(id, frame::control(Opcode::Pong, payload).into()),
            Event::Pong | Event::Close(_) => {}
        }
        if self.is_beyond_rate(id) || self.is_over_budget() { Flow::Pause } else { Flow::Continue }
    }

    fn on_close_frame(&mut self, id: ConnId, payload: &[u8]) {
        match self.conns[id.index()].phase {
            Phase::Open => {
                self.counters.count_closed(CloseReason::Peer);
                self.leave_all(id);
                let stamp = self.stamp();
                let conn = &mut self.conns[id.index()];
                conn.phase = Phase::Final;
                conn.stamp = stamp;
                self.queue_one(id, frame::control(Opcode::Close, payload).into());
            }
            Phase::Leaving | Phase::Closing if self.conns[id.index()].queue.is_empty() => self.end(id),
            // Our own close frame is still queued: send it, then close.
            Phase::Leaving | Phase::Closing => {
                self.leave_all(id);
                self.conns[id.index()].phase = Phase::Final;
            }
            _ => {}
        }
    }

    fn on_message(
        &mut self,
        id: ConnId,
        vsn: Vsn,
        message: Result<protocol::Message<'_>, protocol::Malformed>,
    ) {
        self.counters.received_messages += 1;
        match message {
            Ok(message) => self.dispatch(id, vsn, &message),
            Err(protocol::Malformed) => {
                // Phoenix closes with 1011 here, which makes phoenix.js reconnect and, most likely, say the same again.
                // A reply that belongs to no channel is ignored by clients and seen by whoever debugs one.
                self.counters.malformed_messages += 1;
                let refs = (protocol::NULL, protocol::NULL);
                self.reply(id, encode::error(vsn, refs, "phoenix", "malformed message"));
            }
        }
    }

    /// Figures of the fleet, a JSON object, for the members of the reserved topic.
    pub fn on_cluster_stats(&mut self, json: &str) {
        if let Some(room) = self.rooms.find(CLUSTER_TOPIC) {
            let content = Content::json(CLUSTER_TOPIC, "stats", json);
            self.broadcast(room, &content, None);
        }
    }
}
