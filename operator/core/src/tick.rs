//! The whole decision of one look at a ChannelCluster: from what was seen to the status to write, the actions to take once it
//! is written, and what to say. The operator, the simulations and a tool that explains a decision call the same.

use crds::{AutoscalingMode, ChannelClusterStatus, RefusedSysctls, RefusedUserIds};

use crate::asked::Asked;
use crate::autoscale::{Decision, Inputs, Settings, State};
use crate::capacity::Sizing;
use crate::contest::{self, Contest};
use crate::hindrance::{self, Hindrance};
use crate::names::Component;
use crate::observation::Observation;
use crate::operations::arbiter::{self, running};
use crate::operations::plan::{Action, FleetView, Plan};
use crate::pod::PodView;
use crate::refused;
use crate::samples::{NodeLoad, NodeSeries};
use crate::seen;
use crate::status::compute;
use crate::user_ids;
use crate::validate::ValidatedCluster;
use crate::view::{NodeSeen, Outcome, View};

#[cfg(test)]
mod tests;

/// Part of the target utilization from which on a fleet is not calm, in percent of it.
const CALM_PERCENT: i32 = 50;

/// What is remembered of one ChannelCluster from tick to tick. Nothing that must outlive the process: that is in the status.
#[derive(Debug, Default)]
pub struct Memory {
    scaling: Option<State>,
    /// Whether the last order to close reached its node; not known at first, since another operator may have given it.
    told_to_close: bool,
    /// When each hindrance was first seen.
    ages: hindrance::Ages,
    /// What was contested when that was last said.
    contested: Option<Contest>,
    /// What hindered when that was last said.
    hindered: Vec<(Component, hindrance::Reason)>,
}

impl Memory {
    /// Whether an order to close has reached its node.
    pub const fn note_close(&mut self, reached: bool) {
        self.told_to_close = reached;
    }
}

/// Something to say in an Event, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Whether something is wrong.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// CamelCase name of what is done about it.
    pub action: String,
    /// A sentence.
    pub message: String,
}

/// What one tick decided.
#[derive(Debug)]
pub struct Tick {
    /// The status to write before anything else is done.
    pub status: ChannelClusterStatus,
    /// What to do then, in order.
    pub actions: Vec<Action>,
    /// What to say of the state that was found.
    pub found: Vec<Saying>,
    /// What to say of what is being done.
    pub done: Vec<Saying>,
    /// The rule of a decision that was not made before.
    pub rule: Option<&'static str>,
    /// Whether an operation began, ended or came to its next step.
    pub stepped: bool,
    /// Why the operation does not go on now.
    pub waiting: Option<String>,
    /// Whether nothing is likely to be decided soon: nothing is under way, and the load is known and low.
    pub calm: bool,
}

/// The node count, and what is done about it.
struct Decided {
    /// Nodes that were there to stay before.
    current: i32,
    decision: Decision,
    plan: Plan,
}

/// Decides. `memory` is what the last call left there.
#[must_use]
pub fn tick(memory: &mut Memory, seen: &Observation<'_>) -> Tick {
    let previous = seen.previous;
    memory.ages.look(seen.now, seen.hindrances, previous);
    let nodes = nodes(seen);
    let decided = decide(memory, seen, &nodes);
    let status = status(memory, seen, &nodes, decided.as_ref());
    let mut found = refusals(previous, &status);
    memory.hindrances(seen.hindrances, &mut found);
    memory.contest(seen.contest, &mut found);
    let mut tick = Tick {
        actions: Vec::new(),
        found,
        done: Vec::new(),
        rule: None,
        stepped: step_of(previous) != step_of(&status),
        waiting: None,
        calm: is_calm(seen.asked, &status),
        status,
    };
    if let Some(Decided { decision, plan, .. }) = decided {
        if previous.decisions.first() != tick.status.decisions.first() {
            tick.rule = Some(decision.rule.as_str());
            tick.done.push(scaling(&decision));
        }
        tick.done.extend(plan.notes.into_iter().map(|note| Saying {
            warning: note.warning,
            reason: note.reason,
            action: note.action.to_owned(),
            message: note.message,
        }));
        tick.actions = plan.actions;
        tick.waiting = plan.waiting;
    }
    tick
}

