//! Tests of one round at a time; what it does to a whole fleet's load is in `world`.

use crds::{Moves, Operation, RebalanceMode, RebalanceOperation};
use node_core::admin::{HotRoom, NodePhase, RebalanceRequest as Request, RebalanceStatus};

use super::{LEASE_MILLIS, ONCE_MILLIS, SETTLE_MILLIS, SLOW_MILLIS};
use crate::operations::paces::Paces;
use crate::operations::plan::{Action, Balance, FleetView, Plan};
use crate::operations::{arbiter, one, still, whole};
use crate::pod::{Bearing, NodeView, PodView};
use crate::timestamp::time;
use crate::validate::RebalanceLimits;
use crate::wishes::PATIENCE_MILLIS;

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str, writes: f64, connections: u64) -> PodView {
    let node =
        NodeView { phase: NodePhase::Serving, connections, writes_per_second: Some(writes), answers: true };
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        deployment: "d".to_owned(),
        ready: true,
        endpoint_ready: Some(true),
        node: Some(node),
        bearing: Some(Bearing::default()),
        ..PodView::default()
    }
}

fn fleet(pods: &[PodView]) -> FleetView<'_> {
    let replicas = i32::try_from(pods.len()).unwrap();
    FleetView {
        existing: replicas,
        rebalance: RebalanceLimits { mode: RebalanceMode::Auto, ..still() },
        ..whole(NOW, pods, one(replicas), Box::leak(Box::new(Paces::default())))
    }
}

fn look(operation: Option<&RebalanceOperation>, fleet: &FleetView<'_>) -> (Option<RebalanceOperation>, Plan) {
    let recorded = operation.cloned().map(Operation::Rebalance);
    let plan = arbiter::plan(recorded.as_ref(), fleet);
    let operation = match &plan.operation {
        Some(Operation::Rebalance(rebalance)) => Some(rebalance.clone()),
        _ => None,
    };
    (operation, plan)
}

/// What the donors are asked to move: pod, connections, writes/s, pace, least age.
fn asked(plan: &Plan) -> Vec<(&str, u64, u64, u32, u64)> {
    let asked = plan.actions.iter().filter_map(|action| match action {
        Action::Rebalance { pod, request } => {
            assert_eq!(request.lease_millis, LEASE_MILLIS);
            let Request { connections, writes_per_second, connections_per_second, min_age_millis, .. } =
                request;
            Some((pod.as_str(), *connections, *writes_per_second, *connections_per_second, *min_age_millis))
        }
        _ => None,
    });
    asked.collect()
}

/// A donor that moves clients.
fn moving(mut pod: PodView, id: &str, moved: u64, done: bool) -> PodView {
    let status = RebalanceStatus { operation: id.to_owned(), moved, done, ..RebalanceStatus::default() };
    (pod.ready, pod.endpoint_ready) = (false, Some(false));
    pod.bearing = Some(Bearing { rebalance: Some(status), ..Bearing::default() });
    pod
}

fn moves(window: u64, ended: u64, moved: i64) -> Moves {
    Moves {
        since: time(NOW - window),
        moved,
        window_at: time(NOW - window),
        ended_at: Some(time(NOW - ended)),
        asked_at: None,
        hot_room: None,
    }
}

#[test]
fn a_node_above_the_mean_moves_what_it_has_too_much() {
    let pods = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500), pod("c", 2_000.0, 500)];
    let (operation, plan) = look(None, &fleet(&pods));
    // The mean is 14,000: 22,000 of 36,000 are to go.
    assert_eq!(asked(&plan), [("a", 3_667, 22_000, 500, 1)]);
    assert_eq!((plan.notes[0].reason, plan.notes[0].action), ("RebalanceStarted", "Rebalance"));
    assert!(plan.notes[0].message.starts_with("a has 90 % of the load"), "{}", plan.notes[0].message);
    assert!(matches!(&plan.balance, Balance::Moving(what) if what.contains("1 nodes") || what.contains('a')));
    assert_eq!(plan.moves.as_ref().map(|moves| moves.moved), Some(0));
    // It goes on, and what was moved is counted.
    let operation = operation.unwrap();
    let pods = [moving(pods[0].clone(), &operation.id, 1_200, false), pods[1].clone(), pods[2].clone()];
    let recorded = plan.moves.unwrap();
    let (operation, plan) = look(Some(&operation), &FleetView { moves: Some(&recorded), ..fleet(&pods) });
    assert_eq!(asked(&plan).len(), 1);
    assert_eq!(plan.moves.as_ref().map(|moves| moves.moved), Some(1_200));
    let operation = operation.unwrap();
    let pods = [moving(pods[0].clone(), &operation.id, 3_667, true), pods[1].clone(), pods[2].clone()];
    let recorded = plan.moves.unwrap();
    let (ended, plan) = look(Some(&operation), &FleetView { moves: Some(&recorded), ..fleet(&pods) });
    assert_eq!((ended, plan.actions), (None, vec![Action::StopRebalance { pod: "a".to_owned() }]));
    let recorded = plan.moves.unwrap();
    assert_eq!((recorded.moved, recorded.ended_at), (3_667, Some(time(NOW))));
    assert_eq!(plan.notes[0].reason, "RebalanceDone");
}

