//! Scale-in, one node at a time.
//!
//! `Unready` -> the endpoint is out of the Service -> `Closing` -> empty -> `Removing`: lowest deletion cost, all other
//! pods ready -> replicas - 1 -> that pod is seen to go. Only one node drains at a time, and it takes the whole budget.
//!
//! While a node that serves does not hear the others, nothing begins and no step ends: a client that is moved then
//! comes back into a room that is cut in two, and messages that an emptied node still has for the others would be
//! lost with it. A node that was told to close goes on at its pace: it cannot take clients back.
//!
//! Orders go only to a node that answered when it was asked just before; an order to a dead process would only fail.

use crds::{Operation, ScaleIn, ScaleInStep};
use node_core::admin::NodePhase;

use super::budget::Budget;
use super::plan::{Action, FleetView, Plan, Running};
use crate::pod::{PodView, alive};
use crate::timestamp::{millis, time};

mod pick;
#[cfg(test)]
mod tests;

pub use pick::pick;

/// `controller.kubernetes.io/pod-deletion-cost` of a pod that is to go first: the lowest that the ReplicaSet
/// controller reads.
pub const LOWEST_COST: i32 = i32::MIN;
/// How long to wait for the endpoint to turn not ready, in milliseconds; EndpointSlices may be out of sight.
pub const UNREADY_DEADLINE_MILLIS: u64 = 60_000;
/// How much longer than its drain deadline a node may take before it is removed as it is, in milliseconds.
pub const DEADLINE_SLACK_MILLIS: u64 = 30_000;
/// How long a drained node waits until a pod that the ReplicaSet would remove in its stead becomes ready, in
/// milliseconds. After that the other pod is the better choice.
pub const REPLAN_MILLIS: u64 = 60_000;

/// The action that the Events of a scale-in name.
const ACTION: &str = "Drain";
/// The words for waiting without a quorum.
const UNKNOWN: &str = "too few nodes have fresh figures";
/// The words for waiting while a node that serves does not hear the others.
const UNHEARD: &str = "a node that serves does not hear the backplane";

impl Running for ScaleIn {
    fn holds(&self, pod_uid: &str) -> bool {
        self.pod_uid == pod_uid
    }

    fn place(&self) -> (&str, &'static str) {
        (&self.pod_uid, name(self.step))
    }

    fn headline(&self) -> String {
        format!("Draining {}", self.pod)
    }

    fn condition(&self) -> (&'static str, String) {
        let does = match self.step {
            ScaleInStep::Unready => "is being taken out of the Service",
            ScaleInStep::Closing => "closes its connections",
            ScaleInStep::Removing => "is drained and being removed",
        };
        (name(self.step), format!("{} {does}", self.pod))
    }

    fn clear_figures(&mut self) {
        self.connections = None;
    }
}

const fn name(step: ScaleInStep) -> &'static str {
    match step {
        ScaleInStep::Unready => "Unready",
        ScaleInStep::Closing => "Closing",
        ScaleInStep::Removing => "Removing",
    }
}

/// Nodes that are there to stay: `replicas` without the one that is being drained, if that is still counted.
pub(super) fn staying(operation: &ScaleIn, pods: &[PodView], replicas: i32) -> i32 {
    let victim = pods.iter().any(|pod| pod.uid == operation.pod_uid && !pod.terminating);
    if victim && alive(pods) <= replicas { replicas - 1 } else { replicas }
}

/// Whether more pods are there than wanted, so that the ReplicaSet is about to remove one.
fn lowered(fleet: &FleetView<'_>) -> bool {
    fleet.alive() > fleet.replicas
}

