//! Who a connection is: its token when it connects, the topics that the token allows, another token in its place, and
//! its end.

use std::sync::Arc;

use serde::Deserialize;

use super::{channel::End, origin::Entrant, state::Shard};
use crate::{
    api::news::Sort,
    auth::{Identity, Refusal, Token},
    config::OnExpiry,
    counters::{CloseReason, JoinRefusal, RefuseReason},
    limits::{ENDINGS_PER_TICK, EXPIRIES_PER_TICK},
    protocol::{NULL, Payload},
    session::{conn::Channel, id::Slot, identities::Due, lifecycle::Phase},
    topic::{PHOENIX, TopicName},
    ws::{CloseCode, ConnectInfo},
};

/// The event by which the holder of a token is told that it ends soon, on the topic `phoenix`. No channel has that topic,
/// so clients that do not look for the event pass over it.
pub(super) const TOKEN_EXPIRING: &str = "token_expiring";

/// The token in the payload of an event `access_token`, or of a join. Clients that are signed out send `null`.
#[derive(Deserialize)]
struct Refresh {
    access_token: Option<String>,
}

impl Shard {
    /// The time in milliseconds since 1970.
    pub(super) const fn unix_millis(&self) -> u64 {
        self.now_millis.saturating_add(self.epoch_millis)
    }

    /// Takes the time of day in milliseconds since 1970.
    pub(super) const fn set_clock(&mut self, unix_millis: u64) {
        self.epoch_millis = unix_millis.saturating_sub(self.now_millis);
    }

    /// The identity of a connection that comes with this token, or none where it may be without one.
    ///
    /// # Errors
    /// When it may not connect.
    pub(super) fn authenticate(
        &mut self,
        token: Option<&Token>,
    ) -> Result<Option<Arc<Identity>>, RefuseReason> {
        let Some(token) = token else {
            return if self.config.auth.anonymous { Ok(None) } else { Err(RefuseReason::NoToken) };
        };
        match self.identify(token) {
            Ok(identity) => Ok(Some(identity)),
            Err(Refusal::Expired) => Err(RefuseReason::TokenExpired),
            Err(Refusal::Unknown) => Err(RefuseReason::NoKeys),
            Err(_) => Err(RefuseReason::Token),
        }
    }

    /// The identity of a token.
    fn identify(&mut self, token: &Token) -> Result<Arc<Identity>, Refusal> {
        let budget = self.config.limits.memory_budget.unwrap_or(u64::MAX);
        let verified = self.config.auth.keys.identify(token, self.unix_millis(), budget);
        let known = verified.as_ref().is_ok_and(|verified| verified.known);
        self.counters.token_cache_hits += u64::from(known);
        self.counters.token_cache_misses += u64::from(!known);
        verified.map(|verified| verified.identity)
    }

    /// Keeps what a new connection has said about itself, who it is, and how it stands with the limit of its address.
    #[inline]
    pub(super) fn introduce(
        &mut self,
        slot: Slot,
        info: Option<Box<ConnectInfo>>,
        Entrant { identity, standing }: Entrant,
    ) {
        if let Some(info) = info {
            self.sessions.introduce(slot, info);
        }
        if let Some(standing) = standing {
            self.sessions.origins_mut().set(slot, standing);
        }
        if let Some(identity) = identity {
            self.sessions.identities_mut().set(slot, identity);
        }
        if self.is_heard(Sort::Connect) {
            self.tell_connect(slot);
        }
    }

    /// Whether the token of a connection, or having none, allows it to join a topic.
    pub(super) fn is_authorized(&self, slot: Slot, topic: TopicName<'_>) -> bool {
        match self.sessions.identities().get(slot) {
            Some(holder) => !holder.has_ended && holder.identity.may_join(topic),
            None => self.config.auth.anonymous_may_join(topic),
        }
    }

