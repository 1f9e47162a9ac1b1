//! The holder of a token that was verified.

use std::sync::Arc;

use super::{
    priority::Priority,
    rights::{self, Grants},
};
use crate::topic::{TopicKind, TopicName};

/// What a verified token says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(super) issuer: Option<Arc<str>>,
    pub(super) user: Box<str>,
    pub(super) expires_at_millis: u64,
    /// The topics that it may join, and those that it may publish on.
    pub(super) joins: Grants,
    pub(super) publishes: Grants,
    pub(super) priority: Priority,
}

impl Identity {
    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// When it ends, in milliseconds since 1970, leeway included.
    #[must_use]
    pub const fn expires_at_millis(&self) -> u64 {
        self.expires_at_millis
    }

    /// Whether it may join a topic, as far as the token decides that. Topics that each node serves by itself are not the
    /// token's to give.
    #[must_use]
    pub fn may_join(&self, topic: TopicName<'_>) -> bool {
        topic.kind() != TopicKind::Shared || rights::has(&self.joins, topic.as_str())
    }

    /// Whether it may publish on a topic that it has joined, as far as the token decides that.
    #[must_use]
    pub fn may_publish(&self, topic: &str) -> bool {
        rights::has(&self.publishes, topic)
    }

    /// Whether another token is about the same user of the same issuer.
    #[must_use]
    pub fn is_same_user(&self, other: &Self) -> bool {
        (&self.issuer, &self.user) == (&other.issuer, &other.user)
    }

    /// Its priority, where its issuer says one.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// Memory in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let rights = rights::held_bytes(&self.joins) + rights::held_bytes(&self.publishes);
        size_of::<Self>() + self.user.len() + rights
    }
}
