//! The Services of the nodes.

use crds::{IpFamily, IpFamilyPolicy, ServiceType, TrafficPolicy};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::meta;
use crate::names::{ADMIN_PORT, ADMIN_PORT_NAME, API_PORT_NAME, Component, WS_PORT, WS_PORT_NAME};
use crate::validate::ValidatedCluster;

/// Tells proxies that the port carries WebSockets, plain and over TLS (KEP-3726).
const WS_APP_PROTOCOL: &str = "kubernetes.io/ws";
const WSS_APP_PROTOCOL: &str = "kubernetes.io/wss";
/// Ports of a Service that asks for none, plain and with TLS.
const HTTP_PORT: i32 = 80;
const HTTPS_PORT: i32 = 443;

/// The Service that clients connect to.
pub(super) fn clients(cluster: &ValidatedCluster) -> Service {
    let asked = &cluster.service;
    let kind = match asked.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let usual = if cluster.mounted.tls.is_some() { HTTPS_PORT } else { HTTP_PORT };
    let mut metadata = meta(cluster, cluster.names.service(), Component::Node);
    metadata.annotations = asked.annotations.clone().filter(|all| !all.is_empty());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(cluster.names.selector_labels(Component::Node)),
            ports: Some(vec![ws_port(cluster, asked.port.unwrap_or(usual))]),
            load_balancer_class: asked.load_balancer_class.clone(),
            load_balancer_source_ranges: asked.load_balancer_source_ranges.clone().filter(|r| !r.is_empty()),
            external_traffic_policy: asked.external_traffic_policy.map(|policy| traffic(policy).to_owned()),
            ip_family_policy: asked.ip_family_policy.map(|policy| families(policy).to_owned()),
            ip_families: asked.ip_families.as_ref().map(|all| all.iter().copied().map(family).collect()),
            ..Default::default()
        }),
        status: None,
    }
}

const fn traffic(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

const fn families(policy: IpFamilyPolicy) -> &'static str {
    match policy {
        IpFamilyPolicy::SingleStack => "SingleStack",
        IpFamilyPolicy::PreferDualStack => "PreferDualStack",
        IpFamilyPolicy::RequireDualStack => "RequireDualStack",
    }
}

fn family(family: IpFamily) -> String {
    match family {
        IpFamily::IPv4 => "IPv4".to_owned(),
        IpFamily::IPv6 => "IPv6".to_owned(),
    }
}

/// The Service of the server API, by which backends reach any node that is ready.
pub(super) fn api(cluster: &ValidatedCluster) -> Option<Service> {
    let api = cluster.mounted.api.as_ref()?;
    let port = ServicePort {
        name: Some(API_PORT_NAME.to_owned()),
        app_protocol: Some("http".to_owned()),
        port: api.port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(API_PORT_NAME.to_owned())),
        ..Default::default()
    };
    Some(Service {
        metadata: meta(cluster, cluster.names.api(), Component::Node),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(cluster.names.selector_labels(Component::Node)),
            ports: Some(vec![port]),
            ..Default::default()
        }),
        status: None,
    })
}

/// The headless Service: a DNS name and an endpoint for each node, ready or not, because a node that drains still has
/// to be found.
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
            ports: Some(vec![ws_port(cluster, WS_PORT), admin]),
            ..Default::default()
        }),
        status: None,
    }
}

fn ws_port(cluster: &ValidatedCluster, port: i32) -> ServicePort {
    let protocol = if cluster.mounted.tls.is_some() { WSS_APP_PROTOCOL } else { WS_APP_PROTOCOL };
    ServicePort {
        name: Some(WS_PORT_NAME.to_owned()),
        app_protocol: Some(protocol.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(WS_PORT_NAME.to_owned())),
        ..Default::default()
    }
}
