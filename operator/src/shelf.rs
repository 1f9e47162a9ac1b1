//! Where the objects that the watches see are kept: by name and by parent, in few bytes. Of 2,000 fleets there are some
//! 40,000 objects, and each text of a key would be kept several times.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hasher as _;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::sync::watch;

#[cfg(test)]
thread_local! {
    /// Objects that this thread has found by their parents.
    pub(crate) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Keys of [`Digest`], of this process only, so that nobody can make two texts that collide.
static KEYS: LazyLock<(u64, u64)> = LazyLock::new(rand::random);

/// 128 bits in the stead of texts that are only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of these texts in this order.
    #[must_use]
    pub fn of(texts: &[&str]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
        for text in texts {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff); // in no text
        }
        Self(hasher.finish128().as_u128())
    }

    /// The digest of an object's name.
    #[must_use]
    pub fn of_name(namespace: &str, name: &str) -> Self {
        Self::of(&[namespace, name])
    }
}

/// What tells an object from others.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Namespace, name and UID: an object that was replaced by another of its name is another one.
    pub key: Digest,
    /// Namespace and name.
    pub name: Digest,
}

impl Place {
    /// The place of an object with this metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let [namespace, name, uid] =
            [&meta.namespace, &meta.name, &meta.uid].map(|text| text.as_deref().unwrap_or_default());
        Self { key: Digest::of(&[namespace, name, uid]), name: Digest::of_name(namespace, name) }
    }
}

struct Entry<T> {
    object: Arc<T>,
    name: Digest,
    parent: Option<Digest>,
}

struct Held<T> {
    /// By [`Place::key`].
    objects: HashMap<Digest, Entry<T>>,
    /// The key of the object that has a name now.
    names: HashMap<Digest, Digest>,
    /// The keys of the objects of each parent.
    children: HashMap<Digest, Vec<Digest>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), names: HashMap::new(), children: HashMap::new() }
    }
}

impl<T> Held<T> {
    fn remove(&mut self, key: Digest) {
        let Some(Entry { name, parent, .. }) = self.objects.remove(&key) else { return };
        if self.names.get(&name) == Some(&key) {
            self.names.remove(&name);
        }
        let Some(parent) = parent else { return };
        if let Some(children) = self.children.get_mut(&parent) {
            children.retain(|child| *child != key);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }
}

struct Inner<T> {
    held: RwLock<Held<T>>,
    /// Whether the first lists have come.
    ready: watch::Sender<bool>,
}

/// The objects of one kind, as far as they are known. Clones show the same objects.
pub struct Shelf<T>(Arc<Inner<T>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Arc::new(Inner { held: RwLock::default(), ready: watch::Sender::new(false) }))
    }
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} objects", self.len())
    }
}

impl<T> Shelf<T> {
    /// What a watch has that saw nothing, for callers without one.
    #[must_use]
    pub fn empty() -> Self {
        let shelf = Self::default();
        shelf.set_ready();
        shelf
    }

    /// What a watch would keep of these objects, for callers without one.
    #[must_use]
    pub fn of<K: Resource>(objects: Vec<K>, parent: fn(&K) -> Option<String>, make: fn(K) -> T) -> Self {
        let shelf = Self::empty();
        for object in objects {
            shelf.put(Place::of(object.meta()), parent(&object).as_deref(), make(object));
        }
        shelf
    }

    fn held(&self) -> RwLockReadGuard<'_, Held<T>> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object that has this name now.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let held = self.held();
        let key = held.names.get(&Digest::of_name(namespace, name))?;
        held.objects.get(key).map(|entry| entry.object.clone())
    }

    /// The objects that belong to `parent`, in no order, without a walk over those of others.
    #[must_use]
    pub fn children(&self, parent: &str) -> Vec<Arc<T>> {
        let held = self.held();
        let children = held.children.get(&Digest::of(&[parent])).map_or(&[][..], Vec::as_slice);
        #[cfg(test)]
        LOOKED_AT.with(|count| count.set(count.get() + children.len()));
        children.iter().filter_map(|key| Some(held.objects.get(key)?.object.clone())).collect()
    }

    /// All objects, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<T>> {
        self.held().objects.values().map(|entry| entry.object.clone()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the first lists.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.subscribe();
        let _the_sender_lives_as_long_as_we = ready.wait_for(|ready| *ready).await;
    }

    /// Puts an object where it was, or where the one was that had its name before.
    pub(crate) fn put(&self, place: Place, parent: Option<&str>, object: T) {
        let parent = parent.map(|parent| Digest::of(&[parent]));
        let mut held = self.0.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = held.objects.get_mut(&place.key)
            && entry.parent == parent
        {
            entry.object = Arc::new(object);
            return;
        }
        held.remove(place.key);
        if let Some(before) = held.names.insert(place.name, place.key) {
            held.remove(before);
        }
        if let Some(parent) = parent {
            held.children.entry(parent).or_default().push(place.key);
        }
        held.objects.insert(place.key, Entry { object: Arc::new(object), name: place.name, parent });
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, key: Digest) {
        self.0.held.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Says that the first lists have come.
    pub(crate) fn set_ready(&self) {
        self.0.ready.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, uid: &str) -> Place {
        Place { key: Digest::of(&["n", name, uid]), name: Digest::of_name("n", name) }
    }

    #[test]
    fn objects_are_found_by_their_parent_whatever_becomes_of_them() {
        let shelf = Shelf::default();
        let of = |parent| {
            let mut all: Vec<i32> = shelf.children(parent).iter().map(|one| **one).collect();
            all.sort_unstable();
            all
        };
        shelf.put(place("a", "1"), Some("x"), 1);
        shelf.put(place("b", "2"), Some("x"), 2);
        shelf.put(place("c", "3"), None, 3);
        assert_eq!((of("x"), of("y"), shelf.len()), (vec![1, 2], vec![], 3));
        shelf.put(place("b", "2"), Some("y"), 20);
        assert_eq!((of("x"), of("y")), (vec![1], vec![20]));
        // Another object of its name, with another parent, comes before the end of the first is seen.
        shelf.put(place("a", "4"), Some("y"), 4);
        assert_eq!((of("x"), of("y")), (vec![], vec![4, 20]));
        assert_eq!(shelf.get("n", "a").as_deref(), Some(&4));
        shelf.remove(place("a", "1").key);
        assert_eq!((of("y"), shelf.get("n", "a").as_deref()), (vec![4, 20], Some(&4)));
        for (name, uid) in [("a", "4"), ("b", "2"), ("c", "3")] {
            shelf.remove(place(name, uid).key);
        }
        let held = shelf.held();
        assert!(held.objects.is_empty() && held.names.is_empty() && held.children.is_empty());
    }

    #[test]
    fn texts_that_are_parted_elsewhere_are_others() {
        assert_ne!(Digest::of(&["a", "bc"]), Digest::of(&["ab", "c"]));
        assert_eq!(Digest::of(&["a", "bc"]), Digest::of(&["a", "bc"]));
    }
}
