//! The decision itself, of nothing but recorded numbers.

use crds::{AutoscalingMode, DecisionInputs, WindowLoad};

use super::{Rule, TOLERANCE, behavior};
use crate::capacity;
use crate::holds::Holds;

/// What a message says of nodes without figures, and of saturated ones.
const UNKNOWN_FULL: &str = " with unknown and saturated nodes taken to be full";

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
    /// What it was made from.
    pub inputs: DecisionInputs,
}

/// A decision, and what is to be remembered of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The decision.
    pub decision: Decision,
    /// The count that the load asks for, before stabilization and bounds.
    pub recommended: i32,
    /// Whether this is a burst.
    pub burst: bool,
}

/// A number of nodes with its reason.
#[derive(Clone, Debug)]
struct Verdict {
    nodes: i32,
    rule: Rule,
    message: String,
}

impl Verdict {
    fn new(nodes: i32, rule: Rule, message: String) -> Self {
        Self { nodes, rule, message }
    }

    /// The same message with another number and rule, and why in front of it.
    fn because(self, nodes: i32, rule: Rule, why: &str) -> Self {
        Self::new(nodes, rule, format!("{why}: {}", self.message))
    }
}

/// A need for nodes, with its reason.
struct Need {
    nodes: f64,
    rule: Rule,
    message: String,
}

/// Decides of recorded inputs; the same inputs give the same decision.
#[must_use]
pub fn judge(inputs: &DecisionInputs) -> Judgement {
    let current = inputs.current;
    let (recommended, burst) = recommend(inputs);
    let doubt = doubt(inputs);
    let bounded = bound(inputs, recommended.clone());
    let limited = (bounded.nodes != recommended.nodes).then_some(bounded.rule);
    // What cannot be trusted is not remembered as a reason to shrink.
    let remembered = match &doubt {
        Some(_) if recommended.nodes < current => current,
        _ => recommended.nodes,
    };
    let mut verdict = match doubt {
        Some(doubt) if bounded.nodes < current => doubt.about(current, &bounded),
        _ => bounded,
    };
    let recent = (inputs.least_recommended, inputs.most_recommended);
    let stable = clamp(inputs, behavior::stabilize(current, remembered, recent));
    if verdict.nodes != current && stable != verdict.nodes {
        let why = format!(
            "{} wanted {}, held at {stable} by the stabilization window",
            verdict.rule, verdict.nodes
        );
        verdict = verdict.because(stable, Rule::StabilizationWindow, &why);
    }
    let paced = behavior::pace(current, verdict.nodes, (inputs.up_limit, inputs.down_limit));
    if paced != verdict.nodes {
        let rule = if paced < verdict.nodes { Rule::ScaleUpPolicy } else { Rule::ScaleDownPolicy };
        let why = format!("{} nodes wanted, {paced} allowed now", verdict.nodes);
        verdict = verdict.because(paced, rule, &why);
    }
    let room = inputs.fits.min(current);
    if verdict.nodes < room {
        let why = format!(
            "{} nodes wanted, and fewer than {room} would leave one of them above 90 %{}",
            verdict.nodes,
            hot(inputs).map(|hot| format!(" ({hot})")).unwrap_or_default()
        );
        verdict = verdict.because(room, Rule::HotNodes, &why);
    }
    let holds = Holds { scale_in: inputs.scale_in_paused, scale_out: inputs.scale_out_paused };
    if let Some((rule, annotation)) = Rule::of_hold(holds, current, verdict.nodes) {
        let why = format!("{} nodes wanted, {annotation} holds {current}", verdict.nodes);
        verdict = verdict.because(current, rule, &why);
    }
    let Verdict { nodes: desired, rule, message } = bound(inputs, verdict);
    let (quorum, heard) = (quorum(inputs), inputs.lost_bus + inputs.late_bus == 0);
    let wanted = Decision { desired, rule, message, limited, quorum, heard, inputs: inputs.clone() };
    let decision = if inputs.mode == AutoscalingMode::Auto { wanted } else { manual(wanted) };
    Judgement { decision, recommended: remembered, burst }
}

