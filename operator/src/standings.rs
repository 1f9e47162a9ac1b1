//! How the objects of one kind stand, as their watch last saw them: enough to tell whether another writer has touched
//! one.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::shelf::{Digest, Place};

/// One object's standing.
#[derive(Debug)]
struct Entry {
    key: Digest,
    standing: u64,
}

/// The [`operator_core::ownership::standing`] of each object, by its name.
#[derive(Clone, Debug, Default)]
pub struct Standings(Arc<RwLock<HashMap<Digest, Entry>>>);

impl Standings {
    /// The standing of an object; none when no object of that name is seen.
    #[must_use]
    pub fn of(&self, namespace: &str, name: &str) -> Option<u64> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&Digest::of_name(namespace, name)).map(|entry| entry.standing)
    }

    /// Records an object that is there, or that was replaced by another.
    pub fn put(&self, place: Place, standing: u64) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(place.name, Entry { key: place.key, standing });
    }

    /// Records that an object is gone; another of its name may be there already.
    pub fn remove(&self, place: Place) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(&place.name).is_some_and(|entry| entry.key == place.key) {
            all.remove(&place.name);
        }
    }
}
