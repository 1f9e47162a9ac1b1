//! Whether the nodes of a new template do as well as those of before.
//!
//! Handshakes that nodes were unable to take are counted over the same time for both. The time that a handshake takes is known
//! second by second, and old nodes have none any more once they are out of the Service; so what they took before is remembered.
//! All of this begins anew with another template, and with another generation of the spec.

use node_core::admin::NodePhase;

use super::handshakes::Handshakes;
use crate::observation::DeploymentView;
use crate::pod::PodView;
use crate::view::NodeSeen;

/// A node that is not ready for so long after it was made keeps the rollout, in milliseconds.
pub const READY_MILLIS: u64 = 120_000;
/// A node whose process ended so often before it was ready keeps it too.
const MAX_RESTARTS: i32 = 3;
/// The rollout stops when handshakes take this many times what they took on old nodes...
const SLOWER: u64 = 4;
/// ... and at least so long, in milliseconds, in so many looks in a row.
const SLOW_MILLIS: u64 = 2_000;
const SLOW_LOOKS: u32 = 5;
/// A node that just came back into service is not ready for a look or two.
const LATE_LOOKS: u32 = 5;

/// What is remembered from look to look.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// What is compared: the name of the current Deployment and the generation of the spec.
    about: (String, i64),
    handshakes: Handshakes,
    /// The 99th percentile of handshakes on old nodes, smoothed, in milliseconds; 0 when it is not known.
    usual: u64,
    /// For how many looks they have been slow on new nodes.
    slow: u32,
    /// For how many looks new nodes have not been ready that should be.
    late: u32,
}

/// Why a rollout is not to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A CamelCase word.
    pub reason: &'static str,
    /// A sentence with the figures.
    pub message: String,
    /// Whether it lasts until the spec changes: what is wrong may no longer show once clients are sent to old nodes again.
    pub lasts: bool,
}

impl Gate {
    /// Compares the nodes of the `current` Deployment with the others at `now` (milliseconds since 1970). `under_way` has the
    /// generation of the spec while there is a rollout, and `goes` says whether a pod is on its way out.
    pub fn look(
        &mut self,
        current: &DeploymentView,
        under_way: Option<i64>,
        nodes: &[NodeSeen],
        goes: impl Fn(&PodView) -> bool,
        now: u64,
    ) -> Option<Verdict> {
        let is_new = |node: &&NodeSeen| node.pod.deployment == current.name;
        let (new, old): (Vec<_>, Vec<_>) =
            nodes.iter().filter(|node| !node.pod.terminating).partition(is_new);
        let before = if under_way.is_some() { &old } else { &new };
        let took =
            before.iter().filter_map(|node| node.stats.as_ref()).map(|s| s.gauges.handshake_p99_millis);
        if let Some(took) = took.filter(|took| *took > 0).max() {
            self.usual = if self.usual == 0 { took } else { (self.usual * 9 + took) / 10 };
        }
        let Some(generation) = under_way else {
            *self = Self { usual: self.usual, ..Self::default() };
            return None;
        };
        let about = (current.name.clone(), generation);
        if self.about != about {
            let handshakes = Handshakes::begun(now);
            *self = Self { about, handshakes, usual: self.usual, ..Self::default() };
        }
        self.handshakes.look(&new, &old, now);
        let (slow, late) = (self.slow(&new), never_ready(&new, goes, now));
        self.late = if late.is_some() { self.late + 1 } else { 0 };
        let late = late.filter(|_| self.late >= LATE_LOOKS);
        let refused = self.handshakes.regress();
        let refused = refused.map(|message| Verdict { reason: "HandshakesRefused", message, lasts: true });
        late.or(refused).or(slow)
    }

    fn slow(&mut self, new: &[&NodeSeen]) -> Option<Verdict> {
        let took =
            new.iter().filter_map(|node| Some((node, node.stats.as_ref()?.gauges.handshake_p99_millis)));
        let (node, took) = took.max_by_key(|(_, took)| *took)?;
        let most = SLOW_MILLIS.max(self.usual * SLOWER);
        self.slow = if took > most { self.slow + 1 } else { 0 };
        (self.slow >= SLOW_LOOKS).then(|| Verdict {
            reason: "HandshakesSlow",
            message: format!(
                "handshakes take {took} ms on {} (99th percentile), and {} ms on nodes of the template before",
                node.pod.name, self.usual
            ),
            lasts: true,
        })
    }
}

/// Nodes that do not come up.
fn never_ready(new: &[&NodeSeen], goes: impl Fn(&PodView) -> bool, now: u64) -> Option<Verdict> {
    let told = |pod: &PodView| {
        let phase = pod.node.map(|node| node.phase);
        matches!(phase, Some(NodePhase::Unready | NodePhase::Closing | NodePhase::Closed))
    };
    let late = |pod: &PodView| {
        !pod.ready
            && !goes(pod)
            && !told(pod)
            && (now.saturating_sub(pod.created) > READY_MILLIS || (pod.dead && pod.restarts >= MAX_RESTARTS))
    };
    let late: Vec<_> = new.iter().map(|node| &node.pod).filter(|pod| late(pod)).collect();
    let first = late.first()?;
    Some(Verdict {
        reason: "NodesNotReady",
        message: format!(
            "{} of {} new nodes are not ready after {} s or end again and again, the first is {}",
            late.len(),
            new.len(),
            READY_MILLIS / 1_000,
            first.name
        ),
        lasts: false,
    })
}

