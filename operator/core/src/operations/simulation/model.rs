//! A model of two Deployments with their nodes, in which pods and processes die, figures are lost, old or too few, the bus
//! falls silent, a Deployment replaces pods by itself, endpoints lag or are not seen, the pace is changed, orders fail though
//! they may have arrived, and operators crash between recording and acting.
//!
//! Whatever happens, only empty nodes are removed, and none during a rollout; no order goes to a process that does
//! not answer; nothing begins and nothing goes while the bus is silent; no node that may have clients goes a step
//! further while too few figures are known; no node begins to close its connections while another one that goes is still in
//! the Service; and all together close no faster than the budget. Afterwards the fleet is as large as wanted and serves.

use std::collections::BTreeMap;

use arbtest::arbitrary::{Result, Unstructured};
use crds::{DrainStep, LeavingNode, Operation};
use node_core::admin::NodePhase;

use crate::machine::{Doom, Fate, Haste};
use crate::observation::{DeploymentView, sum};
use crate::operations::arbiter::plan;
use crate::operations::drain::UNREADY_DEADLINE_MILLIS;
use crate::operations::going::LOWEST_COST;
use crate::operations::paces::Paces;
use crate::operations::plan::Terms;
use crate::operations::plan::{Action, Failed, FleetView, Plan};
use crate::pod::{NodeView, PodView, alive_of};
use crate::timestamp::millis;

/// One tick of the model, in milliseconds.
pub(super) const TICK: u64 = 2_000;
/// Connections closed per second, at first and after a change.
const RATES: [u32; 2] = [50, 20];

/// A process that has just started.
const BEGINS: NodeView =
    NodeView { phase: NodePhase::Serving, connections: 0, writes_per_second: Some(0.0), answers: true };

/// The fleet, with what the operator remembers of it.
pub(super) struct Model {
    pub(super) pods: Vec<PodView>,
    deployments: Vec<DeploymentView>,
    made: u64,
    pub(super) now: u64,
    pub(super) operation: Option<Operation>,
    /// The nodes' real state, by pod; the operator sees what it last heard of it.
    pub(super) truth: BTreeMap<String, NodeView>,
    /// The pace at which a node closes connections, by pod.
    real_paces: BTreeMap<String, u32>,
    heard: bool,
    quorum: bool,
    settled: bool,
    /// What the operator knows of the paces.
    paces: Paces,
    pub(super) rate: u32,
    pub(super) terms: Terms,
    /// Pods that start in a tick without chaos, at most.
    pub(super) starts: usize,
    /// Clients that come to each node in the Service in each tick.
    pub(super) arrivals: u64,
    /// How often a client had to connect again because of an operation.
    pub(super) bounced: u64,
    /// Clients of evicted pods, which come back in the next tick.
    evicted: u64,
}

/// The nodes that go.
fn going(operation: Option<&Operation>) -> &[LeavingNode] {
    match operation {
        Some(Operation::Drain(drain)) => &drain.nodes,
        Some(Operation::Rebalance(_)) | None => &[],
    }
}

impl Model {
    /// A fleet at rest with so many nodes of the current template and of an older one.
    pub(super) fn new(current: i32, older: i32) -> Self {
        let deployment = |name: &str, is_current, replicas| DeploymentView {
            name: name.to_owned(),
            current: is_current,
            replicas,
            observed: true,
            ..DeploymentView::default()
        };
        let mut model = Self {
            pods: Vec::new(),
            deployments: vec![deployment("new", true, current), deployment("old", false, older)],
            made: 0,
            now: 1_800_000_000_000,
            operation: None,
            truth: BTreeMap::new(),
            real_paces: BTreeMap::new(),
            heard: true,
            quorum: true,
            settled: true,
            paces: Paces::default(),
            rate: RATES[0],
            terms: Terms::default(),
            starts: usize::MAX,
            arrivals: 7,
            bounced: 0,
            evicted: 0,
        };
        for _ in 0..4 {
            model.world(None).unwrap();
        }
        model
    }

    /// Makes the other Deployment the current one, as when a spec changes or is changed back.
    pub(super) fn turn(&mut self) {
        for (revision, deployment) in (1..).zip(&mut self.deployments) {
            deployment.current = !deployment.current;
            deployment.revision = if deployment.current { 9 } else { revision };
        }
    }

