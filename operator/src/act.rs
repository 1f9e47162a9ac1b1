//! Carries out what the operations decided. An action that fails is logged and decided again at the next tick, from what is
//! there then.

use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use node_core::admin::{DrainRequest, DrainStage, RebalanceRequest, VERSION};
use operator_core::contest::Part;
use operator_core::operations::plan::{Action, Failed};
use operator_core::ownership::SCALING_MANAGER;
use operator_core::pod::DELETION_COST;
use serde_json::json;
use tracing::{debug, info, warn};

use crate::observe::{SeenDeployment, SeenPods};
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
    /// The Deployment was not seen.
    #[error("no such Deployment was seen")]
    NoDeployment,
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
    /// The Deployments of nodes as they were seen.
    pub deployments: &'a [SeenDeployment],
    /// The pods as they were seen.
    pub pods: &'a SeenPods,
    /// The nodes' admin token.
    pub token: &'a str,
    /// When it was decided what is to be done.
    pub decided: Instant,
}

impl Target<'_> {
    /// Carries them out, in order. Gives each that was tried, with whether that succeeded. One that counts on an earlier one
    /// of them which failed is not tried.
    pub async fn act(&self, actions: Vec<Action>) -> Vec<(Action, bool)> {
        let mut failed = Failed::default();
        let mut tried = Vec::with_capacity(actions.len());
        for action in actions {
            if failed.stops(&action) {
                debug!(name = self.name, ?action, "an action before it failed: not now");
                continue;
            }
            let done = self.one(&action).await;
            if let Err(error) = &done {
                warn!(namespace = self.namespace, name = self.name, ?action, %error, "action failed");
                failed.note(&action);
            }
            tried.push((action, done.is_ok()));
        }
        tried
    }

    async fn one(&self, action: &Action) -> Result<(), ActError> {
        self.shared.check()?;
        if let Action::Replicas { deployment, .. } = action
            && self.count_waits(deployment)
        {
            debug!(name = self.name, ?action, "somebody else writes the node count too: not now");
            return Ok(());
        }
        info!(namespace = self.namespace, name = self.name, ?action, "acting");
        match action {
            Action::Unready { pod } | Action::Hold { pod } => {
                self.drain(pod, DrainStage::Unready, None).await
            }
            Action::Close { pod, rate, .. } => self.drain(pod, DrainStage::Close, Some(*rate)).await,
            Action::TakeBack { pod } => {
                self.shared.nodes.take_back(&self.peer(pod)?, self.token).await?;
                Ok(())
            }
            Action::Rebalance { pod, request } => {
                // The age is that at the time of the decision; the status was written since then.
                let since = u64::try_from(self.decided.elapsed().as_millis()).unwrap_or(u64::MAX);
                let min_age_millis = request.min_age_millis.saturating_add(since);
                let request = RebalanceRequest { min_age_millis, ..request.clone() };
                self.shared.nodes.rebalance(&self.peer(pod)?, self.token, &request).await?;
                Ok(())
            }
            Action::StopRebalance { pod } => {
                self.shared.nodes.stop_rebalance(&self.peer(pod)?, self.token).await?;
                Ok(())
            }
            Action::DeletionCost { pod, cost } => self.deletion_cost(pod, *cost).await,
            Action::Replicas { deployment, from, to } => self.replicas(deployment, *from, *to).await,
        }
    }

    fn peer(&self, pod: &str) -> Result<Peer, ActError> {
        let (_, ip) = self.pods.addressed().find(|(view, _)| view.name == pod).ok_or(ActError::NoAddress)?;
        Ok(Peer { name: pod.to_owned(), ip: ip.ok_or(ActError::NoAddress)?.to_owned() })
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

    /// Whether the node count of a Deployment is not to be written now.
    fn count_waits(&self, deployment: &str) -> bool {
        let contests = &self.shared.contests;
        contests.pause(self.namespace, self.name, &object(deployment), Some(Part::Count)).is_some()
    }

    /// Writes the node count of a Deployment, unless it is no longer the one that was looked at.
    async fn replicas(&self, name: &str, from: i32, to: i32) -> Result<(), ActError> {
        let seen = self.deployments.iter().find(|seen| seen.view.name == name);
        let seen = seen.ok_or(ActError::NoDeployment)?;
        debug_assert_eq!(from, seen.view.replicas);
        let api: Api<Deployment> = Api::namespaced(self.shared.client.clone(), self.namespace);
        let before = api.get_metadata(name).await?.metadata;
        let patch = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "resourceVersion": seen.resource_version},
            "spec": {"replicas": to},
        });
        let params = PatchParams::apply(SCALING_MANAGER).force();
        let after = api.patch(name, &params, &Patch::Apply(patch)).await?.metadata;
        self.shared.contests.note(self.namespace, self.name, &object(name), &before, &after);
        Ok(())
    }
}

/// What a Deployment is called where another manager's writes are noted.
fn object(deployment: &str) -> String {
    format!("Deployment {deployment}")
}
