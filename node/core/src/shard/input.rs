//! Bytes from a transport: the handshake, then WebSocket messages.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{
    backend::Stand,
    event::Progress,
    origin::{Entrance, Entrant},
    pace::Allowance,
    state::Shard,
};
use crate::{
    auth::{Priority, Token},
    counters::{CloseReason, RefuseReason},
    limits::{MAX_HEADS_BYTES, MAX_INCOMPLETE_BYTES, STAMP_MILLIS},
    longpoll,
    protocol::{self, Raw, Translation, Unreadable, Vsn},
    session::{
        conn::Flags,
        id::Slot,
        lifecycle::{Cause, Phase},
        wire::Wire,
    },
    ws::{
        CloseCode, Event, Flow, Opcode, WsError,
        deflate::{Inflated, Inflater, MAX_WINDOW_BITS},
        frame,
        handshake::{self, Request, Rules},
    },
};

impl Shard {
    /// Data arrived, in place in the thread's read buffer (it is unmasked there). With empty `data` goes on with what
    /// was kept after [`Progress::Paused`].
    pub fn on_data(&mut self, slot: Slot, data: &mut [u8]) -> Progress {
        self.counters.received_bytes += data.len() as u64;
        let stamp = self.stamp();
        let conn = &mut self.sessions[slot];
        let progress = match conn.phase() {
            Phase::Handshake => self.on_head(slot, data),
            phase @ (Phase::Open | Phase::Leaving | Phase::Closing) => {
                if phase == Phase::Open {
                    conn.stamp = stamp;
                }
                let progress = self.on_frames(slot, data);
                self.look_at_memory_of_frames();
                return progress;
            }
            Phase::Asking => self.on_asking(slot, data),
            Phase::Linger | Phase::Drop | Phase::Final | Phase::Gone => Progress::Done,
        };
        self.look_at_memory();
        progress
    }

    fn on_head(&mut self, slot: Slot, data: &[u8]) -> Progress {
        let mut kept = self.sessions.take_head(slot);
        let known = kept.len();
        let head = if kept.is_empty() {
            data
        } else {
            kept.extend_from_slice(data);
            &kept
        };
        // The first part is always looked at: what is no request is told at once.
        let most = self.config.limits.max_request_head_bytes as usize;
        let request = if known == 0 || handshake::may_be_whole(head, known, most) {
            self.read_head(slot, head)
        } else {
            Request::Incomplete
        };
        match request {
            Request::Incomplete if self.sessions.heads_bytes() + head.len() > MAX_HEADS_BYTES => {
                self.refuse(slot, RefuseReason::Full);
                Progress::Done
            }
            Request::Incomplete if self.refuses_unknown() => {
                self.refuse(slot, RefuseReason::Memory);
                Progress::Done
            }
            Request::Incomplete => {
                self.sessions.keep_head(slot, head);
                Progress::Done
            }
            request => self.serve(slot, head, request),
        }
    }

    /// Reads the head of a request on a connection, and notes the client that it is for where a proxy sent it.
    #[inline]
    pub(super) fn read_head(&mut self, slot: Slot, head: &[u8]) -> Request {
        let search = self.search_client(slot);
        let (config, options) = (&self.config, &self.options);
        let long_poll = || longpoll::request::Rules {
            key: &options.poll_key,
            peers: options.has_bus.then_some(&*options.peers),
            max_body_bytes: longpoll::body::most_bytes(config.limits.max_frame_bytes),
            dev: config.fixed.dev,
        };
        let rules = Rules {
            path: &config.fixed.path,
            max_head_bytes: config.limits.max_request_head_bytes as usize,
            auth: &config.auth,
            page: config.chat_page.then_some(options.page),
            ready: !self.timers.is_leaving() && options.ready.load(Ordering::Relaxed),
            dev: config.fixed.dev,
            client: search.as_ref(),
            long_poll: config.long_poll.then(long_poll),
            deflate_window_bits: config.compression.map(|_| MAX_WINDOW_BITS),
        };
        let request = handshake::read(head, &rules);
        if let Some(client) = search.and_then(|search| search.found()) {
            self.note_client(slot, client);
        }
        request
    }

    /// Answers a request, whose head is at the start of `bytes`. An incomplete one is not answered.
    #[inline]
    pub(super) fn serve(&mut self, slot: Slot, bytes: &[u8], request: Request) -> Progress {
        match request {
            Request::Incomplete => {}
            Request::Answer(response) => self.answer(slot, response.into()),
            Request::Refused(reason) => self.refuse(slot, reason),
            Request::Declined(reason, response) => self.decline(slot, reason, response),
            Request::LongPoll(request) => self.on_long_poll(slot, bytes, request),
            Request::Upgrade { vsn, head_len, response, info, token, deflate } => {
                match self.claim_place(slot, Entrance::Socket, token.as_ref()) {
                    Ok(entrant) => {
                        self.look_at_head(head_len);
                        self.establish(slot, Wire { vsn, deflate: deflate.is_some() }, response.into());
                        self.introduce(slot, info, entrant);
                        let mut rest = bytes[head_len..].to_vec();
                        return self.on_frames(slot, &mut rest);
                    }
                    Err(reason) => self.refuse(slot, reason),
                }
            }
        }
        Progress::Done
    }

