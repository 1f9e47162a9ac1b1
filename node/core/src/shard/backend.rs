//! Questions to a backend: a client waits for the answer, and its shard goes on with others.
//!
//! While a connection waits it is not read, so that what it says keeps its order; each has at most one question. The
//! shard itself ends the wait in time, whatever became of the question. An answer is followed as if the client had asked
//! just then: configuration, rights and channels are looked at again.

use super::{
    event::{Effect, Outgoing},
    inquiries::Waiting,
    state::Shard,
    timers::Deadline,
};
use crate::{
    backend::{Decision, Inquiry, REASON_BYTES, Verdict},
    broadcast::{Broadcast, Content},
    config::{Hook, OnFailure, PolicyRef},
    counters::JoinRefusal,
    protocol::{Message, Payload},
    session::id::Slot,
    topic::TopicName,
};

/// Time in milliseconds after which a client may try again that the backend could not be asked about.
const RETRY_MILLIS: u64 = 1_000;
/// The reason of its reply.
const UNAVAILABLE: &str = "backend unavailable";

/// What is known of a question when a message is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stand<'a> {
    /// Nobody was asked yet.
    Unasked,
    /// The backend allowed it so.
    Allowed(&'a Decision),
}

impl Stand<'_> {
    /// The JSON object that the client gets as the response of its reply.
    pub(super) fn response(&self) -> Option<&str> {
        match self {
            Self::Allowed(Decision { response: Some(response), .. }) => Some(response.get()),
            _ => None,
        }
    }

    /// Whether the members are told nothing.
    pub(super) const fn is_private(&self) -> bool {
        matches!(self, Self::Allowed(Decision { publish: false, .. }))
    }
}

impl Shard {
    /// Whether the backend is to be asked about it before a client does this in a topic with this policy.
    pub(super) fn asks(&self, hook: Hook, policy: Option<PolicyRef>, stand: Stand<'_>) -> bool {
        self.config.hooks.is_some()
            && matches!(stand, Stand::Unasked)
            && policy.is_some_and(|policy| self.config.rooms.policy(policy).hooks.contains(&hook))
    }

    /// Asks the backend about what a client sent with these refs. The connection waits, and is not read.
    pub(super) fn inquire(&mut self, slot: Slot, hook: Hook, refs: (&str, &str), content: &Content<'_>) {
        let Some(hooks) = &self.config.hooks else { return };
        let within_millis = hooks.timeout_millis;
        self.counters.hooks_asked += 1;
        let has_room = !self.inquiries.is_full(content.bytes());
        let Some(said) = has_room.then(|| Broadcast::pack(content)).flatten() else {
            // The backend is not to blame, so what counts without its answer does not count.
            self.counters.hooks_failed += 1;
            return self.refuse_unanswered(slot, hook, refs, content.topic);
        };
        let number = self.inquiries.next_number();
        let waiting = Waiting {
            hook,
            number,
            until_millis: self.now_millis + within_millis,
            said: said.clone(),
            join_ref: refs.0.into(),
            reference: refs.1.into(),
        };
        self.timers.set(waiting.until_millis, Deadline::Answer(slot));
        self.inquiries.insert(slot, waiting);
        let holder = self.sessions.identities().get(slot);
        let user = holder.map(|holder| holder.identity.user().to_owned());
        let connection = self.reference(slot);
        let inquiry = Inquiry { hook, number, connection, user, said, within_millis };
        self.effects.push(Effect::Tell(Outgoing::Inquire(Box::new(inquiry))));
    }

    /// An answer has come, for a connection that may have ended, or waits no more.
    pub(super) fn on_verdict(&mut self, verdict: &Verdict) {
        let Some(slot) = self.sessions.slot(verdict.connection.id) else { return };
        let number = verdict.number;
        if let Some(waiting) = self.inquiries.take(slot, |waiting| waiting.number == number) {
            self.end_wait(slot, &waiting, verdict.decision.as_ref());
        }
    }

