//! One shard as a state machine: connections, rooms and queues, without a socket or a clock.
//!
//! The thread around it reports what happened ([`Shard::on_accept`], [`Shard::on_data`], [`Shard::on_remote`],
//! [`Shard::on_tick`], ...) and then carries out what came of it: it writes each connection that
//! [`Shard::next_flush`] names, sends what [`Shard::take_outgoing`] holds to other shards and the bus,
//! and ends the connections of [`Shard::take_gone`]. Nothing is removed in the middle of a turn, so an id stays valid
//! until the thread calls [`Shard::remove`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use slab::Slab;

use crate::{
    broadcast::Broadcast,
    config::NodeConfig,
    counters::{CloseReason, Counters, RefuseReason},
    ledger::{Holdings, Ledger, Stage},
    limits::{BACKLOG_FRAMES, FLUSHES_PER_TURN, MAX_HANDSHAKING, STAMP_MILLIS},
    outbox::Outbox,
    room::{ConnId, RoomId, Rooms},
    route::{self, Registry, ShardMask, SharedRoom, Topic},
    topic,
    ws::{CloseCode, frame},
};

mod conn;
mod dispatch;
mod fanout;
mod flush;
mod input;
mod memory;
mod pass;
mod rate;
mod timer;
mod window;

// The fuzz targets drive the shard with the harness of its tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod tests;

use conn::{Channel, Conn, Flags, Phase};
pub use flush::AfterFlush;
pub use input::Progress;
use pass::Passes;

/// What a shard is told once.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Position among the shards of the node.
    pub index: u8,
    /// Whether there is a bus to other nodes.
    pub has_bus: bool,
    /// Told to members of the reserved topic.
    pub node_name: String,
    /// Told to members of the reserved topic.
    pub version: &'static str,
    /// Served at `/` when the configuration asks for it.
    pub page: &'static [u8],
    /// Topics of all shards.
    pub registry: Arc<Registry>,
    /// Established connections of all shards, and the memory that they share.
    pub places: Arc<Places>,
    /// Whether the node is in service, for load balancers that ask the public port. One that leaves says no whatever this
    /// says.
    pub ready: Arc<AtomicBool>,
    /// Time a peer has to answer a close frame, or to read a refusal, in milliseconds:
    /// [`crate::limits::CLOSE_TIMEOUT_MILLIS`], or more where nobody waits for it.
    pub close_timeout_millis: u64,
}

/// What the shards of a node share: places for connections, and memory.
#[derive(Debug, Default)]
pub struct Places {
    taken: AtomicU32,
    holdings: Holdings,
}

impl Places {
    fn claim(&self, max: u32) -> bool {
        route::claim(&self.taken, max)
    }