    /// Takes a place for one more connection, which is asked for on `slot` with this token or without one, and says who it
    /// is. Every connection has to come through here.
    pub(super) fn claim_place(
        &mut self,
        slot: Slot,
        entrance: Entrance,
        token: Option<&Token>,
    ) -> Result<Entrant, RefuseReason> {
        if self.timers.is_leaving() {
            return Err(RefuseReason::Draining);
        }
        if self.refuses_everybody() {
            return Err(RefuseReason::Memory);
        }
        let identity = self.authenticate(token)?;
        let priority = identity.as_ref().map_or(Priority::Normal, |identity| identity.priority());
        if self.refuses(priority) {
            let only_low = !self.refuses(Priority::Normal);
            return Err(if only_low { RefuseReason::MemoryLow } else { RefuseReason::Memory });
        }
        if !self.options.places.claim(self.config.limits.max_connections) {
            return Err(RefuseReason::Full);
        }
        match self.claim_for(slot, entrance) {
            Ok(standing) => Ok(Entrant { identity, standing }),
            Err(reason) => {
                self.options.places.release();
                Err(reason)
            }
        }
    }

    fn establish(&mut self, slot: Slot, wire: Wire, response: Bytes) {
        let took_millis = self.sessions.establish(slot, self.now_millis);
        if self.sessions[slot].is(Phase::Handshake) {
            self.lately.note_handshake(took_millis);
        }
        self.end_requests(slot);
        self.counters.connections += 1;
        self.counters.opened += 1;
        self.advance(slot, Cause::Upgraded);
        let conn = &mut self.sessions[slot];
        conn.speak(wire);
        conn.flags.set(Flags::ESTABLISHED);
        self.egress.queue_one(slot, conn, response);
    }

    pub(super) fn refuse(&mut self, slot: Slot, reason: RefuseReason) {
        self.decline(slot, reason, Bytes::from_static(handshake::refusal(reason)));
    }

    /// Refuses a request with this whole response.
    pub(super) fn decline(&mut self, slot: Slot, reason: RefuseReason, response: Bytes) {
        self.counters.count_refused(reason);
        self.answer(slot, response);
    }

    /// Sends a whole HTTP response and ends the connection.
    pub(super) fn answer(&mut self, slot: Slot, response: Bytes) {
        self.sessions.forget_input(slot);
        self.advance(slot, Cause::Answered);
        self.egress.queue_one(slot, &mut self.sessions[slot], response);
    }

    fn on_frames(&mut self, slot: Slot, data: &mut [u8]) -> Progress {
        let max = self.config.limits.max_frame_bytes as usize;
        let mut allowance = Allowance::default();
        let mut reader = self.sessions.take_reader(slot);
        let (before, messages) = (reader.incomplete_bytes(), self.counters.received_messages);
        let mut inflater = self.sessions[slot].deflates().then(|| self.inflater.take().unwrap_or_default());
        let mut sink = |event: Event<'_>| self.on_event(slot, event, &mut allowance);
        let result = match &mut inflater {
            None => reader.feed(data, max, &mut sink),
            Some(inflater) => reader.feed_deflate(data, max, inflater, &mut sink),
        };
        let bytes = data.len() + inflater.map_or(0, |inflater| self.put_inflater(inflater));
        let after = self.sessions.put_reader(slot, result.is_ok().then_some(reader), before);
        self.charge(slot, &allowance, bytes);
        let another = before == 0 || self.counters.received_messages > messages;
        if (before > 0 || after > 0) && !self.may_stay_incomplete(slot, after, another) {
            return Progress::Done;
        }
        match result {
            Ok(Flow::Pause) => Progress::Paused,
            Ok(Flow::Continue | Flow::Stop) => Progress::Done,
            Err(error) => {
                self.on_broken(slot, error);
                Progress::Done
            }
        }
    }

    /// Puts the inflater back, and counts what it has inflated. Returns by how many bytes that is more than what came.
    #[cold]
    fn put_inflater(&mut self, mut inflater: Box<Inflater>) -> usize {
        let Inflated { messages, before, after } = inflater.take_inflated();
        self.counters.inflated_messages += messages;
        self.counters.inflated_bytes += before as u64;
        self.counters.inflated_to_bytes += after as u64;
        self.inflater = Some(inflater);
        after.saturating_sub(before)
    }

