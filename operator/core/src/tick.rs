//! The whole decision of one look at a ChannelCluster: from what was seen to the status to write, the actions to take once it
//! is written, and what to say. The operator, the simulations and a tool that explains a decision call the same.

use std::collections::BTreeMap;

use crds::{
    AutoscalingMode, CapacityStatus, ChannelClusterStatus, RefusedSysctls, RefusedUserIds, RolloutStatus,
    SysctlProbes,
};

use crate::asked::Asked;
use crate::autoscale::{Decision, Inputs, Settings, State};
use crate::capacity::{Sizing, derived, learned};
use crate::conditions::HOT_NODES;
use crate::contest::{self, Contest};
use crate::heat::Heat;
use crate::hindrance::{self, Hindrance};
use crate::names::Component;
use crate::observation::Observation;
use crate::operations::arbiter::{self, running};
use crate::operations::paces::Paces;
use crate::operations::plan::{Action, Balance, FleetView, Held, Note, Plan};
use crate::operations::replace;
use crate::operations::rollout;
use crate::operations::rollout::gate::{Gate, Verdict};
use crate::pod::PodView;
use crate::refusals::Refusals;
use crate::refused;
use crate::samples::{NodeLoad, NodeSeries};
use crate::seen;
use crate::source;
use crate::status::compute;
use crate::sysctl_probes::{self, Order};
use crate::user_ids;
use crate::validate::ValidatedCluster;
use crate::view::{NodeSeen, Outcome, Tried, View};

#[cfg(test)]
mod tests;

/// Part of the target utilization from which on a fleet is not calm, in percent of it.
const CALM_PERCENT: i32 = 50;

/// What is remembered of one ChannelCluster from tick to tick. Nothing that must outlive the process: that is in the status.
#[derive(Debug, Default)]
pub struct Memory {
    scaling: Option<State>,
    /// How fast nodes may be closing connections.
    paces: Paces,
    /// How nodes of a new template do beside others.
    gate: Gate,
    /// How often nodes refuse clients.
    refusals: Refusals,
    /// When each hindrance was first seen.
    ages: hindrance::Ages,
    /// What was contested when that was last said.
    contested: Option<Contest>,
    /// What hindered when that was last said.
    hindered: Vec<(Component, hindrance::Reason)>,
}

