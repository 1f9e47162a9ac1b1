//! HTTP connections of long-poll clients: their requests are read and answered, one after another.
//!
//! What a request asks for is answered by the shard of its session, which may be another one; meanwhile the connection
//! waits. An answer that comes when the connection has ended, or has gone on, is dropped. If there were messages in it,
//! its client is told that it missed something, and its session ends, as with a WebSocket that broke.

use bytes::Bytes;

use super::{
    event::{Effect, Mail, Outgoing, Progress},
    origin::Entrance,
    state::Shard,
};
use crate::{
    counters::RefuseReason,
    limits::{MAX_CARRIED, MAX_INCOMPLETE_BYTES, MAX_POLLING, POLL_WINDOW_MILLIS},
    longpoll::{
        Answer, Ask, Asker, Asking, Body, Carried, Goal, Outcome, Step, Waiting, What, answer, body,
        request::{Request, Wish},
        token::Token,
    },
    session::{
        id::Slot,
        lifecycle::{Cause, Phase},
    },
    ws::{Opening, handshake},
};

impl Shard {
    /// Input of an HTTP connection.
    pub(super) fn on_asking(&mut self, slot: Slot, data: &[u8]) -> Progress {
        let known = self.sessions[slot].reader.buffered().len();
        if !data.is_empty() {
            // A request may take as long as a connection may be idle, from its first byte on.
            if known == 0 && self.polls.step(slot) == Some(Step::Head) {
                self.sessions[slot].stamp = self.stamp();
            }
            self.sessions.keep_input(slot, data);
        }
        let conn = &self.sessions[slot];
        let most_bytes = self.config.limits.max_request_head_bytes as usize;
        match self.polls.step(slot) {
            Some(Step::Head) if conn.queue.is_empty() => {
                let looked_at = if data.is_empty() { 0 } else { known };
                return self.on_further_head(slot, looked_at, most_bytes);
            }
            Some(Step::Body(body)) => self.on_body(slot, body),
            // The next request waits here until this one is answered and the client has the answer; no honest client
            // sends more than one.
            Some(Step::Head | Step::Waiting(_)) if conn.reader.buffered().len() > most_bytes => {
                self.advance(slot, Cause::Lost);
            }
            Some(Step::Head | Step::Waiting(_)) | None => {}
        }
        Progress::Done
    }

    /// All that was queued for a connection is sent, and it is no open WebSocket.
    #[cold]
    pub(super) fn all_sent(&mut self, slot: Slot) {
        let conn = &self.sessions[slot];
        if !conn.is(Phase::Asking) {
            self.advance(slot, Cause::Sent);
        } else if !conn.reader.buffered().is_empty() {
            self.effects.push(Effect::Paused(slot));
        }
    }

    /// Reads the next head, whose first `looked_at` bytes are known not to be whole.
    #[cold]
    fn on_further_head(&mut self, slot: Slot, looked_at: usize, most_bytes: usize) -> Progress {
        let kept = self.sessions.take_input(slot);
        if kept.is_empty() {
            return Progress::Done;
        }
        let request = if looked_at == 0 || handshake::may_be_whole(&kept, looked_at, most_bytes) {
            self.read_head(slot, &kept)
        } else {
            handshake::Request::Incomplete
        };
        match request {
            handshake::Request::Incomplete => {
                self.sessions.keep_input(slot, &kept);
                self.check_incomplete(slot);
                Progress::Done
            }
            request => self.serve(slot, &kept, request),
        }
    }

    /// Refuses a request that is not complete when too much is kept of such requests.
    fn check_incomplete(&mut self, slot: Slot) {
        if self.sessions.incomplete_bytes() > MAX_INCOMPLETE_BYTES {
            self.refuse(slot, RefuseReason::Full);
        } else if self.refuses_unknown() {
            self.refuse(slot, RefuseReason::Memory);
        }
    }