/// The nodes with what they said of themselves.
fn nodes(seen: &Observation<'_>) -> Vec<NodeSeen> {
    let now = seen.now;
    let node = |pod: &PodView| {
        let series = seen.series.get(&pod.uid);
        NodeSeen {
            pod: PodView { node: series.and_then(|s| seen::view(s, now)), ..pod.clone() },
            stats: series.and_then(|s| s.fresh(now)).cloned(),
            rates: series.and_then(|s| s.rates(now)),
            hearing: series.and_then(|s| s.hearing(now)),
            last_at: series.and_then(NodeSeries::last_at),
            runs: seen::runs(pod, series),
        }
    };
    seen.pods.iter().map(node).collect()
}

/// None while there is nothing to decide on.
fn decide(memory: &mut Memory, seen: &Observation<'_>, nodes: &[NodeSeen]) -> Option<Decided> {
    let (valid, deployment, now) = (seen.valid?, seen.deployment?, seen.now);
    if seen.asked.paused {
        return None;
    }
    let operation = seen.previous.operation.as_ref();
    let pods: Vec<PodView> = nodes.iter().map(|node| node.pod.clone()).collect();
    let current = arbiter::staying(operation, &pods, deployment.replicas);
    let load = |pod: &PodView| seen::load(pod, seen.series.get(&pod.uid), now);
    let loads: Vec<NodeLoad> = pods.iter().map(load).collect();
    let state = memory.scaling.get_or_insert_with(|| State::new(now, current));
    let inputs = Inputs { now, current, replicas: deployment.replicas, nodes: &loads };
    let decision = state.step(&Settings::of(valid), inputs);
    let fleet = FleetView::of(seen, &pods, &decision, memory.told_to_close)?;
    let plan = arbiter::plan(operation, &fleet);
    Some(Decided { current, decision, plan })
}

fn status(
    memory: &Memory,
    seen: &Observation<'_>,
    nodes: &[NodeSeen],
    decided: Option<&Decided>,
) -> ChannelClusterStatus {
    let (asked, valid, previous) = (seen.asked, seen.valid, seen.previous);
    // While nothing is decided an operation stays where it is.
    let operation = match decided {
        Some(decided) => decided.plan.operation.as_ref(),
        None => previous.operation.as_ref(),
    };
    let generation = asked.generation;
    let outcome = if seen.generation == generation { seen.outcome } else { &Outcome::Pending };
    let replicas = seen.deployment.map_or(0, |deployment| deployment.replicas);
    let nothing = std::collections::BTreeMap::new();
    let refused = refused_sysctls(seen, outcome);
    let refused_ids = refused_ids(seen, outcome);
    compute(&View {
        now: seen.now,
        previous,
        generation,
        outcome,
        paused: asked.paused,
        mode: asked.mode,
        min: least(asked, valid),
        sizing: valid.map_or_else(|| sizing(asked), Sizing::of),
        sysctls: valid.map_or(&nothing, |valid| &valid.pod.sysctls),
        nofile: asked.nofile,
        nodes,
        settled: seen.deployment.is_none_or(|deployment| !deployment.rolling),
        selector: &asked.names.selector_string(Component::Node),
        node_image: seen.deployment.and_then(|deployment| deployment.image.as_deref()),
        current: decided.map_or(replicas, |decided| decided.current),
        decision: decided.map(|decided| &decided.decision),
        operation,
        refused: refused.as_ref(),
        refused_ids: refused_ids.as_ref(),
        contest: seen.contest,
        hindrances: seen.hindrances,
        hindered_since: memory.ages.since(seen.hindrances),
    })
}

/// What is to be recorded of sysctls that were refused.
fn refused_sysctls(seen: &Observation<'_>, outcome: &Outcome) -> Option<RefusedSysctls> {
    let recorded = seen.previous.refused_sysctls.as_ref();
    let Some(valid) = seen.valid.filter(|_| *outcome == Outcome::Applied) else { return recorded.cloned() };
    let serving = seen.pods.iter().filter(|pod| pod.ready).flat_map(|pod| pod.sysctls.clone()).collect();
    refused::step(recorded, &seen.asked.tuning, &valid.restart_hash, seen.rejected, &serving)
}

