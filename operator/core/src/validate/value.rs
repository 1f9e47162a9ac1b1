//! A valid ChannelCluster with every default resolved and every quantity as a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::{AutoscalingMode, PodOptions, PolicyType, SelectPolicy, ServiceSpec};
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use node_core::config::NodeConfig;

use crate::names::Names;

/// One ChannelCluster, checked and resolved. Builders and the scaler read this and never the manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, for owner references.
    pub uid: String,
    /// Generation of the spec that this was made from.
    pub generation: i64,
    /// Names of its objects.
    pub names: Names,
    /// Namespace of the operator, the only one that may reach the admin port.
    pub operator_namespace: String,
    /// Leave everything as it is.
    pub paused: bool,
    /// Connections that the fleet must be able to hold.
    pub target_connections: u64,
    /// Bounds of the node count.
    pub bounds: Bounds,
    /// What one node carries at 100 % utilization.
    pub capacity: NodeCapacity,
    /// How the node count is decided.
    pub scaling: Scaling,
    /// How a node is emptied.
    pub drain: DrainLimits,
    /// What the node pods look like.
    pub pod: NodePod,
    /// What the pods of the managed NATS look like; their image is in [`Bus::Managed`].
    pub nats: NatsPod,
    /// What carries messages from node to node.
    pub bus: Bus,
    /// Secrets with the keys of tokens, which the nodes mount.
    pub token_secrets: BTreeSet<String>,
    /// The Secrets of TLS, when the nodes speak it.
    pub tls: Option<TlsSecrets>,
    /// The client-facing Service.
    pub service: ServiceSpec,
    /// The node's configuration.
    pub config: NodeConfig,
    /// [`ValidatedCluster::config`] as the text of the node's file.
    pub config_file: String,
    /// Hash of the part of the configuration that a running node cannot reload.
    pub restart_hash: String,
}

/// The Secrets that nodes mount for TLS with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecrets {
    /// The Secret with the certificate and its key.
    pub certificate: String,
    /// The Secret with the CAs whose certificates clients have to show; none: any client may connect.
    pub client_ca: Option<String>,
}

/// Bounds of the node count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest nodes.
    pub min: i32,
    /// Most nodes.
    pub max: i32,
    /// The count in the scale subresource; only with mode `Manual` or `Observe`. Within the bounds.
    pub replicas: Option<i32>,
}

/// What one node carries at 100 % utilization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCapacity {
    /// Messages delivered to members per second.
    pub writes_per_second: u64,
    /// Connections held.
    pub connections: u64,
}

/// How the node count is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// Whether the load decides, or `nodes.replicas`.
    pub mode: AutoscalingMode,
    /// Percent of a node's capacity that the fleet is sized for.
    pub target_utilization: u32,
    /// Window of the average that decides in calm times.
    pub stable: Duration,
    /// Window of the average that decides in a burst; shorter than `stable`.
    pub burst: Duration,
    /// Pace of growth.
    pub up: Pace,
    /// Pace of shrinking, besides one drained node at a time.
    pub down: Pace,
}

/// Pace of scaling in one direction, as HorizontalPodAutoscaler v2 defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time over which the most cautious recommendation counts.
    pub stabilization: Duration,
    /// Most change in a period; none: no bound.
    pub policies: Vec<PacePolicy>,
    /// Which of the policies counts.
    pub select: SelectPolicy,
}

/// Most change in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacePolicy {
    /// Unit of `value`.
    pub kind: PolicyType,
    /// Nodes, or percent of the nodes at the period's start.
    pub value: i32,
    /// Length of the period.
    pub period: Duration,
}

/// How a node is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// Connections closed per second over the whole cluster.
    pub connections_per_second: u32,
    /// How long a leaving node goes on accepting.
    pub delay: Duration,
    /// Longest drain.
    pub deadline: Duration,
    /// Termination grace period of a node: `delay` + `deadline` + [`super::GRACE_MARGIN`].
    pub grace: Duration,
}

/// What the node pods look like.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePod {
    /// Node image.
    pub image: String,
    /// The operator's own node image, when the fleet keeps an older one.
    pub newer_image: Option<String>,
    /// Sysctls of the pod, with dots; those that a kubelet refused are left out.
    pub sysctls: BTreeMap<String, String>,
    /// The version and the tuning that the sysctls were chosen for, for the Deployment's annotation.
    pub tuned_for: String,
    /// Resources of the node container.
    pub resources: ResourceRequirements,
    /// Labels of the machines that may run a node.
    pub node_selector: BTreeMap<String, String>,
    /// Taints tolerated.
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity.
    pub affinity: Option<Affinity>,
    /// More labels; none of them is one of ours.
    pub labels: BTreeMap<String, String>,
    /// More annotations; none of them is one of ours.
    pub annotations: BTreeMap<String, String>,
    /// More settings of the user; no environment variable in them is one of ours.
    pub options: PodOptions,
}

/// What the pods of the managed NATS look like.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsPod {
    /// Resources of the container.
    pub resources: ResourceRequirements,
    /// Labels of the machines that may run it.
    pub node_selector: BTreeMap<String, String>,
    /// Taints tolerated.
    pub tolerations: Vec<Toleration>,
    /// Scheduling affinity.
    pub affinity: Option<Affinity>,
    /// More labels; none of them is one of ours.
    pub labels: BTreeMap<String, String>,
    /// More annotations; none of them is one of ours.
    pub annotations: BTreeMap<String, String>,
    /// More settings of the user; no environment variable in them is one of ours.
    pub options: PodOptions,
}

/// What carries messages from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Nothing: one node.
    None,
    /// NATS run by the operator.
    Managed {
        /// NATS image.
        image: String,
    },
    /// NATS servers that the user runs; their addresses are in the node's configuration.
    External {
        /// Secret with `username` and `password`.
        credentials_secret: Option<String>,
    },
}
