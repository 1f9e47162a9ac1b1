//! How clients reach the fleet, and what carries messages between nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;
use crate::spec::pods::{PodOptions, SecretRef};

/// What carries messages from node to node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::BACKPLANE_URLS_MISSING)]
#[x_kube(validation = rules::BACKPLANE_URLS_UNUSED)]
#[x_kube(validation = rules::BACKPLANE_URL_FORM)]
#[x_kube(validation = rules::BACKPLANE_IMAGE_UNUSED)]
#[x_kube(validation = rules::BACKPLANE_PODS_UNUSED)]
#[x_kube(validation = rules::backplane::LABELS)]
#[x_kube(validation = rules::backplane::ANNOTATIONS)]
#[x_kube(validation = rules::backplane::LABEL_FORM)]
#[x_kube(validation = rules::backplane::ANNOTATION_FORM)]
#[x_kube(validation = rules::backplane::NODE_SELECTOR_FORM)]
#[x_kube(validation = rules::backplane::TOLERATION_OPERATOR)]
#[x_kube(validation = rules::backplane::TOLERATION_EFFECT)]
#[x_kube(validation = rules::backplane::TOLERATION_VALUE)]
#[x_kube(validation = rules::backplane::TOLERATION_KEY)]
#[x_kube(validation = rules::backplane::TOLERATION_SECONDS)]
#[x_kube(validation = rules::backplane::RESOURCES_FORM)]
#[x_kube(validation = rules::backplane::RESOURCES_SIGN)]
#[x_kube(validation = rules::backplane::RESOURCES_REQUEST_ABOVE_LIMIT)]
#[x_kube(validation = rules::backplane::RESOURCES_MEMORY_UNIT)]
#[x_kube(validation = rules::backplane::IMAGE_FORM)]
#[x_kube(validation = rules::backplane::NAMES_FORM)]
#[serde(rename_all = "camelCase")]
pub struct Backplane {
    /// Who runs it.
    #[serde(rename = "type", default)]
    pub type_: BackplaneType,
    /// Image of the managed NATS; unset: the operator's own, kept from the day the cluster was first seen. Changing it
    /// restarts NATS: messages between nodes are lost until they have reconnected. Only with type `Managed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// NATS servers, `nats://HOST:PORT`; only with type `Nats`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub urls: Vec<String>,
    /// Secret with the keys `username` and `password` and the label `channelcluster.io/credentials: "true"`; only with type
    /// `Nats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Compute resources of the managed NATS; unset: requests of 50m CPU and 64Mi memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the machines that may run the managed NATS; unset: those of `nodes.nodeSelector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that the managed NATS tolerates; unset: those of `nodes.tolerations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub tolerations: Option<Vec<Toleration>>,
    /// Scheduling affinity of the managed NATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// More labels for the pods of the managed NATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// More annotations for the pods of the managed NATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_annotations: Option<BTreeMap<String, String>>,
    /// More about the pods of the managed NATS.
    #[serde(flatten)]
    pub pod: PodOptions,
}

/// Who runs the backplane.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum BackplaneType {
    /// The operator runs NATS beside the nodes.
    #[default]
    Managed,
    /// NATS servers of the user's.
    Nats,
    /// None: one node only.
    None,
}

/// How clients reach the fleet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::PROXIES_FORM)]
#[x_kube(validation = rules::PROXY_PROTOCOL)]
#[x_kube(validation = rules::FORWARDED_HEADER)]
#[serde(rename_all = "camelCase")]
pub struct Expose {
    /// Serve the live chat page at `/` and the reserved topic `$cluster`.
    #[serde(default)]
    pub chat_page: bool,
    /// Serve long-poll at `/socket/longpoll` for clients that cannot keep a WebSocket. With more than one node the load
    /// balancer must send all requests of a client to one node.
    #[serde(default)]
    pub long_poll: bool,
    /// Networks of the load balancers and proxies before the nodes, as `10.0.0.0/8`. What they say about a client's address
    /// is believed, and nobody else: pods within these networks could name any address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = keys::MAX_TRUSTED_PROXIES), inner(length(min = 1, max = 64)))]
    pub trusted_proxies: Vec<String>,
    /// The header in which they name the client; unset: `XForwardedFor`. The other one is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_header: Option<ForwardedHeader>,
    /// Every connection begins with a header of the PROXY protocol, version 1 or 2, that a trusted proxy sends. Others are
    /// dropped.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The nodes speak TLS with clients; unset: they speak plain HTTP, and a proxy in front may speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The server API on a Service of its own, named after the ChannelCluster and `-api`; unset: it is on the admin port of each
    /// node alone, for the admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ServerApi>,
    /// Compress messages to clients that ask for it, once for all members of a room (permessage-deflate, RFC 7692), and take
    /// compressed ones of theirs; unset: neither. `{}` is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The client-facing Service.
    #[serde(default)]
    pub service: ServiceSpec,
}

