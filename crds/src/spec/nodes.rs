//! The nodes of the fleet: how many, what they look like, what one carries.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rules;
use crate::spec::capacity::Capacity;
use crate::spec::pods::PodOptions;

/// The nodes of the fleet.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::MAX_BELOW_MIN)]
#[x_kube(validation = rules::REPLICAS_RANGE)]
#[x_kube(validation = rules::nodes::LABELS)]
#[x_kube(validation = rules::nodes::ANNOTATIONS)]
#[x_kube(validation = rules::nodes::LABEL_FORM)]
#[x_kube(validation = rules::nodes::ANNOTATION_FORM)]
#[x_kube(validation = rules::nodes::NODE_SELECTOR_FORM)]
#[x_kube(validation = rules::nodes::TOLERATION_OPERATOR)]
#[x_kube(validation = rules::nodes::TOLERATION_EFFECT)]
#[x_kube(validation = rules::nodes::TOLERATION_VALUE)]
#[x_kube(validation = rules::nodes::TOLERATION_KEY)]
#[x_kube(validation = rules::nodes::TOLERATION_SECONDS)]
#[x_kube(validation = rules::nodes::RESOURCES_FORM)]
#[x_kube(validation = rules::nodes::RESOURCES_SIGN)]
#[x_kube(validation = rules::nodes::RESOURCES_REQUEST_ABOVE_LIMIT)]
#[x_kube(validation = rules::nodes::RESOURCES_MEMORY_UNIT)]
#[x_kube(validation = rules::nodes::IMAGE_FORM)]
#[x_kube(validation = rules::nodes::NAMES_FORM)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Fewest nodes.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min: i32,
    /// Most nodes.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max: i32,
    /// Node count while autoscaling is `Manual` or `Observe`; the field of the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub replicas: Option<i32>,
    /// Node image; unset: the operator's own, kept from the day the cluster was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Compute resources of the node container; unset: requests of 100m CPU and 64Mi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the machines that may run a node.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that a node tolerates.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// More labels for the node pods.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_labels: BTreeMap<String, String>,
    /// More annotations for the node pods.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_annotations: BTreeMap<String, String>,
    /// What one node carries at 100 % utilization.
    #[serde(default)]
    pub capacity: Capacity,
    /// More about the node pods.
    #[serde(flatten)]
    pub pod: PodOptions,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            min: two(),
            max: ten(),
            replicas: None,
            image: None,
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            capacity: Capacity::default(),
            pod: PodOptions::default(),
        }
    }
}

fn two() -> i32 {
    2
}

fn ten() -> i32 {
    10
}
