use crds::{CapacityStatus, ChannelClusterSpec, Confidence, DerivedCapacity};

use super::{Look, Shown, derive, terms};
use crate::autoscale::Settings;
use crate::capacity::Sizing;
use crate::fixtures::{cluster, env};
use crate::footprint::{ASSUMED_BYTES, Given, PROCESS_BYTES, SOCKET_BYTES, assumed, most};
use crate::validate::{Fetched, ValidatedCluster, validate};

const MEBIBYTE: u64 = 1 << 20;

/// A spec with this in `nodes`.
fn spec(nodes: &str) -> ChannelClusterSpec {
    cluster(&text(nodes)).spec
}

fn text(nodes: &str) -> String {
    format!(
        "{{targetConnections: 100000, rooms: {{maxMembers: 150}}, auth: {{anonymous: true}}, nodes: {{{nodes}}}}}"
    )
}

fn valid(nodes: &str) -> ValidatedCluster {
    validate(&cluster(&text(nodes)), &env(), &Fetched::default()).unwrap()
}

/// What a manifest with a memory limit of 512Mi says.
const LIMITED: &str = "capacity: {connections: Derived}, resources: {limits: {memory: 512Mi}}";

fn given() -> Given {
    Given::of(&spec(LIMITED)).unwrap()
}

/// A node of 512Mi that holds so many connections, each of which takes so many bytes with its socket.
fn holds(connections: f64, each: f64) -> Shown {
    Shown {
        connections,
        bytes: PROCESS_BYTES + connections * (each - SOCKET_BYTES),
        limit: 512 * MEBIBYTE,
        descriptors: 1_000_000,
        age: 600_000,
    }
}

fn look(nodes: &[Shown]) -> Look {
    Look { nodes: nodes.to_vec(), whole: true }
}

/// Looks each 2 s for so many seconds; gives each result.
fn all(before: Option<DerivedCapacity>, nodes: &[Shown], from: u64, seconds: u64) -> Vec<DerivedCapacity> {
    let mut last = before;
    (from..from + seconds)
        .step_by(2)
        .map(|at| {
            let next = derive(last.as_ref(), &look(nodes), &given(), at * 1_000);
            last = Some(next.clone());
            next
        })
        .collect()
}

fn watch(before: Option<DerivedCapacity>, nodes: &[Shown], from: u64, seconds: u64) -> DerivedCapacity {
    all(before, nodes, from, seconds).pop().unwrap()
}

#[test]
fn a_manifest_alone_gives_a_number_and_the_bound_of_its_nodes() {
    // (512 MiB x 40 % - 16 MB) / 8,192 / 2, and / 3,607.
    assert_eq!((assumed(&spec(LIMITED)), most(&spec(LIMITED))), (12_131, 55_101));
    let unlimited = spec("capacity: {connections: Derived}");
    assert_eq!((assumed(&unlimited), most(&unlimited)), (10_000, 20_000), "as by default");
    let number = spec("capacity: {connections: 300}, resources: {limits: {memory: 512Mi}}");
    assert_eq!((assumed(&number), most(&number), Given::of(&number)), (300, 600, None));
    let little = spec("capacity: {connections: Derived}, resources: {limits: {memory: 32Mi}}");
    assert_eq!((assumed(&little), most(&little)), (1, 2), "the process takes it all");
    let much = spec("capacity: {connections: Derived}, resources: {limits: {memory: 1Ti}}");
    assert_eq!((assumed(&much), most(&much)), (5_000_000, 10_000_000));
}

#[test]
fn what_connections_take_is_found_within_bounds() {
    let begins = derive(None, &look(&[holds(6_000.0, ASSUMED_BYTES)]), &given(), 1_000);
    assert_eq!((begins.estimate, begins.confidence), (12_131, Confidence::Low), "{begins:?}");
    for (each, expected) in [(3_700.0, 26_857.0), (5_000.0, 19_875.0), (20_000.0, 4_969.0)] {
        let derived = watch(None, &[holds(6_000.0, each), holds(7_000.0, each)], 0, 3_600);
        assert_eq!(derived.confidence, Confidence::High, "{derived:?}");
        let off = derived.estimate as f64 / expected - 1.0;
        assert!(off.abs() < 0.3, "{each}: {expected} is {derived:?}");
    }
    let nothing = watch(None, &[holds(12_000.0, SOCKET_BYTES)], 0, 3_600);
    assert!(nothing.estimate <= i64::from(most(&spec(LIMITED)) / 2), "{nothing:?}");
}

