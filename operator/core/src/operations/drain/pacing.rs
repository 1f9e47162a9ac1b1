//! Which of the nodes on their way out close their connections now, and how fast.
//!
//! The emptiest node comes first: while it closes, clients of the others leave by themselves, and the nodes are gone sooner
//! than if all ended together. A node gets no more than what empties it within [`HORIZON_SECONDS`], so that many almost empty
//! nodes go in one look; what nobody needs goes to the first one, so that a pace changes only where another node has a use for
//! it. A node that may be closing and takes no order now keeps its part of the budget.

use crds::{DrainStep, LeavingNode};
use node_core::admin::NodePhase;

use crate::operations::budget::Budget;
use crate::operations::going::{UNKNOWN, goes, pod_of, so_many};
use crate::operations::machine;
use crate::operations::plan::{Action, FleetView, Plan};
use crate::operations::rollout;
use crate::operations::said::Said;
use crate::pod::PodView;
use crate::timestamp::{millis, time};

/// Within so many seconds a node is to be empty if the budget is large enough: the time between two looks.
const HORIZON_SECONDS: u64 = 2;

/// For so long no node joined the ones that go before one with clients begins to close, in milliseconds: a load that fades
/// over a minute lets a few nodes go in each look, and clients would be sent to those of the next.
pub(super) const GATHER_MILLIS: u64 = 8_000;
/// So long after the operation began that is not waited for any more, in milliseconds: the stable window's usual length.
const GATHERED_MILLIS: u64 = 60_000;

/// A node that can take an order to close.
struct Candidate<'a> {
    /// Its position among the nodes that go.
    at: usize,
    pod: &'a PodView,
    /// Connections that it has.
    held: u64,
}

/// Gives each node its pace.
pub(super) fn pace(
    going: &mut [LeavingNode],
    started: u64,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
    said: &mut Said,
) {
    if !going.iter().any(|node| matches!(node.step, DrainStep::Waiting | DrainStep::Closing)) {
        return;
    }
    if !fleet.quorum {
        plan.wait(UNKNOWN.to_owned());
        return;
    }
    if !receives(going, fleet) {
        budget.take_all();
        plan.wait("no node that stays is ready to take clients".to_owned());
    }
    let open = going.iter().all(|node| node.step != DrainStep::Unready);
    let gathered = gathered(going, started, fleet.now);
    let mut kept = rollout::kept(going, fleet);
    kept.extend(machine::kept(going, fleet));
    let candidates = candidates(going, fleet, open, gathered, &kept);
    for (pod, pace) in fleet.paces.all() {
        if !candidates.iter().any(|candidate| candidate.pod.name == pod) {
            budget.take(pace.per_second);
        }
    }
    let given = share(&candidates, fleet, budget);
    let mut faster = Vec::new();
    for (Candidate { at, pod, .. }, rate) in candidates.iter().zip(given) {
        let node = &mut going[*at];
        if rate == 0 {
            hold(node, pod, fleet, plan);
            continue;
        }
        if node.step == DrainStep::Waiting {
            (node.step, node.step_at) = (DrainStep::Closing, time(fleet.now));
            let held = so_many(node.connections);
            let message =
                format!("{} is out of the Service, closes {held} connections at {rate}/s", pod.name);
            said.more("DrainClosing", false, message);
        }
        node.connections_per_second = Some(rate);
        let before = fleet.paces.of(&pod.name).filter(|_| closes(pod));
        if before.is_some_and(|before| before.sure && before.per_second == rate) {
            continue;
        }
        let slower = before.is_some_and(|before| before.per_second > rate);
        let order = Action::Close { pod: pod.name.clone(), rate, slower };
        if slower { plan.actions.push(order) } else { faster.push(order) }
    }
    plan.actions.append(&mut faster);
    if open && gathered {
        silent(going, fleet, &kept);
    }
}

/// Whether no more nodes are likely to join those that go, so that clients are not sent to them.
fn gathered(going: &[LeavingNode], started: u64, now: u64) -> bool {
    let lately = |node: &LeavingNode| {
        node.step == DrainStep::Waiting && now.saturating_sub(millis(&node.step_at)) < GATHER_MILLIS
    };
    now.saturating_sub(started) >= GATHERED_MILLIS || !going.iter().any(lately)
}

