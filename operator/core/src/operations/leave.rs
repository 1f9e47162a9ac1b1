//! Which nodes are to go, and why.
//!
//! Nodes that are to go are recorded, and stay the same ones from look to look. When fewer nodes are wanted than stay, the
//! cheapest ones join them; when more are wanted, the fullest of them are taken back, since they cost their clients most, and
//! only then the fleet grows. Nodes that Kubernetes was told to remove already are not taken back. Nodes that are to go whatever
//! the load is, named by a person ([`replace`]) or since their machines go (`machine.rs`), do not count among those that
//! stay, and others come in their stead.

use std::cmp::{Ordering, Reverse};

use crds::{DrainStep, LeaveCause, LeavingNode, MAX_LEAVING_NODES};

use super::going::{self, UNHEARD, UNKNOWN, goes, pod_of};
use super::pick;
use super::plan::{FleetView, Plan};
use super::replace;
use super::said::Said;
use crate::observation::DeploymentView;
use crate::pod::{PodView, alive_of};
use crate::timestamp::time;

/// Nodes that are there to stay: the replicas without the nodes that are to go and still counted in them.
pub(super) fn staying(going: &[LeavingNode], pods: &[PodView], deployments: &[DeploymentView]) -> i32 {
    let staying = |of: &DeploymentView| {
        let surplus = (alive_of(pods, &of.name) - of.replicas).max(0);
        of.replicas - (going::count(going, pods, &of.name, |_| true) - surplus).max(0)
    };
    deployments.iter().map(staying).fold(0, i32::saturating_add)
}

/// Changes which nodes are to go so that as many stay as are wanted. `dropped` has the UIDs of pods that just proved not to be
/// removable.
pub(super) fn decide(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    plan: &mut Plan,
    said: &mut Said,
) {
    reconsider(going, fleet, said);
    let named = replace::named(going, dropped, fleet);
    let staying = staying(going, fleet.pods, fleet.deployments) - count(&named);
    match fleet.desired.cmp(&staying) {
        Ordering::Greater => take_back(going, fleet.desired - staying, fleet, plan, said),
        Ordering::Less => join(going, staying - fleet.desired, dropped, fleet.pods, fleet, plan, said),
        Ordering::Equal => {}
    }
    let_go(&named, going, fleet, plan, said);
}

fn count(pods: &[&PodView]) -> i32 {
    i32::try_from(pods.len()).unwrap_or(i32::MAX)
}

/// Takes back so many nodes, and makes the fleet larger by what is missing then.
fn take_back(
    going: &mut Vec<LeavingNode>,
    missing: i32,
    fleet: &FleetView<'_>,
    plan: &mut Plan,
    said: &mut Said,
) {
    // The arbiter tells the nodes that are not recorded any more to serve.
    let fixed = |node: &LeavingNode| replace::is_replaced(node) || node.cause == LeaveCause::Machine;
    let may = |node: &LeavingNode| !fixed(node) && !committed(node, fleet);
    let mut may: Vec<usize> = (0..going.len()).filter(|at| may(&going[*at])).collect();
    may.sort_by_key(|at| {
        let node = &going[*at];
        (node.step == DrainStep::Removing, Reverse(node.connections.unwrap_or(i64::MAX)))
    });
    may.truncate(usize::try_from(missing).unwrap_or_default());
    let back = i32::try_from(may.len()).unwrap_or(i32::MAX);
    may.sort_unstable();
    for at in may.into_iter().rev() {
        let node = going.remove(at);
        said.more(
            "DrainCancelled",
            false,
            format!("{} nodes are wanted: {} is taken back", fleet.desired, node.pod),
        );
    }
    plan.actions.extend(fleet.grow(fleet.replicas + missing - back));
}

/// Whether Kubernetes may remove the pod at any moment.
pub(super) fn committed(node: &LeavingNode, fleet: &FleetView<'_>) -> bool {
    let pod = fleet.pods.iter().find(|pod| pod.uid == node.pod_uid);
    node.step == DrainStep::Removing && pod.is_some_and(|pod| fleet.lowered(&pod.deployment))
}

