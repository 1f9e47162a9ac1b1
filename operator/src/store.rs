//! Takes what watches see into the stores, and says which ChannelClusters are to be reconciled.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crds::ChannelCluster;
use futures::Stream;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use operator_core::ownership;
use tokio::sync::Notify;

use crate::standings::Standings;

/// A ChannelCluster, or an object that could not be read as one.
pub type Guarded = DeserializeGuard<ChannelCluster>;

/// A ChannelCluster that is to be looked at.
pub type Request = ObjectRef<Guarded>;

/// ChannelClusters that are to be looked at and that the controller has not taken yet: each once, however much changed.
#[derive(Debug, Default)]
pub struct Pending {
    due: Mutex<HashSet<Request>>,
    more: Notify,
}

impl Pending {
    /// Adds a ChannelCluster.
    pub fn push(&self, request: Request) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(request);
        self.more.notify_one();
    }

    /// Takes one ChannelCluster.
    pub fn pop(&self) -> Option<Request> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.iter().next().cloned()?;
        due.take(&next)
    }

    /// A stream of them for the controller, which never ends. A watch that fails cannot hold it up.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = Result<ReconcileRequest<Guarded>, Infallible>> {
        futures::stream::unfold(self, |pending| async {
            loop {
                if let Some(next) = pending.pop() {
                    return Some((Ok(next.into()), pending));
                }
                pending.more.notified().await;
            }
        })
    }
}

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
    /// The key of the object in an [`Index`]; none: it is found by its name only.
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

#[cfg(test)]
thread_local! {
    /// Objects that this thread has found by an index.
    pub(crate) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Objects by their UIDs.
type Children<K> = HashMap<String, ObjectRef<K>>;

/// Objects by their parents, so that the objects of one fleet are found without a walk over those of all fleets.
#[derive(Debug)]
pub struct Index<K: Resource<DynamicType = ()> + Clone + 'static>(
    /// By parent, then by UID: an object may be replaced by another of its name, with another parent.
    Arc<RwLock<HashMap<String, Children<K>>>>,
);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for Index<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Index<K> {
    /// The objects of `store`, which this is an index of, that belong to `parent`, in no order.
    #[must_use]
    pub fn children(&self, store: &Store<K>, parent: &str) -> Vec<Arc<K>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let children = all.get(parent).into_iter().flatten();
        #[cfg(test)]
        LOOKED_AT.with(|count| count.set(count.get() + all.get(parent).map_or(0, HashMap::len)));
        children
            .filter_map(|(uid, object)| {
                store.get(object).filter(|live| live.meta().uid.as_deref() == Some(uid))
            })
            .collect()
    }

    fn insert(&self, parent: &str, object: ObjectRef<K>) {
        let uid = object.extra.uid.clone().unwrap_or_default();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(parent.to_owned()).or_default().insert(uid, object);
    }

    fn remove(&self, parent: &str, object: &ObjectRef<K>) {
        let uid = object.extra.uid.as_deref().unwrap_or_default();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(children) = all.get_mut(parent) {
            children.remove(uid);
            if children.is_empty() {
                all.remove(parent);
            }
        }
    }
}

/// A store whose objects are also found by their parents.
#[derive(Clone, Debug)]
pub struct Family<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// The objects by name.
    pub store: Store<K>,
    index: Index<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Family<K> {
    /// A store that a watch fills.
    #[must_use]
    pub fn new(store: Store<K>, index: Index<K>) -> Self {
        Self { store, index }
    }

    /// A store of objects that do not change, for callers without a watch.
    #[must_use]
    pub fn of(objects: Vec<K>, parent: fn(&K) -> Option<String>) -> Self {
        let rules = Rules {
            keep: |_| true,
            prune: |_| {},
            version: |_| String::new(),
            about: |_| None,
            parent,
            stands: false,
        };
        let (store, writer) = reflector::store();
        let mut filler = Filler::new(rules, Some(writer), 1, Arc::default());
        filler.replace(0, Fill(objects.into_iter().map(|object| (object, None)).collect()));
        Self { store, index: filler.index() }
    }

    /// The objects that belong to `parent`, in no order.
    #[must_use]
    pub fn children(&self, parent: &str) -> Vec<Arc<K>> {
        self.index.children(&self.store, parent)
    }
}

