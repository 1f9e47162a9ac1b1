//! Everything that a status and its conditions are made of.

use std::collections::BTreeMap;

use crds::{
    AutoscalingMode, CapacityStatus, ChannelClusterStatus, Moves, Operation, RefusedSysctls, RefusedUserIds,
    RolloutStatus, SysctlProbes,
};
use node_core::admin::{NodePhase, Stats};

use crate::autoscale::Decision;
use crate::backplane::Hearing;
use crate::capacity::Sizing;
use crate::contest::Contest;
use crate::heat::Heat;
use crate::hindrance::Hindrance;
use crate::holds::Holds;
use crate::operations::evenness::Balance;
use crate::pod::PodView;
use crate::samples::Rates;
use crate::source::Figures;
use crate::validate::Problem;

/// How the last reconcile ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A new spec is being applied; what is known is about the one before.
    Pending,
    /// Everything is applied.
    Applied,
    /// The spec cannot work.
    Invalid(Vec<Problem>),
    /// An object of the name that the operator needs has another owner.
    Conflict(String),
    /// The API server refuses an object that the spec asks for, in its own words; nothing of the spec is applied.
    Refused(String),
    /// The API server refused or did not answer; it is tried again.
    Failed(String),
}

/// A node as it is seen.
#[derive(Clone, Debug, Default)]
pub struct NodeSeen {
    /// Its pod.
    pub pod: PodView,
    /// What it last said, if that is fresh.
    pub stats: Option<Stats>,
    /// Its rates, if known.
    pub rates: Option<Rates>,
    /// How it hears the bus, if known.
    pub hearing: Option<Hearing>,
    /// When it last answered, in milliseconds since 1970; none when it never did.
    pub last_at: Option<u64>,
    /// Whether a process of it may hold connections.
    pub runs: bool,
    /// Why it is hot, if it serves and is.
    pub hot: Option<Heat>,
}

impl NodeSeen {
    /// Whether it is expected to serve and to answer.
    #[must_use]
    pub fn serves(&self) -> bool {
        (self.pod.ready || self.pod.moves()) && !self.pod.terminating
    }

    /// Whether it serves the clients that it has, and is out of the Service because the operator said so.
    #[must_use]
    pub fn waits(&self) -> bool {
        let phase = self.pod.node.map(|node| node.phase);
        !self.pod.ready && !self.pod.terminating && phase == Some(NodePhase::Unready)
    }
}

/// What pods that try unsafe sysctls have shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried<'a> {
    /// By pools.
    pub record: Option<&'a SysctlProbes>,
    /// Whether nodes lack one that the spec asks for, and that nobody was seen to refuse.
    pub lacks: bool,
}

/// Everything that the status is made of.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The status written last.
    pub previous: &'a ChannelClusterStatus,
    /// Generation of the spec.
    pub generation: i64,
    /// How the last reconcile of that generation ended.
    pub outcome: &'a Outcome,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.autoscaling.mode`.
    pub mode: AutoscalingMode,
    /// `spec.nodes.min`, or what the user asked for where that counts.
    pub min: i32,
    /// What a node carries.
    pub sizing: Sizing,
    /// What was learned of that.
    pub capacity: Option<&'a CapacityStatus>,
    /// Sysctls asked for.
    pub sysctls: &'a BTreeMap<String, String>,
    /// Open files asked for.
    pub nofile: Option<u64>,
    /// The nodes, terminating ones included.
    pub nodes: &'a [NodeSeen],
    /// Whether the Deployment is not rolling out.
    pub settled: bool,
    /// The templates of the nodes, and how a rollout stands.
    pub rollout: Option<&'a RolloutStatus>,
    /// Label selector of the node pods.
    pub selector: &'a str,
    /// Image of the node Deployment.
    pub node_image: Option<&'a str>,
    /// Nodes that are there to stay.
    pub current: i32,
    /// The decision of this tick.
    pub decision: Option<&'a Decision>,
    /// What is under way.
    pub operation: Option<&'a Operation>,
    /// Whether the load is even.
    pub balance: &'a Balance,
    /// Clients that were moved to other nodes lately.
    pub moves: Option<&'a Moves>,
    /// Sysctls that a kubelet refused.
    pub refused: Option<&'a RefusedSysctls>,
    /// What pods that try unsafe sysctls have shown.
    pub tried: Tried<'a>,
    /// User ids that admission refused.
    pub refused_ids: Option<&'a RefusedUserIds>,
    /// The directions that annotations hold.
    pub holds: Holds,
    /// What a Prometheus says of the load; none when the nodes are its source.
    pub figures: Option<&'a Figures>,
    /// The field that another manager keeps writing too.
    pub contest: Option<&'a Contest>,
    /// What keeps pods from starting, most telling first.
    pub hindrances: &'a [Hindrance],
    /// Since when the oldest of them has hindered, in milliseconds since 1970.
    pub hindered_since: Option<u64>,
}

impl View<'_> {
    /// Generation of the spec that is in force.
    #[must_use]
    pub fn observed_generation(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Pending | Outcome::Failed(_) => self.previous.observed_generation,
            Outcome::Applied | Outcome::Invalid(_) | Outcome::Conflict(_) | Outcome::Refused(_) => {
                Some(self.generation)
            }
        }
    }

    /// Ready nodes.
    #[must_use]
    pub fn ready_nodes(&self) -> i32 {
        count(self.nodes.iter().filter(|n| n.serves()).count())
    }

    /// Nodes that serve clients, also those that the operator has taken out of the Service for a while.
    #[must_use]
    pub fn serving_nodes(&self) -> i32 {
        count(self.nodes.iter().filter(|n| n.serves() || n.waits()).count())
    }
}

/// As many, as Kubernetes counts.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
