//! From where the operator knows the load.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Autoscaling, SecretKeyRef, SecretRef};
use crate::{quantity::Duration, rules};

/// From where the operator knows the load that it sizes the fleet for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::METRICS_SOURCE)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// `Nodes`: the operator asks the nodes themselves. `Prometheus`: it asks a Prometheus that scrapes them.
    #[serde(default)]
    pub source: MetricsSource,
    /// The Prometheus; with source `Prometheus` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
}

/// From where the load is known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum MetricsSource {
    /// The nodes' own answers.
    #[default]
    Nodes,
    /// Queries to a Prometheus.
    Prometheus,
}

/// A Prometheus, or a server with its HTTP API (Thanos, Mimir, VictoriaMetrics), and what to ask it.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::prometheus_url())]
#[x_kube(validation = rules::prometheus_credentials_in_the_clear())]
#[x_kube(validation = rules::PROMETHEUS_TLS)]
#[x_kube(validation = rules::PROMETHEUS_TIMES)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Where it answers, `http://HOST[:PORT][/PATH]` or `https://`, without `/api/v1`. Redirects are not followed.
    #[schemars(length(min = 1, max = keys::MAX_URL_BYTES))]
    pub url: String,
    /// Writes/s of each pod: a vector with one sample per label `pod`. Unset: the rate of
    /// `channelcluster_node_writes_total` between its last two samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub query: Option<String>,
    /// Connections of each pod, in the same form; unset: `channelcluster_node_connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub connections_query: Option<String>,
    /// When the last sample of each pod was taken, in seconds since 1970, in the same form; unset: the time of the last
    /// sample of `channelcluster_node_writes_total`. Figures older than two of `scrapeInterval` are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub timestamp_query: Option<String>,
    /// How often it scrapes the nodes, 1s to 2m; unset: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub scrape_interval: Option<Duration>,
    /// Longest wait for an answer, 100ms to 30s; unset: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "Duration::text_schema")]
    pub timeout: Option<Duration>,
    /// How the operator shows who it is; unset: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrometheusAuth>,
    /// TLS with other authorities than those that browsers trust, or with a certificate of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PrometheusTls>,
}

/// Credentials of the operator at a Prometheus. Their Secrets need the label `channelcluster.io/credentials: "true"`.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::PROMETHEUS_AUTH)]
#[x_kube(validation = rules::PROMETHEUS_AUTH_FORM)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusAuth {
    /// The Secret and the key with a token for `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_secret_ref: Option<SecretKeyRef>,
    /// The Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_secret_ref: Option<SecretRef>,
}

/// TLS with a Prometheus. The Secrets need the label `channelcluster.io/credentials: "true"`.
#[derive(Clone, Debug, Serialize, Deserialize, KubeSchema, PartialEq)]
#[x_kube(validation = rules::PROMETHEUS_TLS_FORM)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusTls {
    /// The Secret and the key with the certificates of the authorities, in PEM, of which one must vouch for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The Secret with the operator's certificate and its key, `tls.crt` and `tls.key`, for a server that asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretRef>,
}

impl Autoscaling {
    /// The Prometheus that is asked, if it is the source.
    #[must_use]
    pub fn prometheus(&self) -> Option<&Prometheus> {
        let metrics = self.metrics.as_ref()?;
        metrics.prometheus.as_ref().filter(|_| metrics.source == MetricsSource::Prometheus)
    }
}

impl Prometheus {
    /// The Secrets that it names: the field, the name, and the keys that each must have.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &str, Vec<&str>)> {
        let (auth, tls) = (self.auth.as_ref(), self.tls.as_ref());
        let bearer = auth.and_then(|auth| auth.bearer_secret_ref.as_ref());
        let basic = auth.and_then(|auth| auth.basic_secret_ref.as_ref());
        let ca = tls.and_then(|tls| tls.ca_secret_ref.as_ref());
        let cert = tls.and_then(|tls| tls.cert_secret_ref.as_ref());
        [
            bearer.map(|secret| ("auth.bearerSecretRef", &*secret.name, vec![&*secret.key])),
            basic.map(|secret| ("auth.basicSecretRef", &*secret.name, vec!["username", "password"])),
            ca.map(|secret| ("tls.caSecretRef", &*secret.name, vec![&*secret.key])),
            cert.map(|secret| ("tls.certSecretRef", &*secret.name, vec!["tls.crt", "tls.key"])),
        ]
        .into_iter()
        .flatten()
    }
}