    fn release(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    const fn holdings(&self) -> &Holdings {
        &self.holdings
    }
}

/// What leaves the shard, in order.
#[derive(Debug)]
pub enum Outgoing {
    /// A client published.
    Publish {
        /// The topic.
        topic: Topic,
        /// What was said.
        broadcast: Broadcast,
        /// Other shards with members.
        shards: ShardMask,
        /// Whether other nodes are told.
        nodes: bool,
    },
    /// The shard has members of this topic from now on. Only with a bus.
    Opened(Topic),
    /// The shard has no members of this topic any more. Only with a bus.
    Closed(Topic),
}

/// The state machine of one shard.
#[derive(Debug)]
pub struct Shard {
    options: ShardOptions,
    config: Arc<NodeConfig>,
    conns: Slab<Conn>,
    rooms: Rooms,
    outbox: Outbox,
    /// What the shard counts; the thread adds what only it sees.
    pub counters: Counters,
    urgent: VecDeque<ConnId>,
    dirty: Passes,
    /// Members of large rooms.
    bulk: Passes,
    /// Looks for a connection to write, to share them out.
    flushes: u64,
    outgoing: Vec<Outgoing>,
    gone: Vec<ConnId>,
    /// Bytes of incomplete request heads.
    heads_bytes: usize,
    /// The sum of [`crate::ws::Reader::incomplete_bytes`] of established connections.
    incomplete_bytes: usize,
    now_millis: u64,
    /// In this turn, from this source of input, and how many it may have over the budget.
    broadcasts_of_source: u64,
    source_quota: u64,
    /// This turn takes no broadcasts.
    stuck: bool,
    /// How many connections a turn writes, as the last one did.
    writes_per_turn: u64,
    /// Frames queued to connections that are not blocked.
    backlog: u64,
    /// Connections whose queue is half full although their socket may take more.
    pressed: u64,
    /// Rooms with a flush window under way, by its end.
    windows: BinaryHeap<Reverse<(u64, RoomId)>>,
    timers: timer::Timers,
    ledger: Ledger,
    /// How near the budget the shard was when it looked last.
    stage: Stage,
    /// Up to so many bytes held nothing needs to be looked at.
    calm_below: u64,
    /// Blocked connections, and since when they took nothing.
    stalls: BTreeMap<ConnId, u16>,
    /// Connections that are not read until they take what they are sent, or memory is free.
    unread: BTreeSet<ConnId>,
    /// Connections that are not read until fewer messages of others wait here.
    crowd: BTreeSet<ConnId>,
    /// Connections that may be read again.
    resumed: Vec<ConnId>,
    rates: rate::Rates,
    /// Messages of this read, and up to how many it is not looked whether the connection may say them.
    said: u32,
    may_say: u32,
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(options: ShardOptions, config: Arc<NodeConfig>) -> Self {
        let rooms = Rooms::new(Arc::clone(&options.registry), options.index);
        options.places.holdings().add_shard();
        if options.has_bus {
            options.registry.expect_bus();
        }
        Self {
            options,
            config,
            conns: Slab::new(),
            rooms,
            outbox: Outbox::default(),
            counters: Counters::ZERO,
            urgent: VecDeque::new(),
            dirty: Passes::default(),
            bulk: Passes::default(),
            flushes: 0,
            outgoing: Vec::new(),
            gone: Vec::new(),
            heads_bytes: 0,
            incomplete_bytes: 0,
            now_millis: 0,
            broadcasts_of_source: 0,
            source_quota: 1,
            stuck: false,
            writes_per_turn: FLUSHES_PER_TURN as u64,
            backlog: 0,
            pressed: 0,
            windows: BinaryHeap::new(),
            timers: timer::Timers::default(),
            ledger: Ledger::default(),
            stage: Stage::Free,
            // The first look finds out what there is.
            calm_below: 0,
            stalls: BTreeMap::new(),
            unread: BTreeSet::new(),
            crowd: BTreeSet::new(),
            resumed: Vec::new(),
            rates: rate::Rates::default(),
            said: 0,
            may_say: rate::UNCHECKED,
        }
    }

    /// Begins a turn at a time in milliseconds since any fixed moment, which must not go back.
    pub fn begin_turn(&mut self, now_millis: u64) {
        self.now_millis = now_millis;
        self.begin_source(1);
        self.stuck = self.pressed > self.writes_per_turn;
        self.counters.turns += 1;
        self.release_due();
        self.look_at_memory();
        self.resume_due();
    }

    /// Whether so much waits to be flushed that the shard should be given little input.
    #[must_use]
    pub const fn is_over_budget(&self) -> bool {
        self.pressed > 0 || self.backlog >= BACKLOG_FRAMES
    }

    /// Another source of input comes next in this turn. Over its budget, a turn takes so many broadcasts of it: one of the
    /// clients, and as many as there are other shards and a bus of what these sent. So each of them gets rid of as much as
    /// the shard's own clients do, and neither keeps the others waiting.
    pub const fn begin_source(&mut self, quota: u64) {
        self.broadcasts_of_source = 0;
        self.source_quota = quota;
    }

    /// Whether this turn should take no more input from this source at all: over its budget it has had its share, or the
    /// turn began with more half-full queues than it can write, and more would end up in them before their sockets were
    /// tried. All sources of a turn have their share, or none has.
    #[must_use]
    pub const fn is_saturated(&self) -> bool {
        self.stuck || (self.is_over_budget() && self.broadcasts_of_source >= self.source_quota)
    }