    /// The time is over that was set for an answer to this connection, or to one before that had the same slot.
    pub(super) fn answer_due(&mut self, slot: Slot) {
        let now = self.now_millis;
        if let Some(waiting) = self.inquiries.take(slot, |waiting| waiting.until_millis <= now) {
            self.end_wait(slot, &waiting, None);
        }
    }

    /// A connection has ended: nobody waits for the answer.
    pub(super) fn forget_inquiry(&mut self, slot: Slot) {
        self.inquiries.take(slot, |_| true);
    }

    /// The wait of a connection is over. It is read again, after what it sent.
    fn end_wait(&mut self, slot: Slot, waiting: &Waiting, decision: Option<&Decision>) {
        self.effects.push(Effect::Resume(slot));
        if let Some(content) = waiting.said.unpack()
            && self.sessions[slot].phase().hears()
        {
            let refs = (&*waiting.join_ref, &*waiting.reference);
            self.decide(slot, waiting.hook, refs, &content, decision);
            self.look_at_memory();
        }
    }

    /// Does what was decided about a message; none is no usable answer.
    fn decide(
        &mut self,
        slot: Slot,
        hook: Hook,
        refs: (&str, &str),
        content: &Content<'_>,
        decision: Option<&Decision>,
    ) {
        // Replies to a push have the ref by which its channel was joined, whatever the push said.
        let channel = self.channel(slot, content.topic).filter(|_| hook == Hook::Publish);
        let joined = channel.map(|position| self.sessions[slot].channels[position].join_ref.clone());
        let told = (joined.as_ref().map_or(refs.0, |joined| joined.given_and_own().1), refs.1);
        let yes = Decision::yes();
        let decision = match decision {
            Some(decision) if decision.allow => decision,
            Some(decision) => {
                self.counters.hooks_denied += 1;
                self.count_refused(hook, content.topic, JoinRefusal::Hook);
                let reason = decision.reason.as_deref().unwrap_or("unauthorized");
                let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
                return self.reply_error(slot, told, content.topic, reason);
            }
            None => {
                self.counters.hooks_failed += 1;
                let hooks = self.config.hooks.as_ref();
                if hooks.is_some_and(|hooks| hooks.on_failure == OnFailure::Refuse) {
                    return self.refuse_unanswered(slot, hook, told, content.topic);
                }
                &yes
            }
        };
        let stand = Stand::Allowed(decision);
        match (hook, TopicName::parse(content.topic)) {
            (Hook::Join, Some(name)) => self.finish_join(slot, name, refs, content.payload, stand),
            (Hook::Join, None) => {}
            (Hook::Publish, _) => {
                let message = Message {
                    join_ref: refs.0.into(),
                    reference: refs.1.into(),
                    topic: content.topic.into(),
                    event: content.event.into(),
                    payload: decision
                        .payload
                        .as_ref()
                        .map_or(content.payload, |json| instead(content, json.get())),
                };
                self.on_push(slot, &message, stand);
            }
        }
    }

    /// The client may try again after a while.
    fn refuse_unanswered(&mut self, slot: Slot, hook: Hook, refs: (&str, &str), topic: &str) {
        self.count_refused(hook, topic, JoinRefusal::HookFailed);
        self.reply_error_for_now(slot, refs, topic, UNAVAILABLE, RETRY_MILLIS);
    }

    fn count_refused(&mut self, hook: Hook, topic: &str, refusal: JoinRefusal) {
        match hook {
            Hook::Join => {
                let policy = TopicName::parse(topic).and_then(|name| self.config.rooms.find(name));
                self.count_refused_of(policy);
                self.counters.count_join_refused(refusal);
            }
            Hook::Publish => self.counters.publish_refused += 1,
        }
    }
}

/// This JSON as the payload of a message in the place of its own.
const fn instead<'a>(content: &Content<'_>, json: &'a str) -> Payload<'a> {
    match content.payload {
        Payload::UserJson(_) | Payload::UserBinary(_) => Payload::UserJson(json),
        Payload::Json(_) | Payload::Binary(_) => Payload::Json(json),
    }
}
