//! Tests of one situation at a time; a whole cluster with faults is in `simulation`.

use crds::{DrainOperation, DrainStep, LeaveCause, LeavingNode, Operation};
use node_core::admin::NodePhase;

use crate::operations::going::LOWEST_COST;
use crate::operations::paces::Paces;
use crate::operations::plan::{Action, FleetView, Note};
use crate::operations::{arbiter, one, pick, whole};
use crate::pod::{NodeView, PodView};
use crate::timestamp::time;

mod many;

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str, connections: u64) -> PodView {
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        deployment: "d".to_owned(),
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

/// A node that is out of the Service, in a phase.
fn out(name: &str, phase: NodePhase, connections: u64) -> PodView {
    let mut pod = pod(name, connections);
    (pod.ready, pod.endpoint_ready) = (false, Some(false));
    pod.node.as_mut().unwrap().phase = phase;
    pod
}

fn seen(pods: &[PodView], replicas: i32, desired: i32) -> FleetView<'_> {
    FleetView { desired, ..whole(NOW, pods, one(replicas), told(&[])) }
}

/// Orders to close that reached their nodes.
fn told(orders: &[(&str, u32)]) -> &'static Paces {
    let mut paces = Paces::default();
    for (pod, rate) in orders {
        paces.note(&close(pod, *rate), true);
    }
    Box::leak(Box::new(paces))
}

fn close(pod: &str, rate: u32) -> Action {
    Action::Close { pod: pod.to_owned(), rate, slower: false }
}

fn slow(pod: &str, rate: u32) -> Action {
    Action::Close { pod: pod.to_owned(), rate, slower: true }
}

fn unready(pod: &str) -> Action {
    Action::Unready { pod: pod.to_owned() }
}

fn back(pod: &str) -> Action {
    Action::TakeBack { pod: pod.to_owned() }
}

fn cost(pod: &str, cost: Option<i32>) -> Action {
    Action::DeletionCost { pod: pod.to_owned(), cost }
}

fn replicas(from: i32, to: i32) -> Action {
    Action::Replicas { deployment: "d".to_owned(), from, to }
}

/// What a look decided, with its operation as a drain.
#[derive(Debug)]
struct Out {
    operation: Option<DrainOperation>,
    actions: Vec<Action>,
    notes: Vec<Note>,
    waiting: Option<String>,
}

impl Out {
    /// The nodes that go, each with its step.
    fn steps(&self) -> Vec<(&str, DrainStep)> {
        let nodes = self.operation.as_ref().map(|drain| &drain.nodes[..]).unwrap_or_default();
        nodes.iter().map(|node| (node.pod.as_str(), node.step)).collect()
    }
}

/// One look of the arbiter.
fn step(operation: Option<&DrainOperation>, fleet: &FleetView<'_>) -> Out {
    let recorded = operation.cloned().map(Operation::Drain);
    let plan = arbiter::plan(recorded.as_ref(), fleet);
    let operation = plan.operation.map(|operation| match operation {
        Operation::Drain(drain) => drain,
        Operation::Rebalance(rebalance) => panic!("{rebalance:?}"),
    });
    Out { operation, actions: plan.actions, notes: plan.notes, waiting: plan.waiting }
}

fn node(pod: &str, step: DrainStep, since: u64) -> LeavingNode {
    LeavingNode {
        pod: pod.to_owned(),
        pod_uid: format!("uid-{pod}"),
        cause: LeaveCause::ScaleIn,
        why: None,
        step,
        step_at: time(NOW - since),
        connections: Some(0),
        connections_per_second: None,
    }
}

fn operation(pod: &str, step: DrainStep, since: u64) -> DrainOperation {
    DrainOperation { started_at: time(NOW - since), nodes: vec![node(pod, step, since)] }
}

fn staying(operation: &DrainOperation, pods: &[PodView], replicas: i32) -> i32 {
    arbiter::staying(Some(&Operation::Drain(operation.clone())), pods, one(replicas))
}

