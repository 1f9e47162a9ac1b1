//! How many nodes there should be: a pure function of the load, the spec and the time.
//!
//! One [`State`] per cluster is fed at each tick and answers with a [`Decision`] and the rule that won:
//!
//! 1. The need for nodes is the largest of writes/s over a stable and a burst window, and connections, each over
//!    (capacity x target utilization). An unknown node counts as nothing when growing and as full (100 % of its
//!    capacity) when shrinking. Writes of messages that the bus delivered late are no burst.
//! 2. Inside the tolerance nothing changes. Shrinking asks for more: the nodes that stay must be below the target by
//!    the tolerance after they took over the load, so that a scale-in is never followed by a scale-out of the same
//!    load.
//! 3. While the bus is silent the count is only raised to the least count. The fleet does not shrink without fresh
//!    figures from two thirds of the ready nodes, while a node that serves does not hear the bus, during a burst and a
//!    stable window after it, before this process has watched for a stable window (a new leader knows no history), and
//!    for a stable window after a gap (a pause).
//! 4. The count is kept within `nodes.min`, `nodes.max` and the floor from `targetConnections`.
//! 5. Stabilization and policies work as those of HorizontalPodAutoscaler v2 ([`behavior`]); as there, they do not
//!    hold a fleet below its least count.

use std::collections::VecDeque;

use crds::AutoscalingMode;

use crate::capacity::{self, Sizing};
use crate::samples::{FleetPoint, FleetSeries, MAX_POINT_MILLIS, NodeLoad};
use crate::validate::{Pace, ValidatedCluster};

pub mod behavior;
mod rule;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use rule::Rule;

/// How far from the target nothing is done, as a fraction (HorizontalPodAutoscaler's default).
pub const TOLERANCE: f64 = 0.1;
/// Most recommendations kept: an hour (the longest stabilization window) at one each 2 s.
const MAX_RECOMMENDATIONS: usize = 1_800;
/// Most changes kept for the policies.
const MAX_CHANGES: usize = 1_800;

/// What a message says of nodes without figures.
const UNKNOWN_FULL: &str = " with unknown nodes taken to be full";

/// What a cluster's spec says about its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether the load decides, or `nodes.replicas`.
    pub mode: AutoscalingMode,
    /// Node count given by the user for the modes `Manual` and `Observe`.
    pub manual: Option<i32>,
    /// Fewest nodes.
    pub min: i32,
    /// Most nodes.
    pub max: i32,
    /// Nodes that `targetConnections` needs.
    pub floor: i32,
    /// The connections that `floor` is for.
    pub target_connections: u64,
    /// What a node carries.
    pub sizing: Sizing,
    /// Stable window in milliseconds.
    pub stable: u64,
    /// Burst window in milliseconds.
    pub burst: u64,
    /// Pace of growth.
    pub up: Pace,
    /// Pace of shrinking.
    pub down: Pace,
}

impl Settings {
    /// Reads the settings of a checked cluster.
    #[must_use]
    pub fn of(cluster: &ValidatedCluster) -> Self {
        let scaling = &cluster.scaling;
        Self {
            mode: scaling.mode,
            manual: cluster.bounds.replicas,
            min: cluster.bounds.min,
            max: cluster.bounds.max,
            floor: capacity::floor(cluster.target_connections, cluster.capacity.connections),
            target_connections: cluster.target_connections,
            sizing: Sizing::of(cluster),
            stable: behavior::millis(scaling.stable),
            burst: behavior::millis(scaling.burst),
            up: scaling.up.clone(),
            down: scaling.down.clone(),
        }
    }

    /// Node count of a Deployment that does not exist. `last` is what was wanted last: when a user deletes the
    /// Deployment of a large fleet, all its clients come back at once.
    #[must_use]
    pub fn initial(&self, last: Option<i32>) -> i32 {
        match (self.mode, self.manual) {
            (AutoscalingMode::Manual | AutoscalingMode::Observe, Some(replicas)) => replicas,
            _ => self.floor.max(last.unwrap_or(0)).clamp(self.min, self.max),
        }
    }
}