#[test]
fn little_load_and_small_differences_are_left_alone() {
    let calm = [
        [pod("a", 10_000.0, 900), pod("b", 0.0, 0)],
        [pod("a", 28_000.0, 900), pod("b", 24_000.0, 800)],
        [pod("a", 0.0, 5_000), pod("b", 0.0, 10)],
    ];
    for pods in calm {
        let (operation, plan) = look(None, &fleet(&pods));
        assert_eq!((operation, plan.balance, plan.actions), (None, Balance::Even, vec![]));
    }
    let (_, plan) = look(None, &fleet(&[pod("a", 0.0, 9_000), pod("b", 0.0, 1_000)]));
    assert_eq!(asked(&plan), [("a", 4_000, 0, 500, 1)], "by connections");
}

#[test]
fn a_full_node_is_one_whatever_it_writes_and_is_not_waited_for() {
    let mut pods = [pod("a", 20_000.0, 8_000), pod("b", 10_000.0, 1_000), pod("c", 0.0, 0)];
    pods[0].bearing.as_mut().unwrap().full = true;
    let starting = PodView { ready: false, pending: true, node: None, bearing: None, ..pod("d", 0.0, 0) };
    let mut all = pods.to_vec();
    all.push(starting.clone());
    let (_, plan) = look(None, &fleet(&all));
    assert_eq!(asked(&plan)[0].0, "a");
    assert_eq!(asked(&plan)[0].2, 0, "what it would write is not known: the clients alone count");
    let busy = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500), starting];
    let (operation, plan) = look(None, &fleet(&busy));
    assert_eq!(
        (operation, plan.balance),
        (None, Balance::Uneven("a has more load than its share".to_owned()))
    );
}

#[test]
fn nothing_is_moved_on_what_is_not_known_or_while_the_fleet_changes() {
    let pods = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let whole = fleet(&pods);
    let held = [
        FleetView { quorum: false, ..whole },
        FleetView { heard: false, ..whole },
        FleetView { settled: false, ..whole },
        FleetView { rebalance: RebalanceLimits { mode: RebalanceMode::Observe, ..whole.rebalance }, ..whole },
        FleetView {
            rebalance: RebalanceLimits { mode: RebalanceMode::Disabled, ..whole.rebalance },
            ..whole
        },
    ];
    for fleet in held {
        assert!(asked(&look(None, &fleet).1).is_empty(), "{fleet:?}");
    }
    let mut silent = pods.clone();
    silent[1].node = None;
    let (_, plan) = look(None, &fleet(&silent));
    assert_eq!((asked(&plan).len(), plan.balance), (0, Balance::Unknown));
    // Fewer nodes are wanted: the drain begins instead, and not with the one that moves clients.
    let (operation, plan) = look(None, &FleetView { desired: 1, ..whole });
    assert!(operation.is_none() && matches!(plan.operation, Some(Operation::Drain(_))), "{plan:?}");
}

#[test]
fn a_round_that_a_person_asked_for_begins_in_every_mode_and_once() {
    let pods = [pod("a", 6_000.0, 600), pod("b", 0.0, 0)];
    for mode in [RebalanceMode::Auto, RebalanceMode::Observe, RebalanceMode::Disabled] {
        let rebalance = RebalanceLimits { mode, ..still() };
        let whole = FleetView { rebalance, ..fleet(&pods) };
        assert!(asked(&look(None, &whole).1).is_empty(), "the load is little");
        for long_ago in [PATIENCE_MILLIS, 10 * PATIENCE_MILLIS] {
            let late = FleetView { rebalance_asked: Some(NOW - long_ago), ..whole };
            assert!(asked(&look(None, &late).1).is_empty(), "{mode:?}: {long_ago}");
        }
        let wished = FleetView { rebalance_asked: Some(NOW - 1_500), ..whole };
        let (operation, plan) = look(None, &wished);
        assert_eq!(asked(&plan), [("a", 300, 3_000, 500, 1)], "{mode:?}");
        let (operation, recorded) = (operation.unwrap(), plan.moves.unwrap());
        let all = [moving(pods[0].clone(), &operation.id, 100, false), pods[1].clone()];
        let goes_on = FleetView { pods: &all, moves: Some(&recorded), ..wished };
        assert_eq!(asked(&look(Some(&operation), &goes_on).1).len(), 1, "{mode:?} does not stop it");
        let (ended, _) = look(Some(&operation), &FleetView { rebalance_asked: None, ..goes_on });
        assert_eq!(ended.is_none(), mode != RebalanceMode::Auto, "who asked does so no more: {mode:?}");
        let now = NOW + SETTLE_MILLIS;
        let again = FleetView { now, moves: Some(&recorded), ..wished };
        assert!(asked(&look(None, &again).1).is_empty(), "{mode:?}: it was answered");
    }
}

