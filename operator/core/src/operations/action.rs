//! What an operator does to a fleet.

use node_core::admin::RebalanceRequest;

/// What to do once the operation is recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell the node to turn unready.
    Unready {
        /// Pod name.
        pod: String,
    },
    /// Tell a node that closes its connections to stop that, and stay unready. Until this reaches it, no other node is told to
    /// close: all together would close too fast.
    Hold {
        /// Pod name.
        pod: String,
    },
    /// Tell the node to close its connections.
    Close {
        /// Pod name.
        pod: String,
        /// Connections per second, taken from the fleet's budget.
        rate: u32,
        /// Whether the node closes faster now. Until this reaches it, no other node is told to close: all together would
        /// close too fast.
        slower: bool,
    },
    /// Tell the node to move clients to others.
    Rebalance {
        /// Pod name.
        pod: String,
        /// What to move.
        request: RebalanceRequest,
    },
    /// Tell the node that it has moved enough.
    StopRebalance {
        /// Pod name.
        pod: String,
    },
    /// Tell the node to serve again.
    TakeBack {
        /// Pod name.
        pod: String,
    },
    /// Set the deletion cost annotation, or remove it.
    DeletionCost {
        /// Pod name.
        pod: String,
        /// The cost.
        cost: Option<i32>,
    },
    /// Set a Deployment's replicas. They are not lowered in a look in which a deletion cost could not be set.
    Replicas {
        /// Name of the Deployment.
        deployment: String,
        /// The count that was seen: nothing is written over another count.
        from: i32,
        /// The count.
        to: i32,
    },
}

/// What failed of the actions of one look, so that those which count on it are not taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failed {
    pace: bool,
    cost: bool,
}

impl Failed {
    /// Notes that an action failed.
    pub fn note(&mut self, action: &Action) {
        match action {
            Action::Close { slower: true, .. } | Action::Hold { .. } => self.pace = true,
            Action::DeletionCost { cost: Some(_), .. } => self.cost = true,
            _ => {}
        }
    }

    /// Whether the action counts on one that failed.
    #[must_use]
    pub fn stops(&self, action: &Action) -> bool {
        match action {
            Action::Close { .. } => self.pace,
            Action::Replicas { from, to, .. } => self.cost && to < from,
            _ => false,
        }
    }
}
