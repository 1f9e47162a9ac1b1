//! The fleet as an operation sees it, and what is decided about it.

use crds::Operation;

use crate::autoscale::Decision;
use crate::observation::Observation;
use crate::pod::{PodView, alive};

/// The fleet as it is now, with what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct FleetView<'a> {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The node pods that have not ended, terminating ones included.
    pub pods: &'a [PodView],
    /// The Deployment's replicas.
    pub replicas: i32,
    /// Pods that the Deployment's controller counts, terminating ones not among them. When these are more than `pods`
    /// has, `pods` is out of date.
    pub existing: i32,
    /// Whether the Deployment is not in the middle of a rollout.
    pub settled: bool,
    /// Nodes wanted.
    pub desired: i32,
    /// Whether enough nodes are known to go on shrinking.
    pub quorum: bool,
    /// Whether every node that serves hears the others, as far as is known.
    pub heard: bool,
    /// `drain.connectionsPerSecond`: how fast all nodes together may close connections.
    pub connections_per_second: u32,
    /// Whether the last [`Action::Close`] is known to have reached its node. The operation is recorded before the
    /// action is carried out, so the record does not say.
    pub told: bool,
    /// `drain.deadline` in milliseconds.
    pub deadline: u64,
}

impl<'a> FleetView<'a> {
    /// The fleet of an observation. `pods` are its pods with the answers of the nodes, `decision` is about the node count, and
    /// `told` is the field of that name. None without a Deployment, or as long as no spec was valid.
    #[must_use]
    pub fn of(seen: &Observation<'_>, pods: &'a [PodView], decision: &Decision, told: bool) -> Option<Self> {
        let (valid, deployment) = (seen.valid?, seen.deployment?);
        Some(Self {
            now: seen.now,
            pods,
            replicas: deployment.replicas,
            existing: deployment.pods,
            settled: deployment.observed && !deployment.rolling,
            desired: decision.desired,
            quorum: decision.quorum,
            heard: decision.heard,
            connections_per_second: valid.drain.connections_per_second,
            told,
            deadline: u64::try_from(valid.drain.deadline.as_millis()).unwrap_or(u64::MAX),
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
        (self.existing > alive)
            .then(|| format!("the Deployment has {} pods, {alive} are seen", self.existing))
    }
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
        /// Connections per second, taken from the fleet's budget.
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
}

impl Plan {
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

    /// The pod that the operation works on and the step that it has reached: when either differs, the operation is a
    /// step further.
    fn place(&self) -> (&str, &'static str);

    /// What the operation does, for `status.reason`.
    fn headline(&self) -> String;

    /// Reason and message of the condition Draining.
    fn condition(&self) -> (&'static str, String);

    /// Clears the figures that change from look to look without being a step.
    fn clear_figures(&mut self);
}