/// A header in which proxies name a client.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The server API of the nodes.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::API_SECRET_FORM)]
#[serde(rename_all = "camelCase")]
pub struct ServerApi {
    /// Secret with the key `keys.yaml`, which lists the digests of the API keys, and the label
    /// `channelcluster.io/credentials: "true"`. Changed keys count within a minute or two, when the kubelet has written them.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Port of the Service; unset: 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
}

/// TLS of the nodes.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::TLS_SECRET_FORM)]
#[x_kube(validation = rules::TLS_CLIENT_CA_FORM)]
#[x_kube(validation = rules::TLS_CLIENT_CERTIFICATES)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secret with the keys `tls.crt` and `tls.key`, as cert-manager writes it, and the label
    /// `channelcluster.io/credentials: "true"`. A changed certificate counts for new connections, and closes none.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Secret with the key `ca.crt`, certificates of CAs, and the same label: clients are asked for a certificate of one of
    /// them. Unset: none is asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub client_ca_secret_name: Option<String>,
    /// Whether clients have to show such a certificate; unset: `Required`. One that is shown is verified in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
    /// The oldest version of TLS that the nodes speak; unset: `1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

/// Whether clients have to show a certificate; unset: `Required`. One that is shown is verified in any case.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Each client has to.
    #[default]
    Required,
    /// A client may, and one that is no good ends its handshake.
    Optional,
}

/// The oldest version of TLS that the nodes speak; unset: `1.3`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2, and 1.3 with clients that speak it.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[default]
    #[serde(rename = "1.3")]
    Tls13,
}

/// How messages to clients are compressed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Compression {
    /// Level of DEFLATE: 1 is the fastest, 9 leaves least.
    #[serde(default = "compression_level")]
    #[schemars(range(min = keys::COMPRESSION_LEVEL.manifest.least, max = keys::COMPRESSION_LEVEL.manifest.most))]
    pub level: u8,
    /// Least length in bytes of a message that is compressed.
    #[serde(default = "compression_min_bytes")]
    #[schemars(range(min = keys::COMPRESSION_MIN_BYTES.manifest.least, max = keys::COMPRESSION_MIN_BYTES.manifest.most))]
    pub min_bytes: u32,
}

fn compression_level() -> u8 {
    keys::COMPRESSION_LEVEL.usual
}

fn compression_min_bytes() -> u32 {
    keys::COMPRESSION_MIN_BYTES.usual
}

/// The client-facing Service.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::SERVICE_BALANCER)]
#[x_kube(validation = rules::SERVICE_TRAFFIC)]
#[x_kube(validation = rules::SERVICE_FAMILIES)]
#[x_kube(validation = rules::SERVICE_RANGES)]
#[x_kube(validation = rules::SERVICE_ANNOTATIONS)]
#[x_kube(validation = rules::SERVICE_CLASS_KEPT)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the Service.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service; unset: 80, and 443 with `expose.tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Annotations, which cloud load balancers and others read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Implementation of the load balancer; only with type `LoadBalancer`, and fixed while the Service has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
    /// Address ranges that may reach the load balancer, as `192.0.2.0/24`; only with type `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// `Local` keeps clients' addresses and uses only machines with a node; with types `NodePort` and `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Whether the Service has addresses of one family or of both; unset: the cluster decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The families, the first one for good; unset: the cluster decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    pub ip_families: Option<Vec<IpFamily>>,
}

/// Where traffic from outside may go.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// To any node.
    Cluster,
    /// To the nodes on the machine that it came to.
    Local,
}

/// How many address families a Service has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both.
    RequireDualStack,
}

/// An address family.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// Type of the client-facing Service.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIP,
    /// Reachable on a port of every machine.
    NodePort,
    /// Reachable through the cloud's load balancer.
    LoadBalancer,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            type_: ServiceType::ClusterIP,
            port: None,
            annotations: None,
            load_balancer_class: None,
            load_balancer_source_ranges: None,
            external_traffic_policy: None,
            ip_family_policy: None,
            ip_families: None,
        }
    }
}
