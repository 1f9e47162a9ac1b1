//! The operator, as its program calls the core: it asks the nodes, ticks, keeps the status, carries out the actions.

use std::collections::{HashMap, HashSet};

use crds::{ChannelCluster, ChannelClusterStatus};

use super::Control;
use crate::asked::Asked;
use crate::observation::{DeploymentView, Observation, Probing};
use crate::operations::plan::{Action, Failed};
use crate::pod::PodView;
use crate::samples::{Missed, NodeSeries};
use crate::seen;
use crate::tick::{Memory, Tick, tick};
use crate::validate::ValidatedCluster;
use crate::view::Outcome;
use crate::world::cohort::count;
use crate::world::fleet::{Answer, World, count_of};
use crate::world::invariants::broken;
use crate::world::moving::Moving;
use crate::world::node::Node;
use crate::world::trace::Trouble;
use crate::world::{START_MILLIS, checked};
use node_core::admin::NodePhase;

/// Seconds between two looks, and between those of large and calm fleets.
const FAST: u32 = 2;
const SLOW: u32 = 5;
/// Fleets of up to so many nodes are always looked at in the fast pace.
const SMALL_FLEET: usize = 32;

/// Name of the Deployment.
const DEPLOYMENT: &str = "chat-node";

/// The operator of one fleet.
pub(super) struct Operator {
    cluster: ChannelCluster,
    valid: ValidatedCluster,
    memory: Memory,
    status: ChannelClusterStatus,
    series: HashMap<String, NodeSeries>,
    next: u32,
    /// Looks so far.
    looks: usize,
}

impl Operator {
    pub(super) fn new(cluster: ChannelCluster, valid: ValidatedCluster) -> Self {
        let status = ChannelClusterStatus::default();
        Self {
            cluster,
            valid,
            memory: Memory::default(),
            status,
            series: HashMap::new(),
            next: FAST,
            looks: 0,
        }
    }

    /// Takes what the user writes into the spec.
    fn read_spec(&mut self, world: &World<'_>) {
        let Some((_, bounds)) = world.trace.changes.iter().find(|(at, _)| *at == world.now) else { return };
        let mut cluster = self.cluster.clone();
        (cluster.spec.nodes.min, cluster.spec.nodes.max) = (bounds.min, bounds.max);
        cluster.spec.target_connections = bounds.target_connections;
        cluster.metadata.generation = Some(cluster.metadata.generation.unwrap_or_default() + 1);
        if let Ok((cluster, valid)) = checked(cluster) {
            (self.cluster, self.valid) = (cluster, valid);
        }
    }

    /// Another operator takes over: it knows what is written.
    fn is_replaced(&mut self) {
        (self.memory, self.series) = (Memory::default(), HashMap::new());
    }

    fn scrape(&mut self, world: &World<'_>, pods: &[PodView]) {
        self.series.values_mut().for_each(|series| series.missed(Missed::Silent));
        for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| !pod.pending) {
            let series = self.series.entry(pod.uid.clone()).or_default();
            match world.ask(index) {
                Answer::Stats(stats) => {
                    series.push(*stats, millis(world.now));
                    series.of_process(pod.restarts);
                }
                Answer::Nothing => series.missed(seen::missed(pod, series, false)),
                Answer::Refused => series.missed(seen::missed(pod, series, true)),
            }
        }
        let uids: HashSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        self.series.retain(|uid, _| uids.contains(uid.as_str()));
    }

    fn tick(&mut self, now: u32, replicas: i32, pods: &[PodView]) -> Tick {
        let deployment = DeploymentView {
            name: DEPLOYMENT.to_owned(),
            current: true,
            replicas,
            pods: count_of(pods.len()),
            observed: true,
            ..DeploymentView::default()
        };
        let observation = Observation {
            now: millis(now),
            asked: &Asked::of(&self.cluster),
            generation: self.valid.generation,
            outcome: &Outcome::Applied,
            valid: Some(&self.valid),
            previous: &self.status,
            deployments: std::slice::from_ref(&deployment),
            node_deployment: None,
            nats_deployment: None,
            pods,
            series: &self.series,
            figures: None,
            rejected: &[],
            hindrances: &[],
            contest: None,
            probing: Probing::default(),
        };
        tick(&mut self.memory, &observation)
    }

    /// Carries an action out, and says whether it did: one that does not reach its node does nothing.
    fn act(action: &Action, world: &mut World<'_>) -> bool {
        match action {
            Action::Replicas { to, .. } => world.scale(*to),
            Action::DeletionCost { pod, cost } => {
                if let Some(index) = find(world, pod) {
                    world.nodes[index].cost = *cost;
                }
            }
            Action::Unready { pod } | Action::Hold { pod } => {
                return order(world, pod, |node| node.phase = NodePhase::Unready);
            }
            Action::Close { pod, rate, .. } => {
                return order(world, pod, |node| {
                    let empty = count(&node.clients) <= 0.0;
                    node.phase = if empty { NodePhase::Closed } else { NodePhase::Closing };
                    node.close_rate = f64::from(*rate);
                });
            }
            Action::Rebalance { pod, request } => {
                let now = world.now;
                return order(world, pod, |node| {
                    let before = node.moving.take();
                    node.moving = Some(Moving::asked(before, request.clone(), now));
                });
            }
            Action::StopRebalance { pod } => return order(world, pod, |node| node.moving = None),
            Action::TakeBack { pod } => return order(world, pod, |node| node.phase = NodePhase::Serving),
        }
        true
    }
}

