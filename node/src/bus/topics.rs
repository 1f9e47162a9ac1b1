//! Which topics this node wants from the bus, because of which shards, and how far it has counted in each.
//!
//! Pure: the client around it subscribes and unsubscribes. A topic whose last member leaves is kept for a while, because
//! a reconnecting client is back in seconds and the server's interest graph is spared the flapping. A topic costs about
//! 5.6 KB here, most of it the client's queue for its subscription (measured with 20,000 topics).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use node_core::route::ShardMask;

use crate::mailbox::Topic;

/// How long a topic without members stays subscribed.
pub const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Entry<S> {
    wanted: ShardMask,
    sequence: u64,
    /// When the last member left; none while there are members.
    idle_since: Option<Instant>,
    subscription: Option<S>,
    /// The client refused its subject: asking again is in vain.
    refused: bool,
}

/// The table. `S` is a subscription: dropping it ends it.
#[derive(Debug)]
pub struct Topics<S> {
    entries: HashMap<Topic, Entry<S>>,
    /// Topics by the time their last member left; an entry counts only if the topic says the same time.
    leaving: VecDeque<(Instant, Topic)>,
    /// Most of them, one at least.
    lingering: usize,
}

impl<S> Topics<S> {
    /// An empty table that keeps so many topics without members. One is kept in any case: a caller may count on it.
    pub fn new(lingering: usize) -> Self {
        Topics { entries: HashMap::new(), leaving: VecDeque::new(), lingering: lingering.max(1) }
    }

    /// A shard has members of a topic.
    pub fn join(&mut self, topic: &Topic, shard: u8) {
        let entry = self.entry(topic);
        entry.wanted = entry.wanted.with(shard);
        entry.idle_since = None;
    }

