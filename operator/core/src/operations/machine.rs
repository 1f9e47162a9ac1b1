//! Nodes whose machines are about to go.
//!
//! They are recorded as on their way out at once, so that the fleet grows by as many; only nodes that are wanted and stay count.
//! They go on serving (`Replacing`) until half of the nodes that are wanted are ready elsewhere, then leave the Service together,
//! so that no client is sent from one to another, and keep their clients until all that are wanted are ready elsewhere. A
//! machine that leaves less time, or a cluster that has no room, ends the waiting: [`patience`]. From there on they are drained
//! like others, at the fleet's one pace, and evictions find the disruption budget exhausted meanwhile.
//!
//! No more nodes than are wanted are replaced at a time, so a fleet at most doubles, whatever happens to its machines.

use crds::{DrainStep, LeaveCause, LeavingNode, MAX_LEAVING_NODES};

use super::going::{self, UNKNOWN, pod_of};
use super::leave;
use super::plan::{FleetView, Plan};
use super::said::Said;
use crate::machine::{Doom, Fate, Haste};
use crate::pod::PodView;
use crate::timestamp::{millis, time};

/// For so long a node waits for others at each of its two steps, in milliseconds: a machine is added within this time, mostly.
pub(super) const PATIENCE_MILLIS: u64 = 120_000;
/// The same when the machine is gone within two minutes or less.
pub(super) const SOON_MILLIS: u64 = 10_000;
/// So long an evicted pod stays in the record, in milliseconds: its controller has made another one by then, which was to come
/// already, and which is taken away again.
const EVICTED_MILLIS: u64 = 30_000;

#[cfg(test)]
mod tests;

/// Why the machine of a node goes, if it goes and the node is not gone yet.
fn doom(pod: &PodView) -> Option<&Doom> {
    match &pod.fate {
        Fate::Goes(doom) if !pod.terminating => Some(doom),
        _ => None,
    }
}

/// Whether any machine with a node is about to go.
pub(super) fn any(fleet: &FleetView<'_>) -> bool {
    fleet.pods.iter().any(|pod| doom(pod).is_some())
}

/// How many nodes that are there go because of their machines.
pub(super) fn count(going: &[LeavingNode], fleet: &FleetView<'_>) -> i32 {
    let there = going.iter().filter(|node| node.cause == LeaveCause::Machine);
    i32::try_from(there.filter(|node| pod_of(node, fleet.pods).is_some()).count()).unwrap_or(i32::MAX)
}

/// Records the nodes whose machines go, and takes back those whose machines stay. `dropped` has the UIDs of pods that just proved
/// not to be removable.
pub(super) fn decide(
    going: &mut Vec<LeavingNode>,
    dropped: &[String],
    fleet: &FleetView<'_>,
    said: &mut Said,
) {
    going::back(going, said, |node| {
        let stays = node.cause == LeaveCause::Machine
            && node.step != DrainStep::Removing
            && pod_of(node, fleet.pods).is_some_and(|pod| pod.fate == Fate::Stays);
        stays.then(|| format!("its machine stays: {} is taken back", node.pod))
    });
    let most = fleet.desired.max(1);
    let mut there = count(going, fleet);
    for pod in fleet.pods {
        let Some(doom) = doom(pod).filter(|_| !dropped.contains(&pod.uid)) else { continue };
        if let Some(node) = going.iter_mut().find(|node| node.pod_uid == pod.uid) {
            if node.cause != LeaveCause::Machine {
                there += 1;
            }
            (node.cause, node.why) = (LeaveCause::Machine, Some(doom.why.clone()));
        } else if there < most && going.len() < MAX_LEAVING_NODES {
            there += 1;
            said.more("MachineGoes", false, format!("{} goes, since {}", pod.name, doom.why));
            going.push(replacing(pod, doom, fleet.now));
        }
    }
}

/// A node that begins to go with its machine.
fn replacing(pod: &PodView, doom: &Doom, now: u64) -> LeavingNode {
    let (step, why) = (DrainStep::Replacing, Some(doom.why.clone()));
    LeavingNode { step, why, ..leave::leaving(pod, LeaveCause::Machine, now) }
}

/// How many nodes clients are sent to, and stay.
fn sound(going: &[LeavingNode], fleet: &FleetView<'_>) -> i32 {
    i32::try_from(going::sound(going, fleet.pods).count()).unwrap_or(i32::MAX)
}

/// How long a node waits for others at a step, in milliseconds.
fn patience(pod: &PodView) -> u64 {
    match doom(pod).map(|doom| doom.haste) {
        Some(Haste::Soon) => SOON_MILLIS,
        Some(Haste::Normal) | None => PATIENCE_MILLIS,
    }
}

fn is_late(node: &LeavingNode, pod: &PodView, now: u64) -> bool {
    now.saturating_sub(millis(&node.step_at)) >= patience(pod)
}

/// The UIDs of the nodes that may leave the Service now, since there are enough others.
pub(super) fn leave_now(going: &[LeavingNode], fleet: &FleetView<'_>, plan: &mut Plan) -> Vec<String> {
    let sound = sound(going, fleet);
    let mut leave = Vec::new();
    for node in going.iter().filter(|node| node.step == DrainStep::Replacing) {
        let Some(pod) = pod_of(node, fleet.pods).filter(|pod| !pod.vacant()) else { continue };
        if !fleet.quorum {
            plan.wait(UNKNOWN.to_owned());
        } else if sound > 0 && (sound >= fleet.desired - sound || is_late(node, pod, fleet.now)) {
            leave.push(node.pod_uid.clone());
        } else {
            plan.wait(format!("{} serves until others are ready", pod.name));
        }
    }
    leave
}

/// The UIDs of the nodes that are out of the Service and keep their clients until there are nodes in their stead.
pub(super) fn kept(going: &[LeavingNode], fleet: &FleetView<'_>) -> Vec<String> {
    if sound(going, fleet) >= fleet.desired {
        return Vec::new();
    }
    let waits = |node: &&LeavingNode| node.cause == LeaveCause::Machine && node.step == DrainStep::Waiting;
    let keeps =
        |node: &&LeavingNode| pod_of(node, fleet.pods).is_some_and(|pod| !is_late(node, pod, fleet.now));
    going.iter().filter(waits).filter(keeps).map(|node| node.pod_uid.clone()).collect()
}

/// Whether the pod of a node that goes with its machine is being deleted, and for how long that is worth to know: until its
/// controller has made another pod, and that one is gone again.
pub(super) fn is_evicted(node: &mut LeavingNode, fleet: &FleetView<'_>, said: &mut Said) -> bool {
    let ends = fleet.pods.iter().any(|pod| pod.uid == node.pod_uid && pod.terminating);
    if node.cause != LeaveCause::Machine || !ends {
        return false;
    }
    if node.step != DrainStep::Removing {
        (node.step, node.step_at) = (DrainStep::Removing, time(fleet.now));
        node.connections_per_second = None;
        let message = format!("{} was evicted and ends within its termination grace period", node.pod);
        said.more("NodeEvicted", false, message);
    }
    fleet.now.saturating_sub(millis(&node.step_at)) < EVICTED_MILLIS
}
