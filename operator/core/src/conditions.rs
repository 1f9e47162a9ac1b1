//! The conditions of a ChannelCluster: the three of kstatus (Ready, Reconciling, Stalled) and one per thing that a
//! person asks about. Messages carry no figures that change by the second, so that a condition changes only when it
//! means something else. A condition that is measured turns bad at once and good again only after [`DWELL_MILLIS`].

use crds::{AutoscalingMode, DecisionInputs, Operation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::autoscale::Rule;
use crate::backplane::Hearing;
use crate::contest;
use crate::hindrance::{self, Reason, sentences};
use crate::holds::Holds;
use crate::operations::arbiter::running;
use crate::operations::evenness::Balance;
use crate::refused;
use crate::source::Figures;
use crate::sysctl_probes;
use crate::timestamp::time;
use crate::tuning;
use crate::user_ids;
use crate::view::{NodeSeen, Outcome, View};

/// Most bytes of a message; a node's words may be in it.
const MAX_MESSAGE: usize = 1_024;
/// When pods have been kept from starting for so long, in milliseconds, the fleet is Stalled: the hindrance will
/// hardly go by itself. Within this time, mostly, an image of 1 GB is pulled and an autoscaler adds a machine.
const STALL_MILLIS: u64 = 120_000;

/// For how long a condition that is measured stays bad at least, in milliseconds: seven looks. A fault that comes and
/// goes within that time shows as one bad state.
pub const DWELL_MILLIS: u64 = 15_000;
/// Reasons that are measured and may come and go. How a node hears the bus does not flicker: see
/// [`crate::samples::SETTLE_MILLIS`].
const MEASURED: [&str; 2] = [METRICS_MISSING, NO_FIGURES];
/// The condition that nodes are hot; it is bad when it is True, and everything about it is measured.
pub const HOT_NODES: &str = "HotNodes";
/// Most hot nodes that its message names.
const MAX_HOT_NAMED: usize = 10;
const BACKPLANE_DISCONNECTED: &str = "BackplaneDisconnected";
const BACKPLANE_LATE: &str = "BackplaneLate";
const BACKPLANE_SILENT: &str = "BackplaneSilent";
const METRICS_MISSING: &str = "MetricsMissing";
const NO_FIGURES: &str = "NoFigures";
const NOBODY_ANSWERS: &str = "no ready node answers the operator";

/// One condition before its times are known.
struct Draft {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl Draft {
    fn new(
        kind: &'static str,
        status: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

/// All conditions, in a fixed order. A transition time is kept while the status value stays.
#[must_use]
pub fn conditions(view: &View<'_>) -> Vec<Condition> {
    let drafts = [
        ready(view),
        reconciling(view),
        stalled(view),
        available(view),
        backplane_healthy(view),
        scaling_active(view),
        scaling_limited(view),
        metrics_fresh(view),
        hot_nodes(view),
        tuning_applied(view),
        draining(view.operation),
        rollout_paused(view),
        rebalance_needed(view.balance),
    ];
    drafts.into_iter().map(|draft| dated(draft, view)).collect()
}

/// The condition of an object at first sight: without it kstatus takes an object without status for a finished one.
#[must_use]
pub fn first_sight(generation: i64, now: u64) -> Vec<Condition> {
    vec![Condition {
        type_: "Ready".to_owned(),
        status: "Unknown".to_owned(),
        reason: "FirstSight".to_owned(),
        message: "seen, not looked at yet".to_owned(),
        observed_generation: Some(generation),
        last_transition_time: time(now),
    }]
}

fn dated(draft: Draft, view: &View<'_>) -> Condition {
    let draft = dwelling(draft, view);
    let before = view.previous.conditions.iter().find(|c| c.type_ == draft.kind && c.status == draft.status);
    let mut message = draft.message;
    if let Some(end) = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at))
        && message.len() > end
    {
        message.truncate(end);
    }
    Condition {
        type_: draft.kind.to_owned(),
        status: draft.status.to_owned(),
        reason: draft.reason,
        message,
        observed_generation: view.observed_generation(),
        last_transition_time: before.map_or_else(|| time(view.now), |c| c.last_transition_time.clone()),
    }
}

/// Whether a status of a condition is a bad one.
fn is_bad(kind: &str, status: &str) -> bool {
    (status == "True") == (kind == HOT_NODES)
}

/// The condition as it was before, if it was bad for a measured reason and has not been bad for [`DWELL_MILLIS`] yet. A
/// transition time in the future is that of an operator whose clock was ahead, and says nothing.
fn dwelling(draft: Draft, view: &View<'_>) -> Draft {
    let before = view.previous.conditions.iter().find(|c| c.type_ == draft.kind);
    let measured = |reason: &str| draft.kind == HOT_NODES || MEASURED.contains(&reason);
    let Some(bad) = before.filter(|before| {
        is_bad(draft.kind, &before.status) && !is_bad(draft.kind, draft.status) && measured(&before.reason)
    }) else {
        return draft;
    };
    let since = u64::try_from(bad.last_transition_time.0.as_millisecond()).unwrap_or_default();
    if view.now.checked_sub(since).is_none_or(|age| age >= DWELL_MILLIS) {
        return draft;
    }
    let status = ["True", "False"].into_iter().find(|status| *status == bad.status).unwrap_or("Unknown");
    Draft::new(draft.kind, status, bad.reason.clone(), bad.message.clone())
}

fn blocked(view: &View<'_>) -> Option<(&'static str, String)> {
    match view.outcome {
        Outcome::Invalid(problems) => {
            let reason = problems.first().map_or("InvalidSpec", |p| p.reason);
            let all: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
            Some((reason, all.join("; ")))
        }
        Outcome::Conflict(message) => Some(("NameConflict", message.clone())),
        Outcome::Refused(message) => Some(("Refused", message.clone())),
        Outcome::Pending | Outcome::Applied | Outcome::Failed(_) => None,
    }
}

fn ready(view: &View<'_>) -> Draft {
    let ready = view.ready_nodes();
    if let Some((reason, message)) = blocked(view) {
        return Draft::new("Ready", "False", reason, message);
    }
    if let Outcome::Failed(message) = view.outcome
        && view.previous.observed_generation != Some(view.generation)
    {
        return Draft::new("Ready", "False", "ApplyFailed", message.clone());
    }
    let why = sentences(view.hindrances);
    let with_why = |text: String| if why.is_empty() { text } else { format!("{text}: {why}") };
    if view.serving_nodes() < view.min {
        let message = format!("{ready} of at least {} nodes are ready", view.min);
        if let Some(first) = view.hindrances.first() {
            return Draft::new("Ready", "False", first.reason.as_str(), with_why(message));
        }
        if let Some(node) = cut_off(view) {
            let message = format!("{message}: {node} has no connection to the backplane");
            return Draft::new("Ready", "False", BACKPLANE_DISCONNECTED, message);
        }
        return Draft::new("Ready", "False", "NodesNotReady", message);
    }
    if let Some(message) = unheard(view) {
        return Draft::new("Ready", "False", BACKPLANE_DISCONNECTED, with_why(message));
    }
    let serves = "the nodes serve and hear each other";
    let message = if why.is_empty() { serves.to_owned() } else { format!("{serves}, but {why}") };
    Draft::new("Ready", "True", "Serving", message)
}

/// The first node that says that it is not ready because it does not hear the backplane.
fn cut_off<'a>(view: &View<'a>) -> Option<&'a str> {
    let alone = |node: &&NodeSeen| node.hearing == Some(Hearing::Lost);
    let nodes = view.nodes.iter().filter(|n| !n.pod.ready && !n.pod.terminating);
    nodes.into_iter().find(alone).map(|node| node.pod.name.as_str())
}

