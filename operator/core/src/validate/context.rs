//! The settings that validation uses beside the manifest, and how it says what is wrong.

use std::collections::BTreeMap;

/// The operator's own settings.
#[derive(Clone, Debug)]
pub struct OperatorEnv {
    /// Node image for clusters that name none.
    pub node_image: String,
    /// Image of the managed NATS.
    pub nats_image: String,
    /// Minor version of the Kubernetes 1.x server, which decides the sysctls that are safe.
    pub server_minor: u32,
    /// The operator's own namespace.
    pub namespace: String,
    /// Images that ChannelClusters may name, exact or with `*` at the end; none: all.
    pub allowed_images: Vec<String>,
}

/// Something that keeps a ChannelCluster from working.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// A CamelCase word for conditions, Events and metric labels.
    pub reason: &'static str,
    /// One sentence: what is wrong and what to change.
    pub message: String,
}

impl Problem {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Refuses keys under our own prefixes: the user could set the labels that selectors read, or the restart hash.
pub(super) fn not_ours(
    map: &BTreeMap<String, String>,
    field: &str,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    for key in map.keys() {
        if key.starts_with("app.kubernetes.io/") || key.starts_with("channelcluster.io/") {
            problems.push(Problem::new(
                "ReservedKey",
                format!("{field} must not set {key}, which the operator sets itself: choose another prefix"),
            ));
        }
    }
    map.clone()
}
