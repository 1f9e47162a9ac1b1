//! The Services of the nodes.

use crds::ServiceType;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta;
use crate::names::{ADMIN_PORT, ADMIN_PORT_NAME, Component, WS_PORT, WS_PORT_NAME};
use crate::validate::ValidatedCluster;

/// Tells proxies that the port carries WebSockets (KEP-3726).
const WS_APP_PROTOCOL: &str = "kubernetes.io/ws";

/// The Service that clients connect to.
pub(super) fn clients(cluster: &ValidatedCluster) -> Service {
    let kind = match cluster.service.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata: meta(cluster, cluster.names.service(), Component::Node),
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(cluster.names.selector_labels(Component::Node)),
            ports: Some(vec![ws_port(cluster.service.port)]),
            ..Default::default()
        }),
        status: None,
    }
}

/// The headless Service: a DNS name and an endpoint for each node, ready or not, because a node that drains still has to
/// be found.
pub(super) fn headless(cluster: &ValidatedCluster) -> Service {
    let admin = ServicePort {
        name: Some(ADMIN_PORT_NAME.to_owned()),
        port: ADMIN_PORT,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(ADMIN_PORT_NAME.to_owned())),
        ..Default::default()
    };
    Service {
        metadata: meta(cluster, cluster.names.headless(), Component::Node),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(cluster.names.selector_labels(Component::Node)),
            ports: Some(vec![ws_port(WS_PORT), admin]),
            ..Default::default()
        }),
        status: None,
    }
}

fn ws_port(port: i32) -> ServicePort {
    ServicePort {
        name: Some(WS_PORT_NAME.to_owned()),
        app_protocol: Some(WS_APP_PROTOCOL.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(WS_PORT_NAME.to_owned())),
        ..Default::default()
    }
}