#[test]
fn who_asks_for_a_round_that_nobody_needs_is_told_so_once() {
    let pods = [pod("a", 6_000.0, 600), pod("b", 6_000.0, 600)];
    let wished = FleetView { rebalance_asked: Some(NOW), ..fleet(&pods) };
    let (operation, plan) = look(None, &wished);
    assert_eq!((operation, plan.notes[0].reason), (None, "RebalanceNotNeeded"));
    let recorded = plan.moves.unwrap();
    assert!(look(None, &FleetView { moves: Some(&recorded), ..wished }).1.notes.is_empty());
}

#[test]
fn a_client_is_moved_once_in_a_window_and_an_hour_has_its_bound() {
    let pods = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let lately = moves(120_000, SETTLE_MILLIS, 99_000);
    let (_, plan) = look(None, &FleetView { moves: Some(&lately), ..fleet(&pods) });
    assert_eq!(
        asked(&plan),
        [("a", 1_000, 16_000, 500, 125_000)],
        "what came since then may have been moved"
    );
    let settling = moves(120_000, SETTLE_MILLIS - 1_000, 99_000);
    assert!(asked(&look(None, &FleetView { moves: Some(&settling), ..fleet(&pods) }).1).is_empty());
    let spent = moves(120_000, SETTLE_MILLIS, 100_000);
    let (_, plan) = look(None, &FleetView { moves: Some(&spent), ..fleet(&pods) });
    assert!(asked(&plan).is_empty() && matches!(plan.balance, Balance::Uneven(_)), "{plan:?}");
    let old = moves(3_600_000, 600_000, 100_000);
    assert_eq!(
        asked(&look(None, &FleetView { moves: Some(&old), ..fleet(&pods) }).1),
        [("a", 2_667, 16_000, 500, 1)]
    );
}

#[test]
fn a_round_ends_when_those_that_receive_cannot_bear_it() {
    let begun = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let operation = look(None, &fleet(&begun)).0.unwrap();
    let donor = moving(begun[0].clone(), &operation.id, 100, false);
    let slow = Bearing { handshake_p99_millis: SLOW_MILLIS, ..Bearing::default() };
    let refuses = Bearing { refused_per_second: Some(80.0), ..Bearing::default() };
    for bearing in [slow, refuses] {
        let pods = [donor.clone(), PodView { bearing: Some(bearing), ..begun[1].clone() }];
        let (ended, plan) = look(Some(&operation), &fleet(&pods));
        assert_eq!(
            (ended, plan.actions.clone()),
            (None, vec![Action::StopRebalance { pod: "a".to_owned() }])
        );
        assert_eq!((plan.notes[0].reason, plan.notes[0].warning), ("RebalanceStopped", true));
    }
    // Fewer nodes are wanted.
    let pods = [donor, begun[1].clone()];
    let (ended, plan) = look(Some(&operation), &FleetView { desired: 1, ..fleet(&pods) });
    assert_eq!((ended, plan.notes[0].warning), (None, false));
}

