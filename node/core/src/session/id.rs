//! The two names of a connection: its slot within a turn of its shard, and its id wherever an answer may come later.

/// Place of a connection in the tables of its shard. Another connection gets it after this one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A name of one connection of a shard and of no other: its slot, and how often that slot was given out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId {
    slot: Slot,
    generation: u32,
}

/// Generations of a slot before they repeat. No answer takes as long as 16 million connects and disconnects.
const GENERATIONS: u32 = 1 << 24;

impl ConnId {
    /// The slot that the connection has, or had.
    #[must_use]
    pub const fn slot(self) -> Slot {
        self.slot
    }

    /// The id as one number below 2^56, for a kernel or another process that returns it.
    #[must_use]
    pub const fn to_token(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot.0 as u64
    }

    /// The inverse of [`ConnId::to_token`].
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        Self { slot: Slot(token as u32), generation: (token >> 32) as u32 }
    }
}

/// How often each slot was given out, in three bytes each, because nothing else is kept of a free slot.
#[derive(Debug, Default)]
pub(super) struct Generations {
    of: Vec<[u8; 3]>,
    /// The generation that a slot begins with: above all that were given out before the list was emptied.
    first: u32,
}

impl Generations {
    /// The id of the connection in `slot`.
    pub(super) fn id(&self, slot: Slot) -> ConnId {
        ConnId { slot, generation: self.of.get(slot.index()).copied().map_or(self.first, unpack) }
    }

    /// Makes a place for a slot.
    pub(super) fn welcome(&mut self, slot: Slot) {
        if self.of.len() <= slot.index() {
            // Memory per connection counts here, and a list that is doubled is half empty.
            self.of.reserve_exact(slot.index() / 16 + 1);
            self.of.resize(slot.index() + 1, pack(self.first));
        }
    }

    /// Records that the slot is free: ids of the connection that had it name no connection from now on.
    pub(super) fn retire(&mut self, slot: Slot) {
        let generation = &mut self.of[slot.index()];
        *generation = pack((unpack(*generation) + 1) % GENERATIONS);
    }

    /// Gives the list's memory back; no slot may be taken.
    pub(super) fn trim(&mut self) {
        let highest = self.of.iter().copied().map(unpack).max().unwrap_or(self.first);
        *self = Self { of: Vec::new(), first: highest };
    }
}

const fn pack(generation: u32) -> [u8; 3] {
    let [low, middle, high, _] = generation.to_le_bytes();
    [low, middle, high]
}

const fn unpack([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_one_connection_also_when_the_list_was_given_back() {
        let mut generations = Generations::default();
        let slot = Slot(3);
        let mut seen = std::collections::HashSet::new();
        for round in 0..5 {
            generations.welcome(slot);
            assert!(seen.insert(generations.id(slot)));
            generations.retire(slot);
            if round == 2 {
                generations.trim();
            }
        }
        generations.of[3] = pack(GENERATIONS - 1);
        generations.retire(slot);
        assert_eq!(generations.id(slot), ConnId { slot, generation: 0 });
    }

    #[test]
    fn a_token_leaves_the_highest_numbers_to_others() {
        let id = ConnId { slot: Slot(u32::MAX), generation: GENERATIONS - 1 };
        assert!(id.to_token() < 1 << 56);
        assert_eq!(ConnId::from_token(id.to_token()), id);
    }
}