    /// A request for long-poll, whose head is at the start of `bytes`.
    #[cold]
    pub(super) fn on_long_poll(&mut self, slot: Slot, bytes: &[u8], request: Request) {
        let Request { head_len, keep_alive, wish } = request;
        self.look_at_head(head_len);
        if self.sessions[slot].is(Phase::Handshake) {
            if self.counters.polling >= MAX_POLLING {
                return self.refuse(slot, RefuseReason::Full);
            }
            self.counters.handshaking -= 1;
            self.counters.polling += 1;
            self.advance(slot, Cause::Asked);
            self.polls.begin_asking(slot);
        }
        self.sessions.keep_input(slot, &bytes[head_len..]);
        match wish {
            Wish::Preflight(headers) => {
                let keep_alive = self.may_keep_alive(keep_alive);
                self.respond(slot, answer::preflight(&headers, keep_alive), keep_alive);
            }
            Wish::Poll { session, opening } => {
                self.counters.polls += 1;
                match session {
                    None => self.open_for(slot, opening, keep_alive),
                    Some(token) => {
                        let goal = Goal::Poll(opening.ok().map(|opening| opening.vsn));
                        self.ask(slot, Waiting { token, goal, keep_alive }, What::Poll);
                    }
                }
            }
            Wish::Post { session: token, bytes, lines } => {
                let body = Body { token, bytes, lines, keep_alive };
                if let Some(asking) = self.polls.asking(slot) {
                    asking.step = Step::Body(body);
                }
                self.on_body(slot, body);
            }
        }
    }

    /// Hands a post on when its body is complete.
    fn on_body(&mut self, slot: Slot, body: Body) {
        if self.sessions[slot].reader.buffered().len() < body.bytes {
            return self.check_incomplete(slot);
        }
        let mut input = self.sessions.take_input(slot);
        let rest = input.split_off(body.bytes);
        self.sessions.keep_input(slot, &rest);
        self.counters.posts += 1;
        match body::frames(&input, body.lines) {
            Some(frames) => {
                let Body { token, keep_alive, .. } = body;
                self.ask(slot, Waiting { token, goal: Goal::Post, keep_alive }, What::Post(frames));
            }
            None => self.decline(slot, RefuseReason::BadRequest, answer::unreadable("400 Bad Request")),
        }
    }

    /// Answers a client without a session by a new one.
    fn open_for(&mut self, slot: Slot, opening: Result<Opening, RefuseReason>, keep_alive: bool) {
        let Opening { vsn, info, token } = match opening {
            Ok(opening) => opening,
            Err(reason) => return self.decline(slot, reason, answer::status(403, false)),
        };
        match self.claim_place(slot, Entrance::Session, token.as_ref()) {
            Ok(entrant) => {
                let (session, token) = self.open_session(vsn);
                self.introduce(session, info, entrant);
                let keep_alive = self.may_keep_alive(keep_alive);
                self.respond(slot, answer::opened(&token, keep_alive), keep_alive);
            }
            Err(reason @ (RefuseReason::NoToken | RefuseReason::Token | RefuseReason::TokenExpired)) => {
                self.decline(slot, reason, answer::status(403, false));
            }
            Err(reason) => self.refuse(slot, reason),
        }
    }

    /// Asks a session on behalf of a connection, which then waits.
    fn ask(&mut self, slot: Slot, waiting: Waiting, what: What) {
        let is_carried = self.is_elsewhere(&waiting.token);
        if is_carried && self.polls.carried() >= MAX_CARRIED {
            return self.refuse_to_carry(slot, waiting.keep_alive);
        }
        let number = self.polls.wait(slot, waiting, is_carried);
        self.sessions[slot].stamp = self.stamp();
        let from = self.asker(slot, number);
        self.counters.carried_out += u64::from(is_carried);
        self.tell_session(waiting.token, from, what);
    }

    /// Answers a request for a session of another node that more than enough others wait for.
    fn refuse_to_carry(&mut self, slot: Slot, keep_alive: bool) {
        self.counters.carried_refused += 1;
        if let Some(asking) = self.polls.asking(slot) {
            asking.step = Step::Head;
        }
        let keep_alive = self.may_keep_alive(keep_alive);
        self.respond(slot, answer::away(keep_alive), keep_alive);
    }

    pub(super) fn asker(&self, slot: Slot, number: u32) -> Asker {
        Asker { node: None, shard: self.options.index, connection: self.sessions.id(slot), number }
    }

    /// Tells the session that a token names, wherever it is.
    pub(super) fn tell_session(&mut self, token: Token, from: Asker, what: What) {
        let ask = Ask { from, token, what };
        if self.is_elsewhere(&token) {
            return self.carry(Carried::Ask(ask));
        }
        let shard = token.session().shard;
        if shard == self.options.index {
            return self.on_ask(ask);
        }
        self.effects.push(Effect::Tell(Outgoing::Deliver { shard, mail: Mail::Ask(Box::new(ask)) }));
    }

