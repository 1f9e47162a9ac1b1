//! The topics that this node is subscribed to on the bus, and the last sequence number of each.
//!
//! The registry ([`crate::route::Registry`]) decides whether a topic is wanted; this table is told whenever that may
//! have changed. A topic whose last member leaves is kept for a while: a reconnecting client is back in seconds, and
//! NATS need not spread each change of interest. A topic costs about 5.6 KB, most of it the client's queue for its
//! subscription (measured with 20,000 topics).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::route::Topic;

/// How long a topic without members stays subscribed, in milliseconds.
pub const LINGER_MILLIS: u64 = 5_000;

#[derive(Debug)]
struct Entry<S> {
    sequence: u64,
    /// Since when no shard here has members of the topic, in milliseconds; none while one has.
    idle_since: Option<u64>,
    subscription: Option<S>,
}

/// The table. `S` is a subscription: dropping it ends it. Times are milliseconds of any clock that does not go back.
#[derive(Debug)]
pub struct Topics<S> {
    entries: HashMap<Topic, Entry<S>>,
    /// Topics by the time from which on no shard had members of them; an entry counts only if the topic says the same
    /// time.
    leaving: VecDeque<(u64, Topic)>,
    /// Most topics without members that stay, at least one.
    lingering: usize,
}

impl<S> Topics<S> {
    /// An empty table that keeps so many topics without members, at least one: a caller relies on that.
    #[must_use]
    pub fn new(lingering: usize) -> Self {
        Topics { entries: HashMap::new(), leaving: VecDeque::new(), lingering: lingering.max(1) }
    }

    /// Records whether a topic is wanted. Returns whether it needs a subscription.
    pub fn note(&mut self, topic: &Topic, wanted: bool, now_millis: u64) -> bool {
        if wanted {
            let entry = self.entry(topic);
            entry.idle_since = None;
            return entry.subscription.is_none();
        }
        if let Some(entry) = self.entries.get_mut(topic)
            && entry.idle_since.is_none()
        {
            entry.idle_since = Some(now_millis);
            self.linger(topic, now_millis);
        }
        false
    }

    /// The sequence of the next message about a topic. A topic without members here (a publish queued before the leave)
    /// counts and expires like one that was just left.
    pub fn next_sequence(&mut self, topic: &Topic, now_millis: u64) -> u64 {
        self.skip(topic, 1, now_millis)
    }

    /// Uses up the sequences of so many messages that are not sent; returns the last of them.
    pub fn skip(&mut self, topic: &Topic, count: u64, now_millis: u64) -> u64 {
        if !self.entries.contains_key(topic) {
            self.entry(topic).idle_since = Some(now_millis);
            self.linger(topic, now_millis);
        }
        let entry = self.entry(topic);
        entry.sequence += count;
        entry.sequence
    }

    /// Topics that are wanted and have no subscription.
    #[must_use]
    pub fn missing(&self) -> Vec<Topic> {
        let is_missing = |e: &Entry<S>| e.subscription.is_none() && e.idle_since.is_none();
        let missing = self.entries.iter().filter(|(_, entry)| is_missing(entry));
        missing.map(|(topic, _)| Arc::clone(topic)).collect()
    }

    /// Keeps a subscription until the topic expires.
    pub fn subscribed(&mut self, topic: &Topic, subscription: S) {
        self.entry(topic).subscription = Some(subscription);
    }

    /// Drops the topics that have had no members for long enough.
    pub fn expire(&mut self, now_millis: u64) {
        while let Some((since, _)) = self.leaving.front() {
            if now_millis.saturating_sub(*since) < LINGER_MILLIS {
                return;
            }
            self.drop_oldest();
        }
    }

