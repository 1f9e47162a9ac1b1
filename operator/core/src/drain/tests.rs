//! One situation at a time; a whole cluster with faults is in `simulation`.

use crds::{Operation, OperationStep};
use node_core::admin::Phase;

use super::{Action, LOWEST_COST, NodeView, Observed, PodView, pick, staying, step, time};

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str, connections: u64) -> PodView {
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ready: true,
        endpoint_ready: Some(true),
        node: Some(NodeView { phase: Phase::Serving, connections, writes_per_second: 0.0 }),
        ..PodView::default()
    }
}

fn seen(pods: &[PodView], replicas: i32, desired: i32) -> Observed<'_> {
    Observed {
        now: NOW,
        pods,
        replicas,
        existing: i32::try_from(pods.iter().filter(|p| !p.terminating).count()).unwrap(),
        settled: true,
        desired,
        quorum: true,
        connections_per_second: 500,
        told: true,
        deadline: 600_000,
    }
}

fn operation(pod: &str, step: OperationStep, since: u64) -> Operation {
    Operation {
        pod: pod.to_owned(),
        pod_uid: format!("uid-{pod}"),
        step,
        started_at: time(NOW - since),
        step_at: time(NOW - since),
        connections: 0,
        connections_per_second: None,
    }
}

#[test]
fn the_cheapest_node_goes_and_a_pod_that_never_ran_before_it() {
    let mut pods = [pod("a", 30), pod("b", 10), pod("c", 20)];
    pods[1].node.as_mut().unwrap().writes_per_second = 50.0;
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
    assert_eq!((op.pod.as_str(), op.step, op.connections), ("b", OperationStep::Unready, 5));
    assert_eq!(out.actions, [Action::Unready { pod: "b".to_owned() }]);
    assert_eq!(staying(Some(&op), &pods, 3), 2);

    pods[1].ready = false;
    pods[1].node.as_mut().unwrap().phase = Phase::Unready;
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.operation.as_ref().unwrap().step, OperationStep::Unready, "the endpoint is still ready");
    assert!(out.actions.is_empty() && out.waiting.is_some());

    pods[1].endpoint_ready = Some(false);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    op = out.operation.unwrap();
    assert_eq!(op.step, OperationStep::Closing);
    assert_eq!(out.actions, [Action::Close { pod: "b".to_owned(), rate: 500 }]);

    pods[1].node = Some(NodeView { phase: Phase::Closing, connections: 2, writes_per_second: 0.0 });
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.operation.as_ref().unwrap().connections, 2);
    assert!(out.actions.is_empty());

    let hurried = Observed { connections_per_second: 2_000, ..seen(&pods, 3, 2) };
    let out = step(out.operation.as_ref(), &hurried);
    assert_eq!(out.actions, [Action::Close { pod: "b".to_owned(), rate: 2_000 }], "the pace was raised");
    assert_eq!(out.operation.as_ref().unwrap().connections_per_second, Some(2_000));
    let out = step(out.operation.as_ref(), &hurried);
    assert!(out.actions.is_empty(), "told once: {:?}", out.actions);
    let lost = step(out.operation.as_ref(), &Observed { told: false, ..hurried });
    assert_eq!(lost.actions, [Action::Close { pod: "b".to_owned(), rate: 2_000 }], "it did not arrive");

    pods[1].node = Some(NodeView { phase: Phase::Closed, connections: 0, writes_per_second: 0.0 });
    let out = step(out.operation.as_ref(), &seen(&pods, 3, 2));
    op = out.operation.unwrap();
    assert_eq!(op.step, OperationStep::Removing);
    assert_eq!(out.actions, [Action::DeletionCost { pod: "b".to_owned(), cost: Some(LOWEST_COST) }]);

    pods[1].deletion_cost = Some(LOWEST_COST);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.actions, [Action::Replicas { from: 3, to: 2 }]);
    let out = step(Some(&op), &seen(&pods, 2, 2));
    assert!(out.actions.is_empty() && out.operation.is_some(), "not lowered twice: {out:?}");
    assert_eq!(staying(Some(&op), &pods, 2), 2);

    pods[1].terminating = true;
    let out = step(Some(&op), &seen(&pods, 2, 2));
    assert_eq!((out.operation, out.notes[0].reason), (None, "NodeRemoved"));
    assert!(out.actions.is_empty(), "a pod that is going is not taken back");
}