    /// When a turn is due although nothing happens, on the clock of [`Shard::begin_turn`]: a flush window ends, or what
    /// was put off may be written.
    #[must_use]
    pub fn next_due_millis(&self) -> Option<u64> {
        let window = self.windows.peek().map(|Reverse((due, _))| *due);
        let times = [window, self.dirty.next_millis(), self.bulk.next_millis(), self.rates.next_millis()];
        times.into_iter().flatten().min()
    }

    /// Brings the gauges up to date.
    pub fn update_gauges(&mut self) {
        self.counters.rooms = self.rooms.len() as u64;
        self.counters.memberships = self.rooms.memberships();
        self.counters.send_queue_bytes = self.outbox.bytes();
        self.counters.memory = self.held_by_kind();
    }

    /// A socket was accepted. `None` when it is to be dropped at once.
    pub fn on_accept(&mut self) -> Option<ConnId> {
        self.counters.accepted += 1;
        if self.counters.handshaking >= MAX_HANDSHAKING {
            self.counters.count_refused(RefuseReason::Full);
            return None;
        }
        self.counters.handshaking += 1;
        let stamp = self.stamp();
        // A process has far fewer than 2^32 descriptors.
        let id = ConnId(self.conns.insert(Conn::new(stamp)) as u32);
        self.rates.welcome(id);
        Some(id)
    }

    /// Input of a connection has arrived, to be read in its turn. It is not idle then, however long its turn takes to come.
    pub fn on_input(&mut self, id: ConnId) {
        let stamp = self.stamp();
        let conn = &mut self.conns[id.index()];
        if conn.phase == Phase::Open {
            conn.stamp = stamp;
        }
    }

    /// The peer is gone: end of input or an error of the socket.
    pub fn on_lost(&mut self, id: ConnId) {
        match self.conns[id.index()].phase {
            Phase::Handshake => self.counters.count_refused(RefuseReason::Lost),
            Phase::Open => self.counters.count_closed(CloseReason::Lost),
            Phase::Leaving | Phase::Closing | Phase::Linger | Phase::Drop | Phase::Final | Phase::Gone => {}
        }
        self.end(id);
    }

    /// A broadcast from another shard or node. One whose names or text are none is dropped. What is late is counted apart.
    pub fn on_remote(&mut self, broadcast: &Broadcast, late: bool) {
        self.counters.remote_received += 1;
        let Some(content) = broadcast.unpack() else {
            self.counters.malformed_messages += 1;
            return;
        };
        if let Some(room) = self.rooms.find(content.topic) {
            if late {
                // Those that cannot take it are counted too: this is taken off a load, and few.
                self.counters.late_writes += self.rooms.get(room).members().len() as u64;
            }
            self.broadcast(room, &content, None);
            self.look_at_memory();
        }
    }

    /// New configuration. What is open stays open; new limits hold from now on.
    pub fn on_reload(&mut self, config: Arc<NodeConfig>) {
        self.config = config;
        for room in self.rooms.iter_mut() {
            let policy = self.config.rooms.resolve(room.shared().topic());
            room.set_window(policy.map_or(0, |policy| policy.flush_window_millis));
        }
        self.refresh_memory();
    }

    /// Appends what is to be sent to other shards and the bus.
    pub fn take_outgoing(&mut self, buffer: &mut Vec<Outgoing>) {
        buffer.append(&mut self.outgoing);
    }

    /// Appends the connections that ended: close their sockets and [`Shard::remove`] them.
    pub fn take_gone(&mut self, buffer: &mut Vec<ConnId>) {
        buffer.append(&mut self.gone);
    }

    /// Forgets an ended connection; its id may be given out again.
    pub fn remove(&mut self, id: ConnId) {
        // Its queue was emptied when it ended.
        let conn = self.conns.remove(id.index());
        if conn.flags.has(Flags::ESTABLISHED) {
            self.counters.connections -= 1;
            self.options.places.release();
        } else {
            self.counters.handshaking -= 1;
        }
    }

    /// Sockets held, established or not.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.conns.len()
    }

    /// The coarse clock, for [`Conn::stamp`].
    const fn stamp(&self) -> u16 {
        // Truncation is wanted: stamps are compared by wrapping subtraction.
        (self.now_millis / STAMP_MILLIS) as u16
    }

