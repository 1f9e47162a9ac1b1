//! One worker: its own descriptor table, epoll and connections, and its part of the schedule.
//!
//! Other threads see it only through [`Shared`]; nothing wakes it, so it looks at the shared state at least every
//! [`LOOK_NS`].

use super::shared::{Segment, Shared, lock};
use super::slot::{Phase, Slot};
use super::socket::READABLE;
use super::stamp::Finder;
use super::stats::{Account, Stats, coarse, histogram, merge};
use super::tls::Sessions;
use super::wire::{Handshake, Inflater};
use super::{sys, wire};
use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::event::epoll;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest sleep, ns.
pub(super) const LOOK_NS: u64 = 20_000_000;
/// How often a worker publishes its counts for the coordinator, ns.
const SHOW_NS: u64 = 200_000_000;
/// Most connections opened, and most timers fired, in one turn, so that a late worker goes on reading.
const OPENS_PER_TURN: usize = 128;
/// Events taken from the kernel at once: so few that publishes which become due meanwhile are not late.
const EVENTS: usize = 128;
/// Bytes read from a socket at once.
pub(super) const READ: usize = 64 << 10;

/// A room as one worker sees it.
#[derive(Default)]
pub(super) struct LocalRoom {
    /// Joined connections of this worker, by slot.
    pub(super) members: Vec<u32>,
    /// The member whose turn it is to publish.
    pub(super) cursor: usize,
    /// Latest publishes sent from here: number and slot.
    pub(super) recent: VecDeque<(u32, u32)>,
    pub(super) topic: String,
}

/// A task for a slot at a later time; it has no effect when the slot has moved on by then.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) due: u64,
    pub(super) slot: u32,
    pub(super) generation: u16,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u32,
    pub(super) poll: OwnedFd,
    pub(super) slots: Vec<Slot>,
    pub(super) rooms: Vec<LocalRoom>,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    pub(super) handshake: Handshake,
    /// Set where compression is asked for.
    pub(super) inflater: Option<Inflater>,
    /// Set where the servers speak TLS.
    pub(super) tls: Option<Sessions>,
    pub(super) finder: Finder,
    pub(super) stats: Stats,
    /// Latencies of the segment's publishes that are not published on the board yet.
    pub(super) interval: Histogram<u64>,
    pub(super) lag: Histogram<u64>,
    pub(super) now: u64,
    pub(super) joined_now: u32,
    pub(super) undecided: u32,
    pub(super) last_join: u64,
    /// Reference of the latest message.
    pub(super) reference: u32,
    pub(super) message: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) frame: Vec<u8>,
    pub(super) segment: Segment,
    segment_version: u32,
    pub(super) next_turn: u64,
    pub(super) next_heartbeat: u64,
    pub(super) churned: u64,
    storms: u32,
    /// Whether connections that did not read have begun to read again.
    pub(super) resumed: bool,
    mask: u32,
    next_open: usize,
    shown: u64,
}

impl Worker {
    /// Prepares the worker on its own thread.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor table or an epoll.
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> anyhow::Result<Worker> {
        // This thread owns no descriptor above standard error yet, and nobody wakes it through one.
        sys::own_descriptor_table()
            .context("close_range: a descriptor table of its own needs Linux 5.9 or newer")?;
        let plan = shared.plan;
        let mut slots = Vec::with_capacity(plan.connections_of(id).count());
        slots.extend(plan.connections_of(id).map(Slot::new));
        let mut rooms: Vec<LocalRoom> = Vec::new();
        rooms.resize_with(plan.local_rooms(), LocalRoom::default);
        for slot in &slots {
            let number = plan.room_of(slot.connection);
            let room = &mut rooms[plan.local_room(number)];
            if room.topic.is_empty() {
                room.topic = shared.dialect.topic(&shared.settings.options.topic_prefix, number);
            }
        }
        let tls = shared.settings.tls.clone().map(|config| Sessions::new(config, slots.len()));
        Ok(Worker {
            id,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?,
            undecided: slots.len() as u32,
            slots,
            rooms,
            timers: BinaryHeap::new(),
            handshake: Handshake::new(shared.settings.options.deflate),
            inflater: shared.settings.options.deflate.then(Inflater::new),
            tls,
            finder: Finder::default(),
            stats: Stats::default(),
            interval: histogram(),
            lag: coarse(),
            now: 0,
            joined_now: 0,
            last_join: 0,
            reference: 1 << 16,
            message: Vec::new(),
            scratch: vec![0; READ],
            frame: Vec::new(),
            segment: Segment::default(),
            segment_version: 0,
            next_turn: 0,
            next_heartbeat: 0,
            churned: 0,
            storms: 0,
            resumed: false,
            mask: rand::random::<u32>() | 1,
            next_open: 0,
            shown: 0,
            shared,
        })
    }

