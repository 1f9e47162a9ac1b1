//! Several nodes at a time.

use super::*;
use crate::observation::DeploymentView;

/// A drain of these nodes at a step.
fn drain(nodes: &[&str], at: DrainStep) -> DrainOperation {
    let nodes = nodes.iter().map(|name| node(name, at, 9_000)).collect();
    DrainOperation { started_at: time(NOW - 9_000), nodes }
}

#[test]
fn all_nodes_leave_the_service_before_one_closes_its_connections() {
    let mut pods = [pod("a", 90), pod("b", 50), pod("c", 70), pod("d", 60)];
    let begun = step(None, &seen(&pods, 4, 1));
    assert_eq!(begun.actions, [unready("b"), unready("d"), unready("c")]);
    let message = &begun.notes[0].message;
    assert!(
        begun.notes.len() == 1 && message.starts_with("b goes") && message.contains("c goes"),
        "{message}"
    );
    let mut op = begun.operation.unwrap();
    assert_eq!(staying(&op, &pods, 4), 1);
    for last in 1..4 {
        pods[last] = out(&pods[last].name.clone(), NodePhase::Unready, 50);
        let now = NOW + 60_000; // more nodes would have joined by now
        let look = step(Some(&op), &FleetView { now, ..seen(&pods, 4, 1) });
        op = look.operation.clone().unwrap();
        let closes = look.actions.iter().filter(|action| matches!(action, Action::Close { .. })).count();
        assert_eq!(closes, if last == 3 { 3 } else { 0 }, "{:?}", look.actions);
    }
    let paces: u32 = op.nodes.iter().filter_map(|node| node.connections_per_second).sum();
    assert_eq!(paces, 500);
}

#[test]
fn the_emptiest_node_closes_first_and_the_budget_is_kept() {
    let mut pods = [
        pod("a", 9),
        out("b", NodePhase::Unready, 9_000),
        out("c", NodePhase::Unready, 300),
        out("d", NodePhase::Unready, 8_000),
    ];
    let begun = step(Some(&drain(&["b", "c", "d"], DrainStep::Waiting)), &seen(&pods, 4, 1));
    assert_eq!(begun.actions, [close("c", 150), close("d", 350)]);
    let steps = [("b", DrainStep::Waiting), ("c", DrainStep::Closing), ("d", DrainStep::Closing)];
    assert_eq!(begun.steps(), steps);
    assert!(begun.notes[0].message.contains("at 150/s") && begun.notes[0].message.contains("at 350/s"));
    // The first is almost empty: the second gets what that one has no use for any more.
    pods[2] = out("c", NodePhase::Closed, 0);
    pods[3] = out("d", NodePhase::Closing, 7_300);
    let paces = told(&[("c", 150), ("d", 350)]);
    let next = step(begun.operation.as_ref(), &FleetView { paces, ..seen(&pods, 4, 1) });
    assert_eq!(next.actions, [cost("c", Some(LOWEST_COST))], "what c was told may still count");
    let next = step(next.operation.as_ref(), &FleetView { paces: told(&[("d", 350)]), ..seen(&pods, 4, 1) });
    assert!(next.actions.contains(&close("d", 500)), "{:?}", next.actions);
    // Less is needed than before: it is told so first, and the next node gets the rest.
    pods[3] = out("d", NodePhase::Closing, 300);
    let last = FleetView { paces: told(&[("d", 500)]), ..seen(&pods, 4, 1) };
    assert_eq!(step(next.operation.as_ref(), &last).actions[..2], [slow("d", 150), close("b", 350)]);
}

#[test]
fn a_node_that_is_not_heard_keeps_its_part_of_the_budget() {
    let mut pods = [pod("a", 9), out("b", NodePhase::Closing, 400), out("c", NodePhase::Unready, 9_000)];
    pods[1].node.as_mut().unwrap().answers = false;
    let mut op = drain(&["b", "c"], DrainStep::Closing);
    op.nodes[1].step = DrainStep::Waiting;
    let silent = FleetView { paces: told(&[("b", 200)]), ..seen(&pods, 3, 1) };
    assert_eq!(step(Some(&op), &silent).actions, [close("c", 300)]);
    let lost = FleetView { paces: told(&[]), ..silent };
    assert_eq!(step(Some(&op), &lost).actions, [close("c", 500)], "it would be empty by now");
}

