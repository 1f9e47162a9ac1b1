use node_core::admin::{BusStats, Counters, NodePhase, Stats};

use super::{FRESH_MILLIS, FleetPoint, FleetSeries, Missed, NodeLoad, NodeSeries, SETTLE_MILLIS};
use crate::backplane::Hearing;
use crate::capacity::Sizing;
use crate::heat::Heat;

const SIZING: Sizing = Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 60 };

fn stats(boot: &str, millis: u64, writes: u64) -> Stats {
    Stats {
        boot_id: boot.to_owned(),
        monotonic_millis: millis,
        counters: Counters { writes, ..Counters::default() },
        ..Stats::default()
    }
}

#[test]
fn rates_use_the_nodes_clock() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 50_000);
    assert_eq!(node.rates_now(50_000), None, "one answer is no rate");
    node.push(stats("a", 3_000, 500), 53_500);
    assert!((node.rates_now(53_500).unwrap().writes - 250.0).abs() < 1e-9, "the late scrape does not matter");
}

#[test]
fn a_restart_is_unknown_and_then_counts_anew() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 1_000);
    node.push(stats("a", 3_000, 9_000), 3_000);
    node.push(stats("b", 500, 10), 5_000);
    assert_eq!(node.rates_now(5_000), None);
    node.push(stats("b", 2_500, 30), 7_000);
    assert!((node.rates_now(7_000).unwrap().writes - 10.0).abs() < 1e-9);
}

#[test]
fn old_figures_are_unknown() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 1_000);
    node.push(stats("a", 3_000, 9_000), 3_000);
    assert!(node.rates_now(3_000 + FRESH_MILLIS).is_some());
    assert_eq!(node.rates_now(3_001 + FRESH_MILLIS), None);
    assert!(node.fresh(3_001 + FRESH_MILLIS).is_none());
}

#[test]
fn rates_are_never_negative_whatever_the_counters_do() {
    arbtest::arbtest(|u| {
        let mut node = NodeSeries::default();
        let mut now = 0;
        for _ in 0..u.int_in_range(1..=40)? {
            now += u.int_in_range(0..=20_000u64)?;
            let boot = if u.ratio(1u8, 4u8)? { "b" } else { "a" };
            node.push(stats(boot, u.int_in_range(0..=100_000)?, u.int_in_range(0..=1_000_000)?), now);
            for rates in [node.rates(now), node.rates_now(now)].into_iter().flatten() {
                assert!(rates.writes >= 0.0 && rates.writes.is_finite(), "{rates:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn an_unknown_node_is_not_a_node_without_load() {
    let mut fleet = FleetSeries::default();
    for tick in 0..10 {
        let nodes = [
            NodeLoad { ready: true, writes_per_second: Some(100.0), ..NodeLoad::default() },
            NodeLoad { ready: true, ..NodeLoad::default() },
        ];
        fleet.push(FleetPoint::of(&nodes, &SIZING, tick * 2_000), 60_000);
    }
    let average = |of: fn(&FleetPoint) -> f64| fleet.average(of, 6_000, 18_000).unwrap();
    assert!((average(|p| p.writes_per_second) - 100.0).abs() < 1e-6);
    assert!((average(|p| f64::from(p.unknown_writes)) - 1.0).abs() < 1e-6);
    assert!((average(|p| f64::from(p.silent)) - 1.0).abs() < 1e-6);
    assert!(!fleet.last().unwrap().quorum());
}

#[test]
fn what_no_average_needs_is_not_kept() {
    let mut fleet = FleetSeries::default();
    let mut whole = FleetSeries::default();
    for tick in 0..1_000u32 {
        let writes = Some(f64::from(tick * tick % 97));
        let nodes = [NodeLoad { ready: true, writes_per_second: writes, ..NodeLoad::default() }];
        let (now, point) =
            (u64::from(tick) * 2_000, FleetPoint::of(&nodes, &SIZING, u64::from(tick) * 2_000));
        fleet.push(point, 60_000);
        whole.push(point, u64::MAX);
        for window in [6_000, 59_000, 60_000] {
            let average = |series: &FleetSeries| series.average(|p| p.writes_per_second, window, now);
            assert_eq!(average(&fleet), average(&whole));
        }
    }
    assert_eq!((fleet.kept(), whole.kept()), (32, 1_000));
}

#[test]
fn an_answer_that_repeats_itself_is_none() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 1_000);
    node.push(stats("a", 3_000, 9_000), 3_000);
    for second in (5..3_600).step_by(2) {
        node.push(stats("a", 3_000, 9_000), second * 1_000);
        assert!(!node.answers(), "its own clock stands still");
    }
    assert!(node.fresh(3_600_000).is_none() && node.rates(3_600_000).is_none());
    assert_eq!(node.last_at(), Some(3_000));
    node.push(stats("a", 4_000, 9_100), 3_602_000);
    assert!(node.answers() && node.fresh(3_602_000).is_some());
}

#[test]
fn answers_that_take_turns_are_old_ones() {
    // Somebody on the way to the node repeats two answers of one process, or one each of two.
    for boots in [["a", "a"], ["a", "b"]] {
        let mut node = NodeSeries::default();
        for look in 0..1_800u64 {
            let turn = look % 2;
            let boot = boots[usize::try_from(turn).unwrap()];
            node.push(stats(boot, 3_000 + turn * 2_000, turn * 9_000), look * 2_000);
        }
        assert!(!node.answers() && node.fresh(3_598_000).is_none(), "{boots:?}");
        assert_eq!(node.last_at(), Some(2_000), "{boots:?}");
    }
    let mut node = NodeSeries::default();
    for boot in 0..50u64 {
        node.push(stats(&boot.to_string(), 1_000, 0), boot * 2_000);
        assert!(node.answers(), "it crashes again and again, and each process is another one");
    }
}

#[test]
fn a_clock_that_goes_back_begins_anew() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 9_000_000);
    node.push(stats("a", 3_000, 9_000), 9_002_000);
    assert!(node.fresh(5_000).is_none(), "it is from a time that is still to come");
    node.push(stats("a", 5_000, 18_000), 5_000);
    assert_eq!((node.answers(), node.rates_now(5_000)), (true, None));
    node.push(stats("a", 7_000, 27_000), 7_000);
    assert!((node.rates(7_000).unwrap().writes - 4_500.0).abs() < 1e-9);
}

#[test]
fn a_rate_beyond_what_a_node_can_do_is_unknown() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 1_000);
    node.push(stats("a", 3_000, 1_000_000_000), 3_000);
    assert!(node.rates_now(3_000).is_none() && node.rates(3_000).is_none() && node.load(3_000).is_none());
    assert!(node.fresh(3_000).is_some(), "the rest of the answer may be true");
}

