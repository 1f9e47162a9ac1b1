//! Random loads and troubles, and what must hold of the operator whatever they are.

use super::chance::Chance;
use super::control::Controller;
use super::curve::Curve;
use super::trace::{Bounds, Fault, Group, Trace, Trouble, Which};
use super::{Run, run, traces};

/// What a run of random steps came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Traces.
    pub traces: u64,
    /// Looks of the operator, each with a decision.
    pub steps: u64,
    /// Changes of the number of nodes that are to stay.
    pub changes: u64,
}

/// Seconds with load that goes up and down, and with troubles; then an hour with neither.
const WILD: u32 = 1_800;
const CALM: u32 = 3_600;

fn which(chance: &mut Chance) -> Which {
    match chance.bits() % 3 {
        0 => Which::All,
        1 => Which::Oldest(1 + chance.bits() as usize % 3),
        _ => Which::Every(2 + chance.bits() as u32 % 3, 0),
    }
}

fn trouble(chance: &mut Chance) -> Trouble {
    let those = which(chance);
    match chance.bits() % 8 {
        0 => Trouble::Silent(those),
        1 => Trouble::Repeats(those),
        2 => Trouble::Stands(those),
        3 => Trouble::Crashes(those, 30 + chance.bits() as u32 % 300, 1 + chance.bits() as u32 % 60),
        4 => Trouble::Deleted(those),
        5 => Trouble::SlowStart(1 + chance.bits() as u32 % 60),
        6 => Trouble::Dies(1 + chance.bits() as u32 % 8),
        // Down to each look: what one operator wrote is all that the next one has.
        _ => Trouble::Restarts(1 + chance.bits() as u32 % 300),
    }
}

/// A random trace.
fn trace(seed: u64) -> Trace {
    let mut chance = Chance::new(seed);
    let nodes = chance.between(1.0, 9.0);
    let mut steps = vec![(0.0, nodes)];
    let mut at = chance.between(30.0, 300.0);
    while at < f64::from(WILD) {
        steps.push((at, chance.between(0.0, 15.0)));
        at += chance.between(10.0, 400.0);
    }
    let nodes_worth = Curve::steps(&steps);
    let flat = chance.bits().is_multiple_of(2);
    let group = Group {
        clients: if flat { Curve::flat(20_000.0) } else { nodes_worth.clone().times(4_800.0) },
        writes: if flat { nodes_worth.times(1.2) } else { Curve::flat(5.0) },
        // An hour is four sessions at least, after which clients are spread over the nodes, moved or not.
        session_seconds: chance.between(60.0, 900.0),
    };
    let begin = (nodes * 1.2).ceil() as i32 + 1;
    let mut trace = Trace::of(format!("random-{seed}"), WILD + CALM, begin.max(4), group);
    for _ in 0..chance.bits() % 5 {
        let from = chance.between(10.0, f64::from(WILD) - 10.0) as u32;
        let until = (from + 1 + chance.between(0.0, 600.0) as u32).min(WILD);
        trace.faults.push(Fault { from, until, what: trouble(&mut chance) });
    }
    for _ in 0..chance.bits() % 3 {
        let at = chance.between(10.0, f64::from(WILD) - 10.0) as u32;
        let min = 1 + (chance.bits() % 4) as i32;
        let max = 6 + (chance.bits() % 20) as i32;
        let target_connections = 1_000 + chance.bits() % 60_000;
        trace.changes.push((at, Bounds { min, max, target_connections }));
    }
    trace.changes.sort_by_key(|(at, _)| *at);
    trace
}

/// Runs the random trace of a seed with the operator, without moves and with them, and checks what must hold.
///
/// # Errors
/// What does not hold, with the trace.
pub fn check(seed: u64) -> Result<Tally, String> {
    let trace = trace(seed);
    let manifest = traces::manifest()?;
    let mut tally = Tally { traces: 1, ..Tally::default() };
    for controller in [Controller::Operator, Controller::OperatorMoving] {
        let run = run(&trace, &manifest, controller).map_err(|all| format!("{all:?}"))?;
        if let Some(what) = broken(&trace, &run) {
            return Err(format!("seed {seed}, {}: {what}: {trace:?}", controller.name()));
        }
        tally.steps += run.measures.steps;
        tally.changes += u64::from(run.measures.changes);
    }
    Ok(tally)
}

/// What does not hold of a run.
fn broken(trace: &Trace, Run { points, measures, .. }: &Run) -> Option<String> {
    if let Some((second, what)) = measures.broken.first() {
        return Some(format!("in second {second}: {what}"));
    }
    if let Some((second, what)) = measures.wrong.first() {
        return Some(format!("in second {second}: {what}"));
    }
    let least = trace.changes.iter().map(|(_, bounds)| bounds.min).fold(trace.bounds.min, i32::min);
    let most = trace.changes.iter().map(|(_, bounds)| bounds.max).fold(trace.bounds.max, i32::max);
    if let Some(point) = points.iter().find(|point| !(least..=most).contains(&point.nodes)) {
        return Some(format!("{point:?} outside {least} to {most}"));
    }
    // After an hour of calm there are enough nodes, and the count has not changed for the last quarter of it.
    let last = &points[points.len() - points.len() / 6..];
    let end = last.last()?;
    if last.iter().any(|point| point.nodes != end.nodes) {
        return Some(format!("still moving: {last:?}"));
    }
    let bounds = trace.bounds(trace.seconds);
    if !(bounds.min..=bounds.max).contains(&end.nodes) {
        return Some(format!("{end:?} outside {bounds:?}"));
    }
    if f64::from(end.nodes) * 1.1 < end.need && end.nodes != bounds.max {
        return Some(format!("too few: {end:?}"));
    }
    (measures.undrained >= 1.0).then(|| format!("{} clients cut off", measures.undrained))
}
