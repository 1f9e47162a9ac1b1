//! The parts of a shard, each of which owns its fields, and the options of a shard.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::{
    bounds::Bounds, by_policy::ByPolicy, event::Effect, gauge::Gauge, inquiries::Inquiries, intake::Intake,
    lately::Lately, timers::Timers,
};
use crate::{
    addresses::Addresses,
    api::news::{Batch, Listening},
    config::NodeConfig,
    counters::Counters,
    egress::Egress,
    ledger::Holdings,
    limits::STAMP_MILLIS,
    longpoll::{Polls, peers::Peers, token::TokenKey},
    moving::course::Course,
    proxy::Networks,
    route::{self, Registry},
    session::Sessions,
    topics::Topics,
    ws::{deflate::Inflater, handshake::Page},
};

/// The options of a shard, which do not change.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Position among the shards of the node.
    pub index: u8,
    /// Whether there is a bus to other nodes.
    pub has_bus: bool,
    /// The node's name, which members of the reserved topic are told.
    pub node_name: String,
    /// The version, which members of the reserved topic are told.
    pub version: &'static str,
    /// The page that is served at `/` when the configuration asks for it.
    pub page: Page<'static>,
    /// Topics of all shards.
    pub registry: Arc<Registry>,
    /// Established connections of all shards, and the memory that they share.
    pub places: Arc<Places>,
    /// Client addresses of all shards.
    pub addresses: Arc<Addresses>,
    /// Signs the tokens of long-poll sessions; the same on all shards.
    pub poll_key: TokenKey,
    /// The other nodes to which requests of long-poll can be carried.
    pub peers: Arc<Peers>,
    /// Whether the node is in service, for load balancers that ask the public port. A shard that is leaving answers
    /// no, whatever this says.
    pub ready: Arc<AtomicBool>,
    /// What those listen for who hear the events of the node.
    pub listening: Arc<Listening>,
    /// Time in milliseconds that a peer has to answer a close frame or to read a refusal:
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
    pub(super) fn claim(&self, max: u32) -> bool {
        route::claim(&self.taken, max)
    }

    pub(super) fn release(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) const fn holdings(&self) -> &Holdings {
        &self.holdings
    }
}

/// The state machine of one shard.
#[derive(Debug)]
pub struct Shard {
    pub(super) options: ShardOptions,
    pub(super) config: Arc<NodeConfig>,
    /// The proxies that are believed.
    pub(super) trusted: Networks,
    /// From which lengths on messages have to be looked at.
    pub(super) bounds: Bounds,
    pub(super) now_millis: u64,
    /// What is added to [`Shard::now_millis`] for the time of day in milliseconds since 1970.
    pub(super) epoch_millis: u64,
    pub(super) counters: Counters,
    /// Some of them for each policy of rooms.
    pub(super) by_policy: ByPolicy,
    /// Connections and their lives.
    pub(super) sessions: Sessions,
    /// Rooms, their policies, and the broadcasts that wait in them.
    pub(super) topics: Topics,
    /// Queues, and the order in which connections are written.
    pub(super) egress: Egress,
    /// What long-poll adds to connections.
    pub(super) polls: Polls,
    /// Clients that wait for answers of the backend.
    pub(super) inquiries: Inquiries,
    /// Inflates compressed messages of clients, once there were some.
    pub(super) inflater: Option<Box<Inflater>>,
    /// How much this turn takes in.
    pub(super) intake: Intake,
    /// How near the memory budget the shard is.
    pub(super) gauge: Gauge,
    /// Figures of the last second.
    pub(super) lately: Lately,
    /// The moving of clients to other nodes.
    pub(super) course: Course,
    /// All deadlines.
    pub(super) timers: Timers,
    /// Effects that the thread has not taken yet.
    pub(super) effects: Vec<Effect>,
    /// What happened in this turn, as far as somebody listens for it.
    pub(super) news: Batch,
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(options: ShardOptions, config: Arc<NodeConfig>) -> Self {
        options.places.holdings().add_shard();
        if options.has_bus {
            options.registry.expect_bus();
        }
        Self {
            topics: Topics::new(Arc::clone(&options.registry), options.index),
            options,
            trusted: Networks::read(&config.proxies.trusted),
            bounds: Bounds::of(&config.limits),
            by_policy: ByPolicy::new(&config.rooms),
            config,
            now_millis: 0,
            epoch_millis: 0,
            counters: Counters::ZERO,
            sessions: Sessions::default(),
            egress: Egress::default(),
            polls: Polls::default(),
            inquiries: Inquiries::default(),
            inflater: None,
            intake: Intake::default(),
            gauge: Gauge::default(),
            lately: Lately::default(),
            course: Course::default(),
            timers: Timers::default(),
            effects: Vec::new(),
            news: Batch::default(),
        }
    }

    /// The coarse clock of [`crate::session::conn::Conn::stamp`].
    pub(super) const fn stamp(&self) -> u16 {
        // Truncation is wanted: stamps are compared by wrapping subtraction.
        (self.now_millis / STAMP_MILLIS) as u16
    }
}

#[cfg(test)]
impl Shard {
    /// Connections that have a bucket, because they have said more than a little lately.
    pub(super) fn buckets(&self) -> usize {
        self.sessions.side().iter().filter(|aside| aside.has_bucket()).count()
    }
}
