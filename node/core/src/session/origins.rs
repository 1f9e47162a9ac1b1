//! The client addresses of the connections for which an address counts. The others have no entry here.

use std::net::IpAddr;

use hashbrown::HashTable;

use super::{id::Slot, side::hash};
use crate::addresses::ClientAddress;

/// Entries for which place is kept although they are not needed at the moment.
const KEPT: usize = 64;
/// Most connections of a shard that were refused for their address and still read that they were. Beyond it they are
/// dropped at once: somebody who connects over and over again must not fill the places of handshakes with refusals.
pub(crate) const MAX_REFUSALS: usize = 1_024;

/// How a connection stands with the limit of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its header of the PROXY protocol is awaited, from the proxy with this address.
    Awaited(IpAddr),
    /// It comes from a proxy.
    Proxied {
        /// The proxy.
        peer: IpAddr,
        /// Whom its last request was for.
        client: IpAddr,
    },
    /// It has one of the places of its address.
    Counted(ClientAddress),
    /// It has no place, or needs none: the table is full, or the limit was off when it came.
    Uncounted,
    /// It was refused for its address, and reads that.
    Refused,
}

#[derive(Debug)]
struct Known {
    slot: Slot,
    standing: Standing,
}

/// The entries of a shard.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    table: HashTable<Known>,
    refusals: usize,
}

impl Origins {
    /// Whether there are no entries, as is so while no limit needs an address.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<Standing> {
        Some(self.table.find(hash(slot), |known| known.slot == slot)?.standing)
    }

    /// Sets how a connection stands.
    pub(crate) fn set(&mut self, slot: Slot, standing: Standing) {
        self.forget(slot);
        self.refusals += usize::from(standing == Standing::Refused);
        self.table.insert_unique(hash(slot), Known { slot, standing }, |known| hash(known.slot));
    }

    /// Forgets a connection. Returns how it stood.
    pub(crate) fn forget(&mut self, slot: Slot) -> Option<Standing> {
        let entry = self.table.find_entry(hash(slot), |known| known.slot == slot).ok()?;
        let (Known { standing, .. }, _) = entry.remove();
        self.refusals -= usize::from(standing == Standing::Refused);
        Some(standing)
    }

    /// Whether one more refused connection may stay to read that it was.
    pub(crate) const fn may_refuse(&self) -> bool {
        self.refusals < MAX_REFUSALS
    }

    /// Memory in bytes.
    pub(crate) fn held_bytes(&self) -> u64 {
        // A table is at least half full most of the time.
        (self.table.len() * 2 * size_of::<Known>()) as u64
    }

    /// Gives memory of a past peak back.
    pub(crate) fn trim(&mut self) {
        if self.table.capacity() > KEPT && self.table.len() < self.table.capacity() / 8 {
            let target = self.table.len() * 2;
            self.table.shrink_to(target, |known| hash(known.slot));
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, Standing)> {
        self.table.iter().map(|known| (known.slot, known.standing))
    }
}
