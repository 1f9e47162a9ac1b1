//! Tests of one situation at a time; a whole cluster with faults is in `simulation`.

use crds::{Operation, ScaleIn, ScaleInStep};
use node_core::admin::NodePhase;

use super::{LOWEST_COST, pick, staying};
use crate::operations::arbiter;
use crate::operations::plan::{Action, FleetView, Note};
use crate::pod::{NodeView, PodView};
use crate::timestamp::time;

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str, connections: u64) -> PodView {
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ready: true,
        endpoint_ready: Some(true),
        node: Some(NodeView {
            phase: NodePhase::Serving,
            connections,
            writes_per_second: Some(0.0),
            answers: true,
        }),
        ..PodView::default()
    }
}

fn seen(pods: &[PodView], replicas: i32, desired: i32) -> FleetView<'_> {
    FleetView {
        now: NOW,
        pods,
        replicas,
        existing: i32::try_from(pods.iter().filter(|p| !p.terminating).count()).unwrap(),
        settled: true,
        desired,
        quorum: true,
        heard: true,
        connections_per_second: 500,
        told: true,
        deadline: 600_000,
    }
}

/// What a look decided, with its operation as a scale-in.
#[derive(Debug)]
struct Out {
    operation: Option<ScaleIn>,
    actions: Vec<Action>,
    notes: Vec<Note>,
    waiting: Option<String>,
}

/// One look of the arbiter.
fn step(operation: Option<&ScaleIn>, fleet: &FleetView<'_>) -> Out {
    let recorded = operation.cloned().map(Operation::ScaleIn);
    let plan = arbiter::plan(recorded.as_ref(), fleet);
    let operation = plan.operation.map(|Operation::ScaleIn(scale_in)| scale_in);
    Out { operation, actions: plan.actions, notes: plan.notes, waiting: plan.waiting }
}

fn operation(pod: &str, step: ScaleInStep, since: u64) -> ScaleIn {
    ScaleIn {
        pod: pod.to_owned(),
        pod_uid: format!("uid-{pod}"),
        step,
        started_at: time(NOW - since),
        step_at: time(NOW - since),
        connections: Some(0),
        connections_per_second: None,
    }
}

#[test]
fn the_cheapest_node_goes_and_a_pod_that_never_ran_before_it() {
    let mut pods = [pod("a", 30), pod("b", 10), pod("c", 20)];
    pods[1].node.as_mut().unwrap().writes_per_second = Some(50.0);
    assert_eq!(pick(&pods).unwrap().name, "c", "writes/s come before connections");
    pods[0].ready = false;
    assert_eq!(pick(&pods).unwrap().name, "a");
    pods[1] = PodView { name: "b".to_owned(), pending: true, ..PodView::default() };
    assert_eq!(pick(&pods).unwrap().name, "b");
    pods[1].terminating = true;
    assert_eq!(pick(&pods).unwrap().name, "a");
}

#[test]
fn the_steps_follow_each_other() {
    let mut pods = [pod("a", 9), pod("b", 5), pod("c", 7)];
    let out = step(None, &seen(&pods, 3, 2));
    let mut op = out.operation.unwrap();
    assert_eq!((op.pod.as_str(), op.step, op.connections), ("b", ScaleInStep::Unready, Some(5)));
    assert_eq!(out.actions, [Action::Unready { pod: "b".to_owned() }]);
    assert_eq!(staying(&op, &pods, 3), 2);

    pods[1].ready = false;
    pods[1].node.as_mut().unwrap().phase = NodePhase::Unready;
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.operation.as_ref().unwrap().step, ScaleInStep::Unready, "the endpoint is still ready");
    assert!(out.actions.is_empty() && out.waiting.is_some());

    pods[1].endpoint_ready = Some(false);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    op = out.operation.unwrap();
    assert_eq!(op.step, ScaleInStep::Closing);
    assert_eq!(out.actions, [Action::Close { pod: "b".to_owned(), rate: 500 }]);

    pods[1].node = Some(NodeView {
        phase: NodePhase::Closing,
        connections: 2,
        writes_per_second: Some(0.0),
        answers: true,
    });
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.operation.as_ref().unwrap().connections, Some(2));
    assert!(out.actions.is_empty());

    let hurried = FleetView { connections_per_second: 2_000, ..seen(&pods, 3, 2) };
    let out = step(out.operation.as_ref(), &hurried);
    assert_eq!(out.actions, [Action::Close { pod: "b".to_owned(), rate: 2_000 }], "the pace was raised");
    assert_eq!(out.operation.as_ref().unwrap().connections_per_second, Some(2_000));
    let out = step(out.operation.as_ref(), &hurried);
    assert!(out.actions.is_empty(), "told once: {:?}", out.actions);
    let lost = step(out.operation.as_ref(), &FleetView { told: false, ..hurried });
    assert_eq!(lost.actions, [Action::Close { pod: "b".to_owned(), rate: 2_000 }], "it did not arrive");

    pods[1].node = Some(NodeView {
        phase: NodePhase::Closed,
        connections: 0,
        writes_per_second: Some(0.0),
        answers: true,
    });
    let out = step(out.operation.as_ref(), &seen(&pods, 3, 2));
    op = out.operation.unwrap();
    assert_eq!(op.step, ScaleInStep::Removing);
    assert_eq!(out.actions, [Action::DeletionCost { pod: "b".to_owned(), cost: Some(LOWEST_COST) }]);

    pods[1].deletion_cost = Some(LOWEST_COST);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.actions, [Action::Replicas { from: 3, to: 2 }]);
    let out = step(Some(&op), &seen(&pods, 2, 2));
    assert!(out.actions.is_empty() && out.operation.is_some(), "not lowered twice: {out:?}");
    assert_eq!(staying(&op, &pods, 2), 2);

    pods[1].terminating = true;
    let out = step(Some(&op), &seen(&pods, 2, 2));
    assert_eq!((out.operation, out.notes[0].reason), (None, "NodeRemoved"));
    assert!(out.actions.is_empty(), "a pod that is going is not taken back");
}

