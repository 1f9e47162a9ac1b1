//! The schedule, the annotations that hold a direction, and a Prometheus as the source, over the virtual fleet.

use crds::Operation;
use node_core::admin::NodePhase;

use super::World;
use crate::names::Names;
use crate::schedule::Entry;
use crate::source::{Answers, Figures, PrometheusSource, Queries, Vector};
use crate::wishes::DRAIN_ANNOTATION;

/// The next full minute of the world's clock is 0:17 UTC.
fn at(hour: u64, minute: u64) -> Entry {
    Entry::new(&crds::ScheduleEntry {
        cron: format!("{minute} {hour} * * *"),
        time_zone: None,
        duration: crds::Duration::from_secs(1_800),
        min_nodes: 4,
    })
    .expect("an entry")
}

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let all = &world.status.conditions;
    let found = all.iter().find(|condition| condition.type_ == kind).expect("there");
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// The rules of the decisions, oldest first.
fn rules(world: &World) -> Vec<&str> {
    world.status.decisions.iter().rev().map(|decision| decision.rule.as_str()).collect()
}

fn annotate(world: &mut World, which: &str, value: &str) {
    let annotations = world.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert(format!("channelcluster.io/pause-scale-{which}"), value.to_owned());
}

#[test]
fn a_schedule_raises_the_count_in_time_and_no_longer() {
    let mut world = World::new();
    world.valid.schedule = vec![at(0, 20)];
    assert_eq!(world.run(190), [2], "it is 0:19:50");
    assert_eq!(world.run(60), [2, 4], "at once, whatever behavior says");
    assert_eq!(rules(&world), ["Schedule"]);
    let said = &world.status.decisions[0].message;
    assert!(said.contains("\"20 0 * * *\" in UTC asks for 4 nodes until 1970-01-01T00:50:00Z"), "{said}");
    let (status, reason, message) = condition(&world, "ScalingLimited");
    assert_eq!((&*status, &*reason), ("True", "Schedule"), "{message}");
    assert_eq!(world.run(1_700), [4], "it is 0:49");
    assert_eq!(world.run(1_800), [4, 2], "both go together");
}

#[test]
fn most_nodes_wins_over_a_schedule() {
    let mut world = World::new();
    world.valid.schedule = vec![at(0, 10)];
    world.valid.bounds.max = 3;
    assert_eq!(world.run(60), [2, 3]);
    assert_eq!(rules(&world), ["Schedule"]);
}

#[test]
fn a_held_scale_out_waits_for_the_annotation_to_go() {
    let mut world = World::new();
    world.run(120);
    annotate(&mut world, "out", "true");
    world.valid.schedule = vec![at(0, 10)];
    world.load = 14_000.0;
    assert_eq!(world.run(300), [2], "neither the load nor the schedule");
    assert_eq!(condition(&world, "ScalingActive").1, "ScaleOutPaused");
    assert_eq!(world.status.reason.as_deref(), Some("PausedScaleOut"));
    world.valid.bounds.min = 3;
    assert_eq!(world.run(60), [2, 3], "nodes.min counts all the same");
    annotate(&mut world, "out", "false");
    assert_eq!(world.run(120).last(), Some(&5));
    assert_eq!(condition(&world, "ScalingActive").1, "Deciding");
}

#[test]
fn a_held_scale_in_waits_and_a_drain_that_is_under_way_goes_on() {
    let mut world = World::draining();
    annotate(&mut world, "in", "true");
    let before = world.deployment.replicas;
    let Some(Operation::Drain(drain)) = &world.status.operation else { panic!("nobody leaves") };
    let leaving = i32::try_from(drain.nodes.len()).expect("few");
    let counts = world.run(1_800);
    assert_eq!((counts[0], counts.last()), (before, Some(&(before - leaving))), "{counts:?}");
    assert_eq!(world.status.operation, None);
    assert_eq!(condition(&world, "ScalingActive").1, "ScaleInPaused");
    annotate(&mut world, "out", "yes");
    world.run(10);
    assert_eq!(condition(&world, "ScalingActive").0, "False", "both directions");
    world.cluster.metadata.annotations = None;
    assert_eq!(world.run(1_800).last(), Some(&2));
}

/// Names a node that is to go, or names it no more.
fn name(world: &mut World, pod: &str, value: &str) {
    let pod = world.pods.iter_mut().find(|of| of.name == pod).expect("there");
    pod.annotations.insert(DRAIN_ANNOTATION.to_owned(), value.to_owned());
}

fn names(world: &World) -> Vec<&str> {
    world.pods.iter().map(|pod| pod.name.as_str()).collect()
}

#[test]
fn a_node_that_a_person_names_goes_once_another_is_there_in_its_stead() {
    let mut world = World::new();
    world.run(120);
    name(&mut world, "p1", "true");
    assert_eq!(world.run(4), [2, 3], "another comes first");
    let without = world.status.operation.is_none() && world.nodes["u1"].phase == NodePhase::Serving;
    assert!(without, "{:?}", world.status.operation);
    assert_eq!(world.run(300), [3, 2], "the figures of three nodes do not make the fleet larger");
    assert_eq!(names(&world), ["p2", "p3"]);
    assert_eq!((world.status.desired_replicas, world.status.decisions.len()), (Some(2), 0));
    assert!(world.said.iter().any(|said| said.message.starts_with("p1 goes, since a person asked for it")));
}

