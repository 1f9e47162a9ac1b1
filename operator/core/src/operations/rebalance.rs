//! Moving clients from nodes that have too much to nodes that have too little. Clients that are connected stay where they are,
//! so nodes that were added help nobody by themselves.
//!
//! A round: the donors are the nodes above the mean of all nodes that stay by more than the tolerance ([`uneven`] says by what),
//! and each is asked once to move as many clients as bring it down to the mean. A donor is not in the Service meanwhile, so its
//! clients come to the others. When all donors are done, or the round is given up, the figures settle before the next round
//! begins. The request is repeated in each look, since a node forgets one that is not: an operator that dies stops nothing for
//! long.
//!
//! No round begins on figures that are not known, while nodes are on their way out or fewer are wanted, while a Deployment
//! replaces pods, and for nodes that are not busy enough for it to matter. A round ends at once when the nodes that receive the
//! clients begin to refuse connections or to take long to accept them. A donor that takes no order stops no other: it forgets
//! its request by itself.
//!
//! A person may ask for one round, by an annotation: it begins in every mode, and also where no node is busy.

use crds::{Donor, HotRoomStatus, Moves, Operation, RebalanceMode, RebalanceOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use node_core::admin::{RebalanceRequest, VERSION};

use super::budget::Budget;
use super::machine;
use super::plan::{Action, Balance, FleetView, Plan, Running};
use super::said::Said;
use crate::pod::PodView;
use crate::timestamp::{millis, time};
use crate::wishes::PATIENCE_MILLIS;

#[cfg(test)]
mod tests;
mod uneven;

/// A node forgets a request that was not repeated for so long, in milliseconds: five looks.
pub const LEASE_MILLIS: u64 = 10_000;
/// The figures settle for so long after a round, in milliseconds: rates are taken over 10 s.
pub const SETTLE_MILLIS: u64 = 15_000;
/// A client is moved once within so long, in milliseconds, and a room that moving cannot help with is left alone for so long.
pub const ONCE_MILLIS: u64 = 600_000;
/// What a request says of ages is from when it was sent, so much before it is read at most, in milliseconds: the operator waits
/// 1.5 s for an answer, and the clocks of two operators that lead one after the other differ a little.
const UNDER_WAY_MILLIS: u64 = 5_000;
/// A round is given up when too little has been known of the fleet for so long, in milliseconds. An operator that begins to lead
/// knows enough after a few looks.
const UNKNOWN_MILLIS: u64 = 60_000;
/// The time that `rebalance.maxMovesPerHour` speaks of, in milliseconds.
const HOUR_MILLIS: u64 = 3_600_000;
/// When a node takes so long to accept 99 of 100 connections, in milliseconds, no more clients are sent to it: clients of
/// Phoenix give up after 10 s, and a node at rest takes a few milliseconds.
pub const SLOW_MILLIS: u64 = 1_000;
/// Refused handshakes per second from which on a node counts as refusing clients: a few are always refused for their own faults.
const REFUSES: f64 = 20.0;
/// Most nodes that give clients away in one round.
pub const MAX_DONORS: usize = 50;

/// The action that the Events of a rebalance name.
const ACTION: &str = "Rebalance";

impl Running for RebalanceOperation {
    fn holds(&self, _: &str) -> bool {
        false
    }

    fn leaving(&self) -> usize {
        0
    }

    fn places(&self) -> Vec<(&str, &'static str)> {
        Vec::new()
    }

    fn headline(&self) -> String {
        format!("Rebalancing {} nodes", self.donors.len())
    }

    fn condition(&self) -> (&'static str, String) {
        ("NoDrain", String::new())
    }

    fn clear_figures(&mut self) {
        self.donors.iter_mut().for_each(|donor| donor.moved = 0);
    }
}

/// What is remembered of the moves, within their windows.
fn remembered(fleet: &FleetView<'_>) -> Moves {
    let now = fleet.now;
    let mut moves = fleet.moves.cloned().unwrap_or_else(|| Moves {
        since: time(now),
        moved: 0,
        window_at: time(now),
        ended_at: None,
        asked_at: None,
        hot_room: None,
    });
    if now.saturating_sub(millis(&moves.since)) >= HOUR_MILLIS {
        (moves.since, moves.moved) = (time(now), 0);
    }
    moves.hot_room =
        moves.hot_room.filter(|hot| hot.since.as_ref().is_some_and(|since| !is_long_ago(since, now)));
    moves
}

/// Whether a client that was moved at this time may be moved again.
fn is_long_ago(at: &Time, now: u64) -> bool {
    now.saturating_sub(millis(at)) >= ONCE_MILLIS
}

/// Begins a round if the load is uneven, or says that it is.
pub(super) fn begin(fleet: &FleetView<'_>, budget: &mut Budget, plan: &mut Plan) {
    let mut moves = remembered(fleet);
    let asked = asked(fleet, &moves);
    if fleet.rebalance.mode == RebalanceMode::Disabled && asked.is_none() {
        plan.balance = Balance::Off;
        return;
    }
    plan.moves = fleet.moves.map(|_| moves.clone());
    let left = moves.hot_room.as_ref().map(|hot| hot.pod.as_str());
    let Some(mut donors) = uneven::donors(fleet, left, asked.is_some()) else {
        plan.balance = Balance::Unknown;
        return;
    };
    let hot = moves.hot_room.as_ref().map(|hot| Balance::HotRoom(sentence(hot)));
    let Some(first) = donors.first() else {
        plan.balance = hot.unwrap_or(Balance::Even);
        if asked.is_some() {
            moves.asked_at = asked;
            plan.moves = Some(moves);
            let message = "a rebalance was asked for, and no node has too much".to_owned();
            plan.note(ACTION, "RebalanceNotNeeded", false, message);
        }
        return;
    };
    plan.balance = Balance::Uneven(first.state());
    let wanted = fleet.rebalance.mode == RebalanceMode::Auto || asked.is_some();
    if !wanted || obstacle(fleet, &moves, first.hot) {
        return;
    }
    let room =
        u64::from(fleet.rebalance.max_moves_per_hour).saturating_sub(u64::try_from(moves.moved).unwrap_or(0));
    uneven::bound(&mut donors, room);
    let Some(first) = donors.first() else { return };
    let mut said = Said::default();
    said.more("RebalanceStarted", false, first.why(donors.len()));
    said.tell(ACTION, plan);
    let nobody = moves.moved == 0 && millis(&moves.since) <= millis(&moves.window_at);
    if nobody || moves.ended_at.as_ref().is_none_or(|at| is_long_ago(at, fleet.now)) {
        moves.window_at = time(fleet.now);
    }
    if moves.moved == 0 {
        moves.since = time(fleet.now);
    }
    let operation = RebalanceOperation {
        id: format!("{:x}", fleet.now),
        started_at: time(fleet.now),
        asked: asked.is_some(),
        unknown_since: None,
        donors: donors.iter().map(uneven::Uneven::donor).collect(),
    };
    moves.asked_at = asked.or(moves.asked_at);
    ask(&operation, &moves, fleet, budget, plan);
    plan.balance = Balance::Moving(operation.headline());
    plan.moves = Some(moves);
    plan.operation = Some(Operation::Rebalance(operation));
}

/// When a person asked for a round, if that is not long ago and was not answered yet.
fn asked(fleet: &FleetView<'_>, moves: &Moves) -> Option<Time> {
    let at = fleet.rebalance_asked.filter(|at| fleet.now.abs_diff(*at) < PATIENCE_MILLIS)?;
    Some(time(at)).filter(|at| moves.asked_at.as_ref() != Some(at))
}

fn sentence(hot: &HotRoomStatus) -> String {
    format!(
        "{} is kept busy by the room {}, which is larger than what moving clients can help with: more rooms, or fewer members in it, would",
        hot.pod, hot.topic
    )
}

/// Whether no round may begin now. `hot` says that a donor is full, for which nothing is waited for.
fn obstacle(fleet: &FleetView<'_>, moves: &Moves, hot: bool) -> bool {
    let settles = |at| fleet.now.saturating_sub(millis(at)) < SETTLE_MILLIS;
    let starting = fleet.pods.iter().any(|pod| !pod.terminating && !pod.ready);
    !may(fleet) || moves.ended_at.as_ref().is_some_and(settles) || (starting && !hot)
}

/// Whether clients may be moved at all now.
fn may(fleet: &FleetView<'_>) -> bool {
    let one_template =
        fleet.deployments.iter().all(|deployment| deployment.current || deployment.replicas == 0);
    is_known(fleet) && one_template && fleet.desired >= fleet.replicas
}

/// Whether enough is known of the fleet to say where clients should be.
const fn is_known(fleet: &FleetView<'_>) -> bool {
    fleet.heard && fleet.quorum && fleet.settled
}

/// Tells the donors what to move, at a pace that all of them share.
fn ask(
    operation: &RebalanceOperation,
    moves: &Moves,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let pace = fleet.rebalance.connections_per_second.min(budget.left());
    let asked: i64 = operation.donors.iter().map(|donor| donor.asked.max(1)).sum();
    // In the look that begins the first round nobody was moved yet; the time until a donor reads this is added when it is sent.
    let age = match fleet.now.saturating_sub(millis(&moves.window_at)) {
        0 => 1,
        since => since.min(ONCE_MILLIS) + UNDER_WAY_MILLIS,
    };
    for donor in &operation.donors {
        let Some(pod) = donor_pod(donor, fleet).filter(|pod| pod.answers()) else { continue };
        let share = i64::from(pace) * donor.asked.max(1) / asked.max(1);
        let request = RebalanceRequest {
            version: VERSION,
            operation: operation.id.clone(),
            connections: u64::try_from(donor.asked).unwrap_or(0),
            writes_per_second: donor.asked_writes.and_then(|writes| u64::try_from(writes).ok()).unwrap_or(0),
            connections_per_second: budget.take(u32::try_from(share.max(1)).unwrap_or(u32::MAX)).max(1),
            min_age_millis: age,
            lease_millis: LEASE_MILLIS,
        };
        plan.actions.push(Action::Rebalance { pod: pod.name.clone(), request });
    }
}

fn donor_pod<'a>(donor: &Donor, fleet: &FleetView<'a>) -> Option<&'a PodView> {
    fleet.pods.iter().find(|pod| pod.uid == donor.pod_uid && !pod.terminating)
}

