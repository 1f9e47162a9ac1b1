//! Rollout: the nodes come to be made from another template.
//!
//! The Deployment of the wanted template is the current one. It grows by a surge; when the whole surge is ready, all nodes of
//! other templates leave the Service together, so that no client that is moved comes to a node that is to go too; and as many of
//! them close their connections as there are new nodes in their stead. While they are out of the Service all clients that arrive
//! come to the new nodes, and if the operators die then, that stays so: hence the whole surge. They go through the one drain of
//! the fleet, at its one pace. To go back is the same: the Deployment of before is the current one again, and its nodes that are
//! on their way out come back first.
//!
//! Nodes stay in the Service, or come back to it, while the new ones have no room for the clients that arrive. A rollout that
//! is held adds no node and empties none. The fleet follows its load meanwhile: what is wanted beside the nodes that work comes in
//! the Deployment of before, and what is too much goes as in any scale-in.

pub mod gate;
mod handshakes;
mod hold;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use crds::{DrainStep, LeaveCause, LeavingNode};

use super::going::{self, UNHEARD, UNKNOWN, goes, pod_of};
use super::leave;
use super::machine;
use super::pick;
use super::plan::{FleetView, Plan};
use super::said::Said;
use crate::observation::DeploymentView;
use crate::pod::{PodView, alive_of};

/// How much more of the fleet's connections than their share the new nodes may have when others leave the Service, and before
/// those come back to it, in percent.
const SHARE_PERCENT: (u64, u64) = (125, 150);
/// Connections of a node that do not count for that.
const SPARE: u64 = 100;

/// Whether a Deployment other than the current one has nodes, or is to have some.
#[must_use]
pub fn is_under_way(deployments: &[DeploymentView]) -> bool {
    deployments.iter().any(|of| !of.current && (of.replicas > 0 || of.pods > 0))
}

/// The node count that a fleet has apart from a rollout: `before` is the one that was wanted last. A rollout adds nodes for a
/// while, which say nothing about the load; nor does it say anything that no Deployment is to have nodes, as when somebody deleted
/// the one that had them.
#[must_use]
pub fn planned(deployments: &[DeploymentView], before: Option<i32>, counted: i32) -> i32 {
    let says_nothing = is_under_way(deployments) || deployments.iter().all(|of| of.replicas == 0);
    before.filter(|_| says_nothing).unwrap_or(counted)
}

/// Changes which nodes are to go, and how many the Deployments have, while nodes of several templates are there. `dropped` has
/// the UIDs of pods that just proved not to be removable.
pub(super) fn decide(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    plan: &mut Plan,
    said: &mut Said,
) {
    let Some(current) = fleet.deployments.iter().find(|of| of.current) else { return };
    if let Some(held) = fleet.rollout.held {
        hold::hold(going, dropped, held, fleet, current, plan, said);
        return;
    }
    if fleet.heard {
        vacant(going, dropped, fleet, current, said);
    }
    unmade(fleet, plan);
    let new = leave::staying(going, fleet.pods, std::slice::from_ref(current));
    let back = some_back(going, fleet, fleet.desired - new, said, |_, pod| pod.deployment == current.name);
    grow(going, fleet, current, fleet.desired - new - back, plan);
    retire(going, dropped, fleet, current, plan, said);
    shrink(going, dropped, fleet, current, plan, said);
}

/// Lets nodes of other templates go that are more than the nodes wanted, whether there are new ones or not: the new ones might
/// find no room beside them.
fn shrink(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    current: &DeploymentView,
    plan: &mut Plan,
    said: &mut Said,
) {
    let surplus = old_staying(going, fleet) - fleet.desired;
    if surplus <= 0 {
        return;
    }
    if let Some(why) = obstacle(going, fleet) {
        plan.wait(why);
        return;
    }
    let pods: Vec<PodView> = fleet.pods.iter().filter(|pod| is_old(pod, current)).cloned().collect();
    let mut may = pick::ranked(&pods);
    may.retain(|pod| !goes(going, pod));
    for pod in may.into_iter().take(usize::try_from(surplus).unwrap_or_default()) {
        leave_once(going, dropped, pod, fleet, said);
    }
}

/// Nodes of other templates that are there to stay.
fn old_staying(going: &[LeavingNode], fleet: &FleetView<'_>) -> i32 {
    let old: Vec<_> = fleet.deployments.iter().filter(|of| !of.current).cloned().collect();
    leave::staying(going, fleet.pods, &old)
}

