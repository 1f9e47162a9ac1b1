//! Ranks the nodes that a scale-in may remove, and pods as the ReplicaSet controller ranks them.

use std::cmp::Ordering;

use crate::machine::Fate;
use crate::pod::PodView;

use super::going::LOWEST_COST;

/// The pods that are not going yet, the cheapest to remove first: one that never ran, then one whose process does not run (no
/// client is on either), then one that is not ready, then one whose machine may go, then the fewest writes/s, the fewest
/// connections, the youngest. A node with unknown figures comes after all nodes with known ones, and one that a person wants to
/// stay after all others.
pub(super) fn ranked(pods: &[PodView]) -> Vec<&PodView> {
    let mut ranked: Vec<_> = pods.iter().filter(|pod| !pod.terminating).collect();
    ranked.sort_by(|a, b| a.is_asked_to_stay().cmp(&b.is_asked_to_stay()).then_with(|| cost(a, b)));
    ranked
}

fn cost(a: &PodView, b: &PodView) -> Ordering {
    // Figures of a process that ended tell nothing of the one that runs.
    let node = |pod: &PodView| pod.node.filter(|_| !pod.dead);
    let writes = |pod: &PodView| node(pod).and_then(|node| node.writes_per_second).unwrap_or(f64::INFINITY);
    let connections = |pod: &PodView| node(pod).map_or(u64::MAX, |node| node.connections);
    // The smaller tuple goes first.
    let stays = |pod: &PodView| !matches!(pod.fate, Fate::MayGo | Fate::Goes(_));
    (!a.pending, !a.dead, a.ready || a.moves(), stays(a))
        .cmp(&(!b.pending, !b.dead, b.ready || b.moves(), stays(b)))
        .then(writes(a).total_cmp(&writes(b)))
        .then(connections(a).cmp(&connections(b)))
        .then(b.created.cmp(&a.created))
        .then(a.name.cmp(&b.name))
}

/// Connections of a node, if they are known.
pub(super) fn held(victim: &PodView) -> Option<i64> {
    if victim.vacant() {
        Some(0)
    } else {
        victim.node.map(|node| i64::try_from(node.connections).unwrap_or(i64::MAX))
    }
}

/// The reason why this pod was picked.
pub(super) fn why(victim: &PodView) -> String {
    match victim.node {
        _ if victim.pending => ": it never ran".to_owned(),
        _ if victim.dead => ": its process does not run, so nobody is on it".to_owned(),
        Some(node) if victim.ready && victim.fate == Fate::MayGo => {
            format!(", its machine may go: {} connections", node.connections)
        }
        Some(node) if victim.ready => {
            let writes = node.writes_per_second.map_or("unknown".to_owned(), |writes| format!("{writes:.0}"));
            format!(", the cheapest: {} connections, {writes} writes/s", node.connections)
        }
        Some(node) => format!(": it is not ready; {} connections", node.connections),
        None => ": it is not ready and does not answer".to_owned(),
    }
}

/// Whether the ReplicaSet controller removes `victim`, which has the lowest deletion cost, before `other` of the same
/// Deployment. The controller looks at Pending before Running, then at NotReady before Ready, then at the cost
/// (`ActivePodsWithRanks` of Kubernetes 1.34). Which of two Pending pods it takes depends on whether they have a machine,
/// which is not known here; it does not matter, since neither has a connection, and both may stay Pending for ever.
pub(super) fn goes_before(victim: &PodView, other: &PodView) -> bool {
    match (victim.pending, other.pending) {
        (true, _) => true,
        (false, true) => false,
        (false, false) if !victim.ready && other.ready => true,
        (false, false) => victim.ready == other.ready && other.deletion_cost != Some(LOWEST_COST),
    }
}
