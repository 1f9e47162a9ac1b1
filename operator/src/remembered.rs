//! Remembers the content of the fleets' Secrets for as long as this process leads.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::ByteString;

/// Most fleets whose secrets are remembered: 100 bytes each.
const MAX_REMEMBERED: usize = 10_000;

/// Values by key.
pub type Values = BTreeMap<String, ByteString>;

/// The content of the fleets' Secrets, by UID of the ChannelCluster. It is never printed.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<String, Values>>);

impl Remembered {
    /// The values that were last seen.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Remembers the values of one Secret; says whether other values were known.
    pub fn put(&self, uid: &str, values: &Values) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(uid);
        let other = known.is_some_and(|known| known != values);
        if known.is_some() || all.len() < MAX_REMEMBERED {
            all.insert(uid.to_owned(), values.clone());
        }
        other
    }

    /// Forgets the values of a ChannelCluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
