//! The topics of one shard: a room for each, and how members join and leave.

use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::{
    counters::JoinRefusal,
    route::{Registry, SharedRoom},
    session::{id::Slot, wire::Wire},
    topic::TopicName,
};

pub(crate) mod load;
pub(crate) mod room;

use room::{HELD_ENTRY_BYTES, Held, Room, RoomId};

/// Capacity that a member list or table keeps although it is not needed at the moment.
const KEPT: usize = 64;

/// The caps that a join has to fit into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Most members of the room on this node.
    pub(crate) members: u32,
    /// Most rooms on this node.
    pub(crate) rooms: u32,
    /// Most memory in bytes that topics may take on this node, see [`Registry::bytes`].
    pub(crate) topic_bytes: u64,
}

/// A successful join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    /// The room.
    pub(crate) room: RoomId,
    /// Position of the new member.
    pub(crate) position: u32,
    /// Whether it is the first one on this shard.
    pub(crate) opened: bool,
}

/// A join that did not fit.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The reason.
    pub(crate) refusal: JoinRefusal,
    /// The room, when this shard was for a moment among the shards with members. Another shard may have left the room
    /// meanwhile, and a reader that looked at the registry in that moment has to look again.
    pub(crate) closed: Option<Arc<SharedRoom>>,
}

impl From<JoinRefusal> for Refused {
    fn from(refusal: JoinRefusal) -> Self {
        Self { refusal, closed: None }
    }
}

/// The changes that a leave made.
#[derive(Debug)]
pub(crate) struct Left {
    /// The member that took the position of the one that left, if it was not the last.
    pub(crate) moved: Option<Slot>,
    /// The room, when it lost its last local member.
    pub(crate) closed: Option<Arc<SharedRoom>>,
}

/// The topics of a shard that have members on it.
#[derive(Debug)]
pub(crate) struct Topics {
    by_topic: HashTable<u32>,
    rooms: Slab<Room>,
    registry: Arc<Registry>,
    shard: u8,
    memberships: u64,
    /// Sum of [`Room::held_bytes`].
    held_bytes: usize,
}

impl Topics {
    /// The table of shard `shard`, without rooms.
    pub(crate) fn new(registry: Arc<Registry>, shard: u8) -> Self {
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
    pub(crate) fn find(&self, topic: &str) -> Option<RoomId> {
        let hash = self.registry.hash(topic);
        let is_it = |id: &u32| &**self.rooms[*id as usize].shared().topic() == topic;
        self.by_topic.find(hash, is_it).map(|id| RoomId(*id))
    }

    /// A room by its id, which must come from this table and still be open.
    pub(crate) fn get(&self, id: RoomId) -> &Room {
        &self.rooms[id.0 as usize]
    }

    /// The same for changes.
    pub(crate) fn get_mut(&mut self, id: RoomId) -> &mut Room {
        &mut self.rooms[id.0 as usize]
    }

    /// Lets a broadcast wait in its room. The first one sets `due_millis` as the end of the wait. Returns how many
    /// bytes wait there.
    pub(crate) fn hold(&mut self, id: RoomId, held: Held, due_millis: u64) -> usize {
        let room = &mut self.rooms[id.0 as usize];
        self.held_bytes += held.broadcast.len() + HELD_ENTRY_BYTES;
        room.hold(held, due_millis);
        room.held_content_bytes()
    }

    /// Takes what waits in a room.
    pub(crate) fn take_held(&mut self, id: RoomId) -> Vec<Held> {
        let room = &mut self.rooms[id.0 as usize];
        self.held_bytes -= room.held_bytes();
        room.take_held()
    }

    /// Whether a broadcast waits in any room.
    pub(crate) const fn holds(&self) -> bool {
        self.held_bytes > 0
    }

    /// Memory in bytes of the broadcasts that wait in all rooms.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether there is a room of this id.
    pub(crate) fn is_open(&self, id: RoomId) -> bool {
        self.rooms.contains(id.0 as usize)
    }

    /// The places of the table from this one on, each with its room if it has one.
    pub(crate) fn places(&self, from: usize) -> impl Iterator<Item = (usize, Option<&Room>)> {
        (from..self.rooms.capacity()).map(move |place| (place, self.rooms.get(place)))
    }

    /// All open rooms, for reading.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter().map(|(_, room)| room)
    }

