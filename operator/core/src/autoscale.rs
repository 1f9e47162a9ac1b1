//! How many nodes there should be: a pure function of the load, the spec and the time.
//!
//! One [`State`] per cluster is fed at each tick. It sums up what was seen, now and before, in a [`DecisionInputs`], of which
//! [`judge`] makes a [`Decision`] with the rule that won. The status records the inputs of a decision with it, so that the
//! same code explains it later:
//!
//! 1. The need for nodes is the largest of writes/s over a stable and a burst window, and connections, each over
//!    (capacity x target utilization). A load that two looks in a row show counts in the burst window at once. Writes of
//!    messages that the bus delivered late are no burst.
//! 2. What a full node delivers is no measure of what is asked of it: when growing it counts as a whole capacity, and at
//!    most as one node more than it delivers ([`crate::heat`]), unless more was seen to be asked of it before its queues were
//!    full, or is asked for by as many clients elsewhere ([`crate::samples`]); when shrinking it is full. A node without
//!    figures counts as a node at its target when growing, or as the others if they carry more, and as full when shrinking.
//! 3. Inside the tolerance nothing changes. Shrinking asks for more: the nodes that stay must be below the target by
//!    the tolerance after they took over the load, so that a scale-in is never followed by a scale-out of the same
//!    load; and none of them may be hot, or become it ([`room`]).
//! 4. While the bus is silent the count is only raised to the least count. The fleet does not shrink without fresh
//!    figures from two thirds of the ready nodes, while a node that serves does not hear the bus, during a burst and a
//!    stable window after it, before this process has watched for a stable window (a new leader knows no history), and
//!    for a stable window after a gap (a pause).
//! 5. Stabilization and policies work as those of HorizontalPodAutoscaler v2 ([`behavior`]). As there, recommendations are
//!    remembered as they were before the bounds, so that a bound that is changed acts at once.
//! 6. Annotations hold one direction ([`crate::holds`]).
//! 7. `nodes.min`, `nodes.max` and the floors from `targetConnections` and the schedule have the last word.

use std::collections::VecDeque;

use crds::{AutoscalingMode, DecisionInputs, WindowLoad};

use crate::capacity::Sizing;
use crate::samples::{FleetPoint, FleetSeries, MAX_POINT_MILLIS};
use crate::schedule;

pub mod behavior;
mod judge;
mod room;
mod rule;
mod settings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;

pub use judge::{Decision, Judgement, judge};
pub use room::fits;
pub use rule::Rule;
pub use settings::{Inputs, Settings};

/// How far from the target nothing is done, as a fraction (HorizontalPodAutoscaler's default).
pub const TOLERANCE: f64 = 0.1;

/// What one cluster's autoscaler remembers.
#[derive(Clone, Debug)]
pub struct State {
    fleet: FleetSeries,
    started: u64,
    burst_until: u64,
    recommendations: VecDeque<(u64, i32)>,
    changes: VecDeque<(u64, i32)>,
    last_current: i32,
    /// The stable window and the longest stabilization at the last look, in milliseconds.
    watched: (u64, u64),
    /// The bound that held the count back, with its number of nodes, and when it last did so.
    limit: Option<(u64, Rule, i32)>,
}

impl State {
    /// Begins without history at `now` with `current` nodes; the first recommendation is to leave it so.
    #[must_use]
    pub fn new(now: u64, current: i32) -> Self {
        Self {
            fleet: FleetSeries::default(),
            started: now,
            burst_until: 0,
            recommendations: VecDeque::from([(now, current)]),
            changes: VecDeque::new(),
            last_current: current,
            watched: (0, 0),
            limit: None,
        }
    }

    /// The fleet's recent load.
    #[must_use]
    pub fn fleet(&self) -> &FleetSeries {
        &self.fleet
    }

    /// Decides the node count at one tick.
    pub fn step(&mut self, settings: &Settings, inputs: Inputs<'_>) -> Decision {
        let now = inputs.now;
        let point = FleetPoint::of(inputs.nodes, &settings.sizing, now);
        self.watch(settings, point, inputs.current);
        let judged = judge(&self.inputs(settings, inputs, point));
        if judged.burst {
            self.burst_until = now + settings.stable;
        }
        behavior::remember(&mut self.recommendations, settings.stabilization(), (now, judged.recommended));
        let mut decision = judged.decision;
        if settings.mode == AutoscalingMode::Auto {
            decision.limited = self.limit(settings, decision.limited, point, now);
        }
        decision
    }

