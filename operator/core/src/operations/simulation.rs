//! A model of a Deployment with its nodes, in which pods and processes die, figures are lost, old or too few, the bus
//! falls silent, a rollout comes between, endpoints lag or are not seen, the pace is changed, commands are lost, and
//! operators crash between recording and acting.
//!
//! Whatever happens, only empty nodes are removed, and none during a rollout; no order goes to a process that does
//! not answer; nothing begins and nothing goes while the bus is silent; no node that may have clients goes a step
//! further while too few figures are known; and a node closes at the pace that is asked for. Afterwards the fleet is
//! as large as wanted and serves.

use std::collections::BTreeMap;

use arbtest::arbitrary::{Result, Unstructured};
use crds::{Operation, ScaleIn, ScaleInStep};
use node_core::admin::NodePhase;

use super::arbiter::plan;
use super::plan::{Action, FleetView, Plan};
use super::scale_in::{LOWEST_COST, UNREADY_DEADLINE_MILLIS};
use crate::pod::{NodeView, PodView};
use crate::timestamp::millis;

/// One tick of the model, in milliseconds.
const TICK: u64 = 2_000;
/// Connections closed per second, at first and after a change.
const RATES: [u32; 2] = [50, 20];

/// A process that has just started.
const BEGINS: NodeView =
    NodeView { phase: NodePhase::Serving, connections: 0, writes_per_second: Some(0.0), answers: true };

struct Model {
    pods: Vec<PodView>,
    replicas: i32,
    made: u64,
    now: u64,
    operation: Option<Operation>,
    /// The nodes' real state, by pod; the operator sees what it last heard of it.
    truth: BTreeMap<String, NodeView>,
    /// The pace at which a node closes connections, by pod.
    paces: BTreeMap<String, u32>,
    heard: bool,
    quorum: bool,
    settled: bool,
    /// Whether the operator knows that its last order to close has reached its node.
    told: bool,
    rate: u32,
}

/// The scale-in of an operation.
const fn scale_in(operation: &Operation) -> &ScaleIn {
    let Operation::ScaleIn(scale_in) = operation;
    scale_in
}

impl Model {
    fn new(replicas: i32) -> Self {
        let mut model = Self {
            pods: Vec::new(),
            replicas,
            made: 0,
            now: 1_800_000_000_000,
            operation: None,
            truth: BTreeMap::new(),
            paces: BTreeMap::new(),
            heard: true,
            quorum: true,
            settled: true,
            told: false,
            rate: RATES[0],
        };
        for _ in 0..4 {
            model.world(None).unwrap();
        }
        model
    }

    fn alive(&self) -> i32 {
        i32::try_from(self.pods.iter().filter(|p| !p.terminating).count()).unwrap()
    }

    fn find(&mut self, name: &str) -> Option<&mut PodView> {
        self.pods.iter_mut().find(|p| p.name == *name && !p.terminating)
    }

    /// One tick of Kubernetes and the nodes.
    fn world(&mut self, mut chaos: Option<&mut Unstructured<'_>>) -> Result<()> {
        self.now += TICK;
        self.pods.retain(|p| !p.terminating);
        let pods = &self.pods;
        self.truth.retain(|name, _| pods.iter().any(|p| p.name == *name));
        let mut moved = 0;
        for pod in &mut self.pods {
            let lags = match chaos.as_deref_mut() {
                Some(u) => u.ratio(1u8, 3u8)?,
                None => false,
            };
            if !lags {
                pod.endpoint_ready = Some(pod.ready);
            }
            if pod.pending || pod.dead {
                (pod.pending, pod.dead, pod.ready) = (false, false, true);
                self.truth.insert(pod.name.clone(), BEGINS);
                continue;
            }
            let Some(node) = self.truth.get_mut(&pod.name) else { continue };
            pod.ready = node.phase == NodePhase::Serving;
            if node.phase == NodePhase::Closing {
                let pace = self.paces.get(&pod.name).copied().unwrap_or_default();
                let closed = node.connections.min(u64::from(pace) * TICK / 1_000);
                node.connections -= closed;
                moved += closed;
                if node.connections == 0 {
                    node.phase = NodePhase::Closed;
                }
            } else if node.phase == NodePhase::Serving {
                node.connections += 7;
            }
        }
        if let Some(u) = chaos.as_deref_mut() {
            moved += self.deaths(u)?;
            for holds in [&mut self.heard, &mut self.quorum, &mut self.settled] {
                *holds = if *holds { !u.ratio(1u8, 20u8)? } else { u.ratio(1u8, 4u8)? };
            }
            if u.ratio(1u8, 20u8)? {
                self.rate = *u.choose(&RATES)?;
            }
        } else {
            (self.heard, self.quorum, self.settled) = (true, true, true);
        }
        let serving = self.pods.iter().find(|p| p.ready && !p.terminating && !p.dead);
        if let Some(node) = serving.and_then(|p| self.truth.get_mut(&p.name)) {
            node.connections += moved;
        }
        self.scrape(chaos)?;
        self.replica_set();
        Ok(())
    }

