//! The whole decision over a virtual fleet: autoscaling and drain together, as the operator calls them.

use std::collections::{BTreeMap, HashMap};

use crds::{ChannelCluster, ChannelClusterStatus, Operation};
use node_core::admin::{Counters, Gauges, NodePhase, Stats};

use super::{Asked, Memory, Saying, Tick, tick};
use crate::autoscale::judge;
use crate::contest::Contest;
use crate::fixtures::{cluster, env};
use crate::hindrance::{Hindrance, Reason};
use crate::names::Component;
use crate::observation::{DeploymentView, Observation, Probing};
use crate::operations::plan::Action;
use crate::pod::PodView;
use crate::samples::NodeSeries;
use crate::source::Figures;
use crate::validate::{Fetched, ValidatedCluster, validate};
use crate::view::Outcome;

mod derived;
mod rollout;
mod steering;

const SPEC: &str = "
targetConnections: 2000
rooms: {maxMembers: 150, onFull: Reject}
nodes: {min: 2, max: 6, capacity: {connections: 2000, writesPerSecond: 5000}}
autoscaling: {mode: Auto, targetUtilization: 60}
auth: {anonymous: true}
";
/// Between two looks of the operator, in milliseconds.
const LOOK: u64 = 2_000;
/// From the making of a pod to its being ready, in milliseconds.
const STARTS: u64 = 6_000;
/// From an unready node to the end of its endpoint, in milliseconds.
const ENDPOINT: u64 = 2_000;
/// Clients of the fleet.
const CLIENTS: u64 = 600;

/// The real state of a node, as opposed to what the operator hears of it.
struct Node {
    phase: NodePhase,
    connections: u64,
    writes: f64,
    unready_at: Option<u64>,
    close_rate: u64,
}

/// A fleet with its operator.
struct World {
    cluster: ChannelCluster,
    valid: ValidatedCluster,
    memory: Memory,
    status: ChannelClusterStatus,
    deployment: DeploymentView,
    pods: Vec<PodView>,
    nodes: BTreeMap<String, Node>,
    series: HashMap<String, NodeSeries>,
    hindrances: Vec<Hindrance>,
    contest: Option<Contest>,
    figures: Option<Figures>,
    /// What the nodes say of themselves beside their connections.
    gauges: Gauges,
    made: u64,
    now: u64,
    load: f64,
    said: Vec<Saying>,
}

impl World {
    fn new() -> Self {
        let cluster = cluster(SPEC);
        let mut valid = validate(&cluster, &env(), &Fetched::default()).expect("valid");
        valid.rebalance.mode = crds::RebalanceMode::Disabled;
        let deployment = DeploymentView {
            name: "d".to_owned(),
            current: true,
            replicas: 2,
            pods: 2,
            observed: true,
            ..DeploymentView::default()
        };
        let mut world = Self {
            cluster,
            valid,
            memory: Memory::default(),
            status: ChannelClusterStatus::default(),
            deployment,
            pods: Vec::new(),
            nodes: BTreeMap::new(),
            series: HashMap::new(),
            hindrances: Vec::new(),
            contest: None,
            figures: None,
            gauges: Gauges::default(),
            made: 0,
            now: 1_000_000,
            load: 100.0,
            said: Vec::new(),
        };
        world.replica_set();
        world
    }

    /// Four nodes whose load has gone; the first of them begins to leave.
    fn draining() -> Self {
        let mut world = Self::new();
        world.load = 11_000.0;
        world.run(120);
        world.load = 100.0;
        while world.status.operation.is_none() {
            world.run(LOOK / 1_000);
            assert!(world.now < 10_000_000, "no scale-in began");
        }
        world
    }

    /// The ReplicaSet: makes missing pods, and removes surplus ones, those with the lowest deletion cost first.
    fn replica_set(&mut self) {
        let wanted = usize::try_from(self.deployment.replicas).expect("not negative");
        while self.pods.len() < wanted {
            self.made += 1;
            let (name, uid) = (format!("p{}", self.made), format!("u{}", self.made));
            let (pending, created, deployment) = (true, self.now, "d".to_owned());
            self.pods.push(PodView { name, uid, pending, created, deployment, ..PodView::default() });
        }
        while self.pods.len() > wanted {
            let rank = |p: &PodView| (!p.pending, p.ready, p.deletion_cost.unwrap_or(0));
            let goes = (0..self.pods.len()).min_by_key(|i| rank(&self.pods[*i])).expect("one");
            let pod = self.pods.remove(goes);
            let held = self.nodes.remove(&pod.uid).map_or(0, |node| node.connections);
            assert_eq!(held, 0, "{} is removed with {held} connections", pod.name);
        }
        self.deployment.pods = self.deployment.replicas;
    }