/// What was observed at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Milliseconds.
    pub now: u64,
    /// Nodes that are there to stay: the Deployment's replicas without one that is being drained.
    pub current: i32,
    /// The Deployment's replicas.
    pub replicas: i32,
    /// The nodes that run, draining ones included.
    pub nodes: &'a [NodeLoad],
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Nodes that there should be.
    pub desired: i32,
    /// The rule that won.
    pub rule: Rule,
    /// The arithmetic in a sentence.
    pub message: String,
    /// The bound that held the count back, if one did.
    pub limited: Option<Rule>,
    /// Whether enough nodes are known to shrink.
    pub quorum: bool,
    /// Whether every node that serves hears the others, in time, as far as is known.
    pub heard: bool,
}

/// What one cluster's autoscaler remembers.
#[derive(Clone, Debug)]
pub struct State {
    fleet: FleetSeries,
    started: u64,
    burst_until: u64,
    recommendations: VecDeque<(u64, i32)>,
    changes: VecDeque<(u64, i32)>,
    last_current: i32,
    /// The bound that held the count back, with its number of nodes, and when it last did so.
    limit: Option<(u64, Rule, i32)>,
}

/// A need for nodes, with its reason.
struct Need {
    nodes: f64,
    rule: Rule,
    message: String,
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
        let Inputs { now, current, replicas, nodes } = inputs;
        let point = FleetPoint::of(nodes, now);
        if self.fleet.last().is_some_and(|last| now.saturating_sub(last.at) > MAX_POINT_MILLIS) {
            // After a gap this begins as a new leader does: the history from before it says nothing of the time
            // since.
            self.started = now;
            behavior::remember(&mut self.recommendations, MAX_RECOMMENDATIONS, (now, current));
        }
        self.fleet.push(point);
        if current != self.last_current {
            behavior::remember(&mut self.changes, MAX_CHANGES, (now, current - self.last_current));
            self.last_current = current;
        }
        let wanted = self.decide(settings, point, now, current);
        if settings.mode == AutoscalingMode::Auto {
            return wanted;
        }
        manual(settings, replicas, &wanted)
    }

    fn decide(&mut self, settings: &Settings, point: FleetPoint, now: u64, current: i32) -> Decision {
        let needs = self.needs(settings, point, now);
        let (desired, rule, message) = self.recommend(settings.stable, &needs, point, now, current);
        let (desired, rule, message, limited) = bound(settings, desired, rule, message);
        let (desired, rule, message) = self.hold(settings, point, now, current, (desired, rule, message));
        let limited = self.limit(settings, limited, point, now);
        behavior::remember(&mut self.recommendations, MAX_RECOMMENDATIONS, (now, desired));
        let pace = (&settings.up, &settings.down);
        let stable = behavior::stabilize(current, desired, self.recommendations.make_contiguous(), pace, now);
        let (quorum, heard) = (point.quorum(), !point.bus_impaired());
        let mut decision = Decision { desired, rule, message, limited, quorum, heard };
        if stable != desired {
            decision.message = format!(
                "{} wanted {desired}, held at {stable} by the stabilization window: {}",
                decision.rule, decision.message
            );
            (decision.desired, decision.rule) = (stable, Rule::StabilizationWindow);
        }
        let paced = behavior::pace(current, decision.desired, self.changes.make_contiguous(), pace, now);
        if paced != decision.desired {
            let rule = if paced < decision.desired { Rule::ScaleUpPolicy } else { Rule::ScaleDownPolicy };
            decision.message =
                format!("{} nodes wanted, {paced} allowed now: {}", decision.desired, decision.message);
            (decision.desired, decision.rule) = (paced, rule);
        }
        if let Some((desired, rule, message)) = raise(settings, decision.desired, &decision.message) {
            (decision.desired, decision.rule, decision.message) = (desired, rule, message);
        }
        decision
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

    fn needs(&self, settings: &Settings, point: FleetPoint, now: u64) -> Needs {
        let Sizing { writes_per_second, connections, target_percent } = settings.sizing;
        let per_node = settings.sizing.target_writes();
        let all: fn(&FleetPoint) -> f64 = |point| point.writes_per_second;
        let timely: fn(&FleetPoint) -> f64 = |point| point.timely_per_second;
        let (mut grow, mut shrink) = (Vec::with_capacity(2), Vec::with_capacity(2));
        let mut writes = |rule, window: u64, of: fn(&FleetPoint) -> f64| {
            let Some(average) = self.fleet.average(of, window, writes_per_second, now) else { return };
            let sentence = |writes: f64, unknown: &str| {
                format!(
                    "{writes:.0} writes/s over {} s{unknown} need {:.2} nodes of {writes_per_second:.0} writes/s at {target_percent} %",
                    window.div_ceil(1_000),
                    writes / per_node,
                )
            };
            let message = sentence(average.known, "");
            grow.push(Need { nodes: average.known / per_node, rule, message });
            let unknown = if average.presumed > average.known { UNKNOWN_FULL } else { "" };
            let message = sentence(average.presumed, unknown);
            // The burst window alone never shrinks the fleet; when it keeps the fleet from shrinking, the rule named
            // is that of writes/s.
            shrink.push(Need { nodes: average.presumed / per_node, rule: Rule::WritesPerSecond, message });
        };
        // Writes that the bus delivers late were due earlier. A stable window that was watched from its beginning
        // counts them as load of its own time; in one that was watched for less, they may belong to the time before
        // it.
        let whole = now.saturating_sub(self.started) >= settings.stable;
        let carried = if whole { all } else { timely };
        writes(Rule::WritesPerSecond, settings.stable, carried);
        writes(Rule::WritesPerSecondBurst, settings.burst, timely);
        let per_node = settings.sizing.target_connections();
        let need = |held: f64, unknown: &str| Need {
            nodes: held / per_node,
            rule: Rule::Connections,
            message: format!(
                "{held:.0} connections{unknown} need {:.2} nodes of {connections:.0} connections at {target_percent} %",
                held / per_node
            ),
        };
        let presumed = point.connections + f64::from(point.unknown_connections) * connections;
        let unknown = if point.unknown_connections > 0 { UNKNOWN_FULL } else { "" };
        Needs {
            grow: Kinds { writes: grow, connections: need(point.connections, "") },
            shrink: Kinds { writes: shrink, connections: need(presumed, unknown) },
        }
    }

    /// What the load asks for, without bounds.
    fn recommend(
        &mut self,
        stable: u64,
        needs: &Needs,
        point: FleetPoint,
        now: u64,
        current: i32,
    ) -> (i32, Rule, String) {
        if point.bus_silent() {
            let message = format!(
                "{} of {} nodes do not hear the backplane: what they write says nothing of the load",
                point.lost_bus, point.on_bus
            );
            return (current, Rule::BackplaneSilent, message);
        }
        let enough = f64::from(current) * (1.0 + TOLERANCE);
        let burst =
            needs.grow.writes.iter().any(|n| n.rule == Rule::WritesPerSecondBurst && n.nodes > enough);
        if burst {
            self.burst_until = now + stable;
        }
        let top = needs.grow.most();
        if top.nodes > enough {
            let nodes = capacity::whole(top.nodes);
            return (nodes, top.rule, format!("{}: {nodes}", top.message));
        }
        if point.fresh == 0 {
            let message = format!("no fresh figures from any of {} ready nodes", point.ready);
            return (current, Rule::MetricsMissing, message);
        }
        // This leaves so many nodes that the load on them is below the target by the tolerance.
        let most = needs.shrink.most();
        let fewer = capacity::whole(most.nodes / (1.0 - TOLERANCE)).max(1);
        if fewer < current {
            return (fewer, most.rule, format!("{}; {fewer} keep below the target", most.message));
        }
        if capacity::whole(top.nodes / (1.0 - TOLERANCE)).max(1) < current {
            let message = format!("{}: not shrinking on what is not known", most.message);
            return (current, Rule::MetricsMissing, message);
        }
        (current, Rule::WithinTolerance, format!("{}; {current} are right", top.message))
    }

    /// Refuses to shrink while too little is known.
    fn hold(
        &self,
        settings: &Settings,
        point: FleetPoint,
        now: u64,
        current: i32,
        (desired, rule, message): (i32, Rule, String),
    ) -> (i32, Rule, String) {
        if desired >= current {
            return (desired, rule, message);
        }
        if !point.quorum() {
            let message = format!(
                "fresh figures from {} of {} ready nodes, fewer than two thirds: not shrinking",
                point.fresh, point.ready
            );
            return (current, Rule::MetricsMissing, message);
        }
        if point.bus_impaired() {
            let message = format!(
                "{} of {} nodes do not hear the backplane, {} hear it late: not shrinking",
                point.lost_bus, point.on_bus, point.late_bus
            );
            return (current, Rule::BackplaneSilent, message);
        }
        if now < self.burst_until {
            let left = (self.burst_until - now).div_ceil(1_000);
            return (
                current,
                Rule::BurstCooldown,
                format!("a burst ended lately, not shrinking for {left} s: {message}"),
            );
        }
        let known_since = now.saturating_sub(self.started);
        if known_since < settings.stable {
            let left = (settings.stable - known_since).div_ceil(1_000);
            return (
                current,
                Rule::Warmup,
                format!("history is too short to shrink for {left} s: {message}"),
            );
        }
        (desired, rule, message)
    }
}

