//! What the shards of a node know together about a topic: which of them have members, and how many there are.
//!
//! A room on a shard holds a reference to one [`SharedRoom`]; a publish reads its mask with one load and a join
//! claims a place with one atomic operation, so the cap of a room is exact per node. The cap of rooms is exact, too:
//! a topic that no shard has yet claims a place with another such operation. The registry behind a striped lock is
//! touched only when a shard gets its first member of a topic or loses its last. If shards announced their interest
//! by messages instead, they would need no lock, but for a moment a publish would miss a shard, and nobody could
//! count.

use std::sync::{Arc, PoisonError};

use hashbrown::{HashTable, hash_table::Entry};
use siphasher::sip::SipHasher13;

use crate::{
    ledger::{TOPIC_BYTES, TOPIC_ON_BUS_BYTES},
    limits::MAX_SHARDS,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    topic::{TopicKind, TopicName},
};

/// A topic shared between rooms and messages under way.
pub type Topic = Arc<str>;

/// Locks of the registry. More than shards, so that two of them seldom meet.
const STRIPES: usize = 64;

/// A set of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardMask([u64; WORDS]);

/// Words of a mask: one bit per shard.
const WORDS: usize = MAX_SHARDS.div_ceil(64) as usize;

/// Word and bit of a shard.
const fn place(shard: u8) -> (usize, u64) {
    (shard as usize / 64, 1 << (shard % 64))
}

impl ShardMask {
    /// The mask with this shard.
    #[must_use]
    pub const fn with(mut self, shard: u8) -> Self {
        let (word, bit) = place(shard);
        self.0[word] |= bit;
        self
    }

    /// The mask without this shard.
    #[must_use]
    pub const fn without(mut self, shard: u8) -> Self {
        let (word, bit) = place(shard);
        self.0[word] &= !bit;
        self
    }

    /// Whether it has no shard.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Its shards, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().zip(0..).flat_map(|(mut left, word)| {
            std::iter::from_fn(move || {
                let next = (left != 0).then(|| word * 64 + left.trailing_zeros() as u8);
                left &= left.wrapping_sub(1);
                next
            })
        })
    }
}

/// A topic with members on at least one shard.
#[derive(Debug)]
pub struct SharedRoom {
    topic: Topic,
    kind: TopicKind,
    shards: [AtomicU64; WORDS],
    members: AtomicU32,
}

