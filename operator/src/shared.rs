//! What reconciles and fleet loops share for one term of leadership.

use std::sync::Arc;

use kube::Client;
use operator_core::validate::{OperatorEnv, ValidatedCluster};
use operator_core::view::Outcome;

use crate::claim::Claims;
use crate::contests::AllContests;
use crate::events::Events;
use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::remembered::Remembered;
use crate::scrape::Nodes;
use crate::watches::Stores;
use crate::written::Written;

/// A write was about to be made by a process that no longer leads.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this operator no longer holds the lease")]
pub struct Fenced;

/// Handles and settings of this term.
#[derive(Clone)]
pub struct Shared {
    /// Client of the API server.
    pub client: Client,
    /// Whether this process leads; asked before each write.
    pub fence: Arc<Fence>,
    /// What the operator knows by itself.
    pub env: Arc<OperatorEnv>,
    /// Where this installation may act.
    pub claims: Arc<Claims>,
    /// The objects that the watches see.
    pub stores: Stores,
    /// The ChannelClusters that are to be reconciled.
    pub pending: Arc<Pending>,
    /// Client of the nodes' admin ports.
    pub nodes: Nodes,
    /// Where Events go.
    pub events: Events,
    /// Other writers that change what this operator writes.
    pub contests: Arc<AllContests>,
    /// The last write of each object.
    pub written: Arc<Written>,
    /// The content of the fleets' Secrets.
    pub secrets: Arc<Remembered>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Shared {
    /// Whether to act in a namespace: it is seen, and no other installation has it.
    #[must_use]
    pub fn acts_in(&self, namespace: &str) -> bool {
        self.stores.pulses.sees(namespace) && self.claims.holds(namespace)
    }

    /// Forgets what was seen and written of a ChannelCluster that is gone, by its UID.
    pub fn forget(&self, uid: &str) {
        self.secrets.forget(uid);
        self.written.forget(uid);
    }

    /// Refuses when this process no longer leads.
    ///
    /// # Errors
    /// [`Fenced`].
    pub fn check(&self) -> Result<(), Fenced> {
        if self.fence.held() { Ok(()) } else { Err(Fenced) }
    }
}

/// How the last reconcile of a ChannelCluster ended.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// UID of the ChannelCluster.
    pub uid: String,
    /// Generation of the spec that was reconciled.
    pub generation: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// The last spec that was valid; none if there was none yet.
    pub cluster: Option<Arc<ValidatedCluster>>,
    /// A spec that waits for pods which try its unsafe sysctls.
    pub waiting: Option<Arc<ValidatedCluster>>,
}

impl Reconciled {
    /// The spec whose unsafe sysctls are tried.
    #[must_use]
    pub fn tried(&self) -> Option<&ValidatedCluster> {
        self.waiting.as_deref().or(self.cluster.as_deref())
    }
}