/// The first hindrance, once pods have been hindered for long. The fleet is then stuck for as long as there is any
/// hindrance.
fn stuck<'a>(view: &View<'a>) -> Option<&'a hindrance::Hindrance> {
    let first = view.hindrances.first()?;
    let before = view.previous.conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True");
    let already = before.is_some_and(|c| Reason::parse(&c.reason).is_some());
    let long = view.hindered_since.is_some_and(|since| view.now.saturating_sub(since) >= STALL_MILLIS);
    (already || long).then_some(first)
}

fn reconciling(view: &View<'_>) -> Draft {
    if blocked(view).is_some() {
        return Draft::new("Reconciling", "False", "Stalled", "the Stalled condition says why");
    }
    match view.outcome {
        Outcome::Failed(message) => {
            return Draft::new("Reconciling", "True", "Retrying", message.clone());
        }
        Outcome::Pending => {
            return Draft::new("Reconciling", "True", "Applying", "the new spec is being applied");
        }
        _ => {}
    }
    if stuck(view).is_some() {
        return Draft::new("Reconciling", "False", "Stalled", "the Stalled condition says why");
    }
    if view.paused {
        let message = "spec.paused is set: the spec as it is now may not be applied, and nothing is scaled";
        return Draft::new("Reconciling", "False", "Paused", message);
    }
    if let Some(first) = view.hindrances.first() {
        return Draft::new("Reconciling", "True", first.reason.as_str(), sentences(view.hindrances));
    }
    if let Some(contest) = view.contest {
        return Draft::new("Reconciling", "True", contest::REASON, contest.sentence());
    }
    if !view.settled {
        return Draft::new(
            "Reconciling",
            "True",
            "RollingOut",
            "nodes of another template are being replaced",
        );
    }
    if view.serving_nodes() < view.min {
        return Draft::new("Reconciling", "True", "NodesStarting", "nodes are starting");
    }
    Draft::new("Reconciling", "False", "Settled", "everything is as the spec says")
}