    /// Two seconds of the cluster: pods start, endpoints go, clients move, messages are written.
    fn live(&mut self) {
        self.now += LOOK;
        for pod in &mut self.pods {
            if pod.pending && self.now >= pod.created + STARTS {
                (pod.pending, pod.ready, pod.endpoint_ready) = (false, true, Some(true));
                let node = Node {
                    phase: NodePhase::Serving,
                    connections: 0,
                    writes: 0.0,
                    unready_at: None,
                    close_rate: 0,
                };
                self.nodes.insert(pod.uid.clone(), node);
            }
            let Some(node) = self.nodes.get_mut(&pod.uid) else { continue };
            if let Some(at) = node.unready_at {
                pod.ready = false;
                pod.endpoint_ready = Some(self.now < at + ENDPOINT);
            }
            if node.phase == NodePhase::Closing {
                node.connections -= node.connections.min(node.close_rate * LOOK / 1_000);
                if node.connections == 0 {
                    node.phase = NodePhase::Closed;
                }
            }
        }
        let placed: u64 = self.nodes.values().map(|node| node.connections).sum();
        let open: Vec<&String> =
            self.nodes.iter().filter(|(_, n)| n.phase == NodePhase::Serving).map(|(uid, _)| uid).collect();
        let open: Vec<String> = open.into_iter().cloned().collect();
        for client in 0..CLIENTS.saturating_sub(placed) {
            let Some(uid) = open.get((client % open.len().max(1) as u64) as usize) else { break };
            self.nodes.get_mut(uid).expect("open").connections += 1;
        }
        let all: u64 = self.nodes.values().map(|node| node.connections).sum();
        for node in self.nodes.values_mut() {
            let share = node.connections as f64 / all.max(1) as f64;
            node.writes += self.load * share * LOOK as f64 / 1_000.0;
        }
        self.scrape();
    }

    fn scrape(&mut self) {
        for (uid, node) in &self.nodes {
            let gauges = Gauges { connections: node.connections, ..self.gauges.clone() };
            let counters = Counters { writes: node.writes as u64, ..Counters::default() };
            let stats = Stats {
                boot_id: uid.clone(),
                phase: node.phase,
                monotonic_millis: self.now,
                gauges,
                counters,
                ..Stats::default()
            };
            let series = self.series.entry(uid.clone()).or_default();
            series.push(stats, self.now);
            series.of_process(0);
        }
        self.series.retain(|uid, _| self.nodes.contains_key(uid));
    }

    fn tick(&mut self) -> Tick {
        tick(
            &mut self.memory,
            &Observation {
                now: self.now,
                asked: &Asked::of(&self.cluster),
                generation: 1,
                outcome: &Outcome::Applied,
                valid: Some(&self.valid),
                previous: &self.status,
                deployments: std::slice::from_ref(&self.deployment),
                node_deployment: None,
                nats_deployment: None,
                pods: &self.pods,
                series: &self.series,
                rejected: &[],
                figures: self.figures.as_ref(),
                hindrances: &self.hindrances,
                contest: self.contest.as_ref(),
                probing: Probing::default(),
            },
        )
    }

    fn act(&mut self, action: Action) {
        let order = |world: &mut Self, name: &str| {
            world.pods.iter().find(|pod| pod.name == name).map(|pod| pod.uid.clone())
        };
        match action {
            Action::Replicas { from, to, .. } => {
                assert_eq!(from, self.deployment.replicas);
                self.deployment.replicas = to;
                self.replica_set();
            }
            Action::DeletionCost { pod, cost } => {
                let pod = self.pods.iter_mut().find(|p| p.name == pod).expect("there");
                pod.deletion_cost = cost;
            }
            Action::Unready { pod } | Action::Hold { pod } => {
                let (uid, now) = (order(self, &pod).expect("there"), self.now);
                let node = self.nodes.get_mut(&uid).expect("runs");
                (node.phase, node.unready_at) = (NodePhase::Unready, node.unready_at.or(Some(now)));
            }
            Action::Close { pod, rate, .. } => {
                let uid = order(self, &pod).expect("there");
                let node = self.nodes.get_mut(&uid).expect("runs");
                (node.phase, node.close_rate) = (NodePhase::Closing, rate.into());
            }
            Action::Rebalance { .. } | Action::StopRebalance { .. } => panic!("the load is even"),
            Action::TakeBack { pod } => {
                let uid = order(self, &pod).expect("there");
                let node = self.nodes.get_mut(&uid).expect("runs");
                (node.phase, node.unready_at) = (NodePhase::Serving, None);
                let pod = self.pods.iter_mut().find(|p| p.uid == uid).expect("there");
                (pod.ready, pod.endpoint_ready) = (true, Some(true));
            }
        }
    }

    /// Runs the operator each 2 s for so many seconds; gives the node counts in order, each change once.
    fn run(&mut self, seconds: u64) -> Vec<i32> {
        let mut counts = vec![self.deployment.replicas];
        for _ in 0..seconds * 1_000 / LOOK {
            self.live();
            let Tick { status, actions, found, done, .. } = self.tick();
            self.status = status;
            self.said.extend(found);
            for action in actions {
                self.memory.note(&action, true);
                self.act(action);
            }
            self.said.extend(done);
            let closing = self.nodes.values().filter(|node| node.phase == NodePhase::Closing);
            let pace: u64 = closing.map(|node| node.close_rate).sum();
            assert!(pace <= 500, "{pace} connections per second");
            let count = self.deployment.replicas;
            assert!((2..=6).contains(&count), "{count} nodes");
            if counts.last() != Some(&count) {
                counts.push(count);
            }
        }
        counts
    }
}

