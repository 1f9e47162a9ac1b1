//! The ConfigMap with the node's configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::meta::meta;
use crate::names::{CONFIG_KEY, Component};
use crate::validate::ValidatedCluster;

/// The ConfigMap that every node mounts as a directory, so that it sees changes.
pub(super) fn build(cluster: &ValidatedCluster) -> ConfigMap {
    ConfigMap {
        metadata: meta(cluster, cluster.names.config(), Component::Node),
        data: Some(BTreeMap::from([(CONFIG_KEY.to_owned(), cluster.config_file.clone())])),
        ..Default::default()
    }
}
