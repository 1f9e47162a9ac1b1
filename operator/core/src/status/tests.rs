mod hot;

use std::cell::RefCell;
use std::collections::BTreeMap;

use crds::{
    AutoscalingMode, ChannelClusterStatus, DecisionInputs, RefusedIds, RefusedSysctls, RefusedUserIds,
};
use node_core::admin::{Gauges, NodePhase, Nofile, Stats};

use super::{News, compute, news};
use crate::autoscale::{Decision, Rule};
use crate::backplane::Hearing;
use crate::capacity::Sizing;
use crate::contest::Contest;
use crate::hindrance::{Ages, Hindrance, Reason};
use crate::holds::Holds;
use crate::names::Component;
use crate::pod::PodView;
use crate::samples::Rates;
use crate::source::Figures;
use crate::view::{NodeSeen, Outcome, View};

fn node(name: &str, ready: bool) -> NodeSeen {
    let gauges =
        Gauges { connections: 10, nofile: Nofile { soft: 20_000, hard: 20_000 }, ..Gauges::default() };
    NodeSeen {
        pod: PodView { name: name.to_owned(), uid: name.to_owned(), ready, ..PodView::default() },
        stats: Some(Stats {
            phase: NodePhase::Serving,
            bus_connected: Some(true),
            gauges,
            ..Stats::default()
        }),
        rates: Some(Rates { writes: 1_000.0, timely: 1_000.0, publishes: 10.0, ..Rates::default() }),
        hearing: Some(Hearing::Well),
        last_at: Some(999_000),
        runs: true,
        hot: None,
    }
}

fn decision(desired: i32, rule: Rule) -> Decision {
    let (message, inputs) = ("because".to_owned(), DecisionInputs::default());
    Decision { desired, rule, message, limited: None, quorum: true, heard: true, inputs }
}