#[test]
fn growing_takes_the_draining_node_back_first() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[1].node.as_mut().unwrap().phase = NodePhase::Closing;
    pods[1].deletion_cost = Some(LOWEST_COST);
    let op = operation("b", ScaleInStep::Closing, 5_000);
    let out = step(Some(&op), &seen(&pods, 2, 2));
    assert_eq!(out.operation, None);
    assert!(out.actions.contains(&Action::TakeBack { pod: "b".to_owned() }));
    assert!(out.actions.contains(&Action::DeletionCost { pod: "b".to_owned(), cost: None }));
    let out = step(Some(&op), &seen(&pods, 2, 4));
    assert!(out.actions.contains(&Action::Replicas { from: 2, to: 4 }));
}

#[test]
fn a_node_that_drains_without_an_operation_is_taken_back() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[0].node.as_mut().unwrap().phase = NodePhase::Unready;
    let out = step(None, &seen(&pods, 2, 2));
    assert_eq!(out.actions, [Action::TakeBack { pod: "a".to_owned() }]);
}

#[test]
fn a_pod_that_would_be_removed_instead_holds_the_last_step() {
    let mut pods = [pod("a", 9), pod("b", 0), pod("c", 9)];
    pods[1].ready = false;
    pods[1].deletion_cost = Some(LOWEST_COST);
    pods[1].node = Some(NodeView {
        phase: NodePhase::Closed,
        connections: 0,
        writes_per_second: Some(0.0),
        answers: true,
    });
    pods[2] = PodView { name: "c".to_owned(), uid: "uid-c".to_owned(), pending: true, ..PodView::default() };
    let op = operation("b", ScaleInStep::Removing, 5_000);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert!(out.actions.is_empty() && out.operation.is_some(), "{out:?}");
    let op = operation("b", ScaleInStep::Removing, super::REPLAN_MILLIS + 2_000);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!((out.operation, out.notes[0].reason), (None, "DrainReplanned"));
    assert!(out.actions.contains(&Action::TakeBack { pod: "b".to_owned() }));
}

#[test]
fn without_quorum_nothing_is_closed_and_the_deadline_waits() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[1].ready = false;
    pods[1].endpoint_ready = Some(false);
    pods[1].node = None;
    let blind = FleetView { quorum: false, ..seen(&pods, 2, 1) };
    for (begun, since) in [(ScaleInStep::Unready, 100_000), (ScaleInStep::Closing, 2_000_000)] {
        let out = step(Some(&operation("b", begun, since)), &blind);
        assert_eq!(out.operation.unwrap().step, begun);
        assert!(out.actions.is_empty(), "{:?}", out.actions);
    }
    let serving = [pod("a", 9), pod("b", 5)];
    let out = step(None, &FleetView { pods: &serving, ..blind });
    assert!(out.operation.is_none() && out.actions.is_empty(), "no node is made unready: {out:?}");
}

#[test]
fn the_deadline_ends_a_drain_that_does_not_end() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[1].node.as_mut().unwrap().phase = NodePhase::Closing;
    let out = step(Some(&operation("b", ScaleInStep::Closing, 640_000)), &seen(&pods, 2, 1));
    assert_eq!(out.operation.unwrap().step, ScaleInStep::Removing);
    assert_eq!((out.notes[0].reason, out.notes[0].warning), ("DrainDeadline", true));
}

