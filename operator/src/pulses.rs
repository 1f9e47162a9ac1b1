//! How well the watches see: when each of them last gave a sign, and which namespaces are seen in whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock;

/// When a watch has given no sign for so long, the store that it fills is stale (milliseconds). A watch that falls
/// silent is noticed after 8 s, and the one that follows it gives its first sign 4 s after it began.
pub const STALE_MILLIS: u64 = 30_000;

/// When a watch was last known to see everything, and whether it has seen its first list.
#[derive(Debug)]
pub struct Pulse {
    /// The kind that is watched, in plural, as Kubernetes calls it.
    pub kind: &'static str,
    /// The namespace; none: all namespaces.
    pub namespace: Option<String>,
    at: AtomicU64,
    synced: AtomicBool,
    /// Whether the namespace was left out, since its first list did not come.
    left_out: AtomicBool,
    failures: AtomicU64,
}

impl Pulse {
    /// The pulse of a watch that begins now, in one namespace or in all.
    #[must_use]
    pub fn new(kind: &'static str, namespace: Option<&str>) -> Self {
        Self {
            kind,
            namespace: namespace.map(str::to_owned),
            at: AtomicU64::new(clock::now()),
            synced: AtomicBool::new(false),
            left_out: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether the other watches go on without this one's namespace.
    #[must_use]
    pub fn left_out(&self) -> bool {
        self.left_out.load(Ordering::Acquire)
    }

    /// Leaves its namespace out, or takes it in again.
    pub fn leave_out(&self, out: bool) {
        self.left_out.store(out, Ordering::Release);
    }

    /// Milliseconds since a list, an event, a bookmark or the orderly end of a watch.
    #[must_use]
    pub fn age(&self) -> u64 {
        clock::now().saturating_sub(self.at.load(Ordering::Acquire))
    }

    /// Whether the first list was seen.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Lists and watches that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Records that the first list was seen.
    pub fn sync(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Records that a list or a watch failed.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a sign of life.
    pub fn beat(&self) {
        self.at.store(clock::now(), Ordering::Release);
    }

    /// Acts as if nothing had come for so long (milliseconds).
    pub fn set_age(&self, age: u64) {
        self.at.store(clock::now().saturating_sub(age), Ordering::Release);
    }
}

/// Whether the store that a watch fills is not to be relied on.
fn is_lost(pulse: &Pulse) -> bool {
    pulse.left_out() || pulse.age() > STALE_MILLIS
}

/// How well the watches of one term see.
#[derive(Clone, Debug, Default)]
pub struct Pulses(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    all: Vec<Arc<Pulse>>,
    /// The same by namespace, so that a question about one namespace does not walk over the watches of all.
    of: HashMap<Option<String>, Vec<Arc<Pulse>>>,
}

impl Pulses {
    /// Groups these watches by their namespaces.
    #[must_use]
    pub fn new(all: Vec<Arc<Pulse>>) -> Self {
        let mut of: HashMap<_, Vec<_>> = HashMap::new();
        for pulse in &all {
            of.entry(pulse.namespace.clone()).or_default().push(pulse.clone());
        }
        Self(Arc::new(Known { all, of }))
    }

    /// All watches.
    pub fn iter(&self) -> impl Iterator<Item = &Pulse> {
        self.0.all.iter().map(AsRef::as_ref)
    }

    /// The watch that has seen nothing for the longest time, and for how long (milliseconds), if that is too long and
    /// no namespace is seen in whole. When several namespaces are watched, the ones that are seen go on without the
    /// others ([`Self::lost`]).
    #[must_use]
    pub fn stale(&self) -> Option<(&'static str, u64)> {
        let (old, fresh): (Vec<_>, Vec<_>) = self.iter().partition(|pulse| pulse.age() > STALE_MILLIS);
        let stale: BTreeSet<_> = old.iter().map(|pulse| &pulse.namespace).collect();
        if fresh.iter().any(|pulse| !stale.contains(&pulse.namespace)) {
            return None;
        }
        old.iter().map(|pulse| (pulse.kind, pulse.age())).max_by_key(|(_, age)| *age)
    }

    /// Namespaces that are not seen in whole, when single namespaces are watched; nothing is done there.
    #[must_use]
    pub fn lost(&self) -> BTreeSet<&str> {
        self.iter().filter(|pulse| is_lost(pulse)).filter_map(|pulse| pulse.namespace.as_deref()).collect()
    }

    /// Whether everything in a namespace is seen.
    #[must_use]
    pub fn sees(&self, namespace: &str) -> bool {
        let of = |scope: Option<String>| self.0.of.get(&scope).into_iter().flatten();
        !of(None).chain(of(Some(namespace.to_owned()))).any(|pulse| is_lost(pulse))
    }

    /// Whether each watch of this kind has seen its first list or its namespace is left out: until then, what is not in its
    /// store may be there nevertheless.
    #[must_use]
    pub fn listed(&self, kind: &str) -> bool {
        self.iter().filter(|pulse| pulse.kind == kind).all(|pulse| pulse.synced() || pulse.left_out())
    }

    /// Whether every watch has seen its first list or its namespace is left out.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.iter().all(|pulse| pulse.synced() || pulse.left_out())
    }
}

/// The watches of the present term, as `/readyz` and the metrics read them.
#[derive(Clone, Debug, Default)]
pub struct Sight(Arc<Mutex<Option<Pulses>>>);

impl Sight {
    /// The present watches; none without a term.
    #[must_use]
    pub fn get(&self) -> Option<Pulses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the watches when a term begins, or none when it ends.
    pub fn set(&self, pulses: Option<Pulses>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pulses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_watch_says_whether_all_are_stale() {
        let (a, b) = (Arc::new(Pulse::new("pods", None)), Arc::new(Pulse::new("services", None)));
        let pulses = Pulses::new(vec![a.clone(), b.clone()]);
        assert!(pulses.stale().is_none() && !pulses.synced());
        a.sync();
        assert!(pulses.listed("pods") && !pulses.listed("services"));
        b.set_age(STALE_MILLIS + 5_000);
        assert_eq!(pulses.stale().map(|(kind, _)| kind), Some("services"));
        assert!(!pulses.sees("a") && pulses.lost().is_empty());
        b.beat();
        assert!(pulses.stale().is_none() && pulses.sees("a"));
    }

    #[test]
    fn a_namespace_that_is_lost_takes_no_other_with_it() {
        let of = |namespace, kind| Arc::new(Pulse::new(kind, Some(namespace)));
        let (a, b) = (of("a", "pods"), of("b", "pods"));
        let pulses = Pulses::new(vec![a.clone(), of("a", "services"), b.clone(), of("b", "services")]);
        assert!(pulses.sees("a") && pulses.sees("b") && !pulses.synced());
        a.set_age(STALE_MILLIS + 1_000);
        assert!(!pulses.sees("a") && pulses.sees("b") && pulses.stale().is_none());
        assert_eq!(pulses.lost(), ["a"].into());
        b.set_age(STALE_MILLIS + 5_000);
        assert_eq!(pulses.stale().map(|(kind, _)| kind), Some("pods"), "nothing is seen whole");
        a.beat();
        a.leave_out(true);
        assert!(!pulses.sees("a") && pulses.stale().is_none(), "it may be there in a moment");
    }
}