    /// Replicas of the Deployments that are not the current one.
    pub(super) fn older(&self) -> i32 {
        self.deployments.iter().filter(|of| !of.current).map(|of| of.replicas).sum()
    }

    pub(super) fn replicas(&self) -> i32 {
        sum(&self.deployments, |deployment| deployment.replicas)
    }

    /// Lets the machine of a pod be about to go.
    pub(super) fn doom(&mut self, at: usize, haste: Haste) {
        self.pods[at].fate = Fate::Goes(Doom { why: "machine m goes".to_owned(), haste });
    }

    pub(super) fn alive(&self) -> i32 {
        i32::try_from(self.pods.iter().filter(|p| !p.terminating).count()).unwrap()
    }

    /// Nodes that clients are sent to.
    pub(super) fn in_service(&self) -> i32 {
        let serves = |pod: &&PodView| pod.ready && !pod.terminating && !pod.dead;
        i32::try_from(self.pods.iter().filter(serves).count()).unwrap()
    }

    fn find(&mut self, name: &str) -> Option<&mut PodView> {
        self.pods.iter_mut().find(|p| p.name == *name && !p.terminating)
    }

    /// One tick of Kubernetes and the nodes.
    pub(super) fn world(&mut self, mut chaos: Option<&mut Unstructured<'_>>) -> Result<()> {
        self.now += TICK;
        self.pods.retain(|p| !p.terminating);
        let pods = &self.pods;
        self.truth.retain(|name, _| pods.iter().any(|p| p.name == *name));
        let (mut moved, mut starts) = (0, self.starts);
        for pod in &mut self.pods {
            let lags = match chaos.as_deref_mut() {
                Some(u) => u.ratio(1u8, 3u8)?,
                None => false,
            };
            if !lags {
                pod.endpoint_ready = Some(pod.ready);
            }
            if pod.pending || pod.dead {
                if chaos.is_none() && starts == 0 {
                    continue;
                }
                starts = starts.saturating_sub(1);
                (pod.pending, pod.dead, pod.ready) = (false, false, true);
                self.truth.insert(pod.name.clone(), BEGINS);
                continue;
            }
            let Some(node) = self.truth.get_mut(&pod.name) else { continue };
            pod.ready = node.phase == NodePhase::Serving;
            if node.phase == NodePhase::Closing {
                let pace = self.real_paces.get(&pod.name).copied().unwrap_or_default();
                let closed = node.connections.min(u64::from(pace) * TICK / 1_000);
                node.connections -= closed;
                moved += closed;
                if node.connections == 0 {
                    node.phase = NodePhase::Closed;
                }
            } else if node.phase == NodePhase::Serving {
                node.connections += self.arrivals;
            }
        }
        self.bounced += moved;
        moved += std::mem::take(&mut self.evicted);
        if let Some(u) = chaos.as_deref_mut() {
            moved += self.deaths(u)?;
            self.machines(u)?;
            for holds in [&mut self.heard, &mut self.quorum, &mut self.settled] {
                *holds = if *holds { !u.ratio(1u8, 20u8)? } else { u.ratio(1u8, 4u8)? };
            }
            if u.ratio(1u8, 20u8)? {
                self.rate = *u.choose(&RATES)?;
            }
        } else {
            (self.heard, self.quorum, self.settled) = (true, true, true);
        }
        let serving = self.pods.iter().filter(|p| p.ready && !p.terminating && !p.dead);
        let serving: Vec<_> = serving.map(|p| p.name.clone()).collect();
        for (at, name) in (0..).zip(&serving) {
            if let Some(node) = self.truth.get_mut(name) {
                let all = serving.len() as u64;
                node.connections += moved / all + u64::from(at < moved % all);
            }
        }
        self.scrape(chaos)?;
        self.replica_sets();
        Ok(())
    }