    /// Takes what was seen at one tick.
    fn watch(&mut self, settings: &Settings, point: FleetPoint, current: i32) {
        let now = point.at;
        let longer = settings.stable > self.watched.0 || settings.stabilization() > self.watched.1;
        self.watched = (settings.stable, settings.stabilization());
        let last = self.fleet.last().map(|last| last.at);
        if last.is_some_and(|last| now < last) {
            // The clock went back: nothing that was remembered can be told from what is still to come.
            *self = Self::new(now, current);
        } else if last.is_some_and(|last| longer || now - last > MAX_POINT_MILLIS) {
            // After a gap this begins as a new leader does: the history from before it says nothing of the time
            // since. So it does when the windows become longer: only as much is kept as they need.
            self.started = now;
            behavior::remember(&mut self.recommendations, settings.stabilization(), (now, current));
        }
        self.fleet.push(point, settings.stable);
        if current != self.last_current {
            behavior::remember(
                &mut self.changes,
                settings.longest_period(),
                (now, current - self.last_current),
            );
            self.last_current = current;
        }
    }

    /// Sums up everything that the decision of this tick depends on.
    fn inputs(&self, settings: &Settings, inputs: Inputs<'_>, point: FleetPoint) -> DecisionInputs {
        let Inputs { now, current, replicas, nodes } = inputs;
        let Sizing { writes_per_second, connections, target_percent } = settings.sizing;
        let pace = (&settings.up, &settings.down);
        let (least_recommended, most_recommended) = behavior::extremes(&self.recommendations, pace, now);
        let (up_limit, down_limit) = behavior::limits(current, &self.changes, pace, now);
        let warmup = (self.started + settings.stable).saturating_sub(now);
        let presumed = point.connections + f64::from(point.unknown_connections) * connections;
        DecisionInputs {
            mode: settings.mode,
            manual: settings.manual,
            min: settings.min,
            max: settings.max,
            floor: settings.floor,
            target_connections: signed(settings.target_connections),
            node_writes_per_second: whole(writes_per_second),
            learned: settings.learned.clone(),
            node_connections: whole(connections),
            derived: settings.derived.clone(),
            target_percent: target_percent.cast_signed(),
            current,
            replicas,
            ready: point.ready.cast_signed(),
            fresh: point.fresh.cast_signed(),
            on_bus: point.on_bus.cast_signed(),
            lost_bus: point.lost_bus.cast_signed(),
            late_bus: point.late_bus.cast_signed(),
            hot: point.hot.cast_signed(),
            hot_reason: point.heat.map(|heat| heat.as_str().to_owned()),
            stable: self.stable(settings, now),
            burst: self.burst(settings, now),
            connections: whole(point.connections),
            presumed_connections: whole(presumed),
            fits: fits(nodes, &settings.sizing, current),
            burst_left_millis: signed(self.burst_until.saturating_sub(now)),
            warmup_left_millis: signed(warmup),
            least_recommended,
            most_recommended,
            up_limit,
            down_limit,
            scheduled: settings.scheduled().map_or(0, |now| now.min_nodes),
            schedule: settings.scheduled().map(schedule::Now::sentence),
            scale_in_paused: settings.holds.scale_in,
            scale_out_paused: settings.holds.scale_out,
        }
    }

    /// The load over the stable window.
    fn stable(&self, settings: &Settings, now: u64) -> Option<WindowLoad> {
        // Writes that the bus delivers late were due earlier. A stable window that was watched from its beginning
        // counts them as load of its own time; in one that was watched for less, they may belong to the time before
        // it.
        let watched = now.saturating_sub(self.started) >= settings.stable;
        let carried =
            |point: &FleetPoint| if watched { point.writes_per_second } else { point.timely_per_second };
        let (full, target) = (settings.sizing.writes_per_second, settings.sizing.target_writes());
        let mean = |of: &dyn Fn(&FleetPoint) -> f64| self.fleet.average(of, settings.stable, now);
        let presumed = |point: &FleetPoint| {
            carried(point) + point.full_per_second + f64::from(point.unknown_writes) * full
        };
        Some(WindowLoad {
            millis: signed(settings.stable),
            writes: whole(mean(&carried)?),
            hidden: whole(mean(&|point| point.hidden_per_second)?),
            // In a short history a node that has just come, or died, weighs as much as one that is silent for long.
            silent: if watched { whole(mean(&|point| f64::from(point.silent) * target)?) } else { 0 },
            presumed: if remembers(settings) { 0 } else { whole(mean(&presumed)?) },
        })
    }

