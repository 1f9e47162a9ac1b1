//! The rules of Phoenix.Socket: what a message on a topic does (phoenix/lib/phoenix/socket.ex).

use super::{
    backend::Stand,
    bounds::EVENT_TOO_LONG,
    channel::{End, TOKEN_EXPIRED},
    dev::{self, Rule},
    state::Shard,
};
use crate::{
    api::news::Sort,
    broadcast::Content,
    config::{Dialect, Hook, PolicyRef, Publish},
    counters::{JoinRefusal, Limit, near},
    ledger::most_topic_bytes,
    protocol::{
        ACCESS_TOKEN, JoinRef, Message, NULL, OddMessage, Payload, Vsn, encode, is_phoenix_event,
        is_reserved_event,
        realtime::{self, Asked},
    },
    session::{
        conn::{Channel, Seat},
        id::Slot,
    },
    topic::{self, PHOENIX, TopicKind, TopicName},
    topics::{Caps, Joined, Refused, room::RoomId},
};

/// The event by which clients join.
const PHX_JOIN: &str = "phx_join";
/// Time in milliseconds after which a client may join again that was refused for lack of memory.
const FULL_MILLIS: u64 = 5_000;

impl Shard {
    pub(super) fn dispatch(&mut self, slot: Slot, vsn: Vsn, message: &Message<'_>) {
        let name = TopicName::parse(&message.topic);
        match (name.map(TopicName::kind), &*message.event) {
            (Some(TopicKind::Connection), "heartbeat") => {
                self.counters.heartbeats += 1;
                let refs = (NULL, &*message.reference);
                self.reply(slot, encode::reply(vsn, refs, PHOENIX, "ok", encode::EMPTY));
            }
            (_, PHX_JOIN) => self.on_join(slot, name, message),
            (_, "phx_leave") => self.on_leave(slot, vsn, message),
            _ => self.on_push(slot, message, Stand::Unasked),
        }
    }