/// The place of one object in a list, and the value that is compared.
#[derive(Debug)]
struct Known<K: Resource<DynamicType = ()> + Clone + 'static> {
    object: ObjectRef<K>,
    source: usize,
    version: String,
    about: Option<Request>,
    parent: Option<String>,
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
pub struct Filler<K: Resource<DynamicType = ()> + Clone + 'static> {
    rules: Rules<K>,
    /// None for kinds whose objects are not read: their changes only trigger a look at the ChannelCluster.
    writer: Option<Writer<K>>,
    index: Index<K>,
    standings: Standings,
    /// Sources whose first list has not come yet.
    waiting: HashSet<usize>,
    known: HashMap<String, Known<K>>,
    tell: Arc<Pending>,
}

fn key(object: &impl Resource) -> String {
    let meta = object.meta();
    // The UID is part of the key: an object that was replaced by another of its name is another one.
    [&meta.namespace, &meta.name, &meta.uid].map(|part| part.as_deref().unwrap_or_default()).join("/")
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Filler<K> {
    /// A filler for `sources` sources.
    pub fn new(rules: Rules<K>, writer: Option<Writer<K>>, sources: usize, tell: Arc<Pending>) -> Self {
        let (index, standings) = (Index::default(), Standings::default());
        Self { rules, writer, index, standings, waiting: (0..sources).collect(), known: HashMap::new(), tell }
    }

    /// The objects by their parents.
    pub fn index(&self) -> Index<K> {
        self.index.clone()
    }

    /// The standings of the objects; empty unless the rules ask for them.
    pub fn standings(&self) -> Standings {
        self.standings.clone()
    }

    /// Takes a page of a list.
    pub fn listed(&self, fill: &mut Fill<K>, page: Vec<K>) {
        fill.0.extend(page.into_iter().filter(|object| (self.rules.keep)(object)).map(|mut object| {
            let standing = self.rules.stands.then(|| ownership::standing(object.meta()));
            (self.rules.prune)(&mut object);
            (object, standing)
        }));
    }

    /// Takes the end of a list: objects that are not in it are gone.
    pub fn replace(&mut self, source: usize, fill: Fill<K>) {
        let listed: HashSet<String> = fill.0.iter().map(|(object, _)| key(object)).collect();
        let mut gone = Vec::new();
        self.known.retain(|key, known| {
            let stays = known.source != source || listed.contains(key);
            if !stays {
                gone.push((known.object.clone(), known.about.clone(), known.parent.clone()));
            }
            stays
        });
        for (object, about, parent) in gone {
            self.forget(&object, parent.as_deref());
            self.trigger(about);
        }
        for (object, standing) in fill.0 {
            self.put(source, object, standing);
        }
        if self.waiting.remove(&source)
            && self.waiting.is_empty()
            && let Some(writer) = &mut self.writer
        {
            // These events are what releases the tasks that wait for the first lists.
            writer.apply_watcher_event(&Event::Init);
            for object in writer.as_reader().state() {
                writer.apply_watcher_event(&Event::InitApply((*object).clone()));
            }
            writer.apply_watcher_event(&Event::InitDone);
        }
    }

    /// Takes an object that is there, or that has changed.
    pub fn apply(&mut self, source: usize, mut object: K) {
        if !(self.rules.keep)(&object) {
            self.delete(&object); // the object may have been one of ours
            return;
        }
        let standing = self.rules.stands.then(|| ownership::standing(object.meta()));
        (self.rules.prune)(&mut object);
        self.put(source, object, standing);
    }

    /// Takes the end of an object.
    pub fn delete(&mut self, object: &K) {
        if let Some(known) = self.known.remove(&key(object)) {
            self.forget(&known.object, known.parent.as_deref());
            self.trigger(known.about);
        }
    }

    fn put(&mut self, source: usize, object: K, standing: Option<u64>) {
        let (version, about) = ((self.rules.version)(&object), (self.rules.about)(&object));
        let parent = (self.rules.parent)(&object);
        let place = ObjectRef::from_obj(&object);
        let known = Known {
            object: place.clone(),
            source,
            version: version.clone(),
            about: about.clone(),
            parent: parent.clone(),
        };
        let before = self.known.insert(key(&object), known);
        if let Some(writer) = &mut self.writer {
            writer.apply_watcher_event(&Event::Apply(object));
        }
        if let Some(standing) = standing {
            self.standings.put(&place, standing); // after the store: a reader of this finds the object there
        }
        let old_parent = before.as_ref().and_then(|before| before.parent.as_deref());
        if let Some(old) = old_parent.filter(|old| Some(*old) != parent.as_deref()) {
            self.index.remove(old, &place);
        }
        if let Some(parent) = parent {
            self.index.insert(&parent, place);
        }
        if before.is_none_or(|before| before.version != version) {
            self.trigger(about);
        }
    }

    /// Takes an object from the index, and from the store unless another of its name is there.
    fn forget(&mut self, object: &ObjectRef<K>, parent: Option<&str>) {
        if let Some(parent) = parent {
            self.index.remove(parent, object);
        }
        self.standings.remove(object);
        let Some(writer) = &mut self.writer else { return };
        // An object of the same name with another UID compares equal: it was seen before the end of this one.
        let live = writer.as_reader().get(object);
        let Some(live) = live.filter(|live| live.meta().uid == object.extra.uid) else { return };
        writer.apply_watcher_event(&Event::Delete((*live).clone()));
    }

    fn trigger(&self, about: Option<Request>) {
        if let Some(about) = about {
            self.tell.push(about);
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
        store: Store<ConfigMap>,
        pending: Arc<Pending>,
    }

    impl Seen {
        fn new(sources: usize) -> Self {
            let (store, writer) = reflector::store();
            let pending = Arc::new(Pending::default());
            Self { filler: Filler::new(RULES, Some(writer), sources, pending.clone()), store, pending }
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
            futures::FutureExt::now_or_never(self.store.wait_until_ready()).is_some()
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
        assert!(seen.store.state().iter().all(|map| map.data.is_none()), "nothing is kept that is not read");
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
        assert_eq!(seen.store.state()[0].uid().as_deref(), Some("2"));
        seen.filler.delete(&object("a", "2", "4"));
        assert_eq!(seen.store.len(), 0);
    }

    #[test]
    fn objects_are_found_by_their_parent_whatever_becomes_of_them() {
        let child = |name, uid, version, parent: &str| {
            let mut child = object(name, uid, version);
            child.metadata.labels.as_mut().unwrap().insert("parent".to_owned(), parent.to_owned());
            child
        };
        let mut seen = Seen::new(1);
        let (index, store) = (seen.filler.index(), seen.store.clone());
        let of = |parent| {
            let mut uids: Vec<_> =
                index.children(&store, parent).iter().map(|child| child.uid().unwrap()).collect();
            uids.sort();
            uids
        };
        seen.list(0, vec![child("a", "1", "1", "x"), child("b", "2", "1", "x"), object("c", "3", "1")]);
        assert_eq!((of("x"), of("y").len()), (vec!["1".to_owned(), "2".to_owned()], 0));
        seen.filler.apply(0, child("b", "2", "2", "y"));
        assert_eq!((of("x"), of("y")), (vec!["1".to_owned()], vec!["2".to_owned()]));
        // Another object of its name, with another parent, comes before the end of the first is seen.
        seen.filler.apply(0, child("a", "4", "3", "y"));
        assert_eq!((of("x").len(), of("y")), (0, vec!["2".to_owned(), "4".to_owned()]));
        seen.filler.delete(&child("a", "1", "4", "x"));
        assert_eq!(of("y"), ["2", "4"]);
        seen.list(0, vec![child("a", "4", "3", "y")]);
        assert_eq!(of("y"), ["4"]);
        seen.filler.delete(&child("a", "4", "5", "y"));
        assert!(of("y").is_empty() && index.0.read().unwrap().is_empty(), "nothing is left behind");
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
