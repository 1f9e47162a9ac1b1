//! The two lanes of `cargo xtask test`: steps that need not wait for each other run side by side.
//!
//! The front lane runs its steps in order. The back lane runs steps that need nothing of the front lane, at the
//! lowest priority: it gets the processor time that is left while the front lane links, waits for a cluster, or lets
//! a fleet run.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use crate::{
    step::{self, Lane, Needs, Step, Tally},
    tools::Tools,
};

/// Niceness of the back lane: the kernel's greatest.
const NICENESS: i32 = 19;

/// A step that has ended.
pub(crate) struct Done {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) error: Option<String>,
}

/// Runs all steps; returns their results in the order of the lanes.
pub(crate) fn run(steps: &[Step], tools: &Tools) -> Vec<Done> {
    run_with(steps, &|step| one(step, tools))
}

fn run_with(steps: &[Step], one: &(dyn Fn(&Step) -> Done + Sync)) -> Vec<Done> {
    let (front, back): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.lane == Lane::Front);
    let ahead = Ahead::new(front.iter().map(|step| step.name).collect());
    thread::scope(|scope| {
        let back = scope.spawn(|| {
            // On Linux the priority belongs to the thread; the programs that it starts inherit it.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                say::err!("the steps of the back lane have the usual priority: {error}");
            }
            let mut done = Vec::new();
            for step in back {
                ahead.wait(step.lane);
                done.push(one(step));
            }
            done
        });
        let over = Over(&ahead);
        let mut done = Vec::new();
        for step in front {
            ahead.begin(step.name);
            done.push(one(step));
        }
        drop(over);
        let lost = |_| Done {
            name: "back lane",
            took: Duration::ZERO,
            tally: Tally { passed: 0, failed: 1 },
            error: Some("it panicked".to_owned()),
        };
        done.extend(back.join().unwrap_or_else(|panic| vec![lost(panic)]));
        done
    })
}

/// Runs one step and, when it fails, says how at once.
fn one(step: &Step, tools: &Tools) -> Done {
    let begun = Instant::now();
    let (tally, error) = step::run(step, tools);
    let error = error.map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        tools.progress.say(&format!("FAILED {}: {error}", step.name));
        if step.needs == Needs::Cluster
            && let Err(error) = tools.xtask(&["logs"]).status()
        {
            tools.progress.say(&format!("the logs could not be collected: {:#}", anyhow!(error)));
        }
    }
    Done { name: step.name, took: begun.elapsed(), tally, error }
}

/// Steps that the front lane has not begun.
struct Ahead {
    names: Mutex<BTreeSet<&'static str>>,
    changed: Condvar,
}

impl Ahead {
    fn new(names: BTreeSet<&'static str>) -> Self {
        Self { names: Mutex::new(names), changed: Condvar::new() }
    }

    fn begin(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.changed.notify_all();
    }

    /// Waits until a step of this lane may begin.
    fn wait(&self, lane: Lane) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(names, |names| !may_begin(lane, names));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether a step of this lane may begin: the front lane has begun the step that the lane names, or has no such step
/// before it.
fn may_begin(lane: Lane, ahead: &BTreeSet<&'static str>) -> bool {
    match lane {
        Lane::Back(Some(step)) => !ahead.contains(step),
        Lane::Back(None) | Lane::Front => true,
    }
}

/// Lets the back lane go on when the front lane ends, also by a panic.
struct Over<'a>(&'a Ahead);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Action, Count};

    fn step(name: &'static str, lane: Lane) -> Step {
        let action = Action::Code(|_| Ok(()));
        Step { name, needs: Needs::Nothing, count: Count::One, lane, action }
    }

    #[test]
    fn the_back_lane_waits_for_its_step_only() {
        let ahead = BTreeSet::from(["a", "b"]);
        assert!(!may_begin(Lane::Back(Some("b")), &ahead));
        assert!(may_begin(Lane::Back(Some("b")), &BTreeSet::from(["c"])));
        assert!(may_begin(Lane::Back(Some("chosen by nobody")), &ahead));
        assert!(may_begin(Lane::Back(None), &ahead));
    }

    #[test]
    fn the_lanes_overlap_and_each_keeps_its_order() {
        let begun = Mutex::new(Vec::new());
        let one = |step: &Step| {
            begun.lock().expect("no panic").push(step.name);
            // Each lane's first step ends when the other's has begun.
            let other = if step.name == "a" { "x" } else { "a" };
            while ["a", "x"].contains(&step.name) && !begun.lock().expect("no panic").contains(&other) {
                thread::yield_now();
            }
            Done { name: step.name, took: Duration::ZERO, tally: Tally::default(), error: None }
        };
        let steps = [
            step("x", Lane::Back(None)),
            step("y", Lane::Back(Some("b"))),
            step("a", Lane::Front),
            step("b", Lane::Front),
        ];
        let done: Vec<_> = run_with(&steps, &one).iter().map(|done| done.name).collect();
        assert_eq!(done, ["a", "b", "x", "y"]);
    }
}