/// What the load asks for, without bounds, and whether it is a burst.
fn recommend(inputs: &DecisionInputs) -> (Verdict, bool) {
    let current = inputs.current;
    if inputs.lost_bus > 0 && inputs.lost_bus * 2 >= inputs.on_bus {
        let message = format!(
            "{} of {} nodes do not hear the backplane: what they write says nothing of the load",
            inputs.lost_bus, inputs.on_bus
        );
        return (Verdict::new(current, Rule::BackplaneSilent, message), false);
    }
    let enough = f64::from(current) * (1.0 + TOLERANCE);
    let stable = growth(inputs, inputs.stable.as_ref(), Rule::WritesPerSecond, enough);
    let surge = growth(inputs, inputs.burst.as_ref(), Rule::WritesPerSecondBurst, enough);
    let burst = surge.as_ref().is_some_and(|need| need.nodes > enough);
    let top = most([stable, surge, Some(connections(inputs, inputs.connections, ""))]);
    if top.nodes > enough {
        let nodes = capacity::whole(top.nodes);
        return (Verdict::new(nodes, top.rule, format!("{}: {nodes}", top.message)), burst);
    }
    if inputs.fresh == 0 {
        let message = format!("no fresh figures from any of {} ready nodes", inputs.ready);
        return (Verdict::new(current, Rule::MetricsMissing, message), burst);
    }
    // This leaves so many nodes that the load on them is below the target by the tolerance.
    let unknown = if inputs.presumed_connections > inputs.connections { UNKNOWN_FULL } else { "" };
    let held = connections(inputs, inputs.presumed_connections, unknown);
    let needed = most([presumed(inputs, inputs.stable), presumed(inputs, inputs.burst), Some(held)]);
    let fewer = capacity::whole(needed.nodes / (1.0 - TOLERANCE)).max(1);
    if fewer < current {
        let message = format!("{}; {fewer} keep below the target", needed.message);
        return (Verdict::new(fewer, needed.rule, message), burst);
    }
    if let Some(hot) = hot(inputs) {
        let message = format!("{hot}; {}; {current} are right, moving clients helps", top.message);
        return (Verdict::new(current, Rule::HotNodes, message), burst);
    }
    if capacity::whole(top.nodes / (1.0 - TOLERANCE)).max(1) < current {
        let message = format!("{}: not shrinking on what is not known", needed.message);
        return (Verdict::new(current, Rule::MetricsMissing, message), burst);
    }
    let message = format!("{}; {current} are right", top.message);
    (Verdict::new(current, Rule::WithinTolerance, message), burst)
}

/// The largest need; the first of equal ones, because the stable window explains a count better than the burst window
/// does.
fn most(needs: [Option<Need>; 3]) -> Need {
    let nothing = Need { nodes: 0.0, rule: Rule::WritesPerSecond, message: String::new() };
    let mut needs = needs.into_iter().flatten();
    let first = needs.next().unwrap_or(nothing);
    needs.fold(first, |best, need| if need.nodes > best.nodes * 1.001 { need } else { best })
}

fn writes_sentence(inputs: &DecisionInputs, writes: i64, when: &str, with: &str, nodes: f64) -> String {
    format!(
        "{writes} writes/s {when}{with} need {nodes:.2} nodes of {} writes/s at {} %",
        inputs.node_writes_per_second, inputs.target_percent,
    )
}

fn over(load: &WindowLoad) -> String {
    format!("over {} s", load.millis.cast_unsigned().div_ceil(1_000))
}

/// Nodes that so many writes/s need at the target.
fn nodes_for(inputs: &DecisionInputs, writes: i64) -> f64 {
    float(writes) / (float(inputs.node_writes_per_second) * f64::from(inputs.target_percent) / 100.0)
}

/// The need by what is known over a window. It is that of the hot nodes when the rest alone asks for no more than
/// `enough`.
fn growth(inputs: &DecisionInputs, load: Option<&WindowLoad>, rule: Rule, enough: f64) -> Option<Need> {
    let load = load?;
    let nodes = nodes_for(inputs, load.writes + load.hidden + load.silent);
    let mut with = String::new();
    if load.hidden > 0 {
        with += &format!(", and {} more that saturated nodes are taken to hide,", load.hidden);
    }
    if load.silent > 0 {
        with += &format!(", and {} on ready nodes without figures,", load.silent);
    }
    let message = writes_sentence(inputs, load.writes, &over(load), &with, nodes);
    let hides = load.hidden > 0 && nodes > enough && nodes_for(inputs, load.writes + load.silent) <= enough;
    Some(Need { nodes, rule: if hides { Rule::HotNodes } else { rule }, message })
}

/// The need with each unknown and each saturated node taken to be full. The burst window alone never shrinks the fleet;
/// when it keeps the fleet from shrinking, the rule named is that of writes/s.
fn presumed(inputs: &DecisionInputs, load: Option<WindowLoad>) -> Option<Need> {
    let load = load?;
    // Without the stable window the burst window counts by its last two looks.
    let averages = inputs.stable.is_some_and(|stable| stable.presumed > 0);
    let when = if averages { over(&load) } else { "at the higher of two looks".to_owned() };
    let nodes = nodes_for(inputs, load.presumed);
    let with = if load.presumed > load.writes { UNKNOWN_FULL } else { "" };
    let message = writes_sentence(inputs, load.presumed, &when, with, nodes);
    Some(Need { nodes, rule: Rule::WritesPerSecond, message })
}