fn stalled(view: &View<'_>) -> Draft {
    match blocked(view) {
        Some((reason, message)) => Draft::new("Stalled", "True", reason, message),
        None => match stuck(view) {
            Some(first) => Draft::new("Stalled", "True", first.reason.as_str(), sentences(view.hindrances)),
            None => Draft::new("Stalled", "False", "NoProblem", ""),
        },
    }
}

fn available(view: &View<'_>) -> Draft {
    if view.ready_nodes() == 0 {
        return Draft::new("Available", "False", "NoNodes", "no node is ready");
    }
    let message = match unheard(view) {
        Some(_) => "clients can connect; what they say does not reach the members on every other node",
        None => "clients can connect",
    };
    Draft::new("Available", "True", "NodesServing", message)
}

/// How many serving nodes hear the bus in the way `so`, and the name of one of them.
fn hearing<'a>(view: &View<'a>, so: Hearing) -> (usize, Option<&'a str>) {
    let mut nodes = view.nodes.iter().filter(|n| n.serves() && n.hearing == Some(so)).peekable();
    let first = nodes.peek().map(|node| node.pod.name.as_str());
    (nodes.count(), first)
}

/// A sentence about nodes that serve and do not hear the backplane.
fn unheard(view: &View<'_>) -> Option<String> {
    let (count, first) = hearing(view, Hearing::Lost);
    let others = match count {
        0 | 1 => String::new(),
        _ => format!(" and {} more", count - 1),
    };
    first.map(|name| {
        format!(
            "no connection to the backplane, or nothing comes over it: {name}{others} of {} nodes",
            view.ready_nodes()
        )
    })
}

fn backplane_healthy(view: &View<'_>) -> Draft {
    const KIND: &str = "BackplaneHealthy";
    if let Some(message) = unheard(view) {
        let message = format!("{message}; no scale-in meanwhile");
        return Draft::new(KIND, "False", BACKPLANE_DISCONNECTED, message);
    }
    if let (_, Some(name)) = hearing(view, Hearing::Late) {
        let message = format!("what other nodes publish reaches {name} late; no scale-in meanwhile");
        return Draft::new(KIND, "False", BACKPLANE_LATE, message);
    }
    if hearing(view, Hearing::Well).0 > 0 {
        return Draft::new(KIND, "True", "Heard", "every node that answers hears the others");
    }
    if hearing(view, Hearing::Unused).0 > 0 {
        return Draft::new(KIND, "True", "NotUsed", "there is no backplane");
    }
    Draft::new(KIND, "Unknown", NO_FIGURES, NOBODY_ANSWERS)
}