/// The same node without fresh figures.
fn silent(node: &NodeSeen) -> NodeSeen {
    NodeSeen { stats: None, rates: None, hearing: None, ..node.clone() }
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
    refused_ids: Option<RefusedUserIds>,
    contest: Option<Contest>,
    hindrances: Vec<Hindrance>,
    holds: Holds,
    figures: Option<Figures>,
    ages: RefCell<Ages>,
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
            refused_ids: None,
            contest: None,
            hindrances: Vec::new(),
            holds: Holds::default(),
            figures: None,
            ages: RefCell::default(),
        }
    }

    fn status(&self) -> ChannelClusterStatus {
        self.ages.borrow_mut().look(self.now, &self.hindrances, &self.previous);
        compute(&View {
            now: self.now,
            previous: &self.previous,
            generation: 3,
            outcome: &self.outcome,
            paused: false,
            mode: AutoscalingMode::Auto,
            min: 2,
            sizing: Sizing { writes_per_second: 5_000.0, connections: 100.0, target_percent: 60 },
            capacity: None,
            sysctls: &self.asked,
            nofile: self.nofile,
            nodes: &self.nodes,
            settled: true,
            rollout: None,
            selector: "a=b",
            node_image: None,
            current: 2,
            decision: Some(&self.decision),
            operation: None,
            balance: &crate::operations::plan::Balance::Even,
            moves: None,
            refused: self.refused.as_ref(),
            refused_ids: self.refused_ids.as_ref(),
            tried: Default::default(),
            contest: self.contest.as_ref(),
            holds: self.holds,
            figures: self.figures.as_ref(),
            hindrances: &self.hindrances,
            hindered_since: self.ages.borrow().since(&self.hindrances),
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
    let totals = status.totals.clone().unwrap();
    assert_eq!((totals.connections, totals.writes_per_second), (Some(20), Some(2_000)));
    assert_eq!((totals.utilization_percent, totals.unknown_nodes), (Some(20), Some(0)));
    assert_eq!(condition(&status, "BackplaneHealthy"), pair("True", "Heard"));
    assert_eq!((status.observed_generation, status.reason.as_deref()), (Some(3), Some("WithinTolerance")));
    assert!(status.decisions.is_empty());
}

#[test]
fn what_blocks_is_said_in_ready_and_stalled() {
    let mut scene = Scene::new();
    let problem = crate::validate::Problem { reason: "InvalidDrain", message: "lower it".to_owned() };
    scene.outcome = Outcome::Invalid(vec![problem]);
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
    scene.nodes[1].hearing = Some(Hearing::Lost);
    assert_eq!(condition(&scene.status(), "Ready"), pair("False", "BackplaneDisconnected"));
    let mut scene = Scene::new();
    scene.nodes[1] = silent(&scene.nodes[1]);
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
        node.rates =
            Some(Rates { writes: 1e300, timely: f64::NAN, publishes: f64::INFINITY, ..Rates::default() });
    }
    let status = scene.status();
    assert_eq!(status.totals.as_ref().unwrap().connections, Some(i64::MAX));
    let size = serde_json::to_string(&status).unwrap().len();
    assert!(size < 8_000, "{size} bytes");
}

#[test]
fn transition_times_are_kept_and_figures_are_not_material() {
    let mut scene = Scene::new();
    let first = scene.status();
    scene.previous = first.clone();
    scene.now += 60_000;
    scene.nodes[0].rates = Some(Rates { writes: 5.0, timely: 5.0, publishes: 5.0, ..Rates::default() });
    let second = scene.status();
    assert_eq!(first.conditions, second.conditions);
    assert_eq!((news(&first, &second), news(&second, &second)), (News::Figures, News::Nothing));
    scene.decision = decision(4, Rule::WritesPerSecond);
    let third = scene.status();
    assert_eq!(news(&second, &third), News::Facts);
    assert_eq!((third.decisions.len(), third.decisions[0].from, third.decisions[0].to), (1, 2, 4));
    scene.previous = third.clone();
    assert_eq!(scene.status().decisions, third.decisions, "said once");
}

#[test]
fn a_refused_sysctl_is_said_before_any_node_answers() {
    let mut scene = Scene::new();
    scene.nodes.clear();
    scene.refused = Some(RefusedSysctls { names: vec!["net.core.somaxconn".into()], ..Default::default() });
    let status = scene.status();
    assert_eq!(condition(&status, "TuningApplied"), pair("False", "SysctlForbidden"));
    assert_eq!(status.refused_sysctls, scene.refused, "kept for the next operator");
    let before = ChannelClusterStatus { refused_sysctls: None, ..status.clone() };
    assert_eq!(news(&before, &status), News::Facts);
}

#[test]
fn who_keeps_writing_what_is_ours_is_said() {
    let mut scene = Scene::new();
    let [manager, object, field] = ["argocd", "Deployment chat-node", "spec.replicas"].map(str::to_owned);
    scene.contest = Some(Contest { manager, object, field, removed: false });
    let status = scene.status();
    assert_eq!(condition(&status, "Reconciling"), pair("True", "FieldsContested"));
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    assert_eq!(status.reason.as_deref(), Some("FieldsContested"));
}

#[test]
fn refused_user_ids_are_said_beside_refused_sysctls() {
    let mut scene = Scene::new();
    let nodes = Some(RefusedIds { left_out: true, message: "no".to_owned() });
    scene.refused_ids = Some(RefusedUserIds { nodes, backplane: None });
    let status = scene.status();
    assert_eq!(condition(&status, "TuningApplied"), pair("False", "UserIdsRefused"));
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    assert_eq!(status.refused_user_ids, scene.refused_ids, "kept for the next operator");
    let names = vec!["net.core.somaxconn".to_owned()];
    scene.refused = Some(RefusedSysctls { names, ..RefusedSysctls::default() });
    let both = scene.status();
    let tuning = both.conditions.iter().find(|c| c.type_ == "TuningApplied").unwrap();
    assert_eq!(tuning.reason, "SysctlForbidden");
    assert!(
        tuning.message.contains("somaxconn") && tuning.message.contains("nodes.userIds"),
        "{}",
        tuning.message
    );
}

#[test]
fn unknown_is_missing_and_never_zero() {
    let mut scene = Scene::new();
    for node in &mut scene.nodes {
        *node = silent(node);
    }
    let status = scene.status();
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!(shown["totals"], serde_json::json!({"unknownNodes": 2}), "300 clients may be on them");
    let node = &shown["nodes"][0];
    assert_eq!((node["phase"].as_str(), node["lastAnswer"].is_string()), (Some("Unknown"), true));
    for figure in ["connections", "rooms", "writesPerSecond", "utilizationPercent", "nofile"] {
        assert!(node.get(figure).is_none(), "{node}");
    }
    let tuning = status.conditions.iter().find(|c| c.type_ == "TuningApplied").unwrap();
    assert_eq!(
        (tuning.status.as_str(), tuning.message.as_str()),
        ("Unknown", "no node answers the operator now")
    );

    // A sum over the known nodes says how many nodes are not in it; its utilization is of the known nodes' capacity.
    let mut scene = Scene::new();
    scene.nodes[1] = silent(&scene.nodes[1]);
    let totals = scene.status().totals.unwrap();
    assert_eq!((totals.unknown_nodes, totals.connections), (Some(1), Some(10)));
    assert_eq!((totals.writes_per_second, totals.utilization_percent), (Some(1_000), Some(20)));
    // A single answer gives no rate.
    scene.nodes.remove(1);
    scene.nodes[0].rates = None;
    let totals = scene.status().totals.unwrap();
    assert_eq!(
        (totals.unknown_nodes, totals.connections, totals.writes_per_second),
        (Some(1), Some(10), None)
    );
    // When no process runs nothing is unknown.
    scene.nodes.clear();
    let totals = scene.status().totals.unwrap();
    assert_eq!(
        (totals.unknown_nodes, totals.connections, totals.writes_per_second),
        (Some(0), Some(0), Some(0))
    );
}

#[test]
fn a_bus_that_is_silent_or_late_is_said_in_words_of_its_own() {
    let mut scene = Scene::new();
    scene.nodes[0].hearing = Some(Hearing::Lost);
    scene.decision.heard = false;
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("False", "BackplaneDisconnected"));
    assert_eq!(condition(&status, "BackplaneHealthy"), pair("False", "BackplaneDisconnected"));
    assert_eq!(condition(&status, "ScalingActive"), pair("False", "BackplaneSilent"));
    assert_eq!(condition(&status, "Available"), pair("True", "NodesServing"));
    let available = status.conditions.iter().find(|c| c.type_ == "Available").unwrap();
    assert!(available.message.contains("does not reach"), "{}", available.message);
    scene.nodes[0].hearing = Some(Hearing::Late);
    let status = scene.status();
    assert_eq!(condition(&status, "BackplaneHealthy"), pair("False", "BackplaneLate"));
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    for node in &mut scene.nodes {
        node.hearing = Some(Hearing::Unused);
    }
    assert_eq!(condition(&scene.status(), "BackplaneHealthy"), pair("True", "NotUsed"));
}

