//! Nodes on their way out, many at a time.
//!
//! (`Replacing` ->) `Unready` -> the endpoint is out of the Service -> `Waiting` -> `Closing` -> empty -> `Removing`: lowest
//! deletion cost, and the replicas of its Deployment go down. [`leave`] says which nodes are to go. All of them leave the Service before the next
//! one closes its connections, so that no client is sent to a node that is to go. Then they close within the one budget of the
//! fleet ([`pacing`]), and each is removed as soon as it is empty ([`removal`]).
//!
//! While a node that serves does not hear the others, nothing begins and no step ends: a client that is moved then
//! comes back into a room that is cut in two, and messages that an emptied node still has for the others would be
//! lost with it. A node that was told to close goes on at its pace: it cannot take clients back.
//!
//! Orders go only to a node that answered when it was asked just before; an order to a dead process would only fail. One node
//! that takes no order stops no other.

use crds::{DrainOperation, DrainStep, LeavingNode, Operation};
use node_core::admin::NodePhase;

use super::budget::Budget;
use super::going::{UNHEARD, UNKNOWN, pod_of, so_many};
use super::leave;
use super::machine;
use super::pick;
use super::plan::{Action, FleetView, Plan};
use super::rollout;
use super::said::Said;
use crate::pod::PodView;
use crate::timestamp::{millis, time};

mod pacing;
mod removal;
#[cfg(test)]
mod tests;
mod words;

/// How long to wait for the endpoint to turn not ready, in milliseconds; EndpointSlices may be out of sight.
pub const UNREADY_DEADLINE_MILLIS: u64 = 60_000;
/// How much longer than its drain deadline a node may take before it is removed as it is, in milliseconds.
pub const DEADLINE_SLACK_MILLIS: u64 = 30_000;
/// How long a drained node waits until a pod that the ReplicaSet would remove in its stead becomes ready, in
/// milliseconds. After that the other pod is the better choice.
pub const REPLAN_MILLIS: u64 = 60_000;

/// The action that the Events of a drain name.
const ACTION: &str = "Drain";
/// One look at the nodes that go, and at whether others are to go.
pub(super) fn look(
    recorded: Option<&DrainOperation>,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let mut said = Said::default();
    let mut going = recorded.map(|drain| drain.nodes.clone()).unwrap_or_default();
    going.retain_mut(|node| is_there(node, fleet, &mut said));
    let dropped = replan(&mut going, fleet, &mut said);
    machine::decide(&mut going, &dropped, fleet, &mut said);
    let decide = if rollout::is_under_way(fleet.deployments) { rollout::decide } else { leave::decide };
    decide(&mut going, &dropped, fleet, plan, &mut said);
    for node in &mut going {
        let held = pod_of(node, fleet.pods).and_then(pick::held);
        node.connections = held.or(node.connections);
    }
    if fleet.heard {
        let leave = machine::leave_now(&going, fleet, plan);
        for node in &mut going {
            match pod_of(node, fleet.pods) {
                Some(pod) if leave.contains(&pod.uid) => to_unready(node, pod, fleet, plan),
                Some(pod) => advance(node, pod, fleet, plan, &mut said),
                None => {}
            }
        }
        let started = recorded.map_or(fleet.now, |drain| millis(&drain.started_at));
        pacing::pace(&mut going, started, fleet, budget, plan, &mut said);
        removal::remove(&going, fleet, plan);
    } else if !going.is_empty() {
        plan.wait(UNHEARD.to_owned());
    }
    said.tell(ACTION, plan);
    if !going.is_empty() {
        let started_at = recorded.map_or_else(|| time(fleet.now), |drain| drain.started_at.clone());
        plan.operation = Some(Operation::Drain(DrainOperation { started_at, nodes: going }));
    }
}

/// Whether the node is there; says how it went if not.
fn is_there(node: &mut LeavingNode, fleet: &FleetView<'_>, said: &mut Said) -> bool {
    if pod_of(node, fleet.pods).is_some() || machine::is_evicted(node, fleet, said) {
        return true;
    }
    if node.step == DrainStep::Removing {
        said.more("NodeRemoved", false, format!("{} is drained and gone", node.pod));
    } else {
        said.more("DrainedNodeGone", true, format!("{} went by itself", node.pod));
    }
    false
}

