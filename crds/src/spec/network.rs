//! Who may connect, how clients reach the fleet, and what carries messages between nodes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// What carries messages from node to node.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::BACKPLANE_URLS_MISSING)]
#[x_kube(validation = rules::BACKPLANE_URLS_UNUSED)]
#[x_kube(validation = rules::BACKPLANE_URL_FORM)]
#[x_kube(validation = rules::BACKPLANE_IMAGE_UNUSED)]
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
    /// Secret with the keys `username` and `password`; only with type `Nats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
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

/// A Secret of the same namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How clients reach the fleet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Expose {
    /// Serve the live chat page at `/` and the reserved topic `$cluster`.
    #[serde(default)]
    pub chat_page: bool,
    /// The client-facing Service.
    #[serde(default)]
    pub service: ServiceSpec,
}

/// The client-facing Service.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Type of the Service.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Port of the Service.
    #[serde(default = "eighty")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
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

/// Who may connect.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::AUTH_ANONYMOUS)]
#[x_kube(validation = rules::AUTH_ORIGINS)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Let everybody connect without credentials.
    #[serde(default)]
    pub anonymous: bool,
    /// Origins that a browser may connect from besides the host that it addressed, as `https://HOST[:PORT]`; `*` allows all.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub allowed_origins: Vec<String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self { type_: ServiceType::ClusterIP, port: eighty() }
    }
}

fn eighty() -> i32 {
    80
}