#[test]
fn a_node_that_no_order_reaches_is_not_drained_for_ever() {
    let mut pods = [pod("a", 9), pod("b", 5), pod("c", 7), pod("d", 8)];
    pods[1].node = None; // its figures went missing after it was picked
    let mut op = Some(operation("b", ScaleInStep::Unready, 0));
    let mut now = NOW;
    while let Some(under_way) = op.take() {
        now += 2_000;
        assert!(now < NOW + 1_000_000, "still {:?}", under_way.step);
        let out = step(Some(&under_way), &FleetView { now, ..seen(&pods, 4, 3) });
        for action in &out.actions {
            match action {
                Action::DeletionCost { pod, cost } if pod == "b" => pods[1].deletion_cost = *cost,
                Action::Replicas { .. } => panic!("it serves"),
                _ => {}
            }
        }
        op = out.operation;
        if op.is_none() {
            assert_eq!(out.notes[0].reason, "DrainReplanned");
        }
    }
    assert_eq!(pods[1].deletion_cost, None);
    let out = step(None, &seen(&pods, 4, 3));
    assert_eq!(out.operation.unwrap().pod, "c", "what is unknown is ranked last");
}

#[test]
fn pods_that_were_never_made_need_no_drain() {
    let pods = [pod("a", 9), pod("b", 5)];
    assert_eq!(step(None, &seen(&pods, 4, 1)).actions, [Action::Replicas { from: 4, to: 2 }]);
    let rollout = FleetView { settled: false, ..seen(&pods, 2, 1) };
    assert!(step(None, &rollout).operation.is_none(), "no drain during a rollout");
}

#[test]
fn pods_that_are_not_seen_are_not_taken_for_pods_that_were_never_made() {
    let mut pods = [pod("a", 9), pod("b", 0)];
    let hung = FleetView { existing: 4, ..seen(&pods, 4, 1) };
    let out = step(None, &hung);
    assert!(out.actions.is_empty() && out.operation.is_none() && out.waiting.is_some(), "{out:?}");
    let some_made = FleetView { existing: 2, ..seen(&pods, 4, 1) };
    assert_eq!(step(None, &some_made).actions, [Action::Replicas { from: 4, to: 2 }]);

    pods[1].ready = false;
    pods[1].deletion_cost = Some(LOWEST_COST);
    pods[1].node = Some(NodeView {
        phase: NodePhase::Closed,
        connections: 0,
        writes_per_second: Some(0.0),
        answers: true,
    });
    let op = operation("b", ScaleInStep::Removing, 5_000);
    let out = step(Some(&op), &FleetView { existing: 3, ..seen(&pods, 3, 2) });
    assert!(out.actions.is_empty() && out.operation.is_some(), "the third may go instead: {out:?}");
    let out = step(Some(&op), &FleetView { existing: 2, ..seen(&pods, 2, 1) });
    assert_eq!(out.actions, [Action::Replicas { from: 2, to: 1 }]);
}

#[test]
fn pods_that_cannot_be_placed_do_not_keep_each_other_from_going() {
    let waits = |name: &str, cost| PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        pending: true,
        deletion_cost: cost,
        ..PodView::default()
    };
    let pods = [pod("a", 9), waits("b", Some(LOWEST_COST)), waits("c", None)];
    let op = operation("b", ScaleInStep::Removing, 5_000);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.actions, [Action::Replicas { from: 3, to: 2 }], "neither holds a connection: {out:?}");
    // The ReplicaSet removed the other pod.
    let out = step(Some(&op), &seen(&pods[..2], 2, 2));
    assert_eq!(out.operation, None);
    assert_eq!(out.actions, [Action::DeletionCost { pod: "b".to_owned(), cost: None }]);
}

/// A pod whose process ended, with the figures that it gave before.
fn crashed(name: &str, connections: u64) -> PodView {
    let mut dead = pod(name, connections);
    (dead.ready, dead.dead, dead.restarts, dead.endpoint_ready) = (false, true, 3, Some(false));
    dead.node.as_mut().unwrap().answers = false;
    dead
}

#[test]
fn a_process_that_does_not_run_goes_first_and_is_told_nothing() {
    // The fullest node crashes again and again while a scale-in is due.
    let mut pods = [crashed("a", 151), pod("b", 5), pod("c", 7)];
    pods[1].ready = false;
    assert_eq!(pick(&pods).unwrap().name, "a", "nobody is on it");
    let out = step(None, &seen(&pods, 3, 2));
    let mut op = out.operation.unwrap();
    assert_eq!((op.pod.as_str(), op.step, op.connections), ("a", ScaleInStep::Removing, Some(0)));
    assert!(!out.notes[0].message.contains("151"), "figures of a dead process: {}", out.notes[0].message);
    assert!(out.notes[0].message.contains("does not run"), "{}", out.notes[0].message);
    assert_eq!(out.actions, [Action::DeletionCost { pod: "a".to_owned(), cost: Some(LOWEST_COST) }]);
    pods[0].deletion_cost = Some(LOWEST_COST);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.actions, [Action::Replicas { from: 3, to: 2 }]);
    // The process runs again before the pod is removed: it is a node like any other, and is drained.
    pods[0] = PodView { deletion_cost: Some(LOWEST_COST), restarts: 4, ..pod("a", 2) };
    let out = step(Some(&op), &seen(&pods, 3, 2));
    op = out.operation.unwrap();
    assert_eq!(op.step, ScaleInStep::Unready);
    assert_eq!(out.actions, [Action::Unready { pod: "a".to_owned() }]);
}