    /// A shard has no members of a topic any more.
    pub fn leave(&mut self, topic: &Topic, shard: u8, now: Instant) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        let before = entry.wanted;
        entry.wanted = before.without(shard);
        if !before.is_empty() && entry.wanted.is_empty() {
            entry.idle_since = Some(now);
            self.linger(topic, now);
        }
    }

    /// The sequence of the next message about a topic. A topic that nobody here has joined (a publish queued before the
    /// leave) counts and expires like one that was just left.
    pub fn next_sequence(&mut self, topic: &Topic, now: Instant) -> u64 {
        self.skip(topic, 1, now)
    }

    /// Uses up the sequences of so many messages that are not sent; returns the last of them.
    pub fn skip(&mut self, topic: &Topic, count: u64, now: Instant) -> u64 {
        if !self.entries.contains_key(topic) {
            self.entry(topic).idle_since = Some(now);
            self.linger(topic, now);
        }
        let entry = self.entry(topic);
        entry.sequence += count;
        entry.sequence
    }

    /// Topics with members but without a subscription.
    pub fn missing(&self) -> Vec<Topic> {
        let is_missing = |e: &Entry<S>| e.subscription.is_none() && e.idle_since.is_none() && !e.refused;
        let missing = self.entries.iter().filter(|(_, entry)| is_missing(entry));
        missing.map(|(topic, _)| Arc::clone(topic)).collect()
    }

    /// Whether a topic is known and has no subscription yet, but could have one.
    pub fn is_unsubscribed(&self, topic: &Topic) -> bool {
        self.entries.get(topic).is_some_and(|entry| entry.subscription.is_none() && !entry.refused)
    }

    /// The topic has no subject that the client takes: it is not asked for again while it is known.
    pub fn refuse(&mut self, topic: &Topic) {
        self.entry(topic).refused = true;
    }

    /// Keeps a subscription until the topic expires.
    pub fn subscribed(&mut self, topic: &Topic, subscription: S) {
        self.entry(topic).subscription = Some(subscription);
    }

    /// Drops the topics that were left long enough ago.
    pub fn expire(&mut self, now: Instant) {
        while let Some((since, _)) = self.leaving.front() {
            if now.saturating_duration_since(*since) < LINGER {
                return;
            }
            self.drop_oldest();
        }
    }

    fn linger(&mut self, topic: &Topic, now: Instant) {
        self.leaving.push_back((now, Arc::clone(topic)));
        // The new one is last and stays: a caller may count on it.
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
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no topic is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, topic: &Topic) -> &mut Entry<S> {
        self.entries.entry(Arc::clone(topic)).or_insert_with(|| Entry {
            wanted: ShardMask::default(),
            sequence: 0,
            idle_since: None,
            subscription: None,
            refused: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use node_core::limits::MAX_SHARDS;

    use super::*;

    const LINGERING: usize = 100;
    const LAST: u8 = MAX_SHARDS - 1;

    fn topic() -> Topic {
        Arc::from("room:1")
    }

    #[test]
    fn a_topic_is_wanted_until_the_last_shard_left_and_a_while_longer() {
        let mut topics = Topics::new(LINGERING);
        let start = Instant::now();
        topics.join(&topic(), 0);
        topics.join(&topic(), LAST);
        assert!(topics.is_unsubscribed(&topic()) && topics.missing() == [topic()]);
        topics.subscribed(&topic(), ());
        assert!(!topics.is_unsubscribed(&topic()) && topics.missing().is_empty());
        topics.leave(&topic(), 0, start);
        topics.expire(start + 2 * LINGER);
        assert_eq!(topics.len(), 1);
        topics.leave(&topic(), LAST, start + LINGER);
        topics.expire(start + LINGER);
        assert_eq!(topics.len(), 1);
        topics.expire(start + 2 * LINGER);
        assert!(topics.is_empty());
    }

    #[test]
    fn coming_back_in_time_keeps_the_subscription_and_the_count() {
        let mut topics = Topics::new(LINGERING);
        let start = Instant::now();
        topics.join(&topic(), 1);
        topics.subscribed(&topic(), ());
        assert_eq!([1, 2], [(); 2].map(|()| topics.next_sequence(&topic(), start)));
        topics.leave(&topic(), 1, start);
        topics.join(&topic(), 1);
        topics.leave(&topic(), 1, start + LINGER / 2);
        topics.expire(start + LINGER);
        assert_eq!(topics.len(), 1, "the later leave counts");
        topics.join(&topic(), 1);
        topics.expire(start + 3 * LINGER);
        assert!(!topics.is_unsubscribed(&topic()));
        assert_eq!(topics.next_sequence(&topic(), start), 3);
        assert_eq!([topics.skip(&topic(), 5, start), topics.next_sequence(&topic(), start)], [8, 9]);
    }

    #[test]
    fn what_was_never_joined_expires_too_and_is_never_subscribed() {
        let mut topics = Topics::<()>::new(LINGERING);
        let start = Instant::now();
        topics.leave(&topic(), 3, start);
        assert!(topics.is_empty());
        assert_eq!(topics.next_sequence(&topic(), start), 1);
        assert!(topics.missing().is_empty());
        topics.expire(start + LINGER);
        assert!(topics.is_empty());
    }

    #[test]
    fn a_second_leave_of_a_shard_changes_nothing() {
        let mut topics = Topics::<()>::new(LINGERING);
        let start = Instant::now();
        topics.join(&topic(), 0);
        topics.leave(&topic(), 0, start);
        topics.leave(&topic(), 0, start + LINGER);
        topics.expire(start + LINGER);
        assert!(topics.is_empty());
    }

    #[test]
    fn a_topic_that_the_client_refuses_is_not_asked_for_again() {
        let mut topics = Topics::<()>::new(LINGERING);
        let start = Instant::now();
        topics.join(&topic(), 0);
        topics.refuse(&topic());
        assert!(topics.missing().is_empty() && !topics.is_unsubscribed(&topic()));
        topics.leave(&topic(), 0, start);
        topics.expire(start + LINGER);
        assert!(topics.is_empty(), "forgotten like any other");
    }

    #[test]
    fn what_lingers_is_bounded_and_the_oldest_goes_first() {
        let mut topics = Topics::<()>::new(LINGERING);
        let start = Instant::now();
        let name = |n: usize| Topic::from(format!("room:{n}"));
        topics.join(&name(0), 0);
        for n in 1..=2 * LINGERING {
            let now = start + Duration::from_micros(n as u64);
            topics.join(&name(n), 0);
            topics.leave(&name(n), 0, now);
        }
        assert_eq!((topics.len(), topics.leaving.len()), (LINGERING + 1, LINGERING));
        assert!(topics.is_unsubscribed(&name(0)), "it has members");
        assert!(topics.is_unsubscribed(&name(2 * LINGERING)), "the last to leave lingers");
        assert!(!topics.is_unsubscribed(&name(LINGERING)), "forgotten");
    }
}
