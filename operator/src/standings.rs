//! How the objects of one kind stand, as their watch last saw them: enough to tell whether another writer has touched
//! one.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::reflector::ObjectRef;

/// One object's standing.
#[derive(Debug)]
struct Entry {
    uid: Option<String>,
    standing: u64,
}

/// The [`operator_core::ownership::standing`] of each object, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Standings(Arc<RwLock<HashMap<String, Entry>>>);

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Standings {
    /// The standing of an object; none when no object of that name is seen.
    #[must_use]
    pub fn of(&self, namespace: &str, name: &str) -> Option<u64> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&key(namespace, name)).map(|entry| entry.standing)
    }

    /// Records an object that is there, or that was replaced by another.
    pub fn put<K: Resource>(&self, object: &ObjectRef<K>, standing: u64) {
        let entry = Entry { uid: object.extra.uid.clone(), standing };
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(key(object.namespace.as_deref().unwrap_or_default(), &object.name), entry);
    }

    /// Records that an object is gone; another of its name may be there already.
    pub fn remove<K: Resource>(&self, object: &ObjectRef<K>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let key = key(object.namespace.as_deref().unwrap_or_default(), &object.name);
        if all.get(&key).is_some_and(|entry| entry.uid == object.extra.uid) {
            all.remove(&key);
        }
    }
}
