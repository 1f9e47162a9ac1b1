//! Connections that are derived, from the answers of the nodes to the node count.

use node_core::admin::Gauges;

use super::{Memory, World};
use crate::autoscale::judge;
use crate::fixtures::{cluster, env};
use crate::validate::{Fetched, validate};

const SPEC: &str = "
targetConnections: 10000
rooms: {maxMembers: 150}
nodes: {min: 2, max: 6, capacity: {connections: Derived, writesPerSecond: Learned}, resources: {limits: {memory: 512Mi}}}
auth: {anonymous: true}
";

/// The manifest alone says 12,131 connections of a node; the nodes have descriptors for twice 2,000.
fn fleet(spec: &str) -> World {
    let mut world = World::new();
    world.cluster = cluster(spec);
    world.valid = validate(&world.cluster, &env(), &Fetched::default()).expect("valid");
    world.gauges = Gauges { descriptor_room: 4_000, memory_limit_bytes: 512 << 20, ..Gauges::default() };
    world
}

#[test]
fn what_nodes_hold_decides_the_floor_and_is_recorded() {
    let mut world = fleet(SPEC);
    assert_eq!(world.run(60), [2, 5], "{:?}", world.status.decisions);
    let known = world.status.capacity.as_ref().expect("known");
    let derived = known.connections.as_ref().expect("derived");
    assert_eq!((derived.estimate, derived.memory_holds), (2_000, Some(12_131)), "{derived:?}");
    assert!(known.writes_per_second.is_some());
    let decision = &world.status.decisions[0];
    assert_eq!(decision.rule, "TargetConnectionsFloor");
    assert!(
        decision.message.starts_with("targetConnections 10000 needs 5 nodes of 2000 connections"),
        "{decision:?}"
    );
    let inputs = decision.inputs.as_ref().expect("recorded");
    assert!(inputs.learned.is_some() && inputs.derived.as_ref().is_some_and(|of| of.estimate == 2_000));
    let again = judge(inputs).decision;
    assert_eq!((again.desired, again.message.as_str()), (5, decision.message.as_str()));

    // Another operator takes over and hears nothing yet: what the status knows counts.
    world.memory = Memory::default();
    world.series.clear();
    let silent = world.tick();
    assert_eq!(silent.status.capacity.expect("kept").connections.expect("kept").estimate, 2_000);
    assert_eq!(silent.status.desired_replicas, Some(5));

    // A spec that gives numbers again has nothing derived.
    world.cluster = cluster(&SPEC.replace("Derived", "5000").replace("Learned", "5000"));
    world.valid = validate(&world.cluster, &env(), &Fetched::default()).expect("valid");
    world.run(2);
    assert_eq!(world.status.capacity, None);
}

#[test]
fn a_target_that_no_count_reaches_is_told() {
    let mut world = fleet(&SPEC.replace("max: 6", "max: 4"));
    assert_eq!(world.run(60), [2, 4]);
    let limited = world.status.conditions.iter().find(|condition| condition.type_ == "ScalingLimited");
    let limited = limited.expect("told");
    assert_eq!((limited.status.as_str(), limited.reason.as_str()), ("True", "MaxNodes"));
    let words = "targetConnections 10000 needs 5 nodes of 2000 connections, and nodes.max is 4: raise it";
    assert!(limited.message.starts_with(words), "{limited:?}");
}
