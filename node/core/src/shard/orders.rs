//! Orders of the server API.
//!
//! A user's connections are found by a walk over the identities of the shard, which costs nothing while nobody asks; one order
//! closes or takes out at most [`STEP`] connections, so that a room of a hundred thousand does not keep the shard from others.

use super::{
    channel::End,
    event::{Effect, Outgoing},
    state::Shard,
};
use crate::{
    api::order::{ConnectionRef, LISTED, LISTED_TOPICS, Listed, Order, Ordered, Report, STEP, Who},
    broadcast::{Broadcast, NodeTag},
    protocol::{NULL, Payload, Vsn, encode},
    session::{id::Slot, lifecycle::Phase},
    topic::PHOENIX,
};

impl Shard {
    /// Carries out an order, and reports it.
    pub(super) fn on_order(&mut self, Ordered { number, order }: Ordered) {
        let mut report = Report { number, ..Report::default() };
        match order {
            Order::List { who, limit } => {
                let (mut slots, limit) = (self.meant(Some(&who), None), limit.min(LISTED));
                report.more = slots.len() > limit;
                slots.truncate(limit);
                report.connections = slots.into_iter().map(|slot| self.listed(slot)).collect();
                report.done = report.connections.len() as u64;
            }
            Order::Disconnect { who, topic, goodbye } => {
                let slots = self.meant(who.as_ref(), topic.as_deref());
                self.step(&mut report, slots, |shard, slot| shard.close_saying(slot, &goodbye));
            }
            Order::Leave { topic, who } => {
                let slots = self.meant(who.as_ref(), Some(&topic));
                self.step(&mut report, slots, |shard, slot| shard.end_channel(slot, &topic, End::Closed));
            }
            Order::Refresh { user, within_millis } => {
                let end = self.unix_millis().saturating_add(within_millis.into());
                let mut slots = self.meant(Some(&Who::User(user)), None);
                // Those that an order before has told are not told again, so the next one goes on with the others.
                slots.retain(|slot| self.sessions.identities().lasts_beyond(*slot, end));
                self.step(&mut report, slots, |shard, slot| shard.ask_for_token(slot, end, within_millis));
            }
            Order::Say { broadcast, except } => self.say_but(&broadcast, &except),
            Order::Top { by, topics, from } => {
                (report.top, report.next) = self.top_rooms(by, &topics, from);
            }
        }
        self.effects.push(Effect::Tell(Outgoing::Report(Box::new(report))));
    }

    fn step(&mut self, report: &mut Report, mut slots: Vec<Slot>, act: impl Fn(&mut Self, Slot)) {
        report.more = slots.len() > STEP;
        slots.truncate(STEP);
        report.done = slots.len() as u64;
        slots.into_iter().for_each(|slot| act(self, slot));
    }

    /// The open connections that are meant: of these, the members of the topic if there is one.
    fn meant(&self, who: Option<&Who>, topic: Option<&str>) -> Vec<Slot> {
        let mut slots = match (who, topic) {
            (Some(Who::User(user)), _) => self.sessions.identities().of_user(user),
            (Some(Who::Connection(connection)), _) => self.own(connection).into_iter().collect(),
            (None, Some(topic)) => {
                let room = self.topics.find(topic);
                room.map_or_else(Vec::new, |room| self.topics.get(room).members().to_vec())
            }
            (None, None) => Vec::new(),
        };
        slots.retain(|slot| {
            self.sessions[*slot].is(Phase::Open)
                && topic.is_none_or(|topic| self.channel(*slot, topic).is_some())
        });
        slots
    }

    /// The slot of a connection of this shard.
    fn own(&self, connection: &ConnectionRef) -> Option<Slot> {
        let is_here = (connection.node, connection.shard) == (self.tag(), self.options.index);
        is_here.then(|| self.sessions.slot(connection.id)).flatten()
    }

    pub(super) fn tag(&self) -> NodeTag {
        self.options.poll_key.node()
    }

    fn listed(&self, slot: Slot) -> Listed {
        let channels = self.sessions[slot].channels.iter().take(LISTED_TOPICS);
        let holder = self.sessions.identities().get(slot);
        Listed {
            connection: self.reference(slot),
            user: holder.map(|holder| holder.identity.user().to_owned()),
            age_millis: self.sessions.age_millis(slot, self.now_millis),
            topics: channels
                .map(|channel| self.topics.get(channel.room).shared().topic().to_string())
                .collect(),
        }
    }

    /// Lets the token of a connection end soon, and tells its client, as for tokens that end by themselves.
    fn ask_for_token(&mut self, slot: Slot, end_unix_millis: u64, within_millis: u32) {
        self.sessions.identities_mut().end_by(slot, end_unix_millis);
        if within_millis > 0 {
            self.counters.token_warnings += 1;
            let payload = format!("{{\"expires_in_ms\":{within_millis}}}");
            self.push(slot, NULL, PHOENIX, super::identity::TOKEN_EXPIRING, Payload::Json(&payload));
        }
    }

    /// Says something to the local members of a topic but these.
    fn say_but(&mut self, broadcast: &Broadcast, except: &Who) {
        let Some(content) = broadcast.unpack() else { return };
        let Some(room) = self.topics.find(content.topic) else { return };
        if !self.is_readable(room, &content) {
            self.counters.malformed_messages += 1;
            return;
        }
        let mut spared = self.meant(Some(except), Some(content.topic));
        spared.sort_unstable();
        if let [] | [_] = *spared {
            return self.said_here(room, &content, spared.first().copied());
        }
        // A client with several connections in one room is rare, so the way that all messages take knows one exception only.
        self.before_some_are_told(content.topic);
        let Some(room) = self.topics.find(content.topic) else { return };
        let frames = Vsn::ALL.map(|vsn| encode::broadcasts(vsn, &[content]).0);
        for slot in self.topics.get(room).members().to_vec() {
            let frame = &frames[self.sessions[slot].vsn().index()];
            if !frame.is_empty() && spared.binary_search(&slot).is_err() {
                self.reply(slot, frame.clone());
            }
        }
    }
}