    /// False when incomplete messages take too much of the shard, or this one, of so many bytes, takes longer than a
    /// connection may be idle; the connection was closed for it then.
    fn may_stay_incomplete(&mut self, slot: Slot, bytes: usize, another: bool) -> bool {
        let now = self.stamp();
        let reader = &mut self.sessions[slot].reader;
        let age_millis = u64::from(now.wrapping_sub(reader.incomplete_since(now, another))) * STAMP_MILLIS;
        let (reason, code) = if self.sessions.incomplete_bytes() > MAX_INCOMPLETE_BYTES {
            (CloseReason::Full, CloseCode::TryAgainLater)
        } else if bytes > 0 && age_millis > self.config.limits.idle_timeout_millis {
            // Pings between its parts would keep it for ever.
            (CloseReason::Idle, CloseCode::ProtocolError)
        } else {
            return true;
        };
        self.sessions.forget_input(slot);
        self.break_off(slot, reason, code);
        false
    }

    fn on_broken(&mut self, slot: Slot, error: WsError) {
        let reason = match error {
            WsError::Protocol => CloseReason::Protocol,
            WsError::Utf8 => CloseReason::Utf8,
            WsError::Deflate => CloseReason::Deflate,
            WsError::TooBig => CloseReason::TooBig,
        };
        self.break_off(slot, reason, error.code());
    }

    fn on_event(&mut self, slot: Slot, event: Event<'_>, allowance: &mut Allowance) -> Flow {
        if let Event::Close(payload) = event {
            self.on_close_frame(slot, payload);
            return Flow::Stop;
        }
        let conn = &self.sessions[slot];
        if !conn.phase().hears() {
            return if conn.is(Phase::Closing) { Flow::Continue } else { Flow::Stop };
        }
        let vsn = conn.vsn();
        match event {
            Event::Text(text) => {
                self.look_at_length(text.len());
                self.on_text(slot, vsn, text);
            }
            Event::Binary(bytes) => {
                self.look_at_length(bytes.len());
                self.on_binary(slot, vsn, bytes);
            }
            Event::Ping(payload) => self.reply(slot, frame::control(Opcode::Pong, payload).into()),
            Event::Pong | Event::Close(_) => {}
        }
        let pauses = self.is_used_up(slot, allowance) || self.is_over_budget() || self.inquiries.hold(slot);
        if pauses { Flow::Pause } else { Flow::Continue }
    }

    fn on_close_frame(&mut self, slot: Slot, payload: &[u8]) {
        let phase = self.sessions[slot].phase();
        self.advance(slot, Cause::PeerClosed);
        if phase == Phase::Open {
            self.tell_code(slot, payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
            let answer = frame::close_answer(payload).into();
            self.egress.queue_one(slot, &mut self.sessions[slot], answer);
        } else if phase.awaits_close() && self.sessions[slot].is_all_sent() {
            self.advance(slot, Cause::Sent);
        }
    }

    /// A binary message. User broadcasts are part of the protocol in the rooms of Supabase's Realtime alone.
    fn on_binary(&mut self, slot: Slot, vsn: Vsn, bytes: &[u8]) {
        self.counters.received_messages += 1;
        let (mut json, most_bytes) = (String::new(), self.config.limits.max_frame_bytes as usize);
        match protocol::decode_binary(vsn, bytes, Translation { json: &mut json, most_bytes }) {
            Ok(message) if !message.payload.is_of_user() => self.dispatch(slot, vsn, &message),
            Ok(message) if self.is_realtime(&message.topic) => self.on_push(slot, &message, Stand::Unasked),
            Ok(_) | Err(Unreadable::Malformed | Unreadable::TooDeep) => {
                // V1 reads JSON out of frames of either kind.
                let text = std::str::from_utf8(bytes).ok().filter(|_| vsn == Vsn::V1);
                self.on_malformed(slot, vsn, text.map_or(Raw::Binary(bytes), Raw::Text));
            }
            Err(Unreadable::TooBig) => self.close(slot, CloseReason::TooBig, CloseCode::TooBig),
        }
    }

    /// A message that came as text.
    fn on_text(&mut self, slot: Slot, vsn: Vsn, text: &str) {
        self.counters.received_messages += 1;
        match protocol::decode_text(vsn, text) {
            Ok(message) => self.dispatch(slot, vsn, &message),
            Err(protocol::Malformed) => self.on_malformed(slot, vsn, Raw::Text(text)),
        }
    }

    #[cold]
    fn on_malformed(&mut self, slot: Slot, vsn: Vsn, raw: Raw<'_>) {
        if let Raw::Text(text) = raw
            && let Some(message) = protocol::decode_odd(vsn, text)
        {
            return self.dispatch_odd(slot, vsn, &message);
        }
        if let Some(message) = protocol::decode_deep(vsn, raw) {
            return self.on_deep(slot, &message);
        }
        self.counters.malformed_messages += 1;
        self.close(slot, CloseReason::Malformed, CloseCode::Malformed);
    }
}
