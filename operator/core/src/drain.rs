//! Scale-in, one node at a time, as steps that any operator can go on with.
//!
//! [`step`] looks at the operation recorded in the status and at what is there now, and answers with the operation to
//! record and the actions to take *after* it was recorded. It never counts on an earlier action having worked: it looks,
//! and repeats what is not done yet. An operator may die at any point.
//!
//! `Unready` -> the endpoint is out of the Service -> `Closing` -> empty -> `Removing`: lowest deletion cost, all other
//! pods ready -> replicas - 1 -> that pod is seen to go. Only one node drains at a time, so the cluster-wide budget is
//! the rate given to it.

use crds::{Operation, OperationStep};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use node_core::admin::Phase;

mod pick;
#[cfg(test)]
mod simulation;
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
/// How long a drained node waits for a pod that would be removed in its stead to become ready, in milliseconds. Then that
/// pod is the better choice.
pub const REPLAN_MILLIS: u64 = 60_000;

/// A node pod as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The Ready condition.
    pub ready: bool,
    /// Whether it never ran yet.
    pub pending: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// When it was made, in milliseconds.
    pub created: u64,
    /// Its deletion cost annotation.
    pub deletion_cost: Option<i32>,
    /// Whether its endpoint is ready in the Service; none when no endpoint is known.
    pub endpoint_ready: Option<bool>,
    /// What the node last said of itself, if that is fresh.
    pub node: Option<NodeView>,
}

/// What a node said of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeView {
    /// Where it is in its life.
    pub phase: Phase,
    /// Connections held.
    pub connections: u64,
    /// Messages delivered per second; 0 when not known yet.
    pub writes_per_second: f64,
}

/// What is there now.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The node pods that have not ended, terminating ones included.
    pub pods: &'a [PodView],
    /// The Deployment's replicas.
    pub replicas: i32,
    /// Pods that the Deployment's controller counts, terminating ones not. More than in `pods`: those are out of date.
    pub existing: i32,
    /// Whether the Deployment is not in the middle of a rollout.
    pub settled: bool,
    /// Nodes wanted.
    pub desired: i32,
    /// Whether enough nodes are known to go on shrinking.
    pub quorum: bool,
    /// `drain.connectionsPerSecond`.
    pub connections_per_second: u32,
    /// Whether the last [`Action::Close`] is known to have reached its node: the operation is recorded before that.
    pub told: bool,
    /// `drain.deadline` in milliseconds.
    pub deadline: u64,
}

/// What to do once the operation is recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell the node to turn unready.
    Unready {
        /// Pod name.
        pod: String,
    },
    /// Tell the node to close its connections.
    Close {
        /// Pod name.
        pod: String,
        /// Connections per second.
        rate: u32,
    },
    /// Tell the node to serve again.
    TakeBack {
        /// Pod name.
        pod: String,
    },
    /// Set the deletion cost annotation, or remove it.
    DeletionCost {
        /// Pod name.
        pod: String,
        /// The cost.
        cost: Option<i32>,
    },
    /// Set the Deployment's replicas.
    Replicas {
        /// The count that was seen: nothing is written over another count.
        from: i32,
        /// The count.
        to: i32,
    },
}

/// Something that a person should hear of, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// CamelCase reason of the Event.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Whether something is wrong.
    pub warning: bool,
}

/// The outcome of [`step`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The operation to record before acting.
    pub operation: Option<Operation>,
    /// What to do then.
    pub actions: Vec<Action>,
    /// What to say.
    pub notes: Vec<Note>,
    /// Why the operation does not go on now.
    pub waiting: Option<String>,
}

impl Step {
    fn note(&mut self, reason: &'static str, warning: bool, message: String) {
        self.notes.push(Note { reason, message, warning });
    }
}

/// Nodes that are there to stay: the Deployment's replicas without a node that is being drained and still counted.
#[must_use]
pub fn staying(operation: Option<&Operation>, pods: &[PodView], replicas: i32) -> i32 {
    let victim = operation.is_some_and(|op| pods.iter().any(|pod| pod.uid == op.pod_uid && !pod.terminating));
    if victim && !lowered(pods, replicas) { replicas - 1 } else { replicas }
}

/// Whether more pods are there than wanted, so that the ReplicaSet is about to remove one.
fn lowered(pods: &[PodView], replicas: i32) -> bool {
    alive(pods) > replicas
}

fn alive(pods: &[PodView]) -> i32 {
    i32::try_from(pods.iter().filter(|pod| !pod.terminating).count()).unwrap_or(i32::MAX)
}

/// Milliseconds since 1970 as Kubernetes writes a time, to the second.
#[must_use]
pub fn time(millis: u64) -> Time {
    let seconds = i64::try_from(millis / 1_000).unwrap_or_default();
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or_default()
}