#[test]
fn what_comes_and_goes_within_seconds_changes_a_condition_once() {
    let mut scene = Scene::new();
    scene.previous = scene.status();
    let mut changes = 0;
    for look in 0..150 {
        scene.now += 2_000; // five minutes in all
        let bad = look % 3 == 0;
        scene.decision.quorum = !bad;
        scene.nodes[0].stats = node("a", true).stats.filter(|_| !bad);
        let status = scene.status();
        for kind in ["MetricsFresh", "ScalingActive"] {
            changes += u32::from(condition(&scene.previous, kind).0 != condition(&status, kind).0);
            assert!(!bad || condition(&status, kind).0 == "False", "bad news waits for nothing");
        }
        scene.previous = status;
    }
    assert!(changes <= 2 * 2 * 300 / 15, "{changes} changes in five minutes");
    for _ in 0..10 {
        scene.now += 2_000;
        scene.previous = scene.status();
    }
    assert_eq!(condition(&scene.previous, "MetricsFresh"), pair("True", "AllNodes"), "it ends");
}

#[test]
fn words_alone_are_no_facts() {
    let scene = Scene::new();
    let first = scene.status();
    let mut reworded = first.clone();
    reworded.reason = Some("MinNodes".to_owned());
    assert_eq!(news(&first, &reworded), News::Words);
    let mut counted = reworded.clone();
    counted.desired_replicas = Some(7);
    assert_eq!(news(&first, &counted), News::Facts);
    assert!(News::Facts.pause() < News::Words.pause() && News::Words.pause() < News::Figures.pause());
}

fn hindrance(component: Component, reason: Reason) -> Hindrance {
    Hindrance { component, reason, pod: None, words: "exceeded quota: q".to_owned(), remedy: "raise it" }
}

fn message(status: &ChannelClusterStatus, kind: &str) -> String {
    status.conditions.iter().find(|c| c.type_ == kind).unwrap().message.clone()
}

#[test]
fn what_hinders_is_said_at_once_and_stalls_after_a_while_until_it_is_solved() {
    let mut scene = Scene::new();
    scene.nodes.pop();
    scene.hindrances = vec![hindrance(Component::Node, Reason::QuotaExceeded)];
    scene.previous = scene.status();
    assert_eq!(condition(&scene.previous, "Ready"), pair("False", "QuotaExceeded"));
    assert_eq!(condition(&scene.previous, "Reconciling"), pair("True", "QuotaExceeded"));
    assert_eq!(condition(&scene.previous, "Stalled"), pair("False", "NoProblem"));
    assert_eq!(scene.previous.reason.as_deref(), Some("QuotaExceeded"));
    for part in ["1 of at least 2 nodes", "exceeded quota: q", "raise it"] {
        assert!(message(&scene.previous, "Ready").contains(part));
    }
    scene.now += 119_000;
    scene.previous = scene.status();
    assert_eq!(condition(&scene.previous, "Stalled"), pair("False", "NoProblem"));
    scene.now += 2_000;
    scene.previous = scene.status();
    assert_eq!(condition(&scene.previous, "Stalled"), pair("True", "QuotaExceeded"));
    assert_eq!(condition(&scene.previous, "Reconciling"), pair("False", "Stalled"));
    scene.hindrances[0].reason = Reason::LimitRangeViolated;
    scene.previous = scene.status();
    assert_eq!(condition(&scene.previous, "Stalled"), pair("True", "LimitRangeViolated"), "it goes on");
    scene.hindrances.clear();
    let solved = scene.status();
    assert_eq!(condition(&solved, "Stalled"), pair("False", "NoProblem"));
    assert_eq!(condition(&solved, "Ready"), pair("False", "NodesNotReady"));
}