#[test]
fn what_one_answer_alone_says_is_not_believed_beyond_twice_the_capacity() {
    let load = |writes, before| NodeLoad {
        ready: true,
        writes_per_second: Some(writes),
        writes_before: before,
        ..NodeLoad::default()
    };
    let believed = |writes, before| load(writes, before).writes(&SIZING);
    assert_eq!(believed(79_000.0, Some(100.0)), Some(79_000.0), "a node may do so at once");
    assert_eq!(believed(9e7, Some(100.0)), Some(100.0), "a second answer has to say so too");
    assert_eq!(believed(9e7, Some(9e7)), Some(9e7));
    assert_eq!(believed(9e7, None), Some(80_000.0));
    assert_eq!(believed(5e8, Some(5e8)), None, "no node can");
    let held = |connections, before| {
        NodeLoad { connections: Some(connections), connections_before: before, ..NodeLoad::default() }
            .held(&SIZING)
    };
    assert_eq!(held(1_000_000, Some(9_000)), Some(9_000.0));
    assert_eq!(held(18_000, Some(9_000)), Some(18_000.0));
    assert_eq!(held(1 << 40, Some(1 << 40)), None);
}

#[test]
fn a_node_is_saturated_when_two_answers_say_so() {
    let answer = |millis: u64, utilization| {
        let mut stats = stats("a", millis, millis);
        stats.gauges.utilization = utilization;
        stats
    };
    let mut node = NodeSeries::default();
    node.push(answer(1_000, 0.97), 1_000);
    assert_eq!(node.saturated(1_000), None);
    node.push(answer(3_000, 0.95), 3_000);
    assert_eq!(node.saturated(3_000), Some(Heat::Busy));
    node.push(answer(5_000, 0.5), 5_000);
    node.push(answer(7_000, 0.95), 7_000);
    assert_eq!(node.saturated(7_000), None, "one second was calm");
    assert_eq!(node.saturated(7_001 + FRESH_MILLIS), None);
}

#[test]
fn figures_end_with_the_process_that_gave_them() {
    let mut node = NodeSeries::default();
    node.push(stats("a", 1_000, 0), 1_000);
    node.push(stats("a", 3_000, 9_000), 3_000);
    node.missed(Missed::Silent);
    assert!(node.fresh(5_000).is_some() && !node.answers(), "one lost answer is not an end");
    node.missed(Missed::Ended);
    assert!(node.fresh(5_000).is_none() && node.rates_now(5_000).is_none());
}

/// An answer of a node whose bus was silent for so long.
fn on_bus(millis: u64, writes: u64, silent_millis: u64, late: (u64, u64)) -> Stats {
    let bus = BusStats { connected: true, silent_millis, ..BusStats::default() };
    let counters = Counters { writes, bus_late: late.0, late_writes: late.1, ..Counters::default() };
    Stats {
        phase: NodePhase::Serving,
        bus_connected: Some(true),
        bus: Some(bus),
        monotonic_millis: millis,
        counters,
        ..Stats::default()
    }
}

