//! Sessions of long-poll: connections without a socket.
//!
//! A poll that waits is what a socket that takes data is for other connections, and its answer takes what a write would.
//! Without one the session is blocked, as after a short write. So the queue, its bounds, and the order in which
//! connections are written are those of all connections. What a client posts is put into the session's input, and read
//! as that of a socket is: at its rates, and as memory allows.

use std::io::IoSlice;

use super::{
    event::{Effect, Mail, Outgoing},
    pace::Allowance,
    state::Shard,
    timers::Deadline,
};
use crate::{
    longpoll::{
        Answer, Ask, Asker, Carried, Given, Outcome, Since, What, body,
        token::{SessionRef, Token},
    },
    protocol::Vsn,
    session::{
        conn::{Conn, Flags},
        id::Slot,
        lifecycle::{Cause, Phase},
        wire::Wire,
    },
};

impl Shard {
    /// Makes a session. Its place was claimed.
    pub(super) fn open_session(&mut self, vsn: Vsn) -> (Slot, Token) {
        let stamp = self.stamp();
        let id = self.sessions.insert(Conn::new(stamp), self.now_millis);
        let slot = id.slot();
        self.sessions.establish(slot, self.now_millis);
        self.counters.connections += 1;
        self.counters.opened += 1;
        self.counters.poll_sessions += 1;
        self.advance(slot, Cause::Upgraded);
        let conn = &mut self.sessions[slot];
        conn.speak(Wire::plain(vsn));
        conn.flags.set(Flags::ESTABLISHED);
        conn.flags.set(Flags::POLLED);
        self.block(slot);
        let wakes_millis = self.polls.open(slot, self.now_millis);
        self.timers.set(wakes_millis, Deadline::Session(slot));
        (slot, self.session_token(slot))
    }

    fn session_token(&self, slot: Slot) -> Token {
        self.options.poll_key.sign(SessionRef { shard: self.options.index, id: self.sessions.id(slot) })
    }

    /// Nothing takes what is queued for the session from now on.
    fn block(&mut self, slot: Slot) {
        let stamp = self.stamp();
        let conn = &mut self.sessions[slot];
        if conn.flags.has(Flags::BLOCKED) {
            return;
        }
        self.egress.unpress(conn);
        self.egress.block(conn);
        self.sessions.side_mut().set_blocked(slot, Some(stamp));
    }

    /// A request is for a session of this shard. One that another node has carried here has its token as the client gave it.
    pub(super) fn on_ask(&mut self, ask: Ask) {
        let Ask { from, token, what } = ask;
        let is_signed = from.node.is_none() || self.options.poll_key.has_signed(&token);
        let slot = is_signed.then(|| self.sessions.slot(token.session().id)).flatten();
        let slot = slot.filter(|slot| self.polls.is_session(*slot));
        let is_asked = matches!(what, What::Poll | What::Post(_));
        self.counters.carried_in += u64::from(is_asked && from.node.is_some());
        let Some(slot) = slot else {
            if is_asked {
                self.tell_asker(Answer { to: from, token, outcome: Outcome::Gone });
            }
            return;
        };
        match what {
            What::Poll => self.on_poll(slot, from),
            What::Post(frames) => self.on_post(slot, from, &frames),
            What::Abandoned => {
                let poll = self.polls.session(slot).and_then(|session| session.poll);
                if poll.is_some_and(|poll| poll.asker == from) {
                    self.take_poll(slot);
                }
                // The two may have crossed.
                self.on_undelivered(slot, from);
            }
            What::Unsent => self.on_missed(slot),
            What::Undelivered if from.node.is_none() => self.on_missed(slot),
            What::Undelivered => self.on_undelivered(slot, from),
            What::Received => self.on_received(slot, from),
        }
    }

    /// The answer to this request of another node came to nobody: the next poll gets it.
    fn on_undelivered(&mut self, slot: Slot, from: Asker) {
        let Some(session) = self.polls.session(slot) else { return };
        if let Some(given) = session.given.as_mut().filter(|given| given.to == from) {
            given.is_lost = true;
            if session.poll.is_some() {
                self.give_again(slot);
            }
        }
    }

    /// The answer to this request of another node came there.
    fn on_received(&mut self, slot: Slot, from: Asker) {
        let Some(session) = self.polls.session(slot) else { return };
        let polls = session.poll.is_some();
        if session.given.as_ref().is_some_and(|given| given.to == from) {
            self.polls.take_given(slot);
            if polls {
                self.on_writable(slot);
            }
        }
    }

