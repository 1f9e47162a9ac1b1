//! A valid ChannelCluster with every default resolved and every quantity as a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::{
    AutoscalingMode, ClientCertificates, PodOptions, PolicyType, RebalanceMode, Rollout, SelectPolicy,
    ServiceSpec, TlsVersion,
};
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use node_core::config::NodeConfig;

use crate::footprint::Given;
use crate::names::Names;
use crate::schedule::Entry;
use crate::source::PrometheusSource;
use crate::sysctl_probes::{Proof, Wish};

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
    /// Least counts at certain times.
    pub schedule: Vec<Entry>,
    /// The Prometheus that is asked for the load, if the nodes are not.
    pub prometheus: Option<PrometheusSource>,
    /// How a node is emptied.
    pub drain: DrainLimits,
    /// How nodes are replaced.
    pub rollout: Rollout,
    /// How clients are moved to other nodes.
    pub rebalance: RebalanceLimits,
    /// What the node pods look like.
    pub pod: NodePod,
    /// What the pods of the managed NATS look like; their image is in [`Bus::Managed`].
    pub nats: NatsPod,
    /// What carries messages from node to node.
    pub bus: Bus,
    /// The Secrets that the nodes mount beside their own.
    pub mounted: Mounted,
    /// The client-facing Service.
    pub service: ServiceSpec,
    /// The node's configuration.
    pub config: NodeConfig,
    /// [`ValidatedCluster::config`] as the text of the node's file.
    pub config_file: String,
    /// Hash of the part of the configuration that a running node cannot reload.
    pub restart_hash: String,
    /// Hash of what the template of a node pod depends on; it names the nodes' Deployment. After a rollback it is that of the
    /// template of before.
    pub template: String,
    /// The hash that the spec asks for, if it was given up in a rollback.
    pub given_up: Option<String>,
}

/// The Secrets that the manifest names and the nodes mount, with what belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Those with the keys of tokens.
    pub token_keys: BTreeSet<String>,
    /// Those of TLS, when the nodes speak it.
    pub tls: Option<TlsSecrets>,
    /// The server API, where it has a port of its own.
    pub api: Option<ApiPort>,
    /// The one that signs what a backend is asked, if one is.
    pub hooks: Option<String>,
}

/// The server API on a port of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPort {
    /// The Secret with the keys.
    pub secret: String,
    /// Port of the Service.
    pub port: i32,
}

/// TLS of nodes with clients, and the Secrets that they mount for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecrets {
    /// The Secret with the certificate and its key.
    pub certificate: String,
    /// The Secret with the CAs whose certificates clients are asked for; none: they are asked for none.
    pub client_ca: Option<String>,
    /// Whether clients that are asked have to show one.
    pub client_certificates: ClientCertificates,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
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
    /// Whether that is learned, and the number only what is assumed until then.
    pub learns_writes: bool,
    /// Connections held; where they are derived, what counts until nodes have answered.
    pub connections: u64,
    /// What the manifest says of connections that are derived; none where it gives their number.
    pub derived: Option<Given>,
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

/// How clients are moved to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceLimits {
    /// Whether they are.
    pub mode: RebalanceMode,
    /// How far above the mean a node may be, in percent of the mean.
    pub tolerance_percent: u32,
    /// Clients moved per second, over the whole cluster.
    pub connections_per_second: u32,
    /// Most clients moved in an hour.
    pub max_moves_per_hour: u32,
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
    /// Sysctls of the pod, with dots; those that a kubelet refused are left out, and those of which it is not known yet.
    pub sysctls: BTreeMap<String, String>,
    /// The sysctls that the spec asks for and that kubelets allow only where they are told to; refused ones are left out.
    pub unsafe_sysctls: BTreeMap<String, String>,
    /// How it stands with those. Unless it is given, [`NodePod::sysctls`] has only those of them that nodes have already.
    pub proof: Proof,
    /// What identifies the `spec.tuning`.
    pub tuning: String,
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

impl NodePod {
    /// The sysctls with all unsafe ones.
    #[must_use]
    pub fn all_sysctls(&self) -> BTreeMap<String, String> {
        self.sysctls.iter().chain(&self.unsafe_sysctls).map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// The sysctls without the unsafe ones that nodes do not have already.
    pub(super) fn kept_sysctls(&self, kept: &BTreeSet<String>) -> BTreeMap<String, String> {
        let mut all = self.sysctls.clone();
        all.retain(|name, _| !self.unsafe_sysctls.contains_key(name) || kept.contains(name));
        all
    }
}

impl ValidatedCluster {
    /// What pods are to try before nodes ask for it; none when the spec asks for no unsafe sysctl.
    #[must_use]
    pub fn sysctl_wish(&self) -> Option<Wish<'_>> {
        let pod = &self.pod;
        let names: Vec<_> = pod.unsafe_sysctls.keys().cloned().collect();
        let lacks = pod.proof != Proof::Given;
        (!names.is_empty()).then_some(Wish { tuning: &pod.tuning, names, lacks })
    }
}
