//! What is known of the fleet at each tick, and over the last ones.

use std::collections::VecDeque;

use super::MAX_POINT_MILLIS;
use super::node::MOST_WRITES_PER_SECOND;
use crate::backplane::Hearing;
use crate::capacity::Sizing;
use crate::heat::{BUSY, Heat};

/// Most points kept of the fleet: an hour, the longest window, at a scrape each 2 s.
const MAX_POINTS: usize = 1_800;
/// More connections than a node can hold: four times the most that anybody reports of one server (12 million). Beyond
/// this the figure is wrong.
const MOST_CONNECTIONS: f64 = 5e7;
/// One answer is believed up to so many times the capacity of a node, or as many times what the node said just before. A
/// figure beyond that counts once the next answer says so too: nodes do not carry twice their capacity, and a counter
/// that went wrong once is right again two seconds later.
pub(super) const SUDDEN: f64 = 2.0;

/// The part of a node's capacity below which a busy node is taken to be busy with something else than messages: with
/// handshakes, or because other programs take its processor. Were each such node taken for full, a small load on a slow
/// machine would ask for one node more again and again.
const SLIGHT: f64 = 0.25;

/// What a saturated node is taken to be asked for, at most, as a multiple of its capacity: tenfold what it carries at a target of
/// 60 %, which is as fast as the policies of growth allow by default.
const MOST_ASKED: f64 = 6.0;

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
    /// Messages delivered per second as the figure before said; none when there was none.
    pub writes_before: Option<f64>,
    /// Connections held; none when unknown.
    pub connections: Option<u64>,
    /// Connections held as the figure before said; none when there was none.
    pub connections_before: Option<u64>,
    /// How it hears the bus; none when unknown.
    pub hearing: Option<Hearing>,
    /// Bytes written to client sockets per second; none when unknown.
    pub bytes_per_second: Option<f64>,
    /// Bytes queued to all clients; none when unknown.
    pub queued_bytes: Option<u64>,
    /// Milliseconds that the oldest byte queued to a client has waited; none when unknown, 0 when nothing is queued.
    pub oldest_queued_millis: Option<u64>,
    /// Busy part of the busiest shard's time, 0 to 1; none when unknown.
    pub utilization: Option<f64>,
    /// Memory as a part of its limit; none when unknown.
    pub memory: Option<f64>,
    /// Why the node is saturated, by its own figures.
    pub saturated: Option<Heat>,
    /// Messages per second that a saturated node is asked for, though it delivers less; none when that is not known.
    pub asked_per_second: Option<f64>,
}

impl NodeLoad {
    /// Messages delivered per second, as far as they are believed.
    #[must_use]
    pub fn writes(&self, sizing: &Sizing) -> Option<f64> {
        let possible = self.writes_per_second.filter(|writes| *writes <= MOST_WRITES_PER_SECOND);
        possible.map(|writes| believed(writes, self.writes_before, sizing.writes_per_second))
    }

    /// Connections held, as far as they are believed.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn held(&self, sizing: &Sizing) -> Option<f64> {
        let before = self.connections_before.map(|held| held as f64);
        let possible = self.connections.map(|held| held as f64).filter(|held| *held <= MOST_CONNECTIONS);
        possible.map(|held| believed(held, before, sizing.connections))
    }

    /// What a saturated node is taken to carry beyond what it delivers when the fleet may have to grow: all that it
    /// could carry if it were not full already, `capacity` at least, and at most one node's worth. A busy node that delivers
    /// little is busy with something else than messages, which more nodes do not change: it hides no more than its share. What was
    /// seen to be asked of it counts whole.
    fn hidden(&self, writes: f64, sizing: &Sizing) -> f64 {
        if self.saturated.is_none() {
            return 0.0;
        }
        let busy = self.utilization.filter(|busy| *busy >= BUSY);
        let carries = busy.map_or(writes, |busy| writes / busy);
        let (least, asked) = match self.is_slight(writes, sizing) {
            true => (0.0, 0.0),
            false => (sizing.writes_per_second, self.asked_per_second.unwrap_or(0.0)),
        };
        let hidden = (carries.max(least) - writes).clamp(0.0, sizing.target_writes());
        hidden.max(asked.min(MOST_ASKED * sizing.writes_per_second) - writes)
    }

    /// What a saturated node is taken to carry beyond what it delivers when the fleet may shrink: it is full, unless it
    /// delivers little.
    fn full(&self, writes: f64, sizing: &Sizing) -> f64 {
        match self.saturated {
            Some(_) if self.is_slight(writes, sizing) => self.hidden(writes, sizing),
            Some(_) => (sizing.writes_per_second - writes).max(self.hidden(writes, sizing)),
            None => 0.0,
        }
    }

    /// Whether the node is saturated by being busy, while it delivers a small part of what a node carries.
    fn is_slight(&self, writes: f64, sizing: &Sizing) -> bool {
        self.saturated == Some(Heat::Busy) && writes < SLIGHT * sizing.writes_per_second
    }
}

