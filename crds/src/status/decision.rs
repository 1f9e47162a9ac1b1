//! `status.decisions`: why the fleet is as large as it is, with everything that a decision was made from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DerivedCapacity, LearnedCapacity};
use crate::spec::AutoscalingMode;

/// A scaling decision with what it was made from.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingDecision {
    /// When it was made.
    pub time: Time,
    /// Node count before.
    pub from: i32,
    /// Node count decided.
    pub to: i32,
    /// The rule that won, a CamelCase word.
    pub rule: String,
    /// The arithmetic in one sentence.
    pub message: String,
    /// Everything that it was made from; missing in decisions of an operator that did not write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<DecisionInputs>,
}

/// Everything that a decision depends on. The same operator makes the same decision of it again. A number that is missing is 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionInputs {
    /// `autoscaling.mode`; missing: `Auto`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: AutoscalingMode,
    /// `nodes.replicas`, in the modes in which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<i32>,
    /// `nodes.min`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min: i32,
    /// `nodes.max`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max: i32,
    /// Nodes that `targetConnections` needs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub floor: i32,
    /// `targetConnections`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_connections: i64,
    /// Messages delivered per second of one node at 100 %.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_writes_per_second: i64,
    /// Where that is from, when it was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedCapacity>,
    /// Connections of one node at 100 %.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_connections: i64,
    /// Where that is from, when it was derived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<DerivedCapacity>,
    /// Percent of both that the fleet is sized for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_percent: i32,
    /// Nodes that were there to stay.
    #[serde(default, skip_serializing_if = "is_default")]
    pub current: i32,
    /// Replicas of the fleet, nodes that were leaving included.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: i32,
    /// Ready nodes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready: i32,
    /// Ready nodes with fresh figures of their load.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fresh: i32,
    /// Ready nodes that use the bus.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_bus: i32,
    /// Ready nodes that do not hear the bus.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost_bus: i32,
    /// Ready nodes that hear the bus late.
    #[serde(default, skip_serializing_if = "is_default")]
    pub late_bus: i32,
    /// Ready nodes that are hot.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hot: i32,
    /// Why one of them is, a CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_reason: Option<String>,
    /// Load over the stable window; missing when nothing was seen in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<WindowLoad>,
    /// Load over the burst window, or of the last two looks if that is more; missing when nothing was seen in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<WindowLoad>,
    /// Connections that the known nodes hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub connections: i64,
    /// The same with each unknown node taken to be full.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presumed_connections: i64,
    /// Fewest nodes of which none would be above 90 % once it had its share of what the leaving nodes carry.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fits: i32,
    /// For how long a burst still forbids to shrink, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub burst_left_millis: i64,
    /// For how long the short history still forbids to shrink, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub warmup_left_millis: i64,
    /// Lowest count that was recommended within the window of growth; missing when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_recommended: Option<i32>,
    /// Highest count that was recommended within the window of shrinking; missing when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_recommended: Option<i32>,
    /// Highest count that the policies of growth allow now; missing without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_limit: Option<i32>,
    /// Lowest count that the policies of shrinking allow now; missing without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_limit: Option<i32>,
    /// Nodes that the schedule asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduled: i32,
    /// The entry of the schedule that counted, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Whether an annotation held scale-in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale_in_paused: bool,
    /// Whether an annotation held scale-out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale_out_paused: bool,
}

/// Messages delivered per second over a window.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WindowLoad {
    /// Length of the window in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub millis: i64,
    /// What the known nodes delivered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub writes: i64,
    /// What saturated nodes are taken to carry beyond that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden: i64,
    /// What ready nodes without figures are taken to carry.
    #[serde(default, skip_serializing_if = "is_default")]
    pub silent: i64,
    /// What shrinking counts with: saturated nodes and nodes without figures are full. 0 for the stable window where the window
    /// of shrinking is no shorter: that one remembers the highest load by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presumed: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
