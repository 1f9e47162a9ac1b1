//! Which pods may reach nodes and NATS. A network plugin that knows no NetworkPolicy ignores these objects; the admin
//! port's token and NATS's password do not depend on them.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::meta;
use crate::names::{ADMIN_PORT, API_PORT, Component, NATS_PORT, WS_PORT};
use crate::validate::ValidatedCluster;

/// Namespaces with this label, set to `true`, may read the nodes' metrics.
const SCRAPE_LABEL: &str = "channelcluster.io/scrape";

/// All addresses may reach the public port, and pods of the namespace that of the server API, if there is one; the operator's
/// namespace, and namespaces with the label for scraping, may reach the admin port.
pub(super) fn nodes(cluster: &ValidatedCluster) -> NetworkPolicy {
    let namespace = |key: &str, value: &str| NetworkPolicyPeer {
        namespace_selector: Some(labelled(BTreeMap::from([(key.to_owned(), value.to_owned())]))),
        ..Default::default()
    };
    let admin = NetworkPolicyIngressRule {
        from: Some(vec![
            namespace("kubernetes.io/metadata.name", &cluster.operator_namespace),
            namespace(SCRAPE_LABEL, "true"),
        ]),
        ports: Some(vec![port(ADMIN_PORT)]),
    };
    let public = NetworkPolicyIngressRule { from: None, ports: Some(vec![port(WS_PORT)]) };
    let backends = cluster.mounted.api.iter().map(|_| {
        let own = NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..Default::default() };
        NetworkPolicyIngressRule { from: Some(vec![own]), ports: Some(vec![port(API_PORT)]) }
    });
    let rules = [public, admin].into_iter().chain(backends).collect();
    build(cluster, cluster.names.network_policy(), Component::Node, rules)
}

/// Only the nodes of the cluster may reach its NATS.
pub(super) fn nats(cluster: &ValidatedCluster) -> NetworkPolicy {
    let nodes = NetworkPolicyPeer {
        pod_selector: Some(cluster.names.selector(Component::Node)),
        ..Default::default()
    };
    let clients = NetworkPolicyIngressRule { from: Some(vec![nodes]), ports: Some(vec![port(NATS_PORT)]) };
    build(cluster, cluster.names.nats(), Component::Nats, vec![clients])
}

fn build(
    cluster: &ValidatedCluster,
    name: String,
    component: Component,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: meta(cluster, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(cluster.names.selector(component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            egress: None,
        }),
    }
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn port(number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