/// Why no node that serves may begin to go now.
fn obstacle(going: &[LeavingNode], fleet: &FleetView<'_>) -> Option<String> {
    if let Some(why) = leave::obstacle(going, fleet) {
        return Some(why);
    }
    if !fleet.heard {
        return Some(UNHEARD.to_owned());
    }
    (!fleet.quorum).then(|| UNKNOWN.to_owned())
}

fn is_old(pod: &PodView, current: &DeploymentView) -> bool {
    !pod.terminating && pod.deployment != current.name
}

/// Takes replicas of other templates away whose pods were never made.
fn unmade(fleet: &FleetView<'_>, plan: &mut Plan) {
    for old in fleet.deployments.iter().filter(|of| !of.current && of.observed) {
        let alive = alive_of(fleet.pods, &old.name);
        if old.replicas > alive && old.pods <= alive {
            plan.actions.push(old.set(alive));
        }
    }
}

/// Lets all nodes of other templates go that have no process: nobody is on them, and they hold up the others.
fn vacant(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    current: &DeploymentView,
    said: &mut Said,
) {
    for pod in fleet.pods.iter().filter(|pod| is_old(pod, current) && pod.vacant()) {
        leave_once(going, dropped, pod, fleet, said);
    }
}

fn leave_once(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    pod: &PodView,
    fleet: &FleetView<'_>,
    said: &mut Said,
) {
    let known = goes(going, pod) || dropped.contains(&pod.uid);
    if !known && going.len() < crds::MAX_LEAVING_NODES {
        said.more("DrainStarted", false, format!("{} goes, being made from another template", pod.name));
        going.push(leave::leaving(pod, LeaveCause::Rollout, fleet.now));
    }
}

/// Takes back so many of these nodes that are on their way out, those with the most connections first. Says how many there were.
fn some_back(
    going: &mut Vec<LeavingNode>,
    fleet: &FleetView<'_>,
    missing: i32,
    said: &mut Said,
    which: impl Fn(&LeavingNode, &PodView) -> bool,
) -> i32 {
    let may = |node: &&LeavingNode| {
        node.cause != LeaveCause::Machine
            && pod_of(node, fleet.pods).is_some_and(|pod| which(node, pod))
            && !leave::committed(node, fleet)
    };
    let mut may: Vec<_> = going.iter().filter(may).cloned().collect();
    may.sort_by_key(|node| std::cmp::Reverse(node.connections.unwrap_or(i64::MAX)));
    may.truncate(usize::try_from(missing).unwrap_or_default());
    back(going, said, |node| may.iter().any(|other| other.pod_uid == node.pod_uid))
}

/// Takes nodes back; the arbiter tells them to serve. Says how many there were.
fn back(going: &mut Vec<LeavingNode>, said: &mut Said, mut which: impl FnMut(&LeavingNode) -> bool) -> i32 {
    let before = going.len();
    going::back(going, said, |node| which(node).then(|| format!("{} is taken back", node.pod)));
    i32::try_from(before - going.len()).unwrap_or(i32::MAX)
}

/// Adds the nodes that are missing to a Deployment, as many as the surge allows beside those whose machines are about to go.
fn grow(
    going: &[LeavingNode],
    fleet: &FleetView<'_>,
    deployment: &DeploymentView,
    missing: i32,
    plan: &mut Plan,
) {
    let beside = machine::count(going, fleet).saturating_add(fleet.rollout.surge.of(fleet.desired));
    let most = fleet.desired.saturating_add(beside);
    let more = missing.min(most.saturating_sub(fleet.replicas));
    if more > 0 {
        plan.actions.push(deployment.set(deployment.replicas + more));
    }
}

