//! The identities of connections with a token. A connection without one has no entry here.

use std::sync::Arc;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::{id::Slot, side::hash};
use crate::auth::Identity;

/// Entries for which place is kept although they are not needed at the moment.
const KEPT: usize = 64;

/// How far a token is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is good.
    Good,
    /// It is good, and its holder was told that it ends soon.
    Warned,
    /// It has ended, and its connection goes on without any rights.
    Ended,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    state: State,
    /// See [`tag`].
    tag: [u8; 3],
    /// That of the identity, so that a walk over the table stays in it.
    expires_at_millis: u64,
    identity: Arc<Identity>,
}

/// Three bytes of a hash of the user, in place that an entry has anyway: a walk for the connections of a user looks at the
/// identities of hardly any others.
fn tag(user: &str) -> [u8; 3] {
    let [tag @ .., _, _, _, _, _] = SipHasher13::new().hash(user.as_bytes()).to_be_bytes();
    tag
}

/// The holder of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    /// What the token says.
    pub(crate) identity: &'a Identity,
    /// Whether the token has ended, so that it gives no rights any more.
    pub(crate) has_ended: bool,
}

/// What has come to the tokens of a shard, by the slots of their connections in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// These end soon, each after so many milliseconds.
    pub(crate) warned: Vec<(Slot, u64)>,
    /// These have ended.
    pub(crate) ended: Vec<Slot>,
}

/// Memory in bytes of an entry: its place, twice, because tables grow to the double.
const ENTRY_BYTES: u64 = 2 * size_of::<Entry>() as u64;

impl Entry {
    /// When something is to be done next, in milliseconds since 1970, where holders are told so long before the end.
    const fn due_millis(&self, lead_millis: u64) -> u64 {
        match self.state {
            State::Good => self.expires_at_millis.saturating_sub(lead_millis),
            State::Warned => self.expires_at_millis,
            State::Ended => u64::MAX,
        }
    }

    fn held_bytes(&self) -> u64 {
        ENTRY_BYTES + self.identity.held_bytes() as u64
    }
}

/// The identities of a shard.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    table: HashTable<Entry>,
    held_bytes: u64,
    /// Nothing is to be done before this time, in milliseconds since 1970.
    soonest_millis: u64,
    /// How long before the end of its token a holder is told, in milliseconds; 0 is never.
    lead_millis: u64,
}

