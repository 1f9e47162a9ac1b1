//! What others keep the operator from: fields that they write too, which is said, and sysctls and user ids that they refuse
//! to pods though only the operator asked for them, which is recorded in the status and left out.

use crds::{ChannelCluster, ChannelClusterStatus, RefusedSysctls, RefusedUserIds};
use operator_core::contest::Contest;
use operator_core::status::Outcome;
use operator_core::validate::ValidatedCluster;
use operator_core::{contest, refused, user_ids};

use super::{Fleet, Seen};
use crate::context::Reconciled;
use crate::hindrances;
use crate::publish::Publisher;

impl Fleet {
    /// What is to be recorded of user ids that admission refused.
    pub(super) fn refused_ids(
        &self,
        cluster: &ChannelCluster,
        told: &Reconciled,
        outcome: &Outcome,
        previous: &ChannelClusterStatus,
    ) -> Option<RefusedUserIds> {
        let before = previous.refused_user_ids.as_ref();
        let words = match outcome {
            Outcome::Applied => None,
            Outcome::Refused(words) | Outcome::Failed(words) => Some(words.as_str()),
            Outcome::Pending | Outcome::Invalid(_) | Outcome::Conflict(_) => return before.cloned(),
        };
        let (shared, namespace) = (&self.shared, &self.labels.namespace);
        user_ids::step(cluster, before, |part| {
            hindrances::refused_ids(shared, namespace, &self.names, &told.uid, cluster, part, words)
        })
    }

    /// Says once that a kubelet refused a sysctl, or admission user ids.
    pub(super) async fn refusal(&self, cluster: &ChannelCluster, status: &ChannelClusterStatus) {
        let before = self.publisher.as_ref().map(Publisher::last);
        let events = &self.shared.events;
        let sysctls = status.refused_sysctls.as_ref().filter(|refused| {
            let before = before.and_then(|b| b.refused_sysctls.as_ref());
            before.is_none_or(|b| b.names != refused.names || b.tuning != refused.tuning)
        });
        if let Some(sentence) = sysctls.and_then(refused::sentence) {
            events.say(cluster, true, refused::REASON, "LeaveOut", &sentence).await;
        }
        let before = before.and_then(|b| b.refused_user_ids.as_ref());
        let ids = status.refused_user_ids.as_ref().filter(|refused| before != Some(refused));
        if let Some(sentence) = ids.and_then(user_ids::sentence) {
            events.say(cluster, true, user_ids::REASON, "LeaveOut", &sentence).await;
        }
    }

    /// Says once that somebody else keeps writing what the operator writes.
    pub(super) async fn contest(&mut self, cluster: &ChannelCluster, now: Option<&Contest>) {
        let same = |a: &Contest, b: &Contest| a.manager == b.manager && a.object == b.object;
        if let Some(new) = now
            && !self.contested.as_ref().is_some_and(|before| same(before, new))
        {
            self.shared.events.say(cluster, true, contest::REASON, "Apply", &new.sentence()).await;
        }
        self.contested = now.cloned();
    }
}

/// What is to be recorded of sysctls that a kubelet refused.
pub(super) fn sysctls(
    cluster: &ChannelCluster,
    valid: &ValidatedCluster,
    seen: &Seen,
    previous: &ChannelClusterStatus,
) -> Option<RefusedSysctls> {
    let serving = seen.pods.iter().filter(|pod| pod.view.ready).flat_map(|pod| pod.sysctls.clone()).collect();
    let tuning = refused::key(&cluster.spec.tuning);
    let recorded = previous.refused_sysctls.as_ref();
    refused::step(recorded, &tuning, &valid.restart_hash, &seen.rejected, &serving)
}