#[cfg(test)]
mod tests {
    use node_core::admin::{Counters, Gauges, Stats};

    use super::{Gate, LATE_LOOKS, NodePhase, READY_MILLIS, SLOW_LOOKS, Verdict};
    use crate::observation::DeploymentView;
    use crate::pod::{NodeView, PodView};
    use crate::view::NodeSeen;

    const NOW: u64 = 1_800_000_000_000;

    fn node(of: &str, opened: u64, unable: u64, took: u64) -> NodeSeen {
        let counters =
            Counters { connections_opened: opened, handshakes_unable: unable, ..Counters::default() };
        let gauges = Gauges { handshake_p99_millis: took, ..Gauges::default() };
        let pod = PodView {
            name: format!("{of}-1"),
            uid: format!("{of}-1"),
            deployment: of.to_owned(),
            ready: true,
            created: NOW,
            ..PodView::default()
        };
        let stats = Stats { monotonic_millis: 60_000, counters, gauges, ..Stats::default() };
        NodeSeen { pod, stats: Some(stats), ..NodeSeen::default() }
    }

    fn look(gate: &mut Gate, nodes: &[NodeSeen], under_way: bool, now: u64) -> Option<Verdict> {
        let current = DeploymentView { name: "new".to_owned(), current: true, ..DeploymentView::default() };
        gate.look(&current, under_way.then_some(1), nodes, |_| false, now)
    }

    #[test]
    fn handshakes_are_compared_anew_for_another_template_and_another_spec() {
        let mut gate = Gate::default();
        let mut reason = |of: &str, generation, unable| {
            let current = DeploymentView { name: of.to_owned(), ..DeploymentView::default() };
            let nodes = [node("old", 1_000, 0, 0), node(of, 0, unable, 0)];
            gate.look(&current, Some(generation), &nodes, |_| false, NOW).map(|verdict| verdict.reason)
        };
        assert_eq!([reason("new", 1, 0), reason("new", 1, 30)], [None, Some("HandshakesRefused")]);
        assert_eq!([reason("new", 2, 30), reason("new", 2, 40)], [None, None], "another generation");
        assert_eq!(reason("new", 2, 60), Some("HandshakesRefused"));
        assert_eq!(reason("other", 2, 60), None, "what its process had counted says nothing");
    }

    #[test]
    fn slow_handshakes_count_when_they_last_and_were_not_slow_before() {
        let mut gate = Gate::default();
        assert_eq!(look(&mut gate, &[node("new", 9, 0, 800)], false, NOW), None);
        let nodes = |took| [node("old", 9, 0, 0), node("new", 9, 0, took)];
        for took in [3_000, 9_000, 9_000, 100] {
            assert_eq!(look(&mut gate, &nodes(took), true, NOW), None, "not for long");
        }
        for _ in 0..SLOW_LOOKS * 2 {
            assert_eq!(look(&mut gate, &nodes(3_000), true, NOW), None, "less than four times as slow");
        }
        let found: Vec<_> = (0..SLOW_LOOKS).map(|_| look(&mut gate, &nodes(3_300), true, NOW)).collect();
        assert_eq!(found.iter().flatten().count(), 1);
        let last = found.last().unwrap().as_ref().unwrap();
        assert!(last.message.contains("3300 ms on new-1") && last.message.contains("and 800 ms"), "{last:?}");
    }

    #[test]
    fn nodes_that_do_not_come_up_keep_the_rollout_for_as_long_as_they_do_not() {
        let mut new = node("new", 0, 0, 0);
        new.pod.ready = false;
        let mut gate = Gate::default();
        assert_eq!(look(&mut gate, std::slice::from_ref(&new), true, NOW + READY_MILLIS), None);
        let mut found = |new: &NodeSeen, under_way, now| -> Vec<_> {
            let looks = (0..LATE_LOOKS).map(|_| look(&mut gate, std::slice::from_ref(new), under_way, now));
            looks.flatten().map(|verdict| (verdict.reason, verdict.lasts)).collect()
        };
        assert_eq!(found(&new, true, NOW + READY_MILLIS + 1), [("NodesNotReady", false)]);
        assert_eq!(found(&new, false, NOW + READY_MILLIS + 1), []);
        (new.pod.dead, new.pod.restarts) = (true, 3);
        assert_eq!(found(&new, true, NOW), [("NodesNotReady", false)], "it ends again and again");
        let told =
            NodeView { phase: NodePhase::Unready, connections: 9, writes_per_second: None, answers: true };
        new.pod.node = Some(told);
        assert_eq!(found(&new, true, NOW), [], "it was told not to be ready");
    }
}
