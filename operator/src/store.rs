//! Takes what watches see into the stores, and says which ChannelClusters are to be reconciled.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use operator_core::ownership;

use crate::pending::{Cause, Guarded, Pending, Request};
use crate::shelf::{Digest, Place, Shelf};
use crate::standings::Standings;

/// How objects of a kind are handled.
#[derive(Debug)]
pub struct Rules<K> {
    /// Whether the object may belong to a ChannelCluster; other objects are dropped at once.
    pub keep: fn(&K) -> bool,
    /// Cuts an object down to the fields that are read.
    pub prune: fn(&mut K),
    /// The value that is compared: when it changes, the ChannelCluster is looked at.
    pub version: fn(&K) -> String,
    /// The ChannelCluster that the object is about; none: the object triggers nothing.
    pub about: fn(&K) -> Option<Request>,
    /// By what [`Shelf::children`] finds the object; none: it is found by its name only.
    pub parent: fn(&K) -> Option<String>,
    /// Whether the standing of each object is kept, which is made before the object is cut.
    pub stands: bool,
}

impl<K> Clone for Rules<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Rules<K> {}

/// Where a [`Filler`] puts objects.
pub trait Sink<K>: Send {
    /// Takes an object that is there, or that has changed.
    fn put(&mut self, place: Place, parent: Option<&str>, object: K);
    /// Takes the end of an object; another of its name may be there already.
    fn remove(&mut self, key: Digest);
    /// The first lists have come.
    fn ready(&mut self);
}

/// For kinds whose objects are not read: their changes only trigger a look at the ChannelCluster.
pub struct Unread;

impl<K> Sink<K> for Unread {
    fn put(&mut self, _: Place, _: Option<&str>, _: K) {}

    fn remove(&mut self, _: Digest) {}

    fn ready(&mut self) {}
}

/// Keeps of each object what `make` makes of it.
pub struct Kept<K, T> {
    /// Where.
    pub shelf: Shelf<T>,
    /// What is kept of an object.
    pub make: fn(K) -> T,
}

impl<K, T: Send + Sync> Sink<K> for Kept<K, T> {
    fn put(&mut self, place: Place, parent: Option<&str>, object: K) {
        self.shelf.put(place, parent, (self.make)(object));
    }

    fn remove(&mut self, key: Digest) {
        self.shelf.remove(key);
    }

    fn ready(&mut self) {
        self.shelf.set_ready();
    }
}

/// The ChannelClusters, in the store that the controller reads.
pub struct Clusters {
    writer: Writer<Guarded>,
    places: HashMap<Digest, Request>,
}

impl Clusters {
    /// Clusters that `writer` writes.
    #[must_use]
    pub fn new(writer: Writer<Guarded>) -> Self {
        Self { writer, places: HashMap::new() }
    }
}

impl Sink<Guarded> for Clusters {
    fn put(&mut self, place: Place, _: Option<&str>, object: Guarded) {
        self.places.insert(place.key, ObjectRef::from_obj(&object));
        self.writer.apply_watcher_event(&Event::Apply(object));
    }

    fn remove(&mut self, key: Digest) {
        let Some(place) = self.places.remove(&key) else { return };
        // A ChannelCluster of the same name with another UID compares equal: it was seen before the end of this one.
        let live = self.writer.as_reader().get(&place);
        let Some(live) = live.filter(|live| live.meta().uid == place.extra.uid) else { return };
        self.writer.apply_watcher_event(&Event::Delete((*live).clone()));
    }