    /// Whether the token of a connection, if it has one, allows it to publish on a topic that it has joined.
    pub(super) fn may_publish(&self, slot: Slot, topic: &str) -> bool {
        let holder = self.sessions.identities().get(slot);
        holder.is_none_or(|holder| !holder.has_ended && holder.identity.may_publish(topic))
    }

    /// Why a connection may not join a topic.
    pub(super) fn refusal(&self, slot: Slot) -> JoinRefusal {
        match self.sessions.identities().get(slot) {
            Some(holder) if holder.has_ended => JoinRefusal::TokenExpired,
            _ => JoinRefusal::Unauthorized,
        }
    }

    /// A connection gives another token. It takes the place of the one that the connection has, if it is about the same
    /// user; otherwise the connection is closed, since nobody vouches for it any more. Tokens of connections that came
    /// without one change nothing, and neither do those whose key is not known yet, or that have ended like the one before.
    pub(super) fn take_token(&mut self, slot: Slot, payload: Payload<'_>) {
        self.counters.access_tokens += 1;
        self.refresh(slot, payload);
    }

    /// The same for a token that may be in a payload. Without one nothing changes.
    pub(super) fn refresh(&mut self, slot: Slot, payload: Payload<'_>) {
        if self.sessions.identities().get(slot).is_none() {
            return;
        }
        let Payload::Json(json) = payload else { return };
        let Ok(Refresh { access_token: Some(text) }) = serde_json::from_str(json) else { return };
        let fresh = self.identify(&Token::new(&text));
        let holder = self.sessions.identities().get(slot);
        match fresh {
            Ok(fresh) if holder.is_some_and(|holder| fresh.is_same_user(holder.identity)) => {
                self.sessions.identities_mut().set(slot, fresh);
            }
            Err(Refusal::Unknown) => {}
            // Clients that join again by themselves may not have another token yet. The join is refused, and they try again after
            // a while; a connection that was closed would come back at once.
            Err(Refusal::Expired) if holder.is_some_and(|holder| holder.has_ended) => {}
            _ => self.close(slot, CloseReason::Token, CloseCode::Token),
        }
    }

    /// Tells holders of tokens that these end soon, and ends what the tokens allowed when they have ended; a bounded number
    /// at a time.
    pub(super) fn end_expired(&mut self) {
        let auth = &self.config.auth;
        let (lead, keep) = (auth.expiry_warning_millis.unwrap_or(0), auth.on_expiry == OnExpiry::EndChannels);
        let now = self.unix_millis();
        let most = if keep { ENDINGS_PER_TICK } else { EXPIRIES_PER_TICK };
        // Who listens is told whose connection it was.
        let keep_identities = keep || self.is_heard(Sort::Disconnect) || self.is_heard(Sort::Leave);
        let identities = self.sessions.identities_mut();
        identities.set_lead(lead);
        let Due { warned, ended } = identities.take_due(now, most, keep_identities);
        for (slot, left_millis) in warned {
            if self.sessions[slot].is(Phase::Open) {
                self.counters.token_warnings += 1;
                let payload = format!("{{\"expires_in_ms\":{left_millis}}}");
                self.push(slot, NULL, PHOENIX, TOKEN_EXPIRING, Payload::Json(&payload));
            }
        }
        for slot in ended {
            if !self.sessions[slot].is(Phase::Open) {
                continue;
            }
            self.counters.tokens_expired += 1;
            if keep {
                self.end_channels(slot);
            } else {
                self.close(slot, CloseReason::Token, CloseCode::Token);
            }
        }
    }

    /// Ends each channel of a connection in such a way that its client joins again, which it may with another token.
    fn end_channels(&mut self, slot: Slot) {
        let name = |channel: &Channel| Arc::clone(self.topics.get(channel.room).shared());
        let rooms: Vec<_> = self.sessions[slot].channels.iter().map(name).collect();
        for room in rooms {
            self.end_channel(slot, room.name().as_str(), End::Expired);
        }
    }
}