/// One look at a cluster: what to record and what to do. See the module.
#[must_use]
pub fn step(operation: Option<&Operation>, seen: &Observed<'_>) -> Step {
    let mut out = Step::default();
    match operation {
        Some(operation) => advance(operation, seen, &mut out),
        None => begin(seen, &mut out),
    }
    tidy(seen, &mut out);
    out
}

/// Takes back whatever is drained without an operation: a node must never stay out of service because an operator died
/// between two steps.
fn tidy(seen: &Observed<'_>, out: &mut Step) {
    for pod in seen.pods.iter().filter(|pod| !pod.terminating) {
        if out.operation.as_ref().is_some_and(|op| op.pod_uid == pod.uid) {
            continue;
        }
        if pod.node.is_some_and(|node| matches!(node.phase, Phase::Unready | Phase::Closing | Phase::Closed))
        {
            out.actions.push(Action::TakeBack { pod: pod.name.clone() });
        }
        if pod.deletion_cost == Some(LOWEST_COST) {
            out.actions.push(Action::DeletionCost { pod: pod.name.clone(), cost: None });
        }
    }
}

/// Grows, or begins a scale-in.
fn begin(seen: &Observed<'_>, out: &mut Step) {
    if seen.desired > seen.replicas {
        out.actions.push(Action::Replicas { from: seen.replicas, to: seen.desired });
        return;
    }
    if seen.desired == seen.replicas {
        return;
    }
    if !seen.settled {
        out.waiting = Some("a rollout is under way".to_owned());
        return;
    }
    let alive = alive(seen.pods);
    if let Some(unseen) = unseen(seen) {
        // They serve perhaps: a watch that hangs must not take them away.
        out.waiting = Some(unseen);
        return;
    }
    if alive > seen.replicas {
        out.waiting = Some(format!("{alive} pods for {} replicas", seen.replicas));
        return;
    }
    if alive < seen.replicas {
        // Pods that were never made need no drain.
        let to = seen.desired.max(alive);
        out.actions.push(Action::Replicas { from: seen.replicas, to });
        return;
    }
    let Some(victim) = pick(seen.pods) else { return };
    if victim.ready && !seen.quorum {
        // In mode Manual too: it would be out of service for as long as the figures are missing.
        out.waiting = Some("too few nodes have fresh figures".to_owned());
        return;
    }
    // A pod that never ran holds nothing and is not in the Service.
    let step = if victim.pending { OperationStep::Removing } else { OperationStep::Unready };
    let now = time(seen.now);
    out.operation = Some(Operation {
        pod: victim.name.clone(),
        pod_uid: victim.uid.clone(),
        step,
        started_at: now.clone(),
        step_at: now,
        connections: victim.node.map_or(0, |node| signed(node.connections)),
        connections_per_second: None,
    });
    if step == OperationStep::Unready {
        out.actions.push(Action::Unready { pod: victim.name.clone() });
    } else {
        out.actions.push(Action::DeletionCost { pod: victim.name.clone(), cost: Some(LOWEST_COST) });
    }
    let message = match victim.node {
        Some(node) => format!(
            "{} goes, the cheapest: {} connections, {:.0} writes/s",
            victim.name, node.connections, node.writes_per_second
        ),
        None => format!("{} goes: it does not serve", victim.name),
    };
    out.note("DrainStarted", false, message);
}

/// Goes on with an operation.
fn advance(operation: &Operation, seen: &Observed<'_>, out: &mut Step) {
    let pod = &operation.pod;
    let Some(victim) = seen.pods.iter().find(|p| p.uid == operation.pod_uid && !p.terminating) else {
        let removed = operation.step == OperationStep::Removing;
        let (reason, how) = if removed {
            ("NodeRemoved", "is drained and gone")
        } else {
            ("DrainedNodeGone", "went by itself")
        };
        out.note(reason, !removed, format!("{pod} {how}"));
        return;
    };
    if seen.desired > staying(Some(operation), seen.pods, seen.replicas) {
        out.note("DrainCancelled", false, format!("{} nodes are wanted: {pod} is taken back", seen.desired));
        if seen.desired > seen.replicas {
            out.actions.push(Action::Replicas { from: seen.replicas, to: seen.desired });
        }
        return; // `tidy` takes the node back
    }
    let stuck = seen.now.saturating_sub(millis(&operation.step_at)) > REPLAN_MILLIS;
    let overtaken = seen.pods.iter().find(|p| p.uid != victim.uid && !pick::goes_before(victim, p));
    if let (OperationStep::Removing, true, Some(other)) = (operation.step, stuck, overtaken) {
        out.note(
            "DrainReplanned",
            true,
            format!("{} is not ready and would go first: {pod} is taken back", other.name),
        );
        return;
    }
    if operation.step == OperationStep::Removing && deaf(victim) && !lowered(seen.pods, seen.replicas) {
        // No order reaches it. Without the operation, `pick` ranks what is unknown last.
        out.note(
            "DrainReplanned",
            true,
            format!("{pod} still serves and its admin port does not answer: another node is picked"),
        );
        return;
    }
    let mut next = operation.clone();
    if let Some(node) = victim.node {
        next.connections = signed(node.connections);
    }
    match operation.step {
        OperationStep::Unready => unready(&mut next, victim, seen, out),
        OperationStep::Closing => closing(&mut next, victim, seen, out),
        OperationStep::Removing => removing(&mut next, victim, seen, out),
    }
    out.operation = Some(next);
}