struct Needs {
    /// The needs by the known figures alone.
    grow: Kinds,
    /// The needs with a presumed load for each unknown node.
    shrink: Kinds,
}

struct Kinds {
    writes: Vec<Need>,
    connections: Need,
}

impl Kinds {
    /// The largest need; the first of equal ones, because the stable window explains a count better than the burst
    /// window does.
    fn most(&self) -> &Need {
        let mut needs = self.writes.iter().chain([&self.connections]);
        let first = needs.next().unwrap_or(&self.connections);
        needs.fold(first, |best, need| if need.nodes > best.nodes * 1.001 { need } else { best })
    }
}

/// The least count, and where it comes from.
fn least(settings: &Settings) -> (i32, Rule) {
    let Settings { min, max, floor, .. } = *settings;
    let rule = if floor > min { Rule::TargetConnectionsFloor } else { Rule::MinNodes };
    (floor.max(min).min(max), rule)
}

/// The least count, where `desired` is lower.
fn raise(settings: &Settings, desired: i32, message: &str) -> Option<(i32, Rule, String)> {
    let Settings { min, floor, target_connections, .. } = *settings;
    let (least, rule) = least(settings);
    let why = match rule {
        Rule::TargetConnectionsFloor => format!(
            "targetConnections {target_connections} needs {floor} nodes of {:.0} connections",
            settings.sizing.connections
        ),
        _ => format!("nodes.min is {min}"),
    };
    (desired < least).then(|| (least, rule, format!("{why}: {message}")))
}

