//! The observation of one ChannelCluster, from which a look decides together with its memory of the look before.

use std::collections::HashMap;

use crds::ChannelClusterStatus;
use k8s_openapi::api::apps::v1::Deployment;

use crate::asked::Asked;
use crate::contest::Contest;
use crate::hindrance::Hindrance;
use crate::pod::PodView;
use crate::refused::Rejected;
use crate::samples::NodeSeries;
use crate::validate::ValidatedCluster;
use crate::view::Outcome;

/// The node Deployment as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentView {
    /// Its replicas.
    pub replicas: i32,
    /// Pods that its controller counts, terminating ones not.
    pub pods: i32,
    /// Whether it is replacing its pods.
    pub rolling: bool,
    /// Whether its controller has seen the last change.
    pub observed: bool,
    /// Image of its pods.
    pub image: Option<String>,
}

impl DeploymentView {
    /// Reads a Deployment; none when it has no spec.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Option<Self> {
        let status = deployment.status.clone().unwrap_or_default();
        let pods = status.replicas.unwrap_or_default();
        Some(Self {
            replicas: deployment.spec.as_ref()?.replicas.unwrap_or(1),
            pods,
            rolling: status.updated_replicas.unwrap_or_default() < pods,
            observed: status.observed_generation >= deployment.metadata.generation,
            image: image(deployment),
        })
    }
}

/// Image of a Deployment's first container; ours have one.
#[must_use]
pub fn image(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

/// What was seen of one ChannelCluster.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Milliseconds since 1970.
    pub now: u64,
    /// What its user asks for now.
    pub asked: &'a Asked<'a>,
    /// Generation of the spec that was reconciled last.
    pub generation: i64,
    /// How that ended.
    pub outcome: &'a Outcome,
    /// The last spec that was valid; none if there was none yet.
    pub valid: Option<&'a ValidatedCluster>,
    /// The status as it was written last.
    pub previous: &'a ChannelClusterStatus,
    /// The node Deployment; none while there is none.
    pub deployment: Option<&'a DeploymentView>,
    /// The node Deployment, whole.
    pub node_deployment: Option<&'a Deployment>,
    /// The Deployment of the managed NATS.
    pub nats_deployment: Option<&'a Deployment>,
    /// The node pods that have not ended, terminating ones included.
    pub pods: &'a [PodView],
    /// What the nodes said of themselves, by the UID of their pod.
    pub series: &'a HashMap<String, NodeSeries>,
    /// Pods that were refused for a sysctl.
    pub rejected: &'a [Rejected],
    /// What keeps pods from starting, most telling first.
    pub hindrances: &'a [Hindrance],
    /// The field that another manager keeps writing too.
    pub contest: Option<&'a Contest>,
}