    /// Gives the poll that waits the answer that came to nobody.
    fn give_again(&mut self, slot: Slot) {
        if let (Some(poll), Some(given)) = (self.take_poll(slot), self.polls.take_given(slot)) {
            self.counters.carried_again += 1;
            self.give(slot, poll, given.list);
        }
    }

    /// Answers with messages. Those for another node are kept until it has them.
    fn give(&mut self, slot: Slot, to: Asker, list: Vec<u8>) {
        if to.node.is_some() {
            let given = Given { to, millis: self.now_millis, list: list.clone(), is_lost: false };
            self.polls.give(slot, given);
        }
        self.answer_request(slot, to, Outcome::Messages(list));
    }

    /// The client of a session missed an answer with messages, and is told by the poll that waits, or by its next request.
    /// The session could end at once, but phoenix.js 1.8.0 and older takes the 410 of a session that is gone for its
    /// connection being open, and would not join again.
    fn on_missed(&mut self, slot: Slot) {
        if let Some(poll) = self.take_poll(slot) {
            self.answer_request(slot, poll, Outcome::Missed);
            self.advance(slot, Cause::Lost);
        } else if let Some(session) = self.polls.session(slot) {
            session.missed = true;
        }
    }

    /// Tells the client of a session that it missed something, if it did.
    fn tells_missed(&mut self, slot: Slot, from: Asker) -> bool {
        let missed = self.polls.session(slot).is_some_and(|session| session.missed);
        if missed {
            self.answer_request(slot, from, Outcome::Missed);
            self.advance(slot, Cause::Lost);
        }
        missed
    }

    fn on_poll(&mut self, slot: Slot, from: Asker) {
        if self.tells_missed(slot, from) {
            return;
        }
        let (stamp, now) = (self.stamp(), self.now_millis);
        // None when nothing was given, otherwise whether it is known to be lost, and whether it may be.
        let given = self.polls.session(slot).and_then(|session| session.given.as_ref());
        let given = given.map(|given| (given.is_lost, given.is_over(now)));
        let conn = &mut self.sessions[slot];
        if !conn.is(Phase::Open) && conn.queue.is_empty() && given.is_none() {
            // It has said goodbye already.
            return self.answer_request(slot, from, Outcome::Gone);
        }
        if conn.is(Phase::Open) {
            conn.stamp = stamp;
        }
        // The client has given up the poll before, if there is one.
        if let Some(before) = self.take_poll(slot) {
            self.answer_request(slot, before, Outcome::Nothing);
        }
        if let Some(session) = self.polls.session(slot) {
            session.poll = Some(Since { asker: from, millis: now });
        }
        self.set_deadline(slot);
        match given {
            None => self.on_writable(slot),
            Some((true, _)) => self.give_again(slot),
            Some((false, true)) => self.on_missed(slot),
            // The other node says in a moment what became of the answer before.
            Some((false, false)) => {}
        }
    }

    fn on_post(&mut self, slot: Slot, from: Asker, frames: &[u8]) {
        if self.tells_missed(slot, from) {
            return;
        }
        let (stamp, now) = (self.stamp(), self.now_millis);
        let conn = &mut self.sessions[slot];
        if !conn.phase().hears() {
            return self.answer_request(slot, from, Outcome::Gone);
        }
        let is_behind = conn.reader.held_bytes() > 0;
        if conn.is(Phase::Open) {
            conn.stamp = stamp;
        }
        let session = self.polls.session(slot).filter(|session| session.post.is_none() && !is_behind);
        let Some(session) = session else {
            // phoenix.js posts when the post before is answered.
            return self.answer_request(slot, from, Outcome::NotTaken);
        };
        session.post = Some(Since { asker: from, millis: now });
        self.set_deadline(slot);
        self.sessions.put_off(slot, frames);
        self.effects.push(Effect::Paused(slot));
        self.charge(slot, &Allowance::default(), frames.len());
    }

    /// The input of a connection is used up. If it was a post, that is answered.
    pub(super) fn end_post(&mut self, slot: Slot) {
        let Some(post) = self.polls.session(slot).and_then(|session| session.post.take()) else { return };
        let hears = self.sessions[slot].phase().hears();
        self.answer_request(slot, post.asker, if hears { Outcome::Taken } else { Outcome::NotTaken });
    }

