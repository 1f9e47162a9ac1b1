use std::collections::BTreeMap;

use crds::{AutoscalingMode, ChannelClusterStatus, RefusedSysctls};
use node_core::admin::{Gauges, Nofile, Phase, Stats};

use super::{NodeSeen, Outcome, View, compute, differs_materially};
use crate::autoscale::{Decision, Rule};
use crate::capacity::Sizing;
use crate::drain::PodView;
use crate::samples::Rates;
use crate::validate::Problem;

fn node(name: &str, ready: bool) -> NodeSeen {
    let gauges =
        Gauges { connections: 10, nofile: Nofile { soft: 20_000, hard: 20_000 }, ..Gauges::default() };
    NodeSeen {
        pod: PodView { name: name.to_owned(), uid: name.to_owned(), ready, ..PodView::default() },
        stats: Some(Stats { phase: Phase::Serving, bus_connected: Some(true), gauges, ..Stats::default() }),
        rates: Some(Rates { writes: 1_000.0, publishes: 10.0 }),
    }
}

fn decision(desired: i32, rule: Rule) -> Decision {
    Decision { desired, rule, message: "because".to_owned(), limited: None, quorum: true }
}

struct Scene {
    previous: ChannelClusterStatus,
    outcome: Outcome,
    nodes: Vec<NodeSeen>,
    decision: Decision,
    nofile: Option<u64>,
    asked: BTreeMap<String, String>,
    now: u64,
    refused: Option<RefusedSysctls>,
}

impl Scene {
    fn new() -> Self {
        Self {
            previous: ChannelClusterStatus::default(),
            outcome: Outcome::Applied,
            nodes: vec![node("a", true), node("b", true)],
            decision: decision(2, Rule::WithinTolerance),
            nofile: None,
            asked: BTreeMap::new(),
            now: 1_000_000,
            refused: None,
        }
    }

    fn status(&self) -> ChannelClusterStatus {
        compute(&View {
            now: self.now,
            previous: &self.previous,
            generation: 3,
            outcome: &self.outcome,
            paused: false,
            mode: AutoscalingMode::Auto,
            min: 2,
            sizing: Sizing { writes_per_second: 5_000.0, connections: 100.0, target_percent: 60 },
            sysctls: &self.asked,
            nofile: self.nofile,
            nodes: &self.nodes,
            settled: true,
            selector: "a=b",
            node_image: None,
            current: 2,
            decision: Some(&self.decision),
            operation: None,
            refused: self.refused.as_ref(),
        })
    }
}

fn condition(status: &ChannelClusterStatus, kind: &str) -> (String, String) {
    let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_serving_fleet_is_ready_and_says_its_sums() {
    let status = Scene::new().status();
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    assert_eq!(condition(&status, "Reconciling"), pair("False", "Settled"));
    assert_eq!(condition(&status, "MetricsFresh"), pair("True", "AllNodes"));
    let totals = status.totals.unwrap();
    assert_eq!((totals.connections, totals.writes_per_second, totals.utilization_percent), (20, 2_000, 20));
    assert_eq!((status.observed_generation, status.reason.as_deref()), (Some(3), Some("WithinTolerance")));
    assert!(status.decisions.is_empty());
}

#[test]
fn what_blocks_is_said_in_ready_and_stalled() {
    let mut scene = Scene::new();
    scene.outcome =
        Outcome::Invalid(vec![Problem { reason: "InvalidDrain", message: "lower it".to_owned() }]);
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("False", "InvalidDrain"));
    assert_eq!(condition(&status, "Stalled"), pair("True", "InvalidDrain"));
    assert_eq!(condition(&status, "Available"), pair("True", "NodesServing"), "a bad spec stops nothing");
    scene.outcome = Outcome::Conflict("Service chat is not ours".to_owned());
    assert_eq!(condition(&scene.status(), "Stalled"), pair("True", "NameConflict"));
}

