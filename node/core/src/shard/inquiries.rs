//! The clients of a shard that wait for answers of the backend.

use hashbrown::HashMap;

use crate::{
    broadcast::Broadcast,
    config::Hook,
    limits::{HOOK_BYTES, HOOKS_WAITING},
    session::id::Slot,
};

/// What a client sent that waits for an answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) hook: Hook,
    pub(super) number: u32,
    /// When the wait is over, on the clock of the shard.
    pub(super) until_millis: u64,
    pub(super) said: Broadcast,
    pub(super) join_ref: Box<str>,
    pub(super) reference: Box<str>,
}

impl Waiting {
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.said.len() + self.join_ref.len() + self.reference.len()) as u64
    }
}

/// The clients of a shard that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    waiting: HashMap<Slot, Waiting>,
    bytes: u64,
    last_number: u32,
}

impl Inquiries {
    /// Whether a connection waits, so that it may not be read.
    #[inline]
    pub(super) fn hold(&self, slot: Slot) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&slot)
    }

    /// Lets a client wait, which does not yet.
    pub(super) fn insert(&mut self, slot: Slot, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.waiting.insert(slot, waiting);
    }

    /// The number of the next question.
    pub(super) const fn next_number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1);
        self.last_number
    }

    /// Whether as many wait as may, or with so many bytes more they would hold too much. One alone may be as long as a message.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        let is_much = self.bytes + bytes as u64 > HOOK_BYTES && !self.waiting.is_empty();
        is_much || self.waiting.len() >= HOOKS_WAITING
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Memory in bytes.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the wait of a client for which `which` is true.
    pub(super) fn take(&mut self, slot: Slot, which: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let waiting = self.waiting.get(&slot).filter(|waiting| which(waiting))?;
        self.bytes -= waiting.bytes();
        let waiting = self.waiting.remove(&slot);
        if self.waiting.is_empty() && self.waiting.capacity() > HOOKS_WAITING / 8 {
            self.waiting.shrink_to_fit();
        }
        waiting
    }
}
