use crds::{DrainOperation, DrainStep, LeaveCause, Operation, Surge};
use node_core::admin::NodePhase;

use super::{is_under_way, planned};
use crate::observation::DeploymentView;
use crate::operations::arbiter::plan;
use crate::operations::paces::Paces;
use crate::operations::plan::{Action, FleetView, Plan};
use crate::operations::plan::{Held, Terms};
use crate::operations::whole;
use crate::pod::{NodeView, PodView};
use crate::timestamp::millis;

const NOW: u64 = 1_800_000_000_000;

fn pod(name: &str, of: &str, connections: u64) -> PodView {
    let node = NodeView { phase: NodePhase::Serving, connections, writes_per_second: None, answers: true };
    PodView {
        name: name.to_owned(),
        uid: name.to_owned(),
        deployment: of.to_owned(),
        ready: true,
        endpoint_ready: Some(true),
        created: NOW,
        node: Some(node),
        ..PodView::default()
    }
}

/// The node as it is once it is out of the Service.
fn unready(pod: &mut PodView) {
    (pod.ready, pod.endpoint_ready) = (false, Some(false));
    pod.node.as_mut().unwrap().phase = NodePhase::Unready;
}

/// A Deployment of which all pods are made.
fn deployment(name: &str, pods: &[PodView], revision: u64, current: bool) -> DeploymentView {
    let own = i32::try_from(pods.iter().filter(|pod| pod.deployment == name).count()).unwrap();
    DeploymentView {
        name: name.to_owned(),
        template: name.to_owned(),
        revision,
        current,
        replicas: own,
        pods: own,
        observed: true,
        ..DeploymentView::default()
    }
}

/// A look at a fleet whose nodes come to be those of `new`.
fn look(pods: &[PodView], operation: Option<&Operation>, desired: i32, terms: Terms) -> Plan {
    let deployments = [deployment("new", pods, 2, true), deployment("old", pods, 1, false)];
    // Every step has lasted for as long as other nodes may join.
    let now = match operation {
        Some(Operation::Drain(drain)) => {
            drain.nodes.iter().map(|node| millis(&node.step_at)).max().unwrap_or(NOW) + 30_000
        }
        Some(Operation::Rebalance(_)) | None => NOW,
    };
    let paces = Paces::default();
    let fleet = whole(now, pods, &deployments, &paces);
    plan(operation, &FleetView { existing: fleet.replicas, desired, rollout: terms, ..fleet })
}

fn grows(to: i32) -> impl Fn(&Action) -> bool {
    move |action| matches!(action, Action::Replicas { deployment, to: now, .. } if deployment == "new" && *now == to)
}

fn drain(plan: &Plan) -> DrainOperation {
    match plan.operation.clone() {
        Some(Operation::Drain(drain)) => drain,
        other => panic!("{other:?}"),
    }
}

/// The pods on their way out, each with its step.
fn steps(plan: &Plan) -> Vec<(String, DrainStep)> {
    plan.operation.iter().flat_map(|_| drain(plan).nodes).map(|node| (node.pod, node.step)).collect()
}

fn closed(plan: &Plan) -> Vec<&str> {
    let actions = plan.actions.iter();
    let closed = actions.filter_map(|action| match action {
        Action::Close { pod, .. } => Some(pod.as_str()),
        _ => None,
    });
    closed.collect()
}

fn olds(count: u64) -> Vec<PodView> {
    (0..count).map(|n| pod(&format!("o{n}"), "old", 1_000 + n)).collect()
}

#[test]
fn the_new_come_first_and_no_more_than_the_surge() {
    let pods = olds(8);
    let begun = look(&pods, None, 8, Terms::default());
    assert!(begun.actions.iter().any(grows(2)) && begun.operation.is_none(), "{begun:?}");
    let all = Terms { surge: Surge::Percent(100), ..Terms::default() };
    assert!(look(&pods, None, 8, all).actions.iter().any(grows(8)));
    let one = Terms { surge: Surge::Nodes(1), ..Terms::default() };
    assert!(look(&pods, None, 8, one).actions.iter().any(grows(1)));
}

#[test]
fn all_of_before_leave_the_service_together_and_as_many_close_as_there_are_new_ones() {
    let mut pods = olds(4);
    pods.push(pod("n0", "new", 0));
    pods[4].ready = false;
    let starts = look(&pods, None, 4, Terms::default());
    assert!(starts.actions.is_empty() && starts.operation.is_none(), "it is not ready: {starts:?}");
    pods[4].ready = true;
    let mut out = look(&pods, None, 4, Terms::default());
    assert_eq!(drain(&out).nodes.len(), 4);
    assert!(drain(&out).nodes.iter().all(|node| node.cause == LeaveCause::Rollout));
    pods[..4].iter_mut().for_each(unready);
    for closing in [0, 1, 1] {
        out = look(&pods, out.operation.as_ref(), 4, Terms::default());
        let found = steps(&out).into_iter().filter(|(_, step)| *step == DrainStep::Closing).count();
        assert!(found == closing || found == 1, "{:?}", steps(&out));
    }
    let closing: Vec<_> = steps(&out).into_iter().filter(|(_, step)| *step == DrainStep::Closing).collect();
    assert_eq!(closing, [("o0".to_owned(), DrainStep::Closing)], "the emptiest");
    assert_eq!(closed(&out), ["o0"]);
    assert!(!out.actions.iter().any(|action| matches!(action, Action::TakeBack { .. })), "{out:?}");

    // It is gone: a new one takes its place, and the next waits for that.
    pods.remove(0);
    pods[3].node.as_mut().unwrap().connections = 1_000;
    let next = look(&pods, out.operation.as_ref(), 4, Terms::default());
    assert!(next.actions.iter().any(grows(2)), "{next:?}");
    assert_eq!(closed(&next), [""; 0]);
    pods.push(pod("n1", "new", 0));
    let next = look(&pods, next.operation.as_ref(), 4, Terms::default());
    assert_eq!(closed(&next), ["o1"]);
}