/// Applies `targetConnections`, `nodes.min` and `nodes.max`.
fn bound(
    settings: &Settings,
    desired: i32,
    rule: Rule,
    message: String,
) -> (i32, Rule, String, Option<Rule>) {
    if let Some((least, rule, message)) = raise(settings, desired, &message) {
        return (least, rule, message, Some(rule));
    }
    let max = settings.max;
    if desired > max {
        return (max, Rule::MaxNodes, format!("nodes.max is {max}: {message}"), Some(Rule::MaxNodes));
    }
    (desired, rule, message, None)
}

/// The decision in the modes `Manual` and `Observe`, in which the user's number counts. Without a number the replicas
/// stay as they are, and a drain that the operator began before is taken back.
fn manual(settings: &Settings, replicas: i32, wanted: &Decision) -> Decision {
    let desired = settings.manual.unwrap_or(replicas.max(1));
    let (rule, message) = match settings.mode {
        AutoscalingMode::Observe => (
            Rule::Observe,
            format!("observing only; would be {} ({}): {}", wanted.desired, wanted.rule, wanted.message),
        ),
        _ => (Rule::Manual, format!("autoscaling.mode is Manual, nodes.replicas decides: {desired}")),
    };
    Decision { desired, rule, message, limited: None, quorum: wanted.quorum, heard: wanted.heard }
}
