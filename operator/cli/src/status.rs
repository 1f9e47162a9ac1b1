//! `status`: the story of a fleet, what is not as it should be first.

use std::io::Write;

use anyhow::Result;
use crds::{CapacityStatus, NodeStatus, ScalingDecision, Totals};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::Value;

use crate::args::Status;
use crate::connect::Place;
use crate::fleet::{self, Fleet};
use crate::table::Table;
use crate::words::{age, count, known_sentences, percent};
use crate::{FINE, output};

/// Decisions that the text shows.
const DECISIONS: usize = 5;
/// Conditions that are True when something is under way or wrong. Every other one should be True.
const BETTER_FALSE: [&str; 7] =
    ["Reconciling", "Stalled", "ScalingLimited", "Draining", "HotNodes", "RebalanceNeeded", "RolloutPaused"];
/// Reasons that somebody asked for: their conditions are as they should be.
const ASKED_FOR: [&str; 4] = ["Paused", "Manual", "Observing", "NotUsed"];

/// A fleet as `status` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Time>,
    /// Status of the condition Ready.
    pub ready: String,
    /// Why it is as it is, in a word.
    pub reason: String,
    /// Ready nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_nodes: Option<i32>,
    /// Nodes that the operator works towards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_nodes: Option<i32>,
    /// Sums over the nodes.
    pub totals: Totals,
    /// What was learned and derived of what a node carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacityStatus>,
    /// What is not as it should be.
    pub troubles: Vec<Trouble>,
    /// What is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Value>,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The last decisions, newest first.
    pub decisions: Vec<ScalingDecision>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// The condition, or what else it is about.
    pub what: String,
    /// Its status and reason.
    pub is: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The sentence.
    pub message: String,
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// When the fleets cannot be read.
pub async fn run(place: &Place, wanted: &Status, now: u64, out: &mut dyn Write) -> Result<u8> {
    let fleets = Box::pin(fleet::wanted(place, wanted.name.as_deref(), wanted.all_namespaces)).await?;
    let stories: Vec<_> = fleets.iter().map(Story::of).collect();
    match (wanted.form.output, &stories[..]) {
        (Some(format), [story]) if wanted.name.is_some() => output::write(story, format, out)?,
        (Some(format), stories) => output::write(&stories, format, out)?,
        (None, [story]) if wanted.name.is_some() => story.write(now, out)?,
        (None, []) => writeln!(out, "{}", nothing(place, wanted.all_namespaces))?,
        (None, stories) => overview(stories, wanted.all_namespaces, now, out)?,
    }
    Ok(FINE)
}

/// What is said where there is no fleet.
pub(crate) fn nothing(place: &Place, all_namespaces: bool) -> String {
    if all_namespaces {
        "There is no ChannelCluster in any namespace.".to_owned()
    } else {
        format!("There is no ChannelCluster in namespace {}; --all-namespaces looks in all.", place.namespace)
    }
}

impl Story {
    /// Of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let status = fleet.status.clone().unwrap_or_default();
        let ready = fleet.condition("Ready").map_or("Unknown", |ready| &ready.status);
        Self {
            namespace: fleet.namespace.clone(),
            name: fleet.name.clone(),
            made: fleet.made.clone(),
            ready: ready.to_owned(),
            reason: status.reason.clone().unwrap_or_else(|| "NotLookedAt".to_owned()),
            ready_nodes: status.ready_replicas,
            desired_nodes: status.desired_replicas,
            totals: status.totals.clone().unwrap_or_default(),
            capacity: status.capacity.clone(),
            troubles: troubles(fleet),
            operation: fleet.operation.clone(),
            nodes: status.nodes,
            decisions: status.decisions,
        }
    }

    /// As text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, now: u64, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.headline())?;
        let unknown = self.totals.unknown_nodes.unwrap_or_default();
        let without = if unknown > 0 { format!(", without {unknown} unknown nodes") } else { String::new() };
        writeln!(
            out,
            "{} connections, {} writes/s from {} publishes/s, {} of capacity{without}",
            count(self.totals.connections),
            count(self.totals.writes_per_second),
            count(self.totals.publishes_per_second),
            percent(self.totals.utilization_percent)
        )?;
        for sentence in self.capacity.iter().flat_map(known_sentences) {
            writeln!(out, "{sentence}")?;
        }
        writeln!(out)?;
        if self.troubles.is_empty() {
            writeln!(out, "All conditions are as they should be.")?;
        } else {
            writeln!(out, "Not as it should be:")?;
            for trouble in &self.troubles {
                let since = trouble.since.as_ref().map(|since| format!(" for {}", age(since, now)));
                writeln!(out, "  {} is {}{}", trouble.what, trouble.is, since.unwrap_or_default())?;
                writeln!(out, "    {}", trouble.message)?;
            }
        }
        if let Some(operation) = &self.operation {
            writeln!(out, "\nUnder way:")?;
            for line in under_way(operation, now) {
                writeln!(out, "  {line}")?;
            }
        }
        writeln!(out, "\nNodes:")?;
        node_table(&self.nodes).write(out, 2)?;
        if !self.decisions.is_empty() {
            writeln!(out, "\nLast decisions (kubectl channels explain {} has all):", self.name)?;
            let mut table = Table::new(&["AGE", "NODES", "RULE", "WHY"]);
            for decision in self.decisions.iter().take(DECISIONS) {
                table.row([
                    age(&decision.time, now),
                    format!("{} -> {}", decision.from, decision.to),
                    decision.rule.clone(),
                    decision.message.clone(),
                ]);
            }
            table.write(out, 2)?;
        }
        Ok(())
    }

    /// How the fleet is, in a line.
    pub(crate) fn headline(&self) -> String {
        let ready = match self.ready.as_str() {
            "True" => "Ready",
            "False" => "not Ready",
            _ => "not known to be Ready",
        };
        let nodes = |nodes: Option<i32>| count(nodes.map(i64::from));
        let (ready_nodes, desired) = (nodes(self.ready_nodes), nodes(self.desired_nodes));
        format!(
            "{} in namespace {}: {ready}, {ready_nodes} of {desired} nodes ({})",
            self.name, self.namespace, self.reason
        )
    }
}