#[test]
fn nobody_leaves_the_service_before_the_whole_surge_is_ready() {
    let mut pods = olds(8);
    pods.extend([pod("n0", "new", 0), pod("n1", "new", 0)]);
    pods[9].ready = false;
    let waits = look(&pods, None, 8, Terms::default());
    assert!(waits.operation.is_none(), "one of two is ready: {waits:?}");
    pods[9].ready = true;
    assert_eq!(drain(&look(&pods, None, 8, Terms::default())).nodes.len(), 8);
    // A surge beyond the count is no more than the count.
    let all = Terms { surge: Surge::Nodes(9), ..Terms::default() };
    assert!(look(&pods, None, 2, all).operation.is_some());
}

#[test]
fn nodes_of_before_come_back_into_the_service_while_the_new_have_no_room() {
    let mut pods = olds(4);
    pods.push(pod("n0", "new", 0));
    let out = look(&pods, None, 4, Terms::default());
    pods[..4].iter_mut().for_each(unready);
    let mut out = look(&pods, out.operation.as_ref(), 4, Terms::default());
    // A crowd comes.
    pods[4].node.as_mut().unwrap().connections = 9_000;
    out = look(&pods, out.operation.as_ref(), 4, Terms::default());
    let back = out.actions.iter().filter(|action| matches!(action, Action::TakeBack { .. })).count();
    assert!(back >= 3, "but for the one that closes: {out:?}");
    let calm = look(&pods, None, 4, Terms::default());
    assert!(calm.operation.is_none(), "{calm:?}");
}

#[test]
fn nodes_of_before_without_a_process_go_at_once() {
    let mut pods = olds(3);
    pods[2] = PodView { pending: true, node: None, ready: false, ..pods[2].clone() };
    let out = look(&pods, None, 3, Terms::default());
    assert_eq!(steps(&out), [("o2".to_owned(), DrainStep::Removing)]);
}

#[test]
fn to_go_back_takes_back_what_was_on_its_way_out() {
    let mut pods = olds(4);
    pods.push(pod("n0", "new", 0));
    let out = look(&pods, None, 4, Terms::default());
    pods[..4].iter_mut().for_each(unready);
    let out = look(&pods, out.operation.as_ref(), 4, Terms::default());
    // The Deployment of before is the current one again.
    pods.iter_mut().for_each(|pod| {
        pod.deployment = if pod.deployment == "old" { "new".to_owned() } else { "old".to_owned() };
    });
    let back = look(&pods, out.operation.as_ref(), 4, Terms::default());
    let taken = back.actions.iter().filter(|action| matches!(action, Action::TakeBack { .. })).count();
    assert_eq!((taken, steps(&back).len()), (4, 0), "{back:?}");
    assert!(!back.actions.iter().any(|action| matches!(action, Action::Replicas { .. })), "{back:?}");
    for pod in &mut pods[..4] {
        (pod.ready, pod.endpoint_ready) = (true, Some(true));
        pod.node.as_mut().unwrap().phase = NodePhase::Serving;
    }
    let away = look(&pods, None, 4, Terms::default());
    assert_eq!(steps(&away), [("n0".to_owned(), DrainStep::Unready)]);
}

#[test]
fn a_rollout_that_is_held_leaves_the_nodes_of_before_in_service() {
    let held = |held| Terms { held: Some(held), ..Terms::default() };
    let mut pods = olds(4);
    assert!(look(&pods, None, 4, held(Held::Asked)).actions.is_empty());
    pods.push(pod("n0", "new", 0));
    assert!(look(&pods, None, 4, held(Held::Worse)).operation.is_none());
    let mut out = look(&pods, None, 4, Terms::default());
    pods[..4].iter_mut().for_each(unready);
    for _ in 0..2 {
        out = look(&pods, out.operation.as_ref(), 4, Terms::default());
    }
    let worse = look(&pods, out.operation.as_ref(), 4, held(Held::Worse));
    assert!(worse.operation.is_none(), "{worse:?}");
    let back = ["o0", "o1", "o2", "o3"].map(|pod| Action::TakeBack { pod: pod.to_owned() });
    assert_eq!(worse.actions, back);
    let asked = look(&pods, out.operation.as_ref(), 4, held(Held::Asked));
    assert_eq!(steps(&asked), [("o0".to_owned(), DrainStep::Closing)], "it has closed some already");
    // More nodes are wanted: they are such as are known to serve.
    pods[..4].iter_mut().for_each(|pod| *pod = self::pod(&pod.name, "old", 1_000));
    let more = look(&pods, None, 7, held(Held::Worse));
    let old =
        |action: &Action| matches!(action, Action::Replicas { deployment, to: 6, .. } if deployment == "old");
    assert!(more.actions.iter().any(old), "{more:?}");
}