#[test]
fn the_cheapest_node_goes_and_a_pod_that_never_ran_before_it() {
    let first = |pods: &[PodView]| pick::ranked(pods)[0].name.clone();
    let mut pods = [pod("a", 30), pod("b", 10), pod("c", 20)];
    pods[1].node.as_mut().unwrap().writes_per_second = Some(50.0);
    assert_eq!(first(&pods), "c", "writes/s come before connections");
    pods[0].ready = false;
    assert_eq!(first(&pods), "a");
    pods[1] = PodView { name: "b".to_owned(), pending: true, ..PodView::default() };
    assert_eq!(first(&pods), "b");
    pods[1].terminating = true;
    assert_eq!(first(&pods), "a");
}

#[test]
fn the_steps_follow_each_other() {
    let mut pods = [pod("a", 9), pod("b", 5_000), pod("c", 7_000)];
    pods[0].node.as_mut().unwrap().writes_per_second = Some(1.0);
    let begun = step(None, &seen(&pods, 3, 2));
    let mut op = begun.operation.clone().unwrap();
    assert_eq!((begun.steps(), op.nodes[0].connections), (vec![("b", DrainStep::Unready)], Some(5_000)));
    assert_eq!(begun.actions, [unready("b")]);
    assert_eq!(staying(&op, &pods, 3), 2);

    pods[1].ready = false;
    pods[1].node.as_mut().unwrap().phase = NodePhase::Unready;
    let waits = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(waits.steps(), [("b", DrainStep::Unready)], "the endpoint is still ready");
    assert!(waits.actions.is_empty() && waits.waiting.is_some());

    pods[1].endpoint_ready = Some(false);
    let gathers = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(
        (gathers.steps(), gathers.actions.len()),
        (vec![("b", DrainStep::Waiting)], 0),
        "others may follow"
    );
    op = gathers.operation.unwrap();
    let later = FleetView { now: NOW + super::pacing::GATHER_MILLIS, ..seen(&pods, 3, 2) };
    let closes = step(Some(&op), &later);
    op = closes.operation.clone().unwrap();
    assert_eq!(
        (closes.steps(), op.nodes[0].connections_per_second),
        (vec![("b", DrainStep::Closing)], Some(500))
    );
    assert_eq!(closes.actions, [close("b", 500)]);

    pods[1] = out("b", NodePhase::Closing, 4_000);
    let goes_on = step(Some(&op), &FleetView { paces: told(&[("b", 500)]), ..seen(&pods, 3, 2) });
    assert_eq!(goes_on.operation.as_ref().unwrap().nodes[0].connections, Some(4_000));
    assert!(goes_on.actions.is_empty(), "told once: {:?}", goes_on.actions);
    let lost = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(lost.actions, [close("b", 500)], "it did not arrive");
    let hurried =
        FleetView { connections_per_second: 2_000, paces: told(&[("b", 500)]), ..seen(&pods, 3, 2) };
    assert_eq!(step(Some(&op), &hurried).actions, [close("b", 2_000)], "the pace was raised");
    let slowed = FleetView { connections_per_second: 20, ..hurried };
    assert_eq!(step(Some(&op), &slowed).actions, [slow("b", 20)], "the pace was lowered");

    pods[1] = out("b", NodePhase::Closed, 0);
    let empty = step(Some(&op), &seen(&pods, 3, 2));
    op = empty.operation.clone().unwrap();
    assert_eq!(empty.steps(), [("b", DrainStep::Removing)]);
    assert_eq!(empty.actions, [cost("b", Some(LOWEST_COST))], "nobody has seen the cost yet");

    pods[1].deletion_cost = Some(LOWEST_COST);
    assert_eq!(step(Some(&op), &seen(&pods, 3, 2)).actions, [replicas(3, 2)]);
    let lowered = step(Some(&op), &seen(&pods, 2, 2));
    assert!(lowered.actions.is_empty() && lowered.operation.is_some(), "not lowered twice: {lowered:?}");
    assert_eq!(staying(&op, &pods, 2), 2);

    pods[1].terminating = true;
    let gone = step(Some(&op), &seen(&pods, 2, 2));
    assert_eq!((gone.operation, gone.notes[0].reason), (None, "NodeRemoved"));
    assert!(gone.actions.is_empty(), "a pod that is going is not taken back");
}

