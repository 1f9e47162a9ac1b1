//! The last write of each object by this process, so that an object which has not changed since is not written again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::names::SECRET_MARK_ANNOTATION;
use operator_core::ownership;

/// For how long the operator does not look again for an object that was not there: the watches do not see an object
/// that comes back without an owner, from a backup for instance. It is shorter than the time after which a fleet is
/// reconciled anyway.
const ABSENT_FOR: Duration = Duration::from_secs(240);

/// The state of one object after an apply.
#[derive(Clone, Debug)]
pub struct Left {
    /// Hash of the applied body.
    pub body: u64,
    /// The standing of the object at that time ([`ownership::standing`]).
    pub standing: u64,
    /// The metadata that are read before the next apply: the UID, the time of creation, and the mark of the Secret.
    pub meta: ObjectMeta,
}

impl Left {
    /// Remembers an object with these metadata, after a body with this hash was applied.
    #[must_use]
    pub fn new(body: u64, after: &ObjectMeta) -> Self {
        let mark = after.annotations.as_ref().and_then(|all| all.get(SECRET_MARK_ANNOTATION));
        let meta = ObjectMeta {
            uid: after.uid.clone(),
            creation_timestamp: after.creation_timestamp.clone(),
            annotations: mark.map(|mark| BTreeMap::from([(SECRET_MARK_ANNOTATION.to_owned(), mark.clone())])),
            ..ObjectMeta::default()
        };
        Self { body, standing: ownership::standing(after), meta }
    }
}

/// The knowledge about one object.
#[derive(Clone, Debug)]
enum Known {
    /// It was applied.
    There(Box<Left>),
    /// The operator looked for it at this time and found none of its own.
    Absent(Instant),
}

/// By UID of the ChannelCluster, then by kind and name of the object.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, HashMap<String, Known>>>);

impl Written {
    /// The state of an object after the last apply; none when that is not known.
    #[must_use]
    pub fn left(&self, cluster: &str, object: &str) -> Option<Left> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(cluster)?.get(object)? {
            Known::There(left) => Some(Left::clone(left)),
            Known::Absent(_) => None,
        }
    }

    /// Whether the operator found no object of its own when it last looked, not long ago, and has made none since.
    #[must_use]
    pub fn is_absent(&self, cluster: &str, object: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(cluster).and_then(|known| known.get(object));
        matches!(known, Some(Known::Absent(since)) if since.elapsed() < ABSENT_FOR)
    }

    /// Records that an object was applied.
    pub fn note(&self, cluster: &str, object: &str, left: Left) {
        self.put(cluster, object, Known::There(Box::new(left)));
    }

    /// Records that the operator has found no object of its own.
    pub fn note_absent(&self, cluster: &str, object: &str) {
        self.put(cluster, object, Known::Absent(Instant::now()));
    }

    /// Records that an object is about to be written: its state is not known until the write is done.
    pub fn doubt(&self, cluster: &str, object: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(cluster) {
            known.remove(object);
        }
    }

    /// Forgets a ChannelCluster that is gone.
    pub fn forget(&self, cluster: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    fn put(&self, cluster: &str, object: &str, known: Known) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(cluster.to_owned()).or_default().insert(object.to_owned(), known);
    }
}