const WORSE: Terms = Terms { surge: Surge::Percent(25), held: Some(Held::Worse) };

/// A node of the new template that does not come up.
fn broken(name: &str) -> PodView {
    PodView { ready: false, node: None, dead: true, restarts: 3, ..pod(name, "new", 0) }
}

fn old_grows(plan: &Plan) -> Option<i32> {
    plan.actions.iter().find_map(|action| match action {
        Action::Replicas { deployment, to, .. } if deployment == "old" => Some(*to),
        _ => None,
    })
}

#[test]
fn while_it_is_held_nodes_of_before_that_do_not_run_stay_and_broken_new_ones_do_not_count() {
    let mut pods = olds(4);
    pods.push(broken("n0"));
    for pod in &mut pods[2..4] {
        *pod = PodView { pending: true, node: None, ready: false, ..pod.clone() };
    }
    let held = look(&pods, None, 4, WORSE);
    assert!(held.operation.is_none() && held.actions.is_empty(), "they may be new ones: {held:?}");
    // One that had been picked before comes back.
    let picked = look(&pods, None, 4, Terms::default());
    assert_eq!(drain(&picked).nodes.len(), 2);
    let held = look(&pods, picked.operation.as_ref(), 4, WORSE);
    assert!(held.operation.is_none(), "{held:?}");
    // One node more is wanted.
    let pods = [olds(4), vec![broken("n0")]].concat();
    assert_eq!(old_grows(&look(&pods, None, 5, WORSE)), Some(5));
    // Beside those that work there are never more than the surge.
    let pods = [olds(4), vec![broken("n0"), broken("n1")]].concat();
    assert_eq!(old_grows(&look(&pods, None, 5, WORSE)), Some(5));
    assert_eq!(old_grows(&look(&pods, None, 4, WORSE)), None);
    for (late, node) in [(broken("n0"), None), (pod("n0", "new", 0), pod("n0", "new", 0).node)] {
        let new = PodView { dead: false, restarts: 0, created: NOW - 200_000, ready: false, node, ..late };
        let grows = old_grows(&look(&[olds(4), vec![new]].concat(), None, 5, WORSE));
        assert_eq!(grows, node.is_none().then_some(5), "one that answers is about to be ready");
    }
}

#[test]
fn while_it_is_held_the_fleet_follows_its_load() {
    // New nodes that work stay as many as the surge has.
    let pods = [olds(8), vec![pod("n0", "new", 0), pod("n1", "new", 0)]].concat();
    assert!(look(&pods, None, 8, WORSE).operation.is_none());
    assert_eq!(steps(&look(&pods, None, 7, WORSE)), [("o0".to_owned(), DrainStep::Unready)]);
    let mut pods = [olds(4), vec![broken("n0")]].concat();
    let mut out = look(&pods, None, 3, WORSE);
    let scale_in = |plan: &Plan| drain(plan).nodes.iter().all(|node| node.cause == LeaveCause::ScaleIn);
    assert!(steps(&out) == [("o0".to_owned(), DrainStep::Unready)] && scale_in(&out), "{out:?}");
    unready(&mut pods[0]);
    for _ in 0..2 {
        out = look(&pods, out.operation.as_ref(), 3, WORSE);
    }
    assert_eq!(closed(&out), ["o0"], "it goes on");
    // It comes back when it is wanted again, before another one is made.
    let more = look(&pods, out.operation.as_ref(), 4, WORSE);
    assert!(more.operation.is_none() && old_grows(&more).is_none(), "{more:?}");
    assert!(more.actions.contains(&Action::TakeBack { pod: "o0".to_owned() }), "{more:?}");
}

#[test]
fn a_fleet_whose_deployments_have_no_nodes_is_as_large_as_before() {
    let gone = [deployment("new", &[], 2, true), deployment("old", &[], 1, false)];
    assert_eq!((planned(&gone, Some(4), 0), planned(&gone, None, 0)), (4, 0));
}

#[test]
fn a_rollout_says_nothing_about_the_load() {
    let pods = [olds(4), vec![pod("n0", "new", 0)]].concat();
    let both = [deployment("new", &pods, 2, true), deployment("old", &pods, 1, false)];
    assert!(is_under_way(&both) && !is_under_way(&both[..1]));
    assert_eq!(
        (planned(&both, Some(4), 5), planned(&both, None, 5), planned(&both[..1], Some(4), 1)),
        (4, 5, 1)
    );
}
