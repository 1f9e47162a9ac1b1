//! Tests of one rule at a time; the closed loop is in `simulation`.

mod explain;
mod hot;
mod jumps;
mod wrong;

use std::time::Duration;

use crds::{AutoscalingMode, PolicyType, SelectPolicy};

use super::{Decision, Inputs, Rule, Settings, State};
use crate::backplane::Hearing;
use crate::capacity::Sizing;
use crate::heat::Heat;
use crate::holds::Holds;
use crate::samples::NodeLoad;
use crate::validate::{Pace, PacePolicy};

pub(crate) fn settings() -> Settings {
    Settings {
        mode: AutoscalingMode::Auto,
        manual: None,
        min: 2,
        max: 10,
        schedule: None,
        holds: Holds::default(),
        floor: 1,
        target_connections: 2_000,
        sizing: Sizing { writes_per_second: 5_000.0, connections: 2_000.0, target_percent: 60 },
        learned: None,
        derived: None,
        stable: 60_000,
        burst: 6_000,
        up: Pace {
            stabilization: Duration::ZERO,
            policies: vec![PacePolicy { kind: PolicyType::Pods, value: 4, period: Duration::from_secs(15) }],
            select: SelectPolicy::Max,
        },
        down: calm(0),
    }
}

pub(super) fn calm(seconds: u64) -> Pace {
    Pace { stabilization: Duration::from_secs(seconds), policies: Vec::new(), select: SelectPolicy::Max }
}

pub(crate) fn known(writes: f64, connections: u64) -> NodeLoad {
    NodeLoad {
        ready: true,
        writes_per_second: Some(writes),
        timely_per_second: Some(writes),
        connections: Some(connections),
        hearing: Some(Hearing::Well),
        ..NodeLoad::default()
    }
}

/// A node that does not answer.
pub(super) fn unknown() -> NodeLoad {
    NodeLoad { ready: true, ..NodeLoad::default() }
}

/// Feeds the same observation each 2 s from `from` to `to` seconds and gives the last decision.
pub(super) fn feed(
    state: &mut State,
    settings: &Settings,
    nodes: &[NodeLoad],
    current: i32,
    from: u64,
    to: u64,
) -> Decision {
    let mut last = None;
    for second in (from..=to).step_by(2) {
        last = Some(state.step(settings, Inputs { now: second * 1_000, current, replicas: current, nodes }));
    }
    last.unwrap()
}

#[test]
fn a_burst_is_answered_within_seconds_and_says_why() {
    let (mut state, settings) = (State::new(0, 2), settings());
    feed(&mut state, &settings, &[known(100.0, 10); 2], 2, 2, 100);
    let first = feed(&mut state, &settings, &[known(6_000.0, 10); 2], 2, 102, 106);
    assert_eq!((first.desired, first.rule), (4, Rule::WritesPerSecondBurst), "{}", first.message);
    assert!(first.message.contains("5000 writes/s at 60 %"), "{}", first.message);
}

#[test]
fn connections_count_beside_writes() {
    let (mut state, settings) = (State::new(0, 2), settings());
    let decision = feed(&mut state, &settings, &[known(10.0, 2_000); 2], 2, 2, 4);
    assert_eq!((decision.desired, decision.rule), (4, Rule::Connections), "{}", decision.message);
}

#[test]
fn floor_min_and_max_bound_the_count() {
    let quiet = [known(1.0, 1); 2];
    let floor = Settings { floor: 5, ..settings() };
    let decision = feed(&mut State::new(0, 2), &floor, &quiet, 2, 2, 4);
    assert_eq!(
        (decision.desired, decision.limited),
        (5, Some(Rule::TargetConnectionsFloor)),
        "{}",
        decision.message
    );
    let decision = feed(&mut State::new(0, 1), &settings(), &quiet, 1, 2, 4);
    assert_eq!((decision.desired, decision.limited), (2, Some(Rule::MinNodes)), "{}", decision.message);
    let decision = feed(&mut State::new(0, 9), &settings(), &[known(9_000.0, 1); 9], 9, 2, 4);
    assert_eq!((decision.desired, decision.limited), (10, Some(Rule::MaxNodes)), "{}", decision.message);
}

