//! Loads that jump.

use std::time::Duration;

use crds::{PolicyType, SelectPolicy};

use node_core::admin::{Counters, Gauges, Stats};

use super::super::{Inputs, Settings, State, TOLERANCE};
use super::{calm, default_size, known};
use crate::capacity::whole;
use crate::pod::PodView;
use crate::samples::{NodeLoad, NodeSeries};
use crate::seen;
use crate::validate::{Pace, PacePolicy};

/// The pace of growth where the manifest names none.
fn default_up() -> Pace {
    let policy = |kind, value| PacePolicy { kind, value, period: Duration::from_secs(15) };
    Pace {
        stabilization: Duration::ZERO,
        policies: vec![policy(PolicyType::Percent, 900), policy(PolicyType::Pods, 20)],
        select: SelectPolicy::Max,
    }
}

#[test]
fn a_load_that_has_gone_is_followed_in_one_step() {
    let settings = Settings { max: 40, up: default_up(), down: calm(300), ..default_size() };
    let (mut state, mut counts) = (State::new(0, 40), vec![40]);
    for look in 1..400u64 {
        let writes = if look < 100 { 23_000.0 } else { 2_000.0 };
        let inputs = Inputs { now: look * 2_000, current: 40, replicas: 40, nodes: &[known(writes, 1); 40] };
        let desired = state.step(&settings, inputs).desired;
        if counts.last() != Some(&desired) {
            counts.push(desired);
        }
    }
    assert!(counts.len() <= 3 && counts.last() == Some(&4), "{counts:?}");
}

#[test]
fn enough_nodes_are_asked_for_within_eight_seconds_of_any_jump() {
    arbtest::arbtest(|u| {
        let settings = Settings { max: 1_000, up: default_up(), ..default_size() };
        let target = settings.sizing.target_writes();
        let count = u.int_in_range(1..=40usize)?;
        let current = i32::try_from(count).unwrap();
        let before = target * f64::from(u.int_in_range(0..=105u32)?) / 100.0;
        // Up to ten times the target on each node.
        let after = target * f64::from(u.int_in_range(120..=1_000u32)?) / 100.0;
        let jump = u.int_in_range(100_000..=101_999u64)?;
        let mut state = State::new(0, current);
        let (mut last, mut asked) = (before, Vec::new());
        for second in (2..=108u64).step_by(2) {
            let now = second * 1_000;
            // The figure is the average since the look before.
            let new = now.saturating_sub(jump).min(2_000) as f64 / 2_000.0;
            let writes = if now < jump { before } else { before + (after - before) * new };
            let node = NodeLoad { writes_before: Some(last), ..known(writes, 1) };
            let nodes = vec![node; count];
            let decision = state.step(&settings, Inputs { now, current, replicas: current, nodes: &nodes });
            last = writes;
            if now >= jump && asked.last() != Some(&decision.desired) && decision.desired > current {
                asked.push(decision.desired);
            }
        }
        let enough = whole(after * f64::from(current) / target).min(1_000);
        assert_eq!(
            asked.last(),
            Some(&enough),
            "{asked:?} after a jump from {before} to {after} on {current}"
        );
        assert!(asked.len() <= 4, "{asked:?}: one for each look at most");
        Ok(())
    });
}

/// A node that queues five seconds of what it can do, and counts what it queues.
#[derive(Default)]
struct Full {
    series: NodeSeries,
    writes: f64,
    sent: f64,
    queued: f64,
    busy: f64,
}

impl Full {
    const CAPACITY: f64 = 40_000.0;

    /// A tenth of a second.
    fn pass(&mut self, asked: f64) {
        let due = self.queued + asked / 10.0;
        let done = due.min(Self::CAPACITY / 10.0);
        let queued = (due - done).min(5.0 * Self::CAPACITY);
        self.writes += asked / 10.0 - (due - done - queued);
        self.sent += done;
        (self.queued, self.busy) = (queued, done / Self::CAPACITY * 10.0);
    }

    fn load(&mut self, now: u64) -> NodeLoad {
        let counters = Counters {
            writes: self.writes as u64,
            sent_bytes: (self.sent * 120.0) as u64,
            ..Counters::default()
        };
        let gauges = Gauges {
            connections: 5_000,
            utilization: self.busy,
            oldest_queued_millis: (self.queued / Self::CAPACITY * 1_000.0) as u64,
            send_queue_bytes: (self.queued * 120.0) as u64,
            ..Gauges::default()
        };
        self.series.push(Stats { monotonic_millis: now, counters, gauges, ..Stats::default() }, now);
        seen::load(&PodView { ready: true, ..PodView::default() }, Some(&self.series), now)
    }
}

#[test]
fn enough_nodes_are_asked_for_within_eight_seconds_of_a_jump_that_fills_every_node() {
    arbtest::arbtest(|u| {
        let settings = Settings { max: 1_000, up: default_up(), down: calm(300), ..default_size() };
        let target = settings.sizing.target_writes();
        let current = u.int_in_range(1..=6i32)?;
        let before = target * f64::from(u.int_in_range(20..=105u32)?) / 100.0;
        // Up to six times the target on each node, at any tenth of a second.
        let after = target * f64::from(u.int_in_range(175..=600u32)?) / 100.0;
        let jump = u.int_in_range(1_000..=1_020u64)?;
        let mut nodes: Vec<Full> = (0..current).map(|_| Full::default()).collect();
        let (mut state, mut asked) = (State::new(0, current), current);
        for tenth in 1..=jump + 80 {
            nodes.iter_mut().for_each(|node| node.pass(if tenth > jump { after } else { before }));
            if tenth % 20 == 0 {
                let now = tenth * 100;
                let loads: Vec<NodeLoad> = nodes.iter_mut().map(|node| node.load(now)).collect();
                let inputs = Inputs { now, current, replicas: current, nodes: &loads };
                asked = state.step(&settings, inputs).desired;
            }
        }
        let need = after * f64::from(current) / target;
        // The queues hide a part of the first second, so the figures are a little below what is asked.
        let (enough, most) = (whole(0.97 * need / (1.0 + TOLERANCE)), whole(1.7 * need) + 1);
        assert!(
            (enough..=most).contains(&asked),
            "{asked} of {need} from {before} to {after} on {current} at {jump}"
        );
        Ok(())
    });
}