#[test]
fn few_nodes_or_a_lost_backplane_are_not_ready() {
    let mut scene = Scene::new();
    scene.nodes[1].pod.ready = false;
    assert_eq!(condition(&scene.status(), "Ready"), pair("False", "NodesNotReady"));
    let mut scene = Scene::new();
    scene.nodes[1].stats.as_mut().unwrap().bus_connected = Some(false);
    assert_eq!(condition(&scene.status(), "Ready"), pair("False", "BackplaneDisconnected"));
    let mut scene = Scene::new();
    scene.nodes[1].stats = None;
    assert_eq!(condition(&scene.status(), "Ready"), pair("True", "Serving"), "silence is not a fault");
    assert_eq!(condition(&scene.status(), "MetricsFresh"), pair("False", "MetricsMissing"));
    scene.nodes.push(node("going", true));
    scene.nodes.last_mut().unwrap().pod.terminating = true;
    let status = scene.status();
    assert_eq!(condition(&status, "MetricsFresh"), pair("False", "MetricsMissing"), "it stands for no other");
}

#[test]
fn a_new_spec_does_not_unset_ready_while_it_is_applied() {
    let mut scene = Scene::new();
    scene.previous.observed_generation = Some(2);
    scene.outcome = Outcome::Pending;
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    assert_eq!(condition(&status, "Reconciling"), pair("True", "Applying"));
    assert_eq!(status.observed_generation, Some(2), "not in force yet");
    assert_eq!(status.conditions[0].observed_generation, Some(2));
}

#[test]
fn open_files_below_what_was_asked_are_said_but_do_not_unset_ready() {
    let mut scene = Scene::new();
    scene.nofile = Some(1_048_576);
    let status = scene.status();
    assert_eq!(condition(&status, "TuningApplied"), pair("False", "NofileTooLow"));
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
}

#[test]
fn nonsense_from_a_node_stays_small() {
    let mut scene = Scene::new();
    scene.asked = BTreeMap::from([("net.ipv4.tcp_rmem".to_owned(), "1".to_owned())]);
    for node in &mut scene.nodes {
        let gauges = &mut node.stats.as_mut().unwrap().gauges;
        (gauges.connections, gauges.rooms, gauges.utilization) = (u64::MAX, u64::MAX, f64::NAN);
        gauges.sysctls.insert("net.ipv4.tcp_rmem".to_owned(), "ä".repeat(100_000));
        node.rates = Some(Rates { writes: 1e300, publishes: f64::INFINITY });
    }
    let status = scene.status();
    assert_eq!(status.totals.as_ref().unwrap().connections, i64::MAX);
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 8_000, "{size} bytes");
}

#[test]
fn transition_times_are_kept_and_figures_are_not_material() {
    let mut scene = Scene::new();
    let first = scene.status();
    scene.previous = first.clone();
    scene.now += 60_000;
    scene.nodes[0].rates = Some(Rates { writes: 5.0, publishes: 5.0 });
    let second = scene.status();
    assert_eq!(first.conditions, second.conditions);
    assert!(!differs_materially(&first, &second) && first != second);
    scene.decision = decision(4, Rule::WritesPerSecond);
    let third = scene.status();
    assert!(differs_materially(&second, &third));
    assert_eq!((third.decisions.len(), third.decisions[0].from, third.decisions[0].to), (1, 2, 4));
    scene.previous = third.clone();
    assert_eq!(scene.status().decisions, third.decisions, "said once");
}

#[test]
fn a_refused_sysctl_is_said_before_any_node_answers() {
    let mut scene = Scene::new();
    scene.nodes.clear();
    let names = vec!["net.core.somaxconn".to_owned()];
    scene.refused = Some(RefusedSysctls { names, ..RefusedSysctls::default() });
    let status = scene.status();
    assert_eq!(condition(&status, "TuningApplied"), pair("False", "SysctlForbidden"));
    assert_eq!(status.refused_sysctls, scene.refused, "kept for the next operator");
    assert!(differs_materially(&ChannelClusterStatus { refused_sysctls: None, ..status.clone() }, &status));
}
