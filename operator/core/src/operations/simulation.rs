//! A fleet in virtual time: many seeds with faults, and single runs without that are measured.

use node_core::admin::NodePhase;

mod model;

use super::plan::Held;
use crate::machine::{Fate, Haste};
use model::{Model, TICK};

#[test]
fn only_empty_nodes_go_and_the_fleet_ends_as_large_as_wanted() {
    arbtest::arbtest(|u| {
        let mut model = Model::new(u.int_in_range(1..=6)?, u.int_in_range(0..=4)?);
        let mut desired = u.int_in_range(1..=8)?;
        for _ in 0..u.int_in_range(1..=60)? {
            model.world(Some(u))?;
            if u.ratio(1u8, 8u8)? {
                desired = u.int_in_range(1..=8)?;
            }
            if u.ratio(1u8, 24u8)? {
                model.turn();
            }
            if u.ratio(1u8, 12u8)? {
                model.terms.held = *u.choose(&[None, None, Some(Held::Asked), Some(Held::Worse)])?;
            }
            let crash = if u.ratio(1u8, 4u8)? { u.int_in_range(1..=2)? } else { 0 };
            model.operator(desired, crash, Some(u))?;
        }
        model.terms.held = None;
        for pod in &mut model.pods {
            if !matches!(pod.fate, Fate::Goes(_)) {
                pod.fate = Fate::Stays;
            }
        }
        for _ in 0..600 {
            model.world(None)?;
            model.operator(desired, 0, None)?;
        }
        assert_eq!((model.replicas(), model.alive(), model.older()), (desired, desired, 0));
        assert_eq!(model.operation, None);
        for pod in &model.pods {
            assert!(pod.ready && pod.deletion_cost.is_none(), "{pod:?}");
            assert!(!matches!(pod.fate, Fate::Goes(_)), "it goes with its machine: {pod:?}");
        }
        Ok(())
    })
    .size_min(8_192)
    .budget_ms(4_000);
}

/// Lets a fleet shrink; gives the seconds until it is as small as wanted, and how many clients had to connect again.
fn shrink(from: i32, to: i32, clients: u64, rate: u32) -> (u64, u64) {
    let mut model = Model::new(from, 0);
    model.rate = rate;
    model.arrivals = 0;
    for node in model.truth.values_mut() {
        node.connections = clients;
    }
    let (begun, bounced) = (model.now, model.bounced);
    while model.alive() > to || model.operation.is_some() {
        model.world(None).unwrap();
        model.operator(to, 0, None).unwrap();
        assert!(model.now < begun + 100_000_000, "{:?}", model.operation);
    }
    let held: u64 = model.truth.values().map(|node| node.connections).sum();
    assert_eq!(held, clients * u64::try_from(from).unwrap(), "clients are lost");
    assert!(model.truth.values().all(|node| node.phase == NodePhase::Serving));
    ((model.now - begun) / 1_000, model.bounced - bounced)
}

#[test]
fn a_fleet_of_forty_shrinks_to_four_at_its_budget_and_nobody_moves_twice() {
    let (seconds, bounced) = shrink(40, 4, 10_000, 500);
    println!("40 -> 4 nodes of 10,000 clients at 500/s: {seconds} s, {bounced} moves");
    assert_eq!(bounced, 360_000, "each client of a node that goes moves once");
    assert!((720..=745).contains(&seconds), "{seconds} s");
}

#[test]
fn empty_nodes_go_without_waiting_for_each_other() {
    let looks = |seconds: u64| seconds * 1_000 / TICK;
    let (seconds, bounced) = shrink(40, 4, 0, 500);
    println!("40 -> 4 empty nodes: {seconds} s");
    assert_eq!((bounced, looks(seconds)), (0, 6), "unready, out of the Service, closed, lowered, gone, seen");
    let (seconds, _) = shrink(12, 4, 300, 500);
    println!("12 -> 4 nodes of 300 clients at 500/s: {seconds} s");
    assert!(looks(seconds) <= 13, "{seconds} s");
}

/// A fleet of so many nodes with so many clients each comes to be made from another template, while so many pods start in a
/// tick; gives the seconds, how many clients had to connect again, the most nodes at a time, and the fewest in the Service.
fn replace(nodes: i32, clients: u64, rate: u32, starts: usize) -> (u64, u64, i32, i32) {
    let mut model = Model::new(0, nodes);
    (model.rate, model.starts) = (rate, starts);
    let mut fewest = nodes;
    model.arrivals = 0;
    for node in model.truth.values_mut() {
        node.connections = clients;
    }
    let (begun, bounced, mut most) = (model.now, model.bounced, 0);
    while model.older() > 0 || model.operation.is_some() || model.alive() != nodes {
        model.operator(nodes, 0, None).unwrap();
        model.world(None).unwrap();
        most = most.max(model.alive());
        fewest = fewest.min(model.in_service());
        assert!(model.now < begun + 100_000_000, "{:?}", model.operation);
    }
    let held: u64 = model.truth.values().map(|node| node.connections).sum();
    assert_eq!(held, clients * u64::try_from(nodes).unwrap(), "clients are lost");
    ((model.now - begun) / 1_000, model.bounced - bounced, most, fewest)
}

