//! Metadata of the objects, and which ChannelCluster owns them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::names::Component;
use crate::validate::ValidatedCluster;

/// Metadata of an object of ours.
pub(super) fn meta(cluster: &ValidatedCluster, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(cluster.names.labels(component)),
        owner_references: Some(vec![owner(cluster)]),
        ..Default::default()
    }
}

/// The reference by which an object belongs to the ChannelCluster and is deleted with it.
#[must_use]
pub fn owner(cluster: &ValidatedCluster) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: "ChannelCluster".to_owned(),
        name: cluster.name.clone(),
        uid: cluster.uid.clone(),
        controller: Some(true),
        // Deleting in the foreground waits for our objects; that needs no right on finalizers of the owner.
        block_owner_deletion: Some(true),
    }
}