/// Whether a node that stays can take clients.
fn receives(going: &[LeavingNode], fleet: &FleetView<'_>) -> bool {
    fleet.pods.iter().any(|pod| pod.ready && !pod.terminating && !goes(going, pod))
}

/// Whether the node says that it closes connections.
fn closes(pod: &PodView) -> bool {
    pod.node.is_some_and(|node| node.phase == NodePhase::Closing)
}

/// The nodes that may close connections and answer, the emptiest first. While `open` is not set a node is still in the Service,
/// and only those that began before go on; as long as not all are `gathered` only nodes without clients begin; those that are
/// `kept` wait for new nodes in their stead.
fn candidates<'a>(
    going: &[LeavingNode],
    fleet: &FleetView<'a>,
    open: bool,
    gathered: bool,
    kept: &[String],
) -> Vec<Candidate<'a>> {
    let may = |node: &LeavingNode| match node.step {
        DrainStep::Closing => true,
        DrainStep::Waiting if kept.contains(&node.pod_uid) => false,
        DrainStep::Waiting => open && (gathered || node.connections == Some(0)),
        DrainStep::Replacing | DrainStep::Unready | DrainStep::Removing => false,
    };
    let candidate = |(at, node): (usize, &LeavingNode)| {
        let pod = pod_of(node, fleet.pods).filter(|pod| may(node) && pod.answers())?;
        Some(Candidate { at, pod, held: pod.node?.connections })
    };
    let mut candidates: Vec<_> = going.iter().enumerate().filter_map(candidate).collect();
    // While it is not known whether the last order came, the node may close as fast as before, whatever it is given now.
    let unsure = |pod: &PodView| fleet.paces.of(&pod.name).is_some_and(|pace| !pace.sure);
    candidates.sort_by_key(|Candidate { at, pod, held }| {
        (!unsure(pod), *held, going[*at].step != DrainStep::Closing, *at)
    });
    candidates
}

/// The pace of each candidate in connections per second; 0 for one that has to wait.
fn share(candidates: &[Candidate<'_>], fleet: &FleetView<'_>, budget: &mut Budget) -> Vec<u32> {
    let need = |held: u64| u32::try_from(held.div_ceil(HORIZON_SECONDS).max(1)).unwrap_or(u32::MAX);
    let needed = candidates.iter().fold(0, |sum: u32, candidate| sum.saturating_add(need(candidate.held)));
    let mut spare = budget.left().saturating_sub(needed);
    let share = |candidate: &Candidate<'_>| {
        let need = need(candidate.held);
        let told = fleet.paces.of(&candidate.pod.name).filter(|pace| pace.sure).map(|pace| pace.per_second);
        let keeps = told.filter(|told| *told >= need).map_or(spare, |told| (told - need).min(spare));
        spare -= keeps;
        let given = budget.take(need.saturating_add(keeps));
        let may = fleet.paces.of(&candidate.pod.name).filter(|pace| !pace.sure).map(|pace| pace.per_second);
        budget.take(may.map_or(0, |may| may.saturating_sub(given)));
        given
    };
    candidates.iter().map(share).collect()
}

/// Lets a node wait for its turn.
fn hold(node: &mut LeavingNode, pod: &PodView, fleet: &FleetView<'_>, plan: &mut Plan) {
    if node.step == DrainStep::Closing {
        (node.step, node.step_at) = (DrainStep::Waiting, time(fleet.now));
    }
    node.connections_per_second = None;
    if closes(pod) {
        plan.actions.push(Action::Hold { pod: pod.name.clone() });
    }
}

/// Begins the deadline of nodes that would be told to close now, but do not answer: they are told once they do.
fn silent(going: &mut [LeavingNode], fleet: &FleetView<'_>, kept: &[String]) {
    let waits = |node: &&mut LeavingNode| node.step == DrainStep::Waiting && !kept.contains(&node.pod_uid);
    for node in going.iter_mut().filter(waits) {
        if pod_of(node, fleet.pods).is_some_and(|pod| !pod.answers()) {
            (node.step, node.step_at) = (DrainStep::Closing, time(fleet.now));
        }
    }
}