/// Whether it serves and says nothing: its admin port cannot be reached from here, or it only just became ready.
fn deaf(victim: &PodView) -> bool {
    victim.ready && victim.node.is_none()
}

fn unready(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    let pod = victim.name.clone();
    if !seen.quorum {
        out.waiting = Some("too few nodes have fresh figures".to_owned());
        return;
    }
    let late = seen.now.saturating_sub(millis(&next.step_at)) > UNREADY_DEADLINE_MILLIS;
    let out_of_service = victim.endpoint_ready != Some(true) && !victim.ready;
    if out_of_service || late {
        next.step = OperationStep::Closing;
        next.step_at = time(seen.now);
        next.connections_per_second = Some(seen.connections_per_second);
        out.actions.push(Action::Close { pod, rate: seen.connections_per_second });
        let how =
            if out_of_service { "is out of the Service" } else { "was still in the Service after 60 s" };
        let message = format!(
            "{} {how}, closes {} connections at {}/s",
            victim.name, next.connections, seen.connections_per_second
        );
        out.note("DrainClosing", late && !out_of_service, message);
        return;
    }
    out.waiting = Some(format!("{pod} is still in the Service"));
    if victim.node.is_none_or(|node| node.phase != Phase::Unready) {
        out.actions.push(Action::Unready { pod });
    }
}

fn closing(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    let pod = victim.name.clone();
    let phase = victim.node.map(|node| node.phase);
    let empty = phase == Some(Phase::Closed) || (phase == Some(Phase::Closing) && next.connections == 0);
    let late = seen.now.saturating_sub(millis(&next.step_at)) > seen.deadline + DEADLINE_SLACK_MILLIS;
    if !seen.quorum && !empty {
        out.waiting = Some("too few nodes have fresh figures".to_owned());
        return;
    }
    if empty || late {
        next.step = OperationStep::Removing;
        next.step_at = time(seen.now);
        out.actions.push(Action::DeletionCost { pod, cost: Some(LOWEST_COST) });
        if late && !empty {
            let message =
                format!("{} still has {} connections after the deadline", victim.name, next.connections);
            out.note("DrainDeadline", true, message);
        } else {
            out.note("DrainEmpty", false, format!("{} has no connections left", victim.name));
        }
        return;
    }
    out.waiting = Some(format!("{} connections left on {pod}", next.connections));
    // The node keeps the pace that it was told, so one that changed since is told again.
    let paced = next.connections_per_second.replace(seen.connections_per_second);
    if phase != Some(Phase::Closing) || paced != Some(seen.connections_per_second) || !seen.told {
        out.actions.push(Action::Close { pod, rate: seen.connections_per_second });
    }
}

fn removing(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    let pod = victim.name.clone();
    let serves = victim.ready || victim.node.is_some_and(|node| node.phase == Phase::Serving);
    if serves && !lowered(seen.pods, seen.replicas) {
        // It was pending when it was picked, or its process was restarted.
        next.step = OperationStep::Unready;
        next.step_at = time(seen.now);
        out.actions.push(Action::Unready { pod });
        return;
    }
    if victim.deletion_cost != Some(LOWEST_COST) {
        out.actions.push(Action::DeletionCost { pod, cost: Some(LOWEST_COST) });
        out.waiting = Some("the deletion cost is being set".to_owned());
        return;
    }
    if lowered(seen.pods, seen.replicas) {
        out.waiting = Some(format!("{pod} is about to be removed"));
        return;
    }
    if !seen.settled {
        out.waiting = Some("a rollout is under way".to_owned());
        return;
    }
    if let Some(unseen) = unseen(seen) {
        out.waiting = Some(unseen); // one of them would be removed instead, perhaps
        return;
    }
    if let Some(other) = seen.pods.iter().find(|p| p.uid != victim.uid && !pick::goes_before(victim, p)) {
        out.waiting = Some(format!("{} is not ready and would be removed instead", other.name));
        return;
    }
    out.actions.push(Action::Replicas { from: seen.replicas, to: seen.replicas - 1 });
}

/// What to wait for while the Deployment's controller counts pods that are not seen.
fn unseen(seen: &Observed<'_>) -> Option<String> {
    let alive = alive(seen.pods);
    (seen.existing > alive).then(|| format!("the Deployment has {} pods, {alive} are seen", seen.existing))
}

fn signed(connections: u64) -> i64 {
    i64::try_from(connections).unwrap_or(i64::MAX)
}
