//! A node pod as the decisions see it.

use node_core::admin::NodePhase;

/// A node pod as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The Ready condition.
    pub ready: bool,
    /// Whether it never ran yet.
    pub pending: bool,
    /// Whether its process does not run, as Kubernetes says: it ended, and was not started again yet. No client is on it.
    pub dead: bool,
    /// How often its process was started again.
    pub restarts: i32,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// When it was made, in milliseconds.
    pub created: u64,
    /// Its deletion cost annotation.
    pub deletion_cost: Option<i32>,
    /// Whether its endpoint is ready in the Service; none when no endpoint is known.
    pub endpoint_ready: Option<bool>,
    /// Names of the sysctls that it has.
    pub sysctls: Vec<String>,
    /// What the node last said of itself, if that is fresh.
    pub node: Option<NodeView>,
}

/// What a node said of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeView {
    /// Where it is in its life.
    pub phase: NodePhase,
    /// Connections held.
    pub connections: u64,
    /// Messages delivered per second; none when not known yet.
    pub writes_per_second: Option<f64>,
    /// Whether it answered when it was asked last.
    pub answers: bool,
}

/// Pods that are not being deleted.
#[must_use]
pub fn alive(pods: &[PodView]) -> i32 {
    i32::try_from(pods.iter().filter(|pod| !pod.terminating).count()).unwrap_or(i32::MAX)
}

impl PodView {
    /// Whether no process of it can hold a connection: it never ran, or does not run now.
    #[must_use]
    pub fn vacant(&self) -> bool {
        self.pending || self.dead
    }

    /// Whether it can take an order.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.node.is_some_and(|node| node.answers)
    }
}
