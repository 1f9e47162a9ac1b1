//! `explain`: why a fleet has as many nodes as it has.
//!
//! It needs nothing but the object: the spec, the figures in the status and the recorded decisions. The arithmetic is that of
//! the operator's core.

use std::io::Write;

use anyhow::Result;
use crds::{
    AutoscalingMode, CapacityStatus, ChannelClusterSpec, DecisionInputs, ScalingDecision, Totals, WindowLoad,
};
use operator_core::autoscale::judge;
use operator_core::capacity::{Sizing, asked_for};
use operator_core::plan::number;
use serde::Serialize;

use crate::args::Explain;
use crate::connect::Place;
use crate::fleet::{self, Fleet};
use crate::status::Story;
use crate::words::{age, count, derived_sentence, known_sentences, learned_sentence};
use crate::{FINE, FOUND, output};

/// What the rules mean, in the words of docs/OPERATIONS.md.
const RULES: &[(&str, &str)] = &[
    ("WritesPerSecond", "writes/s over the stable window decide"),
    ("WritesPerSecondBurst", "writes/s over the burst window decide; grows only"),
    ("Connections", "connections held decide"),
    (
        "HotNodes",
        "nodes are at their limit: they count for more than they deliver, or a node that stays would be too full",
    ),
    ("TargetConnectionsFloor", "targetConnections over capacity.connections is the floor"),
    ("MinNodes", "nodes.min is the floor"),
    ("MaxNodes", "nodes.max is the ceiling"),
    ("WithinTolerance", "the load is near what the fleet is sized for"),
    ("StabilizationWindow", "a recommendation within the stabilization window was higher"),
    ("ScaleUpPolicy", "autoscaling.behavior.scaleUp allows no more growth now"),
    ("ScaleDownPolicy", "autoscaling.behavior.scaleDown allows no more shrinking now"),
    ("MetricsMissing", "too few fresh figures to shrink"),
    ("BackplaneSilent", "nodes do not hear NATS, so what they write says nothing of the load"),
    ("BurstCooldown", "a burst was seen within the last stable window"),
    ("Warmup", "the operator has not watched for a stable window yet"),
    ("Observe", "autoscaling.mode is Observe: it says what it would do"),
    ("Manual", "autoscaling.mode is Manual: nodes.replicas decides"),
    ("Schedule", "a line of autoscaling.schedule is the floor"),
    ("PausedScaleIn", "the annotation channelcluster.io/pause-scale-in holds scale-in"),
    ("PausedScaleOut", "the annotation channelcluster.io/pause-scale-out holds scale-out"),
];

/// What a rule means; none for a rule of a later operator.
#[must_use]
pub fn meaning(rule: &str) -> Option<&'static str> {
    RULES.iter().find(|(name, _)| *name == rule).map(|(_, meaning)| *meaning)
}

/// Why a fleet is as large as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is, in a line.
    pub headline: String,
    /// What the figures of the status ask for now, one sentence per figure or bound.
    pub now: Vec<String>,
    /// Sentences of the conditions about scaling.
    pub conditions: Vec<String>,
    /// The recorded decisions, newest first.
    pub decisions: Vec<Explained>,
}

/// A recorded decision.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// As it was recorded.
    #[serde(flatten)]
    pub decision: ScalingDecision,
    /// What its rule means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<&'static str>,
    /// What it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<DecisionInputs>,
    /// What this program decides of the same; missing where the operator did not record what it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// A decision that was made again.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Again {
    /// Whether it is the recorded one, with its rule and its sentence.
    pub same: bool,
    /// Node count.
    pub to: i32,
    /// The rule.
    pub rule: &'static str,
    /// The arithmetic.
    pub message: String,
}

impl Explained {
    fn of(decision: ScalingDecision, inputs: Option<DecisionInputs>) -> Self {
        let again = inputs.as_ref().map(|inputs| {
            let again = judge(inputs).decision;
            let (to, rule) = (again.desired, again.rule.as_str());
            let same = to == decision.to && rule == decision.rule && again.message == decision.message;
            Again { same, to, rule, message: again.message }
        });
        Self { meaning: meaning(&decision.rule), decision, inputs, again }
    }

    fn write(&self, now: u64, out: &mut dyn Write) -> Result<()> {
        let ScalingDecision { from, to, rule, message, time, .. } = &self.decision;
        writeln!(out, "  {} ago: {from} -> {to} nodes by {rule}", age(time, now))?;
        if let Some(meaning) = self.meaning {
            writeln!(out, "    rule: {meaning}")?;
        }
        writeln!(out, "    arithmetic: {message}")?;
        if let Some(inputs) = &self.inputs {
            writeln!(out, "    made from: {}", made_from(inputs))?;
        }
        match &self.again {
            Some(again) if again.same => writeln!(out, "    judged again: the same")?,
            Some(Again { to, rule, message, .. }) => writeln!(
                out,
                "    judged again: {to} nodes by {rule} ({message}); the operator is of another version than this program"
            )?,
            None => {}
        }
        Ok(())
    }
}

