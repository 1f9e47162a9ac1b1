//! What is known of the nodes' load, from the statistics they answer.
//!
//! Two series. [`NodeSeries`] holds one node's recent statistics; its rates come from the node's own clock and counters,
//! so that a slow or late scrape does not bend them, and a restart (another boot id) starts anew instead of going
//! negative. [`FleetSeries`] holds the sum over the nodes at each tick. The windows of the autoscaler are averages over
//! the *fleet's* series: when a node is drained its load reappears on the others, and an average of per-node windows
//! would miss it for a whole window.
//!
//! Missing data is unknown, never zero: each point says how many running nodes it does not know.

use std::collections::VecDeque;

use node_core::admin::Stats;

/// A node's statistics older than this are no longer trusted, in milliseconds: two scrapes of the slow pace (5 s) and
/// one time-out.
pub const FRESH_MILLIS: u64 = 12_000;
/// Most statistics kept per node.
const MAX_READINGS: usize = 16;
/// Most points kept of the fleet: an hour at a scrape each 2 s.
const MAX_POINTS: usize = 1_800;
/// One point stands for at most so long, in milliseconds; a longer gap is a gap.
pub(crate) const MAX_POINT_MILLIS: u64 = 15_000;
/// Over how long a node's own rates are averaged, in milliseconds (status, choice of a victim).
const NODE_WINDOW_MILLIS: u64 = 10_000;

/// One answer of a node.
#[derive(Clone, Debug)]
struct Reading {
    at: u64,
    node_millis: u64,
    writes: u64,
    publishes: u64,
}

/// Messages per second of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Messages delivered to members per second.
    pub writes: f64,
    /// Messages published per second.
    pub publishes: f64,
}

/// The recent statistics of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeSeries {
    readings: VecDeque<Reading>,
    last: Option<(u64, Stats)>,
}

impl NodeSeries {
    /// Takes an answer that arrived at `now` (milliseconds).
    pub fn push(&mut self, stats: Stats, now: u64) {
        if let Some((_, last)) = &self.last {
            let restarted = last.boot_id != stats.boot_id
                || stats.counters.writes < last.counters.writes
                || stats.counters.publishes < last.counters.publishes
                || stats.monotonic_millis < last.monotonic_millis;
            if restarted {
                self.readings.clear();
            }
        }
        if self.readings.back().is_none_or(|r| r.node_millis < stats.monotonic_millis) {
            self.readings.push_back(Reading {
                at: now,
                node_millis: stats.monotonic_millis,
                writes: stats.counters.writes,
                publishes: stats.counters.publishes,
            });
        }
        if self.readings.len() > MAX_READINGS {
            self.readings.pop_front();
        }
        self.last = Some((now, stats));
    }

    /// The last answer, if it is fresh at `now`.
    #[must_use]
    pub fn fresh(&self, now: u64) -> Option<&Stats> {
        self.last.as_ref().filter(|(at, _)| now.saturating_sub(*at) <= FRESH_MILLIS).map(|(_, stats)| stats)
    }

    /// When the last answer came, in milliseconds.
    #[must_use]
    pub fn last_at(&self) -> Option<u64> {
        self.last.as_ref().map(|(at, _)| *at)
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
    Rates {
        writes: (last.writes - first.writes) as f64 / seconds,
        publishes: (last.publishes - first.publishes) as f64 / seconds,
    }
}

/// What is known of one node at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeLoad {
    /// Whether the node is Ready, and so expected to answer.
    pub ready: bool,
    /// Whether it runs without being Ready: cut off from Kubernetes it may still carry load.
    pub unready: bool,
    /// Messages delivered per second; none when unknown.
    pub writes_per_second: Option<f64>,
    /// Connections held; none when unknown.
    pub connections: Option<u64>,
}

/// The fleet at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FleetPoint {
    /// When, in milliseconds.
    pub at: u64,
    /// Sum over the nodes that are known.
    pub writes_per_second: f64,
    /// Sum over the nodes that are known.
    pub connections: f64,
    /// Ready nodes.
    pub ready: u32,
    /// Of those, how many have fresh figures.
    pub fresh: u32,
    /// Nodes that run without being Ready and without fresh figures.
    pub unseen: u32,
}

