//! Writes the status of one ChannelCluster. One loop writes it, so nothing is ever merged. Each write carries the
//! version of the object that was last seen, so that a deposed operator cannot write over its successor. A newer
//! object is written to only if its status is still ours: then a user changed the spec.

use std::hash::{DefaultHasher, Hasher};

use crds::{ChannelCluster, ChannelClusterStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use operator_core::status::{News, news};
use serde_json::json;

use crate::metrics::ClusterLabels;
use crate::shared::{Fenced, Shared};

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
    /// Another ChannelCluster has the name now, or no one has it.
    #[error("the ChannelCluster is gone")]
    Gone,
    /// The status is not the one that was written last: another operator leads, or led.
    #[error("somebody else wrote the status: what is in it has to be read again")]
    Overtaken,
}

/// The status of one ChannelCluster, as this process last wrote it. After an error the object's status may differ:
/// load it again.
pub struct Publisher {
    api: Api<ChannelCluster>,
    labels: ClusterLabels,
    uid: String,
    /// Version of the object when it was last seen.
    version: String,
    last: ChannelClusterStatus,
    /// Fingerprint of it as the server returned it.
    stored: u64,
    written_at: u64,
}

impl Publisher {
    /// Reads the present status.
    ///
    /// # Errors
    /// When it cannot be read, or when the ChannelCluster with that UID is gone.
    pub async fn load(client: Client, labels: &ClusterLabels, uid: &str) -> Result<Self, PublishError> {
        let api: Api<ChannelCluster> = Api::namespaced(client, &labels.namespace);
        let (version, last) = read(&api, &labels.name, uid).await?;
        let stored = fingerprint(&last);
        Ok(Self { api, labels: labels.clone(), uid: uid.to_owned(), version, last, stored, written_at: 0 })
    }

    /// The status that was last written.
    #[must_use]
    pub fn last(&self) -> &ChannelClusterStatus {
        &self.last
    }

    /// Writes `next` if it differs: facts at once, words and figures when the last write is old enough.
    ///
    /// # Errors
    /// When it should have been written and was not.
    pub async fn publish(
        &mut self,
        shared: &Shared,
        next: ChannelClusterStatus,
        now: u64,
    ) -> Result<bool, PublishError> {
        let news = news(&self.last, &next);
        if news == News::Nothing || now.saturating_sub(self.written_at) < news.pause() {
            return Ok(false);
        }
        match self.write(shared, &next).await {
            Err(PublishError::Api(kube::Error::Api(status))) if status.code == 409 => {
                let (version, stored) = read(&self.api, &self.labels.name, &self.uid).await?;
                if fingerprint(&stored) != self.stored {
                    return Err(PublishError::Overtaken);
                }
                self.version = version;
                self.write(shared, &next).await?;
            }
            other => other?,
        }
        shared.metrics.status_writes.inc();
        self.last = next;
        self.written_at = now;
        Ok(true)
    }

    async fn write(&mut self, shared: &Shared, next: &ChannelClusterStatus) -> Result<(), PublishError> {
        shared.check()?;
        let patch = json!({
            "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
            "kind": "ChannelCluster",
            "metadata": {"name": self.labels.name, "uid": self.uid, "resourceVersion": self.version},
            "status": next,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let written = self.api.patch_status(&self.labels.name, &params, &Patch::Apply(patch)).await?;
        let (version, stored) = seen(written);
        (self.version, self.stored) = (version, fingerprint(&stored));
        Ok(())
    }
}

/// Version and status of the ChannelCluster with this UID.
async fn read(
    api: &Api<ChannelCluster>,
    name: &str,
    uid: &str,
) -> Result<(String, ChannelClusterStatus), PublishError> {
    let live = api.get_opt(name).await?.filter(|c| c.uid().as_deref() == Some(uid));
    Ok(seen(live.ok_or(PublishError::Gone)?))
}

fn seen(cluster: ChannelCluster) -> (String, ChannelClusterStatus) {
    (cluster.resource_version().unwrap_or_default(), cluster.status.unwrap_or_default())
}

/// A status in 64 bits. A status that does not go into JSON, which there is not, would be taken for an empty one.
fn fingerprint(status: &ChannelClusterStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&serde_json::to_vec(status).unwrap_or_default());
    hasher.finish()
}
