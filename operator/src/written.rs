//! The last write of each object by this process, so that an object which has not changed since is not written again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::names::SECRET_MARK_ANNOTATION;
use operator_core::ownership;

/// For so long the operator does not look again for an object of which there was none: the watches do not see one that
/// comes back without an owner, from a backup for instance. Shorter than the time after which a fleet is reconciled anyway.
const ABSENT_FOR: Duration = Duration::from_secs(240);

/// What an apply left of one object.
#[derive(Clone, Debug)]
pub struct Left {
    /// Hash of what was applied.
    pub body: u64,
    /// How the object stood then ([`ownership::standing`]).
    pub standing: u64,
    /// What is read of it before the next apply: which object it is, when it was made, and the mark of its Secret.
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

/// What is known of one object.
#[derive(Clone, Debug)]
enum Known {
    /// It was applied.
    There(Box<Left>),
    /// The operator looked for it at this time and found none of its own.
    Absent(Instant),
}

/// By UID of the ChannelCluster, and by kind and name of the object.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, HashMap<String, Known>>>);

impl Written {
    /// What the last apply left of an object; none when that is not known.
    #[must_use]
    pub fn left(&self, cluster: &str, object: &str) -> Option<Left> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(cluster)?.get(object)? {
            Known::There(left) => Some(Left::clone(left)),
            Known::Absent(_) => None,
        }
    }

    /// Whether the operator found none of its own when it last looked, not long ago, and has made none since.
    #[must_use]
    pub fn is_absent(&self, cluster: &str, object: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(cluster).and_then(|known| known.get(object));
        matches!(known, Some(Known::Absent(since)) if since.elapsed() < ABSENT_FOR)
    }

    /// An object was applied.
    pub fn note(&self, cluster: &str, object: &str, left: Left) {
        self.put(cluster, object, Known::There(Box::new(left)));
    }

    /// The operator has found none of its own.
    pub fn note_absent(&self, cluster: &str, object: &str) {
        self.put(cluster, object, Known::Absent(Instant::now()));
    }

    /// An object is about to be written: how it stands is known again after that.
    pub fn doubt(&self, cluster: &str, object: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(cluster) {
            known.remove(object);
        }
    }

    /// A ChannelCluster is gone.
    pub fn forget(&self, cluster: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }

    fn put(&self, cluster: &str, object: &str, known: Known) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(cluster.to_owned()).or_default().insert(object.to_owned(), known);
    }
}