#[test]
fn a_new_leader_does_not_shrink_before_it_has_watched_for_a_stable_window() {
    let (mut state, settings) = (State::new(0, 6), settings());
    let quiet = [known(1.0, 1); 6];
    let decision = feed(&mut state, &settings, &quiet, 6, 2, 58);
    assert_eq!((decision.desired, decision.rule), (6, Rule::Warmup), "{}", decision.message);
    let decision = feed(&mut state, &settings, &quiet, 6, 60, 64);
    assert_eq!(decision.desired, 2, "{}", decision.message);
}

#[test]
fn fewer_than_two_thirds_known_never_shrinks() {
    let (mut state, settings) = (State::new(0, 6), settings());
    feed(&mut state, &settings, &[known(1.0, 1); 6], 6, 2, 40);
    let mut some = [unknown(); 6];
    some[..3].fill(known(1.0, 1));
    let decision = feed(&mut state, &settings, &some, 6, 42, 600);
    assert_eq!((decision.desired, decision.rule), (6, Rule::MetricsMissing), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[unknown(); 6], 6, 602, 1_200);
    assert_eq!((decision.desired, decision.rule, decision.quorum), (6, Rule::MetricsMissing, false));
}

#[test]
fn nodes_cut_off_from_kubernetes_count_as_full() {
    let (mut state, settings) = (State::new(0, 4), Settings { min: 1, ..settings() });
    feed(&mut state, &settings, &[known(2_500.0, 1); 4], 4, 2, 100);
    let cut_off = NodeLoad { ready: false, unready: true, ..unknown() };
    let nodes = [known(2_500.0, 1), cut_off, cut_off, cut_off];
    let decision = feed(&mut state, &settings, &nodes, 4, 102, 600);
    assert_eq!((decision.desired, decision.quorum), (4, true), "{}", decision.message);
}

#[test]
fn a_deployment_that_was_deleted_comes_back_as_large_as_it_was() {
    let off = Settings { mode: AutoscalingMode::Manual, manual: Some(3), ..settings() };
    assert_eq!((settings().initial(None), settings().initial(Some(7)), off.initial(Some(7))), (2, 7, 3));
    assert_eq!(settings().initial(Some(70)), 10, "nodes.max holds");
}

#[test]
fn switching_it_off_takes_back_the_node_that_it_drains() {
    for mode in [AutoscalingMode::Manual, AutoscalingMode::Observe] {
        let settings = Settings { mode, ..settings() };
        let inputs = Inputs { now: 2_000, current: 2, replicas: 3, nodes: &[known(1.0, 1); 3] };
        let decision = State::new(0, 2).step(&settings, inputs);
        assert_eq!(decision.desired, 3, "{}", decision.message);
    }
}

#[test]
fn what_is_known_still_grows_the_fleet() {
    let full = NodeLoad { writes_before: Some(15_000.0), ..known(15_000.0, 1) };
    let (mut state, settings) = (State::new(0, 3), settings());
    let decision = feed(&mut state, &settings, &[full, unknown(), unknown()], 3, 2, 10);
    assert_eq!(decision.desired, 5, "{}", decision.message);
}

#[test]
fn after_a_gap_nothing_shrinks_before_a_stable_window_was_watched_again() {
    let settings = Settings { down: calm(300), ..settings() };
    let mut state = State::new(0, 6);
    feed(&mut state, &settings, &[known(2_900.0, 1); 6], 6, 2, 400);
    let decision = feed(&mut state, &settings, &[known(1.0, 1); 6], 6, 4_000, 4_058);
    assert_eq!((decision.desired, decision.rule), (6, Rule::Warmup), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(1.0, 1); 6], 6, 4_060, 4_350);
    assert_eq!((decision.desired, decision.rule), (6, Rule::StabilizationWindow), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(1.0, 1); 6], 6, 4_352, 4_400);
    assert_eq!(decision.desired, 2, "{}", decision.message);
}