#[test]
fn a_node_that_dies_while_it_is_drained_is_empty_and_gets_no_orders() {
    for begun in [ScaleInStep::Unready, ScaleInStep::Closing] {
        let mut pods = [crashed("a", 151), pod("b", 5)];
        pods[0].node.as_mut().unwrap().phase = NodePhase::Closing;
        let out = step(Some(&operation("a", begun, 4_000)), &seen(&pods, 2, 1));
        let op = out.operation.unwrap();
        assert_eq!((op.step, op.connections), (ScaleInStep::Removing, Some(0)));
        assert_eq!(out.actions, [Action::DeletionCost { pod: "a".to_owned(), cost: Some(LOWEST_COST) }]);
    }
}

#[test]
fn orders_wait_for_an_answer() {
    let mut pods = [pod("a", 151), pod("b", 5)];
    pods[0].ready = false;
    pods[0].endpoint_ready = Some(false);
    let node = pods[0].node.as_mut().unwrap();
    (node.phase, node.answers) = (NodePhase::Unready, false);
    for begun in [ScaleInStep::Unready, ScaleInStep::Closing] {
        let mut op = Some(operation("a", begun, 4_000));
        for _ in 0..7 {
            let out = step(op.as_ref(), &seen(&pods, 2, 1));
            assert!(out.actions.is_empty(), "an order to a process that does not answer: {:?}", out.actions);
            op = out.operation;
        }
        assert_eq!(op.as_ref().unwrap().step, ScaleInStep::Closing);
        let mut answers = pods.clone();
        answers[0].node.as_mut().unwrap().answers = true;
        let out = step(op.as_ref(), &seen(&answers, 2, 1));
        assert_eq!(out.actions, [Action::Close { pod: "a".to_owned(), rate: 500 }]);
    }
    let out = step(None, &seen(&pods, 2, 2));
    assert!(out.actions.is_empty(), "nor is it taken back: {:?}", out.actions);
}

#[test]
fn what_is_unknown_is_no_candidate_by_figures() {
    let mut pods = [pod("a", 9), pod("b", 0), pod("c", 20)];
    pods[0].node.as_mut().unwrap().writes_per_second = Some(10.0);
    pods[1].node.as_mut().unwrap().writes_per_second = None;
    pods[2].node.as_mut().unwrap().writes_per_second = Some(20.0);
    assert_eq!(pick(&pods).unwrap().name, "a", "one answer is no rate");
    let silent = PodView { node: None, ready: false, ..pod("d", 0) };
    let out = step(None, &seen(&[pods[0].clone(), silent], 2, 1));
    let op = out.operation.unwrap();
    assert_eq!((op.pod.as_str(), op.connections), ("d", None), "unknown is not 0");
    assert!(out.actions.is_empty(), "{:?}", out.actions);
}

#[test]
fn while_a_node_does_not_hear_the_others_no_drain_begins_or_goes_on() {
    let mut pods = [pod("a", 9), pod("b", 0)];
    let deaf = FleetView { heard: false, ..seen(&pods, 2, 1) };
    let out = step(None, &deaf);
    assert!(out.operation.is_none() && out.actions.is_empty() && out.waiting.is_some(), "{out:?}");
    pods[1].ready = false;
    pods[1].endpoint_ready = Some(false);
    pods[1].deletion_cost = Some(LOWEST_COST);
    let steps = [
        (ScaleInStep::Unready, NodePhase::Unready),
        (ScaleInStep::Closing, NodePhase::Closed),
        (ScaleInStep::Removing, NodePhase::Closed),
    ];
    for (begun, phase) in steps {
        pods[1].node.as_mut().unwrap().phase = phase;
        let op = operation("b", begun, 2_000_000);
        let out = step(Some(&op), &FleetView { heard: false, ..seen(&pods, 2, 1) });
        assert_eq!((out.operation.unwrap().step, out.actions.len()), (begun, 0));
        let out = step(Some(&op), &seen(&pods, 2, 1));
        assert!(!out.actions.is_empty(), "it goes on afterwards: {out:?}");
        // More nodes are wanted, which does not wait until the bus is heard again.
        let out = step(Some(&op), &FleetView { heard: false, ..seen(&pods, 2, 3) });
        assert!(out.operation.is_none() && out.actions.contains(&Action::Replicas { from: 2, to: 3 }));
    }
}
