//! Writes the status of one ChannelCluster. One loop writes it, so nothing is ever merged; the version of the object that
//! was last seen goes along, so that an operator that was deposed cannot write over its successor.

use crds::{ChannelCluster, ChannelClusterStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use operator_core::status::{FIGURES_MILLIS, differs_materially};
use serde_json::json;

use crate::context::{Fenced, Shared};
use crate::metrics::ClusterLabels;

/// Field manager of the status.
pub const STATUS_MANAGER: &str = "channel-operator-status";

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// This process no longer leads.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The API server refused or did not answer.
    #[error("cannot write the status: {0}")]
    Api(#[from] kube::Error),
    /// Another ChannelCluster has the name now, or none.
    #[error("the ChannelCluster is gone")]
    Gone,
}

/// The status of one ChannelCluster, as written last.
pub struct Publisher {
    api: Api<ChannelCluster>,
    labels: ClusterLabels,
    uid: String,
    /// Version of the object when it was last seen; none when it has to be asked for.
    version: Option<String>,
    last: ChannelClusterStatus,
    figures_at: u64,
}

impl Publisher {
    /// Reads what is written now.
    ///
    /// # Errors
    /// When it cannot be read, or when the ChannelCluster with that UID is gone.
    pub async fn load(client: Client, labels: &ClusterLabels, uid: &str) -> Result<Self, PublishError> {
        let api: Api<ChannelCluster> = Api::namespaced(client, &labels.namespace);
        let live = api.get_opt(&labels.name).await?.filter(|c| c.uid().as_deref() == Some(uid));
        let live = live.ok_or(PublishError::Gone)?;
        let version = live.resource_version();
        let last = live.status.unwrap_or_default();
        Ok(Self { api, labels: labels.clone(), uid: uid.to_owned(), version, last, figures_at: 0 })
    }

    /// What was written last.
    #[must_use]
    pub fn last(&self) -> &ChannelClusterStatus {
        &self.last
    }

    /// Writes `next` if it says something new, or if its figures changed and the last figures are old enough.
    ///
    /// # Errors
    /// When it should have been written and was not.
    pub async fn publish(
        &mut self,
        shared: &Shared,
        next: ChannelClusterStatus,
        now: u64,
    ) -> Result<bool, PublishError> {
        let due = now.saturating_sub(self.figures_at) >= FIGURES_MILLIS;
        if !(differs_materially(&self.last, &next) || (due && self.last != next)) {
            return Ok(false);
        }
        match self.write(shared, &next).await {
            Err(PublishError::Api(kube::Error::Api(status))) if status.code == 409 => {
                // The spec was changed in the meantime, most likely; ask for the version and try once more.
                self.version = None;
                self.write(shared, &next).await?;
            }
            other => other?,
        }
        shared.metrics.status_writes.inc();
        self.last = next;
        self.figures_at = now;
        Ok(true)
    }

    async fn write(&mut self, shared: &Shared, next: &ChannelClusterStatus) -> Result<(), PublishError> {
        let version = match self.version.take() {
            Some(version) => version,
            None => {
                let live = self.api.get_metadata_opt(&self.labels.name).await?;
                let live =
                    live.filter(|c| c.uid().as_deref() == Some(&self.uid)).ok_or(PublishError::Gone)?;
                live.resource_version().unwrap_or_default()
            }
        };
        shared.check()?;
        let patch = json!({
            "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
            "kind": "ChannelCluster",
            "metadata": {"name": self.labels.name, "uid": self.uid, "resourceVersion": version},
            "status": next,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let written = self.api.patch_status(&self.labels.name, &params, &Patch::Apply(patch)).await?;
        self.version = written.resource_version();
        Ok(())
    }
}