/// The inputs that people ask for.
fn made_from(inputs: &DecisionInputs) -> String {
    let window = |load: &WindowLoad| {
        let beside = [(load.hidden, "that saturated nodes hide"), (load.silent, "of nodes without figures")];
        let beside = beside.iter().filter(|(writes, _)| *writes > 0);
        let beside: String = beside.map(|(writes, of)| format!(" + {} {of}", count(Some(*writes)))).collect();
        let presumed = match load.presumed {
            0 => String::new(),
            presumed if presumed == load.writes => String::new(),
            presumed => format!(" ({} for shrinking)", count(Some(presumed))),
        };
        let seconds = load.millis.max(0) / 1_000;
        format!("{} writes/s{beside} over {seconds} s{presumed}", count(Some(load.writes)))
    };
    let mut parts = vec![format!("{} nodes", inputs.current)];
    parts.extend(inputs.stable.iter().chain(&inputs.burst).map(window));
    let presumed = match inputs.presumed_connections {
        presumed if presumed <= inputs.connections => String::new(),
        presumed => format!(" ({} for shrinking)", count(Some(presumed))),
    };
    parts.push(format!("{} connections{presumed}", count(Some(inputs.connections))));
    parts.push(format!("fresh figures of {} of {} ready nodes", inputs.fresh, inputs.ready));
    parts.extend(inputs.learned.as_ref().map(learned_sentence));
    parts.extend(inputs.derived.as_ref().map(derived_sentence));
    if inputs.hot > 0 {
        let why = inputs.hot_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        parts.push(format!("{} hot{why}", inputs.hot));
    }
    if inputs.fits > 0 {
        parts.push(format!("{} nodes fit without one above 90 %", inputs.fits));
    }
    if let Some(entry) = &inputs.schedule {
        parts.push(format!("schedule {}: {entry}", inputs.scheduled));
    }
    let held = [(inputs.scale_in_paused, "scale-in held"), (inputs.scale_out_paused, "scale-out held")];
    parts.extend(held.iter().filter(|(held, _)| *held).map(|(_, words)| (*words).to_owned()));
    parts.push(format!("min {}, max {}, floor {}", inputs.min, inputs.max, inputs.floor));
    parts.join("; ")
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the fleet cannot be read.
pub async fn run(place: &Place, wanted: &Explain, now: u64, out: &mut dyn Write) -> Result<u8> {
    let fleet = Box::pin(fleet::get(place, &wanted.name)).await?;
    let explanation = Explanation::of(&fleet);
    match wanted.form.output {
        Some(format) => output::write(&explanation, format, out)?,
        None => explanation.write(now, out)?,
    }
    let differs = explanation.decisions.iter().any(|of| of.again.as_ref().is_some_and(|again| !again.same));
    Ok(if differs { FOUND } else { FINE })
}

impl Explanation {
    /// Of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let status = fleet.status.clone().unwrap_or_default();
        let totals = status.totals.clone().unwrap_or_default();
        let about = ["ScalingActive", "ScalingLimited", "MetricsFresh", "HotNodes", "RebalanceNeeded"];
        let conditions = about.iter().filter_map(|kind| fleet.condition(kind));
        let inputs = fleet.inputs.iter().cloned();
        Self {
            namespace: fleet.namespace.clone(),
            name: fleet.name.clone(),
            headline: Story::of(fleet).headline(),
            now: fleet
                .typed_spec()
                .map(|spec| arithmetic(&spec, &totals, status.capacity.as_ref()))
                .unwrap_or_default(),
            conditions: conditions
                .map(|c| {
                    let sentence = format!("{} is {} ({}): {}", c.type_, c.status, c.reason, c.message);
                    sentence.trim_end_matches(": ").to_owned()
                })
                .collect(),
            decisions: status
                .decisions
                .into_iter()
                .zip(inputs)
                .map(|(decision, inputs)| Explained::of(decision, inputs))
                .collect(),
        }
    }

    /// As text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, now: u64, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.headline)?;
        writeln!(out, "\nWhat the figures of the status ask for:")?;
        for sentence in &self.now {
            writeln!(out, "  {sentence}")?;
        }
        writeln!(out)?;
        for sentence in &self.conditions {
            writeln!(out, "{sentence}")?;
        }
        if self.decisions.is_empty() {
            writeln!(out, "\nNo change of the node count has been decided yet.")?;
            return Ok(());
        }
        writeln!(out, "\nDecisions, newest first:")?;
        for decision in &self.decisions {
            decision.write(now, out)?;
        }
        Ok(())
    }
}

/// What the figures of a status ask for, with the spec's own numbers.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn arithmetic(spec: &ChannelClusterSpec, totals: &Totals, known: Option<&CapacityStatus>) -> Vec<String> {
    let (nodes, auto) = (&spec.nodes, &spec.autoscaling);
    let sizing = Sizing::of_spec(spec, known);
    let need = |what: &str, load: Option<i64>, capacity: f64, target: f64| match load {
        None => format!("{what}: not known"),
        Some(load) => format!(
            "{what}: {} / ({} x {} %) = {:.2} nodes",
            number(load as f64),
            number(capacity),
            sizing.target_percent,
            load as f64 / target
        ),
    };
    let floor = sizing.floor(spec.target_connections);
    let mut sentences = vec![
        need("writes/s", totals.writes_per_second, sizing.writes_per_second, sizing.target_writes()),
        need("connections", totals.connections, sizing.connections, sizing.target_connections()),
        format!(
            "floor: targetConnections {} / {} connections of a node = {floor} nodes, nodes.min {}",
            number(spec.target_connections as f64),
            number(sizing.connections),
            nodes.min
        ),
        format!("ceiling: nodes.max {}", nodes.max),
    ];
    let known = known.map(|known| known_sentences(&asked_for(spec, known)));
    sentences.extend(known.into_iter().flatten().map(|sentence| format!("capacity: {sentence}")));
    if auto.mode != AutoscalingMode::Auto {
        let replicas = nodes.replicas.map_or_else(|| "not given".to_owned(), |replicas| replicas.to_string());
        sentences.push(format!("autoscaling.mode is {:?}: nodes.replicas ({replicas}) decides", auto.mode));
    }
    if totals.unknown_nodes.is_some_and(|unknown| unknown > 0) {
        let unknown = totals.unknown_nodes.unwrap_or_default();
        sentences.push(format!(
            "{unknown} nodes are unknown: they count as nodes at their target when growing and as full when shrinking"
        ));
    }
    sentences
}
