//! One node's recent statistics.

use std::collections::VecDeque;

use node_core::admin::{NodePhase, Stats};

use super::asked::{Asked, Look};
use super::{FRESH_MILLIS, SETTLE_MILLIS};
use crate::backplane::Hearing;
use crate::heat::{Heat, Strain};

/// Most statistics kept per node, and so many of them though they are older than the window: the change between the last two and
/// that between the two before them is compared.
const MAX_READINGS: usize = 16;
const LEAST_READINGS: usize = 3;
/// Most processes of a node that are remembered: an answer of one that was followed by another is an old answer.
const MAX_BOOTS: usize = 4;
/// Over how long a node's own rates are averaged, in milliseconds (status, choice of a victim).
const NODE_WINDOW_MILLIS: u64 = 10_000;
/// More messages per second than a node can deliver. The most that was measured of one is 7.2 million; beyond this the
/// counter, or who answers in the node's stead, is wrong.
pub(super) const MOST_WRITES_PER_SECOND: f64 = 1e8;

/// Answers that come sooner after one another than this, in milliseconds, count as one: a look out of turn, after the
/// operator's own change, finds the same second of utilization again, and a rate over a shorter time is mostly noise.
const MIN_SPAN_MILLIS: u64 = 1_000;

/// Bytes per second that a node sends, and the part of its time that it works, from which on it delivers messages whatever its
/// counters say: answers to heartbeats of 10,000 clients are a fortieth of it.
const STANDS_BYTES: f64 = 1_048_576.0;
const STANDS_BUSY: f64 = 0.25;

/// One answer of a node.
#[derive(Clone, Debug)]
struct Reading {
    at: u64,
    node_millis: u64,
    writes: u64,
    late_writes: u64,
    publishes: u64,
    bus_late: u64,
    sent_bytes: u64,
    connections: u64,
    strain: Strain,
}

/// A process that answered, by its boot id.
#[derive(Clone, Debug)]
struct Boot {
    id: String,
    /// The latest time of its own clock.
    millis: u64,
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
    /// Bytes written to client sockets per second.
    pub sent_bytes: f64,
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
    /// The processes that answered, the present one last.
    boots: VecDeque<Boot>,
    last: Option<(u64, Stats)>,
    /// When the last answer came; kept also after the process that gave it ended.
    answered_at: Option<u64>,
    /// When an answer last said that the bus is not heard.
    lost_at: Option<u64>,
    /// When an answer last told of late messages.
    late_at: Option<u64>,
    answers: bool,
    restarts: Option<i32>,
    /// What it is asked for while it is saturated.
    asked: Asked,
}

