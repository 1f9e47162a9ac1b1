//! One worker: its own descriptor table, epoll and connections, and its part of the schedule.
//!
//! All that other threads see of it goes through [`Shared`]; nothing wakes it, it looks at the shared state
//! at least every [`LOOK_NS`].

use super::shared::{Shared, lock};
use super::slot::{Phase, Slot};
use super::stats::{Stats, histogram};
use super::wire::Handshake;
use super::{phoenix, sys, wire};
use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::event::epoll;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest sleep, ns.
const LOOK_NS: u64 = 20_000_000;
/// How often counts are shown to the coordinator, ns.
const SHOW_NS: u64 = 200_000_000;
/// phoenix.js' heartbeat interval, ns.
const HEARTBEAT_NS: u64 = 30_000_000_000;
/// Connections opened in one turn at most, so that a late worker goes on reading.
const OPENS_PER_TURN: usize = 128;
/// Publishes sent in one turn at most.
const PUBLISHES_PER_TURN: usize = 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Publishes of a room whose senders are remembered, to excuse those that die with their sender.
const RECENT: usize = 256;

/// A worker's own view of a room.
#[derive(Default)]
pub(super) struct LocalRoom {
    /// Joined connections of this worker, by slot.
    pub(super) members: Vec<u32>,
    /// Whose turn it is to publish.
    cursor: usize,
    /// Latest publishes sent from here: number and slot.
    pub(super) recent: VecDeque<(u32, u32)>,
    topic: String,
}

/// Something to do with a slot later; of no effect when the slot has moved on since.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) due: u64,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u32,
    pub(super) poll: OwnedFd,
    pub(super) slots: Vec<Slot>,
    pub(super) rooms: Vec<LocalRoom>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    pub(super) handshakes: Vec<Handshake>,
    pub(super) stats: Stats,
    pub(super) interval: Histogram<u64>,
    pub(super) now: u64,
    pub(super) joined_now: u32,
    pub(super) undecided: u32,
    pub(super) message: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) frame: Vec<u8>,
    mask: u32,
    next_open: usize,
    next_publish: u64,
    next_heartbeat: u64,
    shown: u64,
}

impl Worker {
    /// Prepares the worker on its own thread.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor table or an epoll.
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> anyhow::Result<Worker> {
        // Nothing above standard error belongs to this thread yet, and nobody wakes it through a descriptor.
        sys::own_descriptor_table()
            .context("close_range: a descriptor table of its own needs Linux 5.9 or newer")?;
        let plan = shared.plan;
        let slots: Vec<Slot> =
            (0..plan.connections).filter(|c| plan.worker_of(*c) == id).map(Slot::new).collect();
        let mut rooms: Vec<LocalRoom> = Vec::new();
        rooms.resize_with(plan.local_rooms(), LocalRoom::default);
        for slot in &slots {
            let room = plan.room_of(slot.connection);
            rooms[plan.local_room(room)].topic = shared.topic(room);
        }
        Ok(Worker {
            id,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?,
            undecided: slots.len() as u32,
            slots,
            rooms,
            timers: BinaryHeap::new(),
            handshakes: shared
                .targets
                .iter()
                .map(|target| Handshake::new(&target.host, &target.path))
                .collect(),
            stats: Stats::default(),
            interval: histogram(),
            now: 0,
            joined_now: 0,
            message: Vec::new(),
            scratch: vec![0; 64 << 10],
            frame: Vec::new(),
            mask: rand::random::<u32>() | 1,
            next_open: 0,
            next_publish: 0,
            next_heartbeat: 0,
            shown: 0,
            shared,
        })
    }

    /// Runs until told to finish; returns what it saw.
    ///
    /// # Errors
    /// When waiting for events fails.
    pub(super) fn run(mut self) -> anyhow::Result<Stats> {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.shared.finishing() {
            self.now = self.shared.now();
            self.open_due();
            self.fire_timers();
            self.publish_due();
            self.heartbeat_due();
            self.show();
            sys::wait(&self.poll, &mut events, self.sleep()).context("epoll_pwait2")?;
            self.now = self.shared.now();
            for event in &events {
                self.on_event(event.data.u64() as u32, event.flags);
            }
        }
        self.settle();
        Ok(self.stats)
    }

    fn sleep(&self) -> Duration {
        let now = self.shared.now();
        let mut until = now + LOOK_NS;
        if let Some(slot) = self.slots.get(self.next_open) {
            until = until.min(self.open_at(slot));
        }
        if let Some(Reverse(timer)) = self.timers.peek() {
            until = until.min(timer.due);
        }
        if let Some(due) = self.shared.publish_due(self.next_publish) {
            until = until.min(due);
        }
        Duration::from_nanos(until.saturating_sub(now))
    }

    fn open_at(&self, slot: &Slot) -> u64 {
        (f64::from(slot.connection) * 1e9 / self.shared.options.connect_rate) as u64
    }

