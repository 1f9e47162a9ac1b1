//! What the rooms of each policy say. A configuration bounds its policies, and clients choose none of their names.

use std::sync::Arc;

use crate::config::{PolicyRef, Rooms};

/// The name of what no policy overrides.
const WITHOUT: &str = "default";

/// What was counted for one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyCounts {
    /// Messages that clients of this shard published.
    pub publishes: u64,
    /// Broadcast frames queued to members.
    pub writes: u64,
    /// Joins that were refused although the topic can be joined and the client did not join too often.
    pub joins_refused: u64,
}

impl PolicyCounts {
    /// Adds what another shard has counted.
    pub const fn add(&mut self, other: &Self) {
        self.publishes += other.publishes;
        self.writes += other.writes;
        self.joins_refused += other.joins_refused;
    }
}

/// What was counted for each policy, the last of them being what none overrides.
#[derive(Debug, Clone, Default)]
pub struct ByPolicy {
    names: Arc<[Box<str>]>,
    counts: Vec<PolicyCounts>,
}

impl ByPolicy {
    /// Nothing yet.
    pub(super) fn new(rooms: &Rooms) -> Self {
        let patterns = rooms.policies.iter().map(|policy| policy.topics.0.as_str());
        let names: Arc<[_]> = patterns.chain([WITHOUT]).map(Box::from).collect();
        let counts = vec![PolicyCounts::default(); names.len()];
        Self { names, counts }
    }

    /// Other policies are in force. One that was there before goes on.
    pub(super) fn change(&mut self, rooms: &Rooms) {
        let before = std::mem::replace(self, Self::new(rooms));
        for (name, counts) in before.iter() {
            if let Some(place) = self.names.iter().position(|known| **known == *name) {
                self.counts[place].add(counts);
            }
        }
    }

    /// The counts of a policy of the configuration in force; none for a topic that no policy serves.
    #[inline]
    pub(super) fn of(&mut self, policy: Option<PolicyRef>) -> Option<&mut PolicyCounts> {
        let place = policy?.place(self.counts.len().saturating_sub(1));
        self.counts.get_mut(place)
    }

    /// The policies, by the pattern of their topics. A pattern that is there twice comes twice.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PolicyCounts)> {
        self.names.iter().map(|name| &**name).zip(&self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Policy, TopicPattern},
        topic::TopicName,
    };

    fn rooms(patterns: &[&str]) -> Rooms {
        let policies = patterns.iter().map(|text| Policy::of(TopicPattern((*text).to_owned()))).collect();
        Rooms { policies, ..Rooms::default() }
    }

    fn publish(by: &mut ByPolicy, rooms: &Rooms, topic: &str) {
        let policy = rooms.find(TopicName::parse(topic).expect("a topic"));
        if let Some(counts) = by.of(policy) {
            counts.publishes += 1;
        }
    }

    fn said(by: &ByPolicy) -> Vec<(&str, u64)> {
        by.iter().map(|(name, counts)| (name, counts.publishes)).collect()
    }

    #[test]
    fn each_policy_has_its_own_and_keeps_it_when_others_come_and_go() {
        let first = rooms(&["a:*", "b:*"]);
        let mut by = ByPolicy::new(&first);
        for topic in ["a:1", "b:1", "b:2", "c", "$cluster"] {
            publish(&mut by, &first, topic);
        }
        assert_eq!(said(&by), [("a:*", 1), ("b:*", 2), ("default", 1)]);
        let second = rooms(&["x", "b:*", "default"]);
        by.change(&second);
        assert_eq!(said(&by), [("x", 0), ("b:*", 2), ("default", 1), ("default", 0)]);
        for topic in ["x", "a:1", "default"] {
            publish(&mut by, &second, topic);
        }
        assert_eq!(said(&by), [("x", 1), ("b:*", 2), ("default", 2), ("default", 1)]);
    }
}