    /// A message whose topic or event is no string. No channel has such a topic; one that is sent such an event ends, as
    /// a channel of Phoenix does which is to broadcast it.
    pub(super) fn dispatch_odd(&mut self, slot: Slot, vsn: Vsn, message: &OddMessage<'_>) {
        if let Some(topic) = message.topic_text()
            && let Some(position) = self.channel(slot, &topic)
        {
            if is_current(message.join_ref, &self.sessions[slot].channels[position].join_ref) {
                self.end_channel(slot, &topic, End::Crashed);
            }
            return;
        }
        let (join_ref, status, response) = if message.is_event("phx_leave") {
            (message.join_ref, "ok", encode::EMPTY)
        } else {
            (NULL, "error", r#"{"reason":"unmatched topic"}"#)
        };
        let refs = (join_ref, message.reference);
        self.reply(slot, encode::odd_reply(vsn, refs, message.topic, status, response));
    }

    /// A connection asks to join.
    fn on_join(&mut self, slot: Slot, name: Option<TopicName<'_>>, message: &Message<'_>) {
        let refs = (&*message.join_ref, &*message.reference);
        if let Err((refusal, millis)) = self.charge_join(slot) {
            return self.refuse_join_for_now(slot, refs, &message.topic, refusal, millis);
        }
        match name {
            Some(name) if !self.is_topic_too_long(name.as_str()) => {
                self.finish_join(slot, name, refs, message.payload, Stand::Unasked);
            }
            None if message.topic.is_empty() => {
                self.refuse_join(slot, refs, &message.topic, JoinRefusal::Unmatched);
            }
            Some(_) | None => self.refuse_join(slot, refs, &message.topic, JoinRefusal::TopicTooLong),
        }
    }

    /// The rules of [`Shard::join_rules`], or why the connection cannot become a member. Claims nothing.
    pub(super) fn check_join(
        &self,
        slot: Slot,
        name: TopicName<'_>,
        rules: Option<JoinRules>,
    ) -> Result<JoinRules, JoinRefusal> {
        let rules = rules.ok_or(JoinRefusal::Unmatched)?;
        if !self.is_authorized(slot, name) {
            return Err(self.refusal(slot));
        }
        let max_channels = self.config.limits.max_channels_per_connection as usize;
        let is_full = self.sessions[slot].channels.len() >= max_channels;
        let is_short = self.refuses_more_of(slot) && name != topic::CLUSTER;
        // A member that joins again takes nothing more.
        if (is_full || is_short) && self.channel(slot, name.as_str()).is_none() {
            return Err(if is_full { JoinRefusal::TooManyChannels } else { JoinRefusal::Memory });
        }
        Ok(rules)
    }

    /// Claims a place in the room, or replaces the channel that the connection has there, and answers. This may be
    /// called long after the join was asked for: the configuration, the connection and its channels are looked at
    /// now, and a connection that hears nothing any more does not become a member. Where the backend is to be asked
    /// first, its answer calls this again.
    pub(super) fn finish_join(
        &mut self,
        slot: Slot,
        name: TopicName<'_>,
        refs: (&str, &str),
        payload: Payload<'_>,
        stand: Stand<'_>,
    ) {
        let topic = name.as_str();
        let rules = self.join_rules(name);
        let asked = match &rules {
            Some(rules) if rules.is_realtime => self.asked_in_join(slot, payload),
            _ => {
                self.refresh(slot, payload);
                Asked::default()
            }
        };
        if !self.sessions[slot].phase().hears() {
            return;
        }
        let policy = rules.as_ref().and_then(|rules| rules.policy);
        let rules = match self.check_join(slot, name, rules) {
            Ok(rules) => rules,
            Err(refusal) => {
                self.count_refused_of(policy);
                return self.refuse_join(slot, refs, topic, refusal);
            }
        };
        if self.config.fixed.dev
            && let Some(reason) = dev::refusal(name)
        {
            self.count_refused_of(policy);
            self.counters.count_join_refused(JoinRefusal::Unauthorized);
            return self.reply_error(slot, refs, topic, reason);
        }
        if self.asks(Hook::Join, policy, stand) {
            return self.inquire(slot, Hook::Join, refs, &Content { topic, event: PHX_JOIN, payload });
        }
        // V1 has no place for a join_ref in what it writes.
        let is_v1 = refs.0 == NULL && self.sessions[slot].vsn() == Vsn::V1;
        let join_ref = JoinRef::new(refs.0, if is_v1 { NULL } else { refs.1 });
        if let Some(position) = self.channel(slot, topic) {
            // A rejoin: the new join is answered first, then the old channel is closed, which clients tell by its ref.
            let old = self.sessions.join_again(slot, position, join_ref, asked);
            self.reply_joined(slot, refs, name, (rules.is_realtime, stand));
            let vsn = self.sessions[slot].vsn();
            return self.reply(slot, encode::phx_close(vsn, old.given(), topic));
        }
        self.before_join(topic);
        let joined = match self.topics.join(name, slot, self.sessions[slot].listens(), rules.caps) {
            Ok(joined) => joined,
            Err(Refused { refusal, closed }) => {
                closed.iter().for_each(|shared| self.note_interest(shared));
                self.count_refused_of(policy);
                return self.refuse_join(slot, refs, topic, refusal);
            }
        };
        let Joined { room, position, opened } = joined;
        let seat = Seat::new(position, asked);
        self.sessions.add_channel(slot, Channel { room, seat, join_ref });
        self.counters.joins += 1;
        self.look_at_join(slot, room, rules.caps.members);
        if opened {
            let shared = std::sync::Arc::clone(self.topics.get(room).shared());
            self.note_interest(&shared);
        }
        self.joined(joined, policy);
        if self.is_heard(Sort::Join) {
            self.tell_join(slot, room);
        }
        self.reply_joined(slot, refs, name, (rules.is_realtime, stand));
    }

    /// What holds for joins of a topic; `None` when it cannot be joined.
    pub(super) fn join_rules(&self, name: TopicName<'_>) -> Option<JoinRules> {
        if name == topic::CLUSTER {
            // A full node is when its figures are wanted most.
            let caps = Caps { members: u32::MAX, rooms: u32::MAX, topic_bytes: u64::MAX };
            let rules = JoinRules { caps, policy: None, is_realtime: false };
            return self.config.chat_page.then_some(rules);
        }
        let found = self.config.rooms.find(name)?;
        let policy = self.config.rooms.policy(found);
        let limits = &self.config.limits;
        let topic_bytes = most_topic_bytes(limits.memory_budget.unwrap_or(u64::MAX));
        let caps = Caps { members: policy.max_members, rooms: limits.rooms(), topic_bytes };
        Some(JoinRules { caps, policy: Some(found), is_realtime: policy.dialect == Dialect::Realtime })
    }

    pub(super) fn count_refused_of(&mut self, policy: Option<PolicyRef>) {
        if let Some(counts) = self.by_policy.of(policy) {
            counts.joins_refused += 1;
        }
    }

    fn refuse_join(&mut self, slot: Slot, refs: (&str, &str), topic: &str, refusal: JoinRefusal) {
        if refusal == JoinRefusal::Memory {
            return self.refuse_join_for_now(slot, refs, topic, refusal, FULL_MILLIS);
        }
        self.counters.count_join_refused(refusal);
        let refs = if refusal == JoinRefusal::Unmatched { (NULL, refs.1) } else { refs };
        self.reply_error(slot, refs, topic, words(refusal));
    }

    /// The same where the client may try again after some time.
    fn refuse_join_for_now(
        &mut self,
        slot: Slot,
        refs: (&str, &str),
        topic: &str,
        refusal: JoinRefusal,
        millis: u64,
    ) {
        self.counters.count_join_refused(refusal);
        self.reply_error_for_now(slot, refs, topic, words(refusal), millis);
    }

    /// Counts a join that comes near a limit.
    fn look_at_join(&mut self, slot: Slot, room: RoomId, most_members: u32) {
        let channels = self.sessions[slot].channels.len() as u64;
        if channels == near(self.config.limits.max_channels_per_connection.into()) {
            self.counters.count_near(Limit::Channels);
        }
        if u64::from(self.topics.get(room).shared().members()) == near(most_members.into()) {
            self.counters.count_near(Limit::Members);
        }
    }

    fn reply_joined(
        &mut self,
        slot: Slot,
        refs: (&str, &str),
        name: TopicName<'_>,
        (is_realtime, stand): (bool, Stand<'_>),
    ) {
        let vsn = self.sessions[slot].vsn();
        let about_node;
        let response = if name == topic::CLUSTER {
            let (node, version) = (&self.options.node_name, self.options.version);
            about_node = serde_json::json!({ "node": node, "version": version }).to_string();
            &about_node
        } else if is_realtime {
            realtime::JOINED
        } else {
            stand.response().unwrap_or(encode::EMPTY)
        };
        self.reply(slot, encode::reply(vsn, refs, name.as_str(), "ok", response));
    }

    fn on_leave(&mut self, slot: Slot, vsn: Vsn, message: &Message<'_>) {
        let topic = &*message.topic;
        self.before_leave(topic);
        let Some(position) = self.channel(slot, topic) else {
            let refs = (&*message.join_ref, &*message.reference);
            return self.reply(slot, encode::reply(vsn, refs, topic, "ok", encode::EMPTY));
        };
        if !is_current(&message.join_ref, &self.sessions[slot].channels[position].join_ref) {
            return;
        }
        let channel = self.sessions.take_channel(slot, position);
        self.leave_room(slot, channel.room, channel.seat.position());
        let (given, own) = channel.join_ref.given_and_own();
        self.reply(slot, encode::reply(vsn, (own, &message.reference), topic, "ok", encode::EMPTY));
        self.reply(slot, encode::phx_close(vsn, given, topic));
    }

    pub(super) fn on_push(&mut self, slot: Slot, message: &Message<'_>, stand: Stand<'_>) {
        let (topic, event) = (&*message.topic, &*message.event);
        let Some(position) = self.channel(slot, topic) else {
            return self.reply_error(slot, (NULL, &message.reference), topic, "unmatched topic");
        };
        let channel = &self.sessions[slot].channels[position];
        if !is_current(&message.join_ref, &channel.join_ref) {
            return;
        }
        let (room, join_ref) = (channel.room, channel.join_ref.clone());
        let refs = (join_ref.given_and_own().1, &*message.reference);
        if self.topics.get(room).is_realtime() {
            let asked = channel.seat.asked();
            return self.on_realtime_push(slot, (room, asked), refs, message, stand);
        }
        let push = match self.resolve_push(self.topics.get(room).policy(), event, message.payload) {
            Push::Broadcast { .. } if !self.may_publish(slot, topic) => Push::Refuse("publish not allowed"),
            push => push,
        };
        match push {
            Push::Refuse(reason) => {
                self.counters.publish_refused += 1;
                self.reply_error(slot, refs, topic, reason);
            }
            Push::Exceed(reason) => self.refuse_beyond(slot, refs, topic, reason),
            Push::Crash => {
                self.counters.publish_refused += 1;
                self.end_channel(slot, topic, End::Crashed);
            }
            Push::Dev(rule) => self.follow(slot, rule, refs, topic, message.payload),
            // Supabase's server answers nothing either, and realtime-js waits for nothing.
            Push::TakeToken => self.take_token(slot, message.payload),
            Push::Echo => self.reply_payload(slot, refs, topic, "ok", message.payload),
            Push::Broadcast { event_len, acknowledge, to_sender } => {
                if let Some(reason) = self.beyond_bounds(event, message.payload) {
                    return self.refuse_beyond(slot, refs, topic, reason);
                }
                if self.asks(Hook::Publish, self.topics.get(room).policy(), stand) {
                    let refs = (&*message.join_ref, refs.1);
                    return self.inquire(
                        slot,
                        Hook::Publish,
                        refs,
                        &Content { topic, event, payload: message.payload },
                    );
                }
                let except = if to_sender { None } else { Some(slot) };
                let content = Content { topic, event: &event[..event_len], payload: message.payload };
                self.publish(slot, (room, &content, except), refs, (acknowledge, stand));
            }
        }
    }

    /// Tells the members, unless the backend said that the client alone gets an answer, and answers what is to be answered.
    pub(super) fn publish(
        &mut self,
        slot: Slot,
        (room, content, except): (RoomId, &Content<'_>, Option<Slot>),
        refs: (&str, &str),
        (acknowledge, stand): (bool, Stand<'_>),
    ) {
        let mut unable = 0;
        if !stand.is_private() {
            unable = self.publish_elsewhere(room, content, except);
            self.said_here(room, content, except);
        }
        if let Some(response) = stand.response() {
            let vsn = self.sessions[slot].vsn();
            self.reply(slot, encode::reply(vsn, refs, content.topic, "ok", response));
        } else if acknowledge || stand.is_private() {
            self.acknowledge(slot, refs, content.topic, unable);
        }
    }

    /// Answers a publish that so many members on this shard could not be given.
    pub(super) fn acknowledge(&mut self, slot: Slot, refs: (&str, &str), topic: &str, unable: u64) {
        let vsn = self.sessions[slot].vsn();
        if unable == 0 {
            return self.reply(slot, encode::reply(vsn, refs, topic, "ok", encode::EMPTY));
        }
        // Phoenix lets the sender's channel crash when a V1 member is in the room.
        let response = format!("{{\"undelivered\":{unable}}}");
        self.reply(slot, encode::reply(vsn, refs, topic, "ok", &response));
    }

    /// What the policy of the topic says about an event.
    fn resolve_push(&self, policy: Option<PolicyRef>, event: &str, payload: Payload<'_>) -> Push {
        if event == ACCESS_TOKEN {
            return Push::TakeToken;
        }
        if is_reserved_event(event) {
            return if is_phoenix_event(event) { Push::Crash } else { Push::Refuse("reserved event") };
        }
        if event.len() > self.config.limits.max_event_bytes as usize {
            return Push::Exceed(EVENT_TOO_LONG);
        }
        let Some(policy) = policy.map(|policy| self.config.rooms.policy(policy)) else {
            return Push::Refuse("publish not allowed");
        };
        if self.config.fixed.dev
            && let Some(rule) = dev::rule(event, payload)
        {
            return Push::Dev(rule);
        }
        let is_in = |events: &[String]| events.iter().any(|listed| listed == event);
        if is_in(policy.echo_events) {
            return Push::Echo;
        }
        if policy.publish == Publish::Nobody {
            return Push::Refuse("publish not allowed");
        }
        if !payload.is_object_or_bytes() {
            return Push::Refuse("payload must be an object");
        }
        let stripped = policy.ack_suffix.and_then(|suffix| event.strip_suffix(suffix));
        let stripped = stripped.filter(|rest| !rest.is_empty());
        if stripped.is_some_and(is_reserved_event) {
            return Push::Refuse("reserved event");
        }
        let said = stripped.unwrap_or(event);
        if policy.events.is_some_and(|listed| !listed.iter().any(|event| event == said)) {
            return Push::Refuse("event not allowed");
        }
        let to_sender = policy.echo_to_sender;
        match stripped {
            Some(_) => Push::Broadcast { event_len: said.len(), acknowledge: true, to_sender },
            None => {
                let acknowledge = is_in(policy.ack_events);
                Push::Broadcast { event_len: event.len(), acknowledge, to_sender }
            }
        }
    }
}

/// What holds for joins of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinRules {
    caps: Caps,
    policy: Option<PolicyRef>,
    is_realtime: bool,
}

/// What becomes of a pushed event.
enum Push {
    /// Answered with an error.
    Refuse(&'static str),
    /// The same because it is beyond a limit.
    Exceed(&'static str),
    /// Ends the channel: the event is one by which Phoenix steers channels, and no client may use it so.
    Crash,
    /// Dev mode has a rule of its own for it.
    Dev(Rule),
    /// A token for the server: nobody else sees it.
    TakeToken,
    /// Answered with its own payload.
    Echo,
    /// Sent to the members as the first `event_len` bytes of its name.
    Broadcast { event_len: usize, acknowledge: bool, to_sender: bool },
}

/// The reason that a client is told.
const fn words(refusal: JoinRefusal) -> &'static str {
    match refusal {
        JoinRefusal::Unmatched => "unmatched topic",
        JoinRefusal::Unauthorized => "unauthorized",
        JoinRefusal::TokenExpired => TOKEN_EXPIRED,
        JoinRefusal::RoomFull => "room full",
        JoinRefusal::TopicTooLong => "topic too long",
        JoinRefusal::TooManyChannels => "too many channels joined",
        JoinRefusal::TooManyRooms => "too many rooms",
        JoinRefusal::Memory => "node is full",
        JoinRefusal::Rate | JoinRefusal::AddressRate => "rate limited",
        // What the backend says is told in its own words.
        JoinRefusal::Hook | JoinRefusal::HookFailed => "unauthorized",
    }
}

/// A message without a join_ref is always current; otherwise it must be the channel's, compared as typed JSON.
fn is_current(join_ref: &str, current: &JoinRef) -> bool {
    join_ref == NULL || join_ref == current.given() || is_same_value(join_ref, current.given())
}

/// Whether two texts of JSON are one value that is written in two ways.
#[cold]
fn is_same_value(one: &str, other: &str) -> bool {
    let read = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    read(one).is_some_and(|value| Some(value) == read(other))
}
