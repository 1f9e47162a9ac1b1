//! The observation of one ChannelCluster, from which a look decides together with its memory of the look before.

use std::collections::{BTreeSet, HashMap};

use crds::ChannelClusterStatus;
use k8s_openapi::api::apps::v1::Deployment;

use crate::asked::Asked;
use crate::contest::Contest;
use crate::hindrance::Hindrance;
use crate::pod::PodView;
use crate::refused::Rejected;
use crate::samples::NodeSeries;
use crate::source::Figures;
use crate::sysctl_probes::{Pool, ProbePod, Wish};
use crate::templates::Made;
use crate::validate::ValidatedCluster;
use crate::view::Outcome;

/// A Deployment of nodes as it is now. A fleet has one for each pod template that its nodes were made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentView {
    /// Its name.
    pub name: String,
    /// Hash of its pod template; empty where a version made it that knew no hashes.
    pub template: String,
    /// Its number among the Deployments of the fleet: the current one has the highest.
    pub revision: u64,
    /// Whether its pods are made as it is wanted now; one Deployment of a fleet is the current one.
    pub current: bool,
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
    /// Reads a Deployment; none when it has no spec. `current` is the field of that name.
    #[must_use]
    pub fn of(deployment: &Deployment, current: bool) -> Option<Self> {
        let status = deployment.status.clone().unwrap_or_default();
        let pods = status.replicas.unwrap_or_default();
        let made = Made::of(&deployment.metadata);
        Some(Self {
            name: made.name,
            template: made.template.unwrap_or_default(),
            revision: made.revision,
            current,
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

/// Names of the sysctls of a Deployment's pods.
#[must_use]
pub fn sysctls(deployment: &Deployment) -> BTreeSet<String> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let asked = pod.and_then(|pod| pod.security_context.as_ref()?.sysctls.as_ref());
    asked.into_iter().flatten().map(|sysctl| sysctl.name.clone()).collect()
}

/// What is seen of the pods that try unsafe sysctls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probing<'a> {
    /// The spec that waits for them, if one does; it is not in force yet.
    pub waiting: Option<&'a ValidatedCluster>,
    /// The pools of machines.
    pub pools: &'a [Pool],
    /// The pods.
    pub pods: &'a [ProbePod],
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
    /// The Deployments of nodes; empty while there is none.
    pub deployments: &'a [DeploymentView],
    /// The current one of them, whole.
    pub node_deployment: Option<&'a Deployment>,
    /// The Deployment of the managed NATS.
    pub nats_deployment: Option<&'a Deployment>,
    /// The node pods that have not ended, terminating ones included.
    pub pods: &'a [PodView],
    /// What the nodes said of themselves, by the UID of their pod.
    pub series: &'a HashMap<String, NodeSeries>,
    /// What a Prometheus says of the load; none when the nodes are its source.
    pub figures: Option<&'a Figures>,
    /// Pods that were refused for a sysctl.
    pub rejected: &'a [Rejected],
    /// What keeps pods from starting, most telling first.
    pub hindrances: &'a [Hindrance],
    /// The field that another manager keeps writing too.
    pub contest: Option<&'a Contest>,
    /// The pods that try unsafe sysctls.
    pub probing: Probing<'a>,
}

impl<'a> Observation<'a> {
    /// The Deployment whose pods are made as it is wanted now; none while there is none.
    #[must_use]
    pub fn current(&self) -> Option<&'a DeploymentView> {
        self.deployments.iter().find(|deployment| deployment.current)
    }

    /// Whether the spec or an annotation pauses rollouts.
    #[must_use]
    pub fn pauses_rollout(&self) -> bool {
        let by_spec = self.valid.is_some_and(|valid| valid.rollout.pause.unwrap_or_default());
        by_spec || self.asked.wishes.pause_rollout
    }

    /// The unsafe sysctls of the spec that counts for them: one that waits for pods to try them, or the last valid one.
    #[must_use]
    pub fn sysctl_wish(&self) -> Option<(&'a ValidatedCluster, Wish<'a>)> {
        let wanted = self.probing.waiting.or(self.valid)?;
        Some((wanted, wanted.sysctl_wish()?))
    }

    /// Replicas of all Deployments.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        sum(self.deployments, |deployment| deployment.replicas)
    }
}

/// A sum over Deployments.
#[must_use]
pub fn sum(deployments: &[DeploymentView], of: fn(&DeploymentView) -> i32) -> i32 {
    deployments.iter().map(of).fold(0, i32::saturating_add)
}
