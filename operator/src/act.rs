//! Carries out what the operations decided. An action that fails is logged and decided again at the next tick, from what is
//! there then.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use node_core::admin::{DrainRequest, DrainStage, VERSION};
use operator_core::contest::Part;
use operator_core::operations::plan::Action;
use operator_core::ownership::SCALING_MANAGER;
use operator_core::pod::DELETION_COST;
use serde_json::json;
use tracing::{debug, info, warn};

use crate::observe::{SeenDeployment, SeenPod};
use crate::scrape::{NodeError, Peer};
use crate::shared::{Fenced, Shared};

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// This process no longer leads.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The API server refused or did not answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The node refused or did not answer.
    #[error("the node: {0}")]
    Node(#[from] NodeError),
    /// The pod has no address.
    #[error("the pod has no address")]
    NoAddress,
}

/// What actions are carried out on.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Handles.
    pub shared: &'a Shared,
    /// Namespace of the cluster.
    pub namespace: &'a str,
    /// Name of the cluster.
    pub name: &'a str,
    /// Name of the node Deployment.
    pub deployment_name: &'a str,
    /// The node Deployment as it was seen.
    pub deployment: &'a SeenDeployment,
    /// The pods as they were seen.
    pub pods: &'a [SeenPod],
    /// The nodes' admin token.
    pub token: &'a str,
}

impl Target<'_> {
    /// Carries out all of them, in order. Says whether an order to close reached its node, if there was one.
    pub async fn act(&self, actions: Vec<Action>) -> Option<bool> {
        let mut told = None;
        for action in actions {
            let done = self.one(&action).await;
            if let Err(error) = &done {
                warn!(namespace = self.namespace, deployment = self.deployment_name, ?action, %error, "action failed");
            }
            if matches!(action, Action::Close { .. }) {
                told = Some(done.is_ok());
            }
        }
        told
    }

    async fn one(&self, action: &Action) -> Result<(), ActError> {
        self.shared.check()?;
        if matches!(action, Action::Replicas { .. }) && self.count_waits() {
            debug!(name = self.name, ?action, "somebody else writes the node count too: not now");
            return Ok(());
        }
        info!(namespace = self.namespace, deployment = self.deployment_name, ?action, "acting");
        match action {
            Action::Unready { pod } => self.drain(pod, DrainStage::Unready, None).await,
            Action::Close { pod, rate } => self.drain(pod, DrainStage::Close, Some(*rate)).await,
            Action::TakeBack { pod } => {
                self.shared.nodes.take_back(&self.peer(pod)?, self.token).await?;
                Ok(())
            }
            Action::DeletionCost { pod, cost } => self.deletion_cost(pod, *cost).await,
            Action::Replicas { from, to } => self.replicas(*from, *to).await,
        }
    }

    fn peer(&self, pod: &str) -> Result<Peer, ActError> {
        let seen = self.pods.iter().find(|p| p.view.name == pod);
        let ip = seen.and_then(|p| p.ip.clone()).ok_or(ActError::NoAddress)?;
        Ok(Peer { name: pod.to_owned(), ip })
    }

    async fn drain(&self, pod: &str, stage: DrainStage, rate: Option<u32>) -> Result<(), ActError> {
        let request = DrainRequest { version: VERSION, stage, connections_per_second: rate };
        self.shared.nodes.drain(&self.peer(pod)?, self.token, &request).await?;
        Ok(())
    }

    async fn deletion_cost(&self, pod: &str, cost: Option<i32>) -> Result<(), ActError> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), self.namespace);
        let cost = cost.map(|cost| cost.to_string());
        let patch = json!({"metadata": {"annotations": {DELETION_COST: cost}}});
        api.patch_metadata(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    fn object(&self) -> String {
        format!("Deployment {}", self.deployment_name)
    }

    /// Whether the node count is not to be written now.
    fn count_waits(&self) -> bool {
        let contests = &self.shared.contests;
        contests.pause(self.namespace, self.name, &self.object(), Some(Part::Count)).is_some()
    }

    /// Writes the node count, unless the Deployment is no longer the one that was looked at.
    async fn replicas(&self, from: i32, to: i32) -> Result<(), ActError> {
        debug_assert_eq!(from, self.deployment.view.replicas);
        let api: Api<Deployment> = Api::namespaced(self.shared.client.clone(), self.namespace);
        let before = api.get_metadata(self.deployment_name).await?.metadata;
        let patch = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": self.deployment_name, "resourceVersion": self.deployment.resource_version},
            "spec": {"replicas": to},
        });
        let params = PatchParams::apply(SCALING_MANAGER).force();
        let after = api.patch(self.deployment_name, &params, &Patch::Apply(patch)).await?.metadata;
        self.shared.contests.note(self.namespace, self.name, &self.object(), &before, &after);
        Ok(())
    }
}
