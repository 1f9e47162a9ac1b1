//! Names, labels and ports of everything that belongs to a ChannelCluster.
//!
//! They stand in one place because builders, selectors, the scraper and the drain all have to mean the same objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// User and group of our containers: `nonroot` of distroless images.
pub const NONROOT: i64 = 65_532;
/// Field manager of the operator's server-side apply, and the value of `app.kubernetes.io/managed-by`.
pub const FIELD_MANAGER: &str = "channel-operator";
/// Value of `app.kubernetes.io/name` on every object.
pub const APP: &str = "channelcluster";

/// Label that names the ChannelCluster an object belongs to.
pub const CLUSTER_LABEL: &str = "channelcluster.io/cluster";
/// Label that a Secret needs, set to `true`, before a ChannelCluster may name it as credentials.
pub const CREDENTIALS_LABEL: &str = "channelcluster.io/credentials";
/// Annotation of such a Secret with the only servers that it may be sent to, as URLs with commas between.
pub const SERVERS_ANNOTATION: &str = "channelcluster.io/servers";
/// Pod template annotation with the hash of what a running node cannot reload.
pub const RESTART_HASH_ANNOTATION: &str = "channelcluster.io/restart-hash";
/// Label of a node Deployment, of its selector and of its pods with the hash of what their template was made from
/// ([`crate::validate::ValidatedCluster::template`]). A Deployment named by [`Names::first_deployment`] has it, and its
/// selector and its pods have not.
pub const TEMPLATE_LABEL: &str = "channelcluster.io/template";
/// Annotation of a node Deployment with a number: the Deployment with the highest one is the current one of its fleet.
pub const REVISION_ANNOTATION: &str = "channelcluster.io/revision";
/// Annotation of a node Deployment with the pod template that it was made with, as JSON. Another version of the operator
/// might write the template otherwise, and the pods must not be replaced for that.
pub const MADE_WITH_ANNOTATION: &str = "channelcluster.io/made-with";
/// Annotation of the node Deployment with the minor version of the server that its sysctls were chosen for, and the
/// key of the `spec.tuning` that asked for them.
pub const TUNED_FOR_ANNOTATION: &str = "channelcluster.io/tuned-for";
/// Pod template annotation of NATS with the hash of its configuration file.
pub const CONFIG_HASH_ANNOTATION: &str = "channelcluster.io/config-hash";

/// Annotation of NATS and of node pods with a hash of the content of their Secret.
pub const SECRET_MARK_ANNOTATION: &str = "channelcluster.io/secret-mark";

/// Port of a node that clients connect to.
pub const WS_PORT: i32 = 4000;
/// Name of [`WS_PORT`] in pods and Services.
pub const WS_PORT_NAME: &str = "ws";
/// Port of a node's admin API, metrics and probes.
pub const ADMIN_PORT: i32 = 9400;
/// Port of the server API.
pub const API_PORT: i32 = 9401;
/// Its name.
pub const API_PORT_NAME: &str = "api";
/// Name of [`ADMIN_PORT`].
pub const ADMIN_PORT_NAME: &str = "admin";
/// Port of NATS for clients.
pub const NATS_PORT: i32 = 4222;
/// Name of [`NATS_PORT`].
pub const NATS_PORT_NAME: &str = "nats";

/// Name of the node container.
pub const NODE_CONTAINER: &str = "channel-node";
/// Name of the NATS container.
pub const NATS_CONTAINER: &str = "nats-server";
/// User that nodes log in to the managed NATS with.
pub const NATS_USER: &str = "channel-node";

/// Key of the node's configuration file in its ConfigMap.
pub const CONFIG_KEY: &str = "node.yaml";
/// Key of NATS's configuration file in its ConfigMap.
pub const NATS_CONFIG_KEY: &str = "nats.conf";
/// Key of the admin token in the node Secret.
pub const ADMIN_TOKEN_KEY: &str = "admin-token";
/// Key of the NATS password in the node Secret.
pub const NATS_PASSWORD_KEY: &str = "nats-password";
/// Key of the node Secret with the list of the keys of the nodes' TLS tickets.
pub const TICKET_KEYS: &str = "tls-ticket-keys";
/// Key of the node Secret with the one key of tickets that there was before keys were rotated.
pub const TICKET_KEY: &str = "tls-ticket-key";