/// Lets the nodes of other templates leave the Service once the new ones can take the clients that arrive, and come back to it
/// when they no longer can.
fn retire(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    current: &DeploymentView,
    plan: &mut Plan,
    said: &mut Said,
) {
    match room(going, fleet, current) {
        Room::None => {
            plan.wait("the new nodes have no room for more clients yet".to_owned());
            let kept = kept(going, fleet);
            let waits = |node: &LeavingNode| {
                node.cause != LeaveCause::Machine
                    && (node.step == DrainStep::Unready
                        || (node.step == DrainStep::Waiting && kept.contains(&node.pod_uid)))
            };
            // Not those that are more than the nodes wanted: they are to go whether there is room or not.
            let serving = i32::try_from(new_ready(going, fleet, current).count()).unwrap_or(i32::MAX);
            let mut missing = fleet.desired - serving - old_staying(going, fleet);
            let comes = |node: &LeavingNode| {
                let comes = missing > 0 && waits(node);
                missing -= i32::from(comes);
                comes
            };
            back(going, said, comes);
            return;
        }
        Room::Little => return,
        Room::Enough => {}
    }
    if let Some(why) = obstacle(going, fleet) {
        plan.wait(why);
        return;
    }
    for pod in fleet.pods.iter().filter(|pod| is_old(pod, current)) {
        leave_once(going, dropped, pod, fleet, said);
    }
}

/// How many more clients the new nodes can take.
enum Room {
    /// All that arrive.
    Enough,
    /// Not many: what left the Service stays out of it, and nothing more leaves it.
    Little,
    /// None.
    None,
}

/// The room of the nodes of the current template: together they may have little more than their share of the fleet's
/// connections, and none leaves the Service for them before the whole surge is ready.
fn room(going: &[LeavingNode], fleet: &FleetView<'_>, current: &DeploymentView) -> Room {
    let ready: Vec<_> = new_ready(going, fleet, current).collect();
    if ready.is_empty() {
        return Room::None;
    }
    let held = |pod: &PodView| pod.node.map_or(0, |node| node.connections);
    let all: u64 = fleet.pods.iter().map(held).sum();
    let theirs: u64 = ready.iter().map(|pod| held(pod)).sum();
    let nodes = u64::try_from(ready.len()).unwrap_or(u64::MAX);
    let share = all.div_ceil(u64::try_from(fleet.desired).unwrap_or_default().max(1)).saturating_mul(nodes);
    let most = |percent: u64| share.saturating_mul(percent) / 100 + SPARE * nodes;
    let surge = fleet.rollout.surge.of(fleet.desired).min(fleet.desired);
    let is_whole = i32::try_from(ready.len()).unwrap_or(i32::MAX) >= surge;
    match theirs {
        few if few <= most(SHARE_PERCENT.0) && is_whole => Room::Enough,
        some if some <= most(SHARE_PERCENT.1) => Room::Little,
        _ => Room::None,
    }
}

/// The nodes of the current template that clients are sent to.
fn new_ready<'a>(
    going: &'a [LeavingNode],
    fleet: &FleetView<'a>,
    current: &'a DeploymentView,
) -> impl Iterator<Item = &'a PodView> {
    going::sound(going, fleet.pods).filter(|pod| pod.deployment == current.name)
}

/// The UIDs of the nodes that are out of the Service and keep their clients until there are new nodes in their stead.
pub(super) fn kept(going: &[LeavingNode], fleet: &FleetView<'_>) -> Vec<String> {
    let Some(current) = fleet.deployments.iter().find(|of| of.current) else { return Vec::new() };
    let old = |node: &&LeavingNode| {
        pod_of(node, fleet.pods).is_some_and(|pod| is_old(pod, current) && !pod.vacant())
            && node.connections != Some(0)
    };
    let waits = |node: &&LeavingNode| node.step == DrainStep::Waiting && node.cause != LeaveCause::Machine;
    let mut waiting: Vec<_> = going.iter().filter(old).filter(waits).collect();
    if fleet.rollout.held.is_some() {
        waiting.retain(|node| node.cause == LeaveCause::Rollout);
        return waiting.into_iter().map(|node| node.pod_uid.clone()).collect();
    }
    waiting.sort_by_key(|node| node.connections.unwrap_or(i64::MAX));
    let closing = going.iter().filter(old).filter(|node| node.step == DrainStep::Closing).count();
    let serving = fleet.pods.iter().filter(|pod| is_old(pod, current) && !pod.vacant());
    let serving = serving.filter(|pod| !goes(going, pod)).count();
    let wanted = usize::try_from(fleet.desired).unwrap_or_default();
    let keep = wanted.saturating_sub(new_ready(going, fleet, current).count());
    let old = waiting.len() + closing + serving;
    let may = old.saturating_sub(keep).saturating_sub(closing);
    waiting.into_iter().skip(may).map(|node| node.pod_uid.clone()).collect()
}
