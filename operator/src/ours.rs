//! Which ChannelCluster owns an object that the operator is about to write, and why a write failed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource;
use operator_core::build;
use operator_core::ownership::{self, Owner};
use operator_core::validate::ValidatedCluster;
use serde_json::{Value, json};

use crate::shared::{Fenced, Shared};
use crate::written::Left;

/// Why a bundle could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of that name has another owner.
    #[error(
        "{kind} {name} exists and belongs to {owner}: name the ChannelCluster otherwise; or, if it was made for this one, \
         take its ownerReferences away and label it app.kubernetes.io/managed-by=channel-operator, \
         app.kubernetes.io/name=channelcluster and channelcluster.io/cluster={cluster}, and it is taken over as it is"
    )]
    NotOurs {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Its owner, in a few words.
        owner: String,
        /// Name of the ChannelCluster.
        cluster: String,
    },
    /// The API server refuses objects of a spec that was never applied; nothing of it is written.
    #[error("{0}")]
    Refused(String),
    /// The API server refuses objects of a spec that was applied before; the others are written.
    #[error("the API server refuses what it took before, and everything else is applied: {0}")]
    Partly(String),
    /// The API server did not answer, or cannot answer now.
    #[error("cannot write {what}: {source}")]
    Api {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// This process no longer leads.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

/// The owner of an object that is there.
pub(crate) fn whose(shared: &Shared, cluster: &ValidatedCluster, live: &ObjectMeta) -> Owner {
    let lives = |name: &str, uid: &str| {
        let there = shared.stores.cluster(&cluster.namespace, name);
        there.is_some_and(|there| there.meta().uid.as_deref() == Some(uid))
    };
    ownership::owner(live, &cluster.name, &cluster.uid, lives)
}

/// Whether an object that is there is to be taken over.
///
/// # Errors
/// When it has another owner.
pub(crate) fn is_leftover(
    shared: &Shared,
    cluster: &ValidatedCluster,
    kind: &str,
    name: &str,
    live: &ObjectMeta,
) -> Result<bool, ApplyError> {
    match whose(shared, cluster, live) {
        Owner::Ours => Ok(false),
        Owner::Leftover => Ok(true),
        Owner::Another(owner) => Err(ApplyError::NotOurs {
            kind: kind.to_owned(),
            name: name.to_owned(),
            owner,
            cluster: cluster.name.clone(),
        }),
    }
}

/// The patch that makes an object ours, which is applied only if the object has not changed since it was looked at.
pub(crate) fn adoption(
    cluster: &ValidatedCluster,
    live: &ObjectMeta,
    records: Option<&[ManagedFieldsEntry]>,
) -> Value {
    let mut meta = json!({
        "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": [build::owner(cluster)],
    });
    if let Some(records) = records {
        meta["managedFields"] = json!(records);
    }
    json!({"metadata": meta})
}

/// The error of a request about an object.
pub(crate) fn failed<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api { what: format!("{} {name}", K::kind(&())), source }
}

/// Whether another writer may have touched an object since this process last applied it.
pub(crate) enum Touched {
    /// No: the object is as this process left it, as far as the watches have seen.
    No(Box<Left>),
    /// There is no object: the operator found none of its own when it last looked, and the watches see none.
    Absent,
    /// It is not known.
    Perhaps,
}

/// Whether another writer may have touched an object of the ChannelCluster with this UID.
pub(crate) fn touched(shared: &Shared, namespace: &str, uid: &str, kind: &str, name: &str) -> Touched {
    let object = format!("{kind} {name}");
    match (shared.stores.standing(kind, namespace, name), shared.written.left(uid, &object)) {
        (Some(standing), Some(left)) if standing == left.standing => Touched::No(Box::new(left)),
        (None, None) if shared.written.is_absent(uid, &object) => Touched::Absent,
        _ => Touched::Perhaps,
    }
}