/// All fleets in short, and below them what is not as it should be.
fn overview(stories: &[Story], all_namespaces: bool, now: u64, out: &mut dyn Write) -> Result<()> {
    let heads =
        ["NAMESPACE", "NAME", "READY", "NODES", "DESIRED", "CONNS", "WRITES/S", "UTIL", "REASON", "AGE"];
    let skipped = usize::from(!all_namespaces);
    let mut table = Table::new(&heads[skipped..]);
    for story in stories {
        let cells = [
            story.namespace.clone(),
            story.name.clone(),
            story.ready.clone(),
            count(story.ready_nodes.map(i64::from)),
            count(story.desired_nodes.map(i64::from)),
            count(story.totals.connections),
            count(story.totals.writes_per_second),
            percent(story.totals.utilization_percent),
            story.reason.clone(),
            story.made.as_ref().map(|made| age(made, now)).unwrap_or_default(),
        ];
        table.row(cells.into_iter().skip(skipped));
    }
    table.write(out, 0)?;
    for story in stories.iter().filter(|story| !story.troubles.is_empty()) {
        writeln!(out, "\n{}/{}:", story.namespace, story.name)?;
        for trouble in &story.troubles {
            writeln!(out, "  {} is {}: {}", trouble.what, trouble.is, trouble.message)?;
        }
    }
    Ok(())
}

/// The table of nodes.
pub(crate) fn node_table(nodes: &[NodeStatus]) -> Table {
    let mut table = Table::new(&["NAME", "PHASE", "CONNS", "ROOMS", "WRITES/S", "BUSY", "NOTE"]);
    for node in nodes {
        let differing = node.sysctls.iter().map(|(name, difference)| format!("{name}: {difference}"));
        let notes: Vec<_> = differing.collect();
        table.row([
            node.name.clone(),
            node.phase.clone(),
            count(node.connections),
            count(node.rooms),
            count(node.writes_per_second),
            percent(node.utilization_percent),
            notes.join("; "),
        ]);
    }
    table
}

/// What is not as it should be.
fn troubles(fleet: &Fleet) -> Vec<Trouble> {
    let Some(status) = &fleet.status else {
        return vec![Trouble {
            what: "The operator".to_owned(),
            is: "silent".to_owned(),
            since: fleet.made.clone(),
            message: "no operator has looked at this ChannelCluster: does channel-operator run, and does it watch this \
                      namespace? (kubectl get pods -A -l app.kubernetes.io/name=channel-operator)"
                .to_owned(),
        }];
    };
    let mut troubles: Vec<_> =
        status.conditions.iter().filter(|c| !is_as_it_should_be(c)).map(trouble).collect();
    if let (Some(observed), Some(generation)) = (status.observed_generation, fleet.generation)
        && observed < generation
    {
        troubles.insert(
            0,
            Trouble {
                what: "The status".to_owned(),
                is: "that of an earlier spec".to_owned(),
                since: None,
                message: format!(
                    "it speaks of generation {observed}, and the spec has generation {generation}"
                ),
            },
        );
    }
    troubles
}

fn is_as_it_should_be(condition: &Condition) -> bool {
    let good = if BETTER_FALSE.contains(&condition.type_.as_str()) { "False" } else { "True" };
    condition.status == good || ASKED_FOR.contains(&condition.reason.as_str())
}

fn trouble(condition: &Condition) -> Trouble {
    Trouble {
        what: condition.type_.clone(),
        is: format!("{} ({})", condition.status, condition.reason),
        since: Some(condition.last_transition_time.clone()),
        message: condition.message.clone(),
    }
}

/// Lines about an operation of any type: it names one node, or has a list of nodes.
fn under_way(operation: &Value, now: u64) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let since = |value: &Value, key: &str| -> String {
        let time = serde_json::from_value::<Time>(value[key].clone());
        time.map(|time| format!(" for {}", age(&time, now))).unwrap_or_default()
    };
    let kind = operation["type"].as_str().unwrap_or("ScaleIn");
    let mut lines = vec![format!("{kind}{}", since(operation, "startedAt"))];
    let single = operation.get("pod").map(|_| operation.clone());
    let list = |key: &str| operation[key].as_array().cloned().unwrap_or_default();
    let many = [list("nodes"), list("donors")].concat();
    for node in single.iter().chain(&many) {
        let words = [text(node, "cause"), text(node, "step")];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let step = words.join(", ") + &since(node, "stepAt");
        let mut parts = Vec::from_iter((!step.is_empty()).then_some(step));
        for (key, words) in
            [("connections", "connections left"), ("asked", "connections asked to move"), ("moved", "moved")]
        {
            if let Some(number) = node[key].as_i64() {
                parts.push(format!("{} {words}", count(Some(number))));
            }
        }
        let pace = node["connectionsPerSecond"].as_i64().map(|pace| format!(" at {pace}/s"));
        lines.push(format!("{}: {}{}", text(node, "pod"), parts.join(", "), pace.unwrap_or_default()));
    }
    lines
}