    /// Runs until told to finish; returns its results.
    ///
    /// # Errors
    /// When waiting for events fails.
    pub(super) fn run(mut self) -> anyhow::Result<Stats> {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.shared.finishing() {
            self.now = self.shared.now();
            self.obey();
            self.open_due();
            self.fire_timers();
            self.turns_due();
            self.heartbeats_due();
            self.churn_due();
            self.show();
            sys::wait(&self.poll, &mut events, self.rest()).context("epoll_pwait2")?;
            self.now = self.shared.now();
            for event in &events {
                self.on_event(event.data.u64() as u32, event.flags);
            }
        }
        self.settle();
        merge(&mut self.stats.latency, &self.interval);
        merge(&mut self.stats.lag, &self.lag);
        Ok(self.stats)
    }

    /// Takes over changes that the coordinator has made.
    fn obey(&mut self) {
        if let Some(segment) = self.shared.changed_segment(&mut self.segment_version) {
            if segment.number != self.segment.number {
                // Segments begin with one worker after the other.
                self.next_turn = u64::from(segment.number);
                self.churned = 0;
                // Latencies that are not published belong to the segment before.
                merge(&mut self.stats.latency, &self.interval);
                self.interval.reset();
            }
            self.segment = segment;
        }
        let storms = self.shared.storms.load(Ordering::SeqCst);
        if storms != self.storms {
            self.storms = storms;
            self.cut_all();
            self.now = self.shared.now();
        }
        if !self.resumed && self.shared.resume.load(Ordering::SeqCst) {
            self.resumed = true;
            for index in 0..self.slots.len() as u32 {
                if self.slots[index as usize].phase == Phase::Slow {
                    self.rearm(index, READABLE);
                }
            }
        }
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
        if let Some(due) = self.turn_due() {
            until = until.min(due);
        }
        Duration::from_nanos(until.saturating_sub(now))
    }

    /// Sleeps through the rest of the poll interval, and says how long to wait for events.
    fn rest(&self) -> Duration {
        let until = self.sleep();
        let interval = Duration::from_nanos(self.shared.settings.poll_ns);
        if interval.is_zero() {
            return until;
        }
        // The sleep is not in the kernel's wait for events, so that no send of the server has to wake this thread.
        std::thread::sleep(interval.min(until));
        Duration::ZERO
    }

    fn open_at(&self, slot: &Slot) -> u64 {
        self.shared.settings.open_at(slot.connection)
    }

    fn open_due(&mut self) {
        for _ in 0..OPENS_PER_TURN {
            match self.slots.get(self.next_open) {
                Some(slot) if self.open_at(slot) <= self.now => {
                    self.next_open += 1;
                    if slot.phase == Phase::Closed {
                        self.open(self.next_open as u32 - 1);
                    }
                }
                _ => return,
            }
        }
    }

    fn fire_timers(&mut self) {
        for _ in 0..OPENS_PER_TURN {
            let Some(Reverse(timer)) = self.timers.peek() else { return };
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
        let over = self.segment.number > 0 && self.now >= self.segment.until && self.turn_due().is_none();
        let account = over.then(|| self.total());
        let mut board = lock(&self.shared.boards[self.id as usize]);
        board.counters = self.stats.counters;
        board.joined_now = self.joined_now;
        board.undecided = self.undecided;
        board.last_join = self.last_join;
        board.storms = self.storms;
        board.segment = self.segment.number;
        board.account = account;
        merge(&mut board.interval, &self.interval);
        merge(&mut board.lag, &self.lag);
        drop(board);
        self.interval.reset();
        self.lag.reset();
    }

    /// The sum of closed and open accounts.
    fn total(&self) -> Account {
        let counters = &self.stats.counters;
        let published = self.shared.published.load(Ordering::SeqCst);
        let mut total = Account { owed: counters.owed, outstanding: 0, published };
        for slot in self.slots.iter().filter(|slot| slot.phase == Phase::Joined) {
            let next = self.shared.rooms[self.shared.plan.room_of(slot.connection) as usize].next();
            total.owed += u64::from(slot.ledger.owed(next));
            total.outstanding += u64::from(slot.ledger.outstanding(next));
        }
        total.owed = total.owed.saturating_sub(counters.unechoed);
        total
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