/// Goes on with a round, or ends it.
pub(super) fn go_on(
    operation: &RebalanceOperation,
    fleet: &FleetView<'_>,
    budget: &mut Budget,
    plan: &mut Plan,
) {
    let mut moves = remembered(fleet);
    let mut next = operation.clone();
    let mut said = Said::default();
    let why = give_up(operation, fleet);
    if is_known(fleet) {
        next.unknown_since = None;
    } else if why.is_none() {
        next.unknown_since.get_or_insert_with(|| time(fleet.now));
        // Nodes that are not asked again serve as before; the round goes on once more is known.
        plan.balance = Balance::Unknown;
        plan.moves = Some(moves);
        plan.operation = Some(Operation::Rebalance(next));
        return;
    }
    next.donors.retain_mut(|donor| {
        let status = donor_pod(donor, fleet).and_then(|pod| Some((pod, pod.bearing.as_ref()?)));
        let told = status.and_then(|(_, bearing)| bearing.rebalance.as_ref());
        let (Some((pod, _)), Some(status)) = (status, told.filter(|told| told.operation == operation.id))
        else {
            let stays = why.is_none() && is_asked_again(donor, operation, fleet);
            if !stays {
                // Nobody knows how many it has moved: it may have been some.
                moves.moved = moves.moved.max(1);
            }
            return stays;
        };
        donor.asked_again = false;
        let moved = i64::try_from(status.moved).unwrap_or(i64::MAX);
        moves.moved += (moved - donor.moved).max(0);
        donor.moved = moved;
        if let Some(room) = status.hot_room.as_ref().filter(|_| status.done) {
            let hot = HotRoomStatus {
                pod: donor.pod.clone(),
                topic: room.topic.clone(),
                since: Some(time(fleet.now)),
            };
            said.more("HotRoom", true, sentence(&hot));
            moves.hot_room = Some(hot);
        }
        let ends = status.done || why.is_some();
        if ends && !status.done {
            // It goes on until it hears of the end.
            moves.moved = moves.moved.max(1);
        }
        if ends && pod.answers() {
            plan.actions.push(Action::StopRebalance { pod: pod.name.clone() });
        }
        !ends
    });
    if next.donors.is_empty() {
        moves.ended_at = Some(time(fleet.now));
        let (reason, warning, message) = match why {
            Some(why) => ("RebalanceStopped", why.1, why.0),
            None => ("RebalanceDone", false, "the nodes that had too much are done".to_owned()),
        };
        said.more(reason, warning, message);
        plan.balance = Balance::Even;
    } else {
        ask(&next, &moves, fleet, budget, plan);
        plan.balance = Balance::Moving(next.headline());
        plan.operation = Some(Operation::Rebalance(next));
    }
    said.tell(ACTION, plan);
    plan.moves = Some(moves);
}