impl Memory {
    /// Notes that an action was carried out, or that it failed.
    pub fn note(&mut self, action: &Action, done: bool) {
        self.paces.note(action, done);
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

impl From<Note> for Saying {
    fn from(note: Note) -> Self {
        let Note { action, reason, message, warning } = note;
        Self { warning, reason, action: action.to_owned(), message }
    }
}

/// What one tick decided.
#[derive(Debug)]
pub struct Tick {
    /// The status to write before anything else is done.
    pub status: ChannelClusterStatus,
    /// What to do then, in order.
    pub actions: Vec<Action>,
    /// What to do about the pods that try sysctls.
    pub probes: Vec<Order>,
    /// What to say of the state that was found.
    pub found: Vec<Saying>,
    /// What to say of what is being done.
    pub done: Vec<Saying>,
    /// What was decided of the node count, with everything that it was made from; none while there is nothing to decide on.
    pub decision: Option<Decision>,
    /// The rule of a decision that was not made before.
    pub rule: Option<&'static str>,
    /// How many nodes an operation took up, let go or brought to their next step.
    pub steps: u64,
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
    /// What was learned of what a node carries.
    capacity: Option<CapacityStatus>,
    plan: Plan,
    /// Why a rollout does not go on by itself.
    verdict: Option<Verdict>,
}

/// Decides. `memory` is what the last call left there.
#[must_use]
pub fn tick(memory: &mut Memory, seen: &Observation<'_>) -> Tick {
    let previous = seen.previous;
    memory.ages.look(seen.now, seen.hindrances, previous);
    let nodes = nodes(seen, &mut memory.refusals);
    let decided = decide(memory, seen, &nodes);
    let (probes, orders) = probes(seen);
    let status = status(memory, seen, &nodes, decided.as_ref(), probes.as_ref());
    let mut found = refusals(previous, &status);
    found.extend(rollout::record::sayings(previous, &status).into_iter().map(Saying::from));
    memory.hindrances(seen.hindrances, &mut found);
    memory.contest(seen.contest, &mut found);
    found.extend(hot_nodes(previous, &status));
    let mut tick = Tick {
        actions: Vec::new(),
        probes: orders,
        found,
        done: Vec::new(),
        decision: None,
        rule: None,
        steps: steps(previous, &status),
        waiting: None,
        calm: is_calm(seen.asked, &status),
        status,
    };
    if let Some(Decided { decision, plan, .. }) = decided {
        if previous.decisions.first() != tick.status.decisions.first() {
            tick.rule = Some(decision.rule.as_str());
            tick.done.push(scaling(&decision));
        }
        tick.done.extend(plan.notes.into_iter().map(Saying::from));
        tick.actions = plan.actions;
        tick.waiting = plan.waiting;
        tick.decision = Some(decision);
    }
    tick
}

/// The nodes with what they said of themselves.
fn nodes(seen: &Observation<'_>, refusals: &mut Refusals) -> Vec<NodeSeen> {
    let now = seen.now;
    refusals.look(seen.series, now);
    let sizing = seen.valid.map(|valid| Sizing::live(valid, seen.previous.capacity.as_ref()));
    let node = |pod: &PodView| {
        let series = seen.series.get(&pod.uid);
        let load = seen::load(pod, series, now);
        NodeSeen {
            pod: PodView {
                node: series.and_then(|s| seen::view(s, now)),
                bearing: series.and_then(|s| seen::bearing(s, refusals.rate(&pod.uid), now)),
                ..pod.clone()
            },
            stats: series.and_then(|s| s.fresh(now)).cloned(),
            rates: series.and_then(|s| s.rates(now)),
            hearing: series.and_then(|s| s.hearing(now)),
            last_at: series.and_then(NodeSeries::last_at),
            runs: seen::runs(pod, series),
            hot: sizing.filter(|_| load.ready).and_then(|sizing| Heat::of(&load, &sizing)),
        }
    };
    seen.pods.iter().map(node).collect()
}

/// None while there is nothing to decide on.
fn decide(memory: &mut Memory, seen: &Observation<'_>, nodes: &[NodeSeen]) -> Option<Decided> {
    let (valid, now) = (seen.valid?, seen.now);
    seen.current()?;
    if seen.asked.paused || is_gone(seen, valid) {
        return None;
    }
    let operation = seen.previous.operation.as_ref();
    let pods: Vec<PodView> = nodes.iter().map(|node| node.pod.clone()).collect();
    let before = seen.previous.desired_replicas;
    let replaces = replace::is_under_way(&pods) || arbiter::replaces(operation);
    let planned = |counted| {
        let counted = before.filter(|_| replaces).unwrap_or(counted);
        rollout::planned(seen.deployments, before, counted)
    };
    let current = planned(arbiter::staying(operation, &pods, seen.deployments));
    let load =
        |pod: &PodView| source::load(seen::load(pod, seen.series.get(&pod.uid), now), pod, seen.figures, now);
    let loads: Vec<NodeLoad> = pods.iter().map(load).collect();
    let state = memory.scaling.get_or_insert_with(|| State::new(now, current));
    let inputs = Inputs { now, current, replicas: planned(seen.replicas()), nodes: &loads };
    let capacity = learn(seen, valid, nodes);
    let settings = Settings::of(valid).at(valid, seen.asked.holds, now).knowing(valid, capacity.as_ref());
    let decision = state.step(&settings, inputs);
    let whole = valid.drain.connections_per_second;
    memory.paces.look(now, operation, &pods, whole);
    let verdict = memory.gate(seen, nodes);
    let mut fleet = FleetView::of(seen, &pods, &decision, &memory.paces)?;
    if verdict.is_some() {
        fleet.rollout.held = Some(Held::Worse);
    }
    let plan = arbiter::plan(operation, &fleet);
    Some(Decided { current, decision, capacity, plan, verdict })
}

/// What was learned and derived of what a node carries, with what the nodes show now; none where the spec gives numbers.
fn learn(seen: &Observation<'_>, valid: &ValidatedCluster, nodes: &[NodeSeen]) -> Option<CapacityStatus> {
    let (capacity, before) = (valid.capacity, seen.previous.capacity.as_ref());
    let writes_per_second = capacity.learns_writes.then(|| {
        let before = before.and_then(|before| before.writes_per_second.as_ref());
        let shown: Vec<_> = nodes.iter().filter_map(learned::Shown::of).collect();
        learned::learn(before, &shown, capacity.writes_per_second, seen.now)
    });
    let connections = capacity.derived.map(|given| {
        let before = before.and_then(|before| before.connections.as_ref());
        derived::derive(before, &derived::Look::of(nodes), &given, seen.now)
    });
    let known = CapacityStatus { writes_per_second, connections };
    (known != CapacityStatus::default()).then_some(known)
}

/// Whether the current Deployment was deleted: the status knows it, and the next reconcile makes it again. Until then the newest
/// of the others looks like the current one, and must not grow.
fn is_gone(seen: &Observation<'_>, valid: &ValidatedCluster) -> bool {
    let known = |template: Option<&String>| template == Some(&valid.template);
    let before = seen.previous.rollout.as_ref().and_then(|rollout| rollout.deployments.first());
    let refused = matches!(seen.outcome, Outcome::Refused(_) | Outcome::Invalid(_) | Outcome::Conflict(_));
    before.is_some_and(|before| known(before.template.as_ref()))
        && !known(seen.current().map(|of| &of.template))
        && !refused
}

fn status(
    memory: &Memory,
    seen: &Observation<'_>,
    nodes: &[NodeSeen],
    decided: Option<&Decided>,
    probes: Option<&SysctlProbes>,
) -> ChannelClusterStatus {
    let (asked, valid, previous) = (seen.asked, seen.valid, seen.previous);
    // While nothing is decided an operation stays where it is.
    let operation = match decided {
        Some(decided) => decided.plan.operation.as_ref(),
        None => previous.operation.as_ref(),
    };
    let generation = asked.generation;
    let outcome = if seen.generation == generation { seen.outcome } else { &Outcome::Pending };
    let replicas = seen.replicas();
    let nothing = BTreeMap::new();
    let refused = refused_sysctls(seen, outcome);
    let refused_ids = refused_ids(seen, outcome);
    let rollout = rollout_status(seen, nodes, decided);
    compute(&View {
        now: seen.now,
        previous,
        generation,
        outcome,
        paused: asked.paused,
        mode: asked.mode,
        min: least(asked, valid),
        sizing: valid.map_or_else(|| sizing(asked), |valid| Sizing::live(valid, previous.capacity.as_ref())),
        capacity: decided.map_or(previous.capacity.as_ref(), |decided| decided.capacity.as_ref()),
        sysctls: valid.map_or(&nothing, |valid| &valid.pod.sysctls),
        nofile: asked.nofile,
        nodes,
        settled: seen.deployments.iter().all(|deployment| !deployment.rolling)
            && !rollout::is_under_way(seen.deployments),
        rollout: rollout.as_ref(),
        selector: &asked.names.selector_string(Component::Node),
        node_image: seen.current().and_then(|deployment| deployment.image.as_deref()),
        current: decided.map_or(replicas, |decided| decided.current),
        decision: decided.map(|decided| &decided.decision),
        operation,
        balance: decided.map_or(&Balance::Unknown, |decided| &decided.plan.balance),
        moves: decided.and_then(|decided| decided.plan.moves.as_ref()).or(previous.moves.as_ref()),
        refused: refused.as_ref(),
        refused_ids: refused_ids.as_ref(),
        tried: Tried { record: probes, lacks: seen.sysctl_wish().is_some_and(|(_, wish)| wish.lacks) },
        holds: asked.holds,
        figures: seen.figures,
        contest: seen.contest,
        hindrances: seen.hindrances,
        hindered_since: memory.ages.since(seen.hindrances),
    })
}

/// What is to be recorded of a rollout.
fn rollout_status(
    seen: &Observation<'_>,
    nodes: &[NodeSeen],
    decided: Option<&Decided>,
) -> Option<RolloutStatus> {
    let before = seen.previous.rollout.as_ref();
    let Some(Decided { verdict, .. }) = decided else { return before.cloned() };
    Some(rollout::record::status(seen, nodes, verdict.as_ref()))
}

/// What is to be recorded of sysctls that were refused.
fn refused_sysctls(seen: &Observation<'_>, outcome: &Outcome) -> Option<RefusedSysctls> {
    let recorded = seen.previous.refused_sysctls.as_ref();
    let applied = seen.valid.filter(|_| *outcome == Outcome::Applied);
    // What was tried for another tuning says nothing of the present one; what was tried for it counts however the spec fares.
    let wish = seen.sysctl_wish().filter(|(of, _)| of.pod.tuning == seen.asked.tuning);
    let tried =
        wish.as_ref().map(|(of, wish)| sysctl_probes::rejected(wish, seen.probing.pods, &of.template));
    let tried = tried.unwrap_or_default();
    let wanted = wish.map(|(of, _)| of).filter(|_| !tried.is_empty());
    let Some(valid) = wanted.or(applied) else { return recorded.cloned() };
    let serving = seen.pods.iter().filter(|pod| pod.ready).flat_map(|pod| pod.sysctls.clone()).collect();
    let rejected: Vec<_> = seen.rejected.iter().cloned().chain(tried).collect();
    refused::step(recorded, &seen.asked.tuning, &valid.template, &rejected, &serving)
}

/// What is to be recorded of the pods that try unsafe sysctls, and done about them. Nothing is tried of a spec that a user paused.
fn probes(seen: &Observation<'_>) -> (Option<SysctlProbes>, Vec<Order>) {
    let recorded = seen.previous.sysctl_probes.as_ref();
    if seen.asked.paused || (seen.valid.is_none() && seen.probing.waiting.is_none()) {
        let left = seen.probing.pods.iter().filter_map(|pod| pod.name.clone().map(Order::Delete));
        return (recorded.cloned(), left.collect());
    }
    let wish = seen.sysctl_wish().map(|(_, wish)| wish);
    sysctl_probes::step(recorded, wish.as_ref(), seen.probing.pools, seen.probing.pods, seen.now)
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
    /// Compares the nodes of the current template with others. What was found before lasts for as long as the spec is the same.
    /// Nothing is found while a changed spec is not reconciled yet: the nodes are not those that are wanted.
    fn gate(&mut self, seen: &Observation<'_>, nodes: &[NodeSeen]) -> Option<Verdict> {
        let operation = seen.previous.operation.as_ref().map(running);
        let goes = |pod: &PodView| operation.is_some_and(|operation| operation.holds(&pod.uid));
        let under_way = rollout::is_under_way(seen.deployments).then_some(seen.generation);
        let found = self.gate.look(seen.current()?, under_way, nodes, goes, seen.now);
        let found = found.filter(|_| seen.generation == seen.asked.generation);
        rollout::record::lasting(seen).or(found)
    }

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

/// Says once that nodes are hot.
fn hot_nodes(previous: &ChannelClusterStatus, status: &ChannelClusterStatus) -> Option<Saying> {
    let hot = |status: &ChannelClusterStatus| {
        status.conditions.iter().find(|c| c.type_ == HOT_NODES && c.status == "True").cloned()
    };
    let now = hot(status).filter(|_| hot(previous).is_none())?;
    Some(Saying { warning: false, reason: HOT_NODES, action: "Watch".to_owned(), message: now.message })
}

fn scaling(decision: &Decision) -> Saying {
    Saying {
        warning: false,
        reason: "Scaling",
        action: format!("ScaleTo{}", decision.desired),
        message: format!("{} nodes, {}: {}", decision.desired, decision.rule, decision.message),
    }
}

/// How many pods are at another step of an operation than before, begin one, or are let go by it.
fn steps(previous: &ChannelClusterStatus, next: &ChannelClusterStatus) -> u64 {
    let places = |status: &ChannelClusterStatus| -> BTreeMap<String, &'static str> {
        let operation = status.operation.as_ref().map(running);
        let places = operation.map(|operation| operation.places()).unwrap_or_default();
        places.into_iter().map(|(uid, step)| (uid.to_owned(), step)).collect()
    };
    let (before, after) = (places(previous), places(next));
    let entered = after.iter().filter(|(uid, step)| before.get(*uid) != Some(*step)).count();
    let left = before.keys().filter(|uid| !after.contains_key(*uid)).count();
    (entered + left) as u64
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
