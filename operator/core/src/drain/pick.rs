//! Which node goes.

use std::cmp::Ordering;

use super::PodView;

/// The cheapest pod to remove: one that never ran, then one that is not ready, then the fewest writes/s, the fewest
/// connections, the youngest. None when every pod is already going.
#[must_use]
pub fn pick(pods: &[PodView]) -> Option<&PodView> {
    pods.iter().filter(|pod| !pod.terminating).min_by(|a, b| cost(a, b))
}

fn cost(a: &PodView, b: &PodView) -> Ordering {
    let writes = |pod: &PodView| pod.node.map_or(f64::INFINITY, |node| node.writes_per_second);
    let connections = |pod: &PodView| pod.node.map_or(u64::MAX, |node| node.connections);
    // Smaller goes first.
    (!a.pending, a.ready)
        .cmp(&(!b.pending, b.ready))
        .then(writes(a).total_cmp(&writes(b)))
        .then(connections(a).cmp(&connections(b)))
        .then(b.created.cmp(&a.created))
        .then(a.name.cmp(&b.name))
}

/// Whether the ReplicaSet controller removes `victim`, which has the lowest deletion cost, before `other`. It looks at
/// Pending before Running, then at NotReady before Ready, then at the cost (`ActivePodsWithRanks` of Kubernetes 1.34).
/// Whether a Pending pod already has a machine is not known here, so between two of those it is not certain; it does not
/// matter either, since neither holds a connection, and they may stay Pending for ever.
pub(super) fn goes_before(victim: &PodView, other: &PodView) -> bool {
    if other.terminating {
        return true; // it no longer counts
    }
    match (victim.pending, other.pending) {
        (true, _) => true,
        (false, true) => false,
        (false, false) => !victim.ready || other.ready,
    }
}
