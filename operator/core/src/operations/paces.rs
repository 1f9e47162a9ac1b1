//! How fast nodes may be closing connections now, as far as this process knows. Nothing of it must outlive the process: a
//! node whose pace is not known is told one.

use std::collections::BTreeMap;

use crds::{DrainStep, Operation};
use node_core::admin::NodePhase;

use super::action::Action;
use crate::pod::PodView;

/// The pace of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The fastest that it may close at, in connections per second.
    pub per_second: u32,
    /// Whether it is known to close at just this pace: the last order reached it.
    pub sure: bool,
    /// When it would have no connection left at this pace, in milliseconds since 1970. Until then a node that is not heard
    /// counts as closing.
    until: u64,
}

/// The paces of a fleet's nodes by the names of their pods.
#[derive(Clone, Debug, Default)]
pub struct Paces {
    told: BTreeMap<String, Pace>,
    /// Connections of nodes on their way out, as they last said.
    held: BTreeMap<String, u64>,
    /// The time of the last look.
    now: u64,
}

impl Paces {
    /// Takes in what the nodes say before something is decided. `whole` is the budget of the fleet in connections per
    /// second: a node whose pace nobody knows may close as fast.
    pub fn look(&mut self, now: u64, operation: Option<&Operation>, pods: &[PodView], whole: u32) {
        let first = self.now == 0;
        self.now = now;
        let drain = match operation {
            Some(Operation::Drain(drain)) => &drain.nodes[..],
            _ => &[],
        };
        if first {
            for node in drain.iter().filter(|node| node.step == DrainStep::Closing) {
                let per_second = node.connections_per_second.unwrap_or(whole);
                let left = node.connections.and_then(|left| u64::try_from(left).ok()).unwrap_or_default();
                let until = ends(now, left, per_second);
                self.told.insert(node.pod.clone(), Pace { per_second, sure: false, until });
            }
        }
        // A process that was told to end, by an eviction for example, goes on closing at the pace that it has, or at all of its own.
        let closes =
            |pod: &PodView| pod.node.is_some_and(|node| node.answers && node.phase == NodePhase::Closing);
        let alive =
            |name: &str| pods.iter().find(|pod| pod.name == name && (!pod.terminating || closes(pod)));
        self.told.retain(|name, pace| {
            let Some(pod) = alive(name).filter(|pod| !pod.vacant()) else { return false };
            match pod.node.filter(|node| node.answers) {
                Some(node) => {
                    pace.until = ends(now, node.connections, pace.per_second);
                    node.phase == NodePhase::Closing
                }
                None => now <= pace.until,
            }
        });
        for pod in pods.iter().filter(|pod| closes(pod) && !pod.vacant()) {
            let Some(node) = pod.node else { continue };
            let until = ends(now, node.connections, whole);
            let unknown = Pace { per_second: whole, sure: false, until };
            self.told.entry(pod.name.clone()).or_insert(unknown);
        }
        self.held.clear();
        for node in drain {
            let said = alive(&node.pod).and_then(|pod| pod.node);
            self.held.extend(said.map(|said| (node.pod.clone(), said.connections)));
        }
    }

    /// Notes that an action was carried out, or that it failed: then it may have reached its node or not.
    pub fn note(&mut self, action: &Action, reached: bool) {
        match action {
            Action::Close { pod, rate, .. } => {
                let before = self.told.get(pod).map_or(*rate, |pace| pace.per_second);
                let (fast, slow) =
                    if reached { (*rate, *rate) } else { (before.max(*rate), before.min(*rate)) };
                let left = self.held.get(pod).copied().unwrap_or_default();
                let until = ends(self.now, left, slow);
                self.told.insert(pod.clone(), Pace { per_second: fast, sure: reached, until });
            }
            Action::Unready { pod } | Action::Hold { pod } | Action::TakeBack { pod } if reached => {
                self.told.remove(pod);
            }
            Action::Unready { pod } | Action::Hold { pod } | Action::TakeBack { pod } => {
                if let Some(pace) = self.told.get_mut(pod) {
                    pace.sure = false;
                }
            }
            Action::DeletionCost { .. }
            | Action::Replicas { .. }
            | Action::Rebalance { .. }
            | Action::StopRebalance { .. } => {}
        }
    }

    /// The pace of a pod's node; none when it closes nothing.
    #[must_use]
    pub fn of(&self, pod: &str) -> Option<Pace> {
        self.told.get(pod).copied()
    }

    /// The paces of all nodes that may be closing connections.
    pub fn all(&self) -> impl Iterator<Item = (&str, Pace)> {
        self.told.iter().map(|(pod, pace)| (pod.as_str(), *pace))
    }
}

/// When the last of so many connections is closed at this pace.
fn ends(now: u64, connections: u64, per_second: u32) -> u64 {
    now.saturating_add(connections.saturating_mul(1_000) / u64::from(per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use node_core::admin::NodePhase;

    use super::Paces;
    use crate::operations::action::Action;
    use crate::pod::{NodeView, PodView};

    fn pod(phase: NodePhase, answers: bool) -> PodView {
        let node = Some(NodeView { phase, connections: 100, writes_per_second: None, answers });
        PodView { name: "a".to_owned(), node, ..PodView::default() }
    }

    fn close(rate: u32) -> Action {
        Action::Close { pod: "a".to_owned(), rate, slower: false }
    }

    #[test]
    fn a_node_that_is_not_heard_counts_until_it_would_be_empty() {
        let mut paces = Paces::default();
        paces.look(1_000, None, &[pod(NodePhase::Closing, true)], 50);
        assert_eq!(paces.of("a").map(|pace| (pace.per_second, pace.sure)), Some((50, false)), "nobody knows");
        paces.note(&close(20), true);
        paces.look(2_000, None, &[pod(NodePhase::Closing, true)], 50);
        assert_eq!(paces.of("a").map(|pace| (pace.per_second, pace.sure)), Some((20, true)));
        paces.look(7_000, None, &[pod(NodePhase::Closing, false)], 50);
        assert!(paces.of("a").is_some(), "100 connections at 20/s take 5 s");
        paces.look(7_001, None, &[pod(NodePhase::Closing, false)], 50);
        assert!(paces.of("a").is_none());
    }

    #[test]
    fn an_order_that_failed_may_have_arrived() {
        let mut paces = Paces::default();
        paces.look(1_000, None, &[pod(NodePhase::Closing, true)], 50);
        paces.note(&close(20), true);
        for (rate, fastest) in [(10, 20), (30, 30)] {
            let mut unsure = paces.clone();
            unsure.note(&close(rate), false);
            assert_eq!(unsure.of("a").map(|pace| (pace.per_second, pace.sure)), Some((fastest, false)));
        }
        paces.note(&Action::TakeBack { pod: "a".to_owned() }, false);
        assert_eq!(paces.of("a").map(|pace| (pace.per_second, pace.sure)), Some((20, false)));
        paces.note(&Action::TakeBack { pod: "a".to_owned() }, true);
        assert!(paces.of("a").is_none());
        paces.note(&close(10), true);
        for gone in [
            vec![],
            vec![pod(NodePhase::Closed, true)],
            vec![PodView { dead: true, ..pod(NodePhase::Closing, true) }],
        ] {
            let mut paces = paces.clone();
            paces.look(1_001, None, &gone, 50);
            assert!(paces.of("a").is_none(), "{gone:?}");
        }
    }
}