/// What is to be recorded of user ids that admission refused.
fn refused_ids(seen: &Observation<'_>, outcome: &Outcome) -> Option<RefusedUserIds> {
    let recorded = seen.previous.refused_user_ids.as_ref();
    let words = match outcome {
        Outcome::Applied => None,
        Outcome::Refused(words) | Outcome::Failed(words) => Some(words.as_str()),
        Outcome::Pending | Outcome::Invalid(_) | Outcome::Conflict(_) => return recorded.cloned(),
    };
    user_ids::step(seen.asked, recorded, |component| {
        let live = match component {
            Component::Node => seen.node_deployment,
            Component::Nats => seen.nats_deployment,
        };
        user_ids::refusal(seen.asked, recorded, component, live, words)
    })
}

/// Says once that sysctls or user ids were refused.
fn refusals(previous: &ChannelClusterStatus, status: &ChannelClusterStatus) -> Vec<Saying> {
    let say = |reason, message| Saying { warning: true, reason, action: "LeaveOut".to_owned(), message };
    let before = previous.refused_sysctls.as_ref();
    let sysctls = status.refused_sysctls.as_ref();
    let sysctls = sysctls.filter(|now| before.is_none_or(|b| b.names != now.names || b.tuning != now.tuning));
    let before = previous.refused_user_ids.as_ref();
    let ids = status.refused_user_ids.as_ref().filter(|now| before != Some(now));
    let sysctls = sysctls.and_then(refused::sentence).map(|said| say(refused::REASON, said));
    let ids = ids.and_then(user_ids::sentence).map(|said| say(user_ids::REASON, said));
    sysctls.into_iter().chain(ids).collect()
}

impl Memory {
    /// Says once of each thing that it hinders, and when nothing does any more.
    fn hindrances(&mut self, now: &[Hindrance], sayings: &mut Vec<Saying>) {
        let start =
            |warning, reason, message| Saying { warning, reason, action: "Start".to_owned(), message };
        for hindrance in now {
            // Another Event tells of refused sysctls, with what is done about them.
            let told = hindrance.reason == hindrance::Reason::SysctlForbidden
                || self.hindered.contains(&(hindrance.component, hindrance.reason));
            if !told {
                sayings.push(start(true, hindrance.reason.as_str(), hindrance.sentence()));
            }
        }
        if now.is_empty() && !self.hindered.is_empty() {
            let message = "nothing keeps pods from starting any more".to_owned();
            sayings.push(start(false, "NothingHinders", message));
        }
        self.hindered = now.iter().map(|hindrance| (hindrance.component, hindrance.reason)).collect();
    }

    /// Says once that another manager keeps writing a field of the operator's.
    fn contest(&mut self, now: Option<&Contest>, sayings: &mut Vec<Saying>) {
        let same = |a: &Contest, b: &Contest| a.manager == b.manager && a.object == b.object;
        if let Some(new) = now
            && !self.contested.as_ref().is_some_and(|before| same(before, new))
        {
            let (reason, message) = (contest::REASON, new.sentence());
            sayings.push(Saying { warning: true, reason, action: "Apply".to_owned(), message });
        }
        self.contested = now.cloned();
    }
}

fn scaling(decision: &Decision) -> Saying {
    Saying {
        warning: false,
        reason: "Scaling",
        action: format!("ScaleTo{}", decision.desired),
        message: format!("{} nodes, {}: {}", decision.desired, decision.rule, decision.message),
    }
}

/// Which step an operation is at.
fn step_of(status: &ChannelClusterStatus) -> Option<(&str, &'static str)> {
    status.operation.as_ref().map(|operation| running(operation).place())
}

/// Fewest nodes of a cluster that is as asked for.
fn least(asked: &Asked<'_>, valid: Option<&ValidatedCluster>) -> i32 {
    let manual = valid.and_then(|valid| valid.bounds.replicas);
    match asked.mode {
        AutoscalingMode::Manual | AutoscalingMode::Observe => manual.unwrap_or(asked.min),
        AutoscalingMode::Auto => asked.min,
    }
}

#[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
fn sizing(asked: &Asked<'_>) -> Sizing {
    Sizing {
        writes_per_second: asked.writes_per_second as f64,
        connections: asked.connections as f64,
        target_percent: asked.target_utilization,
    }
}

fn is_calm(asked: &Asked<'_>, status: &ChannelClusterStatus) -> bool {
    let target = i32::try_from(asked.target_utilization).unwrap_or(100);
    let utilization = status.totals.as_ref().and_then(|totals| totals.utilization_percent);
    // What is unknown is not calm.
    let low = utilization.is_some_and(|utilization| utilization * 100 < target * CALM_PERCENT);
    low && status.operation.is_none()
}
