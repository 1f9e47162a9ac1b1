//! The Kubernetes objects of a ChannelCluster, one file each. All of them belong to the ChannelCluster by owner
//! reference, so deleting it deletes them.

mod config_map;
mod deployment;
mod meta;
mod nats;
mod network_policy;
mod pdb;
mod pod;
mod probe;
mod secret;
mod service;
mod shape;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::hash::short_hash;
use crate::names::Component;
use crate::validate::{Bus, ValidatedCluster};

pub use meta::owner;
pub use nats::NatsBundle;
pub use probe::probe;
pub use secret::{mark as secret_mark, secret};

/// Every object of a ChannelCluster but its Secret, which is made once. Apply them in this order: what a pod mounts
/// comes before the pods, NATS before the nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Account of the node pods, without any right.
    pub service_account: ServiceAccount,
    /// The node's configuration file.
    pub config_map: ConfigMap,
    /// Which pods may reach the nodes.
    pub network_policy: NetworkPolicy,
    /// The managed NATS. With a backplane of another type there is none, and objects under its names are deleted once
    /// no node uses them.
    pub nats: Option<NatsBundle>,
    /// Lists every node.
    pub headless: Service,
    /// What clients connect to.
    pub service: Service,
    /// What backends reach the server API by. Without a wish for it there is none, and an object of its name is deleted.
    pub api: Option<Service>,
    /// Holds evictions to one node at a time.
    pub pdb: PodDisruptionBudget,
    /// The nodes.
    pub deployment: Deployment,
}

/// All objects of a cluster with `replicas` nodes.
#[must_use]
pub fn bundle(cluster: &ValidatedCluster, replicas: i32) -> Bundle {
    Bundle {
        service_account: service_account(cluster),
        config_map: config_map::build(cluster),
        network_policy: network_policy::nodes(cluster),
        nats: match &cluster.bus {
            Bus::Managed { image } => Some(nats::build(cluster, image)),
            Bus::None | Bus::External { .. } => None,
        },
        headless: service::headless(cluster),
        service: service::clients(cluster),
        api: service::api(cluster),
        pdb: pdb::build(cluster),
        deployment: deployment::build(cluster, replicas),
    }
}

/// The nodes' Deployment of a cluster as it was made when there was only one: under [`crate::names::Names::first_deployment`],
/// and with pods that do not say which template they have.
#[must_use]
pub fn first_deployment(cluster: &ValidatedCluster, replicas: i32) -> Deployment {
    deployment::first(cluster, replicas)
}

/// A text that differs when the spec or this version makes other objects of it; the node count does not matter.
#[must_use]
pub fn fingerprint(cluster: &ValidatedCluster) -> String {
    short_hash(format!("{:?}", bundle(cluster, 0)).as_bytes())
}

fn service_account(cluster: &ValidatedCluster) -> ServiceAccount {
    ServiceAccount {
        metadata: meta::meta(cluster, cluster.names.service_account(), Component::Node),
        automount_service_account_token: Some(false),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