    /// Lets machines be about to go, and to stay after all.
    fn machines(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.pods.is_empty() || !u.ratio(1u8, 10u8)? {
            return Ok(());
        }
        let at = u.choose_index(self.pods.len())?;
        let haste = if u.ratio(1u8, 2u8)? { Haste::Soon } else { Haste::Normal };
        self.pods[at].fate = match u.ratio(2u8, 3u8)? {
            true => Fate::Goes(Doom { why: "machine m goes".to_owned(), haste }),
            false => u.choose(&[Fate::Stays, Fate::Unknown, Fate::MayGo])?.clone(),
        };
        if u.ratio(1u8, 6u8)? {
            self.evict(at);
        }
        Ok(())
    }

    /// Evicts a pod; gives how many clients it had.
    pub(super) fn evict(&mut self, at: usize) {
        let pod = &mut self.pods[at];
        (pod.terminating, pod.evicted, pod.ready) = (true, true, false);
        let name = pod.name.clone();
        let moved = self.truth.remove(&name).map_or(0, |node| node.connections);
        self.evicted += moved;
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

    fn replica_sets(&mut self) {
        for at in 0..self.deployments.len() {
            self.replica_set(at);
        }
    }

    fn replica_set(&mut self, at: usize) {
        let DeploymentView { name: of, replicas, .. } = self.deployments[at].clone();
        while alive_of(&self.pods, &of) < replicas {
            self.made += 1;
            let (name, uid) = (format!("p{}", self.made), format!("u{}", self.made));
            let (pending, created, deployment) = (true, self.now, of.clone());
            self.pods.push(PodView { name, uid, pending, created, deployment, ..PodView::default() });
        }
        while alive_of(&self.pods, &of) > replicas {
            let rank = |p: &PodView| {
                (!p.pending, p.ready, p.deletion_cost.unwrap_or(0), std::cmp::Reverse(p.created))
            };
            let own = self.pods.iter_mut().filter(|p| !p.terminating && p.deployment == of);
            let goes = own.min_by_key(|p| rank(p)).unwrap();
            let held = self.truth.get(&goes.name).map_or(0, |n| n.connections);
            assert_eq!(held, 0, "{} is removed with {held} connections", goes.name);
            goes.terminating = true;
        }
        self.deployments[at].pods = replicas;
    }

    /// One look of an operator. `crash` is the point at which it dies. With `chaos` its orders to nodes may fail.
    pub(super) fn operator(
        &mut self,
        desired: i32,
        crash: u8,
        mut chaos: Option<&mut Unstructured<'_>>,
    ) -> Result<()> {
        if crash > 0 {
            self.paces = Paces::default(); // the next operator knows nothing
        }
        self.paces.look(self.now, self.operation.as_ref(), &self.pods, self.rate);
        let seen = FleetView {
            now: self.now,
            pods: &self.pods,
            deployments: &self.deployments,
            replicas: self.replicas(),
            existing: self.alive(),
            settled: self.settled,
            desired,
            quorum: self.quorum,
            heard: self.heard,
            connections_per_second: self.rate,
            paces: &self.paces,
            deadline: 600_000,
            rollout: self.terms,
            rebalance: crate::operations::still(),
            rebalance_asked: None,
            sizing: crate::operations::sizing(),
            moves: None,
        };
        let out = plan(self.operation.as_ref(), &seen);
        self.check(&out);
        if crash == 1 {
            return Ok(());
        }
        self.operation = out.operation;
        if crash == 2 {
            return Ok(());
        }
        let mut failed = Failed::default();
        for action in out.actions {
            if failed.stops(&action) {
                continue;
            }
            let (fails, arrives) = match chaos.as_deref_mut() {
                Some(u) => match u.ratio(1u8, 8u8)? {
                    true => (true, u.ratio(1u8, 2u8)?),
                    false => (false, true),
                },
                None => (false, true),
            };
            if arrives {
                self.act(&action);
            }
            if fails {
                failed.note(&action);
            }
            self.paces.note(&action, !fails);
        }
        self.check_pace();
        Ok(())
    }

    /// Checks that the actions of this look may be taken now.
    fn check(&self, out: &Plan) {
        let fewer = |action: &Action| matches!(action, Action::Replicas { from, to, .. } if to < from);
        let made = self.deployments.iter().all(|of| alive_of(&self.pods, &of.name) >= of.replicas);
        let shrinks = made && out.actions.iter().any(fewer);
        assert!((self.heard && self.settled) || !shrinks, "{out:?}");
        let (before, after) = (going(self.operation.as_ref()), going(out.operation.as_ref()));
        for node in after {
            let before = before.iter().find(|before| before.pod_uid == node.pod_uid);
            self.check_node(before, node, out);
        }
        let begins = |node: &&LeavingNode| {
            let before = before.iter().find(|before| before.pod_uid == node.pod_uid);
            node.step == DrainStep::Closing && before.is_some_and(|before| before.step != node.step)
        };
        if after.iter().any(|node| begins(&node)) {
            assert!(
                after.iter().all(|node| node.step != DrainStep::Unready),
                "one is in the Service: {out:?}"
            );
        }
    }

    /// Checks the step of one node.
    fn check_node(&self, before: Option<&LeavingNode>, after: &LeavingNode, out: &Plan) {
        // Nothing is done with an evicted pod; it is only remembered.
        let Some(victim) = self.pods.iter().find(|pod| pod.uid == after.pod_uid && !pod.terminating) else {
            return;
        };
        let steps = before.map_or(after.step != DrainStep::Replacing, |before| before.step < after.step);
        assert!(self.heard || !steps, "{out:?}");
        let empty = victim.node.is_some_and(|node| {
            node.phase == NodePhase::Closed || (node.phase == NodePhase::Closing && node.connections == 0)
        });
        let serves = !victim.vacant() && !empty && (before.is_some() || victim.ready);
        assert!(self.quorum || !steps || !serves, "too little is known: {out:?}");
        if before.is_some_and(|before| before.step == DrainStep::Unready) && after.step == DrainStep::Waiting
        {
            let since = before.map_or(0, |before| millis(&before.step_at));
            let out_of_service = victim.endpoint_ready != Some(true) && !victim.ready;
            assert!(out_of_service || self.now - since > UNREADY_DEADLINE_MILLIS, "{victim:?}");
        }
    }

    /// Nodes that go close together no faster than they may; the budget may have been lowered just now, and a node that has
    /// not been heard for longer than it needs to be empty is not counted.
    fn check_pace(&self) {
        let known = |node: &&LeavingNode| {
            let answers = self.pods.iter().any(|pod| pod.name == node.pod && pod.answers());
            answers || self.paces.of(&node.pod).is_some()
        };
        let pace = |node: &LeavingNode| {
            let closes =
                self.truth.get(&node.pod).is_some_and(|n| n.phase == NodePhase::Closing && n.connections > 0);
            self.real_paces.get(&node.pod).copied().filter(|_| closes).unwrap_or_default()
        };
        let sum: u32 = going(self.operation.as_ref()).iter().filter(known).map(pace).sum();
        assert!(sum <= RATES[0].max(self.rate), "{sum}/s of {}/s: {:?}", self.rate, self.operation);
    }

    fn act(&mut self, action: &Action) {
        let (pod, phase) = match action {
            Action::Replicas { deployment, from, to } => {
                let at = self.deployments.iter().position(|of| of.name == *deployment).unwrap();
                assert_eq!(*from, self.deployments[at].replicas);
                self.deployments[at].replicas = *to;
                return self.replica_set(at);
            }
            Action::DeletionCost { pod, cost } => {
                assert!(cost.is_none_or(|cost| cost == LOWEST_COST));
                if let Some(pod) = self.find(pod) {
                    pod.deletion_cost = *cost;
                }
                return;
            }
            Action::Unready { pod } | Action::Hold { pod } => (pod, NodePhase::Unready),
            Action::Close { pod, rate, .. } => {
                self.real_paces.insert(pod.clone(), *rate);
                (pod, NodePhase::Closing)
            }
            Action::TakeBack { pod } => (pod, NodePhase::Serving),
            Action::Rebalance { .. } | Action::StopRebalance { .. } => panic!("no clients are moved here"),
        };
        let told = self.find(pod).is_some_and(|p| p.node.is_some_and(|node| node.answers));
        assert!(told, "{phase:?} to {pod}, which does not answer");
        if let Some(node) = self.truth.get_mut(pod) {
            node.phase = phase;
        }
    }
}