#[test]
fn the_least_count_is_reached_whatever_the_policies_of_growth() {
    let up = Pace { select: SelectPolicy::Disabled, ..settings().up };
    let settings = Settings { min: 4, up, ..settings() };
    let decision = feed(&mut State::new(0, 2), &settings, &[known(1.0, 1); 2], 2, 2, 4);
    assert_eq!((decision.desired, decision.rule), (4, Rule::MinNodes), "{}", decision.message);
    let decision = feed(&mut State::new(0, 4), &settings, &[known(9_000.0, 1); 4], 4, 2, 4);
    assert_eq!((decision.desired, decision.rule), (4, Rule::ScaleUpPolicy), "{}", decision.message);
}

#[test]
fn a_burst_forbids_shrinking_for_a_stable_window() {
    let (mut state, settings) = (State::new(0, 2), settings());
    feed(&mut state, &settings, &[known(10.0, 1); 2], 2, 2, 100);
    feed(&mut state, &settings, &[known(6_000.0, 1); 2], 2, 102, 106);
    let decision = feed(&mut state, &settings, &[known(10.0, 1); 4], 4, 108, 150);
    assert_eq!((decision.desired, decision.rule), (4, Rule::BurstCooldown), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(10.0, 1); 4], 4, 152, 180);
    assert_eq!(decision.desired, 2, "{}", decision.message);
}

#[test]
fn shrinking_waits_for_the_calm_that_was_asked_for() {
    let settings = Settings { down: calm(300), ..settings() };
    let mut state = State::new(0, 4);
    feed(&mut state, &settings, &[known(2_700.0, 1); 4], 4, 2, 100);
    let decision = feed(&mut state, &settings, &[known(10.0, 1); 4], 4, 102, 360);
    assert_eq!((decision.desired, decision.rule), (4, Rule::StabilizationWindow), "{}", decision.message);
    let decision = feed(&mut state, &settings, &[known(10.0, 1); 4], 4, 362, 480);
    assert_eq!(decision.desired, 2, "{}", decision.message);
}

#[test]
fn observe_says_what_it_would_do_and_off_follows_the_user() {
    let observe = Settings { mode: AutoscalingMode::Observe, manual: Some(3), ..settings() };
    let decision = feed(&mut State::new(0, 3), &observe, &[known(8_000.0, 1); 3], 3, 2, 10);
    assert_eq!((decision.desired, decision.rule), (3, Rule::Observe));
    assert!(decision.message.contains("would be 7"), "{}", decision.message);
    let off = Settings { mode: AutoscalingMode::Manual, manual: Some(7), ..settings() };
    let decision = feed(&mut State::new(0, 3), &off, &[known(1.0, 1); 3], 3, 2, 4);
    assert_eq!((decision.desired, decision.rule), (7, Rule::Manual));
}

#[test]
fn whatever_is_observed_the_bounds_and_the_quorum_hold() {
    arbtest::arbtest(|u| {
        let floor = u.int_in_range(0..=12)?;
        let (min, max) = (u.int_in_range(1..=4)?, u.int_in_range(4..=12)?);
        let settings = Settings { floor, min, max, ..settings() };
        let least = floor.max(min).min(max);
        let mut current = u.int_in_range(1..=12)?;
        let mut state = State::new(0, current);
        let mut now = 0;
        for _ in 0..u.int_in_range(1..=60)? {
            now += u.int_in_range(0..=9_000u64)?;
            let count = u.int_in_range(0..=14usize)?;
            let mut nodes = Vec::with_capacity(count);
            for _ in 0..count {
                let load = u.int_in_range(0..=20_000u32)?;
                let ready = u.ratio(4u8, 5u8)?;
                let known = u.ratio(3u8, 4u8)?;
                let hearing = [Hearing::Well, Hearing::Well, Hearing::Late, Hearing::Lost];
                let heat = [None, None, Some(Heat::Busy), Some(Heat::Queued)];
                nodes.push(NodeLoad {
                    ready,
                    unready: !ready && u.arbitrary()?,
                    writes_per_second: known.then_some(f64::from(load)),
                    timely_per_second: known.then_some(f64::from(load) / 2.0),
                    connections: u.ratio(3u8, 4u8)?.then_some(u64::from(load) / 10),
                    hearing: known.then_some(*u.choose(&hearing)?),
                    saturated: *u.choose(&heat)?,
                    ..NodeLoad::default()
                });
            }
            let decision = state.step(&settings, Inputs { now, current, replicas: current, nodes: &nodes });
            let ready = nodes.iter().filter(|n| n.ready).count();
            let fresh = nodes.iter().filter(|n| n.ready && n.writes_per_second.is_some()).count();
            if fresh * 3 < ready * 2 || fresh == 0 {
                assert!(
                    decision.desired >= current.min(max),
                    "{decision:?} with {fresh} of {ready} known, {current} now"
                );
            }
            let on_bus = nodes.iter().filter(|n| n.ready && n.hearing.is_some()).count();
            let lost = nodes.iter().filter(|n| n.ready && n.hearing == Some(Hearing::Lost)).count();
            if lost > 0 {
                assert!(decision.desired >= current.min(max), "{decision:?} with {lost} without the bus");
            }
            if lost * 2 >= on_bus && lost > 0 {
                let held = current.max(least).min(max);
                assert_eq!(decision.desired, held, "{decision:?}: the bus is silent");
            }
            assert!(
                (least..=max).contains(&decision.desired),
                "{decision:?}, {least} to {max}, {current} now"
            );
            assert!(!decision.message.is_empty());
            if u.ratio(1u8, 2u8)? {
                current = decision.desired;
            }
        }
        Ok(())
    });
}

