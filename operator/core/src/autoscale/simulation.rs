//! Two models. In the first the loop is closed: the fleet gets the decided size some seconds later, and its load
//! spreads over it. In the second the load stays the same while answers are lost, processes die, and the bus falls
//! silent and delivers late; the autoscaler must not take any of this for another load.

use arbtest::arbitrary::{Result, Unstructured};
use node_core::admin::{BusStats, Counters, Gauges, NodePhase, Stats};

use super::tests::{calm, known, settings};
use super::{Inputs, Rule, Settings, State};
use crate::capacity::whole;
use crate::pod::PodView;
use crate::samples::{NodeLoad, NodeSeries};
use crate::seen;

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
        // The period is 44 s, which the samples divide, so that each period has the same samples; otherwise each one
        // would have a new maximum.
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
    // The load needs all six nodes and the operator restarts each 40 s, so its history is always shorter than the
    // stable window.
    let restarts: Vec<u64> = (0..30).map(|i| i * 40 + 40).collect();
    let trace = run(&settings(), 6, 1_200, |_| 10.0, &restarts);
    assert_eq!(trace, vec![(0, 6)], "never watched for a whole stable window, so never shrank");
}

/// Pause between two looks, in milliseconds.
const LOOK: u64 = 2_000;

/// A node process with its part of a load.
struct Node {
    pod: PodView,
    series: NodeSeries,
    boot: u64,
    began: u64,
    /// Part of the load, and of the connections, that is on it.
    part: f64,
    counters: Counters,
    /// Writes that wait in a silent bus.
    waits: f64,
}

impl Node {
    fn new(index: i32, part: f64) -> Self {
        let pod = PodView { uid: format!("u{index}"), ready: true, ..PodView::default() };
        let counters = Counters::default();
        Self { pod, series: NodeSeries::default(), boot: 1, began: 0, part, counters, waits: 0.0 }
    }

    /// Delivers for the time between two looks; two thirds of the writes come over the bus, which may be silent.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn deliver(&mut self, load: f64, silent: bool) {
        let due = load * self.part * (LOOK / 1_000) as f64;
        if silent {
            self.waits += due * 2.0 / 3.0;
            self.counters.writes += (due / 3.0) as u64;
            return;
        }
        let late = std::mem::take(&mut self.waits) as u64;
        self.counters.writes += due as u64 + late;
        self.counters.late_writes += late;
        self.counters.bus_late += u64::from(late > 0);
    }

    fn stats(&self, now: u64, connections: f64, silent_millis: u64) -> Stats {
        let bus = BusStats { connected: silent_millis < 3_000, silent_millis, ..BusStats::default() };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let gauges = Gauges { connections: (connections * self.part) as u64, ..Gauges::default() };
        Stats {
            boot_id: self.boot.to_string(),
            monotonic_millis: now - self.began,
            phase: NodePhase::Serving,
            bus_connected: Some(bus.connected),
            bus: Some(bus),
            counters: self.counters.clone(),
            gauges,
            ..Stats::default()
        }
    }

    /// The node's process dies, or comes back. Gives the part of the load that has to go elsewhere.
    fn dies(&mut self) -> f64 {
        (self.pod.dead, self.pod.ready, self.pod.restarts) = (true, false, self.pod.restarts + 1);
        (self.counters, self.waits) = (Counters::default(), 0.0);
        std::mem::take(&mut self.part)
    }

    fn comes_back(&mut self, now: u64) {
        (self.pod.dead, self.pod.ready) = (false, true);
        (self.boot, self.began) = (self.boot + 1, now);
    }
}

/// A fleet under a load that is the same at all times, and what the operator sees of it.
struct Constant {
    nodes: Vec<Node>,
    load: f64,
    connections: f64,
    /// When the bus fell silent, in milliseconds.
    silent_since: Option<u64>,
}

impl Constant {
    fn look(&mut self, now: u64, u: &mut Unstructured<'_>) -> Result<Vec<NodeLoad>> {
        match self.silent_since {
            None if u.ratio(1u8, 40u8)? => self.silent_since = Some(now),
            Some(_) if u.ratio(1u8, 6u8)? => self.silent_since = None,
            _ => {}
        }
        let alive = self.nodes.iter().filter(|n| !n.pod.dead).count();
        let dies = u.choose_index(self.nodes.len())?;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if node.pod.dead && u.ratio(1u8, 3u8)? {
                node.comes_back(now);
            } else if index == dies && !node.pod.dead && alive > 1 && u.ratio(1u8, 30u8)? {
                let part = node.dies();
                return self.moved(part, now, u);
            }
        }
        self.moved(0.0, now, u)
    }

    /// `part` of the load moves to the other nodes, and the operator asks what was delivered since its last look.
    fn moved(&mut self, part: f64, now: u64, u: &mut Unstructured<'_>) -> Result<Vec<NodeLoad>> {
        let serving = self.nodes.iter().filter(|n| n.pod.ready).count().max(1) as f64;
        let silent = self.silent_since.map_or(0, |since| now - since);
        let mut loads = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            if node.pod.ready {
                node.part += part / serving;
                node.deliver(self.load, self.silent_since.is_some());
            }
            let lost = u.ratio(1u8, 10u8)?;
            if node.pod.dead || lost {
                node.series.missed(seen::missed(&node.pod, &node.series, node.pod.dead && !lost));
            } else {
                node.series.push(node.stats(now, self.connections, silent), now);
                node.series.of_process(node.pod.restarts);
            }
            loads.push(seen::load(&node.pod, Some(&node.series), now));
        }
        Ok(loads)
    }
}

#[test]
fn a_load_that_stays_the_same_is_answered_by_the_same_count_whatever_is_seen_of_it() {
    arbtest::arbtest(|u| {
        let settings = Settings { down: calm(300), ..settings() };
        let load = f64::from(u.int_in_range(1_000..=26_000u32)?);
        let connections = f64::from(u.int_in_range(10..=2_000u32)?);
        let target = settings.sizing.target_writes();
        let count = whole(load / target / (1.0 - super::TOLERANCE)).clamp(settings.min, settings.max);
        let nodes = (0..count).map(|index| Node::new(index, 1.0 / f64::from(count))).collect();
        let mut world = Constant { nodes, load, connections, silent_since: None };
        let mut state = State::new(0, count);
        for look in 1..=u.int_in_range(1..=400u64)? {
            let now = look * LOOK;
            let nodes = world.look(now, u)?;
            let inputs = Inputs { now, current: count, replicas: count, nodes: &nodes };
            let decision = state.step(&settings, inputs);
            let silent = world.silent_since.map(|since| now - since);
            assert_eq!(decision.desired, count, "{load} at {now}, silent for {silent:?}: {decision:?}");
            if nodes.iter().all(|n| n.hearing == Some(crate::backplane::Hearing::Lost)) {
                assert_eq!(decision.rule, Rule::BackplaneSilent, "{decision:?}");
            }
        }
        Ok(())
    })
    .size_min(16_384)
    .budget_ms(2_000);
}
