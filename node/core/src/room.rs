//! The rooms of one shard: topics with their local members.
//!
//! Members are dense lists of connection ids, so that a broadcast is a walk over an array, and a member knows its
//! position, so that leaving moves one other at most.

use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::{
    broadcast::Broadcast,
    counters::JoinRefusal,
    protocol::Vsn,
    route::{Registry, SharedRoom},
};

/// Index of a room in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(u32);

/// Index of a connection in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    /// As an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Capacity that a member list or table keeps although it is not needed at the moment.
const KEPT: usize = 64;

/// Memory in bytes of a broadcast that waits, besides its parts: its entry, twice because lists grow to the double.
const HELD_ENTRY_BYTES: usize = 2 * size_of::<Held>();

/// A room with at least one local member.
#[derive(Debug)]
pub struct Room {
    shared: Arc<SharedRoom>,
    members: Vec<ConnId>,
    /// Members that hear what is said, by [`Vsn::index`].
    listeners: [u32; Vsn::ALL.len()],
    window_millis: u16,
    held: Vec<Held>,
}

/// A broadcast that waits for the end of its room's flush window.
#[derive(Debug)]
pub struct Held {
    /// What was said.
    pub broadcast: Broadcast,
    /// The member that does not get it.
    pub except: Option<ConnId>,
}

impl Room {
    fn new(shared: Arc<SharedRoom>, first: ConnId) -> Self {
        let listeners = [0; Vsn::ALL.len()];
        Self { shared, members: vec![first], listeners, window_millis: 0, held: Vec::new() }
    }

    /// What all shards know of it.
    #[must_use]
    pub const fn shared(&self) -> &Arc<SharedRoom> {
        &self.shared
    }

    /// The local members, in no particular order.
    #[must_use]
    pub fn members(&self) -> &[ConnId] {
        &self.members
    }

    /// How many of the members hear what is said, in this serializer version.
    #[must_use]
    pub const fn listeners(&self, vsn: Vsn) -> u32 {
        self.listeners[vsn.index()]
    }

    /// Counts a member that begins to hear what is said.
    const fn listen(&mut self, vsn: Option<Vsn>) {
        if let Some(vsn) = vsn {
            self.listeners[vsn.index()] += 1;
        }
    }

    /// Takes out of the count a member that hears what is said no more, but stays.
    pub const fn unlisten(&mut self, vsn: Vsn) {
        self.listeners[vsn.index()] -= 1;
    }

    /// Length of the room's flush window in milliseconds; 0 is none.
    #[must_use]
    pub const fn window_millis(&self) -> u16 {
        self.window_millis
    }

    /// Sets the flush window.
    pub const fn set_window(&mut self, millis: u16) {
        self.window_millis = millis;
    }

    /// The broadcasts that wait, in order.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Bytes of what waits.
    fn held_content_bytes(&self) -> usize {
        self.held.iter().map(|held| held.broadcast.len()).sum()
    }

    /// Memory in bytes of all that waits.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_content_bytes() + self.held.len() * HELD_ENTRY_BYTES
    }
}

/// The caps that a join has to fit into.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Most members of the room on this node.
    pub members: u32,
    /// Most rooms on this node.
    pub rooms: u32,
    /// Most memory in bytes that topics may take on this node, see [`Registry::bytes`].
    pub topic_bytes: u64,
}

/// A successful join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The room.
    pub room: RoomId,
    /// Position of the new member.
    pub position: u32,
    /// Whether it is the first one on this shard.
    pub opened: bool,
}

/// What a leave changed.
#[derive(Debug)]
pub struct Left {
    /// The member that took the position of the one that left, if it was not the last.
    pub moved: Option<ConnId>,
    /// The room, when it lost its last local member.
    pub closed: Option<Arc<SharedRoom>>,
}

/// All rooms of a shard.
#[derive(Debug)]
pub struct Rooms {
    by_topic: HashTable<u32>,
    rooms: Slab<Room>,
    registry: Arc<Registry>,
    shard: u8,
    memberships: u64,
    /// Sum of [`Room::held_bytes`].
    held_bytes: usize,
}

impl Rooms {
    /// No rooms on shard `shard`.
    #[must_use]
    pub fn new(registry: Arc<Registry>, shard: u8) -> Self {
        Self {
            by_topic: HashTable::new(),
            rooms: Slab::new(),
            registry,
            shard,
            memberships: 0,
            held_bytes: 0,
        }
    }

    /// The room of a topic.
    #[must_use]
    pub fn find(&self, topic: &str) -> Option<RoomId> {
        let hash = self.registry.hash(topic);
        let is_it = |id: &u32| &**self.rooms[*id as usize].shared.topic() == topic;
        self.by_topic.find(hash, is_it).map(|id| RoomId(*id))
    }

    /// A room by its id, which must come from this table and still be open.
    #[must_use]
    pub fn get(&self, id: RoomId) -> &Room {
        &self.rooms[id.0 as usize]
    }