    fn linger(&mut self, topic: &Topic, now_millis: u64) {
        self.leaving.push_back((now_millis, Arc::clone(topic)));
        // The topic that was added last stays: a caller relies on that.
        while self.leaving.len() > self.lingering {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((since, topic)) = self.leaving.pop_front() else { return };
        if self.entries.get(&topic).is_some_and(|entry| entry.idle_since == Some(since)) {
            self.entries.remove(&topic);
        }
    }

    /// Topics known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no topic is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, topic: &Topic) -> &mut Entry<S> {
        self.entries.entry(Arc::clone(topic)).or_insert_with(|| Entry {
            sequence: 0,
            idle_since: None,
            subscription: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGERING: usize = 100;

    fn topic() -> Topic {
        Arc::from("room:1")
    }

    #[test]
    fn a_topic_is_kept_while_it_is_wanted_and_a_while_longer() {
        let mut topics = Topics::new(LINGERING);
        assert!(topics.note(&topic(), true, 0) && topics.missing() == [topic()]);
        topics.subscribed(&topic(), ());
        assert!(!topics.note(&topic(), true, 0) && topics.missing().is_empty());
        topics.expire(2 * LINGER_MILLIS);
        assert_eq!(topics.len(), 1);
        topics.note(&topic(), false, LINGER_MILLIS);
        topics.expire(LINGER_MILLIS);
        assert_eq!(topics.len(), 1);
        topics.expire(2 * LINGER_MILLIS);
        assert!(topics.is_empty());
    }

    #[test]
    fn coming_back_in_time_keeps_the_subscription_and_the_count() {
        let mut topics = Topics::new(LINGERING);
        topics.note(&topic(), true, 0);
        topics.subscribed(&topic(), ());
        assert_eq!([1, 2], [(); 2].map(|()| topics.next_sequence(&topic(), 0)));
        topics.note(&topic(), false, 0);
        topics.note(&topic(), true, 0);
        topics.note(&topic(), false, LINGER_MILLIS / 2);
        topics.expire(LINGER_MILLIS);
        assert_eq!(topics.len(), 1, "the later leave counts");
        assert!(!topics.note(&topic(), true, LINGER_MILLIS));
        topics.expire(3 * LINGER_MILLIS);
        assert_eq!(topics.next_sequence(&topic(), 0), 3);
        assert_eq!([topics.skip(&topic(), 5, 0), topics.next_sequence(&topic(), 0)], [8, 9]);
    }

    #[test]
    fn what_was_never_wanted_expires_too_and_is_never_subscribed() {
        let mut topics = Topics::<()>::new(LINGERING);
        assert!(!topics.note(&topic(), false, 0) && topics.is_empty());
        assert_eq!(topics.next_sequence(&topic(), 0), 1);
        assert!(topics.missing().is_empty());
        topics.expire(LINGER_MILLIS);
        assert!(topics.is_empty());
    }

    #[test]
    fn being_told_twice_that_nobody_wants_it_changes_nothing() {
        let mut topics = Topics::<()>::new(LINGERING);
        topics.note(&topic(), true, 0);
        topics.note(&topic(), false, 0);
        topics.note(&topic(), false, LINGER_MILLIS);
        topics.expire(LINGER_MILLIS);
        assert!(topics.is_empty());
    }

    #[test]
    fn what_lingers_is_bounded_and_the_oldest_goes_first() {
        let mut topics = Topics::<()>::new(LINGERING);
        let name = |n: usize| Topic::from(format!("room:{n}"));
        topics.note(&name(0), true, 0);
        for n in 1..=2 * LINGERING {
            topics.note(&name(n), true, n as u64);
            topics.note(&name(n), false, n as u64);
        }
        assert_eq!((topics.len(), topics.leaving.len()), (LINGERING + 1, LINGERING));
        assert!(topics.entries.contains_key(&name(0)), "it is wanted");
        assert!(topics.entries.contains_key(&name(2 * LINGERING)), "the last to leave lingers");
        assert!(!topics.entries.contains_key(&name(LINGERING)), "forgotten");
    }
}
