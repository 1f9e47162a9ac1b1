//! A room: what one shard knows of a topic with local members.
//!
//! The members are a dense list of slots, so that a broadcast is a walk over an array. A member knows its position,
//! so that leaving moves at most one other member. State that only some policies ask for is behind one pointer, which
//! is null in all other rooms.

use std::sync::Arc;

use super::load::Load;
use crate::{
    broadcast::Broadcast,
    config::{Dialect, PolicyRef, Rooms},
    route::SharedRoom,
    session::{id::Slot, wire::Wire},
};

/// Index of a room in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomId(pub(crate) u32);

/// Memory in bytes of a broadcast that waits, besides its parts: its entry, counted twice because lists grow to the
/// double.
pub(super) const HELD_ENTRY_BYTES: usize = 2 * size_of::<Held>();

/// A room with at least one local member.
#[derive(Debug)]
pub(crate) struct Room {
    shared: Arc<SharedRoom>,
    pub(super) members: Vec<Slot>,
    /// How many members hear broadcasts, by [`Wire::index`].
    listeners: [u32; Wire::COUNT],
    policy: Option<PolicyRef>,
    is_realtime: bool,
    /// What its members are told.
    load: Load,
    features: Option<Box<Features>>,
}

/// State that a room has only because its policy asks for it.
#[derive(Debug, Default)]
struct Features {
    /// Length of the flush window in milliseconds; 0 is none.
    window_millis: u16,
    /// When the held broadcasts are to leave, in milliseconds on the clock of [`crate::shard::Shard::begin_turn`].
    due_millis: u64,
    held: Vec<Held>,
}

impl Features {
    /// Whether the policy asks for nothing and nothing is left that it asked for earlier.
    const fn is_empty(&self) -> bool {
        self.window_millis == 0 && self.held.is_empty()
    }
}

/// A broadcast that waits for the end of its room's flush window.
#[derive(Debug)]
pub(crate) struct Held {
    /// The broadcast.
    pub(crate) broadcast: Broadcast,
    /// The member that does not get it.
    pub(crate) except: Option<Slot>,
}

impl Room {
    pub(super) fn new(shared: Arc<SharedRoom>, first: Slot) -> Self {
        let listeners = [0; Wire::COUNT];
        let load = Load::default();
        Self {
            shared,
            members: vec![first],
            listeners,
            policy: None,
            is_realtime: false,
            load,
            features: None,
        }
    }

    /// The topic's entry in the registry of all shards.
    pub(crate) const fn shared(&self) -> &Arc<SharedRoom> {
        &self.shared
    }

    /// The local members, in no particular order.
    pub(crate) fn members(&self) -> &[Slot] {
        &self.members
    }

    /// How many of the members hear broadcasts in this form.
    pub(crate) const fn listeners(&self, wire: Wire) -> u32 {
        self.listeners[wire.index()]
    }

    /// How many of the members hear broadcasts in any form.
    pub(crate) fn hearing(&self) -> u64 {
        self.listeners.iter().map(|count| u64::from(*count)).sum()
    }

    /// What its members are told.
    pub(crate) const fn load(&self) -> &Load {
        &self.load
    }

    /// The room is open from now on, for what its members are told.
    pub(crate) fn begin_load(&mut self, now_millis: u64) {
        self.load.begin(now_millis);
    }

    /// So many frames of so many bytes in all were queued to its members.
    #[inline]
    pub(crate) fn note_writes(&mut self, writes: (u64, u64), now_millis: u64) {
        let hearing = self.hearing();
        self.load.note(writes, hearing, now_millis);
    }

    /// Counts a member that begins to hear broadcasts.
    pub(super) const fn listen(&mut self, wire: Option<Wire>) {
        if let Some(wire) = wire {
            self.listeners[wire.index()] += 1;
        }
    }

    /// Takes a member out of the count that hears no more broadcasts, but stays.
    pub(crate) const fn unlisten(&mut self, wire: Wire) {
        self.listeners[wire.index()] -= 1;
    }

    /// The policy of its topic; none when the topic cannot be joined, or no longer can.
    pub(crate) const fn policy(&self) -> Option<PolicyRef> {
        self.policy
    }

    /// Sets its policy in the present configuration, with all that the policy asks for.
    pub(crate) fn set_policy(&mut self, rooms: &Rooms, policy: Option<PolicyRef>) {
        self.policy = policy;
        let found = policy.map(|policy| rooms.policy(policy));
        self.is_realtime = found.is_some_and(|found| found.dialect == Dialect::Realtime);
        let window_millis = found.map_or(0, |found| found.flush_window_millis);
        if window_millis > 0 || self.features.is_some() {
            self.features.get_or_insert_default().window_millis = window_millis;
        }
        self.features.take_if(|features| features.is_empty());
    }

    /// Whether its members speak Supabase's Realtime.
    pub(crate) const fn is_realtime(&self) -> bool {
        self.is_realtime
    }

    /// Length of the flush window in milliseconds; 0 when broadcasts leave at once.
    pub(crate) fn window_millis(&self) -> u16 {
        self.features.as_ref().map_or(0, |features| features.window_millis)
    }

    /// Whether a broadcast has to wait: for the end of the window, or behind others that wait already.
    pub(crate) fn holds(&self) -> bool {
        self.features.as_ref().is_some_and(|features| features.window_millis > 0 || !features.held.is_empty())
    }

    /// How many broadcasts wait.
    pub(crate) fn held(&self) -> usize {
        self.features.as_ref().map_or(0, |features| features.held.len())
    }

    /// Whether broadcasts wait that are to leave by now.
    pub(crate) fn window_is_over(&self, now_millis: u64) -> bool {
        let features = self.features.as_ref();
        features.is_some_and(|features| !features.held.is_empty() && features.due_millis <= now_millis)
    }

    pub(super) fn hold(&mut self, held: Held, due_millis: u64) {
        let features = self.features.get_or_insert_default();
        if features.held.is_empty() {
            features.due_millis = due_millis;
        }
        features.held.push(held);
    }

    pub(super) fn take_held(&mut self) -> Vec<Held> {
        let held = self.features.as_mut().map(|features| std::mem::take(&mut features.held));
        self.features.take_if(|features| features.is_empty());
        held.unwrap_or_default()
    }

    /// Bytes of the broadcasts that wait.
    pub(super) fn held_content_bytes(&self) -> usize {
        let held = self.features.as_ref().map_or(&[][..], |features| &features.held);
        held.iter().map(|held| held.broadcast.len()).sum()
    }

    /// Memory in bytes of all broadcasts that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_content_bytes() + self.held() * HELD_ENTRY_BYTES
    }
}