/// Whether a donor that does not know the round is asked: when the round has just begun, and once when it forgot the request since
/// no operator repeated it. One that is gone is not.
fn is_asked_again(donor: &mut Donor, operation: &RebalanceOperation, fleet: &FleetView<'_>) -> bool {
    let answers = donor_pod(donor, fleet).is_some_and(|pod| pod.bearing.is_some() && !pod.vacant());
    let is_new = fleet.now.saturating_sub(millis(&operation.started_at)) < LEASE_MILLIS;
    answers && (is_new || !std::mem::replace(&mut donor.asked_again, true))
}

/// Why a round is given up, and whether something is wrong.
fn give_up(operation: &RebalanceOperation, fleet: &FleetView<'_>) -> Option<(String, bool)> {
    let asked = operation.asked && fleet.rebalance_asked.is_some();
    if fleet.rebalance.mode != RebalanceMode::Auto && !asked {
        return Some(("rebalance.mode says so".to_owned(), false));
    }
    if machine::any(fleet) {
        return Some(("a machine with nodes is about to go".to_owned(), false));
    }
    let is_long = |at: &Time| fleet.now.abs_diff(millis(at)) >= UNKNOWN_MILLIS;
    if !may(fleet) && (is_known(fleet) || operation.unknown_since.as_ref().is_some_and(is_long)) {
        return Some(("the fleet is to become smaller, or too little of it is known".to_owned(), false));
    }
    let receives = |pod: &&PodView| {
        pod.ready && !pod.terminating && operation.donors.iter().all(|donor| donor.pod_uid != pod.uid)
    };
    let mut receivers = fleet.pods.iter().filter(receives).peekable();
    if receivers.peek().is_none() {
        return Some(("no other node is ready".to_owned(), false));
    }
    receivers.find_map(overrun).map(|why| (why, true))
}

/// Why no more clients may be sent to a node.
fn overrun(pod: &PodView) -> Option<String> {
    let bearing = pod.bearing.as_ref()?;
    if bearing.handshake_p99_millis >= SLOW_MILLIS {
        return Some(format!(
            "{} takes {} ms to accept a connection",
            pod.name, bearing.handshake_p99_millis
        ));
    }
    let refused = bearing.refused_per_second.filter(|refused| *refused >= REFUSES)?;
    Some(format!("{} refuses {refused:.0} connections per second", pod.name))
}