impl NodeSeries {
    /// Takes an answer that arrived at `now` (milliseconds). An answer that is not newer than what the same process said
    /// before does not count: it repeats itself, or comes from a process that was followed by another. When `now` is
    /// before the last answer, the clock went back, and what was known before says nothing of the time since.
    pub fn push(&mut self, stats: Stats, now: u64) {
        if !self.is_news(&stats) {
            self.answers = false;
            return;
        }
        if let Some((at, last)) = &self.last {
            let restarted = last.boot_id != stats.boot_id
                || stats.counters.writes < last.counters.writes
                || stats.counters.publishes < last.counters.publishes;
            if restarted || now < *at {
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
        let soon = |before: &Reading| stats.monotonic_millis < before.node_millis + MIN_SPAN_MILLIS;
        if self.readings.back().is_some_and(soon) {
            self.last = Some((now, stats));
            return;
        }
        self.readings.push_back(Reading {
            at: now,
            node_millis: stats.monotonic_millis,
            writes: stats.counters.writes,
            late_writes: stats.counters.late_writes,
            publishes: stats.counters.publishes,
            bus_late: stats.counters.bus_late,
            sent_bytes: stats.counters.sent_bytes,
            connections: stats.gauges.connections,
            strain: Strain::of(&stats.gauges),
        });
        let old = |first: &Reading| first.at.saturating_add(NODE_WINDOW_MILLIS) < now;
        while self.readings.len() > MAX_READINGS
            || (self.readings.len() > LEAST_READINGS && self.readings.front().is_some_and(old))
        {
            self.readings.pop_front();
        }
        self.last = Some((now, stats));
        self.look();
    }

    /// Looks at the newest answer, for what the node is asked for.
    fn look(&mut self) {
        let Some(look) = self.look_at(0) else { return };
        let before = self.readings.len().checked_sub(2).map(|before| &self.readings[before].strain);
        let strain = self.readings.back().map(|reading| reading.strain).unwrap_or_default();
        match strain.saturated(before, Some(look.rates.sent_bytes)) {
            Some(Heat::Busy | Heat::Queued) => self.asked.saturated(self.look_at(1), look),
            _ => self.asked.calm(look),
        }
    }

    fn look_at(&self, skipped: usize) -> Option<Look> {
        let rates = self.rates_of(skipped)?;
        let last = self.readings.len().checked_sub(skipped + 1)?;
        let (before, last) = (&self.readings[last - 1], &self.readings[last]);
        let seconds = (last.node_millis - before.node_millis) as f64 / 1_000.0;
        let grown = last.strain.queued_bytes as f64 - before.strain.queued_bytes as f64;
        let (queued, connections) = (last.strain.queued_bytes, last.connections);
        Some(Look { at: last.at, rates, grown: grown / seconds, queued, connections })
    }

    /// Whether an answer is newer than every answer before, and remembers it.
    fn is_news(&mut self, stats: &Stats) -> bool {
        let millis = stats.monotonic_millis;
        let known = self.boots.iter_mut().rev().enumerate().find(|(_, boot)| boot.id == stats.boot_id);
        match known {
            Some((0, present)) if present.millis < millis => present.millis = millis,
            Some(_) => return false,
            None => {
                if self.boots.len() == MAX_BOOTS {
                    self.boots.pop_front();
                }
                self.boots.push_back(Boot { id: stats.boot_id.clone(), millis });
            }
        }
        true
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
        self.asked = Asked::default();
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
        let is_fresh = |at: u64| now.checked_sub(at).is_some_and(|age| age <= FRESH_MILLIS);
        self.last.as_ref().filter(|(at, _)| is_fresh(*at)).map(|(_, stats)| stats)
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
        self.rates_now(now).filter(|_| self.hearing(now) != Some(Hearing::Lost) && !self.stands())
    }

    /// Messages per second that a saturated node is asked for, as far as that was seen; none while it is not saturated.
    #[must_use]
    pub fn asked(&self, now: u64) -> Option<f64> {
        self.saturated(now)?;
        self.asked.of(self.fresh(now)?.gauges.connections)
    }

    /// Whether the counters of messages stand still although the node is at work, and sends to clients whom it sent messages
    /// before: then they say nothing.
    fn stands(&self) -> bool {
        let (Some(rates), Some(last)) = (self.rates_of(0), self.readings.back()) else { return false };
        let moves = rates.writes > 0.0 || rates.publishes > 0.0 || last.writes == 0;
        !moves && rates.sent_bytes >= STANDS_BYTES && last.strain.utilization >= STANDS_BUSY
    }

    /// Rates between the last two answers; unknown when the last answer is old or there is only one.
    #[must_use]
    pub fn rates_now(&self, now: u64) -> Option<Rates> {
        self.fresh(now)?;
        self.rates_of(0)
    }

    /// Messages delivered per second between the two answers before the last one; none when there were none.
    #[must_use]
    pub fn writes_before(&self) -> Option<f64> {
        self.rates_of(1).map(|rates| rates.writes)
    }

    /// Connections held at the answer before the last one; none when there was none.
    #[must_use]
    pub fn connections_before(&self) -> Option<u64> {
        let before = self.readings.len().checked_sub(2)?;
        Some(self.readings[before].connections)
    }

    /// What the node's last answer says of its limits; none when it is old.
    #[must_use]
    pub fn strain(&self, now: u64) -> Option<Strain> {
        self.fresh(now)?;
        self.readings.back().map(|reading| reading.strain)
    }

    /// Why the node is saturated, if its last two answers say so.
    #[must_use]
    pub fn saturated(&self, now: u64) -> Option<Heat> {
        let strain = self.strain(now)?;
        let before = self.readings.len().checked_sub(2).map(|before| &self.readings[before].strain);
        strain.saturated(before, self.rates_of(0).map(|rates| rates.sent_bytes))
    }

    /// Rates between the last two answers but `skipped`; none when the node cannot have delivered so much.
    fn rates_of(&self, skipped: usize) -> Option<Rates> {
        let first = self.readings.len().checked_sub(skipped + 2)?;
        let rates = rates(&self.readings[first], &self.readings[first + 1]);
        (rates.writes <= MOST_WRITES_PER_SECOND).then_some(rates)
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
        Some(rates(first, last)).filter(|rates| rates.writes <= MOST_WRITES_PER_SECOND)
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
        sent_bytes: last.sent_bytes.saturating_sub(first.sent_bytes) as f64 / seconds,
    }
}