/// The higher of two figures, as far as they are known.
fn most(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

/// The part of a figure that is believed: see [`SUDDEN`]. Without a figure before it, as much as a node may carry.
fn believed(figure: f64, before: Option<f64>, capacity: f64) -> f64 {
    if figure <= SUDDEN * before.unwrap_or(0.0).max(capacity) {
        return figure;
    }
    before.unwrap_or(SUDDEN * capacity)
}

/// Connections on nodes that are not saturated from which on what they get tells of what others ask for.
const ENOUGH_ELSEWHERE: f64 = 100.0;

/// Messages per second and connection on the nodes that are not saturated. The clients of a full node are taken to ask for as
/// much; none where hardly anybody is elsewhere.
fn elsewhere(nodes: &[NodeLoad], sizing: &Sizing) -> Option<f64> {
    let calm = nodes.iter().filter(|node| node.saturated.is_none());
    let (writes, held) = calm
        .filter_map(|node| node.writes(sizing).zip(node.held(sizing)))
        .fold((0.0, 0.0), |(writes, held), (more, clients)| (writes + more, held + clients));
    (held >= ENOUGH_ELSEWHERE).then(|| writes / held)
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
    /// What saturated nodes are taken to carry beyond that when growing.
    pub hidden_per_second: f64,
    /// What saturated nodes are taken to carry beyond that when shrinking.
    pub full_per_second: f64,
    /// Sum over the nodes that are known.
    pub connections: f64,
    /// Ready nodes.
    pub ready: u32,
    /// Ready nodes with fresh figures of their load.
    pub fresh: u32,
    /// Ready nodes without, though they do not say that they do not hear the bus.
    pub silent: u32,
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
    /// Ready nodes that are hot.
    pub hot: u32,
    /// Why the first of them is.
    pub heat: Option<Heat>,
}

impl FleetPoint {
    /// Sums the known figures. A node that is not ready counts when it is known: a draining node still carries load.
    #[must_use]
    pub fn of(nodes: &[NodeLoad], sizing: &Sizing, at: u64) -> Self {
        let mut point = Self { at, ..Self::default() };
        let elsewhere = elsewhere(nodes, sizing);
        for node in nodes {
            let asked = elsewhere.zip(node.held(sizing)).map(|(each, held)| each * held);
            let node = &NodeLoad { asked_per_second: most(node.asked_per_second, asked), ..*node };
            let runs = node.ready || node.unready;
            let (writes, held) = (node.writes(sizing), node.held(sizing));
            point.ready += u32::from(node.ready);
            point.fresh += u32::from(node.ready && writes.is_some());
            let cut_off = node.hearing == Some(Hearing::Lost);
            point.silent += u32::from(node.ready && writes.is_none() && !cut_off);
            point.unknown_writes += u32::from(runs && writes.is_none());
            point.unknown_connections += u32::from(runs && held.is_none());
            if let Some(writes) = writes {
                point.writes_per_second += writes;
                point.timely_per_second += node.timely_per_second.unwrap_or(writes).min(writes);
                point.hidden_per_second += node.hidden(writes, sizing);
                point.full_per_second += node.full(writes, sizing);
            }
            point.connections += held.unwrap_or(0.0);
            if let Some(hearing) = node.hearing.filter(|_| node.ready) {
                point.on_bus += u32::from(hearing != Hearing::Unused);
                point.lost_bus += u32::from(hearing == Hearing::Lost);
                point.late_bus += u32::from(hearing == Hearing::Late);
            }
            if let Some(heat) = Heat::of(node, sizing).filter(|_| node.ready) {
                point.hot += 1;
                point.heat = point.heat.or(Some(heat));
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

    /// Whether at least two thirds of the ready nodes are known, and at least one is.
    #[must_use]
    pub fn quorum(&self) -> bool {
        self.fresh > 0 && self.fresh * 3 >= self.ready * 2
    }
}

/// The fleet's recent load.
#[derive(Clone, Debug, Default)]
pub struct FleetSeries {
    points: VecDeque<FleetPoint>,
}

impl FleetSeries {
    /// Takes a point; one that is not later than the last is ignored. Those are kept that averages over `window` milliseconds
    /// need, and the one before them.
    pub fn push(&mut self, point: FleetPoint, window: u64) {
        if self.points.back().is_some_and(|last| last.at >= point.at) {
            return;
        }
        let start = point.at.saturating_sub(window);
        while self.points.len() == MAX_POINTS || self.points.get(1).is_some_and(|next| next.at < start) {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// How many points are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.points.len()
    }

    /// The last point.
    #[must_use]
    pub fn last(&self) -> Option<&FleetPoint> {
        self.points.back()
    }

    /// Time-weighted average over the last `window` milliseconds of what `of` reads from a point, in which each point
    /// stands for the time since the one before it. None without a point in the window.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^52")]
    pub fn average(&self, of: impl Fn(&FleetPoint) -> f64, window: u64, now: u64) -> Option<f64> {
        let start = now.saturating_sub(window);
        let (mut weight, mut sum) = (0.0, 0.0);
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
            sum += span * of(point);
        }
        (weight > 0.0).then(|| sum / weight)
    }

    /// The lower of what `of` reads from the last two points: a level that two looks in a row show, however short it
    /// lasts. None with fewer points, or when there is a gap between them.
    #[must_use]
    pub fn confirmed(&self, of: impl Fn(&FleetPoint) -> f64) -> Option<f64> {
        let before = self.points.len().checked_sub(2)?;
        let (first, last) = (&self.points[before], &self.points[before + 1]);
        (last.at - first.at <= MAX_POINT_MILLIS).then(|| of(first).min(of(last)))
    }
}