    fn open_due(&mut self) {
        for _ in 0..OPENS_PER_TURN {
            match self.slots.get(self.next_open) {
                Some(slot) if self.open_at(slot) <= self.now => {
                    self.next_open += 1;
                    self.open(self.next_open as u32 - 1);
                }
                _ => return,
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse(timer)) = self.timers.peek() {
            if timer.due > self.now {
                return;
            }
            let (slot, generation) = (timer.slot, timer.generation);
            self.timers.pop();
            if self.slots[slot as usize].generation == generation {
                self.on_timer(slot);
            }
        }
    }

    fn publish_due(&mut self) {
        for _ in 0..PUBLISHES_PER_TURN {
            while self.shared.plan.publish(self.next_publish).1 != self.id {
                self.next_publish += 1;
            }
            match self.shared.publish_due(self.next_publish) {
                Some(due) if due <= self.now => {
                    let (room, _) = self.shared.plan.publish(self.next_publish);
                    self.next_publish += 1;
                    self.publish(room, due);
                }
                _ => return,
            }
        }
    }

    fn publish(&mut self, room: u32, due: u64) {
        let local = self.shared.plan.local_room(room);
        let Some(room_state) = self.rooms.get_mut(local) else { return };
        if room_state.members.is_empty() {
            self.stats.counters.unsent += 1;
            return;
        }
        room_state.cursor = (room_state.cursor + 1) % room_state.members.len();
        let sender = room_state.members[room_state.cursor];
        let number = self.shared.rooms[room as usize].number();
        if room_state.recent.len() == RECENT {
            room_state.recent.pop_front();
        }
        room_state.recent.push_back((number, sender));
        let slot = &mut self.slots[sender as usize];
        let stamp =
            phoenix::Stamp { run: self.shared.run, number, intended_ns: due, sender: slot.connection };
        let reference = slot.next_reference();
        self.message.clear();
        let size = self.shared.options.payload;
        phoenix::publish(&mut self.message, slot.join_reference, reference, &room_state.topic, &stamp, size);
        self.stats.counters.published += 1;
        self.stats.lag.saturating_record(self.shared.now().saturating_sub(due));
        self.send_message(sender);
    }

    /// Sends each joined connection's heartbeat once per interval, spread evenly over it.
    fn heartbeat_due(&mut self) {
        let count = self.slots.len() as u64;
        let target = (u128::from(self.now) * u128::from(count) / u128::from(HEARTBEAT_NS)) as u64;
        while self.next_heartbeat < target {
            let slot = (self.next_heartbeat % count) as u32;
            self.next_heartbeat += 1;
            self.heartbeat(slot);
        }
    }

    fn heartbeat(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.phase != Phase::Joined {
            return;
        }
        if slot.heartbeat_reference != 0 {
            self.end(index, 1006, "heartbeat timeout");
            return;
        }
        let reference = slot.next_reference();
        slot.heartbeat_reference = reference;
        self.message.clear();
        phoenix::heartbeat(&mut self.message, reference);
        self.stats.counters.heartbeats += 1;
        self.send_message(index);
    }

    /// Writes the join of a slot whose upgrade is done.
    pub(super) fn join(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let room = self.shared.plan.room_of(slot.connection);
        slot.join_reference = slot.next_reference();
        slot.phase = Phase::Joining;
        self.message.clear();
        let topic = &self.rooms[self.shared.plan.local_room(room)].topic;
        phoenix::join(&mut self.message, slot.join_reference, topic);
        self.send_message(index);
    }

    fn send_message(&mut self, index: u32) {
        let message = std::mem::take(&mut self.message);
        self.send(index, wire::TEXT, &message);
        self.message = message;
    }

    /// The next masking key: xorshift, as the mask only has to be unpredictable to the payload's author.
    pub(super) fn next_mask(&mut self) -> u32 {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask
    }

    fn show(&mut self) {
        if self.now < self.shown + SHOW_NS {
            return;
        }
        self.shown = self.now;
        let over = self.shared.published_all();
        let outstanding = over.then(|| {
            let owed = |slot: &Slot| {
                let room = self.shared.plan.room_of(slot.connection);
                u64::from(slot.ledger.outstanding(self.shared.rooms[room as usize].next()))
            };
            self.slots.iter().filter(|slot| slot.phase == Phase::Joined).map(owed).sum()
        });
        let mut board = lock(&self.shared.boards[self.id as usize]);
        board.counters = self.stats.counters;
        board.joined_now = self.joined_now;
        board.undecided = self.undecided;
        board.outstanding = outstanding;
        board.interval.add(&self.interval).expect("both histograms have the same bounds");
        self.interval.reset();
    }

    /// Closes all connections and the accounts of those that are joined.
    fn settle(&mut self) {
        for index in 0..self.slots.len() as u32 {
            if self.slots[index as usize].phase == Phase::Joined {
                self.stats.counters.joined_at_end += 1;
                self.account(index, false);
                self.slots[index as usize].phase = Phase::Left;
                self.send(index, wire::CLOSE, &1000u16.to_be_bytes());
            }
        }
    }
}