#[test]
fn a_node_that_joins_leaves_the_service_before_the_next_one_closes() {
    let pods = [
        pod("a", 90),
        pod("b", 80),
        out("c", NodePhase::Closing, 5_000),
        out("d", NodePhase::Unready, 6_000),
        pod("e", 70),
    ];
    let mut op = drain(&["c", "d"], DrainStep::Closing);
    op.nodes[1].step = DrainStep::Waiting;
    let fleet = FleetView { paces: told(&[("c", 400)]), ..seen(&pods, 5, 1) };
    let joined = step(Some(&op), &fleet);
    let steps = [
        ("c", DrainStep::Closing),
        ("d", DrainStep::Waiting),
        ("e", DrainStep::Unready),
        ("b", DrainStep::Unready),
    ];
    assert_eq!(joined.steps(), steps);
    assert_eq!(joined.actions, [unready("e"), unready("b"), close("c", 500)]);
}

#[test]
fn the_fullest_node_is_taken_back_first_and_the_rest_goes_on() {
    let mut pods = [
        pod("a", 9),
        out("b", NodePhase::Closing, 500),
        out("c", NodePhase::Unready, 9_000),
        out("d", NodePhase::Closed, 0),
    ];
    pods[3].deletion_cost = Some(LOWEST_COST);
    let mut op = drain(&["b", "c", "d"], DrainStep::Closing);
    (op.nodes[0].connections, op.nodes[1].connections) = (Some(500), Some(9_000));
    op.nodes[1].step = DrainStep::Waiting;
    op.nodes[2].step = DrainStep::Removing;
    let paces = told(&[("b", 250)]);
    let fleet = FleetView { paces, ..seen(&pods, 4, 2) };
    let one_back = step(Some(&op), &fleet);
    assert_eq!(one_back.steps(), [("b", DrainStep::Closing), ("d", DrainStep::Removing)]);
    assert_eq!(one_back.actions, [replicas(4, 3), back("c")]);
    assert_eq!(one_back.notes[0].reason, "DrainCancelled");
    let all_back = step(Some(&op), &FleetView { desired: 6, ..fleet });
    assert_eq!(all_back.operation, None);
    assert_eq!(all_back.actions, [replicas(4, 6), back("b"), back("c"), back("d"), cost("d", None)]);
    // Kubernetes removes the drained pod at any moment, since the replicas were lowered for it.
    let lowered =
        step(Some(&op), &FleetView { existing: 4, ..FleetView { desired: 4, ..seen(&pods, 3, 4) } });
    assert_eq!(lowered.steps(), [("d", DrainStep::Removing)]);
    assert_eq!(lowered.actions, [replicas(3, 4), back("b"), back("c")]);
}

