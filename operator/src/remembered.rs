//! Remembers the content of the fleets' Secrets for as long as this process leads, and which writes of it were refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::ByteString;

/// Most fleets whose secrets are remembered: 100 bytes each.
const MAX_REMEMBERED: usize = 10_000;

/// Values by key.
pub type Values = BTreeMap<String, ByteString>;

/// What is known of one Secret.
#[derive(Default)]
struct Fleet {
    values: Option<Values>,
    version: Option<String>,
    refusal: Option<Refusal>,
}

/// A write of keys of tickets that the API server refused.
struct Refusal {
    why: String,
    /// When to try again, in milliseconds.
    again: u64,
}

/// The content of the fleets' Secrets, by UID of the ChannelCluster. It is never printed.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<String, Fleet>>);

impl Remembered {
    /// The values that were last seen.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Values> {
        self.all().get(uid)?.values.clone()
    }

    /// The version of the Secret that has these values.
    #[must_use]
    pub fn version(&self, uid: &str) -> Option<String> {
        self.all().get(uid)?.version.clone()
    }

    /// Remembers the values of one Secret and its version.
    pub fn put(&self, uid: &str, values: &Values, version: Option<&str>) {
        self.change(uid, |fleet| {
            fleet.values = Some(values.clone());
            fleet.version = version.map(ToOwned::to_owned);
        });
    }

    /// Whether keys of tickets may be written at a time in milliseconds: no write was refused shortly before.
    #[must_use]
    pub fn may_write_tickets(&self, uid: &str, now: u64) -> bool {
        let all = self.all();
        all.get(uid).and_then(|fleet| fleet.refusal.as_ref()).is_none_or(|refusal| refusal.again <= now)
    }

    /// Notes that a write of keys of tickets was refused, and that it is to be tried again at a time in milliseconds. Tells
    /// whether the one before was not refused, or for another reason.
    pub fn refuse_tickets(&self, uid: &str, why: &str, again: u64) -> bool {
        let mut is_new = true;
        self.change(uid, |fleet| {
            let before = fleet.refusal.replace(Refusal { why: why.to_owned(), again });
            is_new = before.is_none_or(|before| before.why != why);
        });
        is_new
    }

    /// Notes that keys of tickets were written.
    pub fn take_tickets(&self, uid: &str) {
        if let Some(fleet) = self.all().get_mut(uid) {
            fleet.refusal = None;
        }
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut Fleet)) {
        let mut all = self.all();
        if all.contains_key(uid) || all.len() < MAX_REMEMBERED {
            change(all.entry(uid.to_owned()).or_default());
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Fleet>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the values of a ChannelCluster that is gone.
    pub fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }
}