#[test]
fn what_hinders_since_a_moment_ago_does_not_stall_a_fleet_that_was_not_ready_for_long() {
    let mut scene = Scene::new();
    scene.nodes.pop();
    scene.previous = scene.status();
    assert_eq!(condition(&scene.previous, "Ready"), pair("False", "NodesNotReady"));
    scene.now += 600_000;
    scene.hindrances = vec![hindrance(Component::Node, Reason::ImagePullFailed)];
    for _ in 0..2 {
        scene.previous = scene.status();
        assert_eq!(condition(&scene.previous, "Ready"), pair("False", "ImagePullFailed"));
        assert_eq!(condition(&scene.previous, "Stalled"), pair("False", "NoProblem"));
        scene.now += 2_000;
    }
    scene.now += 120_000;
    assert_eq!(condition(&scene.status(), "Stalled"), pair("True", "ImagePullFailed"));
}

#[test]
fn a_fleet_that_serves_says_what_keeps_it_from_growing() {
    let mut scene = Scene::new();
    scene.hindrances = vec![hindrance(Component::Node, Reason::Unschedulable)];
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("True", "Serving"));
    assert!(message(&status, "Ready").contains("exceeded quota: q"));
    assert_eq!(condition(&status, "Reconciling"), pair("True", "Unschedulable"));
    assert_eq!(status.reason.as_deref(), Some("Unschedulable"));
}

#[test]
fn nodes_without_a_backplane_say_what_hinders_it() {
    let mut scene = Scene::new();
    for node in &mut scene.nodes {
        node.pod.ready = false;
        node.hearing = Some(Hearing::Lost);
    }
    assert_eq!(condition(&scene.status(), "Ready"), pair("False", "BackplaneDisconnected"));
    scene.hindrances = vec![hindrance(Component::Nats, Reason::ImagePullFailed)];
    assert_eq!(condition(&scene.status(), "Ready"), pair("False", "ImagePullFailed"));
    let mut scene = Scene::new();
    scene.nodes[1].hearing = Some(Hearing::Lost);
    scene.hindrances = vec![hindrance(Component::Nats, Reason::CrashLoop)];
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("False", "BackplaneDisconnected"));
    assert!(message(&status, "Ready").contains("the NATS pods"));
}

#[test]
fn a_refused_spec_stalls_with_the_servers_sentence() {
    let mut scene = Scene::new();
    scene.outcome = Outcome::Refused("Deployment chat-node: quantities must match".to_owned());
    let status = scene.status();
    assert_eq!(condition(&status, "Ready"), pair("False", "Refused"));
    assert_eq!(condition(&status, "Stalled"), pair("True", "Refused"));
    assert!(message(&status, "Stalled").contains("quantities must match"));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn twenty_minutes_of_changing_words_and_figures_are_few_writes() {
    let mut scene = Scene::new();
    scene.previous = scene.status();
    let (mut writes, mut written_at) = (0, scene.now);
    for look in 0..600u64 {
        scene.now += 2_000;
        let rules = [Rule::WithinTolerance, Rule::BurstCooldown, Rule::MinNodes];
        scene.decision = decision(2, rules[usize::try_from(look % 3).unwrap()]);
        scene.nodes[0].stats.as_mut().unwrap().gauges.connections = look;
        let status = scene.status();
        if scene.now - written_at >= news(&scene.previous, &status).pause() {
            (writes, written_at, scene.previous) = (writes + 1, scene.now, status);
        }
    }
    assert!(writes <= 1_200_000 / super::WORDS_MILLIS, "{writes} writes");
    // A hindrance that begins is said at once.
    let mut hindered = scene.previous.clone();
    for condition in hindered.conditions.iter_mut().filter(|c| c.type_ == "Ready") {
        "QuotaExceeded".clone_into(&mut condition.reason);
    }
    assert_eq!(news(&scene.previous, &hindered), News::Facts);
}
