//! A model of a Deployment with its nodes, in which pods die, commands are lost and operators crash between recording and
//! acting. Whatever happens, only empty nodes are removed, and afterwards the fleet is as large as wanted and serves.

use arbtest::arbitrary::{Result, Unstructured};
use crds::Operation;
use node_core::admin::Phase;

use super::{Action, LOWEST_COST, NodeView, Observed, PodView, step};

/// One tick of the model, in milliseconds.
const TICK: u64 = 2_000;
/// Connections closed per second.
const RATE: u32 = 50;

struct Model {
    pods: Vec<PodView>,
    replicas: i32,
    made: u64,
    now: u64,
    operation: Option<Operation>,
}

impl Model {
    fn new(replicas: i32) -> Self {
        let mut model = Self { pods: Vec::new(), replicas, made: 0, now: 1_800_000_000_000, operation: None };
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

    /// What Kubernetes and the nodes do in a tick.
    fn world(&mut self, chaos: Option<&mut Unstructured<'_>>) -> Result<()> {
        self.now += TICK;
        self.pods.retain(|p| !p.terminating);
        let mut moved = 0;
        for pod in &mut self.pods {
            pod.endpoint_ready = Some(pod.ready);
            if pod.pending {
                pod.pending = false;
                pod.ready = true;
                pod.node = Some(NodeView { phase: Phase::Serving, connections: 0, writes_per_second: 0.0 });
                continue;
            }
            let Some(node) = &mut pod.node else { continue };
            pod.ready = node.phase == Phase::Serving;
            if node.phase == Phase::Closing {
                let closed = node.connections.min(u64::from(RATE) * TICK / 1_000);
                node.connections -= closed;
                moved += closed;
                if node.connections == 0 {
                    node.phase = Phase::Closed;
                }
            } else if node.phase == Phase::Serving {
                node.connections += 7;
            }
        }
        if let Some(u) = chaos
            && u.ratio(1u8, 12u8)?
            && !self.pods.is_empty()
        {
            let dies = u.choose_index(self.pods.len())?;
            moved += self.pods[dies].node.map_or(0, |n| n.connections);
            self.pods[dies].terminating = true;
        }
        let serving = |p: &&mut PodView| p.ready && !p.terminating;
        if let Some(node) = self.pods.iter_mut().find(serving).and_then(|p| p.node.as_mut()) {
            node.connections += moved;
        }
        self.replica_set();
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
            let held = goes.node.map_or(0, |n| n.connections);
            assert_eq!(held, 0, "{} is removed with {held} connections", goes.name);
            goes.terminating = true;
        }
    }

    /// One look of an operator; `crash` is where it dies, `lost` whether its commands to nodes get lost.
    fn operator(&mut self, desired: i32, crash: u8, lost: bool) {
        let seen = Observed {
            now: self.now,
            pods: &self.pods,
            replicas: self.replicas,
            existing: self.alive(),
            settled: true,
            desired,
            quorum: true,
            connections_per_second: RATE,
            told: true,
            deadline: 600_000,
        };
        let out = step(self.operation.as_ref(), &seen);
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
            Action::Unready { pod } => (pod, Phase::Unready),
            Action::Close { pod, .. } => (pod, Phase::Closing),
            Action::TakeBack { pod } => (pod, Phase::Serving),
        };
        if !lost && let Some(node) = self.find(&pod).and_then(|p| p.node.as_mut()) {
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
    });
}
