//! What must hold in the world itself, and what the operator must reach in it.

use super::measures::Measures;
use super::report;
use super::trace::{Trace, Trouble};
use super::{Controller, Run, random, run, traces};

const SEED: u64 = 1;

fn runs(traces: &[Trace], controllers: &[Controller]) -> Vec<Run> {
    let manifest = traces::manifest().unwrap();
    let jobs = traces.iter().flat_map(|trace| controllers.iter().map(move |controller| (trace, *controller)));
    jobs.map(|(trace, controller)| run(trace, &manifest, controller).unwrap()).collect()
}

fn find(name: &str) -> Trace {
    traces::all(SEED)
        .into_iter()
        .find(|trace| trace.name == name)
        .unwrap_or_else(|| panic!("no trace {name}"))
}

#[test]
fn a_trace_has_a_name_of_its_own_and_begins_with_enough_nodes() {
    let all = traces::all(SEED);
    assert!(all.len() >= 50, "{}", all.len());
    let mut names: Vec<_> = all.iter().map(|trace| trace.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
    assert_eq!(traces::short(SEED).len(), 16, "a name of the short list is wrong");
    for trace in &all {
        let demand = trace.demand(0);
        let has = f64::from(trace.nodes) * 24_000.0 * 1.3;
        assert!(
            demand.writes <= has || trace.nodes == trace.bounds.max,
            "{}: {demand:?} on {} nodes",
            trace.name,
            trace.nodes
        );
    }
    assert_eq!(traces::all(SEED), all, "the same seed makes the same traces");
}

#[test]
fn the_same_run_gives_the_same_figures_and_no_client_is_lost() {
    let trace = Trace { seconds: 1_200, ..find("crowd-joins-60s") };
    for controller in Controller::ALL {
        let [first, again] = [0; 2].map(|_| runs(std::slice::from_ref(&trace), &[controller]).remove(0));
        assert_eq!(first, again);
        let asked: f64 = (1..=trace.seconds).map(|second| trace.demand(second).writes).sum();
        assert!((first.measures.writes / asked - 1.0).abs() < 1e-9, "{controller:?}");
        assert!(first.measures.overload <= first.measures.writes, "{controller:?}");
    }
}

/// The others as their projects describe them: each reaction is worked out by hand.
#[test]
fn the_other_controllers_react_as_their_projects_say() {
    let step = find("step");
    let of = |controller| runs(std::slice::from_ref(&step), &[controller]).remove(0).measures;
    let first = |measures: &Measures| measures.reactions[0];
    // The metrics server has the whole load after one window of 15 s, and a sync comes within 15 s after it.
    assert!((1..=37).contains(&first(&of(Controller::HpaCpu))), "{:?}", of(Controller::HpaCpu));
    // A scrape each 30 s, a rate over two of them, a sync each 15 s.
    for controller in [Controller::HpaWrites, Controller::Keda] {
        assert!((15..=60).contains(&first(&of(controller))), "{controller:?}: {:?}", of(controller));
    }
    // Twice the load panics within the panic window of 6 s.
    assert!(first(&of(Controller::Kpa)) <= 8, "{:?}", of(Controller::Kpa));
    assert_eq!(of(Controller::Ideal).overload_percent().round(), 0.0);
}

#[test]
fn figures_that_fail_are_seen_by_those_who_read_them() {
    // KEDA takes no result for 0 and shrinks to the least; CPU comes from the kubelets.
    let trace = find("lost-all");
    assert!(matches!(trace.faults[0].what, Trouble::Silent(_)));
    let all = runs(&[trace], &[Controller::Keda, Controller::HpaCpu, Controller::HpaWrites]);
    let wrong: Vec<usize> = all.iter().map(|run| run.measures.wrong.len()).collect();
    assert_eq!(wrong, [1, 0, 0], "{all:#?}");
}

/// A short form of `cargo xtask judge`, with what holds of its goals.
#[test]
fn the_operator_beats_an_autoscaler_on_cpu_and_is_never_wrong() {
    let all = runs(&traces::short(SEED), &[Controller::Operator, Controller::HpaCpu]);
    let tables = report::tables(&all);
    println!("seed {SEED}\n{tables}");
    let sums = report::sums(&all);
    let (own, hpa) = (&sums[&Controller::Operator], &sums[&Controller::HpaCpu]);
    assert!(own.overload_percent() < hpa.overload_percent(), "{tables}");
    assert!(own.bounced + own.moved < 1.5 * hpa.bounced, "{tables}");
    assert_eq!(own.back_under_constant_load, 0, "{tables}");
    assert!(own.node_hours_over_least() <= 1.18, "{tables}");
    assert_eq!(own.wrong, [], "{tables}");
    assert!(own.undrained < 1.0, "{tables}");
}

#[test]
fn clients_that_are_moved_to_idle_nodes_end_what_more_nodes_cannot() {
    let crowd = find("crowd-talks");
    let all = runs(&[crowd], &[Controller::Operator, Controller::OperatorMoving]);
    let [stays, moves] = [0, 1].map(|index| &all[index].measures);
    let overload = [stays, moves].map(Measures::overload_percent);
    assert!(stays.moved < 1.0 && moves.moved > 1_000.0, "{moves:?}");
    assert!(overload[1] < overload[0] / 5.0, "{overload:?}");
}

/// A short form of `cargo xtask judge --random`.
#[test]
fn whatever_happens_the_fleet_stays_within_its_bounds_and_ends_with_enough_nodes() {
    arbtest::arbtest(|u| {
        random::check(u.arbitrary()?).unwrap();
        Ok(())
    })
    .size_min(8)
    .size_max(16)
    .budget_ms(4_000);
}

#[test]
fn what_was_learned_of_slow_nodes_ends_their_overload() {
    let slow: Vec<Trace> =
        traces::learning(SEED).into_iter().filter(|trace| trace.name == "capacity-half").collect();
    let all = runs(&slow, &[Controller::OperatorMoving, Controller::OperatorLearning]);
    let [given, learned] = [0, 1].map(|index| &all[index].measures);
    assert!(learned.overload_percent() < given.overload_percent() / 2.0, "{given:?} {learned:?}");
    assert_eq!(learned.wrong, [], "{learned:?}");
    assert_eq!(learned.broken, [], "{learned:?}");
}
