//! The identities of connections with a token. A connection without one has no entry here.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{id::Slot, side::hash};
use crate::auth::Identity;

/// Entries for which place is kept although they are not needed at the moment.
const KEPT: usize = 64;

#[derive(Debug)]
struct Entry {
    slot: Slot,
    /// That of the identity, so that a walk over the table stays in it.
    expires_at_millis: u64,
    identity: Arc<Identity>,
}

/// Memory in bytes of an entry: its place, twice, because tables grow to the double.
const ENTRY_BYTES: u64 = 2 * size_of::<Entry>() as u64;

impl Entry {
    fn held_bytes(&self) -> u64 {
        ENTRY_BYTES + self.identity.held_bytes() as u64
    }
}

/// The identities of a shard.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    table: HashTable<Entry>,
    held_bytes: u64,
    /// No identity ends before this time, in milliseconds since 1970.
    soonest_millis: u64,
}

impl Identities {
    /// The identity of a connection.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Identity> {
        // It is asked at each publish, and most fleets either have no tokens or one for each connection.
        if self.table.is_empty() {
            return None;
        }
        self.table.find(hash(slot), |entry| entry.slot == slot).map(|entry| &*entry.identity)
    }

    /// Gives a connection an identity, in place of the one that it may have.
    pub(crate) fn set(&mut self, slot: Slot, identity: Arc<Identity>) {
        self.forget(slot);
        let entry = Entry { slot, expires_at_millis: identity.expires_at_millis(), identity };
        self.soonest_millis = if self.table.is_empty() {
            entry.expires_at_millis
        } else {
            self.soonest_millis.min(entry.expires_at_millis)
        };
        self.held_bytes += entry.held_bytes();
        self.table.insert_unique(hash(slot), entry, |entry| hash(entry.slot));
    }

    /// Forgets the identity of a connection.
    pub(crate) fn forget(&mut self, slot: Slot) {
        // The end of every connection comes here.
        if self.table.is_empty() {
            return;
        }
        if let Ok(found) = self.table.find_entry(hash(slot), |entry| entry.slot == slot) {
            let (entry, _) = found.remove();
            self.held_bytes -= entry.held_bytes();
        }
    }

    /// Takes out identities that have ended at `now_millis` since 1970, at most so many, and returns the slots of their
    /// connections in order. The table is walked over only when one has ended.
    pub(crate) fn take_expired(&mut self, now_millis: u64, most: usize) -> Vec<Slot> {
        if self.table.is_empty() || now_millis < self.soonest_millis {
            return Vec::new();
        }
        let (mut expired, mut soonest) = (Vec::new(), u64::MAX);
        for entry in &self.table {
            if entry.expires_at_millis <= now_millis && expired.len() < most {
                expired.push(entry.slot);
            } else {
                soonest = soonest.min(entry.expires_at_millis);
            }
        }
        self.soonest_millis = soonest;
        expired.sort_unstable();
        expired.iter().for_each(|slot| self.forget(*slot));
        expired
    }

    /// Memory in bytes.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Gives memory of a past peak back.
    pub(super) fn trim(&mut self) {
        if self.table.capacity() > KEPT && self.table.len() < self.table.capacity() / 8 {
            let target = self.table.len() * 2;
            self.table.shrink_to(target, |entry| hash(entry.slot));
        }
    }

    /// The bytes of [`Identities::held_bytes`], added up anew.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn added_up(&self) -> u64 {
        self.table.iter().map(Entry::held_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::identity;

    #[test]
    fn identities_end_in_their_time_and_their_memory_is_counted() {
        let mut identities = Identities::default();
        for (slot, end) in [(1, 2_000), (2, 1_000), (3, 2_000), (4, 9_000)] {
            identities.set(Slot(slot), identity("a", end).into());
        }
        assert_eq!(identities.held_bytes(), identities.added_up());
        assert!(identities.take_expired(999, 9).is_empty());
        assert_eq!(identities.take_expired(1_000, 9), [Slot(2)]);
        // It came back with another token.
        identities.set(Slot(3), identity("b", 5_000).into());
        assert_eq!(identities.get(Slot(3)).map(Identity::user), Some("b"));
        assert_eq!(identities.take_expired(10_000, 2).len(), 2, "the others are left for the next look");
        assert_eq!(identities.take_expired(10_000, 2).len(), 1);
        identities.set(Slot(7), identity("c", 20_000).into());
        identities.forget(Slot(7));
        identities.forget(Slot(7));
        assert_eq!((identities.held_bytes(), identities.added_up()), (0, 0));
    }
}
