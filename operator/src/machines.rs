//! The machines, as far as this operator may see them.

use std::cell::LazyCell;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::machine::{self, MachineView};
use operator_core::pod::PodView;
use operator_core::seen;
use operator_core::sysctl_probes::{self, POOL_LABELS, Pool};

use crate::clock;
use crate::pulses::{Pulse, STALE_MILLIS};
use crate::shelf::Shelf;
use crate::store::Rules;

/// The Nodes of Kubernetes.
#[derive(Clone, Debug)]
pub struct Machines {
    store: Shelf<Node>,
    pulse: Arc<Pulse>,
}

impl Machines {
    /// The machines that a watch with this pulse puts into this store.
    #[must_use]
    pub fn new(store: Shelf<Node>, pulse: Arc<Pulse>) -> Self {
        Self { store, pulse }
    }

    /// No machines, for callers without a watch.
    #[must_use]
    pub fn unseen() -> Self {
        Self::new(Shelf::default(), Arc::new(Pulse::new("nodes", None)))
    }

    /// Whether they are seen as they are now.
    fn sees(&self) -> bool {
        self.pulse.synced() && self.pulse.age() <= STALE_MILLIS
    }

    /// Sets what becomes of the machine of each pod; nothing is known of machines that are not seen now.
    pub fn judge(&self, pods: &mut [PodView]) {
        if !self.sees() {
            return;
        }
        let one = |name: &str| Some(MachineView::of(self.store.get("", name)?.as_ref()));
        // All machines are looked at once, and only where a pod's machine is not ready.
        let many_lost = LazyCell::new(|| {
            let all = self.store.all();
            let lost = all.iter().filter(|node| MachineView::of(node).lost_since.is_some()).count();
            machine::many_lost(lost, all.len())
        });
        seen::judge(pods, one, || *many_lost, clock::now());
    }

    /// The pools of the machines, as far as they are seen.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        if !self.sees() {
            return vec![Pool::Any];
        }
        sysctl_probes::pools(self.store.all().iter().map(AsRef::as_ref))
    }
}

/// How Nodes are handled: all are kept, and of each its pool and what tells of its end.
#[must_use]
pub fn rules() -> Rules<Node> {
    Rules {
        keep: |_| true,
        prune,
        version: |_| String::new(),
        about: |_| None,
        parent: |_| None,
        stands: false,
    }
}

/// Keeps its pool, whether it is cordoned, its taints, and the conditions that tell of its end.
fn prune(node: &mut Node) {
    let mut labels = node.metadata.labels.take();
    if let Some(labels) = &mut labels {
        labels.retain(|key, _| POOL_LABELS.contains(&key.as_str()));
    }
    node.metadata = ObjectMeta {
        name: node.metadata.name.take(),
        uid: node.metadata.uid.take(),
        labels: labels.filter(|labels| !labels.is_empty()),
        ..ObjectMeta::default()
    };
    if let Some(spec) = node.spec.take() {
        let (unschedulable, taints) = (spec.unschedulable, spec.taints);
        node.spec = Some(NodeSpec { unschedulable, taints, ..NodeSpec::default() });
    }
    if let Some(mut conditions) = node.status.take().and_then(|status| status.conditions) {
        conditions.retain(|condition| machine::is_read(&condition.type_));
        for condition in &mut conditions {
            (condition.last_heartbeat_time, condition.reason) = (None, None);
        }
        conditions.shrink_to_fit();
        node.status = Some(NodeStatus { conditions: Some(conditions), ..NodeStatus::default() });
    }
}

#[cfg(test)]
mod tests {
    use operator_core::machine::Fate;
    use serde_json::json;

    use super::*;
    use crate::shelf::Place;

    #[test]
    fn nothing_is_known_of_machines_that_are_not_seen_now() {
        let store = Shelf::default();
        let pulse = Arc::new(Pulse::new("nodes", None));
        let machines = Machines::new(store.clone(), pulse.clone());
        let node = json!({"metadata": {"name": "m"}, "spec": {"unschedulable": true}});
        let node: Node = serde_json::from_value(node).unwrap();
        store.put(Place::of(&node.metadata), None, node);
        let fate = || {
            let mut pods = [PodView { machine: Some("m".to_owned()), ..PodView::default() }];
            machines.judge(&mut pods);
            pods[0].fate.clone()
        };
        assert_eq!(fate(), Fate::Unknown, "the first list has not come");
        pulse.sync();
        assert_eq!(fate(), Fate::MayGo);
        pulse.set_age(STALE_MILLIS + 1_000);
        assert_eq!(fate(), Fate::Unknown);
    }

    #[test]
    fn of_a_machine_only_what_tells_of_its_end_is_kept() {
        let images = vec![json!({"names": ["x".repeat(200)], "sizeBytes": 1}); 50];
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "y".repeat(100)});
        let mut node: Node = serde_json::from_value(json!({
            "metadata": {"name": "m", "uid": "1", "labels": {"a": "z".repeat(1_000)}},
            "spec": {"podCIDR": "10.0.0.0/24", "unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"images": images, "conditions":
                [condition("Ready"), condition("DiskPressure"), condition("PreemptScheduled")]},
        }))
        .unwrap();
        let before = MachineView::of(&node);
        (rules().prune)(&mut node);
        assert!(serde_json::to_string(&node).unwrap().len() < 300, "{node:?}");
        assert_eq!(MachineView::of(&node), before, "all that is read is kept");
    }
}