    /// Ends a connection now: no more frames, and the thread closes its socket at the end of the turn.
    fn end(&mut self, id: ConnId) {
        if self.conns[id.index()].phase == Phase::Gone {
            return;
        }
        self.leave_all(id);
        self.forget_input(id);
        self.conns[id.index()].phase = Phase::Gone;
        self.stalls.remove(&id);
        self.unread.remove(&id);
        self.crowd.remove(&id);
        self.rates.forget(id);
        self.change_queue(id, |outbox, queue| outbox.clear(queue, false));
        self.unpress(id);
        self.gone.push(id);
    }

    /// Starts the closing handshake from this side. What is queued is sent first, except to a slow consumer.
    ///
    /// A goodbye that is no answer to something wrong is polite: what the peer said before it heard of it is served to the
    /// others, until its own close frame or the close time-out, and only then does it leave its rooms.
    fn close(&mut self, id: ConnId, reason: CloseReason, code: CloseCode) {
        let is_polite = matches!(reason, CloseReason::Drain | CloseReason::Idle);
        if is_polite {
            self.release_rooms(id);
        }
        if self.conns[id.index()].phase != Phase::Open {
            return;
        }
        self.counters.count_closed(reason);
        if is_polite {
            self.mute(id);
        } else {
            self.leave_all(id);
        }
        let stamp = self.stamp();
        if matches!(reason, CloseReason::SlowConsumer | CloseReason::Memory) {
            self.change_queue(id, |outbox, queue| outbox.clear(queue, true));
        }
        let conn = &mut self.conns[id.index()];
        // After a broken or forgotten frame nothing that follows can be read: no point in waiting for a close frame.
        conn.phase = match reason {
            CloseReason::Protocol
            | CloseReason::Utf8
            | CloseReason::TooBig
            | CloseReason::Full
            | CloseReason::Memory => Phase::Linger,
            _ if is_polite => Phase::Leaving,
            _ => Phase::Closing,
        };
        conn.stamp = stamp;
        self.queue_one(id, frame::close(code).into());
    }

    /// What is left to say to a connection when the shard has failed: a close frame, if one can be read by it.
    #[must_use]
    pub fn farewell(&self, id: ConnId) -> Option<Vec<u8>> {
        let conn = self.conns.get(id.index())?;
        (conn.phase == Phase::Open && !conn.queue.is_partly_sent()).then(|| frame::close(CloseCode::Restart))
    }

    /// Sends what the rooms of a connection hold: it was said while that one was a member, and shall be heard by it.
    fn release_rooms(&mut self, id: ConnId) {
        if self.windows.is_empty() {
            return;
        }
        let rooms: Vec<_> = self.conns[id.index()].channels.iter().map(|channel| channel.room).collect();
        for room in rooms {
            // Sending may close slow members, and with the last of them a room.
            if self.rooms.is_open(room) {
                self.release(room);
            }
        }
    }

    /// The connection stays a member of its rooms and hears no more of what is said there.
    fn mute(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index()];
        if let Some(vsn) = conn.listens() {
            conn.channels.iter().for_each(|channel| self.rooms.get_mut(channel.room).unlisten(vsn));
        }
        conn.flags.set(Flags::MUTED);
    }

    fn leave_all(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.index()];
        self.ledger.channels -= memory::channels_bytes(conn);
        let channels = std::mem::take(&mut conn.channels);
        for channel in &channels {
            self.leave_room(id, channel.room, channel.position);
        }
    }

    /// Whether other nodes may have members of a topic. Reserved ones are each node's own.
    fn is_shared(&self, topic: &str) -> bool {
        self.options.has_bus && !topic::is_reserved(topic)
    }

    fn note_opened(&mut self, shared: &SharedRoom) {
        if self.is_shared(shared.topic()) {
            self.outgoing.push(Outgoing::Opened(Arc::clone(shared.topic())));
        }
    }

    fn note_closed(&mut self, shared: &SharedRoom) {
        if self.is_shared(shared.topic()) {
            self.outgoing.push(Outgoing::Closed(Arc::clone(shared.topic())));
        }
    }
}