fn scaling_active(view: &View<'_>) -> Draft {
    if view.paused {
        return Draft::new("ScalingActive", "False", "Paused", "spec.paused is set");
    }
    match view.mode {
        AutoscalingMode::Manual => {
            Draft::new("ScalingActive", "False", "Manual", "nodes.replicas decides the node count")
        }
        AutoscalingMode::Observe => {
            Draft::new("ScalingActive", "False", "Observing", "decisions are shown and not acted on")
        }
        AutoscalingMode::Auto if blocked(view).is_some() => {
            Draft::new("ScalingActive", "False", "Stalled", "the Stalled condition says why")
        }
        AutoscalingMode::Auto => match view.decision {
            Some(decision) if !decision.heard => {
                let message = "not shrinking while a node does not hear the backplane, or late";
                Draft::new("ScalingActive", "False", BACKPLANE_SILENT, message)
            }
            Some(decision) if !decision.quorum => {
                Draft::new("ScalingActive", "False", METRICS_MISSING, "not shrinking on what is not known")
            }
            _ => deciding(view.holds),
        },
    }
}

/// The node count follows the load, in the directions that no annotation holds.
fn deciding(holds: Holds) -> Draft {
    let (status, reason, message) = match (holds.scale_in, holds.scale_out) {
        (false, false) => ("True", "Deciding", "the node count follows the load"),
        (true, false) => {
            ("True", "ScaleInPaused", "the annotation channelcluster.io/pause-scale-in holds scale-in")
        }
        (false, true) => {
            ("True", "ScaleOutPaused", "the annotation channelcluster.io/pause-scale-out holds scale-out")
        }
        (true, true) => (
            "False",
            "ScalingPaused",
            "the annotations channelcluster.io/pause-scale-in and pause-scale-out hold both directions",
        ),
    };
    Draft::new("ScalingActive", status, reason, message)
}

fn rollout_paused(view: &View<'_>) -> Draft {
    let rollout = view.rollout;
    if let Some(back) = rollout.and_then(|rollout| rollout.rolled_back.as_ref()) {
        return Draft::new("RolloutPaused", "True", "RolledBack", back.message.clone());
    }
    match rollout.and_then(|rollout| rollout.paused.as_ref()) {
        Some(paused) => Draft::new("RolloutPaused", "True", paused.reason.clone(), paused.message.clone()),
        None => Draft::new("RolloutPaused", "False", "NotPaused", ""),
    }
}

fn scaling_limited(view: &View<'_>) -> Draft {
    // Only connections that are derived can lead to this: the schema compares numbers.
    let inputs = view.decision.map(|decision| &decision.inputs).filter(|inputs| inputs.floor > inputs.max);
    if let Some(DecisionInputs { target_connections, floor, node_connections, max, .. }) = inputs {
        let message = format!(
            "targetConnections {target_connections} needs {floor} nodes of {node_connections} connections, and nodes.max is \
             {max}: raise it, or nodes.resources.limits.memory"
        );
        return Draft::new("ScalingLimited", "True", Rule::MaxNodes.as_str(), message);
    }
    match view.decision.and_then(|d| d.limited) {
        Some(rule) => {
            let message = match rule {
                Rule::MaxNodes => "the load wants more nodes than nodes.max",
                Rule::Schedule => "the load wants fewer nodes than autoscaling.schedule asks for now",
                Rule::MinNodes => "the load wants fewer nodes than nodes.min",
                _ => "the load wants fewer nodes than targetConnections needs",
            };
            Draft::new("ScalingLimited", "True", rule.as_str(), message)
        }
        None => Draft::new("ScalingLimited", "False", "WithinBounds", ""),
    }
}

fn metrics_fresh(view: &View<'_>) -> Draft {
    let ready = view.ready_nodes();
    if let Some(figures) = view.figures.filter(|_| ready > 0) {
        return prometheus_fresh(view, figures);
    }
    let fresh = view.nodes.iter().filter(|n| n.serves() && n.stats.is_some());
    let fresh = fresh.count();
    if ready == 0 {
        return Draft::new("MetricsFresh", "Unknown", "NoNodes", "no node is ready");
    }
    let missing = usize::try_from(ready).unwrap_or_default().saturating_sub(fresh);
    if missing == 0 {
        return Draft::new("MetricsFresh", "True", "AllNodes", "every ready node answers");
    }
    let message = format!("{missing} of {ready} ready nodes do not answer the operator");
    Draft::new("MetricsFresh", "False", METRICS_MISSING, message)
}