    /// A session has answered.
    pub(super) fn on_answer(&mut self, answer: Answer) {
        let Answer { to, token, outcome } = answer;
        let slot = self.sessions.slot(to.connection);
        let waiting = slot.and_then(|slot| Some((slot, self.polls.end_waiting(slot, to.number, &token)?)));
        let Some((slot, waiting)) = waiting else {
            if matches!(outcome, Outcome::Messages(_)) {
                self.tell_session(token, to, What::Undelivered);
            }
            return;
        };
        let has_messages = matches!(outcome, Outcome::Messages(_));
        if let Some(asking) = self.polls.asking(slot) {
            asking.said = has_messages.then_some(token);
        }
        if has_messages && self.is_elsewhere(&token) {
            self.tell_session(token, to, What::Received);
        }
        let keep_alive = self.may_keep_alive(waiting.keep_alive);
        let response = match (outcome, waiting.goal) {
            (Outcome::Messages(list), _) => answer::messages(200, &token, &list, keep_alive),
            (Outcome::Nothing, _) => answer::messages(204, &token, b"[]", keep_alive),
            (Outcome::Taken, _) => answer::status(200, keep_alive),
            (Outcome::NotTaken, _) => answer::status(408, keep_alive),
            // Every stock client reconnects and joins again by this status.
            (Outcome::Missed, _) => answer::status(500, keep_alive),
            // Phoenix gives a client that polls a new session, which clients that know better than phoenix.js can use.
            // Where tokens count it has to ask for one.
            (Outcome::Gone, Goal::Poll(Some(vsn))) if self.config.auth.jwt.is_empty() => {
                match self.claim_place(slot, Entrance::Session, None) {
                    Ok(entrant) => {
                        let (session, opened) = self.open_session(vsn);
                        self.introduce(session, None, entrant);
                        answer::opened(&opened, keep_alive)
                    }
                    Err(_) => answer::status(410, keep_alive),
                }
            }
            (Outcome::Gone, _) => answer::status(410, keep_alive),
            (Outcome::Away, _) => answer::away(keep_alive),
        };
        self.respond(slot, response, keep_alive);
    }

    /// A shard that ends keeps no connection.
    const fn may_keep_alive(&self, asked: bool) -> bool {
        asked && !self.timers.is_ending()
    }

    fn respond(&mut self, slot: Slot, response: Bytes, keep_alive: bool) {
        if !keep_alive {
            return self.answer(slot, response);
        }
        let stamp = self.stamp();
        let conn = &mut self.sessions[slot];
        conn.stamp = stamp;
        self.egress.queue_one(slot, conn, response);
    }

    /// A connection is no longer one that is in its handshake or that has requests of long-poll.
    #[inline]
    pub(super) fn end_requests(&mut self, slot: Slot) -> Option<Asking> {
        if self.counters.polling == 0 {
            self.counters.handshaking -= 1;
            return None;
        }
        let asking = self.polls.end_asking(slot);
        match asking {
            Some(_) => self.counters.polling -= 1,
            None => self.counters.handshaking -= 1,
        }
        asking
    }

    /// An HTTP connection has ended; `unsent` says that some of its answer was not sent.
    pub(super) fn abandon(&mut self, slot: Slot, asking: &Asking, unsent: bool) {
        let (token, what) = match (asking.step, asking.said) {
            (_, Some(token)) if unsent => (token, What::Unsent),
            (Step::Waiting(Waiting { token, goal: Goal::Poll(_), .. }), _) => (token, What::Abandoned),
            _ => return,
        };
        let from = self.asker(slot, asking.number());
        self.tell_session(token, from, what);
    }

    /// How long an HTTP connection may be as it is, in milliseconds; `patience` is the bound of a shard that leaves.
    pub(super) fn asking_patience(&self, slot: Slot, patience: u64) -> u64 {
        if !self.polls.is_waiting(slot) {
            self.config.limits.idle_timeout_millis.min(patience)
        } else if self.timers.is_ending() {
            patience
        } else {
            // The session answers within one window, unless its shard is held up.
            2 * POLL_WINDOW_MILLIS
        }
    }
}
