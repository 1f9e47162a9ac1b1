//! A node of the world: its clients, what it can do, and what it says of itself.

use node_core::admin::{Counters, Gauges, NodePhase, Stats};

use super::START_MILLIS;
use super::cohort::{Cohort, add, count};
use super::moving::Moving;

/// Clients older than this are kept as one number, in seconds.
const OLD_SECONDS: u32 = 900;
/// Seconds of its capacity that a node queues to clients; what is more is lost to them.
const QUEUE_SECONDS: f64 = 5.0;
/// Bytes of a delivered message.
const MESSAGE_BYTES: f64 = 120.0;
/// Handshakes per second up to which a node answers each in a few milliseconds.
const EASY_HANDSHAKES: f64 = 1_000.0;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Number of its pod, counted from the first one ever made.
    pub(super) number: u32,
    /// Name of its pod.
    pub(super) name: String,
    /// The second in which the pod was made.
    pub(super) made: u32,
    /// The second in which it becomes ready.
    pub(super) ready_at: u32,
    /// Writes/s that it can do.
    pub(super) capacity: f64,
    /// Where it is in its life.
    pub(super) phase: NodePhase,
    /// Whether its pod is Ready and its endpoint in the Service.
    pub(super) in_service: bool,
    /// What it moves to others, or moved last.
    pub(super) moving: Option<Moving>,
    /// Connections that it was told to close per second.
    pub(super) close_rate: f64,
    /// Its deletion cost.
    pub(super) cost: Option<i32>,
    /// The second in which its process runs again; none while it runs.
    pub(super) down_until: Option<u32>,
    /// How often its process was started again.
    pub(super) restarts: i32,
    /// The second in which its process began.
    pub(super) began: u32,
    /// Its clients.
    pub(super) clients: Vec<Cohort>,
    /// Messages queued to clients.
    pub(super) queued: f64,
    /// Messages queued to its clients in all, which is what a node counts as writes.
    pub(super) writes: f64,
    /// Of these, those that it sent.
    pub(super) sent: f64,
    /// Seconds that it was busy.
    pub(super) busy: f64,
    /// 0 to 1: how busy it was in the last second.
    pub(super) utilization: f64,
    /// Writes/s that its clients asked for in the last second.
    pub(super) asked: f64,
    /// Handshakes in the last second.
    pub(super) came: f64,
    opened: f64,
    /// The answer that it repeats, and the counter of writes that stands still, while they do.
    pub(super) frozen: Option<Stats>,
    pub(super) stands: Option<f64>,
    /// By how much its counter of writes is too high.
    pub(super) wild: f64,
}

impl Node {
    /// A pod that was just made.
    pub(super) fn new(number: u32, now: u32, starts_in: u32, capacity: f64) -> Self {
        Self {
            number,
            name: format!("chat-node-{number}"),
            made: now,
            ready_at: now + starts_in,
            capacity,
            phase: NodePhase::Starting,
            in_service: false,
            moving: None,
            close_rate: 0.0,
            cost: None,
            down_until: None,
            restarts: 0,
            began: now,
            clients: Vec::new(),
            queued: 0.0,
            writes: 0.0,
            sent: 0.0,
            busy: 0.0,
            utilization: 0.0,
            asked: 0.0,
            came: 0.0,
            opened: 0.0,
            frozen: None,
            stands: None,
            wild: 0.0,
        }
    }

    /// Whether its process runs.
    pub(super) fn runs(&self) -> bool {
        self.phase != NodePhase::Starting && self.down_until.is_none()
    }

    /// Whether it is on its way out.
    pub(super) fn leaves(&self) -> bool {
        matches!(self.phase, NodePhase::Unready | NodePhase::Closing | NodePhase::Closed)
    }

    /// What it moves to others now.
    pub(super) fn moves(&self, now: u32) -> Option<&Moving> {
        self.moving.as_ref().filter(|moving| self.phase == NodePhase::Serving && moving.runs(now))
    }

    /// Moves clients for a second; gives those that it closed.
    pub(super) fn move_on(&mut self, per_client: &[f64], now: u32) -> Vec<Cohort> {
        if self.moves(now).is_none() {
            return Vec::new();
        }
        let Some(moving) = &mut self.moving else { return Vec::new() };
        let counts = moving.second(&self.clients, per_client);
        self.close(|index, cohort| counts[index] / cohort.count)
    }

