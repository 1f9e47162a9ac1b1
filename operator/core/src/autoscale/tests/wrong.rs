//! Decisions that were wrong once, each with the smallest load that showed it: 40,000 writes/s are a node's capacity, and
//! 24,000 its target.

use super::super::{Inputs, Rule, Settings, State};
use super::{calm, default_size, feed, known, unknown};
use crate::samples::NodeLoad;

#[test]
fn a_lower_max_is_kept_whatever_holds_the_count() {
    let settings = Settings { max: 20, down: calm(300), ..default_size() };
    let nodes = [known(26_700.0, 1); 10];
    let mut state = State::new(0, 10);
    feed(&mut state, &settings, &nodes, 10, 2, 100);
    let lowered = Settings { max: 8, ..settings };
    let decision = feed(&mut state, &lowered, &nodes, 10, 102, 102);
    assert_eq!((decision.desired, decision.rule), (8, Rule::MaxNodes), "{}", decision.message);
    let decision = feed(&mut state, &lowered, &nodes, 10, 104, 7_200);
    assert_eq!((decision.desired, decision.limited), (8, Some(Rule::MaxNodes)), "{}", decision.message);
    let decision = feed(&mut state, &lowered, &[unknown(); 10], 10, 7_202, 7_300);
    assert_eq!((decision.desired, decision.quorum), (8, false), "the drain waits: {}", decision.message);
}

#[test]
fn a_bound_that_is_changed_acts_at_once() {
    let settings = Settings { min: 6, down: calm(300), ..default_size() };
    let quiet = [known(1_000.0, 1); 6];
    let mut state = State::new(0, 6);
    let decision = feed(&mut state, &settings, &quiet, 6, 2, 400);
    assert_eq!((decision.desired, decision.rule), (6, Rule::MinNodes), "{}", decision.message);
    let lowered = Settings { min: 2, ..settings.clone() };
    let decision = feed(&mut state.clone(), &lowered, &quiet, 6, 402, 402);
    assert_eq!((decision.desired, decision.rule), (2, Rule::MinNodes), "{}", decision.message);
    let floor = Settings { min: 2, floor: 6, ..settings.clone() };
    let mut state = State::new(0, 6);
    feed(&mut state, &floor, &quiet, 6, 2, 400);
    let decision = feed(&mut state, &Settings { floor: 3, ..floor }, &quiet, 6, 402, 402);
    assert_eq!((decision.desired, decision.rule), (3, Rule::TargetConnectionsFloor), "{}", decision.message);
    let decision = feed(&mut state, &Settings { min: 9, ..settings }, &quiet, 6, 404, 404);
    assert_eq!((decision.desired, decision.rule), (9, Rule::MinNodes), "{}", decision.message);
}

#[test]
fn nothing_shrinks_while_a_node_that_stays_is_full_or_would_be() {
    let mut nodes = [known(9_086.0, 1); 8];
    nodes[0] = known(39_200.0, 1);
    let decision = feed(&mut State::new(0, 8), &default_size(), &nodes, 8, 2, 200);
    assert_eq!((decision.desired, decision.rule), (8, Rule::HotNodes), "{}", decision.message);
    nodes[0] = known(24_000.0, 1);
    let decision = feed(&mut State::new(0, 8), &default_size(), &nodes, 8, 2, 200);
    assert_eq!((decision.desired, decision.rule), (5, Rule::WritesPerSecond), "{}", decision.message);
    // What leaves would fill the fullest of those that stay.
    let mut nodes = [known(4_000.0, 1); 10];
    nodes[0] = known(33_000.0, 1);
    let decision = feed(&mut State::new(0, 10), &default_size(), &nodes, 10, 2, 200);
    assert_eq!((decision.desired, decision.rule), (6, Rule::HotNodes), "{}", decision.message);
}

