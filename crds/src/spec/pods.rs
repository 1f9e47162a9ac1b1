//! What a user may say of the pods of a fleet, nodes and NATS alike, in the words of Kubernetes.

use k8s_openapi::api::core::v1::{
    ObjectFieldSelector, PodSecurityContext, ResourceFieldSelector, SecurityContext, TopologySpreadConstraint,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Names of the environment variables that the operator sets in a pod, in nodes or in NATS.
pub const RESERVED_ENV: [&str; 5] = ["NATS_PASSWORD", "NODE_NAME", "POD_IP", "POD_NAME", "POD_NAMESPACE"];

/// A Secret of the same namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// More about pods; all of it is left out by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Secrets of this namespace for pulling the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Option<Vec<SecretRef>>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// RuntimeClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// ServiceAccount of the pods; unset: the operator makes one without rights. No token of it is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// How the pods are spread; a constraint without a labelSelector is about these pods. Unset: nodes over the machines
    /// as evenly as it goes; an empty list: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// More environment variables of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Option<Vec<EnvVar>>,
    /// Whose user and group ids the pods have; unset: `Fixed`, or `Assigned` where admission refuses that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_ids: Option<UserIds>,
    /// Security context of the pods; what it leaves out stays as the restricted Pod Security Standard wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Security context of the container; what it leaves out stays as the restricted Pod Security Standard wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}

/// Whose user and group ids the pods have: 65532 (`Fixed`, the default), or those that the cluster assigns, as OpenShift
/// does, and else those of the image (`Assigned`).
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum UserIds {
    /// 65532, the user `nonroot` of our images.
    Fixed,
    /// None are asked for.
    Assigned,
}

/// An environment variable. It cannot come from a Secret or a ConfigMap: whoever edits a ChannelCluster would read any
/// of them.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::ENV_NAME)]
#[x_kube(validation = rules::ENV_RESERVED)]
#[x_kube(validation = rules::ENV_ONE_VALUE)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4_096))]
    pub value: Option<String>,
    /// Where its value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::ENV_ONE_SOURCE)]
#[serde(rename_all = "camelCase")]
pub struct EnvVarSource {
    /// A field of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<ObjectFieldSelector>,
    /// A resource of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<ResourceFieldSelector>,
}
