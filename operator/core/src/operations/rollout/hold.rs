//! A rollout that is held: its nodes stay as they are, and the fleet follows its load with those that work.

use crds::{DrainStep, LeaveCause, LeavingNode};
use node_core::admin::NodePhase;

use super::gate::READY_MILLIS;
use super::{back, grow, is_old, old_staying, some_back};
use crate::observation::DeploymentView;
use crate::operations::going::{goes, pod_of};
use crate::operations::leave;
use crate::operations::plan::{FleetView, Held, Plan};
use crate::operations::said::Said;
use crate::pod::PodView;

/// Takes back the nodes that were to go for the rollout, and lets what is missing come in the Deployment of before. A node that
/// goes since fewer are wanted goes on.
pub(super) fn hold(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    held: Held,
    fleet: &FleetView<'_>,
    current: &DeploymentView,
    plan: &mut Plan,
    said: &mut Said,
) {
    let stays = |node: &LeavingNode| {
        let vacant = pod_of(node, fleet.pods).is_none_or(PodView::vacant);
        let goes_on = matches!(node.step, DrainStep::Closing | DrainStep::Removing) && !vacant;
        (held == Held::Asked && goes_on) || leave::committed(node, fleet) || node.cause != LeaveCause::Rollout
    };
    back(going, said, |node| !stays(node));
    plan.wait(match held {
        Held::Asked => "the rollout is paused".to_owned(),
        Held::Worse => "the new nodes do worse than the old ones".to_owned(),
    });
    let new = working(going, fleet, current);
    let missing = fleet.desired - old_staying(going, fleet) - new;
    // New nodes are there beside the nodes wanted, as many as the surge has.
    let surplus = -missing - new.min(fleet.rollout.surge.of(fleet.desired));
    if surplus > 0 {
        let old: Vec<_> = fleet.pods.iter().filter(|pod| is_old(pod, current)).cloned().collect();
        leave::join(going, surplus, dropped, &old, fleet, plan, said);
        return;
    }
    let was_too_many = |node: &LeavingNode, _: &PodView| node.cause == LeaveCause::ScaleIn;
    let missing = missing - some_back(going, fleet, missing, said, was_too_many);
    let old = fleet.deployments.iter().filter(|of| !of.current && of.replicas > 0);
    let works = |of: &DeploymentView| fleet.pods.iter().any(|pod| pod.ready && pod.deployment == of.name);
    let before = old.max_by_key(|of| (works(of), of.revision)).unwrap_or(current);
    grow(going, fleet, before, missing, plan);
}

/// The nodes of the current template that are there to stay, but for those that do not come up.
fn working(going: &[LeavingNode], fleet: &FleetView<'_>, current: &DeploymentView) -> i32 {
    let broken = |pod: &&PodView| is_broken(pod, current, fleet.now) && !goes(going, pod);
    let broken = fleet.pods.iter().filter(broken).count();
    let staying = leave::staying(going, fleet.pods, std::slice::from_ref(current));
    staying.saturating_sub(i32::try_from(broken).unwrap_or(i32::MAX))
}

/// Whether it is a node of the current template that should serve by now and does not. One that answers is ready, or was told not
/// to be.
fn is_broken(pod: &PodView, current: &DeploymentView, now: u64) -> bool {
    let runs = pod.node.is_some_and(|node| node.answers && node.phase != NodePhase::Starting);
    let late = pod.dead || pod.restarts > 0 || now.saturating_sub(pod.created) > READY_MILLIS;
    !pod.terminating && pod.deployment == current.name && !pod.ready && !runs && late
}
