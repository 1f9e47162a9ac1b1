//! Nodes that say of themselves that they are full.

use super::super::{Inputs, Rule, Settings, State};
use super::{calm, default_size, feed, known};
use crate::capacity::whole;
use crate::heat::Heat;
use crate::samples::NodeLoad;

fn busy(writes: f64) -> NodeLoad {
    NodeLoad { saturated: Some(Heat::Busy), utilization: Some(0.97), ..known(writes, 1) }
}

#[test]
fn slow_nodes_are_relieved_by_one_more() {
    let mut nodes = [known(20_000.0, 1); 6];
    let decision = feed(&mut State::new(0, 6), &default_size(), &nodes, 6, 2, 100);
    assert_eq!((decision.desired, decision.rule), (6, Rule::WithinTolerance), "{}", decision.message);
    nodes[..2].fill(busy(20_000.0));
    let decision = feed(&mut State::new(0, 6), &default_size(), &nodes, 6, 2, 100);
    assert_eq!((decision.desired, decision.rule), (7, Rule::HotNodes), "{}", decision.message);
    assert!(decision.message.contains("saturated nodes are taken to hide"), "{}", decision.message);
}

#[test]
fn nodes_that_are_busy_with_something_else_ask_for_nothing_more_for_ever() {
    let settings = Settings { max: 1_000, ..default_size() };
    for (load, least, most) in [(0.0, 2, 2), (24_000.0, 2, 3), (48_000.0, 3, 5), (120_000.0, 6, 15)] {
        let mut current = least;
        let mut state = State::new(0, current);
        for look in 1..1_800u64 {
            let nodes = vec![busy(load / f64::from(current)); usize::try_from(current).unwrap()];
            let inputs = Inputs { now: look * 2_000, current, replicas: current, nodes: &nodes };
            current = state.step(&settings, inputs).desired;
        }
        assert!((1..=most).contains(&current), "{current} nodes for {load} writes/s");
    }
}

#[test]
fn each_hot_node_asks_for_one_node_more_at_most() {
    arbtest::arbtest(|u| {
        let settings = Settings { max: 1_000, ..default_size() };
        let count = u.int_in_range(1..=12usize)?;
        let (mut nodes, mut hot, mut writes) = (Vec::new(), 0, 0.0);
        for _ in 0..count {
            let load = f64::from(u.int_in_range(0..=60_000u32)?);
            let is_hot = u.ratio(1u8, 3u8)?;
            writes += load;
            hot += i32::from(is_hot);
            nodes.push(if is_hot { busy(load) } else { known(load, 1) });
        }
        let current = i32::try_from(count).unwrap();
        let decision = feed(&mut State::new(0, current), &settings, &nodes, current, 2, 100);
        let most = whole(writes / settings.sizing.target_writes()) + hot;
        assert!(
            decision.desired <= most.max(current),
            "{decision:?} with {hot} hot nodes and {writes} writes/s"
        );
        Ok(())
    });
}

#[test]
fn a_saturated_node_is_full_when_shrinking() {
    let settings = Settings { down: calm(0), ..default_size() };
    let mut nodes = [known(10_000.0, 1); 4];
    let decision = feed(&mut State::new(0, 4), &settings, &nodes, 4, 2, 200);
    assert_eq!(decision.desired, 2, "{}", decision.message);
    nodes[0] = busy(10_000.0);
    let decision = feed(&mut State::new(0, 4), &settings, &nodes, 4, 2, 200);
    assert_eq!((decision.desired, decision.rule), (4, Rule::HotNodes), "{}", decision.message);
}
