use crds::{DrainStep, LeaveCause, LeavingNode, Operation};
use node_core::admin::NodePhase;

use super::{PATIENCE_MILLIS, SOON_MILLIS};
use crate::machine::{Doom, Fate, Haste};
use crate::observation::DeploymentView;
use crate::operations::arbiter::{plan, replaces};
use crate::operations::going::LOWEST_COST;
use crate::operations::paces::Paces;
use crate::operations::plan::{Action, FleetView, Plan};
use crate::operations::{one, whole};
use crate::pod::{NodeView, PodView};

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str) -> PodView {
    let phase = NodePhase::Serving;
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        deployment: "d".to_owned(),
        machine: Some("m".to_owned()),
        ready: true,
        endpoint_ready: Some(true),
        node: Some(NodeView { phase, connections: 100, writes_per_second: Some(1.0), answers: true }),
        fate: Fate::Stays,
        ..PodView::default()
    }
}

fn doomed(name: &str, haste: Haste) -> PodView {
    PodView { fate: Fate::Goes(Doom { why: "machine m goes".to_owned(), haste }), ..pod(name) }
}

fn out(mut pod: PodView) -> PodView {
    (pod.ready, pod.endpoint_ready) = (false, Some(false));
    pod.node.as_mut().unwrap().phase = NodePhase::Unready;
    pod
}

/// A look `later` milliseconds after [`NOW`] at a fleet of which all pods are seen.
fn look(pods: &[PodView], operation: Option<&Operation>, desired: i32, later: u64) -> Plan {
    let alive = i32::try_from(pods.iter().filter(|pod| !pod.terminating).count()).unwrap();
    look_at(pods, operation, desired, later, one(alive))
}

fn look_at(
    pods: &[PodView],
    operation: Option<&Operation>,
    desired: i32,
    later: u64,
    deployments: &[DeploymentView],
) -> Plan {
    let paces = Paces::default();
    plan(operation, &FleetView { desired, ..whole(NOW + later, pods, deployments, &paces) })
}

fn going(plan: &Plan) -> Vec<LeavingNode> {
    match &plan.operation {
        Some(Operation::Drain(drain)) => drain.nodes.clone(),
        _ => Vec::new(),
    }
}

fn steps(plan: &Plan) -> Vec<(String, DrainStep)> {
    going(plan).into_iter().map(|node| (node.pod, node.step)).collect()
}

fn at(pods: &[&str], step: DrainStep) -> Vec<(String, DrainStep)> {
    pods.iter().map(|pod| ((*pod).to_owned(), step)).collect()
}

fn replicas(plan: &Plan) -> Option<i32> {
    plan.actions.iter().find_map(|action| match action {
        Action::Replicas { to, .. } => Some(*to),
        _ => None,
    })
}

#[test]
fn the_fleet_grows_at_once_and_the_doomed_node_serves_until_half_are_elsewhere() {
    let pods = [doomed("a", Haste::Normal), doomed("b", Haste::Normal), pod("c")];
    let begun = look(&pods, None, 3, 0);
    assert_eq!((replicas(&begun), steps(&begun)), (Some(5), at(&["a", "b"], DrainStep::Replacing)));
    assert!(replaces(begun.operation.as_ref()));
    let note = &begun.notes[0];
    assert!(
        note.reason == "MachineGoes" && note.message.contains("a goes, since machine m goes"),
        "{note:?}"
    );
    assert!(going(&begun).iter().all(|node| node.why.as_deref() == Some("machine m goes")));
    let said = crate::operations::arbiter::running(begun.operation.as_ref().unwrap()).condition();
    assert_eq!(said, ("Replacing", "a, b serve until others are ready; machine m goes".to_owned()));

    // One more is ready elsewhere: two of three that are wanted.
    let mut more = pods.to_vec();
    more.extend([pod("d"), PodView { pending: true, ready: false, node: None, ..pod("e") }]);
    let leaves = look(&more, begun.operation.as_ref(), 3, 4_000);
    assert_eq!((replicas(&leaves), steps(&leaves)), (None, at(&["a", "b"], DrainStep::Unready)));

    // Both are out of the Service and keep their clients until the third one is ready.
    (more[0], more[1]) = (out(more[0].clone()), out(more[1].clone()));
    let waits = look(&more, leaves.operation.as_ref(), 3, 6_000);
    let waits = look(&more, waits.operation.as_ref(), 3, 20_000);
    assert_eq!(steps(&waits), at(&["a", "b"], DrainStep::Waiting), "{waits:?}");
    more[4] = pod("e");
    let closes = look(&more, waits.operation.as_ref(), 3, 22_000);
    assert!(closes.actions.iter().any(|action| matches!(action, Action::Close { .. })), "{closes:?}");
}