    fn ready(&mut self) {
        // These events are what releases the tasks that wait for the first lists.
        self.writer.apply_watcher_event(&Event::Init);
        for object in self.writer.as_reader().state() {
            self.writer.apply_watcher_event(&Event::InitApply((*object).clone()));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
    }
}

/// Where an object is from, and the value that is compared.
struct Known {
    name: Digest,
    source: usize,
    version: Digest,
    about: Option<Request>,
}

/// The objects of a list that has not ended yet.
#[derive(Debug)]
pub struct Fill<K>(Vec<(K, Option<u64>)>);

impl<K> Default for Fill<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Fills one store from one source or several, and says which ChannelClusters are to be looked at.
pub struct Filler<K> {
    rules: Rules<K>,
    sink: Box<dyn Sink<K>>,
    standings: Standings,
    /// Sources whose first list has not come yet.
    waiting: HashSet<usize>,
    /// By [`Place::key`].
    known: HashMap<Digest, Known>,
    tell: Arc<Pending>,
}

impl<K: Resource> Filler<K> {
    /// A filler for `sources` sources.
    pub fn new(rules: Rules<K>, sink: Box<dyn Sink<K>>, sources: usize, tell: Arc<Pending>) -> Self {
        let standings = Standings::default();
        Self { rules, sink, standings, waiting: (0..sources).collect(), known: HashMap::new(), tell }
    }

    /// The standings of the objects; empty unless the rules ask for them.
    pub fn standings(&self) -> Standings {
        self.standings.clone()
    }

    /// Takes a page of a list.
    pub fn listed(&self, fill: &mut Fill<K>, page: Vec<K>) {
        fill.0.extend(
            page.into_iter().filter(|object| (self.rules.keep)(object)).map(|object| self.cut(object)),
        );
    }

    /// Cuts an object down, and gives its standing from before, if that is kept.
    fn cut(&self, mut object: K) -> (K, Option<u64>) {
        let standing = self.rules.stands.then(|| ownership::standing(object.meta()));
        (self.rules.prune)(&mut object);
        (object, standing)
    }

    /// Takes the end of a list: objects that are not in it are gone.
    pub fn replace(&mut self, source: usize, fill: Fill<K>) {
        let listed: HashSet<Digest> = fill.0.iter().map(|(object, _)| Place::of(object.meta()).key).collect();
        let is_gone = |(key, known): &(&Digest, &Known)| known.source == source && !listed.contains(key);
        let gone: Vec<_> = self.known.iter().filter(is_gone).map(|(key, _)| *key).collect();
        for key in gone {
            self.forget(key);
        }
        for (object, standing) in fill.0 {
            self.put(source, object, standing);
        }
        if self.waiting.remove(&source) && self.waiting.is_empty() {
            self.sink.ready();
        }
    }

    /// Takes an object that is there, or that has changed.
    pub fn apply(&mut self, source: usize, object: K) {
        if !(self.rules.keep)(&object) {
            self.delete(&object); // the object may have been one of ours
            return;
        }
        let (object, standing) = self.cut(object);
        self.put(source, object, standing);
    }

    /// Takes the end of an object.
    pub fn delete(&mut self, object: &K) {
        self.forget(Place::of(object.meta()).key);
    }

    fn put(&mut self, source: usize, object: K, standing: Option<u64>) {
        let place = Place::of(object.meta());
        let version = Digest::of(&[&(self.rules.version)(&object)]);
        let (about, parent) = ((self.rules.about)(&object), (self.rules.parent)(&object));
        let known = Known { name: place.name, source, version, about: about.clone() };
        let before = self.known.insert(place.key, known);
        self.sink.put(place, parent.as_deref(), object);
        if let Some(standing) = standing {
            self.standings.put(place, standing); // after the store: a reader of this finds the object there
        }
        match before {
            None => self.trigger(about, Cause::Sight),
            Some(before) if before.version != version => self.trigger(about, Cause::Change),
            Some(_) => {}
        }
    }

    fn forget(&mut self, key: Digest) {
        let Some(known) = self.known.remove(&key) else { return };
        self.standings.remove(Place { key, name: known.name });
        self.sink.remove(key);
        self.trigger(known.about, Cause::Change);
    }