impl FleetPoint {
    /// Sums what is known. A node that is not ready counts when it is known: a draining node still carries load.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn of(nodes: &[NodeLoad], at: u64) -> Self {
        let mut point = Self { at, ..Self::default() };
        for node in nodes {
            point.ready += u32::from(node.ready);
            point.fresh += u32::from(node.ready && node.writes_per_second.is_some());
            point.unseen += u32::from(node.unready && node.writes_per_second.is_none());
            point.writes_per_second += node.writes_per_second.unwrap_or(0.0);
            point.connections += node.connections.unwrap_or(0) as f64;
        }
        point
    }

    /// Running nodes whose load is unknown.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.ready - self.fresh + self.unseen
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
    /// Of what is known: the load is at least this.
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

    /// Time-weighted average over the last `window` milliseconds, in which each point stands for the time since the one
    /// before it. An unknown node counts as `presumed` writes/s. None without a point in the window.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
    pub fn average(&self, window: u64, presumed: f64, now: u64) -> Option<Average> {
        let start = now.saturating_sub(window);
        let (mut weight, mut known, mut missing) = (0.0, 0.0, 0.0);
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
            known += span * point.writes_per_second;
            missing += span * f64::from(point.missing());
        }
        (weight > 0.0)
            .then(|| Average { known: known / weight, presumed: (known + missing * presumed) / weight })
    }
}

#[cfg(test)]
mod tests {
    use node_core::admin::{Counters, Stats};

    use super::{FRESH_MILLIS, FleetPoint, FleetSeries, NodeLoad, NodeSeries};

    fn stats(boot: &str, millis: u64, writes: u64) -> Stats {
        Stats {
            boot_id: boot.to_owned(),
            monotonic_millis: millis,
            counters: Counters { writes, ..Counters::default() },
            ..Stats::default()
        }
    }

    #[test]
    fn rates_use_the_nodes_clock() {
        let mut node = NodeSeries::default();
        node.push(stats("a", 1_000, 0), 50_000);
        assert_eq!(node.rates_now(50_000), None, "one answer is no rate");
        node.push(stats("a", 3_000, 500), 53_500);
        assert!(
            (node.rates_now(53_500).unwrap().writes - 250.0).abs() < 1e-9,
            "the late scrape does not matter"
        );
    }

    #[test]
    fn a_restart_is_unknown_and_then_counts_anew() {
        let mut node = NodeSeries::default();
        node.push(stats("a", 1_000, 0), 1_000);
        node.push(stats("a", 3_000, 9_000), 3_000);
        node.push(stats("b", 500, 10), 5_000);
        assert_eq!(node.rates_now(5_000), None);
        node.push(stats("b", 2_500, 30), 7_000);
        assert!((node.rates_now(7_000).unwrap().writes - 10.0).abs() < 1e-9);
    }

    #[test]
    fn old_figures_are_unknown() {
        let mut node = NodeSeries::default();
        node.push(stats("a", 1_000, 0), 1_000);
        node.push(stats("a", 3_000, 9_000), 3_000);
        assert!(node.rates_now(3_000 + FRESH_MILLIS).is_some());
        assert_eq!(node.rates_now(3_001 + FRESH_MILLIS), None);
        assert!(node.fresh(3_001 + FRESH_MILLIS).is_none());
    }

    #[test]
    fn rates_are_never_negative_whatever_the_counters_do() {
        arbtest::arbtest(|u| {
            let mut node = NodeSeries::default();
            let mut now = 0;
            for _ in 0..u.int_in_range(1..=40)? {
                now += u.int_in_range(0..=20_000u64)?;
                let boot = if u.ratio(1u8, 4u8)? { "b" } else { "a" };
                node.push(stats(boot, u.int_in_range(0..=100_000)?, u.int_in_range(0..=1_000_000)?), now);
                for rates in [node.rates(now), node.rates_now(now)].into_iter().flatten() {
                    assert!(rates.writes >= 0.0 && rates.writes.is_finite(), "{rates:?}");
                }
            }
            Ok(())
        });
    }

    #[test]
    fn an_unknown_node_is_not_a_node_without_load() {
        let mut fleet = FleetSeries::default();
        for tick in 0..10 {
            let nodes = [
                NodeLoad { ready: true, writes_per_second: Some(100.0), ..NodeLoad::default() },
                NodeLoad { ready: true, ..NodeLoad::default() },
            ];
            fleet.push(FleetPoint::of(&nodes, tick * 2_000));
        }
        let average = fleet.average(6_000, 3_000.0, 18_000).unwrap();
        assert!(
            (average.known - 100.0).abs() < 1e-6 && (average.presumed - 3_100.0).abs() < 1e-6,
            "{average:?}"
        );
        assert!(!fleet.last().unwrap().quorum());
    }
}