#[test]
fn growing_takes_the_draining_node_back_first() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[1].node.as_mut().unwrap().phase = Phase::Closing;
    pods[1].deletion_cost = Some(LOWEST_COST);
    let op = operation("b", OperationStep::Closing, 5_000);
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
    pods[0].node.as_mut().unwrap().phase = Phase::Unready;
    let out = step(None, &seen(&pods, 2, 2));
    assert_eq!(out.actions, [Action::TakeBack { pod: "a".to_owned() }]);
}

#[test]
fn a_pod_that_would_be_removed_instead_holds_the_last_step() {
    let mut pods = [pod("a", 9), pod("b", 0), pod("c", 9)];
    pods[1].ready = false;
    pods[1].deletion_cost = Some(LOWEST_COST);
    pods[1].node = Some(NodeView { phase: Phase::Closed, connections: 0, writes_per_second: 0.0 });
    pods[2] = PodView { name: "c".to_owned(), uid: "uid-c".to_owned(), pending: true, ..PodView::default() };
    let op = operation("b", OperationStep::Removing, 5_000);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert!(out.actions.is_empty() && out.operation.is_some(), "{out:?}");
    let op = operation("b", OperationStep::Removing, super::REPLAN_MILLIS + 2_000);
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
    let blind = Observed { quorum: false, ..seen(&pods, 2, 1) };
    for (begun, since) in [(OperationStep::Unready, 100_000), (OperationStep::Closing, 2_000_000)] {
        let out = step(Some(&operation("b", begun, since)), &blind);
        assert_eq!(out.operation.unwrap().step, begun);
        assert!(out.actions.is_empty(), "{:?}", out.actions);
    }
    let serving = [pod("a", 9), pod("b", 5)];
    let out = step(None, &Observed { pods: &serving, ..blind });
    assert!(out.operation.is_none() && out.actions.is_empty(), "no node is made unready: {out:?}");
}

#[test]
fn the_deadline_ends_a_drain_that_does_not_end() {
    let mut pods = [pod("a", 9), pod("b", 5)];
    pods[1].node.as_mut().unwrap().phase = Phase::Closing;
    let out = step(Some(&operation("b", OperationStep::Closing, 640_000)), &seen(&pods, 2, 1));
    assert_eq!(out.operation.unwrap().step, OperationStep::Removing);
    assert_eq!((out.notes[0].reason, out.notes[0].warning), ("DrainDeadline", true));
}

#[test]
fn a_node_that_no_order_reaches_is_not_drained_for_ever() {
    let mut pods = [pod("a", 9), pod("b", 5), pod("c", 7), pod("d", 8)];
    pods[1].node = None; // since it was picked
    let mut op = Some(operation("b", OperationStep::Unready, 0));
    let mut now = NOW;
    while let Some(under_way) = op.take() {
        now += 2_000;
        assert!(now < NOW + 1_000_000, "still {:?}", under_way.step);
        let out = step(Some(&under_way), &Observed { now, ..seen(&pods, 4, 3) });
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
    let rollout = Observed { settled: false, ..seen(&pods, 2, 1) };
    assert!(step(None, &rollout).operation.is_none(), "no drain during a rollout");
}

#[test]
fn pods_that_are_not_seen_are_not_taken_for_pods_that_were_never_made() {
    let mut pods = [pod("a", 9), pod("b", 0)];
    let hung = Observed { existing: 4, ..seen(&pods, 4, 1) };
    let out = step(None, &hung);
    assert!(out.actions.is_empty() && out.operation.is_none() && out.waiting.is_some(), "{out:?}");
    let some_made = Observed { existing: 2, ..seen(&pods, 4, 1) };
    assert_eq!(step(None, &some_made).actions, [Action::Replicas { from: 4, to: 2 }]);

    pods[1].ready = false;
    pods[1].deletion_cost = Some(LOWEST_COST);
    pods[1].node = Some(NodeView { phase: Phase::Closed, connections: 0, writes_per_second: 0.0 });
    let op = operation("b", OperationStep::Removing, 5_000);
    let out = step(Some(&op), &Observed { existing: 3, ..seen(&pods, 3, 2) });
    assert!(out.actions.is_empty() && out.operation.is_some(), "the third may go instead: {out:?}");
    let out = step(Some(&op), &Observed { existing: 2, ..seen(&pods, 2, 1) });
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
    let op = operation("b", OperationStep::Removing, 5_000);
    let out = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(out.actions, [Action::Replicas { from: 3, to: 2 }], "neither holds a connection: {out:?}");
    // The ReplicaSet took the other one.
    let out = step(Some(&op), &seen(&pods[..2], 2, 2));
    assert_eq!(out.operation, None);
    assert_eq!(out.actions, [Action::DeletionCost { pod: "b".to_owned(), cost: None }]);
}