#[test]
fn growing_takes_the_draining_node_back_first() {
    let mut pods = [pod("a", 9), out("b", NodePhase::Closing, 5)];
    pods[1].deletion_cost = Some(LOWEST_COST);
    let op = operation("b", DrainStep::Closing, 5_000);
    let same = step(Some(&op), &seen(&pods, 2, 2));
    assert_eq!((same.operation, same.actions), (None, vec![back("b"), cost("b", None)]));
    let more = step(Some(&op), &seen(&pods, 2, 4));
    assert_eq!(more.actions, [replicas(2, 4), back("b"), cost("b", None)]);
}

#[test]
fn a_node_that_drains_without_an_operation_is_taken_back() {
    let pods = [out("a", NodePhase::Unready, 9), pod("b", 5)];
    assert_eq!(step(None, &seen(&pods, 2, 2)).actions, [back("a")]);
}

#[test]
fn a_pod_that_would_be_removed_instead_holds_the_last_step() {
    let mut pods = [pod("a", 9), out("b", NodePhase::Closed, 0), pod("c", 9)];
    pods[1].deletion_cost = Some(LOWEST_COST);
    pods[2] = PodView { node: None, ready: false, pending: true, ..pod("c", 0) };
    let held = step(Some(&operation("b", DrainStep::Removing, 5_000)), &seen(&pods, 3, 2));
    assert!(held.actions.is_empty() && held.operation.is_some(), "{held:?}");
    let op = operation("b", DrainStep::Removing, super::REPLAN_MILLIS + 2_000);
    let replanned = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(
        (replanned.steps(), replanned.notes[0].reason),
        (vec![("c", DrainStep::Removing)], "DrainReplanned")
    );
    assert_eq!(replanned.actions, [cost("c", Some(LOWEST_COST)), back("b"), cost("b", None)]);
}

#[test]
fn without_quorum_nothing_is_closed_and_the_deadline_waits() {
    let mut pods = [pod("a", 9), out("b", NodePhase::Unready, 5)];
    pods[1].node = None;
    let blind = FleetView { quorum: false, ..seen(&pods, 2, 1) };
    let steps = [(DrainStep::Unready, 100_000), (DrainStep::Waiting, 9_000), (DrainStep::Closing, 2_000_000)];
    for (begun, since) in steps {
        let waits = step(Some(&operation("b", begun, since)), &blind);
        assert_eq!(waits.steps(), [("b", begun)]);
        assert!(waits.actions.is_empty() && waits.waiting.is_some(), "{:?}", waits.actions);
    }
    let serving = [pod("a", 9), pod("b", 5)];
    let begun = step(None, &FleetView { pods: &serving, ..blind });
    assert!(begun.operation.is_none() && begun.actions.is_empty(), "no node is made unready: {begun:?}");
}

#[test]
fn the_deadline_ends_a_drain_that_does_not_end() {
    let pods = [pod("a", 9), out("b", NodePhase::Closing, 5)];
    let ended = step(Some(&operation("b", DrainStep::Closing, 640_000)), &seen(&pods, 2, 1));
    assert_eq!(ended.steps(), [("b", DrainStep::Removing)]);
    assert_eq!((ended.notes[0].reason, ended.notes[0].warning), ("DrainDeadline", true));
}

#[test]
fn a_node_that_no_order_reaches_is_not_drained_for_ever() {
    let mut pods = [pod("a", 9), pod("b", 5), pod("c", 7), pod("d", 8)];
    pods[1].node = None; // its figures went missing after it was picked
    let mut op = Some(operation("b", DrainStep::Unready, 0));
    let mut now = NOW;
    let mut replanned = None;
    while let Some(under_way) = op.take() {
        now += 2_000;
        assert!(now < NOW + 1_000_000, "still {:?}", under_way.nodes);
        let out = step(Some(&under_way), &FleetView { now, ..seen(&pods, 4, 3) });
        for action in &out.actions {
            match action {
                Action::DeletionCost { pod, cost } if pod == "b" => pods[1].deletion_cost = *cost,
                Action::Replicas { .. } => panic!("it serves"),
                _ => {}
            }
        }
        if out.notes.iter().any(|note| note.reason == "DrainReplanned") {
            replanned = Some(out);
            break;
        }
        op = out.operation;
    }
    assert_eq!(pods[1].deletion_cost, None);
    assert_eq!(replanned.unwrap().steps(), [("c", DrainStep::Unready)], "what is unknown is ranked last");
}