impl Control for Operator {
    fn look(&mut self, world: &mut World<'_>) {
        self.read_spec(world);
        if restarts(world) {
            self.is_replaced();
        }
        if world.now < self.next {
            return;
        }
        let pods: Vec<PodView> = world.nodes.iter().map(pod).collect();
        self.scrape(world, &pods);
        let Tick { status, actions, calm, decision, .. } = self.tick(world.now, world.replicas, &pods);
        self.looks += 1;
        // The status is the first write, and each action one more. Which of them is the last differs from look to look.
        let writes = dies(world, self.looks).map(|times| times % (actions.len() + 2));
        if writes != Some(0) {
            self.status = status;
        }
        let measures = &mut world.watch.measures;
        measures.steps += 1;
        measures.broken.extend(decision.as_ref().and_then(broken).map(|what| (world.now, what)));
        let mut failed = Failed::default();
        for (before, action) in actions.into_iter().enumerate() {
            if writes.is_some_and(|writes| before + 1 >= writes) {
                break;
            }
            if failed.stops(&action) {
                continue;
            }
            let done = Self::act(&action, world);
            if !done {
                failed.note(&action);
            }
            self.memory.note(&action, done);
        }
        if writes.is_some() {
            self.is_replaced();
        }
        self.next = world.now + if calm && pods.len() > SMALL_FLEET { SLOW } else { FAST };
    }
}

/// Whether another operator takes over in this second.
fn restarts(world: &World<'_>) -> bool {
    world.trace.faults.iter().any(|fault| {
        let each = match fault.what {
            Trouble::Restarts(each) => each.max(1),
            _ => return false,
        };
        fault.is_on(world.now) && (world.now - fault.from).is_multiple_of(each)
    })
}

/// How often operators have died, if one dies in this look, after some of its writes.
fn dies(world: &World<'_>, looks: usize) -> Option<usize> {
    let faults = world.trace.faults.iter().filter(|fault| fault.is_on(world.now));
    let each = faults.filter_map(|fault| match fault.what {
        Trouble::Dies(each) => Some(each.max(1) as usize),
        _ => None,
    });
    each.min().filter(|each| looks.is_multiple_of(*each)).map(|each| looks / each)
}

fn find(world: &World<'_>, pod: &str) -> Option<usize> {
    world.nodes.iter().position(|node| node.name == pod)
}

/// Gives an order to a node; says whether it reached the node.
fn order(world: &mut World<'_>, pod: &str, give: impl FnOnce(&mut Node)) -> bool {
    let Some(index) = find(world, pod) else { return false };
    let reached = world.reaches(index) && world.nodes[index].runs();
    if reached {
        give(&mut world.nodes[index]);
    }
    reached
}

fn pod(node: &Node) -> PodView {
    PodView {
        name: node.name.clone(),
        deployment: DEPLOYMENT.to_owned(),
        uid: node.name.clone(),
        ready: node.in_service,
        pending: node.phase == NodePhase::Starting && node.restarts == 0,
        dead: node.down_until.is_some(),
        restarts: node.restarts,
        created: node.made_millis(),
        deletion_cost: node.cost,
        endpoint_ready: Some(node.in_service),
        ..PodView::default()
    }
}

fn millis(second: u32) -> u64 {
    START_MILLIS + u64::from(second) * 1_000
}
