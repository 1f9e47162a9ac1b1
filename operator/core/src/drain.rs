//! Scale-in, one node at a time, as steps that any operator can go on with.
//!
//! [`step`] looks at the operation recorded in the status and at what is there now, and answers with the operation to
//! record and the actions to take *after* it was recorded. It never counts on an earlier action having worked: it looks,
//! and repeats what is not done yet. An operator may die at any point.
//!
//! `Unready` -> the endpoint is out of the Service -> `Closing` -> empty -> `Removing`: lowest deletion cost, all other
//! pods ready -> replicas - 1 -> that pod is seen to go. Only one node drains at a time, so the cluster-wide budget is
//! the rate given to it.
//!
//! While a node that serves does not hear the others, nothing begins and no step ends: a client that is moved then comes
//! back into a room that is cut in two, and what an emptied node still has for the others would go with it. A node that was
//! told to close goes on at its pace: it cannot take clients back.
//!
//! Orders go to a node that answered when it was asked just before; to a dead process they would only fail.

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

/// What is waited for without a quorum.
const UNKNOWN: &str = "too few nodes have fresh figures";
/// What is waited for while a node that serves does not hear the others.
const UNHEARD: &str = "a node that serves does not hear the backplane";

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
    /// Whether its process does not run, as Kubernetes says: it ended, and was not started again yet. Nobody is on it.
    pub dead: bool,
    /// How often its process was started again.
    pub restarts: i32,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// When it was made, in milliseconds.
    pub created: u64,
    /// Its deletion cost annotation.
    pub deletion_cost: Option<i32>,
    /// Whether its endpoint is ready in the Service; none when no endpoint is known.
    pub endpoint_ready: Option<bool>,
    /// Names of the sysctls that it has.
    pub sysctls: Vec<String>,
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
    /// Messages delivered per second; none when not known yet.
    pub writes_per_second: Option<f64>,
    /// Whether it answered when it was asked last.
    pub answers: bool,
}

impl PodView {
    /// Whether no process of it can hold a connection: it never ran, or does not run now.
    #[must_use]
    pub fn vacant(&self) -> bool {
        self.pending || self.dead
    }

    /// Whether it can take an order.
    fn answers(&self) -> bool {
        self.node.is_some_and(|node| node.answers)
    }
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
    /// Whether every node that serves hears the others, as far as is known.
    pub heard: bool,
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
        let drains = |phase| matches!(phase, Phase::Unready | Phase::Closing | Phase::Closed);
        if pod.answers() && pod.node.is_some_and(|node| drains(node.phase)) {
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
    if !seen.heard {
        out.waiting = Some(UNHEARD.to_owned());
        return;
    }
    let Some(victim) = pick(seen.pods) else { return };
    if victim.ready && !seen.quorum {
        // In mode Manual too: it would be out of service for as long as the figures are missing.
        out.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    // A pod without a process holds nothing, is not in the Service, and takes no order.
    let step = if victim.vacant() { OperationStep::Removing } else { OperationStep::Unready };
    let now = time(seen.now);
    out.operation = Some(Operation {
        pod: victim.name.clone(),
        pod_uid: victim.uid.clone(),
        step,
        started_at: now.clone(),
        step_at: now,
        connections: pick::held(victim),
        connections_per_second: None,
    });
    if step == OperationStep::Removing {
        out.actions.push(Action::DeletionCost { pod: victim.name.clone(), cost: Some(LOWEST_COST) });
    } else if victim.answers() {
        out.actions.push(Action::Unready { pod: victim.name.clone() });
    }
    out.note("DrainStarted", false, format!("{} goes{}", victim.name, pick::why(victim)));
}

/// How many connections there are, for a sentence.
fn so_many(connections: Option<i64>) -> String {
    connections.map_or("an unknown number of".to_owned(), |connections| connections.to_string())
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
    next.connections = pick::held(victim).or(next.connections);
    if !seen.heard {
        out.waiting = Some(UNHEARD.to_owned());
        out.operation = Some(next);
        return;
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
    if victim.vacant() {
        return emptied(next, victim, seen, out);
    }
    if !seen.quorum {
        out.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    let late = seen.now.saturating_sub(millis(&next.step_at)) > UNREADY_DEADLINE_MILLIS;
    let out_of_service = victim.endpoint_ready != Some(true) && !victim.ready;
    if out_of_service || late {
        next.step = OperationStep::Closing;
        next.step_at = time(seen.now);
        next.connections_per_second = Some(seen.connections_per_second);
        if victim.answers() {
            out.actions.push(Action::Close { pod, rate: seen.connections_per_second });
        }
        let how =
            if out_of_service { "is out of the Service" } else { "was still in the Service after 60 s" };
        let message = format!(
            "{} {how}, closes {} connections at {}/s",
            victim.name,
            so_many(next.connections),
            seen.connections_per_second
        );
        out.note("DrainClosing", late && !out_of_service, message);
        return;
    }
    out.waiting = Some(format!("{pod} is still in the Service"));
    if victim.answers() && victim.node.is_some_and(|node| node.phase != Phase::Unready) {
        out.actions.push(Action::Unready { pod });
    }
}

fn closing(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    let pod = victim.name.clone();
    let phase = victim.node.map(|node| node.phase);
    let empty = victim.vacant()
        || phase == Some(Phase::Closed)
        || (phase == Some(Phase::Closing) && next.connections == Some(0));
    if empty {
        return emptied(next, victim, seen, out);
    }
    if !seen.quorum {
        out.waiting = Some(UNKNOWN.to_owned());
        return;
    }
    if seen.now.saturating_sub(millis(&next.step_at)) > seen.deadline + DEADLINE_SLACK_MILLIS {
        next.step = OperationStep::Removing;
        next.step_at = time(seen.now);
        out.actions.push(Action::DeletionCost { pod, cost: Some(LOWEST_COST) });
        let message =
            format!("{} still has {} connections after the deadline", victim.name, so_many(next.connections));
        out.note("DrainDeadline", true, message);
        return;
    }
    out.waiting = Some(format!("{} connections left on {pod}", so_many(next.connections)));
    if !victim.answers() {
        return; // it is told once it answers: what it was told before does not matter then
    }
    // The node keeps the pace that it was told, so one that changed since is told again.
    let paced = next.connections_per_second.replace(seen.connections_per_second);
    if phase != Some(Phase::Closing) || paced != Some(seen.connections_per_second) || !seen.told {
        out.actions.push(Action::Close { pod, rate: seen.connections_per_second });
    }
}

/// Nobody is on it any more.
fn emptied(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    next.step = OperationStep::Removing;
    next.step_at = time(seen.now);
    out.actions.push(Action::DeletionCost { pod: victim.name.clone(), cost: Some(LOWEST_COST) });
    let how = if victim.vacant() { "does not run any more" } else { "has no connections left" };
    out.note("DrainEmpty", false, format!("{} {how}", victim.name));
}

fn removing(next: &mut Operation, victim: &PodView, seen: &Observed<'_>, out: &mut Step) {
    let pod = victim.name.clone();
    let says = victim.node.is_some_and(|node| node.phase == Phase::Serving);
    let serves = !victim.vacant() && (victim.ready || says);
    if serves && !lowered(seen.pods, seen.replicas) {
        // It was pending when it was picked, or its process was restarted.
        next.step = OperationStep::Unready;
        next.step_at = time(seen.now);
        if victim.answers() {
            out.actions.push(Action::Unready { pod });
        }
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