#[test]
fn nodes_that_tell_nothing_change_nothing() {
    let node = holds(6_000.0, 4_000.0);
    let silent = [
        Shown { age: 59_999, ..node },
        holds(1_999.0, 4_000.0),
        holds(2_400.0, 4_000.0),
        Shown { bytes: 0.0, ..node },
    ];
    let derived = watch(None, &silent, 0, 600);
    assert_eq!((derived.estimate, derived.weight_millis), (12_131, 0), "{derived:?}");
    // A night without clients is not the end of what the day showed, and neither is an operator that has just begun.
    let day = watch(None, &[node; 3], 0, 3_600);
    let night = watch(Some(day.clone()), &[holds(100.0, 4_000.0)], 3_600, 8 * 3_600);
    assert_eq!((night.estimate, night.confidence), (day.estimate, Confidence::Medium), "{night:?}");
    let unseen = derive(Some(&day), &Look::default(), &given(), 3_602_000);
    assert_eq!((unseen.estimate, unseen.descriptors_hold), (day.estimate, day.descriptors_hold));
}

#[test]
fn an_estimate_moves_in_few_steps_and_not_to_and_fro() {
    let moves =
        |all: &[DerivedCapacity]| all.windows(2).filter(|two| two[0].estimate != two[1].estimate).count();
    let rising = all(None, &[holds(6_000.0, 4_000.0); 2], 0, 3_600);
    assert!((1..=6).contains(&moves(&rising)), "{} moves", moves(&rising));
    assert!(rising.windows(2).all(|two| two[0].estimate <= two[1].estimate), "it goes up only");
    // Bytes that go up and down by a tenth within each two minutes.
    let mut last = rising.last().cloned().unwrap();
    let settled = last.estimate;
    for round in 0..60 {
        let each = if round % 2 == 0 { 4_400.0 } else { 3_600.0 };
        last = watch(Some(last), &[holds(6_000.0, each); 2], 3_600 + round * 120, 120);
        assert_eq!(last.estimate, settled, "{last:?}");
    }
}

#[test]
fn fewer_descriptors_count_at_once_and_more_when_every_node_says_so() {
    let node = holds(6_000.0, 8_192.0);
    let few = Shown { descriptors: 4_000, ..node };
    let held = derive(None, &look(&[node, few]), &given(), 1_000);
    assert_eq!((held.estimate, held.descriptors_hold), (2_000, Some(2_000)), "{held:?}");
    let silent = Look { nodes: vec![node], whole: false };
    assert_eq!(derive(Some(&held), &silent, &given(), 3_000).estimate, 2_000, "the one with few is silent");
    let gone = derive(Some(&held), &look(&[node]), &given(), 3_000);
    assert_eq!((gone.estimate, gone.descriptors_hold), (12_131, Some(500_000)));
    let older = Shown { descriptors: 0, ..node };
    assert_eq!(
        derive(None, &look(&[older]), &given(), 1_000).descriptors_hold,
        None,
        "nodes that do not say"
    );
}

#[test]
fn the_limit_of_the_nodes_counts_before_that_of_the_manifest() {
    let unlimited = Given::of(&spec("capacity: {connections: Derived}")).unwrap();
    let none = Shown { limit: 0, ..holds(6_000.0, ASSUMED_BYTES) };
    let unknown = derive(None, &look(&[none]), &unlimited, 1_000);
    assert_eq!((unknown.estimate, unknown.confidence, unknown.memory_limit), (10_000, Confidence::Low, None));
    assert!(unknown.reason.starts_with("no memory limit is known"), "{unknown:?}");
    let small = Shown { limit: 128 * MEBIBYTE, ..none };
    assert_eq!(derive(None, &look(&[none, small]), &unlimited, 1_000).estimate, 2_300, "of a LimitRange");
    let large = Shown { limit: 4_096 * MEBIBYTE, ..none };
    let derived = derive(None, &look(&[large]), &unlimited, 1_000);
    assert_eq!(derived.estimate, 10_000, "the nodes' file is made without knowing it");
    let raised = derive(Some(&derived), &look(&[holds(6_000.0, ASSUMED_BYTES)]), &given(), 3_000);
    assert_eq!(raised.estimate, 12_131, "another limit counts at once: {raised:?}");
}

