//! The loop closed: the fleet becomes what was decided some seconds later, and its load spreads over it.

use super::tests::{known, settings};
use super::{Inputs, Settings, State};
use crate::samples::NodeLoad;

/// A fleet whose nodes take 6 s to become ready and 10 s to drain.
struct Fleet {
    ready: i32,
    replicas: i32,
    due: Option<(u64, i32)>,
}

impl Fleet {
    fn nodes(&self, load: f64) -> Vec<NodeLoad> {
        let share = load / f64::from(self.ready.max(1));
        vec![known(share, 0); usize::try_from(self.ready).unwrap()]
    }

    fn follow(&mut self, desired: i32, now: u64) {
        if let Some((at, ready)) = self.due {
            if now >= at {
                self.ready = ready;
                self.replicas = ready;
                self.due = None;
            }
        } else if desired > self.replicas {
            self.replicas = desired;
            self.due = Some((now + 6_000, desired));
        } else if desired < self.replicas {
            self.due = Some((now + 10_000, self.replicas - 1));
        }
    }
}

/// Runs the loop and gives (second, replicas) at each change.
fn run(
    settings: &Settings,
    start: i32,
    seconds: u64,
    load: impl Fn(u64) -> f64,
    restarts: &[u64],
) -> Vec<(u64, i32)> {
    let mut fleet = Fleet { ready: start, replicas: start, due: None };
    let mut state = State::new(0, start);
    let mut trace = vec![(0, start)];
    for second in (2..seconds).step_by(2) {
        let now = second * 1_000;
        if restarts.contains(&second) {
            state = State::new(now, fleet.replicas);
        }
        let nodes = fleet.nodes(load(second));
        let decision = state
            .step(settings, Inputs { now, current: fleet.replicas, replicas: fleet.replicas, nodes: &nodes });
        fleet.follow(decision.desired, now);
        if trace.last().unwrap().1 != fleet.replicas {
            trace.push((second, fleet.replicas));
        }
    }
    trace
}

#[test]
fn a_step_in_load_is_followed_once_and_without_flapping() {
    let trace = run(&settings(), 2, 1_200, |second| if second < 200 { 1_000.0 } else { 14_000.0 }, &[]);
    let (when, _) = trace[1];
    assert!((200..=212).contains(&when), "{trace:?}");
    assert_eq!(trace.last().unwrap().1, 5, "{trace:?}");
    assert!(trace.windows(2).all(|w| w[1].1 > w[0].1), "only growth: {trace:?}");
}

#[test]
fn constant_load_settles_on_enough_nodes() {
    arbtest::arbtest(|u| {
        let start = u.int_in_range(2..=10)?;
        let load = f64::from(u.int_in_range(0..=29_000u32)?);
        let wobble = f64::from(u.int_in_range(0..=4u32)?) / 100.0;
        let settings = settings();
        // The same samples each 44 s: of a period that the samples do not divide each would be a new maximum.
        let shape = |second: u64| load * (1.0 + wobble * ((second % 44) as f64 / 7.0).sin());
        let trace = run(&settings, start, 1_800, shape, &[]);
        let (changed, settled) = *trace.last().unwrap();
        assert!(changed < 600, "still moving after ten minutes: {trace:?} at {load}");
        let full = f64::from(settled) * settings.sizing.target_writes() * (1.0 + super::TOLERANCE + wobble);
        assert!(load <= full || settled == settings.max, "{load} on {settled}: {trace:?}");
        Ok(())
    });
}

#[test]
fn a_restart_of_the_operator_never_shrinks_early() {
    // Load that needs all six nodes, with a restart each 40 s: history is always shorter than the stable window.
    let restarts: Vec<u64> = (0..30).map(|i| i * 40 + 40).collect();
    let trace = run(&settings(), 6, 1_200, |_| 10.0, &restarts);
    assert_eq!(trace, vec![(0, 6)], "never watched for a whole stable window, so never shrank");
}