#[test]
fn pods_that_were_never_made_need_no_drain() {
    let pods = [pod("a", 9), pod("b", 5)];
    let unmade = FleetView { existing: 2, ..seen(&pods, 4, 1) };
    assert_eq!(step(None, &unmade).actions, [replicas(4, 2)]);
    let rollout = FleetView { settled: false, ..seen(&pods, 2, 1) };
    assert!(step(None, &rollout).operation.is_none(), "no drain during a rollout");
}

#[test]
fn pods_that_are_not_seen_are_not_taken_for_pods_that_were_never_made() {
    let mut pods = [pod("a", 9), pod("b", 0)];
    let hung = FleetView { existing: 4, ..seen(&pods, 4, 1) };
    let begun = step(None, &hung);
    assert!(begun.actions.is_empty() && begun.operation.is_none() && begun.waiting.is_some(), "{begun:?}");

    pods[1] = out("b", NodePhase::Closed, 0);
    pods[1].deletion_cost = Some(LOWEST_COST);
    let op = operation("b", DrainStep::Removing, 5_000);
    // A third pod is counted and not seen.
    let held = step(Some(&op), &FleetView { existing: 3, ..seen(&pods, 3, 2) });
    assert!(held.actions.is_empty() && held.operation.is_some(), "the third may go instead: {held:?}");
    let removed = step(Some(&op), &seen(&pods, 2, 1));
    assert_eq!(removed.actions, [replicas(2, 1)]);
}

#[test]
fn pods_that_cannot_be_placed_do_not_keep_each_other_from_going() {
    let waits = |name: &str, cost| PodView {
        node: None,
        ready: false,
        pending: true,
        deletion_cost: cost,
        ..pod(name, 0)
    };
    let pods = [pod("a", 9), waits("b", Some(LOWEST_COST)), waits("c", None)];
    let op = operation("b", DrainStep::Removing, 5_000);
    let removed = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!(removed.actions, [replicas(3, 2)], "neither holds a connection: {removed:?}");
    // The ReplicaSet removed the other pod.
    let over = step(Some(&op), &seen(&pods[..2], 2, 2));
    assert_eq!((over.operation, over.actions), (None, vec![cost("b", None)]));
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
    let begun = step(None, &seen(&pods, 3, 2));
    let op = begun.operation.clone().unwrap();
    assert_eq!(
        (begun.steps(), op.nodes[0].connections),
        (vec![("a", DrainStep::Removing)], Some(0)),
        "nobody is on it"
    );
    assert!(!begun.notes[0].message.contains("151"), "figures of a dead process: {}", begun.notes[0].message);
    assert!(begun.notes[0].message.contains("does not run"), "{}", begun.notes[0].message);
    assert_eq!(begun.actions, [cost("a", Some(LOWEST_COST))]);
    // The process runs again before the pod is removed: it is a node like any other, and is drained.
    pods[0] = PodView { deletion_cost: Some(LOWEST_COST), restarts: 4, ..pod("a", 2) };
    let again = step(Some(&op), &seen(&pods, 3, 2));
    assert_eq!((again.steps(), again.actions.clone()), (vec![("a", DrainStep::Unready)], vec![unready("a")]));
    pods[0].ready = false;
    pods[1].ready = false;
    assert_eq!(
        pick::ranked(&[pods[1].clone(), crashed("z", 9)])[0].name,
        "z",
        "before one that is not ready"
    );
}

