//! Idempotency keys that were seen, and how the publications ended that had them.
//!
//! A fleet agrees on a key without a store: each key has three homes among the nodes, chosen by rendezvous hashing (Thaler and
//! Ravishankar, 1998). All of them are asked before the publication goes out, and told how it ended. One that remembers it is
//! enough, so two nodes may come or go meanwhile.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::broadcast::NodeTag;

/// How long a key is remembered in milliseconds.
pub const WINDOW_MILLIS: u64 = 300_000;
/// After so long a publication that did not end is taken for lost with the node that it was given to, in milliseconds.
pub const PENDING_MILLIS: u64 = 10_000;
/// Most keys that are remembered: about 10 MB. Beyond it the oldest are forgotten.
pub const MAX_KEYS: usize = 100_000;

/// A key of a backend and what it was used for, both as digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// The first half of the SHA-256 of the name of the backend's API key and its idempotency key.
    #[serde(with = "hex")]
    pub key: u128,
    /// The same of the publication.
    #[serde(with = "hex")]
    pub publication: u128,
}

/// JSON has no numbers of 128 bits.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::api) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:032x}"))
    }

    pub(in crate::api) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(D::Error::custom)
    }
}

/// How a publication went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Topics that were told.
    pub topics: u32,
    /// How far it went.
    pub reach: Reach,
}

/// How far a publication went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// To the members on all nodes: it was given to the bus, or there is no other node.
    Fleet,
    /// Some may miss it: the bus is away or full, or a shard takes no messages.
    Part,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Claim {
    /// Nothing: it is the asker's now.
    New,
    /// A publication with it is under way.
    Pending,
    /// It ended so.
    Done(Outcome),
    /// It was used for another publication.
    Other,
}

#[derive(Debug)]
struct Entry {
    publication: u128,
    since_millis: u64,
    outcome: Option<Outcome>,
}

/// The keys that a node remembers.
#[derive(Debug, Default)]
pub struct Seen {
    entries: HashMap<u128, Entry>,
    /// In the order in which they came.
    order: VecDeque<(u64, u128)>,
}

impl Claim {
    /// Of what two nodes know, what tells more.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Other, _) | (_, Self::Other) => Self::Other,
            (Self::Done(outcome), _) | (_, Self::Done(outcome)) => Self::Done(outcome),
            (Self::Pending, _) | (_, Self::Pending) => Self::Pending,
            (Self::New, Self::New) => Self::New,
        }
    }
}

impl Seen {
    /// Claims a key at a time in milliseconds, which does not go back.
    pub fn claim(&mut self, used: Use, now_millis: u64) -> Claim {
        self.expire(now_millis);
        if let Some(entry) = self.entries.get_mut(&used.key) {
            if entry.publication != used.publication {
                return Claim::Other;
            }
            match entry.outcome {
                Some(outcome) => return Claim::Done(outcome),
                None if now_millis.saturating_sub(entry.since_millis) < PENDING_MILLIS => {
                    return Claim::Pending;
                }
                None => {
                    entry.since_millis = now_millis;
                    self.order.push_back((now_millis, used.key));
                    return Claim::New;
                }
            }
        }
        self.insert(used, None, now_millis);
        Claim::New
    }

    /// Records how the publication of a key ended.
    pub fn settle(&mut self, used: Use, outcome: Outcome, now_millis: u64) {
        self.expire(now_millis);
        match self.entries.get_mut(&used.key) {
            Some(entry) if entry.publication == used.publication => entry.outcome = Some(outcome),
            Some(_) => {}
            None => self.insert(used, Some(outcome), now_millis),
        }
    }

    /// Forgets a key whose publication was refused.
    pub fn release(&mut self, used: Use) {
        if self
            .entries
            .get(&used.key)
            .is_some_and(|entry| entry.outcome.is_none() && entry.publication == used.publication)
        {
            self.entries.remove(&used.key);
        }
    }

    fn insert(&mut self, used: Use, outcome: Option<Outcome>, now_millis: u64) {
        while self.order.len() >= MAX_KEYS {
            self.forget_oldest();
        }
        let entry = Entry { publication: used.publication, since_millis: now_millis, outcome };
        self.entries.insert(used.key, entry);
        self.order.push_back((now_millis, used.key));
    }

