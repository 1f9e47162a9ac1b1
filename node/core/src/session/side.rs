//! State that only few connections have. A connection without any of it has no entry here.

use hashbrown::HashTable;

use super::{bucket::Bucket, id::Slot};
use crate::ws::ConnectInfo;

/// Entries for which place is kept although they are not needed at the moment.
const KEPT: usize = 64;

/// The reason for which a connection is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Unread {
    /// It is not read until its socket takes data again, or memory is free.
    UntilItTakes,
    /// It is not read until fewer messages of others wait here.
    UntilFewerWait,
}

/// The entry of one connection.
#[derive(Debug)]
pub(crate) struct Aside {
    slot: Slot,
    /// How much it said lately, when that is more than a little.
    pub(super) bucket: Option<Bucket>,
    /// The bucket of its joins; 0 while that is empty.
    pub(super) joins_micros: u64,
    /// Since when it has taken nothing, on the coarse clock; none while it is not blocked.
    pub(crate) blocked_since: Option<u16>,
    /// Bytes that its transport took and has not sent, while it is blocked.
    pub(crate) unsent: u32,
    unread: Option<Unread>,
    connect_info: Option<Box<ConnectInfo>>,
}

impl Aside {
    const fn new(slot: Slot) -> Self {
        Self {
            slot,
            bucket: None,
            joins_micros: 0,
            blocked_since: None,
            unsent: 0,
            unread: None,
            connect_info: None,
        }
    }

    const fn is_empty(&self) -> bool {
        self.bucket.is_none()
            && self.joins_micros == 0
            && self.blocked_since.is_none()
            && self.unread.is_none()
            && self.connect_info.is_none()
    }

    /// What the connection said about itself when it connected, where that is kept.
    pub(crate) fn connect_info(&self) -> Option<&ConnectInfo> {
        self.connect_info.as_deref()
    }
}

/// The entries of a shard.
#[derive(Debug, Default)]
pub(crate) struct Side {
    table: HashTable<Aside>,
    /// How many connections are not read, by [`Unread`].
    unread: [usize; 2],
}