    /// The ids of all open rooms.
    pub(crate) fn ids(&self) -> Vec<RoomId> {
        self.rooms.iter().map(|(id, _)| RoomId(id as u32)).collect()
    }

    /// Adds a member, which hears broadcasts in this form, or none.
    ///
    /// # Errors
    /// When it does not fit into `caps`.
    pub(crate) fn join(
        &mut self,
        name: TopicName<'_>,
        member: Slot,
        listens: Option<Wire>,
        caps: Caps,
    ) -> Result<Joined, Refused> {
        let topic = name.as_str();
        if let Some(room) = self.find(topic) {
            let joined = &mut self.rooms[room.0 as usize];
            if !joined.shared().claim(caps.members) {
                return Err(JoinRefusal::RoomFull.into());
            }
            joined.members.push(member);
            joined.listen(listens);
            self.memberships += 1;
            return Ok(Joined { room, position: (joined.members.len() - 1) as u32, opened: false });
        }
        if self.registry.bytes() >= caps.topic_bytes && self.registry.shards(topic).is_empty() {
            return Err(JoinRefusal::Memory.into());
        }
        let opened = self.registry.open(name, self.shard, caps.rooms);
        let shared = opened.ok_or(JoinRefusal::TooManyRooms)?;
        if !shared.claim(caps.members) {
            self.registry.close(&shared, self.shard);
            return Err(Refused { refusal: JoinRefusal::RoomFull, closed: Some(shared) });
        }
        // Rooms are fewer than memberships, which memory bounds far below 2^32.
        let mut room = Room::new(shared, member);
        room.listen(listens);
        let id = self.rooms.insert(room) as u32;
        let Self { by_topic, rooms, registry, .. } = self;
        let rehash = |id: &u32| registry.hash(rooms[*id as usize].shared().topic());
        by_topic.insert_unique(registry.hash(topic), id, rehash);
        self.memberships += 1;
        Ok(Joined { room: RoomId(id), position: 0, opened: true })
    }

    /// Removes the member at `position`, which heard broadcasts in this form, or none.
    pub(crate) fn leave(&mut self, id: RoomId, position: u32, listened: Option<Wire>) -> Left {
        let index = id.0 as usize;
        if let Some(wire) = listened {
            self.rooms[index].unlisten(wire);
        }
        let room = &mut self.rooms[index];
        room.shared().release();
        let members = &mut room.members;
        members.swap_remove(position as usize);
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
        let shared = Arc::clone(room.shared());
        self.registry.close(&shared, self.shard);
        if let Ok(entry) =
            self.by_topic.find_entry(self.registry.hash(shared.topic()), |other| *other == id.0)
        {
            entry.remove();
        }
        Left { moved: None, closed: Some(shared) }
    }

    /// How many rooms are open.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Memberships over all rooms.
    pub(crate) const fn memberships(&self) -> u64 {
        self.memberships
    }

    /// Gives memory of closed rooms back. Rehashes when it does, so call it from a slow timer.
    pub(crate) fn trim(&mut self) {
        let Self { by_topic, rooms, registry, .. } = self;
        if by_topic.capacity() > KEPT && by_topic.len() < by_topic.capacity() / 8 {
            let target = by_topic.len() * 2;
            by_topic.shrink_to(target, |id| registry.hash(rooms[*id as usize].shared().topic()));
        }
        if rooms.is_empty() && rooms.capacity() > KEPT {
            rooms.shrink_to_fit();
        }
    }
}
