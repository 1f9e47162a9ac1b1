//! What the files about nodes on their way out share.

use crds::{DrainStep, LeavingNode};

use super::said::Said;
use crate::pod::PodView;

/// `controller.kubernetes.io/pod-deletion-cost` of a pod that is to go first: the lowest that the ReplicaSet
/// controller reads.
pub(super) const LOWEST_COST: i32 = i32::MIN;
/// The words for waiting without a quorum.
pub(super) const UNKNOWN: &str = "too few nodes have fresh figures";
/// The words for waiting while a node that serves does not hear the others.
pub(super) const UNHEARD: &str = "a node that serves does not hear the backplane";

/// The pod of a node on its way out.
pub(super) fn pod_of<'a>(node: &LeavingNode, pods: &'a [PodView]) -> Option<&'a PodView> {
    pods.iter().find(|pod| pod.uid == node.pod_uid && !pod.terminating)
}

/// How many nodes of a Deployment are on their way out, at a step that `at` takes.
pub(super) fn count(
    going: &[LeavingNode],
    pods: &[PodView],
    deployment: &str,
    at: impl Fn(DrainStep) -> bool,
) -> i32 {
    let of = |node: &&LeavingNode| pod_of(node, pods).is_some_and(|pod| pod.deployment == deployment);
    i32::try_from(going.iter().filter(|node| at(node.step)).filter(of).count()).unwrap_or(i32::MAX)
}

/// Whether a pod is a node on its way out.
pub(super) fn goes(going: &[LeavingNode], pod: &PodView) -> bool {
    going.iter().any(|node| node.pod_uid == pod.uid)
}

/// The nodes that clients are sent to, and that stay.
pub(super) fn sound<'a>(going: &[LeavingNode], pods: &'a [PodView]) -> impl Iterator<Item = &'a PodView> {
    let serves = |pod: &PodView| pod.ready && pod.endpoint_ready != Some(false) && pod.answers();
    pods.iter().filter(move |pod| !pod.terminating && serves(pod) && !goes(going, pod))
}

/// Takes back the nodes for which `why` gives a sentence. The arbiter tells nodes that are not recorded any more to serve.
pub(super) fn back(
    going: &mut Vec<LeavingNode>,
    said: &mut Said,
    mut why: impl FnMut(&LeavingNode) -> Option<String>,
) {
    going.retain(|node| {
        let back = why(node);
        let stays = back.is_none();
        back.into_iter().for_each(|sentence| said.more("DrainCancelled", false, sentence));
        stays
    });
}

/// How many connections there are, for a sentence.
pub(super) fn so_many(connections: Option<i64>) -> String {
    connections.map_or("an unknown number of".to_owned(), |connections| connections.to_string())
}
