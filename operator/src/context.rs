//! What reconciles and fleet loops share, for one term of leadership.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use operator_core::status::Outcome;
use operator_core::validate::{OperatorEnv, ValidatedCluster};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::claim::Claims;
use crate::contests::Contests;
use crate::events::Events;
use crate::fleet::Fleet;
use crate::lease::Fence;
use crate::metrics::{ClusterLabels, Metrics};
use crate::scrape::Nodes;
use crate::secrets::Remembered;
use crate::store::Pending;
use crate::watches::Stores;

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
    /// What is watched.
    pub stores: Stores,
    /// What is to be reconciled.
    pub pending: Arc<Pending>,
    /// Client of the nodes' admin ports.
    pub nodes: Nodes,
    /// Where Events go.
    pub events: Events,
    /// Who else writes what this operator writes.
    pub contests: Arc<Contests>,
    /// What was in the Secrets of fleets.
    pub secrets: Arc<Remembered>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Shared {
    /// Whether to act in a namespace: it is seen, and no other installation's.
    #[must_use]
    pub fn acts_in(&self, namespace: &str) -> bool {
        self.stores.pulses.sees(namespace) && self.claims.holds(namespace)
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
}

/// The loops that run, one per ChannelCluster.
#[derive(Default)]
struct Loops(HashMap<ClusterLabels, Loop>);

struct Loop {
    uid: String,
    tell: watch::Sender<Reconciled>,
    task: AbortOnDropHandle<()>,
}

/// Context of the reconciles.
pub struct Context {
    /// What the loops have too.
    pub shared: Arc<Shared>,
    loops: Mutex<Loops>,
    /// What was applied in whole, as its fingerprint.
    applied: Mutex<HashMap<ClusterLabels, String>>,
    failures: Mutex<HashMap<ClusterLabels, u32>>,
}

impl Context {
    /// A new term.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            loops: Mutex::default(),
            applied: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// The last valid spec of a ChannelCluster.
    pub fn last_valid(&self, labels: &ClusterLabels, uid: &str) -> Option<Arc<ValidatedCluster>> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.0.get(labels).filter(|l| l.uid == *uid).and_then(|l| l.tell.borrow().cluster.clone())
    }

    /// Tells the loop of a ChannelCluster, which is started if it does not run.
    pub fn tell(&self, labels: &ClusterLabels, reconciled: Reconciled) {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = loops.0.get(labels)
            && running.uid == reconciled.uid
            && !running.task.is_finished()
        {
            running.tell.send_replace(reconciled);
            return;
        }
        loops.0.retain(|_, running| !running.task.is_finished());
        let uid = reconciled.uid.clone();
        let (tell, told) = watch::channel(reconciled);
        let fleet = Fleet::new(self.shared.clone(), labels.clone(), told);
        let task = AbortOnDropHandle::new(tokio::spawn(fleet.run()));
        loops.0.insert(labels.clone(), Loop { uid, tell, task });
    }

    /// Whether objects with this fingerprint were the last that were applied in whole.
    pub fn is_applied(&self, labels: &ClusterLabels, fingerprint: &str) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.get(labels).is_some_and(|known| known == fingerprint)
    }

    /// Records that objects with this fingerprint were applied in whole.
    pub fn applied(&self, labels: &ClusterLabels, fingerprint: String) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(labels.clone(), fingerprint);
    }

    /// Records that objects with this fingerprint may have been written in part: no others are there in whole any more.
    pub fn begun(&self, labels: &ClusterLabels, fingerprint: &str) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.get(labels).is_some_and(|known| known != fingerprint) {
            applied.remove(labels);
        }
    }

    /// Stops the loop of a ChannelCluster that is gone.
    pub fn stop(&self, labels: &ClusterLabels) {
        let stopped = self.loops.lock().unwrap_or_else(PoisonError::into_inner).0.remove(labels);
        if let Some(stopped) = stopped {
            self.shared.secrets.forget(&stopped.uid);
        }
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).remove(labels);
        self.succeeded(labels);
        self.shared.contests.forget(&labels.namespace, &labels.name);
        self.shared.metrics.forget(labels);
    }

    /// Counts a failed reconcile and says how many there were in a row.
    pub fn failed(&self, labels: &ClusterLabels) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(labels.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets failures.
    pub fn succeeded(&self, labels: &ClusterLabels) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(labels);
    }
}

/// The term is over: another process tells how many nodes there are.
impl Drop for Context {
    fn drop(&mut self) {
        let loops = self.loops.get_mut().unwrap_or_else(PoisonError::into_inner);
        for labels in loops.0.keys() {
            self.shared.metrics.forget(labels);
        }
    }
}
