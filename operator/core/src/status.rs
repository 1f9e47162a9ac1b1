//! The status of a ChannelCluster from what was observed and decided, and whether it is worth writing.

use std::collections::BTreeMap;

use crds::{
    ChannelClusterStatus, MAX_STATUS_DECISIONS, MAX_STATUS_NODES, NodeStatus, ScalingDecision, Totals,
};
use node_core::admin::{Gauges, NodePhase};

use crate::conditions::conditions;
use crate::contest;
use crate::operations::arbiter::{running, running_mut};
use crate::samples::Rates;
use crate::timestamp::time;
use crate::tuning;
use crate::view::{NodeSeen, View, count};

/// When only figures differ, a status is written at most so often, in milliseconds.
pub const FIGURES_MILLIS: u64 = 15_000;
/// When only words differ, such as the rule of a decision that changes nothing, a status is written at most so often,
/// in milliseconds: a change each 2 s is for the log, and costs the API server 6 writes a minute at most. The reasons
/// of Ready, Reconciling and Stalled count as facts: they say what is missing.
pub const WORDS_MILLIS: u64 = 10_000;

/// Most bytes of a text that comes from a node.
const MAX_TEXT: usize = 160;

/// The whole status.
#[must_use]
pub fn compute(view: &View<'_>) -> ChannelClusterStatus {
    let conditions = conditions(view);
    let observed = view.observed_generation();
    let reason = reason(view, &conditions);
    ChannelClusterStatus {
        observed_generation: observed,
        reason: Some(reason),
        conditions,
        replicas: Some(count(view.nodes.iter().filter(|n| !n.pod.terminating).count())),
        ready_replicas: Some(view.ready_nodes()),
        desired_replicas: view.decision.map(|d| d.desired).or(view.previous.desired_replicas),
        draining: Some(view.operation.map_or(0, |operation| count(running(operation).leaving()))),
        selector: Some(view.selector.to_owned()),
        node_image: view.node_image.map(str::to_owned),
        totals: Some(totals(view)),
        nodes: nodes(view),
        decisions: decisions(view),
        capacity: view.capacity.cloned(),
        operation: view.operation.cloned(),
        rollout: view.rollout.cloned(),
        moves: view.moves.cloned(),
        refused_sysctls: view.refused.cloned(),
        refused_user_ids: view.refused_ids.cloned(),
        sysctl_probes: view.tried.record.cloned(),
    }
}

/// In what a status differs from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// In nothing.
    Nothing,
    /// In figures.
    Figures,
    /// In the words about the same state.
    Words,
    /// In facts.
    Facts,
}

impl News {
    /// How long such a status waits after the last write, in milliseconds.
    #[must_use]
    pub const fn pause(self) -> u64 {
        match self {
            Self::Nothing => u64::MAX,
            Self::Figures => FIGURES_MILLIS,
            Self::Words => WORDS_MILLIS,
            Self::Facts => 0,
        }
    }
}

/// In what `next` differs from `last`.
#[must_use]
pub fn news(last: &ChannelClusterStatus, next: &ChannelClusterStatus) -> News {
    if last == next {
        return News::Nothing;
    }
    let (last, next) = (without_figures(last), without_figures(next));
    if last == next {
        return News::Figures;
    }
    if facts(last) == facts(next) { News::Words } else { News::Facts }
}

fn without_figures(status: &ChannelClusterStatus) -> ChannelClusterStatus {
    let mut status = status.clone();
    (status.totals, status.capacity) = (None, None);
    for node in &mut status.nodes {
        let NodeStatus {
            name: _,
            phase: _,
            last_answer,
            connections,
            rooms,
            writes_per_second,
            utilization_percent,
            nofile: _,
            sysctls: _,
        } = node;
        (*last_answer, *utilization_percent) = (None, None);
        (*connections, *rooms, *writes_per_second) = (None, None, None);
    }
    status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(operation) = &mut status.operation {
        running_mut(operation).clear_figures();
    }
    status
}

/// The status without its figures and words.
fn facts(mut status: ChannelClusterStatus) -> ChannelClusterStatus {
    (status.reason, status.nodes) = (None, Vec::new());
    if let Some(paused) = status.rollout.as_mut().and_then(|rollout| rollout.paused.as_mut()) {
        paused.message.clear();
    }
    for condition in &mut status.conditions {
        condition.message.clear();
        if !matches!(condition.type_.as_str(), "Ready" | "Reconciling" | "Stalled") {
            condition.reason.clear();
        }
    }
    status
}

