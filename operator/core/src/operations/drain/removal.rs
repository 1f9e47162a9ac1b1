//! Removes nodes that are drained: their pods get the lowest deletion cost, and the replicas of a Deployment go down by as many
//! of them as its ReplicaSet is sure to take. A cost counts once it was seen: the ReplicaSet's controller reads pods from a watch of
//! its own, and a cost that is written just before the replicas may reach it after them.

use crds::{DrainStep, LeavingNode};

use super::in_service;
use crate::observation::DeploymentView;
use crate::operations::going::{LOWEST_COST, pod_of};
use crate::operations::pick::goes_before;
use crate::operations::plan::{Action, FleetView, Plan};
use crate::pod::{PodView, alive_of};

/// Removes what is drained.
pub(super) fn remove(going: &[LeavingNode], fleet: &FleetView<'_>, plan: &mut Plan) {
    for deployment in fleet.deployments {
        remove_of(deployment, going, fleet, plan);
    }
}

fn remove_of(deployment: &DeploymentView, going: &[LeavingNode], fleet: &FleetView<'_>, plan: &mut Plan) {
    let drained = drained(&deployment.name, going, fleet);
    if drained.is_empty() {
        return;
    }
    for pod in drained.iter().filter(|pod| pod.deletion_cost != Some(LOWEST_COST)) {
        plan.actions.push(Action::DeletionCost { pod: pod.name.clone(), cost: Some(LOWEST_COST) });
    }
    let alive = alive_of(fleet.pods, &deployment.name);
    let going_already = (alive - deployment.replicas).max(0);
    let mut sure = 0;
    for pod in drained.iter().filter(|pod| pod.deletion_cost == Some(LOWEST_COST)) {
        match overtakes(pod, going, fleet).next() {
            None => sure += 1,
            Some(other) => plan.wait(format!("{} is not ready and would be removed instead", other.name)),
        }
    }
    let fewer = sure - going_already;
    if fewer <= 0 {
        plan.wait(format!("{} is about to be removed", drained[0].name));
        return;
    }
    if !fleet.settled {
        plan.wait("a rollout is under way".to_owned());
        return;
    }
    if deployment.pods > alive {
        // An unseen pod might be removed instead.
        plan.wait(format!("{} has {} pods, {alive} are seen", deployment.name, deployment.pods));
        return;
    }
    let sets =
        |action: &Action| matches!(action, Action::Replicas { deployment: of, .. } if *of == deployment.name);
    if plan.actions.iter().any(sets) {
        return; // one count is written in a look
    }
    plan.actions.push(deployment.set(deployment.replicas - fewer));
}

/// The pods of a Deployment that are drained, and still are.
fn drained<'a>(deployment: &str, going: &[LeavingNode], fleet: &FleetView<'a>) -> Vec<&'a PodView> {
    let drained = going.iter().filter(|node| node.step == DrainStep::Removing);
    let pods = drained.filter_map(|node| pod_of(node, fleet.pods));
    pods.filter(|pod| pod.deployment == deployment && !in_service(pod)).collect()
}

/// The pods that the ReplicaSet might remove in the place of one that is drained, other drained ones not among them.
pub(super) fn overtakes<'a>(
    victim: &PodView,
    going: &[LeavingNode],
    fleet: &FleetView<'a>,
) -> impl Iterator<Item = &'a PodView> {
    let drained =
        |pod: &PodView| going.iter().any(|node| node.step == DrainStep::Removing && node.pod_uid == pod.uid);
    let beside = fleet.pods.iter().filter(|pod| !pod.terminating && pod.deployment == victim.deployment);
    beside.filter(move |pod| pod.uid != victim.uid && !drained(pod) && !goes_before(victim, pod))
}
