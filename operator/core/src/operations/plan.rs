//! The fleet as an operation sees it, and what is decided about it.

use crds::{Moves, Operation, Surge};

pub use super::action::{Action, Failed};
pub use super::evenness::Balance;
use super::paces::Paces;
use crate::autoscale::Decision;
use crate::capacity::Sizing;
use crate::observation::{DeploymentView, Observation, sum};
use crate::pod::{PodView, alive, alive_of};
use crate::validate::RebalanceLimits;

/// The fleet as it is now, with what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct FleetView<'a> {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The node pods that have not ended, terminating ones included.
    pub pods: &'a [PodView],
    /// The Deployments that made them.
    pub deployments: &'a [DeploymentView],
    /// Replicas of all Deployments.
    pub replicas: i32,
    /// Pods that the Deployments' controllers count, terminating ones not among them. When these are more than `pods`
    /// has, `pods` is out of date.
    pub existing: i32,
    /// Whether no Deployment is in the middle of replacing its pods.
    pub settled: bool,
    /// Nodes wanted.
    pub desired: i32,
    /// Whether enough nodes are known to go on shrinking.
    pub quorum: bool,
    /// Whether every node that serves hears the others, as far as is known.
    pub heard: bool,
    /// `drain.connectionsPerSecond`: how fast all nodes together may close connections.
    pub connections_per_second: u32,
    /// How fast nodes may be closing connections now. The operation is recorded before the actions are carried out, so the
    /// record does not say.
    pub paces: &'a Paces,
    /// `drain.deadline` in milliseconds.
    pub deadline: u64,
    /// `rebalance`.
    pub rebalance: RebalanceLimits,
    /// When a person asked for a round of moving clients, in milliseconds since 1970.
    pub rebalance_asked: Option<u64>,
    /// What a node carries.
    pub sizing: Sizing,
    /// Clients that were moved lately, as recorded.
    pub moves: Option<&'a Moves>,
    /// What counts for a rollout.
    pub rollout: Terms,
}

/// What the manifest says of rollouts, and what is known of the one under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `rollout.maxSurge`.
    pub surge: Surge,
    /// Why the rollout does not go on; none while it may.
    pub held: Option<Held>,
}

/// Why a rollout does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// `rollout.pause`, or the annotation: nodes that close their connections go on.
    Asked,
    /// The new nodes do worse than the old ones, which therefore all come back.
    Worse,
}

impl<'a> FleetView<'a> {
    /// The fleet of an observation. `pods` are its pods with the answers of the nodes, `decision` is about the node count, and
    /// `paces` is the field of that name. None without a current Deployment, or as long as no spec was valid.
    #[must_use]
    pub fn of(
        seen: &Observation<'a>,
        pods: &'a [PodView],
        decision: &Decision,
        paces: &'a Paces,
    ) -> Option<Self> {
        let valid = seen.valid?;
        let deployments = seen.deployments;
        seen.current()?;
        Some(Self {
            now: seen.now,
            pods,
            deployments,
            replicas: seen.replicas(),
            existing: sum(deployments, |deployment| deployment.pods),
            settled: deployments.iter().all(|deployment| deployment.observed && !deployment.rolling),
            desired: decision.desired,
            quorum: decision.quorum,
            heard: decision.heard,
            connections_per_second: valid.drain.connections_per_second,
            paces,
            rebalance: valid.rebalance,
            rebalance_asked: seen.asked.wishes.rebalance,
            sizing: Sizing::live(valid, seen.previous.capacity.as_ref()),
            moves: seen.previous.moves.as_ref(),
            deadline: u64::try_from(valid.drain.deadline.as_millis()).unwrap_or(u64::MAX),
            rollout: Terms {
                surge: valid.rollout.max_surge.unwrap_or_default(),
                held: seen.pauses_rollout().then_some(Held::Asked),
            },
        })
    }

    /// Pods that are not being deleted.
    #[must_use]
    pub fn alive(&self) -> i32 {
        alive(self.pods)
    }

    /// The reason to wait while the Deployment's controller counts pods that are not seen.
    #[must_use]
    pub fn unseen(&self) -> Option<String> {
        let alive = self.alive();
        (self.existing > alive).then(|| format!("the fleet has {} pods, {alive} are seen", self.existing))
    }

    /// The Deployment with this name.
    #[must_use]
    pub fn deployment(&self, name: &str) -> Option<&'a DeploymentView> {
        self.deployments.iter().find(|deployment| deployment.name == name)
    }

    /// Makes the fleet as large as `wanted`: the current Deployment grows by what is missing. None when nothing is missing.
    #[must_use]
    pub fn grow(&self, wanted: i32) -> Option<Action> {
        let missing = wanted - self.replicas;
        let current = self.deployments.iter().find(|deployment| deployment.current)?;
        (missing > 0).then(|| current.set(current.replicas + missing))
    }

    /// Whether a Deployment has more pods than wanted, so that its ReplicaSet is about to remove one.
    #[must_use]
    pub fn lowered(&self, deployment: &str) -> bool {
        let replicas = self.deployment(deployment).map_or(0, |deployment| deployment.replicas);
        alive_of(self.pods, deployment) > replicas
    }
}

impl DeploymentView {
    /// Gives it so many replicas.
    #[must_use]
    pub fn set(&self, to: i32) -> Action {
        Action::Replicas { deployment: self.name.clone(), from: self.replicas, to }
    }
}

/// Something that a person should hear of, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// CamelCase action of the Event: what the operation does.
    pub action: &'static str,
    /// CamelCase reason of the Event.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Whether something is wrong.
    pub warning: bool,
}

/// What one look decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The operation to record before acting.
    pub operation: Option<Operation>,
    /// The actions to take after that, in order.
    pub actions: Vec<Action>,
    /// Notes for the user, as Events.
    pub notes: Vec<Note>,
    /// Why the operation does not go on now, or does not begin.
    pub waiting: Option<String>,
    /// Whether the load is even.
    pub balance: Balance,
    /// The clients that were moved, to record; none where that has not changed.
    pub moves: Option<Moves>,
}

impl Plan {
    /// Notes why something does not go on now, if nothing else was noted.
    pub fn wait(&mut self, why: String) {
        self.waiting.get_or_insert(why);
    }

    /// Adds a note for the user.
    pub fn note(&mut self, action: &'static str, reason: &'static str, warning: bool, message: String) {
        self.notes.push(Note { action, reason, message, warning });
    }
}

/// What the status and the arbiter ask of an operation of any type.
pub trait Running {
    /// Whether the pod with this UID is out of service because of this operation, so that the arbiter does not take
    /// it back.
    fn holds(&self, pod_uid: &str) -> bool;

    /// How many nodes are on their way out.
    fn leaving(&self) -> usize;

    /// The UIDs of the pods that the operation works on, each with the step that it has reached.
    fn places(&self) -> Vec<(&str, &'static str)>;

    /// What the operation does, for `status.reason`.
    fn headline(&self) -> String;

    /// Reason and message of the condition Draining.
    fn condition(&self) -> (&'static str, String);

    /// Clears the figures that change from look to look without being a step.
    fn clear_figures(&mut self);
}
