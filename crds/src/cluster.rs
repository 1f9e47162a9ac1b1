//! The `ChannelCluster` resource.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{
    Auth, Autoscaling, Backplane, Drain, Expose, Hooks, Limits, Nodes, Rebalance, Rollout, Rooms, Tuning,
};
use crate::status::ChannelClusterStatus;
use crate::{rules, schema};

/// A fleet of WebSocket nodes that speak Phoenix Channels, sized by observed fan-out writes per second.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "channelcluster.io",
    version = "v1alpha1",
    kind = "ChannelCluster",
    plural = "channelclusters",
    shortname = "cc",
    namespaced,
    status = "ChannelClusterStatus",
    validation = rules::NAME_LENGTH,
    validation = rules::NAME_FORM,
    derive = "PartialEq",
    doc = "A fleet of WebSocket nodes that speak Phoenix Channels, sized by observed fan-out writes per second.",
    scale(
        spec_replicas_path = ".spec.nodes.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Conns", type_ = "integer", json_path = ".status.totals.connections"),
    printcolumn(name = "Writes/s", type_ = "integer", json_path = ".status.totals.writesPerSecond"),
    printcolumn(name = "Util", type_ = "integer", json_path = ".status.totals.utilizationPercent"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.draining"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = rules::AUTH_REQUIRED)]
#[x_kube(validation = rules::BACKPLANE_REQUIRED)]
#[x_kube(validation = rules::TARGET_REACHABLE)]
#[x_kube(validation = rules::REPLICAS_MODE)]
#[x_kube(validation = rules::REBALANCE_PACE)]
#[x_kube(validation = rules::hooks::NOBODY_TO_ASK)]
#[serde(rename_all = "camelCase")]
pub struct ChannelClusterSpec {
    /// Connections that the fleet must be able to hold.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub target_connections: u64,
    /// Rooms: caps and policies.
    pub rooms: Rooms,
    /// The nodes of the fleet.
    #[serde(default)]
    pub nodes: Nodes,
    /// How the node count is decided.
    #[serde(default)]
    pub autoscaling: Autoscaling,
    /// Kernel parameters and limits of a node.
    #[serde(default)]
    pub tuning: Tuning,
    /// How a node is emptied before it goes.
    #[serde(default)]
    pub drain: Drain,
    /// How nodes are replaced when their pods are to be made otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How clients are moved from nodes that have too much to others.
    #[serde(default)]
    pub rebalance: Rebalance,
    /// What carries messages from node to node.
    #[serde(default)]
    pub backplane: Backplane,
    /// How clients reach the fleet.
    #[serde(default)]
    pub expose: Expose,
    /// Who may connect. Required; a rule says so in words that a missing key of the schema would not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// The backend that rooms ask before a client may do something; unset: none is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Limits of a connection and of a node.
    #[serde(default)]
    pub limits: Limits,
    /// Leave everything as it is: no reconciling, no scaling.
    #[serde(default)]
    pub paused: bool,
}

/// The CustomResourceDefinition as the API server takes it.
///
/// # Errors
/// When the derived definition is no JSON object of the expected type, which a test rules out.
pub fn crd() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(ChannelCluster::crd())?;
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        versions.iter_mut().for_each(schema::finish);
    }
    serde_json::from_value(value)
}

/// The annotation by which Helm leaves an object when the chart is uninstalled: deleting the CRD would delete every
/// fleet.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// [`crd`] as the YAML file that the chart ships.
///
/// # Errors
/// As [`crd`], or when it cannot be written as YAML.
pub fn crd_yaml() -> Result<String, Box<dyn std::error::Error>> {
    let mut crd = crd()?;
    let (key, value) = KEEP;
    crd.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    Ok(format!(
        "# Made from the types in crds/ by `cargo run -p crds --bin crdgen`.\n{}",
        serde_saphyr::to_string(&crd)?
    ))
}