#[test]
fn several_drained_nodes_go_at_once_and_each_deployment_is_lowered_for_its_own() {
    let of = |deployment: &str, mut pod: PodView| {
        deployment.clone_into(&mut pod.deployment);
        pod
    };
    let pods = [
        of("new", pod("a", 9)),
        of("new", out("b", NodePhase::Closed, 0)),
        of("old", out("c", NodePhase::Closed, 0)),
        of("old", out("d", NodePhase::Closed, 0)),
        of("old", out("e", NodePhase::Closing, 600)),
    ];
    let deployment = |name: &str, current, replicas| DeploymentView {
        name: name.to_owned(),
        current,
        replicas,
        pods: replicas,
        observed: true,
        ..DeploymentView::default()
    };
    let deployments = [deployment("new", true, 2), deployment("old", false, 3)];
    let fleet = FleetView { deployments: &deployments, paces: told(&[("e", 500)]), ..seen(&pods, 5, 1) };
    let look = step(Some(&drain(&["b", "c", "d", "e"], DrainStep::Closing)), &fleet);
    let set = |deployment: &str, from, to| Action::Replicas { deployment: deployment.to_owned(), from, to };
    assert_eq!(look.actions, ["b", "c", "d"].map(|pod| cost(pod, Some(LOWEST_COST))));
    assert_eq!(
        look.notes[0].message,
        "b has no connections left; c has no connections left; d has no connections left"
    );
    // More nodes are wanted: the Deployment whose pods are made as it is wanted grows, by the surge too.
    let grown = step(None, &FleetView { desired: 7, ..fleet });
    assert_eq!(grown.actions[0], set("new", 2, 6));
    // The costs of two of them are seen: only those are sure to go.
    let mut seen = pods.clone();
    (seen[1].deletion_cost, seen[2].deletion_cost) = (Some(LOWEST_COST), Some(LOWEST_COST));
    let next = step(look.operation.as_ref(), &FleetView { pods: &seen, ..fleet });
    assert_eq!(next.actions, [set("new", 2, 1), cost("d", Some(LOWEST_COST)), set("old", 3, 2)]);
}

#[test]
fn a_drained_node_is_removed_only_if_no_other_pod_would_go_first() {
    // The kubelet has not noticed yet that b is not ready, and d is not.
    let mut pods = [pod("a", 9), out("b", NodePhase::Closed, 0), out("c", NodePhase::Closed, 0), pod("d", 5)];
    pods[1].ready = true;
    pods[3].ready = false;
    let op = drain(&["b", "c"], DrainStep::Removing);
    let look = step(Some(&op), &seen(&pods, 4, 2));
    assert_eq!(look.actions, [cost("b", Some(LOWEST_COST)), cost("c", Some(LOWEST_COST))]);
    (pods[1].deletion_cost, pods[2].deletion_cost) = (Some(LOWEST_COST), Some(LOWEST_COST));
    let look = step(Some(&op), &seen(&pods, 4, 2));
    assert_eq!(look.actions, [replicas(4, 3)]);
    assert!(look.waiting.unwrap().starts_with("d is not ready"));
    // A node that was taken back has the lowest cost until that is taken from it.
    pods[1].ready = false;
    pods[3].deletion_cost = Some(LOWEST_COST);
    let look = step(Some(&op), &seen(&pods, 4, 2));
    assert!(
        !look.actions.iter().any(|action| matches!(action, Action::Replicas { .. })),
        "{:?}",
        look.actions
    );
}

#[test]
fn nobody_is_sent_away_while_no_node_is_ready_to_take_clients() {
    let pods =
        [out("a", NodePhase::Serving, 9), out("b", NodePhase::Closing, 500), out("c", NodePhase::Unready, 5)];
    let mut op = drain(&["b", "c"], DrainStep::Closing);
    op.nodes[1].step = DrainStep::Waiting;
    let look = step(Some(&op), &FleetView { paces: told(&[("b", 250)]), ..seen(&pods, 3, 1) });
    assert_eq!(look.steps(), [("b", DrainStep::Waiting), ("c", DrainStep::Waiting)]);
    assert_eq!(
        (look.actions.clone(), look.waiting.is_some()),
        (vec![Action::Hold { pod: "b".to_owned() }], true)
    );
}

#[test]
fn the_status_names_no_more_nodes_than_it_may() {
    let pods: Vec<PodView> = (0..300).map(|at| pod(&format!("p{at:03}"), 5)).collect();
    let begun = step(None, &seen(&pods, 300, 10));
    assert_eq!(begun.operation.as_ref().unwrap().nodes.len(), crds::MAX_LEAVING_NODES);
    assert!(begun.notes[0].message.len() < 512, "{}", begun.notes[0].message);
    let operation = Operation::Drain(begun.operation.unwrap());
    let (reason, said) = arbiter::running(&operation).condition();
    assert_eq!((reason, said.as_str()), ("Unready", "200 nodes are being taken out of the Service"));
    assert_eq!(arbiter::running(&operation).headline(), "Draining 200 nodes");
}