#[test]
fn a_node_that_dies_while_it_is_drained_is_empty_and_gets_no_orders() {
    for begun in [DrainStep::Unready, DrainStep::Waiting, DrainStep::Closing] {
        let mut pods = [crashed("a", 151), pod("b", 5)];
        pods[0].node.as_mut().unwrap().phase = NodePhase::Closing;
        let empty = step(Some(&operation("a", begun, 4_000)), &seen(&pods, 2, 1));
        assert_eq!(empty.steps(), [("a", DrainStep::Removing)]);
        assert_eq!(empty.operation.unwrap().nodes[0].connections, Some(0));
        assert_eq!(empty.actions, [cost("a", Some(LOWEST_COST))]);
    }
}

#[test]
fn orders_wait_for_an_answer() {
    let mut pods = [out("a", NodePhase::Unready, 151), pod("b", 5)];
    pods[0].node.as_mut().unwrap().answers = false;
    for begun in [DrainStep::Unready, DrainStep::Waiting, DrainStep::Closing] {
        let mut op = Some(operation("a", begun, 60_000));
        for _ in 0..7 {
            let out = step(op.as_ref(), &seen(&pods, 2, 1));
            assert!(out.actions.is_empty(), "an order to a process that does not answer: {:?}", out.actions);
            op = out.operation;
        }
        assert_eq!(op.as_ref().unwrap().nodes[0].step, DrainStep::Closing, "its deadline runs");
        let mut answers = pods.clone();
        answers[0].node.as_mut().unwrap().answers = true;
        assert_eq!(step(op.as_ref(), &seen(&answers, 2, 1)).actions, [close("a", 500)]);
    }
    let idle = step(None, &seen(&pods, 2, 2));
    assert!(idle.actions.is_empty(), "nor is it taken back: {:?}", idle.actions);
}

#[test]
fn what_is_unknown_is_no_candidate_by_figures() {
    let mut pods = [pod("a", 9), pod("b", 0), pod("c", 20)];
    pods[0].node.as_mut().unwrap().writes_per_second = Some(10.0);
    pods[1].node.as_mut().unwrap().writes_per_second = None;
    pods[2].node.as_mut().unwrap().writes_per_second = Some(20.0);
    assert_eq!(pick::ranked(&pods)[0].name, "a", "one answer is no rate");
    let silent = PodView { node: None, ready: false, ..pod("d", 0) };
    let begun = step(None, &seen(&[pods[0].clone(), silent], 2, 1));
    let node = &begun.operation.as_ref().unwrap().nodes[0];
    assert_eq!((node.pod.as_str(), node.connections), ("d", None), "unknown is not 0");
    assert!(begun.actions.is_empty(), "{:?}", begun.actions);
}

#[test]
fn while_a_node_does_not_hear_the_others_no_drain_begins_or_goes_on() {
    let mut pods = [pod("a", 9), pod("b", 0)];
    let deaf = FleetView { heard: false, ..seen(&pods, 2, 1) };
    let begun = step(None, &deaf);
    assert!(begun.operation.is_none() && begun.actions.is_empty() && begun.waiting.is_some(), "{begun:?}");
    pods[1] = out("b", NodePhase::Unready, 0);
    pods[1].deletion_cost = Some(LOWEST_COST);
    let steps = [
        (DrainStep::Unready, NodePhase::Unready),
        (DrainStep::Waiting, NodePhase::Unready),
        (DrainStep::Closing, NodePhase::Closed),
        (DrainStep::Removing, NodePhase::Closed),
    ];
    for (begun, phase) in steps {
        pods[1].node.as_mut().unwrap().phase = phase;
        let op = operation("b", begun, 2_000_000);
        let waits = step(Some(&op), &FleetView { heard: false, ..seen(&pods, 2, 1) });
        assert_eq!((waits.steps(), waits.actions.len()), (vec![("b", begun)], 0));
        let goes_on = step(Some(&op), &seen(&pods, 2, 1));
        assert!(!goes_on.actions.is_empty(), "it goes on afterwards: {goes_on:?}");
        // More nodes are wanted, which does not wait until the bus is heard again.
        let grown = step(Some(&op), &FleetView { heard: false, ..seen(&pods, 2, 3) });
        assert!(grown.operation.is_none() && grown.actions.contains(&replicas(2, 3)), "{grown:?}");
    }
}