/// Value of `app.kubernetes.io/component` on pods that try sysctls.
const PROBE_COMPONENT: &str = "sysctl-probe";

/// What an object is part of; the value of `app.kubernetes.io/component`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// The WebSocket nodes.
    Node,
    /// The managed NATS.
    Nats,
}

impl Component {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Nats => "nats",
        }
    }
}

/// Names of the objects of one ChannelCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    cluster: String,
}

impl Names {
    /// Names for the ChannelCluster called `cluster`.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned() }
    }

    /// The ChannelCluster itself.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Service that clients connect to.
    #[must_use]
    pub fn service(&self) -> String {
        self.cluster.clone()
    }

    /// Headless Service that lists every node, ready or not.
    #[must_use]
    pub fn headless(&self) -> String {
        self.with("nodes")
    }

    /// Service of the server API.
    #[must_use]
    pub fn api(&self) -> String {
        self.with("api")
    }

    /// Deployment of the nodes that are made from the template with this hash.
    #[must_use]
    pub fn deployment(&self, template: &str) -> String {
        self.with(&format!("node-{template}"))
    }

    /// Deployment of the nodes as it was called when a fleet had only one. It goes on until its pods are to be made
    /// otherwise.
    #[must_use]
    pub fn first_deployment(&self) -> String {
        self.with("node")
    }

    /// Secret with the admin token and the NATS password.
    #[must_use]
    pub fn secret(&self) -> String {
        self.with("node")
    }

    /// ServiceAccount of the nodes.
    #[must_use]
    pub fn service_account(&self) -> String {
        self.with("node")
    }

    /// PodDisruptionBudget of the nodes.
    #[must_use]
    pub fn pdb(&self) -> String {
        self.with("node")
    }

    /// NetworkPolicy of the nodes.
    #[must_use]
    pub fn network_policy(&self) -> String {
        self.with("node")
    }

    /// ConfigMap with the node's configuration file.
    #[must_use]
    pub fn config(&self) -> String {
        self.with("config")
    }

    /// Deployment, Service, ConfigMap and NetworkPolicy of the managed NATS.
    #[must_use]
    pub fn nats(&self) -> String {
        self.with("nats")
    }

    /// Labels of an object of this cluster.
    #[must_use]
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector_labels(component);
        labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
        labels.insert(CLUSTER_LABEL.to_owned(), self.cluster.clone());
        labels
    }

    /// The labels that selectors use; a Deployment's cannot change once it exists.
    #[must_use]
    pub fn selector_labels(&self, component: Component) -> BTreeMap<String, String> {
        [("name", APP), ("instance", &self.cluster), ("component", component.as_str())]
            .into_iter()
            .map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()))
            .collect()
    }

    /// Labels of the pods that try sysctls. They are of another component than the nodes, so no Service and no budget finds them.
    #[must_use]
    pub fn probe_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels(Component::Node);
        labels.insert("app.kubernetes.io/component".to_owned(), PROBE_COMPONENT.to_owned());
        labels
    }

    /// What finds the pods that try sysctls: `key=value,key=value`.
    #[must_use]
    pub fn probe_selector(&self) -> String {
        format!("app.kubernetes.io/component={PROBE_COMPONENT},{CLUSTER_LABEL}={}", self.cluster)
    }

    /// [`Names::selector_labels`] as a selector object.
    #[must_use]
    pub fn selector(&self, component: Component) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector_labels(component)), match_expressions: None }
    }

    /// [`Names::selector_labels`] as list requests and the scale subresource want it: `key=value,key=value`.
    #[must_use]
    pub fn selector_string(&self, component: Component) -> String {
        let pairs: Vec<_> = self
            .selector_labels(component)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    fn with(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, Names};

    #[test]
    fn the_selector_is_a_subset_of_the_labels() {
        let names = Names::new("chat");
        let labels = names.labels(Component::Node);
        assert!(
            names.selector_labels(Component::Node).iter().all(|(key, value)| labels.get(key) == Some(value))
        );
        assert_eq!(
            names.selector_string(Component::Nats),
            "app.kubernetes.io/component=nats,app.kubernetes.io/instance=chat,app.kubernetes.io/name=channelcluster"
        );
    }
}
