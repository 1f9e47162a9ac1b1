//! Nodes that are to go though as many nodes are wanted as there are: a person named them, by an annotation of the pod.
//!
//! Another node takes the place of each before it leaves the Service, as many at a time as a rollout may add; so the fleet
//! never has less room than it is to have. A node that is named no more comes back, unless Kubernetes may remove it at any moment, and
//! of those that may go then it is the last one.
//! While nodes are replaced by another template, those that are named wait.

use crds::{LeaveCause, LeavingNode};

use super::going::goes;
use super::plan::FleetView;
use crate::pod::PodView;

/// Whether a node is to be replaced. The fleet then has more nodes for a while, which say nothing about the load.
#[must_use]
pub fn is_under_way(pods: &[PodView]) -> bool {
    pods.iter().any(is_named)
}

fn is_named(pod: &PodView) -> bool {
    !pod.terminating && pod.is_asked_to_go()
}

/// The pods that are to be replaced next and are not on their way out yet.
pub(super) fn named<'a>(
    going: &[LeavingNode],
    dropped: &[String],
    fleet: &FleetView<'a>,
) -> Vec<&'a PodView> {
    let mut named: Vec<&PodView> = fleet.pods.iter().filter(|pod| is_named(pod)).collect();
    named.retain(|pod| !dropped.contains(&pod.uid) && !goes(going, pod));
    // Nodes without clients first: they need nobody in their stead.
    named.sort_by_key(|pod| (pod.ready, pod.name.clone()));
    let most = usize::try_from(fleet.rollout.surge.of(fleet.desired)).unwrap_or_default().max(1);
    named.truncate(most.saturating_sub(going.iter().filter(|node| is_replaced(node)).count()));
    named
}

/// Whether the node goes for a cause of this file, and not to make the fleet smaller.
pub(super) fn is_replaced(node: &LeavingNode) -> bool {
    node.cause == LeaveCause::Asked
}
