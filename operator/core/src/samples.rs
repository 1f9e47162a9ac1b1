//! What is known of the nodes' load, from the statistics they answer.
//!
//! Two series. [`NodeSeries`] holds one node's recent statistics; its rates come from the node's own clock and
//! counters, so that a slow or late scrape does not bend them, and a restart (another boot id) starts anew instead of
//! going negative. [`FleetSeries`] holds the sum over the nodes at each tick. The windows of the autoscaler are
//! averages over the *fleet's* series: when a node is drained its load reappears on the others, and an average of
//! per-node windows would miss it for a whole window.
//!
//! Missing data is unknown, never zero: each point says how many running nodes it does not know. Figures that were
//! measured while a node did not hear the bus, and for [`SETTLE_MILLIS`] after that, are unknown too: load that the
//! bus held back is not gone, and messages that then come at once are no higher load. Figures end with the process
//! that gave them.

use std::collections::VecDeque;

use node_core::admin::{NodePhase, Stats};

use crate::backplane::Hearing;

/// A node's statistics older than this are no longer trusted, in milliseconds: two scrapes of the slow pace (5 s) and
/// one time-out.
pub const FRESH_MILLIS: u64 = 12_000;
/// For how long a node's rates say nothing after it hears the bus again, in milliseconds: messages that gathered
/// meanwhile arrive within about a second, and two scrapes of the slow pace later the rates no longer contain them.
pub const SETTLE_MILLIS: u64 = 10_000;
/// Most statistics kept per node.
const MAX_READINGS: usize = 16;
/// Most points kept of the fleet: an hour at a scrape each 2 s.
const MAX_POINTS: usize = 1_800;
/// A point stands for so long at most, in milliseconds; what is longer is a gap.
pub(crate) const MAX_POINT_MILLIS: u64 = 15_000;
/// Over how long a node's own rates are averaged, in milliseconds (status, choice of a victim).
const NODE_WINDOW_MILLIS: u64 = 10_000;

/// One answer of a node.
#[derive(Clone, Debug)]
struct Reading {
    at: u64,
    node_millis: u64,
    writes: u64,
    late_writes: u64,
    publishes: u64,
    bus_late: u64,
}

/// Messages per second of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages delivered to members per second.
    pub writes: f64,
    /// The same without messages that the bus delivered late.
    pub timely: f64,
    /// Messages published per second.
    pub publishes: f64,
}

/// Why a node did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing came in time. It may serve nevertheless, as its last answer says.
    Silent,
    /// The process that answered last is gone.
    Ended,
}

/// The recent statistics of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeSeries {
    readings: VecDeque<Reading>,
    last: Option<(u64, Stats)>,
    /// When the last answer came; kept also after the process that gave it ended.
    answered_at: Option<u64>,
    /// When an answer last said that the bus is not heard.
    lost_at: Option<u64>,
    /// When an answer last told of late messages.
    late_at: Option<u64>,
    answers: bool,
    restarts: Option<i32>,
}

impl NodeSeries {
    /// Takes an answer that arrived at `now` (milliseconds). An answer that repeats the last one, the node's own
    /// clock included, does not count.
    pub fn push(&mut self, stats: Stats, now: u64) {
        if let Some((_, last)) = &self.last {
            let same = last.boot_id == stats.boot_id;
            if same && last.monotonic_millis == stats.monotonic_millis {
                self.answers = false;
                return;
            }
            let restarted = !same
                || stats.counters.writes < last.counters.writes
                || stats.counters.publishes < last.counters.publishes
                || stats.monotonic_millis < last.monotonic_millis;
            if restarted {
                self.forget();
            }
        }
        self.answers = true;
        self.answered_at = Some(now);
        if self.readings.back().is_some_and(|r| r.bus_late < stats.counters.bus_late) {
            self.late_at = Some(now);
        }
        // A process that starts has not lost a bus that it never heard, and no messages gathered for it.
        if Hearing::of(&stats) == Hearing::Lost && stats.phase != NodePhase::Starting {
            self.lost_at = Some(now);
        }
        self.readings.push_back(Reading {
            at: now,
            node_millis: stats.monotonic_millis,
            writes: stats.counters.writes,
            late_writes: stats.counters.late_writes,
            publishes: stats.counters.publishes,
            bus_late: stats.counters.bus_late,
        });
        if self.readings.len() > MAX_READINGS {
            self.readings.pop_front();
        }
        self.last = Some((now, stats));
    }