#[test]
fn what_a_node_writes_while_it_does_not_hear_the_bus_and_shortly_after_is_no_load() {
    let mut node = NodeSeries::default();
    node.push(on_bus(0, 0, 10, (0, 0)), 0);
    node.push(on_bus(2_000, 2_000, 10, (0, 0)), 2_000);
    assert!((node.load(2_000).unwrap().writes - 1_000.0).abs() < 1e-9);
    node.push(on_bus(4_000, 2_000, 3_000, (0, 0)), 4_000);
    assert_eq!((node.hearing(4_000), node.load(4_000)), (Some(Hearing::Lost), None), "it is not idle");
    assert!(node.rates(4_000).is_some(), "it is still what was delivered");
    node.push(on_bus(6_000, 32_000, 10, (500, 30_000)), 6_000);
    assert_eq!((node.hearing(6_000), node.load(6_000)), (Some(Hearing::Lost), None), "it is no burst");
    let back = 6_000 + SETTLE_MILLIS + 2_000;
    node.push(on_bus(back - 2_000, 40_000, 10, (500, 30_000)), back - 2_000);
    node.push(on_bus(back, 42_000, 10, (500, 30_000)), back);
    assert_eq!(node.hearing(back), Some(Hearing::Well));
    assert!((node.load(back).unwrap().writes - 1_000.0).abs() < 1e-9);
}

#[test]
fn late_writes_are_told_from_those_in_time() {
    let mut node = NodeSeries::default();
    node.push(on_bus(0, 0, 10, (0, 0)), 0);
    node.push(on_bus(2_000, 10_000, 10, (40, 8_000)), 2_000);
    let load = node.load(2_000).unwrap();
    assert!((load.writes - 5_000.0).abs() < 1e-9 && (load.timely - 1_000.0).abs() < 1e-9, "{load:?}");
    assert_eq!(node.hearing(2_000), Some(Hearing::Late));
    node.push(on_bus(4_000, 12_000, 10, (40, 8_000)), 4_000);
    assert_eq!(node.hearing(4_000), Some(Hearing::Late), "one look in time is not yet well");
    node.push(on_bus(13_000, 21_000, 10, (40, 8_000)), 13_000);
    assert_eq!(node.hearing(13_000), Some(Hearing::Well));
}

#[test]
fn one_node_without_the_bus_is_not_a_silent_bus() {
    let node = |hearing| NodeLoad { ready: true, hearing: Some(hearing), ..NodeLoad::default() };
    let of = |nodes: &[NodeLoad]| {
        let point = FleetPoint::of(nodes, &SIZING, 0);
        (point.bus_silent(), point.lost_bus + point.late_bus > 0)
    };
    assert_eq!(of(&[node(Hearing::Well); 3]), (false, false));
    assert_eq!(of(&[node(Hearing::Unused); 3]), (false, false));
    assert_eq!(of(&[node(Hearing::Well), node(Hearing::Well), node(Hearing::Lost)]), (false, true));
    assert_eq!(of(&[node(Hearing::Well), node(Hearing::Lost)]), (true, true));
    assert_eq!(of(&[node(Hearing::Well), node(Hearing::Late)]), (false, true));
    let leaves = NodeLoad { ready: false, unready: true, ..node(Hearing::Lost) };
    assert_eq!(of(&[node(Hearing::Well), leaves]), (false, false), "it does not serve");
}

#[test]
fn a_bus_that_comes_and_goes_within_seconds_is_lost_once() {
    let mut node = NodeSeries::default();
    let mut changes = 0;
    for look in 0..150u64 {
        let now = look * 2_000;
        let before = node.hearing(now);
        node.push(on_bus(now + 1, look, if look % 3 == 2 { 3_000 } else { 10 }, (0, 0)), now);
        changes += u32::from(before.is_some() && before != node.hearing(now));
    }
    assert_eq!(changes, 1);
    node.missed(Missed::Ended);
    node.push(Stats { boot_id: "b".to_owned(), ..on_bus(1, 0, 10, (0, 0)) }, 301_000);
    assert_eq!(node.hearing(301_000), Some(Hearing::Well), "another process");
}

#[test]
fn a_node_that_starts_did_not_lose_the_bus() {
    let mut node = NodeSeries::default();
    node.push(Stats { phase: NodePhase::Starting, ..on_bus(500, 0, 500, (0, 0)) }, 0);
    let alone = BusStats { connected: false, silent_millis: 500, ..BusStats::default() };
    let starts = on_bus(1_000, 0, 500, (0, 0));
    let starts = Stats { phase: NodePhase::Starting, bus_connected: Some(false), bus: Some(alone), ..starts };
    node.push(starts, 2_000);
    assert_eq!(node.hearing(2_000), Some(Hearing::Lost), "it does not hear it yet");
    node.push(on_bus(3_000, 0, 10, (0, 0)), 4_000);
    assert_eq!(node.hearing(4_000), Some(Hearing::Well), "else each new node would hold the fleet for 10 s");
    assert!(node.load(4_000).is_some());
}