#[test]
fn one_wild_sample_moves_nothing() {
    let settings = Settings { max: 100, ..default_size() };
    let mut nodes = [known(20_000.0, 1); 4];
    nodes.iter_mut().for_each(|node| node.writes_before = Some(20_000.0));
    for wild in [5e8, 9e7, 200_000.0] {
        let mut state = State::new(0, 4);
        feed(&mut state, &settings, &nodes, 4, 2, 100);
        let calm = nodes[0];
        nodes[0].writes_per_second = Some(wild);
        let decision = feed(&mut state, &settings, &nodes, 4, 102, 102);
        assert_eq!(decision.desired, 4, "{wild}: {}", decision.message);
        nodes[0] = NodeLoad { writes_before: Some(wild), ..calm };
        let decision = feed(&mut state, &settings, &nodes, 4, 104, 104);
        assert_eq!(decision.desired, 4, "{wild}: {}", decision.message);
        nodes[0] = calm;
        let decision = feed(&mut state, &settings, &nodes, 4, 106, 500);
        assert_eq!(decision.desired, 4, "{wild}: {}", decision.message);
    }
    let mut crowd = nodes;
    (crowd[0].connections, crowd[0].connections_before) = (Some(9_000_000), Some(1));
    let decision = feed(&mut State::new(0, 4), &settings, &crowd, 4, 2, 2);
    assert_eq!(decision.desired, 4, "{}", decision.message);
}

#[test]
fn full_nodes_beside_silent_ones_ask_for_more() {
    let nodes = [known(40_000.0, 1), known(40_000.0, 1), unknown(), unknown()];
    let decision = feed(&mut State::new(0, 4), &default_size(), &nodes, 4, 2, 100);
    let told = (decision.desired, decision.rule);
    assert_eq!(told, (7, Rule::WritesPerSecondBurst), "they are like the others: {}", decision.message);
    // Nodes that have just come, and have said nothing yet, are no reason.
    let mut state = State::new(0, 4);
    feed(&mut state, &default_size(), &[known(20_000.0, 1); 4], 4, 2, 100);
    let nodes = [[known(20_000.0, 1); 4], [unknown(); 4]].concat();
    let decision = feed(&mut state, &default_size(), &nodes, 8, 102, 104);
    assert_eq!(decision.desired, 8, "{}", decision.message);
    let decision = feed(&mut State::new(0, 4), &default_size(), &[unknown(); 4], 4, 2, 900);
    assert_eq!((decision.desired, decision.rule), (4, Rule::MetricsMissing), "{}", decision.message);
}

#[test]
fn full_nodes_are_never_within_the_tolerance() {
    let uneven = [known(40_000.0, 1), known(40_000.0, 1), known(0.0, 1), known(0.0, 1)];
    let decision = feed(&mut State::new(0, 4), &default_size(), &uneven, 4, 2, 200);
    assert_eq!((decision.desired, decision.rule), (4, Rule::HotNodes), "{}", decision.message);
    let mut one = [known(16_000.0, 1); 6];
    one[0] = known(40_000.0, 1);
    let decision = feed(&mut State::new(0, 6), &default_size(), &one, 6, 2, 200);
    assert_eq!((decision.desired, decision.rule), (6, Rule::HotNodes), "{}", decision.message);
    assert!(decision.message.contains("1 of 6 nodes is hot: Writes"), "{}", decision.message);
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let settings = default_size();
    let mut state = State::new(9_000_000, 4);
    let now = |second: u64| 9_000_000 + second * 1_000;
    for second in (2..200).step_by(2) {
        let nodes = [known(20_000.0, 1); 4];
        state.step(&settings, Inputs { now: now(second), current: 4, replicas: 4, nodes: &nodes });
    }
    let decision = feed(&mut state, &settings, &[known(39_000.0, 1); 4], 4, 2, 4);
    assert_eq!(decision.desired, 7, "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(1.0, 1); 4], 4, 6, 20);
    assert_eq!((decision.desired, decision.rule), (4, Rule::BurstCooldown), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(1.0, 1); 4], 4, 22, 100);
    assert_eq!(decision.desired, 1, "it does not wait until the clock is where it was: {}", decision.message);
}