/// Settings with the default capacity: 24,000 writes/s per node at the target.
pub(super) fn default_size() -> Settings {
    let sizing = Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 60 };
    Settings { sizing, min: 1, ..settings() }
}

#[test]
fn a_missing_figure_counts_as_a_full_node_when_shrinking() {
    let settings = default_size();
    let mut nodes = [known(9_960.0, 1); 4];
    nodes[0] = known(40_000.0, 1);
    let decision = feed(&mut State::new(0, 4), &settings, &nodes, 4, 2, 200);
    assert_eq!(decision.desired, 4, "{}", decision.message);
    nodes[0] = unknown();
    let decision = feed(&mut State::new(0, 4), &settings, &nodes, 4, 2, 200);
    assert_eq!(decision.desired, 4, "less is known, not less is there: {}", decision.message);
    // The same with connections.
    let mut nodes = [known(1.0, 2_490); 4];
    nodes[0].connections = None;
    let decision = feed(&mut State::new(0, 4), &settings, &nodes, 4, 2, 200);
    assert_eq!(decision.desired, 4, "{}", decision.message);
}

#[test]
fn a_leaving_node_without_figures_counts_as_full() {
    let settings = default_size();
    let leaves = NodeLoad { ready: false, unready: true, ..unknown() };
    let mut nodes = vec![known(9_960.0, 1); 3];
    let decision = feed(&mut State::new(0, 3), &settings, &nodes, 3, 2, 200);
    assert_eq!(decision.desired, 2, "{}", decision.message);
    nodes.push(leaves);
    let decision = feed(&mut State::new(0, 3), &settings, &nodes, 3, 2, 200);
    assert_eq!(decision.desired, 3, "what is on it comes to the others: {}", decision.message);
}

#[test]
fn a_decision_to_shrink_never_names_the_rule_that_only_grows() {
    let (mut state, settings) = (State::new(0, 5), settings());
    feed(&mut state, &settings, &[known(2_000.0, 1); 5], 5, 2, 100);
    feed(&mut state, &settings, &[known(2_100.0, 1); 5], 5, 102, 106);
    let decision = feed(&mut state, &settings, &[known(2_000.0, 1); 5], 5, 108, 108);
    assert_eq!((decision.desired, decision.rule), (4, Rule::WritesPerSecond), "{}", decision.message);
    assert!(decision.message.contains("over 6 s"), "the higher window counts: {}", decision.message);
}

fn without_bus(mut load: NodeLoad) -> NodeLoad {
    (load.writes_per_second, load.timely_per_second, load.hearing) = (None, None, Some(Hearing::Lost));
    load
}

