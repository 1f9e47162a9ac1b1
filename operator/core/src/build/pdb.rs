//! The PodDisruptionBudget of the nodes.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::meta;
use crate::names::Component;
use crate::validate::ValidatedCluster;

/// One node at a time may be evicted. `maxUnavailable` never blocks the drain of a machine for good, as
/// `minAvailable` does with one replica; `IfHealthyBudget` protects a draining node, which is not Ready and would
/// otherwise be evicted.
pub(super) fn build(cluster: &ValidatedCluster) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(cluster, cluster.names.pdb(), Component::Node),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(cluster.names.selector(Component::Node)),
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
            ..Default::default()
        }),
        status: None,
    }
}
