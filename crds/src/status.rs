//! What the operator says: the parts of `ChannelCluster.status`.

mod capacity;
mod decision;
mod operation;
mod rollout;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use capacity::*;
pub use decision::*;
pub use operation::*;
pub use rollout::*;

/// Most entries of `status.nodes`; a larger fleet shows its busiest nodes.
pub const MAX_STATUS_NODES: usize = 200;
/// Most entries of `status.decisions`, newest first.
pub const MAX_STATUS_DECISIONS: usize = 10;

/// What the operator observed and did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled (kstatus); Available, BackplaneHealthy, ScalingActive, ScalingLimited, MetricsFresh,
    /// HotNodes, TuningApplied, Draining, RolloutPaused.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Node pods that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Node pods that are Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Node count that the operator works towards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Nodes being drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<i32>,
    /// Label selector of the node pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Image that the nodes run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_image: Option<String>,
    /// Why the fleet is as large as it is, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sums over the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The nodes, at most 200.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// The last scaling decisions, newest first.
    #[serde(default)]
    pub decisions: Vec<ScalingDecision>,
    /// What was learned of what one node carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacityStatus>,
    /// What is under way, and the step that it has reached; kept here so that another operator can go on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The templates that the nodes are made from, and how a rollout stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Clients that were moved to other nodes lately; kept here so that no operator moves more than it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<Moves>,
    /// Sysctls that a kubelet refused; kept here so that another operator does not ask for them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_sysctls: Option<RefusedSysctls>,
    /// User and group ids that admission refused though only the operator asked for them; kept here so that no operator
    /// asks for them again until `userIds` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_user_ids: Option<RefusedUserIds>,
    /// What pods that try unsafe sysctls have shown; kept here so that no operator tries them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctl_probes: Option<SysctlProbes>,
}

/// Clients that were moved to other nodes lately.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Moves {
    /// When the present hour began.
    pub since: Time,
    /// Clients moved since then.
    pub moved: i64,
    /// When the first of those rounds began between which never ten minutes were quiet.
    pub window_at: Time,
    /// When the last round ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// When a person asked for the round that was answered last, so that it is answered once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Time>,
    /// A room that moving clients cannot help with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_room: Option<HotRoomStatus>,
}

/// A room that keeps a node busy alone.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HotRoomStatus {
    /// The node's pod.
    pub pod: String,
    /// The room's topic.
    pub topic: String,
    /// When this was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// Parts of a fleet whose user and group ids admission refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefusedUserIds {
    /// The node pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<RefusedIds>,
    /// The pods of the managed NATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backplane: Option<RefusedIds>,
}

/// Ids that were refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefusedIds {
    /// Whether pods are made without them: no serving pod had them.
    #[serde(default)]
    pub left_out: bool,
    /// What was said.
    #[serde(default)]
    pub message: String,
}

/// Sysctls that a kubelet refused under one `spec.tuning`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefusedSysctls {
    /// Hash of the `spec.tuning` that asked for them; they are asked for again when it changes.
    pub tuning: String,
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Those of them that pods are made without: no serving node had them.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What the kubelet said last.
    #[serde(default)]
    pub message: String,
    /// Pods made until then are from before the change of `spec.tuning`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Time>,
}

/// Pools of machines on which pods tried the unsafe sysctls of one `spec.tuning`.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SysctlProbes {
    /// Hash of the `spec.tuning` that asks for them; they are tried again when it changes.
    pub tuning: String,
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
    /// When the last round began: pools that did not answer are tried again after ten minutes.
    pub since: Time,
    /// The pools.
    #[serde(default)]
    pub pools: Vec<ProbedPool>,
}

/// What became of the pod on one pool of machines.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProbedPool {
    /// A label with its value, a machine that is of no pool, or any machine.
    pub name: String,
    /// What it shows.
    pub verdict: ProbeVerdict,
    /// What the kubelet, the scheduler or admission said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a pod that tries sysctls shows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// Nothing yet.
    Pending,
    /// The kubelet takes them.
    Allowed,
    /// The kubelet or admission refuses them.
    Forbidden,
    /// No machine of the pool takes pods of this fleet.
    NotPlaced,
    /// It did not come to run in time.
    Unanswered,
}

/// Sums over the nodes whose figures are known. A figure that no node gives is missing: it is not 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Running nodes whose figures are in none of these sums: they do not answer, or answered once only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_nodes: Option<i32>,
    /// Connections held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<i64>,
    /// Rooms with members, counted once per node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<i64>,
    /// Messages delivered to members per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<i64>,
    /// Messages published per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishes_per_second: Option<i64>,
    /// Observed writes/s as a percentage of the capacity of the nodes in the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
}

/// One node. A figure that is not known is missing: it is not 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Pod name.
    pub name: String,
    /// Pending, Serving, Draining, Unknown (no fresh figures), Terminating.
    pub phase: String,
    /// When the node last answered; only while it has no fresh figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_answer: Option<Time>,
    /// Connections held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<i64>,
    /// Rooms with members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<i64>,
    /// Messages delivered to members per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<i64>,
    /// Busy fraction of the busiest shard, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
    /// Soft limit of open files that the process has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<i64>,
    /// Sysctls whose value is not the one asked for, as `asked X, got Y`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}
