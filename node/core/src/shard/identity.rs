//! Who a connection is: its token when it connects, the topics that the token allows, another token in its place, and
//! its end.

use std::sync::Arc;

use serde::Deserialize;

use super::{origin::Entrant, state::Shard};
use crate::{
    auth::{Identity, Refusal, Token},
    counters::{CloseReason, RefuseReason},
    limits::EXPIRIES_PER_TICK,
    protocol::Payload,
    session::{id::Slot, lifecycle::Phase},
    topic::TopicName,
    ws::{CloseCode, ConnectInfo},
};

/// The token in the payload of an event `access_token`, or of a join. Clients that are signed out send `null`.
#[derive(Deserialize)]
struct Refresh {
    access_token: Option<String>,
}

impl Shard {
    /// The time in milliseconds since 1970.
    const fn unix_millis(&self) -> u64 {
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
    }

    /// Whether the token of a connection, or having none, allows it to join a topic.
    pub(super) fn is_authorized(&self, slot: Slot, topic: TopicName<'_>) -> bool {
        match self.sessions.identities().get(slot) {
            Some(identity) => identity.may_join(topic),
            None => self.config.auth.anonymous_may_join(topic),
        }
    }

    /// Whether the token of a connection, if it has one, allows it to publish on a topic that it has joined.
    pub(super) fn may_publish(&self, slot: Slot, topic: &str) -> bool {
        self.sessions.identities().get(slot).is_none_or(|identity| identity.may_publish(topic))
    }

    /// A connection gives another token. It takes the place of the one that the connection has, if it is about the same
    /// user; otherwise the connection is closed, since nobody vouches for it any more. Tokens of connections that came
    /// without one change nothing, and neither do those whose key is not known yet.
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
        let identity = self.sessions.identities().get(slot);
        match fresh {
            Ok(fresh) if identity.is_some_and(|identity| fresh.is_same_user(identity)) => {
                self.sessions.identities_mut().set(slot, fresh);
            }
            Err(Refusal::Unknown) => {}
            _ => self.close(slot, CloseReason::Token, CloseCode::Token),
        }
    }

    /// Closes connections whose token has ended, a bounded number at a time.
    pub(super) fn end_expired(&mut self) {
        let now = self.unix_millis();
        for slot in self.sessions.identities_mut().take_expired(now, EXPIRIES_PER_TICK) {
            if self.sessions[slot].is(Phase::Open) {
                self.close(slot, CloseReason::Token, CloseCode::Token);
            }
        }
    }
}