#[test]
fn while_the_bus_is_silent_nothing_is_decided_but_to_hold() {
    let (mut state, settings) = (State::new(0, 4), settings());
    feed(&mut state, &settings, &[known(2_900.0, 100); 4], 4, 2, 100);
    let silent = [without_bus(known(0.0, 100)); 4];
    let decision = feed(&mut state, &settings, &silent, 4, 102, 900);
    assert_eq!((decision.desired, decision.rule, decision.heard), (4, Rule::BackplaneSilent, false));
    let crowd = [without_bus(known(0.0, 9_000)); 4];
    let decision = feed(&mut state, &settings, &crowd, 4, 902, 960);
    assert_eq!((decision.desired, decision.rule), (4, Rule::BackplaneSilent), "{}", decision.message);
    let raised = Settings { min: 6, ..settings.clone() };
    let decision = feed(&mut state, &raised, &silent, 4, 962, 964);
    assert_eq!((decision.desired, decision.rule), (6, Rule::MinNodes), "what the user asks for holds");
}

#[test]
fn a_node_cut_off_from_the_bus_keeps_the_fleet_from_shrinking_and_not_from_growing() {
    let (mut state, settings) = (State::new(0, 4), settings());
    let mut nodes = [known(10.0, 1); 4];
    nodes[3] = without_bus(known(10.0, 1));
    let decision = feed(&mut state, &settings, &nodes, 4, 2, 300);
    assert_eq!((decision.desired, decision.rule), (4, Rule::BackplaneSilent), "{}", decision.message);
    nodes[..3].fill(known(6_000.0, 1));
    let decision = feed(&mut state, &settings, &nodes, 4, 302, 310);
    assert!(decision.desired > 4, "{}", decision.message);
    let mut late = [known(10.0, 1); 4];
    late[0].hearing = Some(Hearing::Late);
    let decision = feed(&mut State::new(0, 4), &settings, &late, 4, 2, 300);
    assert_eq!((decision.desired, decision.rule), (4, Rule::BackplaneSilent), "{}", decision.message);
}

#[test]
fn what_the_bus_delivers_late_is_no_burst() {
    let (mut state, settings) = (State::new(0, 2), settings());
    feed(&mut state, &settings, &[known(745.0, 10); 2], 2, 2, 100);
    let mut backlog = known(9_000.0, 10);
    backlog.timely_per_second = Some(745.0);
    let decision = feed(&mut state, &settings, &[backlog; 2], 2, 102, 108);
    assert_eq!(decision.desired, 2, "{}", decision.message);
    // A leader that begins while the bus delivers late messages has seen nothing of the time in which those were due.
    let decision = feed(&mut State::new(0, 2), &settings, &[backlog; 2], 2, 2, 4);
    assert_eq!(decision.desired, 2, "{}", decision.message);
}

#[test]
fn a_load_around_a_bound_does_not_take_back_that_it_is_limited() {
    let (mut state, settings) = (State::new(0, 10), settings());
    let mut changes = 0;
    let mut before = None;
    for second in (2..600u64).step_by(2) {
        // Ten seconds above what nodes.max carries, ten seconds below.
        let load = if second % 20 < 10 { 3_600.0 } else { 2_800.0 };
        let nodes = [known(load, 1); 10];
        let inputs = Inputs { now: second * 1_000, current: 10, replicas: 10, nodes: &nodes };
        let limited = state.step(&settings, inputs).limited;
        changes += u32::from(before.is_some_and(|before| before != limited));
        before = Some(limited);
    }
    assert!(changes <= 1, "{changes} changes in ten minutes");
    assert_eq!(before, Some(Some(Rule::MaxNodes)));
    let decision = feed(&mut state, &settings, &[known(2_000.0, 1); 10], 10, 600, 664);
    assert_eq!(decision.limited, None, "it ends a stable window later");
    feed(&mut state, &settings, &[known(9_000.0, 1); 10], 10, 666, 680);
    let raised = Settings { max: 100, ..settings };
    let decision = feed(&mut state, &raised, &[known(2_900.0, 1); 10], 10, 682, 684);
    assert_eq!(decision.limited, None, "another bound does not hold back: {}", decision.message);
}