    /// The load over the burst window, or at the last two looks if that is more: an average over the window would ask for
    /// a jump one node at a time, while what was before the jump leaves the window.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn burst(&self, settings: &Settings, now: u64) -> Option<WindowLoad> {
        let full = settings.sizing.writes_per_second;
        let level = |of: &dyn Fn(&FleetPoint) -> f64| {
            let mean = self.fleet.average(of, settings.burst, now)?;
            Some(whole(self.fleet.confirmed(of).map_or(mean, |confirmed| confirmed.max(mean))))
        };
        let presumed = |point: &FleetPoint| {
            point.timely_per_second + point.full_per_second + f64::from(point.unknown_writes) * full
        };
        // One look alone is no level: it would hold the count for as long as the window of shrinking remembers it.
        let lately =
            |of: &dyn Fn(&FleetPoint) -> f64| self.fleet.confirmed(of).or_else(|| self.fleet.last().map(of));
        // That a node is saturated takes two answers already.
        let hidden = self.fleet.average(|point| point.hidden_per_second, settings.burst, now)?;
        let hidden = hidden.max(self.fleet.last().map_or(0.0, |last| last.hidden_per_second));
        // What a node is asked for beyond what it delivered at the last look may be part of what looks before it showed.
        let writes = level(&|point| point.timely_per_second)?;
        let last = self.fleet.last().map_or(0.0, |last| last.timely_per_second);
        let hidden = (hidden - (writes as f64 - last).max(0.0)).max(0.0);
        // Nodes that were silent all the time carry what the others carry, when that is more than their target.
        let each = |point: &FleetPoint| {
            (point.timely_per_second + point.hidden_per_second) / f64::from(point.fresh.max(1))
        };
        let each = self.fleet.confirmed(each).filter(|each| *each > settings.sizing.target_writes());
        let watched = now.saturating_sub(self.started) >= settings.stable;
        let silent = self.fleet.average(|point| f64::from(point.silent), settings.stable, now);
        let silent = each.zip(silent).filter(|_| watched).map_or(0.0, |(each, silent)| each * silent);
        Some(WindowLoad {
            millis: signed(settings.burst),
            writes,
            hidden: whole(hidden),
            silent: whole(silent),
            presumed: if remembers(settings) { whole(lately(&presumed)?) } else { level(&presumed)? },
        })
    }

    /// The bound that holds the count back now or did so within the last stable window. Without that window a load
    /// that goes up and down around a bound would change the status every few seconds. A look at too few known nodes
    /// changes nothing.
    fn limit(
        &mut self,
        settings: &Settings,
        limited: Option<Rule>,
        point: FleetPoint,
        now: u64,
    ) -> Option<Rule> {
        let bound = |rule| match rule {
            Rule::MaxNodes => settings.max,
            Rule::MinNodes => settings.min,
            Rule::Schedule => settings.scheduled().map_or(0, |now| now.min_nodes),
            _ => settings.floor,
        };
        self.limit = self.limit.filter(|&(_, rule, at)| bound(rule) == at);
        let sure = !point.bus_silent() && (limited == Some(Rule::MaxNodes) || point.quorum());
        match limited {
            _ if !sure => {}
            Some(rule) => self.limit = Some((now, rule, bound(rule))),
            None => self.limit = self.limit.filter(|(at, ..)| now.saturating_sub(*at) < settings.stable),
        }
        self.limit.map(|(_, rule, _)| rule)
    }
}

/// Whether the window of shrinking remembers the highest load of a stable window by itself. Then the averages have no part in
/// shrinking: while a load that has gone leaves an average, the count would go down in many steps, and each would send
/// clients to the nodes that leave with the next.
fn remembers(settings: &Settings) -> bool {
    behavior::millis(settings.down.stabilization) >= settings.stable
}

/// A figure as it is recorded.
#[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
fn whole(figure: f64) -> i64 {
    figure.round() as i64
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