#[test]
fn a_round_outlives_an_operator_that_begins_to_lead_and_knows_little_yet() {
    let begun = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let (operation, plan) = look(None, &fleet(&begun));
    let (operation, recorded) = (operation.unwrap(), plan.moves.unwrap());
    let donor = moving(begun[0].clone(), &operation.id, 100, false);
    let silent =
        [PodView { bearing: None, ..begun[0].clone() }, PodView { bearing: None, ..begun[1].clone() }];
    let later =
        |seconds: u64, pods| FleetView { now: NOW + seconds * 1_000, moves: Some(&recorded), ..fleet(pods) };
    let unknown = FleetView { quorum: false, ..later(20, &silent) };
    let (kept, plan) = look(Some(&operation), &unknown);
    assert!(kept.as_ref().is_some_and(|kept| kept.donors == operation.donors && kept.id == operation.id));
    assert!(asked(&plan).is_empty() && plan.notes.is_empty());
    // The donor has forgotten the request meanwhile: it is asked again, and once only if it does not take it.
    let (again, plan) = look(kept.as_ref(), &later(22, &begun));
    assert_eq!(asked(&plan).len(), 1, "it goes on");
    let (ended, plan) = look(again.as_ref(), &later(24, &begun));
    assert_eq!(
        (ended, plan.moves.map(|moves| moves.moved)),
        (None, Some(1)),
        "how many it moved is not known"
    );
    let pods = [donor, begun[1].clone()];
    let (on, plan) = look(again.as_ref(), &later(24, &pods));
    assert!(asked(&plan)[0].4 >= 24_000, "another donor has moved clients since then");
    assert_eq!((asked(&plan).len(), plan.moves.map(|moves| moves.moved)), (1, Some(100)));
    assert!(matches!(on, Some(on) if !on.donors[0].asked_again));
    let (still, _) = look(kept.as_ref(), &FleetView { now: NOW + 79_000, ..unknown });
    assert!(still.is_some(), "it is unknown for 59 s");
    let (ended, plan) = look(still.as_ref(), &FleetView { now: NOW + 80_000, ..unknown });
    assert_eq!((ended, plan.notes[0].reason), (None, "RebalanceStopped"));
}

#[test]
fn who_came_shortly_before_a_round_that_moved_nobody_may_be_moved_in_the_next() {
    let pods = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let nobody = moves(120_000, SETTLE_MILLIS, 0);
    let (_, plan) = look(None, &FleetView { moves: Some(&nobody), ..fleet(&pods) });
    assert_eq!(asked(&plan)[0].4, 1);
    // A new hour of counting forgets no client.
    let hour = Moves { since: time(NOW - 20_000), ..nobody };
    let (_, plan) = look(None, &FleetView { moves: Some(&hour), ..fleet(&pods) });
    assert_eq!(asked(&plan)[0].4, 125_000);
}

#[test]
fn a_donor_that_takes_no_order_stops_no_other() {
    let begun = [pod("a", 36_000.0, 6_000), pod("b", 34_000.0, 6_000), pod("c", 0.0, 0), pod("d", 0.0, 0)];
    let (operation, plan) = look(None, &fleet(&begun));
    assert_eq!(asked(&plan).iter().map(|asked| asked.3).sum::<u32>(), 499, "no more than the budget");
    let operation = operation.unwrap();
    let pods = [
        begun[0].clone(),
        moving(begun[1].clone(), &operation.id, 100, false),
        begun[2].clone(),
        begun[3].clone(),
    ];
    let later = FleetView { now: NOW + LEASE_MILLIS, ..fleet(&pods) };
    let (operation, _) = look(Some(&operation), &later);
    let (operation, _) =
        look(operation.as_ref(), &FleetView { now: NOW + LEASE_MILLIS + 2_000, ..fleet(&pods) });
    let donors: Vec<_> = operation.unwrap().donors.into_iter().map(|donor| donor.pod).collect();
    assert_eq!(donors, ["b"]);
}

#[test]
fn a_room_that_moving_cannot_help_with_is_named_and_left_alone() {
    let begun = [pod("a", 36_000.0, 6_000), pod("b", 4_000.0, 500)];
    let operation = look(None, &fleet(&begun)).0.unwrap();
    let mut pods = [moving(begun[0].clone(), &operation.id, 100, true), begun[1].clone()];
    let status = pods[0].bearing.as_mut().unwrap().rebalance.as_mut().unwrap();
    status.hot_room =
        Some(HotRoom { topic: "room:hot".to_owned(), writes_per_second: 30_000, members: 5_000 });
    let (_, plan) = look(Some(&operation), &fleet(&pods));
    assert_eq!(plan.notes[0].reason, "HotRoom");
    let recorded = plan.moves.unwrap();
    let now = NOW + SETTLE_MILLIS;
    let (again, plan) = look(None, &FleetView { now, moves: Some(&recorded), ..fleet(&begun) });
    assert!(again.is_none() && matches!(&plan.balance, Balance::HotRoom(said) if said.contains("room:hot")));
    let now = NOW + ONCE_MILLIS;
    assert!(
        look(None, &FleetView { now, moves: Some(&recorded), ..fleet(&begun) }).0.is_some(),
        "it is tried anew"
    );
}