    /// Takes how often Kubernetes had restarted the node when the node last answered.
    pub fn of_process(&mut self, restarts: i32) {
        self.restarts = Some(restarts);
    }

    /// How often Kubernetes had restarted the node when the node last answered.
    #[must_use]
    pub fn restarts(&self) -> Option<i32> {
        self.restarts
    }

    /// Records that no answer came.
    pub fn missed(&mut self, why: Missed) {
        self.answers = false;
        if why == Missed::Ended {
            self.forget();
            self.last = None;
        }
    }

    /// Forgets the figures of a process: the next answer, if any, comes from another one.
    fn forget(&mut self) {
        self.readings.clear();
        (self.lost_at, self.late_at) = (None, None);
    }

    /// Whether the node answered when it was asked last.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.answers
    }

    /// The last answer, if it is fresh at `now`.
    #[must_use]
    pub fn fresh(&self, now: u64) -> Option<&Stats> {
        self.last.as_ref().filter(|(at, _)| now.saturating_sub(*at) <= FRESH_MILLIS).map(|(_, stats)| stats)
    }

    /// When the last answer came, in milliseconds; known also after the process that gave it ended.
    #[must_use]
    pub fn last_at(&self) -> Option<u64> {
        self.answered_at
    }

    /// Whether the node's last answer said that it is drained: a drained node takes no connection any more, so this
    /// stays true while it ends.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.last.as_ref().is_some_and(|(_, stats)| stats.phase == NodePhase::Closed)
    }

    /// How the node hears the bus; unknown when the last answer is old. After it lost the bus it counts as hearing it
    /// well once it has heard it for [`SETTLE_MILLIS`].
    #[must_use]
    pub fn hearing(&self, now: u64) -> Option<Hearing> {
        let hearing = Hearing::of(self.fresh(now)?);
        let lately = |at: Option<u64>| at.is_some_and(|at| now.saturating_sub(at) <= SETTLE_MILLIS);
        Some(match hearing {
            _ if lately(self.lost_at) => Hearing::Lost,
            Hearing::Well if lately(self.late_at) => Hearing::Late,
            hearing => hearing,
        })
    }

    /// [`NodeSeries::rates_now`] for a decision: unknown as well while the node does not hear the bus, and shortly
    /// after.
    #[must_use]
    pub fn load(&self, now: u64) -> Option<Rates> {
        self.rates_now(now).filter(|_| self.hearing(now) != Some(Hearing::Lost))
    }

    /// Rates between the last two answers; unknown when the last answer is old or there is only one.
    #[must_use]
    pub fn rates_now(&self, now: u64) -> Option<Rates> {
        self.fresh(now)?;
        let count = self.readings.len();
        if count < 2 {
            return None;
        }
        Some(rates(&self.readings[count - 2], &self.readings[count - 1]))
    }

    /// Rates over the last 10 s; unknown as for [`NodeSeries::rates_now`].
    #[must_use]
    pub fn rates(&self, now: u64) -> Option<Rates> {
        self.fresh(now)?;
        let last = self.readings.back()?;
        let first = self
            .readings
            .iter()
            .find(|r| r.at + NODE_WINDOW_MILLIS >= last.at && r.node_millis < last.node_millis)?;
        Some(rates(first, last))
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rates(first: &Reading, last: &Reading) -> Rates {
    let seconds = (last.node_millis - first.node_millis) as f64 / 1_000.0;
    let writes = last.writes - first.writes;
    let late = last.late_writes.saturating_sub(first.late_writes);
    Rates {
        writes: writes as f64 / seconds,
        timely: writes.saturating_sub(late) as f64 / seconds,
        publishes: (last.publishes - first.publishes) as f64 / seconds,
    }
}

/// What is known of one node at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeLoad {
    /// Whether the node is Ready, and so expected to answer.
    pub ready: bool,
    /// Whether its process runs although the node is not Ready, or is to go: cut off from Kubernetes, or leaving, it
    /// may still carry load.
    pub unready: bool,
    /// Messages delivered per second; none when unknown.
    pub writes_per_second: Option<f64>,
    /// Messages of these that the bus did not deliver late; none when unknown.
    pub timely_per_second: Option<f64>,
    /// Connections held; none when unknown.
    pub connections: Option<u64>,
    /// How it hears the bus; none when unknown.
    pub hearing: Option<Hearing>,
}