    /// Lets pods and processes die, and gives how many clients they had.
    fn deaths(&mut self, u: &mut Unstructured<'_>) -> Result<u64> {
        let mut moved = 0;
        for process_only in [false, true] {
            if self.pods.is_empty() || !u.ratio(1u8, 12u8)? {
                continue;
            }
            let dies = u.choose_index(self.pods.len())?;
            let pod = &mut self.pods[dies];
            moved += self.truth.remove(&pod.name).map_or(0, |node| node.connections);
            if process_only && !pod.pending && !pod.terminating {
                (pod.dead, pod.ready, pod.restarts) = (true, false, pod.restarts + 1);
            } else {
                pod.terminating = true;
            }
        }
        Ok(moved)
    }

    /// Sets what the operator hears of each node: the truth, or what it heard last, or nothing.
    fn scrape(&mut self, mut chaos: Option<&mut Unstructured<'_>>) -> Result<()> {
        for pod in &mut self.pods {
            let lost = match chaos.as_deref_mut() {
                Some(u) => u.ratio(1u8, 8u8)?,
                None => false,
            };
            let old = pod.node.map(|node| NodeView { answers: false, ..node });
            pod.node = match self.truth.get(&pod.name) {
                Some(node) if !lost => Some(*node),
                Some(_) if chaos.as_deref_mut().is_some_and(|u| u.ratio(1u8, 3u8).unwrap_or(false)) => None,
                Some(_) => old,
                // The watch may be late: figures of a process that ended stay for a look.
                None if pod.dead && lost => old,
                None => None,
            };
        }
        Ok(())
    }

    fn replica_set(&mut self) {
        while self.alive() < self.replicas {
            self.made += 1;
            let name = format!("p{}", self.made);
            let uid = format!("u{}", self.made);
            self.pods.push(PodView { name, uid, pending: true, created: self.now, ..PodView::default() });
        }
        while self.alive() > self.replicas {
            let rank = |p: &PodView| {
                (!p.pending, p.ready, p.deletion_cost.unwrap_or(0), std::cmp::Reverse(p.created))
            };
            let goes = self.pods.iter_mut().filter(|p| !p.terminating).min_by_key(|p| rank(p)).unwrap();
            let held = self.truth.get(&goes.name).map_or(0, |n| n.connections);
            assert_eq!(held, 0, "{} is removed with {held} connections", goes.name);
            goes.terminating = true;
        }
    }

    /// One look of an operator. `crash` is the point at which it dies; `lost` says whether its commands to nodes get
    /// lost.
    fn operator(&mut self, desired: i32, crash: u8, lost: bool) {
        let alive = self.alive();
        let seen = FleetView {
            now: self.now,
            pods: &self.pods,
            replicas: self.replicas,
            existing: alive,
            settled: self.settled,
            desired,
            quorum: self.quorum,
            heard: self.heard,
            connections_per_second: self.rate,
            told: self.told,
            deadline: 600_000,
        };
        let out = plan(self.operation.as_ref(), &seen);
        self.check(&out);
        if crash > 0 {
            self.told = false; // the next operator does not know
        }
        if crash == 1 {
            return;
        }
        self.operation = out.operation;
        if crash == 2 {
            return;
        }
        for action in out.actions {
            self.act(action, lost);
        }
        if self.heard && self.quorum && !lost {
            self.check_pace();
        }
    }

