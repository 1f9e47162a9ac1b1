//! Which other writers keep changing what this operator writes, for all ChannelClusters of a term.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::contest::{self, Contest, Part};
use operator_core::ownership;
use tracing::info;

use crate::clock;

/// Contests by namespace and name of the ChannelCluster.
#[derive(Debug, Default)]
pub struct AllContests(Mutex<HashMap<(String, String), contest::Contests>>);

impl AllContests {
    /// Records which fields of an object others had taken before it was written now, from its metadata before and
    /// after.
    pub fn note(&self, namespace: &str, name: &str, object: &str, before: &ObjectMeta, after: &ObjectMeta) {
        let records = |meta: &ObjectMeta| meta.managed_fields.clone().unwrap_or_default();
        let (before, after) = (records(before), records(after));
        let mark = ownership::mark(&after);
        let had_it_all = self.with(namespace, name, |contests| contests.wrote(object, mark));
        let taken = ownership::taken(&before, &after, had_it_all);
        if taken.is_empty() {
            return;
        }
        info!(namespace, name, object, ?taken, "somebody else had set or removed what the operator keeps");
        self.with(namespace, name, |contests| contests.note(clock::now(), object, &taken));
    }

    /// The contest about a ChannelCluster that goes on now.
    #[must_use]
    pub fn now(&self, namespace: &str, name: &str) -> Option<Contest> {
        self.read(namespace, name, |contests| contests.now(clock::now()).cloned())
    }

    /// For how long this part of one of its objects, or all of the object, is not to be written again.
    #[must_use]
    pub fn pause(&self, namespace: &str, name: &str, object: &str, part: Option<Part>) -> Option<Duration> {
        let pause = self.read(namespace, name, |contests| contests.pause(clock::now(), object, part));
        pause.map(Duration::from_millis)
    }

    /// Forgets a ChannelCluster that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Asks about a ChannelCluster. When none of its objects was written there is no answer, and nothing is kept.
    fn read<T>(
        &self,
        namespace: &str,
        name: &str,
        ask: impl FnOnce(&contest::Contests) -> Option<T>,
    ) -> Option<T> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(namespace.to_owned(), name.to_owned())).and_then(ask)
    }

    fn with<T>(&self, namespace: &str, name: &str, work: impl FnOnce(&mut contest::Contests) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry((namespace.to_owned(), name.to_owned())).or_default())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::AllContests;

    #[test]
    fn a_cluster_that_was_only_asked_about_is_not_kept() {
        let contests = AllContests::default();
        assert!(contests.now("default", "chat").is_none());
        assert!(contests.pause("default", "chat", "Deployment chat-node", None).is_none());
        assert_eq!(contests.0.lock().unwrap().len(), 0);
        let meta = ObjectMeta::default();
        contests.note("default", "chat", "Deployment chat-node", &meta, &meta);
        assert!(contests.now("default", "chat").is_none());
        assert_eq!(contests.0.lock().unwrap().len(), 1, "what was ours of it is");
        contests.forget("default", "chat");
        assert_eq!(contests.0.lock().unwrap().len(), 0);
    }
}