#[test]
fn a_fleet_follows_its_load_up_and_down_and_empties_whatever_it_removes() {
    let mut world = World::new();
    assert_eq!(world.run(120), [2]);
    // Four nodes at 60 % of 5,000 each.
    world.load = 11_000.0;
    let up = world.run(120);
    assert_eq!((up[0], up.last(), up.is_sorted()), (2, Some(&4), true), "{up:?}");
    world.load = 100.0;
    let down = world.run(1_800);
    assert_eq!(down, [4, 2], "both leave together");
    for decision in &world.status.decisions {
        let again = judge(decision.inputs.as_ref().expect("recorded")).decision;
        let told = (decision.to, decision.rule.as_str(), &decision.message);
        assert_eq!(
            (again.desired, again.rule.as_str(), &again.message),
            told,
            "the status alone explains it"
        );
    }
    assert_eq!(world.status.operation, None);
    assert_eq!(world.nodes.values().map(|node| node.connections).sum::<u64>(), CLIENTS);
    assert!(world.nodes.values().all(|node| node.phase == NodePhase::Serving));
    let scalings = world.said.iter().filter(|saying| saying.reason == "Scaling").count();
    assert!(scalings >= up.len() + down.len() - 2, "{:?}", world.said);
    let drains = world.said.iter().filter(|saying| saying.reason.starts_with("Drain"));
    assert!(drains.clone().count() >= 2 && drains.clone().all(|saying| saying.action == "Drain"));
    assert!(world.said.iter().all(|saying| !saying.warning), "{:?}", world.said);
}

#[test]
fn a_load_that_comes_back_during_a_drain_finds_the_node_again() {
    let mut world = World::draining();
    world.load = 11_000.0;
    let counts = world.run(300);
    assert_eq!(counts.last(), Some(&4), "{counts:?}");
    assert_eq!(world.status.operation, None);
    assert!(world.pods.iter().all(|pod| pod.deletion_cost.is_none()), "{:?}", world.pods);
}

#[test]
fn an_operation_of_the_version_before_is_gone_on_with() {
    let mut world = World::draining();
    let mut going = world.status.operation.clone();
    if let Some(Operation::Drain(drain)) = &mut going {
        drain.nodes.truncate(1);
    }
    let mut stored = serde_json::to_value(&world.status).expect("a status");
    let operation = &mut stored["operation"];
    let mut before = operation["nodes"][0].take();
    before["startedAt"] = operation["startedAt"].take();
    before.as_object_mut().expect("a node").remove("cause");
    *operation = before; // without a type, as the first versions stored it
    // Another process takes over, which knows nothing but the stored status.
    world.status = serde_json::from_value(stored).expect("a status");
    assert_eq!(world.status.operation, going);
    world.memory = Memory::default();
    world.live();
    let resumed = world.tick();
    assert!(!resumed.done.iter().any(|saying| saying.reason == "DrainStarted"), "{:?}", resumed.done);
    assert_eq!(world.run(1_800).last(), Some(&2));
    assert_eq!(world.status.operation, None);
}

#[test]
fn a_paused_fleet_is_told_of_and_left_alone() {
    let mut world = World::draining();
    let operation = world.status.operation.clone();
    world.cluster.spec.paused = true;
    world.live();
    let paused = world.tick();
    assert_eq!((paused.actions, paused.done, paused.rule), (vec![], vec![], None));
    assert_eq!((paused.steps, &paused.status.operation), (0, &operation));
    assert!(paused.status.totals.is_some());
}

#[test]
fn what_hinders_is_said_once_and_its_end_too() {
    let mut world = World::new();
    world.run(10);
    world.said.clear();
    let hindrance = Hindrance {
        component: Component::Node,
        reason: Reason::ImagePullFailed,
        pod: None,
        words: "not found".to_owned(),
        remedy: "push it",
    };
    world.hindrances = vec![hindrance];
    world.contest = Some(Contest {
        manager: "argocd".to_owned(),
        object: "Deployment chat-node".to_owned(),
        field: "spec.replicas".to_owned(),
        removed: false,
    });
    world.run(10);
    let said: Vec<_> = world.said.drain(..).map(|saying| (saying.warning, saying.reason)).collect();
    assert_eq!(said, [(true, Reason::ImagePullFailed.as_str()), (true, crate::contest::REASON)]);
    world.hindrances.clear();
    world.contest = None;
    world.run(10);
    let said: Vec<_> = world.said.drain(..).map(|saying| (saying.warning, saying.reason)).collect();
    assert_eq!(said, [(false, "NothingHinders")]);
}