    /// The same, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, id: RoomId) -> &mut Room {
        &mut self.rooms[id.0 as usize]
    }

    /// Lets a broadcast wait in its room. Returns how many bytes wait there.
    pub fn hold(&mut self, id: RoomId, held: Held) -> usize {
        let room = &mut self.rooms[id.0 as usize];
        self.held_bytes += held.broadcast.len() + HELD_ENTRY_BYTES;
        room.held.push(held);
        room.held_content_bytes()
    }

    /// Takes what waits in a room.
    pub fn take_held(&mut self, id: RoomId) -> Vec<Held> {
        let room = &mut self.rooms[id.0 as usize];
        self.held_bytes -= room.held_bytes();
        std::mem::take(&mut room.held)
    }

    /// Memory in bytes of the broadcasts that wait in all rooms.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether there is a room of this id.
    #[must_use]
    pub fn is_open(&self, id: RoomId) -> bool {
        self.rooms.contains(id.0 as usize)
    }

    /// All open rooms, to be looked at.
    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter().map(|(_, room)| room)
    }

    /// All open rooms.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.iter_mut().map(|(_, room)| room)
    }

    /// Adds a member, which hears what is said in this serializer version, or nothing.
    ///
    /// # Errors
    /// [`JoinRefusal::RoomFull`] or [`JoinRefusal::TooManyRooms`] when it does not fit into `caps`.
    pub fn join(
        &mut self,
        topic: &str,
        member: ConnId,
        listens: Option<Vsn>,
        caps: Caps,
    ) -> Result<Joined, JoinRefusal> {
        if let Some(room) = self.find(topic) {
            let joined = &mut self.rooms[room.0 as usize];
            if !joined.shared.claim(caps.members) {
                return Err(JoinRefusal::RoomFull);
            }
            joined.members.push(member);
            joined.listen(listens);
            self.memberships += 1;
            return Ok(Joined { room, position: (joined.members.len() - 1) as u32, opened: false });
        }
        if self.registry.bytes() >= caps.topic_bytes && self.registry.shards(topic).is_empty() {
            return Err(JoinRefusal::Memory);
        }
        let opened = self.registry.open(topic, self.shard, caps.rooms);
        let shared = opened.ok_or(JoinRefusal::TooManyRooms)?;
        if !shared.claim(caps.members) {
            self.registry.close(&shared, self.shard);
            return Err(JoinRefusal::RoomFull);
        }
        // Rooms are fewer than memberships, which memory bounds far below 2^32.
        let mut room = Room::new(shared, member);
        room.listen(listens);
        let id = self.rooms.insert(room) as u32;
        let Self { by_topic, rooms, registry, .. } = self;
        let rehash = |id: &u32| registry.hash(rooms[*id as usize].shared.topic());
        by_topic.insert_unique(registry.hash(topic), id, rehash);
        self.memberships += 1;
        Ok(Joined { room: RoomId(id), position: 0, opened: true })
    }

    /// Removes the member at `position`, which heard what is said in this serializer version, or nothing.
    pub fn leave(&mut self, id: RoomId, position: u32, listened: Option<Vsn>) -> Left {
        let index = id.0 as usize;
        if let Some(vsn) = listened {
            self.rooms[index].unlisten(vsn);
        }
        let Room { shared, members, .. } = &mut self.rooms[index];
        members.swap_remove(position as usize);
        shared.release();
        self.memberships -= 1;
        if !members.is_empty() {
            let moved = members.get(position as usize).copied();
            if members.capacity() > KEPT && members.len() < members.capacity() / 4 {
                let target = members.capacity() / 2;
                members.shrink_to(target);
            }
            return Left { moved, closed: None };
        }
        let room = self.rooms.remove(index);
        self.held_bytes -= room.held_bytes();
        let shared = room.shared;
        self.registry.close(&shared, self.shard);
        if let Ok(entry) =
            self.by_topic.find_entry(self.registry.hash(shared.topic()), |other| *other == id.0)
        {
            entry.remove();
        }
        Left { moved: None, closed: Some(shared) }
    }

    /// Open rooms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether no room is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Memberships over all rooms.
    #[must_use]
    pub const fn memberships(&self) -> u64 {
        self.memberships
    }

    /// Gives memory of closed rooms back. Rehashes when it does, so call it from a slow timer.
    pub fn trim(&mut self) {
        let Self { by_topic, rooms, registry, .. } = self;
        if by_topic.capacity() > KEPT && by_topic.len() < by_topic.capacity() / 8 {
            let target = by_topic.len() * 2;
            by_topic.shrink_to(target, |id| registry.hash(rooms[*id as usize].shared.topic()));
        }
        if rooms.is_empty() && rooms.capacity() > KEPT {
            rooms.shrink_to_fit();
        }
    }
}