/// Lets so many more of these nodes go.
pub(super) fn join(
    going: &mut Vec<LeavingNode>,
    surplus: i32,
    dropped: &[String],
    pods: &[PodView],
    fleet: &FleetView<'_>,
    plan: &mut Plan,
    said: &mut Said,
) {
    if let Some(why) = obstacle(going, fleet) {
        plan.wait(why);
        return;
    }
    if unmade(surplus, fleet, plan) {
        return;
    }
    if !fleet.heard {
        plan.wait(UNHEARD.to_owned());
        return;
    }
    let room = MAX_LEAVING_NODES.saturating_sub(going.len());
    let most = usize::try_from(surplus).unwrap_or_default().min(room);
    let mut more = pick::ranked(pods);
    more.retain(|pod| !dropped.contains(&pod.uid) && !goes(going, pod) && !pod.is_asked_to_go());
    more.truncate(most);
    for pod in more {
        if pod.ready && !fleet.quorum {
            // This also holds in mode Manual: the node would be out of service for as long as the figures are missing.
            plan.wait(UNKNOWN.to_owned());
            return;
        }
        said.more("DrainStarted", false, format!("{} goes{}", pod.name, pick::why(pod)));
        going.push(leaving(pod, LeaveCause::ScaleIn, fleet.now));
    }
}

/// A node that begins to go.
pub(super) fn leaving(pod: &PodView, cause: LeaveCause, now: u64) -> LeavingNode {
    LeavingNode {
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        cause,
        why: None,
        // A pod without a process has no connections, is not in the Service, and takes no order.
        step: if pod.vacant() { DrainStep::Removing } else { DrainStep::Unready },
        step_at: time(now),
        connections: pick::held(pod),
        connections_per_second: None,
    }
}

/// The reason why no further node may be picked now.
pub(super) fn obstacle(going: &[LeavingNode], fleet: &FleetView<'_>) -> Option<String> {
    if !fleet.settled {
        return Some("a rollout is under way".to_owned());
    }
    // The unseen pods may serve: a watch that hangs must not take them away.
    fleet.unseen().or_else(|| {
        fleet.deployments.iter().find_map(|of| {
            let alive = alive_of(fleet.pods, &of.name);
            let removing = going::count(going, fleet.pods, &of.name, |step| step == DrainStep::Removing);
            let others = alive - of.replicas > removing;
            others.then(|| format!("{alive} pods for {} replicas", of.replicas))
        })
    })
}

/// Lowers the replicas by pods that were never made: they need no drain. Says whether there are such pods.
fn unmade(mut surplus: i32, fleet: &FleetView<'_>, plan: &mut Plan) -> bool {
    let before = surplus;
    for deployment in fleet.deployments {
        let never = deployment.replicas - alive_of(fleet.pods, &deployment.name);
        let fewer = never.min(surplus);
        if fewer > 0 {
            surplus -= fewer;
            plan.actions.push(deployment.set(deployment.replicas - fewer));
        }
    }
    surplus < before
}

/// Takes nodes back that are named no more.
fn reconsider(going: &mut Vec<LeavingNode>, fleet: &FleetView<'_>, said: &mut Said) {
    let unnamed = |node: &LeavingNode| {
        replace::is_replaced(node) && pod_of(node, fleet.pods).is_some_and(|pod| !pod.is_asked_to_go())
    };
    going::back(going, said, |node| {
        let back = unnamed(node) && !committed(node, fleet);
        back.then(|| format!("{} is to stay: it is taken back", node.pod))
    });
}

/// Lets the named nodes go for which others are ready.
fn let_go(
    named: &[&PodView],
    going: &mut Vec<LeavingNode>,
    fleet: &FleetView<'_>,
    plan: &mut Plan,
    said: &mut Said,
) {
    if named.is_empty() {
        return;
    }
    let obstacle = obstacle(going, fleet).or_else(|| (!fleet.heard).then(|| UNHEARD.to_owned()));
    if let Some(why) = obstacle {
        plan.wait(why);
        return;
    }
    let serves = |pod: &&PodView| pod.ready && !pod.terminating && !goes(going, pod);
    let serving = fleet.pods.iter().filter(serves).count();
    let mut spare = serving.saturating_sub(usize::try_from(fleet.desired).unwrap_or_default());
    for pod in named {
        if pod.ready && !fleet.quorum {
            plan.wait(UNKNOWN.to_owned());
            return;
        }
        if pod.ready && spare == 0 {
            plan.wait(format!("no other node is ready in the stead of {}", pod.name));
            return;
        }
        spare -= usize::from(pod.ready);
        if going.len() < MAX_LEAVING_NODES {
            let held = pick::held(pod).map_or("unknown".to_owned(), |held| held.to_string());
            let message = format!("{} goes, since a person asked for it; {held} connections", pod.name);
            said.more("DrainStarted", false, message);
            going.push(leaving(pod, LeaveCause::Asked, fleet.now));
        }
    }
}