#[test]
fn a_named_node_that_never_ran_goes_at_once_though_no_node_is_known() {
    let mut world = World::new();
    name(&mut world, "p1", "true");
    assert_eq!(world.run(4), [2, 3, 2], "none of them has started");
    assert_eq!(names(&world), ["p2", "p3"]);
}

#[test]
fn all_nodes_may_be_named_and_go_a_few_at_a_time() {
    let mut world = World::new();
    world.load = 11_000.0;
    world.run(300);
    let before = world.deployment.replicas;
    for pod in world.pods.clone() {
        name(&mut world, &pod.name, "true");
    }
    let counts = world.run(1_200);
    let most = before + world.valid.rollout.max_surge.unwrap_or_default().of(before).max(1);
    assert!(counts.iter().all(|count| (before..=most).contains(count)), "{counts:?}");
    assert_eq!(counts.last(), Some(&before));
    assert!(world.pods.iter().all(|pod| pod.annotations.is_empty()), "{:?}", names(&world));
}

#[test]
fn a_node_that_is_named_no_more_comes_back_and_the_one_in_its_stead_goes() {
    let mut world = World::new();
    world.run(120);
    name(&mut world, "p1", "true");
    while world.status.operation.is_none() {
        world.run(2);
    }
    name(&mut world, "p1", "false");
    world.run(4);
    assert_eq!(world.nodes["u1"].phase, NodePhase::Serving);
    assert_eq!(world.run(1_200).last(), Some(&2));
    assert!(names(&world).len() == 2 && names(&world).contains(&"p1"), "{:?}", names(&world));
    assert!(world.said.iter().any(|said| said.message == "p1 is to stay: it is taken back"));
}

#[test]
fn a_fleet_that_is_to_shrink_lets_the_named_node_go_and_none_in_its_stead() {
    let mut world = World::new();
    world.load = 7_000.0;
    world.run(300);
    assert_eq!(names(&world), ["p1", "p2", "p3"]);
    name(&mut world, "p2", "true");
    world.valid.bounds.max = 2;
    assert_eq!(world.run(300), [3, 2]);
    assert_eq!(names(&world), ["p1", "p3"]);
}

fn source() -> PrometheusSource {
    PrometheusSource {
        url: "http://prometheus.monitoring.svc:9090/base".to_owned(),
        queries: Queries::own("default", &Names::new("chat"), 30_000),
        scrape_millis: 30_000,
        timeout_millis: 5_000,
        auth: None,
        tls: None,
    }
}

/// What a Prometheus says: so many writes/s of each of the present pods.
fn said(world: &World, writes: f64) -> Figures {
    let vector = |number: f64| {
        let pods = world.pods.iter().map(|pod| (pod.name.clone(), Some(number)));
        Vector { at: 5_000.0, pods: pods.collect() }
    };
    let answers = Answers { writes: vector(writes), connections: vector(10.0), timestamps: vector(4_990.0) };
    source().figures(&answers, world.now)
}

#[test]
fn a_prometheus_alone_decides_when_it_is_the_source() {
    let mut world = World::new();
    world.figures = Some(said(&world, 10.0));
    world.load = 14_000.0; // the nodes say so, and the Prometheus does not
    for _ in 0..20 {
        world.figures = Some(said(&world, 10.0));
        assert_eq!(world.run(6), [2]);
    }
    assert_eq!(condition(&world, "MetricsFresh").0, "True");
    assert_eq!(
        world.status.totals.as_ref().and_then(|t| t.writes_per_second),
        Some(14_000),
        "as the nodes say"
    );
    for _ in 0..20 {
        world.figures = Some(said(&world, 4_000.0));
        world.run(6);
    }
    assert!(world.deployment.replicas > 2, "{:?}", world.status.reason);
}

#[test]
fn a_prometheus_that_is_gone_never_shrinks_a_fleet_and_says_why() {
    let mut world = World::new();
    let mut last = said(&world, 3_500.0);
    for _ in 0..20 {
        last = said(&world, 3_500.0);
        world.figures = Some(last.clone());
        world.run(6);
    }
    let grown = world.deployment.replicas;
    assert!(grown > 2);
    world.figures = Some(last.after_failure("no answer within 5000 ms: raise timeout"));
    world.load = 0.0; // the nodes' own figures fill no gap
    assert_eq!(world.run(1_800), [grown]);
    let (status, reason, message) = condition(&world, "MetricsFresh");
    assert_eq!((&*status, &*reason), ("False", "MetricsMissing"));
    assert!(
        message.starts_with("Prometheus prometheus.monitoring.svc:9090 has no fresh figures of")
            && message.contains("no answer within 5000 ms"),
        "{message}"
    );
    assert_eq!(condition(&world, "ScalingActive").1, "MetricsMissing");
}