/// Begins a scale-in if fewer nodes are wanted.
pub(super) fn begin(fleet: &FleetView<'_>, plan: &mut Plan) {
    if fleet.desired >= fleet.replicas {
        return;
    }
    if !fleet.settled {
        plan.waiting = Some("a rollout is under way".to_owned());
        return;
    }
    let alive = fleet.alive();
    if let Some(unseen) = fleet.unseen() {
        // The unseen pods may serve: a watch that hangs must not take them away.
        plan.waiting = Some(unseen);
        return;
    }
    if alive > fleet.replicas {
        plan.waiting = Some(format!("{alive} pods for {} replicas", fleet.replicas));
        return;
    }
    if alive < fleet.replicas {
        // Pods that were never made need no drain.
        let to = fleet.desired.max(alive);
        plan.actions.push(Action::Replicas { from: fleet.replicas, to });
        return;
    }
    if !fleet.heard {
        plan.waiting = Some(UNHEARD.to_owned());
        return;
    }
    let Some(victim) = pick(fleet.pods) else { return };
    if victim.ready && !fleet.quorum {
        // This also holds in mode Manual: the node would be out of service for as long as the figures are missing.
        plan.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    // A pod without a process has no connections, is not in the Service, and takes no order.
    let step = if victim.vacant() { ScaleInStep::Removing } else { ScaleInStep::Unready };
    let now = time(fleet.now);
    plan.operation = Some(Operation::ScaleIn(ScaleIn {
        pod: victim.name.clone(),
        pod_uid: victim.uid.clone(),
        step,
        started_at: now.clone(),
        step_at: now,
        connections: pick::held(victim),
        connections_per_second: None,
    }));
    if step == ScaleInStep::Removing {
        plan.actions.push(Action::DeletionCost { pod: victim.name.clone(), cost: Some(LOWEST_COST) });
    } else if victim.answers() {
        plan.actions.push(Action::Unready { pod: victim.name.clone() });
    }
    plan.note(ACTION, "DrainStarted", false, format!("{} goes{}", victim.name, pick::why(victim)));
}

/// How many connections there are, for a sentence.
fn so_many(connections: Option<i64>) -> String {
    connections.map_or("an unknown number of".to_owned(), |connections| connections.to_string())
}

/// Goes on with a scale-in.
pub(super) fn go_on(operation: &ScaleIn, fleet: &FleetView<'_>, budget: &mut Budget, plan: &mut Plan) {
    let pod = &operation.pod;
    let Some(victim) = fleet.pods.iter().find(|p| p.uid == operation.pod_uid && !p.terminating) else {
        let removed = operation.step == ScaleInStep::Removing;
        let (reason, how) = if removed {
            ("NodeRemoved", "is drained and gone")
        } else {
            ("DrainedNodeGone", "went by itself")
        };
        plan.note(ACTION, reason, !removed, format!("{pod} {how}"));
        return;
    };
    if fleet.desired > staying(operation, fleet.pods, fleet.replicas) {
        plan.note(
            ACTION,
            "DrainCancelled",
            false,
            format!("{} nodes are wanted: {pod} is taken back", fleet.desired),
        );
        if fleet.desired > fleet.replicas {
            plan.actions.push(Action::Replicas { from: fleet.replicas, to: fleet.desired });
        }
        return; // the arbiter takes the node back
    }
    let stuck = fleet.now.saturating_sub(millis(&operation.step_at)) > REPLAN_MILLIS;
    let overtaken = fleet.pods.iter().find(|p| p.uid != victim.uid && !pick::goes_before(victim, p));
    if let (ScaleInStep::Removing, true, Some(other)) = (operation.step, stuck, overtaken) {
        plan.note(
            ACTION,
            "DrainReplanned",
            true,
            format!("{} is not ready and would go first: {pod} is taken back", other.name),
        );
        return;
    }
    if operation.step == ScaleInStep::Removing && deaf(victim) && !lowered(fleet) {
        // No order reaches the node. After the operation has ended, `pick` ranks nodes with unknown figures last.
        plan.note(
            ACTION,
            "DrainReplanned",
            true,
            format!("{pod} still serves and its admin port does not answer: another node is picked"),
        );
        return;
    }
    let mut next = operation.clone();
    next.connections = pick::held(victim).or(next.connections);
    if !fleet.heard {
        plan.waiting = Some(UNHEARD.to_owned());
        plan.operation = Some(Operation::ScaleIn(next));
        return;
    }
    match operation.step {
        ScaleInStep::Unready => unready(&mut next, victim, fleet, budget, plan),
        ScaleInStep::Closing => closing(&mut next, victim, fleet, budget, plan),
        ScaleInStep::Removing => removing(&mut next, victim, fleet, plan),
    }
    plan.operation = Some(Operation::ScaleIn(next));
}

/// Whether the node serves and does not answer: its admin port cannot be reached from here, or it only just became
/// ready.
fn deaf(victim: &PodView) -> bool {
    victim.ready && victim.node.is_none()
}

fn unready(
    next: &mut ScaleIn,
    victim: &PodView,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let pod = victim.name.clone();
    if victim.vacant() {
        return emptied(next, victim, fleet, plan);
    }
    if !fleet.quorum {
        plan.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    let late = fleet.now.saturating_sub(millis(&next.step_at)) > UNREADY_DEADLINE_MILLIS;
    let out_of_service = victim.endpoint_ready != Some(true) && !victim.ready;
    if out_of_service || late {
        next.step = ScaleInStep::Closing;
        next.step_at = time(fleet.now);
        let rate = budget.take_all();
        next.connections_per_second = Some(rate);
        if victim.answers() {
            plan.actions.push(Action::Close { pod, rate });
        }
        let how =
            if out_of_service { "is out of the Service" } else { "was still in the Service after 60 s" };
        let message =
            format!("{} {how}, closes {} connections at {rate}/s", victim.name, so_many(next.connections));
        plan.note(ACTION, "DrainClosing", late && !out_of_service, message);
        return;
    }
    plan.waiting = Some(format!("{pod} is still in the Service"));
    if victim.answers() && victim.node.is_some_and(|node| node.phase != NodePhase::Unready) {
        plan.actions.push(Action::Unready { pod });
    }
}

fn closing(
    next: &mut ScaleIn,
    victim: &PodView,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let pod = victim.name.clone();
    let phase = victim.node.map(|node| node.phase);
    let empty = victim.vacant()
        || phase == Some(NodePhase::Closed)
        || (phase == Some(NodePhase::Closing) && next.connections == Some(0));
    if empty {
        return emptied(next, victim, fleet, plan);
    }
    if !fleet.quorum {
        plan.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    if fleet.now.saturating_sub(millis(&next.step_at)) > fleet.deadline + DEADLINE_SLACK_MILLIS {
        next.step = ScaleInStep::Removing;
        next.step_at = time(fleet.now);
        plan.actions.push(Action::DeletionCost { pod, cost: Some(LOWEST_COST) });
        let message =
            format!("{} still has {} connections after the deadline", victim.name, so_many(next.connections));
        plan.note(ACTION, "DrainDeadline", true, message);
        return;
    }
    plan.waiting = Some(format!("{} connections left on {pod}", so_many(next.connections)));
    if !victim.answers() {
        return; // the node is told once it answers, whatever it was told before
    }
    // The node keeps the pace that it was told last, so it is told again when the pace has changed.
    let rate = budget.take_all();
    let paced = next.connections_per_second.replace(rate);
    if phase != Some(NodePhase::Closing) || paced != Some(rate) || !fleet.told {
        plan.actions.push(Action::Close { pod, rate });
    }
}

/// The node has no clients any more: it is the next to go.
fn emptied(next: &mut ScaleIn, victim: &PodView, fleet: &FleetView<'_>, plan: &mut Plan) {
    next.step = ScaleInStep::Removing;
    next.step_at = time(fleet.now);
    plan.actions.push(Action::DeletionCost { pod: victim.name.clone(), cost: Some(LOWEST_COST) });
    let how = if victim.vacant() { "does not run any more" } else { "has no connections left" };
    plan.note(ACTION, "DrainEmpty", false, format!("{} {how}", victim.name));
}

fn removing(next: &mut ScaleIn, victim: &PodView, fleet: &FleetView<'_>, plan: &mut Plan) {
    let pod = victim.name.clone();
    let says = victim.node.is_some_and(|node| node.phase == NodePhase::Serving);
    let serves = !victim.vacant() && (victim.ready || says);
    if serves && !lowered(fleet) {
        // The node was pending when it was picked, or its process was restarted since.
        next.step = ScaleInStep::Unready;
        next.step_at = time(fleet.now);
        if victim.answers() {
            plan.actions.push(Action::Unready { pod });
        }
        return;
    }
    if victim.deletion_cost != Some(LOWEST_COST) {
        plan.actions.push(Action::DeletionCost { pod, cost: Some(LOWEST_COST) });
        plan.waiting = Some("the deletion cost is being set".to_owned());
        return;
    }
    if lowered(fleet) {
        plan.waiting = Some(format!("{pod} is about to be removed"));
        return;
    }
    if !fleet.settled {
        plan.waiting = Some("a rollout is under way".to_owned());
        return;
    }
    if let Some(unseen) = fleet.unseen() {
        plan.waiting = Some(unseen); // an unseen pod might be removed instead
        return;
    }
    if let Some(other) = fleet.pods.iter().find(|p| p.uid != victim.uid && !pick::goes_before(victim, p)) {
        plan.waiting = Some(format!("{} is not ready and would be removed instead", other.name));
        return;
    }
    plan.actions.push(Action::Replicas { from: fleet.replicas, to: fleet.replicas - 1 });
}