/// Whether a Prometheus, which is the source of the load, knows every ready node.
fn prometheus_fresh(view: &View<'_>, figures: &Figures) -> Draft {
    let ready = || view.nodes.iter().filter(|n| n.serves()).map(|n| n.pod.name.as_str());
    let missing: Vec<_> = ready().filter(|name| !figures.knows(name, view.now)).collect();
    if missing.is_empty() {
        let message = "Prometheus has fresh figures of every ready node";
        return Draft::new("MetricsFresh", "True", "AllNodes", message);
    }
    let message = figures.sentence(&missing, ready().count());
    Draft::new("MetricsFresh", "False", METRICS_MISSING, message)
}

fn hot_nodes(view: &View<'_>) -> Draft {
    let hot: Vec<_> = view.nodes.iter().filter_map(|n| Some((n.pod.name.as_str(), n.hot?))).collect();
    let Some((_, first)) = hot.first() else {
        return if view.nodes.iter().any(|n| n.serves() && n.stats.is_some()) {
            Draft::new(HOT_NODES, "False", "NoneHot", "")
        } else {
            Draft::new(HOT_NODES, "Unknown", NO_FIGURES, NOBODY_ANSWERS)
        };
    };
    let named: Vec<_> =
        hot.iter().take(MAX_HOT_NAMED).map(|(name, heat)| format!("{name}: {}", heat.sentence())).collect();
    let more = match hot.len().saturating_sub(MAX_HOT_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Draft::new(HOT_NODES, "True", first.as_str(), format!("{}{more}", named.join("; ")))
}

fn tuning_applied(view: &View<'_>) -> Draft {
    let sysctls = view.refused.and_then(refused::sentence).map(|text| (refused::REASON, text));
    let ids = view.refused_ids.and_then(user_ids::sentence).map(|text| (user_ids::REASON, text));
    match (sysctls, ids) {
        (Some((reason, text)), Some((_, also))) => {
            return Draft::new("TuningApplied", "False", reason, format!("{text}. Also: {also}"));
        }
        (Some((reason, text)), None) | (None, Some((reason, text))) => {
            return Draft::new("TuningApplied", "False", reason, text);
        }
        (None, None) => {}
    }
    let tried = view.tried.record.filter(|_| view.tried.lacks).and_then(sysctl_probes::sentence);
    if let Some((status, reason, text)) = tried {
        return Draft::new("TuningApplied", status, reason, text);
    }
    let mut known = false;
    for node in view.nodes {
        let Some(stats) = &node.stats else { continue };
        known = true;
        let soft = stats.gauges.nofile.soft;
        if let Some(asked) = view.nofile
            && soft < asked
        {
            let message = format!(
                "{}: asked {asked} open files, got {soft}; the container runtime's limit on that machine decides",
                node.pod.name
            );
            return Draft::new("TuningApplied", "False", "NofileTooLow", message);
        }
        if let Some((name, difference)) =
            tuning::differences(view.sysctls, &stats.gauges.sysctls).first_key_value()
        {
            let message = format!("{}: {name}: {difference}", node.pod.name);
            return Draft::new("TuningApplied", "False", "SysctlDiffers", message);
        }
    }
    if known {
        let message = "every node that answers reads back what was asked for";
        return Draft::new("TuningApplied", "True", "AsAsked", message);
    }
    let message = if view.nodes.iter().any(|node| node.last_at.is_some()) {
        "no node answers the operator now"
    } else {
        "no node has answered this operator yet"
    };
    Draft::new("TuningApplied", "Unknown", NO_FIGURES, message)
}

fn draining(operation: Option<&Operation>) -> Draft {
    let Some(operation) = operation else {
        return Draft::new("Draining", "False", "NoDrain", "");
    };
    let (reason, message) = running(operation).condition();
    Draft::new("Draining", "True", reason, message)
}

fn rebalance_needed(balance: &Balance) -> Draft {
    let draft = |status, reason: &str, message: &str| Draft::new("RebalanceNeeded", status, reason, message);
    match balance {
        Balance::Unknown => draft("Unknown", "TooLittleKnown", "nodes go, or their figures are not known"),
        Balance::Off => draft("False", "RebalanceDisabled", ""),
        Balance::Even => draft("False", "Even", ""),
        Balance::Uneven(who) => draft("True", "Uneven", who),
        Balance::Moving(what) => draft("True", "Moving", what),
        Balance::HotRoom(which) => draft("True", "HotRoom", which),
    }
}
