//! What lasts of a rollout from look to look, and what becomes of Deployments that somebody deleted.

use crds::{RolloutPaused, RolloutStatus, TemplateStatus};

use super::*;

/// A look at a fleet whose Deployments are these by name, nodes, and whether the nodes serve; the first one is current.
/// `generations` are those of the spec and of the one that was reconciled.
fn look(world: &mut World, deployments: &[(&str, i32, bool)], generations: (i64, i64)) -> Tick {
    let mut pods = Vec::new();
    let mut views = Vec::new();
    for (at, (name, nodes, ready)) in deployments.iter().enumerate() {
        for number in 0..*nodes {
            let uid = format!("{name}-{number}");
            let (created, deployment) = (world.now, (*name).to_owned());
            let pending = !ready;
            pods.push(PodView {
                name: uid.clone(),
                uid,
                created,
                deployment,
                pending,
                ready: *ready,
                endpoint_ready: Some(*ready),
                ..PodView::default()
            });
        }
        views.push(DeploymentView {
            name: (*name).to_owned(),
            template: (*name).to_owned(),
            revision: 9 - at as u64,
            current: at == 0,
            replicas: *nodes,
            pods: *nodes,
            observed: true,
            ..DeploymentView::default()
        });
    }
    world.now += LOOK;
    world.cluster.metadata.generation = Some(generations.0);
    let out = tick(
        &mut world.memory,
        &Observation {
            now: world.now,
            asked: &Asked::of(&world.cluster),
            generation: generations.1,
            outcome: &Outcome::Applied,
            valid: Some(&world.valid),
            previous: &world.status,
            deployments: &views,
            node_deployment: None,
            nats_deployment: None,
            pods: &pods,
            series: &world.series,
            rejected: &[],
            figures: None,
            hindrances: &[],
            contest: None,
            probing: Probing::default(),
        },
    );
    world.status = out.status.clone();
    out
}

/// A fleet of this template whose status knows these Deployments, the rollout stopped for this reason in generation 1.
fn stopped(template: &str, known: &[&str], reason: Option<&str>) -> World {
    let mut world = World::new();
    template.clone_into(&mut world.valid.template);
    let of = |name: &&str| {
        let name = (*name).to_owned();
        TemplateStatus { template: Some(name.clone()), name, ..TemplateStatus::default() }
    };
    let paused = reason.map(|reason| RolloutPaused {
        reason: reason.to_owned(),
        message: "as seen".to_owned(),
        generation: 1,
    });
    let rollout = RolloutStatus { deployments: known.iter().map(of).collect(), paused, rolled_back: None };
    (world.status.rollout, world.status.desired_replicas) = (Some(rollout), Some(4));
    world
}

fn reason(world: &World) -> Option<&str> {
    world.status.rollout.as_ref()?.paused.as_ref().map(|paused| paused.reason.as_str())
}

#[test]
fn what_stopped_a_rollout_is_not_held_against_another_template_or_another_spec() {
    let both = [("new", 1, true), ("old", 4, true)];
    let begun = || stopped("new", &["new", "old"], Some("HandshakesRefused"));
    let mut world = begun();
    look(&mut world, &both, (1, 1));
    assert_eq!(reason(&world), Some("HandshakesRefused"));
    // The spec has changed, and was not reconciled yet: what was asked for before does not go on.
    look(&mut world, &both, (2, 1));
    let paused = world.status.rollout.as_ref().unwrap().paused.clone().unwrap();
    assert_eq!((paused.reason.as_str(), paused.generation), ("HandshakesRefused", 1));
    look(&mut world, &both, (2, 2));
    assert_eq!(reason(&world), None, "it may be tried again");
    // Another template is the current one, in the same generation: the one of before was given up.
    let mut world = begun();
    "newest".clone_into(&mut world.valid.template);
    look(&mut world, &[("newest", 1, true), ("new", 1, true), ("old", 4, true)], (1, 1));
    assert_eq!(reason(&world), None);
    // What does not last by itself does until the changed spec is reconciled.
    for (generations, lasts) in [((1, 1), false), ((2, 1), true)] {
        let mut world = stopped("new", &["new", "old"], Some("NodesNotReady"));
        look(&mut world, &both, generations);
        assert_eq!(reason(&world).is_some(), lasts, "{generations:?}");
    }
}

#[test]
fn a_fleet_goes_back_to_the_newest_template_whose_nodes_serve() {
    let all = [("new", 1, true), ("bad", 1, false), ("old", 4, true), ("older", 0, true)];
    let mut world = stopped("new", &["new", "bad", "old"], Some("HandshakesRefused"));
    world.valid.rollout.auto_rollback = Some(true);
    look(&mut world, &all, (1, 1));
    let back = world.status.rollout.as_ref().unwrap().rolled_back.clone().unwrap();
    assert_eq!((back.from.as_str(), back.to.as_str()), ("new", "old"));
    let mut world = stopped("new", &["new", "bad"], Some("HandshakesRefused"));
    world.valid.rollout.auto_rollback = Some(true);
    look(&mut world, &all[..2], (1, 1));
    assert_eq!(world.status.rollout.as_ref().unwrap().rolled_back, None, "none of before serves");
}

#[test]
fn no_deployment_grows_in_the_place_of_one_that_was_deleted() {
    let mut world = stopped("new", &["new"], None);
    let out = look(&mut world, &[("old", 0, true)], (1, 1));
    assert_eq!((out.actions, world.status.desired_replicas), (vec![], Some(4)));
    // It is made again, without nodes, since another Deployment is there.
    let out = look(&mut world, &[("new", 0, true), ("old", 0, true)], (1, 1));
    let grown = Action::Replicas { deployment: "new".to_owned(), from: 0, to: 4 };
    assert_eq!(out.actions, [grown], "as large as before");
}