fn reason(
    view: &View<'_>,
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> String {
    if let Some(ready) = conditions.iter().find(|c| c.type_ == "Ready" && c.status != "True") {
        return ready.reason.clone();
    }
    if view.paused {
        return "Paused".to_owned();
    }
    if let Some(operation) = view.operation {
        return running(operation).headline();
    }
    if let Some(hindrance) = view.hindrances.first() {
        return hindrance.reason.as_str().to_owned();
    }
    if view.contest.is_some() {
        return contest::REASON.to_owned();
    }
    view.decision.map_or_else(|| "Starting".to_owned(), |d| d.rule.as_str().to_owned())
}

#[allow(clippy::cast_possible_truncation, reason = "rounded figures for people")]
fn totals(view: &View<'_>) -> Totals {
    let sum = |of: fn(&Gauges) -> u64| {
        let known = view.nodes.iter().filter_map(|n| n.stats.as_ref());
        total(view, known.map(|stats| of(&stats.gauges)).reduce(u64::saturating_add)).map(signed)
    };
    let rate = |of: fn(Rates) -> f64| {
        total(view, view.nodes.iter().filter_map(|n| n.rates).map(of).reduce(|sum, rate| sum + rate))
    };
    let unknown = view.nodes.iter().filter(|n| n.runs && (n.stats.is_none() || n.rates.is_none()));
    let serving = view.nodes.iter().filter(|n| n.serves() && n.rates.is_some()).count();
    let serving = u32::try_from(serving).unwrap_or(u32::MAX);
    let writes = rate(|rates| rates.writes);
    Totals {
        unknown_nodes: Some(count(unknown.count())),
        connections: sum(|gauges| gauges.connections),
        rooms: sum(|gauges| gauges.rooms),
        writes_per_second: writes.map(|writes| writes.round() as i64),
        publishes_per_second: rate(|rates| rates.publishes).map(|publishes| publishes.round() as i64),
        utilization_percent: writes.and_then(|writes| view.sizing.utilization_percent(writes, serving)),
    }
}

/// A sum over the known nodes: 0 when no node runs, unknown when nodes run and none of them is known.
fn total<T: Default>(view: &View<'_>, sum: Option<T>) -> Option<T> {
    let nobody = !view.nodes.iter().any(|node| node.runs);
    sum.or_else(|| nobody.then(T::default))
}

fn nodes(view: &View<'_>) -> Vec<NodeStatus> {
    let mut nodes: Vec<_> = view.nodes.iter().map(|node| node_status(node, view)).collect();
    if nodes.len() > MAX_STATUS_NODES {
        // Unknown figures are not low ones: such nodes are shown before idle ones.
        let busy = |figure: Option<i64>| figure.unwrap_or(i64::MAX);
        nodes.sort_by_key(|n| std::cmp::Reverse((busy(n.writes_per_second), busy(n.connections))));
        nodes.truncate(MAX_STATUS_NODES);
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

#[allow(clippy::cast_possible_truncation, reason = "rounded figures for people")]
fn node_status(node: &NodeSeen, view: &View<'_>) -> NodeStatus {
    let draining = view.operation.is_some_and(|operation| running(operation).holds(&node.pod.uid));
    let phase = match &node.stats {
        _ if node.pod.terminating => "Terminating",
        _ if draining => "Draining",
        _ if node.pod.pending => "Pending",
        None => "Unknown",
        Some(stats) if matches!(stats.phase, NodePhase::Unready | NodePhase::Closing | NodePhase::Closed) => {
            "Draining"
        }
        Some(_) if node.pod.ready => "Serving",
        Some(_) => "Pending",
    };
    let stats = node.stats.as_ref();
    let gauges = stats.map(|s| &s.gauges);
    NodeStatus {
        name: node.pod.name.clone(),
        phase: phase.to_owned(),
        last_answer: node.last_at.filter(|_| stats.is_none()).map(time),
        connections: gauges.map(|g| signed(g.connections)),
        rooms: gauges.map(|g| signed(g.rooms)),
        writes_per_second: node.rates.map(|r| r.writes.round() as i64),
        utilization_percent: gauges.map(|g| (g.utilization * 100.0).round() as i32),
        nofile: gauges.map(|g| signed(g.nofile.soft)),
        sysctls: gauges.map(|g| short(tuning::differences(view.sysctls, &g.sysctls))).unwrap_or_default(),
    }
}

/// Bounds what a node can put into the status: an object that is too large could no longer be written.
fn short(mut texts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for text in texts.values_mut() {
        let end = (0..=MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
    }
    texts
}

/// The list of decisions, with this tick's in front if its count is another than that of the last one.
fn decisions(view: &View<'_>) -> Vec<ScalingDecision> {
    let mut decisions = view.previous.decisions.clone();
    let Some(decision) = view.decision else { return decisions };
    let before = decisions.first().map_or(view.current, |d| d.to);
    if decision.desired != before || (decisions.is_empty() && decision.desired != view.current) {
        decisions.insert(
            0,
            ScalingDecision {
                time: time(view.now),
                from: view.current,
                to: decision.desired,
                rule: decision.rule.as_str().to_owned(),
                message: decision.message.clone(),
                inputs: Some(decision.inputs.clone()),
            },
        );
        decisions.truncate(MAX_STATUS_DECISIONS);
    }
    decisions
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