/// Slots are chosen by the shard and not by clients, so any hash that spreads them is good.
pub(super) const fn hash(slot: Slot) -> u64 {
    (slot.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Side {
    /// The entry of a connection.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Aside> {
        self.table.find(hash(slot), |aside| aside.slot == slot)
    }

    pub(super) fn bucket_mut(&mut self, slot: Slot) -> Option<&mut Bucket> {
        self.table.find_mut(hash(slot), |aside| aside.slot == slot)?.bucket.as_mut()
    }

    /// Changes the entry of a connection, which is made when there is none, and dropped when it is empty afterwards.
    pub(super) fn change<R>(&mut self, slot: Slot, change: impl FnOnce(&mut Aside) -> R) -> R {
        let mut entry = self
            .table
            .entry(hash(slot), |aside| aside.slot == slot, |aside| hash(aside.slot))
            .or_insert_with(|| Aside::new(slot));
        let result = change(entry.get_mut());
        if entry.get().is_empty() {
            entry.remove();
        }
        result
    }

    /// Records that the socket of the connection has taken nothing since this time, or, with `None`, that it takes
    /// data again.
    pub(crate) fn set_blocked(&mut self, slot: Slot, since: Option<u16>) {
        self.change(slot, |aside| (aside.blocked_since, aside.unsent) = (since, 0));
    }

    /// Records how many bytes the transport of a blocked connection has taken and not sent.
    pub(crate) fn set_unsent(&mut self, slot: Slot, bytes: u32) {
        self.change(slot, |aside| aside.unsent = bytes);
    }

    /// Keeps what a new connection has said about itself.
    pub(super) fn introduce(&mut self, slot: Slot, info: Box<ConnectInfo>) {
        self.change(slot, |aside| aside.connect_info = Some(info));
    }

    /// Records that the connection is not read any more. True when it was read until now.
    pub(crate) fn hold(&mut self, slot: Slot, until: Unread) -> bool {
        let before = self.change(slot, |aside| aside.unread.replace(until));
        if let Some(before) = before {
            self.unread[before as usize] -= 1;
        }
        self.unread[until as usize] += 1;
        before.is_none()
    }

    /// Lets a connection be read again that was not for this reason. True when it was not.
    pub(crate) fn resume(&mut self, slot: Slot, until: Unread) -> bool {
        if self.unread[until as usize] == 0 {
            return false;
        }
        let held = self.change(slot, |aside| aside.unread.take_if(|unread| *unread == until)).is_some();
        self.unread[until as usize] -= usize::from(held);
        held
    }

    /// Lets all connections be read again that were not for this reason, and returns their slots.
    pub(crate) fn resume_all(&mut self, until: Unread) -> Vec<Slot> {
        if self.unread[until as usize] == 0 {
            return Vec::new();
        }
        let mut slots: Vec<Slot> =
            self.table.iter().filter(|aside| aside.unread == Some(until)).map(|aside| aside.slot).collect();
        slots.sort_unstable();
        slots.retain(|slot| self.resume(*slot, until));
        slots
    }

    /// Whether any connection is not read for this reason.
    pub(crate) const fn has_unread(&self, until: Unread) -> bool {
        self.unread[until as usize] > 0
    }

    /// Forgets a connection that ended. Returns what it had said about itself.
    pub(super) fn forget(&mut self, slot: Slot) -> Option<Box<ConnectInfo>> {
        let entry = self.table.find_entry(hash(slot), |aside| aside.slot == slot).ok()?;
        let (aside, _) = entry.remove();
        if let Some(unread) = aside.unread {
            self.unread[unread as usize] -= 1;
        }
        aside.connect_info
    }

    /// Drops the buckets that are not to be kept, and names the slots of the others to `kept`. Buckets of joins are dropped
    /// when they are empty.
    pub(super) fn sift_buckets(
        &mut self,
        now_micros: u64,
        keep: impl Fn(&Bucket) -> bool,
        mut kept: impl FnMut(Slot),
    ) {
        self.table.retain(|aside| {
            if aside.joins_micros <= now_micros {
                aside.joins_micros = 0;
            }
            if aside.bucket.take_if(|bucket| !keep(bucket)).is_none() && aside.bucket.is_some() {
                kept(aside.slot);
            }
            !aside.is_empty()
        });
        if self.table.capacity() > KEPT && self.table.len() < self.table.capacity() / 8 {
            let target = self.table.len() * 2;
            self.table.shrink_to(target, |aside| hash(aside.slot));
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Aside> {
        self.table.iter()
    }
}

#[cfg(test)]
impl Aside {
    pub(crate) const fn has_bucket(&self) -> bool {
        self.bucket.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_with_the_last_thing_in_it() {
        let mut side = Side::default();
        let (one, two) = (Slot(1), Slot(2));
        side.set_blocked(one, Some(7));
        assert!(side.hold(one, Unread::UntilItTakes) && !side.hold(one, Unread::UntilItTakes));
        assert!(side.hold(two, Unread::UntilFewerWait));
        side.set_blocked(one, None);
        assert_eq!(side.iter().count(), 2);
        assert!(!side.resume(one, Unread::UntilFewerWait), "it waits for something else");
        assert!(side.resume(one, Unread::UntilItTakes) && !side.has_unread(Unread::UntilItTakes));
        assert_eq!(side.resume_all(Unread::UntilFewerWait), [two]);
        assert!(side.iter().next().is_none() && !side.has_unread(Unread::UntilFewerWait));
        side.hold(one, Unread::UntilItTakes);
        side.introduce(one, Box::default());
        assert!(side.forget(one).is_some() && side.forget(one).is_none());
        assert!(side.resume_all(Unread::UntilItTakes).is_empty());
    }
}
