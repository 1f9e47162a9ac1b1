//! What the shards of a node know together about a topic: which of them have members, and how many there are.
//!
//! A room on a shard holds a reference to one [`SharedRoom`]; a publish reads its mask with one load and a join claims
//! a place with one atomic operation, so the cap of a room is exact per node. The registry behind a striped lock is
//! touched only when a shard gets its first member of a topic or loses its last. Messages announcing interest from
//! shard to shard would do without a lock, but leave a moment in which a publish misses a shard, and cannot count.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use hashbrown::{HashTable, hash_table::Entry};
use siphasher::sip::SipHasher13;

use crate::limits::MAX_SHARDS;

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
    /// Without this shard.
    #[must_use]
    pub const fn without(mut self, shard: u8) -> Self {
        let (word, bit) = place(shard);
        self.0[word] &= !bit;
        self
    }

    /// Whether no shard is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The shards in it, ascending.
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
    shards: [AtomicU64; WORDS],
    members: AtomicU32,
}

impl SharedRoom {
    /// The topic.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
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

    /// Takes one of `max` places. False when there is none.
    #[must_use]
    pub fn claim(&self, max: u32) -> bool {
        let more = |members| (members < max).then(|| members + 1);
        self.members.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives a claimed place back.
    pub fn release(&self) {
        self.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All topics of a node.
#[derive(Debug)]
pub struct Registry {
    stripes: [Mutex<HashTable<Arc<SharedRoom>>>; STRIPES],
    hasher: SipHasher13,
}

impl Registry {
    /// No topics. `key` must be random: clients choose topics, and who knew it could make all of them collide. A fixed
    /// one makes tables, and so what is measured of them, the same in every run.
    #[must_use]
    pub fn new([first, second]: [u64; 2]) -> Self {
        let hasher = SipHasher13::new_with_keys(first, second);
        Self { stripes: std::array::from_fn(|_| Mutex::default()), hasher }
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

    /// Notes that `shard` is about to have members of a topic.
    #[must_use]
    pub fn open(&self, topic: &str, shard: u8) -> Arc<SharedRoom> {
        let hash = self.hash(topic);
        let mut stripe = self.stripe(hash);
        let entry = stripe.entry(hash, |room| &*room.topic == topic, |room| self.hash(&room.topic));
        let room = match entry {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                let room = SharedRoom { topic: topic.into(), shards: Default::default(), members: 0.into() };
                Arc::clone(entry.insert(Arc::new(room)).get())
            }
        };
        let (word, bit) = place(shard);
        room.shards[word].fetch_or(bit, Ordering::AcqRel);
        room
    }

    /// Notes that `shard` has no members of the topic any more.
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
            let capacity = stripe.capacity();
            if capacity > STRIPES && stripe.len() < capacity / 8 {
                let target = stripe.len() * 2;
                stripe.shrink_to(target, |room| self.hash(&room.topic));
            }
        }
    }

    /// Topics with members on any shard. Locks each stripe once.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_shards() {
        let mask = ShardMask([0b1101, 1 << 63]);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 2, 3, 127]);
        assert_eq!(mask.without(2).iter().collect::<Vec<_>>(), [0, 3, 127]);
        assert!(!mask.is_empty() && ShardMask([0, 1 << 63]).without(127).is_empty());
    }

    #[test]
    fn a_topic_lives_while_a_shard_has_it() {
        let registry = Registry::new([1, 2]);
        let a = registry.open("t", 0);
        let b = registry.open("t", 5);
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(a.shards().iter().collect::<Vec<_>>(), [0, 5]);
        registry.close(&a, 0);
        assert_eq!((registry.topics(), b.shards()), (1, ShardMask([1 << 5, 0])));
        registry.close(&b, 5);
        assert_eq!(registry.topics(), 0);
        assert!(!Arc::ptr_eq(&a, &registry.open("t", 0)));
    }

    #[test]
    fn places_are_exact_across_threads() {
        let registry = Registry::new([1, 2]);
        let room = registry.open("t", 0);
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