    /// Clients come.
    pub(super) fn take(&mut self, clients: Cohort) {
        self.came += clients.count;
        self.opened += clients.count;
        add(&mut self.clients, clients);
    }

    /// Makes old clients one cohort, and drops what is left of cohorts of which hardly anybody is left.
    pub(super) fn compact(&mut self, now: u32) {
        let before = std::mem::take(&mut self.clients);
        for mut cohort in before {
            if cohort.born + OLD_SECONDS < now {
                cohort.born = 0;
            }
            add(&mut self.clients, cohort);
        }
    }

    /// Closes a part (0 to 1) of each cohort, and gives them.
    pub(super) fn close(&mut self, part: impl Fn(usize, &Cohort) -> f64) -> Vec<Cohort> {
        let mut closed = Vec::new();
        for (index, cohort) in self.clients.iter_mut().enumerate() {
            let count = cohort.count * part(index, cohort).clamp(0.0, 1.0);
            cohort.count -= count;
            closed.push(Cohort { count, ..*cohort });
        }
        self.clients.retain(|c| c.count > 1e-9);
        closed
    }

    /// The process ends; gives its clients.
    pub(super) fn end_process(&mut self, until: u32) -> Vec<Cohort> {
        (self.in_service, self.phase) = (false, NodePhase::Starting);
        (self.down_until, self.restarts, self.began) = (Some(until), self.restarts + 1, until);
        (self.queued, self.writes, self.sent) = (0.0, 0.0, 0.0);
        (self.busy, self.opened, self.wild) = (0.0, 0.0, 0.0);
        (self.utilization, self.asked) = (0.0, 0.0);
        (self.frozen, self.stands, self.moving) = (None, None, None);
        std::mem::take(&mut self.clients)
    }

    /// Delivers for a second what its clients ask for, `per_client` by group; gives what goes beyond what it can do.
    pub(super) fn deliver(&mut self, per_client: &[f64]) -> f64 {
        self.asked = self.clients.iter().map(|c| c.count * per_client[c.group]).sum();
        let due = self.asked + self.queued;
        let done = due.min(self.capacity);
        let left = due - done;
        self.queued = left.min(QUEUE_SECONDS * self.capacity);
        let lost = left - self.queued;
        self.utilization = done / self.capacity;
        self.writes += self.asked - lost;
        self.sent += done;
        self.busy += self.utilization;
        lost
    }

    /// What it says of itself; `open` is the limit of open files.
    pub(super) fn says(&self, now: u32) -> Stats {
        let connections = count(&self.clients);
        let handshake =
            5.0 + (self.came - EASY_HANDSHAKES).max(0.0) / 10.0 + 200.0 * f64::from(self.utilization >= 1.0);
        let writes = self.stands.unwrap_or(self.writes + self.wild);
        let gauges = Gauges {
            connections: connections.round() as u64,
            rooms: (connections / 10.0).ceil() as u64,
            utilization: self.utilization,
            cpu_seconds: self.busy,
            oldest_queued_millis: (self.queued * 1_000.0 / self.capacity) as u64,
            send_queue_bytes: (self.queued * MESSAGE_BYTES) as u64,
            handshake_p99_millis: handshake as u64,
            ..Gauges::default()
        };
        let counters = Counters {
            writes: writes as u64,
            publishes: (writes / 40.0) as u64,
            sent_bytes: (self.sent * MESSAGE_BYTES) as u64,
            connections_opened: self.opened as u64,
            connections_closed: (self.opened - connections).max(0.0) as u64,
            ..Counters::default()
        };
        Stats {
            boot_id: format!("{}-{}", self.number, self.restarts),
            monotonic_millis: u64::from(now - self.began) * 1_000,
            node: self.name.clone(),
            phase: self.phase,
            rebalance: self.moves(now).map(Moving::says),
            counters,
            gauges,
            ..Stats::default()
        }
    }

    /// When its pod was made, in milliseconds since 1970.
    pub(super) fn made_millis(&self) -> u64 {
        START_MILLIS + u64::from(self.made) * 1_000
    }
}