/// The fleet at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FleetPoint {
    /// When, in milliseconds.
    pub at: u64,
    /// Sum over the nodes that are known.
    pub writes_per_second: f64,
    /// Sum over the nodes that are known.
    pub timely_per_second: f64,
    /// Sum over the nodes that are known.
    pub connections: f64,
    /// Ready nodes.
    pub ready: u32,
    /// Ready nodes with fresh figures of their load.
    pub fresh: u32,
    /// Running nodes whose writes/s are unknown.
    pub unknown_writes: u32,
    /// Running nodes whose connections are unknown.
    pub unknown_connections: u32,
    /// Ready nodes that say that they use the bus.
    pub on_bus: u32,
    /// Ready nodes on the bus that do not hear it.
    pub lost_bus: u32,
    /// Ready nodes on the bus that hear it late.
    pub late_bus: u32,
}

impl FleetPoint {
    /// Sums the known figures. A node that is not ready counts when it is known: a draining node still carries load.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn of(nodes: &[NodeLoad], at: u64) -> Self {
        let mut point = Self { at, ..Self::default() };
        for node in nodes {
            let runs = node.ready || node.unready;
            point.ready += u32::from(node.ready);
            point.fresh += u32::from(node.ready && node.writes_per_second.is_some());
            point.unknown_writes += u32::from(runs && node.writes_per_second.is_none());
            point.unknown_connections += u32::from(runs && node.connections.is_none());
            point.writes_per_second += node.writes_per_second.unwrap_or(0.0);
            point.timely_per_second += node.timely_per_second.unwrap_or(0.0);
            point.connections += node.connections.unwrap_or(0) as f64;
            if let Some(hearing) = node.hearing.filter(|_| node.ready) {
                point.on_bus += u32::from(hearing != Hearing::Unused);
                point.lost_bus += u32::from(hearing == Hearing::Lost);
                point.late_bus += u32::from(hearing == Hearing::Late);
            }
        }
        point
    }

    /// Whether the bus itself is silent, not just a node or two cut off from it: half of the nodes that use it do not
    /// hear it.
    #[must_use]
    pub fn bus_silent(&self) -> bool {
        self.lost_bus > 0 && self.lost_bus * 2 >= self.on_bus
    }

    /// Whether a node that serves does not hear the bus, or hears it late.
    #[must_use]
    pub fn bus_impaired(&self) -> bool {
        self.lost_bus + self.late_bus > 0
    }

    /// Whether at least two thirds of the ready nodes are known, and at least one is.
    #[must_use]
    pub fn quorum(&self) -> bool {
        self.fresh > 0 && self.fresh * 3 >= self.ready * 2
    }
}

/// An average of writes/s over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// The average over known nodes only: the load is at least this.
    pub known: f64,
    /// With each unknown node taken to be loaded as the caller says.
    pub presumed: f64,
}

/// The fleet's recent load.
#[derive(Clone, Debug, Default)]
pub struct FleetSeries {
    points: VecDeque<FleetPoint>,
}

impl FleetSeries {
    /// Takes a point; one that is not later than the last is ignored.
    pub fn push(&mut self, point: FleetPoint) {
        if self.points.back().is_some_and(|last| last.at >= point.at) {
            return;
        }
        if self.points.len() == MAX_POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// The last point.
    #[must_use]
    pub fn last(&self) -> Option<&FleetPoint> {
        self.points.back()
    }

    /// Time-weighted average over the last `window` milliseconds of what `of` reads from a point, in which each point
    /// stands for the time since the one before it. An unknown node counts as `presumed` writes/s. None without a
    /// point in the window.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
    pub fn average(
        &self,
        of: impl Fn(&FleetPoint) -> f64,
        window: u64,
        presumed: f64,
        now: u64,
    ) -> Option<Average> {
        let start = now.saturating_sub(window);
        let (mut weight, mut known, mut unknown) = (0.0, 0.0, 0.0);
        for (index, point) in self.points.iter().enumerate().rev() {
            if point.at < start {
                break;
            }
            let since = match index.checked_sub(1) {
                Some(before) => point.at - self.points[before].at,
                None => 1,
            };
            let span = since.min(MAX_POINT_MILLIS).min(point.at - start).max(1) as f64;
            weight += span;
            known += span * of(point);
            unknown += span * f64::from(point.unknown_writes);
        }
        (weight > 0.0)
            .then(|| Average { known: known / weight, presumed: (known + unknown * presumed) / weight })
    }
}

#[cfg(test)]
mod tests;