#[test]
fn nodes_that_differ_are_said_to() {
    let derived = watch(None, &[holds(6_000.0, 4_000.0), holds(6_000.0, 9_000.0)], 0, 3_600);
    assert_eq!(derived.confidence, Confidence::Medium);
    assert!(derived.reason.starts_with("nodes differ: a connection takes 4000 bytes on one"), "{derived:?}");
    let far = watch(None, &[holds(3_000.0, 4_000.0); 4], 0, 3_600);
    assert_eq!(far.confidence, Confidence::Medium);
    assert!(far.reason.contains("more than 3000 connections"), "{far:?}");
}

#[test]
fn the_sum_is_told_with_its_terms() {
    let derived = derive(None, &look(&[holds(6_000.0, ASSUMED_BYTES)]), &given(), 1_000);
    let words = "memory holds 12,131 ((512Mi x 40 % - 16 MB) / 8,192 bytes / 2), descriptors hold 500,000";
    assert_eq!(terms(&derived), words);
}

/// What is known counts wherever the number of the spec does, and only where the spec asks for it.
#[test]
fn what_is_derived_decides_floor_and_sizing() {
    let connections = Some(watch(None, &[holds(6_000.0, 20_000.0); 3], 0, 3_600));
    let known = CapacityStatus { connections, ..CapacityStatus::default() };
    let estimate = known.connections.as_ref().unwrap().estimate;
    let derived = valid(LIMITED);
    assert_eq!(Settings::of(&derived).floor, 9, "100,000 / 12,131");
    let settings = Settings::of(&derived).knowing(&derived, Some(&known));
    assert_eq!(settings.sizing, Sizing::live(&derived, Some(&known)));
    assert!((settings.sizing.connections - estimate as f64).abs() < 0.5);
    assert_eq!(i64::from(settings.floor), (100_000 + estimate - 1) / estimate);
    assert_eq!(Sizing::of_spec(&spec(LIMITED), Some(&known)), settings.sizing);
    let number = valid("capacity: {connections: 10000}");
    assert_eq!(Settings::of(&number).knowing(&number, Some(&known)).floor, 10, "the spec gives a number");
}

/// No estimate is in the nodes' file or in their template: neither is made from a status.
#[test]
fn no_estimate_reaches_the_nodes() {
    let mut asks = cluster(&text(LIMITED));
    let before = validate(&asks, &env(), &Fetched::default()).unwrap();
    let connections = Some(watch(None, &[holds(6_000.0, 20_000.0); 3], 0, 3_600));
    let capacity = Some(CapacityStatus { connections, ..CapacityStatus::default() });
    asks.status = Some(crds::ChannelClusterStatus { capacity, ..Default::default() });
    let after = validate(&asks, &env(), &Fetched::default()).unwrap();
    assert_eq!(after, before);
    assert_eq!(before.config.limits.max_connections, 55_101);
    let number = valid("capacity: {connections: 5}, resources: {limits: {memory: 512Mi}}");
    assert_eq!((&number.template, &number.restart_hash), (&before.template, &before.restart_hash));
}

#[test]
fn whatever_nodes_say_it_is_within_bounds() {
    arbtest::arbtest(|u| {
        let (mut derived, mut now) = (None, 1_000_000u64);
        for _ in 0..u.int_in_range(1..=40)? {
            now =
                now.saturating_add(u.int_in_range(0..=9_000_000)?).saturating_sub(u.int_in_range(0..=1_000)?);
            let mut nodes = Vec::new();
            for _ in 0..u.int_in_range(0..=5)? {
                nodes.push(Shown {
                    connections: f64::from(u.arbitrary::<u32>()?),
                    bytes: f64::from(u.arbitrary::<u32>()?),
                    limit: u.arbitrary()?,
                    descriptors: u.arbitrary()?,
                    age: u.arbitrary()?,
                });
            }
            let look = Look { nodes, whole: u.arbitrary()? };
            let next = derive(derived.as_ref(), &look, &given(), now);
            assert!((1..=27_550).contains(&next.estimate), "{next:?} of {look:?}");
            assert!(next.weight_millis >= 0, "{next:?}");
            let bytes = next.bytes_per_connection as f64;
            assert!((3_607.0..=10.0 * ASSUMED_BYTES).contains(&bytes), "{next:?}");
            derived = Some(next);
        }
        Ok(())
    });
}