fn connections(inputs: &DecisionInputs, held: i64, unknown: &str) -> Need {
    let (capacity, percent) = (inputs.node_connections, inputs.target_percent);
    let nodes = float(held) / (float(capacity) * f64::from(percent) / 100.0);
    let message =
        format!("{held} connections{unknown} need {nodes:.2} nodes of {capacity} connections at {percent} %");
    Need { nodes, rule: Rule::Connections, message }
}

/// How many nodes are hot, and why, if any is.
fn hot(inputs: &DecisionInputs) -> Option<String> {
    let why = inputs.hot_reason.as_deref().unwrap_or_default();
    (inputs.hot > 0).then(|| match inputs.hot {
        1 => format!("1 of {} nodes is hot: {why}", inputs.ready),
        hot => format!("{hot} of {} nodes are hot, one of them: {why}", inputs.ready),
    })
}

/// Whether at least two thirds of the ready nodes are known, and at least one is.
fn quorum(inputs: &DecisionInputs) -> bool {
    inputs.fresh > 0 && inputs.fresh * 3 >= inputs.ready * 2
}

/// A reason not to shrink.
struct Doubt {
    rule: Rule,
    why: String,
    /// Whether the message says as well what was wanted.
    wanted: bool,
}

impl Doubt {
    fn about(self, current: i32, wanted: &Verdict) -> Verdict {
        let message = if self.wanted { format!("{}: {}", self.why, wanted.message) } else { self.why };
        Verdict::new(current, self.rule, message)
    }
}

/// Why nothing may shrink now, if anything is in doubt.
fn doubt(inputs: &DecisionInputs) -> Option<Doubt> {
    if !quorum(inputs) {
        let why = format!(
            "fresh figures from {} of {} ready nodes, fewer than two thirds: not shrinking",
            inputs.fresh, inputs.ready
        );
        return Some(Doubt { rule: Rule::MetricsMissing, why, wanted: false });
    }
    if inputs.lost_bus + inputs.late_bus > 0 {
        let why = format!(
            "{} of {} nodes do not hear the backplane, {} hear it late: not shrinking",
            inputs.lost_bus, inputs.on_bus, inputs.late_bus
        );
        return Some(Doubt { rule: Rule::BackplaneSilent, why, wanted: false });
    }
    let seconds = |millis: i64| millis.cast_unsigned().div_ceil(1_000);
    if inputs.burst_left_millis > 0 {
        let why = format!("a burst ended lately, not shrinking for {} s", seconds(inputs.burst_left_millis));
        return Some(Doubt { rule: Rule::BurstCooldown, why, wanted: true });
    }
    if inputs.warmup_left_millis > 0 {
        let why = format!("history is too short to shrink for {} s", seconds(inputs.warmup_left_millis));
        return Some(Doubt { rule: Rule::Warmup, why, wanted: true });
    }
    None
}

/// The least count, and where it comes from.
fn least(inputs: &DecisionInputs) -> (i32, Rule) {
    let DecisionInputs { min, max, floor, scheduled, .. } = *inputs;
    let rule = match () {
        () if scheduled > floor.max(min) => Rule::Schedule,
        () if floor > min => Rule::TargetConnectionsFloor,
        () => Rule::MinNodes,
    };
    (floor.max(min).max(scheduled).min(max), rule)
}

/// A count within the bounds.
fn clamp(inputs: &DecisionInputs, nodes: i32) -> i32 {
    nodes.max(least(inputs).0).min(inputs.max)
}

/// Applies `targetConnections`, `nodes.min`, the schedule and `nodes.max`.
fn bound(inputs: &DecisionInputs, verdict: Verdict) -> Verdict {
    let (least, rule) = least(inputs);
    if verdict.nodes > inputs.max {
        return verdict.because(inputs.max, Rule::MaxNodes, &format!("nodes.max is {}", inputs.max));
    }
    if verdict.nodes >= least {
        return verdict;
    }
    let why = match rule {
        Rule::TargetConnectionsFloor => format!(
            "targetConnections {} needs {} nodes of {} connections",
            inputs.target_connections, inputs.floor, inputs.node_connections
        ),
        Rule::Schedule => inputs.schedule.clone().unwrap_or_default(),
        _ => format!("nodes.min is {}", inputs.min),
    };
    verdict.because(least, rule, &why)
}

/// The decision in the modes `Manual` and `Observe`, in which the user's number counts. Without a number the replicas
/// stay as they are, and a drain that the operator began before is taken back.
fn manual(wanted: Decision) -> Decision {
    let desired = wanted.inputs.manual.unwrap_or(wanted.inputs.replicas.max(1));
    let (rule, message) = match wanted.inputs.mode {
        AutoscalingMode::Observe => (
            Rule::Observe,
            format!("observing only; would be {} ({}): {}", wanted.desired, wanted.rule, wanted.message),
        ),
        _ => (Rule::Manual, format!("autoscaling.mode is Manual, nodes.replicas decides: {desired}")),
    };
    Decision { desired, rule, message, limited: None, ..wanted }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(number: i64) -> f64 {
    number as f64
}