/// Gives up nodes that cannot be removed though they are drained; gives their UIDs.
fn replan(going: &mut Vec<LeavingNode>, fleet: &FleetView<'_>, said: &mut Said) -> Vec<String> {
    let mut dropped: Vec<String> = Vec::new();
    let mut overtaking: Vec<&str> = Vec::new();
    for at in (0..going.len()).rev() {
        let node = &going[at];
        let Some(pod) = pod_of(node, fleet.pods) else { continue };
        if node.step != DrainStep::Removing || fleet.lowered(&pod.deployment) {
            continue;
        }
        let stuck = fleet.now.saturating_sub(millis(&node.step_at)) > REPLAN_MILLIS;
        // One pod that would go first is the better choice in the place of one node.
        let other =
            removal::overtakes(pod, going, fleet).find(|other| !overtaking.contains(&other.uid.as_str()));
        let why = if let (true, Some(other)) = (stuck, other) {
            overtaking.push(&other.uid);
            format!("{} is not ready and would go first: {} is taken back", other.name, node.pod)
        } else if deaf(pod) {
            // No order reaches the node. Nodes with unknown figures are picked last.
            format!("{} still serves and its admin port does not answer: another node is picked", node.pod)
        } else {
            continue;
        };
        said.more("DrainReplanned", true, why);
        dropped.push(going.remove(at).pod_uid);
    }
    dropped
}

/// Whether the node serves and does not answer: its admin port cannot be reached from here, or it only just became
/// ready.
fn deaf(pod: &PodView) -> bool {
    pod.ready && pod.node.is_none()
}

/// Ends the step of a node that is further than it.
fn advance(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, plan: &mut Plan, said: &mut Said) {
    match node.step {
        DrainStep::Replacing | DrainStep::Unready | DrainStep::Waiting | DrainStep::Closing
            if pod.vacant() =>
        {
            emptied(node, pod, fleet, said);
        }
        DrainStep::Unready => unready(node, pod, fleet, plan, said),
        DrainStep::Waiting if serves(pod) => to_unready(node, pod, fleet, plan),
        DrainStep::Replacing | DrainStep::Waiting => {}
        DrainStep::Closing => closing(node, pod, fleet, plan, said),
        DrainStep::Removing if in_service(pod) && !fleet.lowered(&pod.deployment) => {
            to_unready(node, pod, fleet, plan); // it was pending when it was picked, or its process was restarted since
        }
        DrainStep::Removing => {}
    }
}

/// Whether the node says that it serves.
fn serves(pod: &PodView) -> bool {
    pod.node.is_some_and(|node| node.phase == NodePhase::Serving)
}

/// Whether clients may be sent to the node. The kubelet may be late to notice that it is drained, and its last answer may be
/// that of a process which ended.
fn in_service(pod: &PodView) -> bool {
    let closed = pod.node.is_some_and(|node| node.answers && node.phase == NodePhase::Closed);
    !pod.vacant() && !closed && (pod.ready || serves(pod))
}

/// Lets a node leave the Service, once more if need be.
fn to_unready(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, plan: &mut Plan) {
    (node.step, node.step_at) = (DrainStep::Unready, time(fleet.now));
    node.connections_per_second = None;
    if pod.answers() {
        plan.actions.push(Action::Unready { pod: pod.name.clone() });
    }
}

fn unready(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, plan: &mut Plan, said: &mut Said) {
    if !fleet.quorum {
        plan.wait(UNKNOWN.to_owned());
        return;
    }
    let late = fleet.now.saturating_sub(millis(&node.step_at)) > UNREADY_DEADLINE_MILLIS;
    let out_of_service = pod.endpoint_ready != Some(true) && !pod.ready;
    if out_of_service || late {
        (node.step, node.step_at) = (DrainStep::Waiting, time(fleet.now));
        if !out_of_service {
            let message =
                format!("{} was still in the Service after 60 s and is to close its connections", pod.name);
            said.more("DrainClosing", true, message);
        }
        return;
    }
    plan.wait(format!("{} is still in the Service", pod.name));
    if pod.answers() && pod.node.is_some_and(|node| node.phase != NodePhase::Unready) {
        plan.actions.push(Action::Unready { pod: pod.name.clone() });
    }
}

fn closing(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, plan: &mut Plan, said: &mut Said) {
    let phase = pod.node.map(|node| node.phase);
    if phase == Some(NodePhase::Closed) || (phase == Some(NodePhase::Closing) && node.connections == Some(0))
    {
        return emptied(node, pod, fleet, said);
    }
    if !fleet.quorum {
        plan.wait(UNKNOWN.to_owned());
        return;
    }
    if fleet.now.saturating_sub(millis(&node.step_at)) > fleet.deadline + DEADLINE_SLACK_MILLIS {
        (node.step, node.step_at) = (DrainStep::Removing, time(fleet.now));
        let left = so_many(node.connections);
        said.more(
            "DrainDeadline",
            true,
            format!("{} still has {left} connections after the deadline", pod.name),
        );
        return;
    }
    if serves(pod) && pod.ready {
        return to_unready(node, pod, fleet, plan); // its process was restarted, and is in the Service again
    }
    plan.wait(format!("{} connections left on {}", so_many(node.connections), pod.name));
}

/// The node has no clients any more: it is to be removed.
fn emptied(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, said: &mut Said) {
    (node.step, node.step_at) = (DrainStep::Removing, time(fleet.now));
    node.connections_per_second = None;
    let how = if pod.vacant() { "does not run any more" } else { "has no connections left" };
    said.more("DrainEmpty", false, format!("{} {how}", pod.name));
}