impl SharedRoom {
    /// The topic.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The topic with its kind.
    #[must_use]
    pub fn name(&self) -> TopicName<'_> {
        TopicName::again(&self.topic, self.kind)
    }

    /// Shards with members.
    #[must_use]
    pub fn shards(&self) -> ShardMask {
        ShardMask(std::array::from_fn(|word| self.shards[word].load(Ordering::Acquire)))
    }

    /// Members on all shards.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members.load(Ordering::Relaxed)
    }

    /// Takes one of `max` places. False when none is free.
    #[must_use]
    pub fn claim(&self, max: u32) -> bool {
        claim(&self.members, max)
    }

    /// Gives a claimed place back.
    pub fn release(&self) {
        self.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one of `max` places, of which `taken` are taken. False when none is free.
pub(crate) fn claim(taken: &AtomicU32, max: u32) -> bool {
    let more = |taken| (taken < max).then(|| taken + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// How many topics there are. It is alone on its cache line: each topic that comes or goes writes it, and each
/// message reads the hasher's key, which would be beside it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Count {
    topics: AtomicU32,
    /// Bytes of all topics' names.
    name_bytes: AtomicU64,
    /// Bytes of each topic besides its name.
    each_bytes: AtomicU64,
}

/// All topics of a node.
#[derive(Debug)]
pub struct Registry {
    stripes: [Mutex<HashTable<Arc<SharedRoom>>>; STRIPES],
    hasher: SipHasher13,
    count: Count,
}

impl Registry {
    /// A registry without topics. `key` must be random: clients choose topics, and a client that knew the key could
    /// make all of them collide. A fixed key makes tables, and measurements of them, the same in every run.
    #[must_use]
    pub fn new([first, second]: [u64; 2]) -> Self {
        let hasher = SipHasher13::new_with_keys(first, second);
        Self { stripes: std::array::from_fn(|_| Mutex::default()), hasher, count: Count::default() }
    }

    /// The keyed hash of a topic.
    #[must_use]
    pub fn hash(&self, topic: &str) -> u64 {
        self.hasher.hash(topic.as_bytes())
    }

    fn stripe(&self, hash: u64) -> MutexGuard<'_, HashTable<Arc<SharedRoom>>> {
        // The table inside uses the low bits for the bucket and the top seven for the tag.
        let stripe = (hash >> 32) as usize % STRIPES;
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `shard` is about to have members of a topic. None when no shard has members of it and there are
    /// `max_topics` others.
    #[must_use]
    pub fn open(&self, name: TopicName<'_>, shard: u8, max_topics: u32) -> Option<Arc<SharedRoom>> {
        let topic = name.as_str();
        let hash = self.hash(topic);
        let mut stripe = self.stripe(hash);
        let entry = stripe.entry(hash, |room| &*room.topic == topic, |room| self.hash(&room.topic));
        let room = match entry {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                if !claim(&self.count.topics, max_topics) {
                    return None;
                }
                self.count.name_bytes.fetch_add(topic.len() as u64, Ordering::Relaxed);
                let room = SharedRoom {
                    topic: topic.into(),
                    kind: name.kind(),
                    shards: Default::default(),
                    members: 0.into(),
                };
                Arc::clone(entry.insert(Arc::new(room)).get())
            }
        };
        let (word, bit) = place(shard);
        room.shards[word].fetch_or(bit, Ordering::AcqRel);
        Some(room)
    }

    /// Records that `shard` has no members of the topic any more.
    pub fn close(&self, room: &Arc<SharedRoom>, shard: u8) {
        let hash = self.hash(&room.topic);
        let mut stripe = self.stripe(hash);
        let (word, bit) = place(shard);
        room.shards[word].fetch_and(!bit, Ordering::AcqRel);
        // All changes of masks happen under the lock of their stripe.
        if room.shards().is_empty()
            && let Ok(entry) = stripe.find_entry(hash, |other| Arc::ptr_eq(other, room))
        {
            entry.remove();
            self.count.topics.fetch_sub(1, Ordering::Relaxed);
            self.count.name_bytes.fetch_sub(room.topic.len() as u64, Ordering::Relaxed);
            let capacity = stripe.capacity();
            if capacity > STRIPES && stripe.len() < capacity / 8 {
                let target = stripe.len() * 2;
                stripe.shrink_to(target, |room| self.hash(&room.topic));
            }
        }
    }

    /// The shards that have members of a topic.
    #[must_use]
    pub fn shards(&self, topic: &str) -> ShardMask {
        let hash = self.hash(topic);
        let stripe = self.stripe(hash);
        stripe.find(hash, |room| &*room.topic == topic).map_or_else(ShardMask::default, |room| room.shards())
    }

    /// Members of a topic on all shards.
    #[must_use]
    pub fn members(&self, topic: &str) -> u32 {
        let hash = self.hash(topic);
        let stripe = self.stripe(hash);
        stripe.find(hash, |room| &*room.topic == topic).map_or(0, |room| room.members())
    }

    /// Topics of all nodes that begin with `prefix` and come behind `after`, by name, at most `limit`, each with its members; and
    /// whether there are more. It walks over all topics, one stripe at a time, so that no join waits for the whole walk.
    #[must_use]
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> (Vec<(String, u32)>, bool) {
        let mut found = std::collections::BTreeMap::<Topic, u32>::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            for room in &*stripe {
                let topic = &*room.topic;
                let is_meant = room.kind == TopicKind::Shared && topic > after && topic.starts_with(prefix);
                let is_early =
                    found.len() <= limit || found.last_key_value().is_some_and(|(last, _)| topic < &**last);
                if is_meant && is_early {
                    found.insert(Arc::clone(&room.topic), room.members());
                    if found.len() > limit + 1 {
                        found.pop_last();
                    }
                }
            }
        }
        let more = found.len() > limit;
        (found.into_iter().take(limit).map(|(topic, members)| (topic.to_string(), members)).collect(), more)
    }

    /// Topics with members on any shard.
    #[must_use]
    pub fn topics(&self) -> u32 {
        self.count.topics.load(Ordering::Relaxed)
    }

    /// Records that this node has a bus, on which each topic costs more.
    pub fn expect_bus(&self) {
        self.count.each_bytes.store(TOPIC_ON_BUS_BYTES, Ordering::Relaxed);
    }

    /// Memory in bytes that topics take, on all shards and the bus together: an estimate from their number and names.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let each = TOPIC_BYTES + self.count.each_bytes.load(Ordering::Relaxed);
        u64::from(self.topics()) * each + self.count.name_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(registry: &Registry, topic: &str, shard: u8) -> Arc<SharedRoom> {
        registry.open(name(topic), shard, u32::MAX).expect("a place")
    }

    fn name(topic: &str) -> TopicName<'_> {
        TopicName::parse(topic).expect("a topic")
    }

    /// How many topics are counted, and how many are listed.
    fn topics(registry: &Registry) -> (u32, usize) {
        let listed = registry.stripes.iter().map(|stripe| stripe.lock().expect("no panic").len());
        (registry.topics(), listed.sum())
    }

    #[test]
    fn masks_hold_shards() {
        let mask = ShardMask([0b1101, 1 << 63]);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 2, 3, 127]);
        assert_eq!(mask.without(2).iter().collect::<Vec<_>>(), [0, 3, 127]);
        assert_eq!(ShardMask::default().with(0).with(2).with(3).with(127), mask);
        assert!(!mask.is_empty() && ShardMask([0, 1 << 63]).without(127).is_empty());
    }

    #[test]
    fn a_topic_lives_while_a_shard_has_it() {
        let registry = Registry::new([1, 2]);
        let a = open(&registry, "t", 0);
        let b = open(&registry, "t", 5);
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(a.shards().iter().collect::<Vec<_>>(), [0, 5]);
        assert_eq!((registry.shards("t"), registry.shards("u")), (a.shards(), ShardMask::default()));
        registry.close(&a, 0);
        assert_eq!((registry.topics(), b.shards()), (1, ShardMask([1 << 5, 0])));
        registry.close(&b, 5);
        assert_eq!(registry.topics(), 0);
        assert!(!Arc::ptr_eq(&a, &open(&registry, "t", 0)));
    }

    #[test]
    fn topics_are_listed_by_name_page_by_page() {
        let registry = Registry::new([1, 2]);
        let rooms: Vec<_> = (0..300).map(|number| open(&registry, &format!("room:{number:03}"), 0)).collect();
        let _others = ["a", "$cluster", "z"].map(|topic| open(&registry, topic, 0));
        assert!(rooms[7].claim(9) && rooms[7].claim(9));
        assert_eq!((registry.members("room:007"), registry.members("b")), (2, 0));
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let (page, more) = registry.list("room:", &after, 7);
            seen.extend(page.iter().cloned());
            let Some((last, _)) = page.last().filter(|_| more) else { break };
            after.clone_from(last);
        }
        let names: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!((names.len(), seen[7].1, names.is_sorted()), (300, 2, true));
        let all = registry.list("", "", 1_000);
        assert_eq!(
            (all.0.len(), all.0[0].0.as_str(), all.1),
            (302, "a", false),
            "without those of the server"
        );
    }

    #[test]
    fn a_topic_takes_one_place_from_its_first_shard_to_its_last() {
        let registry = Registry::new([1, 2]);
        let a = registry.open(name("a"), 0, 2).expect("a place");
        let _b = registry.open(name("b"), 0, 2).expect("a place");
        assert!(registry.open(name("c"), 0, 2).is_none());
        assert!(Arc::ptr_eq(&a, &registry.open(name("a"), 1, 2).expect("it has a place")));
        assert_eq!(topics(&registry), (2, 2));
        registry.close(&a, 0);
        assert!(registry.open(name("c"), 0, 2).is_none(), "another shard has members");
        registry.close(&a, 1);
        assert_eq!(topics(&registry), (1, 1));
        assert!(registry.open(name("c"), 0, 2).is_some() && registry.open(name("a"), 0, 2).is_none());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "shards are threads")]
    fn topics_are_bounded_across_threads_and_none_is_left() {
        let registry = Registry::new([1, 2]);
        std::thread::scope(|scope| {
            for shard in 0..3 {
                let registry = &registry;
                scope.spawn(move || {
                    for round in 0..1_000 {
                        let names = [0, 1, 2].map(|step| format!("t{}", (round + step) % 7));
                        let open = names.each_ref().map(|topic| registry.open(name(topic), shard, 4));
                        assert!(registry.topics() <= 4);
                        open.iter().flatten().for_each(|room| registry.close(room, shard));
                    }
                });
            }
        });
        assert_eq!(topics(&registry), (0, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "shards are threads")]
    fn places_are_exact_across_threads() {
        let registry = Registry::new([1, 2]);
        let room = open(&registry, "t", 0);
        let claimed: usize = std::thread::scope(|scope| {
            let claim = || scope.spawn(|| (0..1_000).filter(|_| room.claim(150)).count());
            let threads = [claim(), claim(), claim()];
            threads.map(|thread| thread.join().expect("no panic")).iter().sum()
        });
        assert_eq!((claimed, room.members()), (150, 150));
        room.release();
        assert!(room.claim(150) && !room.claim(150));
    }
}