    fn expire(&mut self, now_millis: u64) {
        while self.order.front().is_some_and(|(since, _)| now_millis.saturating_sub(*since) >= WINDOW_MILLIS)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((since, key)) = self.order.pop_front() else { return };
        // One that was claimed again is in the order twice.
        if self.entries.get(&key).is_some_and(|entry| entry.since_millis == since) {
            self.entries.remove(&key);
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Homes of a key.
const HOMES: usize = 3;

/// The nodes that answer for a key, best first.
#[must_use]
pub fn homes(key: u128, nodes: impl IntoIterator<Item = NodeTag>) -> Vec<NodeTag> {
    let weight =
        |node: &NodeTag| SipHasher13::new_with_keys(key as u64, (key >> 64) as u64).hash(&node.to_bytes());
    let mut nodes: Vec<_> = nodes.into_iter().collect();
    nodes.sort_unstable_by_key(|node| std::cmp::Reverse((weight(node), node.to_bytes())));
    nodes.dedup();
    nodes.truncate(HOMES);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOME: Outcome = Outcome { topics: 1, reach: Reach::Fleet };

    fn used(key: u128, publication: u128) -> Use {
        Use { key, publication }
    }

    #[test]
    fn the_first_is_answered_again_within_the_window() {
        let mut seen = Seen::default();
        assert_eq!(seen.claim(used(1, 1), 0), Claim::New);
        assert_eq!(seen.claim(used(1, 1), PENDING_MILLIS - 1), Claim::Pending);
        assert_eq!(seen.claim(used(1, 2), 1), Claim::Other);
        seen.settle(used(1, 1), OUTCOME, PENDING_MILLIS);
        seen.settle(used(1, 2), Outcome { topics: 9, ..OUTCOME }, PENDING_MILLIS);
        assert_eq!(seen.claim(used(1, 1), WINDOW_MILLIS - 1), Claim::Done(OUTCOME));
        assert_eq!(seen.claim(used(1, 1), WINDOW_MILLIS), Claim::New);
    }

    #[test]
    fn what_never_ended_or_was_refused_may_be_tried_again() {
        let mut seen = Seen::default();
        assert_eq!(seen.claim(used(1, 1), 0), Claim::New);
        assert_eq!(seen.claim(used(1, 1), PENDING_MILLIS), Claim::New);
        assert_eq!(seen.claim(used(1, 1), PENDING_MILLIS + 1), Claim::Pending);
        seen.release(used(1, 2));
        assert_eq!(seen.claim(used(1, 1), PENDING_MILLIS + 1), Claim::Pending);
        seen.release(used(1, 1));
        assert_eq!(seen.claim(used(1, 2), PENDING_MILLIS + 2), Claim::New);
        seen.settle(used(1, 2), OUTCOME, PENDING_MILLIS + 3);
        seen.release(used(1, 2));
        assert_eq!(seen.claim(used(1, 2), PENDING_MILLIS + 4), Claim::Done(OUTCOME));
    }

    #[test]
    fn keys_are_bounded_and_the_oldest_go() {
        let mut seen = Seen::default();
        for key in 0..MAX_KEYS as u128 + 10 {
            assert_eq!(seen.claim(used(key, 0), key as u64 / 1_000), Claim::New);
            seen.settle(used(key, 0), OUTCOME, key as u64 / 1_000);
        }
        assert_eq!(seen.len(), MAX_KEYS);
        assert_eq!(seen.claim(used(MAX_KEYS as u128, 0), 200), Claim::Done(OUTCOME));
        assert!(!seen.is_empty());
        assert_eq!(seen.claim(used(1, 0), 2 * WINDOW_MILLIS), Claim::New);
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn a_key_keeps_its_homes_when_another_node_goes() {
        let nodes: Vec<_> = (0..7_u8).map(|node| NodeTag::from_bytes([node; 7])).collect();
        for key in 0..500_u128 {
            let key = key << 60 | key;
            let found = homes(key, nodes.iter().copied());
            assert_eq!(found.len(), HOMES);
            for gone in &nodes {
                let left = homes(key, nodes.iter().copied().filter(|node| node != gone));
                let expected: Vec<_> = found.iter().filter(|home| *home != gone).copied().collect();
                assert_eq!(left[..expected.len()], expected, "only the homes of what is gone change");
            }
        }
        let spread: std::collections::HashSet<_> = (0..200_u128)
            .filter_map(|key| homes(key << 64, nodes.iter().copied()).first().copied())
            .collect();
        assert_eq!(spread.len(), nodes.len());
        assert!(homes(1, []).is_empty());
    }

    #[test]
    fn one_home_that_remembers_is_enough() {
        let done = Claim::Done(OUTCOME);
        for (claims, all) in [
            ([Claim::New, Claim::New], Claim::New),
            ([Claim::New, Claim::Pending], Claim::Pending),
            ([Claim::Pending, done], done),
            ([done, Claim::Other], Claim::Other),
        ] {
            assert_eq!((claims[0].or(claims[1]), claims[1].or(claims[0])), (all, all));
        }
    }

    #[test]
    fn a_use_is_the_same_after_the_bus() {
        let one = used(u128::MAX, 7);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Use>(&json).ok(), Some(one));
    }
}