#[test]
fn a_rollout_takes_the_time_of_its_clients_and_moves_each_once() {
    for (nodes, clients, rate) in [(2, 300, 100), (10, 10_000, 500), (40, 10_000, 2_000)] {
        let (seconds, bounced, most, _) = replace(nodes, clients, rate, usize::MAX);
        let all = clients * u64::try_from(nodes).unwrap();
        let least = all / u64::from(rate);
        println!("{nodes} nodes of {clients} clients at {rate}/s: {seconds} s, {least} s is the least");
        assert_eq!(bounced, all, "each client moves once");
        assert!(most <= nodes + (nodes + 3) / 4, "{most} nodes at a time");
        assert!(seconds <= least * 5 / 4 + 60, "{seconds} s");
    }
}

/// If the operator dies at the worst moment, so many nodes take the clients that arrive.
#[test]
fn a_rollout_leaves_as_many_nodes_in_the_service_as_its_surge_has() {
    for (nodes, surge) in [(2, 1), (10, 3), (40, 10)] {
        let (seconds, bounced, _, fewest) = replace(nodes, 100, 500, 1);
        println!("{nodes} nodes, of which one starts in 2 s: {seconds} s, at least {fewest} in the Service");
        assert_eq!((bounced, fewest), (100 * u64::try_from(nodes).unwrap(), surge));
    }
}

#[test]
fn a_rollout_that_is_turned_back_half_way_moves_only_those_that_had_moved() {
    let mut model = Model::new(0, 8);
    model.arrivals = 0;
    for node in model.truth.values_mut() {
        node.connections = 1_000;
    }
    while model.bounced < 2_500 {
        model.operator(8, 0, None).unwrap();
        model.world(None).unwrap();
    }
    let moved = model.bounced;
    model.turn();
    while model.older() > 0 || model.operation.is_some() || model.alive() != 8 {
        model.operator(8, 0, None).unwrap();
        model.world(None).unwrap();
    }
    println!("{moved} clients had moved, {} moved back", model.bounced - moved);
    assert!(model.bounced - moved <= moved + 200, "{} after {moved}", model.bounced);
}

/// Some machines of a fleet at rest go, with so many of its nodes; gives the seconds, the clients that had to connect again, the
/// most nodes at a time and the fewest that were in the Service.
fn machines_go(nodes: i32, go: usize, clients: u64, rate: u32) -> (u64, u64, i32, usize) {
    let mut model = Model::new(nodes, 0);
    (model.rate, model.arrivals) = (rate, 0);
    for node in model.truth.values_mut() {
        node.connections = clients;
    }
    (0..go).for_each(|at| model.doom(at, Haste::Normal));
    let (begun, bounced, mut most, mut fewest) = (model.now, model.bounced, 0, usize::MAX);
    let goes = |model: &Model| model.pods.iter().any(|pod| matches!(pod.fate, Fate::Goes(_)));
    while goes(&model) || model.operation.is_some() || model.alive() != nodes {
        model.operator(nodes, 0, None).unwrap();
        model.world(None).unwrap();
        most = most.max(model.alive());
        fewest = fewest.min(model.pods.iter().filter(|pod| pod.ready && !pod.terminating).count());
        assert!(model.now < begun + 100_000_000, "{:?}", model.operation);
    }
    let held: u64 = model.truth.values().map(|node| node.connections).sum();
    assert_eq!(held, clients * u64::try_from(nodes).unwrap(), "clients are lost");
    ((model.now - begun) / 1_000, model.bounced - bounced, most, fewest)
}

#[test]
fn nodes_of_machines_that_go_are_replaced_first_and_their_clients_move_once() {
    for (nodes, go, clients, rate) in
        [(1, 1, 500, 100), (4, 2, 1_000, 100), (4, 4, 1_000, 200), (20, 5, 5_000, 500)]
    {
        let (seconds, bounced, most, fewest) = machines_go(nodes, go, clients, rate);
        let all = clients * go as u64;
        let least = all / u64::from(rate);
        println!(
            "{go} of {nodes} nodes with {clients} clients at {rate}/s: {seconds} s, {least} s is the least"
        );
        assert_eq!(bounced, all, "each client of a machine that goes moves once");
        let doomed = i32::try_from(go).unwrap();
        assert_eq!(most, nodes + doomed, "as many more as go");
        assert!(
            fewest >= (usize::try_from(nodes).unwrap() - go).max(usize::try_from(nodes).unwrap().div_ceil(2)),
            "{fewest} in the Service"
        );
        assert!(seconds <= least * 11 / 10 + 40, "{seconds} s");
    }
}

#[test]
fn a_node_that_is_evicted_while_it_is_replaced_leaves_no_node_too_many_behind() {
    let mut model = Model::new(4, 0);
    model.arrivals = 0;
    model.doom(0, Haste::Normal);
    model.doom(1, Haste::Normal);
    for _ in 0..4 {
        model.operator(4, 0, None).unwrap();
        model.world(None).unwrap();
    }
    assert_eq!(model.alive(), 6);
    model.evict(0);
    for _ in 0..60 {
        model.world(None).unwrap();
        model.operator(4, 0, None).unwrap();
    }
    assert_eq!((model.alive(), model.operation), (4, None));
}