    /// Answers the poll of a session that has something to say, and whose turn to be written it is.
    #[cold]
    pub(super) fn answer_poll(&mut self, slot: Slot) {
        let (outbox, queue) = (self.egress.outbox(), &self.sessions[slot].queue);
        // Not by `Outbox::slices`: a second user of that would keep it from being inlined where sockets are written.
        let mut runs = vec![IoSlice::new(&[]); queue.frames() as usize];
        outbox.gather(queue, &mut runs);
        let said = body::messages(runs.iter().map(|run| &**run));
        self.egress.advance(&mut self.sessions[slot], said.taken);
        match self.take_poll(slot) {
            Some(asker) if said.messages == 0 && said.ends => self.answer_request(slot, asker, Outcome::Gone),
            Some(asker) => self.give(slot, asker, said.json),
            // Without a poll it is blocked, and not written.
            None => debug_assert!(false, "a session without a poll was written"),
        }
        // After a polite goodbye it still takes what its client had under way.
        if said.ends && !self.sessions[slot].is(Phase::Leaving) {
            self.advance(slot, Cause::Lost);
        }
    }

    /// Takes the poll of a session that waits, if one does. The session is blocked then.
    fn take_poll(&mut self, slot: Slot) -> Option<Asker> {
        let now = self.now_millis;
        let session = self.polls.session(slot)?;
        let poll = session.poll.take()?;
        session.polled_millis = now;
        self.block(slot);
        self.set_deadline(slot);
        Some(poll.asker)
    }

    fn answer_request(&mut self, slot: Slot, to: Asker, outcome: Outcome) {
        let token = self.session_token(slot);
        self.tell_asker(Answer { to, token, outcome });
    }

    fn tell_asker(&mut self, answer: Answer) {
        let Asker { node, shard, .. } = answer.to;
        if node.is_some() {
            return self.carry(Carried::Answer(answer));
        }
        if shard == self.options.index {
            return self.on_answer(answer);
        }
        let mail = Mail::Answer(Box::new(answer));
        self.effects.push(Effect::Tell(Outgoing::Deliver { shard, mail }));
    }

    /// Sets the deadline of a session, unless one that comes earlier is set: that one sets the next.
    fn set_deadline(&mut self, slot: Slot) {
        let Some(session) = self.polls.session(slot) else { return };
        let due = session.due_millis();
        if due < session.wakes_millis {
            session.wakes_millis = due;
            self.timers.set(due, Deadline::Session(slot));
        }
    }

    /// A deadline has come that was set for this session, or for one that is gone and had the same slot.
    pub(super) fn session_due(&mut self, slot: Slot) {
        let now = self.now_millis;
        let Some(session) = self.polls.session(slot).filter(|session| session.wakes_millis <= now) else {
            return;
        };
        // What follows sets no deadline, which would be set twice.
        session.wakes_millis = 0;
        let post = session.post.take_if(|post| post.is_over(now));
        let (poll_is_over, is_forgotten) =
            (session.poll.is_some_and(|poll| poll.is_over(now)), session.is_forgotten(now));
        if let Some(post) = post {
            // What waits for the backend is said in the end: who sent it again would say it twice.
            let outcome = if self.inquiries.hold(slot) { Outcome::Taken } else { Outcome::NotTaken };
            self.answer_request(slot, post.asker, outcome);
        }
        if is_forgotten {
            self.advance(slot, Cause::Lost);
            return;
        }
        let is_given_up = self.polls.session(slot).is_some_and(|session| {
            session.poll.is_some() && session.given.as_ref().is_some_and(|given| given.is_over(now))
        });
        if is_given_up {
            return self.on_missed(slot);
        }
        if poll_is_over && let Some(asker) = self.take_poll(slot) {
            self.answer_request(slot, asker, Outcome::Nothing);
        }
        if let Some(session) = self.polls.session(slot) {
            session.wakes_millis = session.due_millis();
            let wakes_millis = session.wakes_millis;
            self.timers.set(wakes_millis, Deadline::Session(slot));
        }
    }

    /// The session ends: so do the requests that wait for it.
    pub(super) fn end_session(&mut self, slot: Slot) {
        let Some(session) = self.polls.close(slot) else { return };
        self.counters.poll_sessions -= 1;
        if let Some(poll) = session.poll {
            self.answer_request(slot, poll.asker, Outcome::Gone);
        }
        if let Some(post) = session.post {
            self.answer_request(slot, post.asker, Outcome::NotTaken);
        }
    }
}