    fn trigger(&self, about: Option<Request>, cause: Cause) {
        if let Some(about) = about {
            self.tell.push(about, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    const RULES: Rules<ConfigMap> = Rules {
        keep: |map| map.labels().contains_key("ours"),
        prune: |map| map.data = None,
        version: |map| map.resource_version().unwrap_or_default(),
        about: |map| Some(ObjectRef::new(&map.name_any()).within("default")),
        parent: |map| map.labels().get("parent").cloned(),
        stands: true,
    };

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version,
                "labels": {"ours": "yes"}},
            "data": {"much": "more"},
        }))
        .unwrap()
    }

    struct Seen {
        filler: Filler<ConfigMap>,
        store: Shelf<ConfigMap>,
        pending: Arc<Pending>,
    }

    impl Seen {
        fn new(sources: usize) -> Self {
            let (store, pending) = (Shelf::default(), Arc::new(Pending::default()));
            let kept = Kept { shelf: store.clone(), make: |map| map };
            Self { filler: Filler::new(RULES, Box::new(kept), sources, pending.clone()), store, pending }
        }

        fn list(&mut self, source: usize, objects: Vec<ConfigMap>) {
            let mut fill = Fill::default();
            self.filler.listed(&mut fill, objects);
            self.filler.replace(source, fill);
        }

        fn told(&self) -> Vec<String> {
            let mut told: Vec<_> = std::iter::from_fn(|| self.pending.pop()).map(|one| one.name).collect();
            told.sort();
            told
        }

        fn ready(&self) -> bool {
            futures::FutureExt::now_or_never(self.store.ready()).is_some()
        }
    }

    #[test]
    fn what_went_between_two_lists_is_told_as_gone() {
        let mut seen = Seen::new(1);
        seen.list(0, vec![object("a", "1", "1"), object("b", "2", "1"), object("c", "3", "1")]);
        assert_eq!(seen.told(), ["a", "b", "c"]);
        seen.list(0, vec![object("a", "1", "1"), object("b", "2", "2")]);
        assert_eq!(seen.told(), ["b", "c"], "what is as it was is no news");
        assert_eq!(seen.store.len(), 2);
        assert!(seen.store.all().iter().all(|map| map.data.is_none()), "nothing is kept that is not read");
    }

    #[test]
    fn a_store_is_ready_after_the_last_of_its_first_lists() {
        let mut seen = Seen::new(2);
        seen.list(0, vec![object("a", "1", "1")]);
        assert!(!seen.ready());
        seen.list(0, vec![]);
        seen.list(1, vec![object("b", "2", "1")]);
        assert!(seen.ready());
        assert_eq!(seen.store.len(), 1, "a list of one source says nothing of another's");
        seen.list(0, vec![]);
        assert_eq!(seen.store.len(), 1);
    }

    #[test]
    fn an_object_replaced_by_another_of_its_name_stays_there() {
        let mut seen = Seen::new(1);
        seen.list(0, vec![object("a", "1", "1")]);
        seen.filler.apply(0, object("a", "2", "2"));
        seen.filler.delete(&object("a", "1", "3"));
        assert_eq!(seen.store.all()[0].uid().as_deref(), Some("2"));
        seen.filler.delete(&object("a", "2", "4"));
        assert_eq!(seen.store.len(), 0);
    }

    #[test]
    fn what_is_not_ours_is_dropped_also_when_it_was() {
        let mut seen = Seen::new(1);
        let mut foreign = object("a", "1", "1");
        foreign.metadata.labels = None;
        seen.list(0, vec![foreign.clone(), object("b", "2", "1")]);
        assert_eq!((seen.store.len(), seen.told()), (1, vec!["b".to_owned()]));
        seen.filler.apply(0, object("a", "1", "2"));
        seen.told();
        seen.filler.apply(0, foreign);
        assert_eq!((seen.store.len(), seen.told()), (1, vec!["a".to_owned()]));
    }
}
