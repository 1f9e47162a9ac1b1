//! What the reconciles of one term of leadership know of each ChannelCluster: its loop, and the objects that were
//! applied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use operator_core::validate::ValidatedCluster;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::fleet::FleetLoop;
use crate::metrics::ClusterLabels;
use crate::shared::{Reconciled, Shared};

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
    /// Handles that the loops have too.
    pub shared: Arc<Shared>,
    loops: Mutex<Loops>,
    /// The fingerprint of the objects that were last applied in whole.
    applied: Mutex<HashMap<ClusterLabels, String>>,
    failures: Mutex<HashMap<ClusterLabels, u32>>,
}

impl Context {
    /// The context of a new term.
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
        loops.0.retain(|of, running| {
            // Nothing is remembered of a ChannelCluster that is gone, or of an earlier one of the same name.
            let keep = !running.task.is_finished() && of != labels;
            if !keep && running.uid != reconciled.uid {
                self.shared.forget(&running.uid);
            }
            keep
        });
        let uid = reconciled.uid.clone();
        let (tell, told) = watch::channel(reconciled);
        let fleet = FleetLoop::new(self.shared.clone(), labels.clone(), told);
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

    /// Records that objects with this fingerprint may have been written in part, so that objects with another one are
    /// no longer there in whole.
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
            self.shared.forget(&stopped.uid);
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

/// When the term is over, this process no longer reports figures: another one does.
impl Drop for Context {
    fn drop(&mut self) {
        let loops = self.loops.get_mut().unwrap_or_else(PoisonError::into_inner);
        for labels in loops.0.keys() {
            self.shared.metrics.forget(labels);
        }
    }
}