impl Identities {
    /// What a connection has a token for.
    pub(crate) fn get(&self, slot: Slot) -> Option<Holder<'_>> {
        // It is asked at each publish, and most fleets either have no tokens or one for each connection.
        if self.table.is_empty() {
            return None;
        }
        self.table
            .find(hash(slot), |entry| entry.slot == slot)
            .map(|entry| Holder { identity: &entry.identity, has_ended: entry.state == State::Ended })
    }

    /// Gives a connection an identity, in place of the one that it may have.
    pub(crate) fn set(&mut self, slot: Slot, identity: Arc<Identity>) {
        self.forget(slot);
        let expires_at_millis = identity.expires_at_millis();
        let tag = tag(identity.user());
        let entry = Entry { slot, state: State::Good, tag, expires_at_millis, identity };
        let due = entry.due_millis(self.lead_millis);
        self.soonest_millis = if self.table.is_empty() { due } else { self.soonest_millis.min(due) };
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

    /// The connections of a user, in no order.
    pub(crate) fn of_user(&self, user: &str) -> Vec<Slot> {
        let tag = tag(user);
        let of = |entry: &&Entry| entry.tag == tag && entry.identity.user() == user;
        self.table.iter().filter(of).map(|entry| entry.slot).collect()
    }

    /// Whether a connection has a token that does not end by this time in milliseconds since 1970.
    pub(crate) fn lasts_beyond(&self, slot: Slot, unix_millis: u64) -> bool {
        let found = self.table.find(hash(slot), |entry| entry.slot == slot);
        found.is_some_and(|entry| entry.state != State::Ended && entry.expires_at_millis > unix_millis)
    }

    /// Lets the token of a connection end by this time in milliseconds since 1970. Its holder was told.
    pub(crate) fn end_by(&mut self, slot: Slot, unix_millis: u64) {
        let found = self.table.find_mut(hash(slot), |entry| entry.slot == slot);
        if let Some(entry) = found.filter(|entry| entry.state != State::Ended) {
            entry.state = State::Warned;
            entry.expires_at_millis = entry.expires_at_millis.min(unix_millis);
            self.soonest_millis = self.soonest_millis.min(entry.expires_at_millis);
        }
    }

    /// Holders are told so many milliseconds before the end of their token from now on; 0 is never.
    pub(crate) const fn set_lead(&mut self, lead_millis: u64) {
        if self.lead_millis != lead_millis {
            self.lead_millis = lead_millis;
            self.soonest_millis = 0;
        }
    }

    /// What has come to tokens at `now_millis` since 1970, at most so many of each kind. With `keep` connections whose token
    /// has ended stay in the table, otherwise they are forgotten. The table is walked over only when something has come.
    pub(crate) fn take_due(&mut self, now_millis: u64, most: usize, keep: bool) -> Due {
        let mut due = Due::default();
        if self.table.is_empty() || now_millis < self.soonest_millis {
            return due;
        }
        let mut soonest = u64::MAX;
        for entry in &mut self.table {
            let left = entry.expires_at_millis.saturating_sub(now_millis);
            if entry.due_millis(self.lead_millis) <= now_millis {
                if left == 0 && due.ended.len() < most {
                    entry.state = State::Ended;
                    due.ended.push(entry.slot);
                } else if left > 0 && due.warned.len() < most {
                    entry.state = State::Warned;
                    due.warned.push((entry.slot, left));
                }
            }
            soonest = soonest.min(entry.due_millis(self.lead_millis));
        }
        self.soonest_millis = soonest;
        due.warned.sort_unstable();
        due.ended.sort_unstable();
        if !keep {
            due.ended.iter().for_each(|slot| self.forget(*slot));
        }
        due
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
        let ended = |identities: &mut Identities, now, most| identities.take_due(now, most, false).ended;
        assert!(ended(&mut identities, 999, 9).is_empty());
        assert_eq!(ended(&mut identities, 1_000, 9), [Slot(2)]);
        // It came back with another token.
        identities.set(Slot(3), identity("b", 5_000).into());
        assert_eq!(identities.get(Slot(3)).map(|holder| holder.identity.user()), Some("b"));
        assert_eq!(ended(&mut identities, 10_000, 2).len(), 2, "the others are left for the next look");
        assert_eq!(ended(&mut identities, 10_000, 2).len(), 1);
        identities.set(Slot(7), identity("c", 20_000).into());
        identities.forget(Slot(7));
        identities.forget(Slot(7));
        assert_eq!((identities.held_bytes(), identities.added_up()), (0, 0));
    }

    #[test]
    fn the_connections_of_a_user_are_found_and_their_tokens_end_when_they_are_asked_for_new_ones() {
        let mut identities = Identities::default();
        for (slot, user) in [(1, "ann"), (2, "bob"), (3, "ann")] {
            identities.set(Slot(slot), identity(user, 90_000).into());
        }
        let mut found = identities.of_user("ann");
        found.sort_unstable();
        assert_eq!((found, identities.of_user("cid")), (vec![Slot(1), Slot(3)], vec![]));
        assert!(identities.lasts_beyond(Slot(1), 5_000) && !identities.lasts_beyond(Slot(1), 90_000));
        identities.end_by(Slot(1), 5_000);
        assert!(!identities.lasts_beyond(Slot(1), 5_000) && !identities.lasts_beyond(Slot(9), 0));
        identities.end_by(Slot(3), 100_000);
        identities.end_by(Slot(9), 0);
        identities.set_lead(3_000);
        assert_eq!(identities.take_due(4_999, 9, true), Due::default(), "it was told already");
        assert_eq!(identities.take_due(5_000, 9, true).ended, [Slot(1)]);
        assert_eq!(
            identities.take_due(90_000, 9, true).ended,
            [Slot(2), Slot(3)],
            "the token ends as it says"
        );
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn holders_are_told_once_before_the_end_and_may_stay_without_rights() {
        let mut identities = Identities::default();
        identities.set(Slot(1), identity("a", 10_000).into());
        identities.set(Slot(2), identity("b", 12_000).into());
        assert_eq!(identities.take_due(9_000, 9, true), Due::default(), "nobody asked for it");
        identities.set_lead(3_000);
        assert_eq!(identities.take_due(6_999, 9, true), Due::default());
        assert_eq!(identities.take_due(7_000, 9, true).warned, [(Slot(1), 3_000)]);
        assert_eq!(identities.take_due(8_000, 9, true), Due::default(), "once");
        // One that is near its end already when it comes.
        identities.set(Slot(3), identity("c", 9_000).into());
        assert_eq!(identities.take_due(8_250, 9, true).warned, [(Slot(3), 750)]);
        let due = identities.take_due(10_000, 9, true);
        assert_eq!((due.warned, due.ended), (vec![(Slot(2), 2_000)], vec![Slot(1), Slot(3)]));
        let ended = |slot| identities.get(slot).map(|holder| holder.has_ended);
        assert_eq!([ended(Slot(1)), ended(Slot(2)), ended(Slot(9))], [Some(true), Some(false), None]);
        assert_eq!(identities.take_due(11_000, 9, true), Due::default(), "those that ended stay so");
        identities.set(Slot(1), identity("a", 20_000).into());
        assert!(identities.get(Slot(1)).is_some_and(|holder| !holder.has_ended), "another token");
        assert_eq!(identities.take_due(17_000, 9, false).ended, [Slot(2)]);
        assert_eq!(identities.held_bytes(), identities.added_up());
    }
}