    /// Checks that the actions of this look may be taken now.
    fn check(&self, out: &Plan) {
        let paces = out.actions.iter().filter_map(|action| match action {
            Action::Close { rate, .. } => Some(*rate),
            _ => None,
        });
        assert!(paces.sum::<u32>() <= self.rate, "more than the fleet's budget: {out:?}");
        let fewer = |action: &Action| matches!(action, Action::Replicas { from, to } if to < from);
        let shrinks = self.alive() >= self.replicas && out.actions.iter().any(fewer);
        assert!((self.heard && self.settled) || !shrinks, "{out:?}");
        let (before, after) = (self.operation.as_ref().map(scale_in), out.operation.as_ref().map(scale_in));
        let Some(after) = after else { return };
        let Some(victim) = self.pods.iter().find(|pod| pod.uid == after.pod_uid) else { return };
        let begins = before.is_none_or(|before| before.pod_uid != after.pod_uid);
        let steps = begins || before.is_some_and(|before| before.step < after.step);
        assert!(self.heard || !steps, "{out:?}");
        let empty = victim.node.is_some_and(|node| {
            node.phase == NodePhase::Closed || (node.phase == NodePhase::Closing && node.connections == 0)
        });
        let serves = !victim.vacant() && !empty && (!begins || victim.ready);
        assert!(self.quorum || !steps || !serves, "too little is known: {out:?}");
        if !begins && after.step == ScaleInStep::Closing && steps {
            let since = before.map_or(0, |before| millis(&before.step_at));
            let out_of_service = victim.endpoint_ready != Some(true) && !victim.ready;
            assert!(out_of_service || self.now - since > UNREADY_DEADLINE_MILLIS, "{victim:?}");
        }
    }

    /// A node that is being closed and answers closes at the pace that is asked for now.
    fn check_pace(&self) {
        let Some(operation) = self.operation.as_ref().map(scale_in) else { return };
        let Some(victim) = self.pods.iter().find(|pod| pod.uid == operation.pod_uid) else { return };
        let closes = self.truth.get(&victim.name).is_some_and(|node| node.phase == NodePhase::Closing);
        if operation.step == ScaleInStep::Closing && closes && victim.answers() {
            assert_eq!(self.paces.get(&victim.name), Some(&self.rate), "{operation:?}");
        }
    }

    fn act(&mut self, action: Action, lost: bool) {
        let (pod, phase) = match action {
            Action::Replicas { from, to } => {
                assert_eq!(from, self.replicas);
                self.replicas = to;
                return self.replica_set();
            }
            Action::DeletionCost { pod, cost } => {
                assert!(cost.is_none_or(|cost| cost == LOWEST_COST));
                if let Some(pod) = self.find(&pod) {
                    pod.deletion_cost = cost;
                }
                return;
            }
            Action::Unready { pod } => (pod, NodePhase::Unready),
            Action::Close { pod, rate } => {
                self.told = !lost;
                if !lost {
                    self.paces.insert(pod.clone(), rate);
                }
                (pod, NodePhase::Closing)
            }
            Action::TakeBack { pod } => (pod, NodePhase::Serving),
        };
        let told = self.find(&pod).is_some_and(|p| p.node.is_some_and(|node| node.answers));
        assert!(told, "{phase:?} to {pod}, which does not answer");
        if !lost && let Some(node) = self.truth.get_mut(&pod) {
            node.phase = phase;
        }
    }
}

#[test]
fn only_empty_nodes_go_and_the_fleet_ends_as_large_as_wanted() {
    arbtest::arbtest(|u| {
        let mut model = Model::new(u.int_in_range(1..=6)?);
        let mut desired = u.int_in_range(1..=6)?;
        for _ in 0..u.int_in_range(1..=60)? {
            model.world(Some(u))?;
            if u.ratio(1u8, 8u8)? {
                desired = u.int_in_range(1..=6)?;
            }
            let crash = if u.ratio(1u8, 4u8)? { u.int_in_range(1..=2)? } else { 0 };
            let lost = u.ratio(1u8, 4u8)?;
            model.operator(desired, crash, lost);
        }
        for _ in 0..400 {
            model.world(None)?;
            model.operator(desired, 0, false);
        }
        assert_eq!((model.replicas, model.alive()), (desired, desired));
        assert_eq!(model.operation, None);
        for pod in &model.pods {
            assert!(pod.ready && pod.deletion_cost.is_none(), "{pod:?}");
        }
        Ok(())
    })
    .size_min(4_096)
    .budget_ms(2_000);
}