#[test]
fn a_machine_that_leaves_little_time_is_not_waited_for_long_and_an_only_node_stays() {
    for (haste, patience) in [(Haste::Soon, SOON_MILLIS), (Haste::Normal, PATIENCE_MILLIS)] {
        let pods = [doomed("a", haste), doomed("b", haste), doomed("c", haste), pod("d")];
        let begun = look(&pods, None, 4, 0);
        let early = look(&pods, begun.operation.as_ref(), 4, patience - 1_000);
        assert_eq!(steps(&early), at(&["a", "b", "c"], DrainStep::Replacing), "{haste:?}");
        let late = look(&pods, early.operation.as_ref(), 4, patience);
        assert_eq!(steps(&late), at(&["a", "b", "c"], DrainStep::Unready), "{haste:?}");
    }
    let only = [doomed("a", Haste::Soon)];
    let begun = look(&only, None, 1, 0);
    let late = look(&only, begun.operation.as_ref(), 1, 10 * PATIENCE_MILLIS);
    assert_eq!(steps(&late), at(&["a"], DrainStep::Replacing), "there is nobody else");
}

#[test]
fn a_fleet_at_most_doubles_and_max_does_not_hold_it_back() {
    // A machine with nodes that came in the stead of others goes as well.
    let pods: Vec<_> = (0..6).map(|at| doomed(&format!("p{at}"), Haste::Normal)).collect();
    let begun = look(&pods, None, 3, 0);
    assert_eq!((going(&begun).len(), replicas(&begun)), (3, None), "three of six may stay");
    let again = look(&pods[..3], None, 3, 0);
    assert_eq!(replicas(&again), Some(6));
}

#[test]
fn a_machine_that_stays_after_all_gets_its_node_back() {
    let pods = [doomed("a", Haste::Normal), pod("b"), pod("c")];
    let begun = look(&pods, None, 3, 0);
    let back = look(&[pod("a"), pod("b"), pod("c")], begun.operation.as_ref(), 3, 2_000);
    assert!(back.notes.iter().any(|note| note.reason == "DrainCancelled"), "{back:?}");
    assert_eq!((back.operation, replicas(&look(&pods, None, 2, 0))), (None, None), "it is the one less");
    let unknown = [PodView { fate: Fate::Unknown, ..pod("a") }, pod("b"), pod("c")];
    let goes_on = look(&unknown, begun.operation.as_ref(), 3, 2_000);
    assert_eq!(going(&goes_on).len(), 1, "what is not seen changes nothing");
}

#[test]
fn more_nodes_wanted_do_not_bring_back_one_whose_machine_goes() {
    let pods = [out(doomed("a", Haste::Normal)), pod("b"), pod("c"), pod("d")];
    let begun = look(&[doomed("a", Haste::Normal), pod("b"), pod("c"), pod("d")], None, 3, 0);
    let more = look(&pods, begun.operation.as_ref(), 5, 2_000);
    assert_eq!((replicas(&more), going(&more).len()), (Some(6), 1), "{more:?}");
}

#[test]
fn an_evicted_node_is_remembered_until_the_pod_in_its_stead_is_gone_again() {
    let mut pods = vec![doomed("a", Haste::Normal), pod("b"), pod("c"), pod("d")];
    let begun = look(&pods, None, 3, 0);
    (pods[0].terminating, pods[0].evicted) = (true, true);
    pods.push(PodView { pending: true, ready: false, node: None, fate: Fate::Unknown, ..pod("e") });
    let seen = look_at(&pods, begun.operation.as_ref(), 3, 500, one(4));
    assert!(seen.notes.iter().any(|note| note.reason == "NodeEvicted" && !note.warning), "{seen:?}");
    assert!(replaces(seen.operation.as_ref()));
    assert_eq!(
        going(&seen).iter().map(|node| node.cause).collect::<Vec<_>>(),
        [LeaveCause::Machine, LeaveCause::ScaleIn]
    );
    let cheap = look_at(&pods, seen.operation.as_ref(), 3, 1_000, one(4));
    assert_eq!((replicas(&cheap), going(&cheap)[1].pod.as_str()), (None, "e"), "{cheap:?}");
    pods[4].deletion_cost = Some(LOWEST_COST);
    let after = look_at(&pods, cheap.operation.as_ref(), 3, 1_500, one(4));
    assert_eq!((replicas(&after), going(&after)[1].pod.as_str()), (Some(3), "e"), "{after:?}");
    let long = look(&pods[..4], after.operation.as_ref(), 3, 60_000);
    assert_eq!(long.operation, None, "a pod that ends for minutes holds up nothing");
}

#[test]
fn a_node_that_ends_by_an_eviction_has_its_part_of_the_pace() {
    let mut paces = Paces::default();
    let mut ends = PodView { terminating: true, ready: false, ..pod("a") };
    ends.node.as_mut().unwrap().phase = NodePhase::Closing;
    paces.look(NOW, None, &[ends.clone()], 500);
    assert_eq!(paces.of("a").map(|pace| pace.per_second), Some(500));
    ends.node.as_mut().unwrap().phase = NodePhase::Closed;
    paces.look(NOW + 1, None, &[ends], 500);
    assert!(paces.of("a").is_none());
}
