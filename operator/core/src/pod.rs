//! A node pod as the decisions see it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Toleration};
use node_core::admin::{NodePhase, RebalanceStatus};

use crate::holds::is_set;
use crate::machine::Fate;
use crate::names::{NODE_CONTAINER, RESTART_HASH_ANNOTATION};
use crate::wishes::DRAIN_ANNOTATION;

/// Annotation that the ReplicaSet controller reads when it chooses which pod goes.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A node pod as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Name of the Deployment that made it.
    pub deployment: String,
    /// Name of the machine that it was given, if it was given one: the Node of Kubernetes.
    pub machine: Option<String>,
    /// The Ready condition.
    pub ready: bool,
    /// Whether it never ran yet.
    pub pending: bool,
    /// Whether its process does not run, as Kubernetes says: it ended, and was not started again yet. No client is on it.
    pub dead: bool,
    /// How often its process was started again.
    pub restarts: i32,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it is being deleted because it was evicted: by the drain of a machine, mostly.
    pub evicted: bool,
    /// What becomes of its machine.
    pub fate: Fate,
    /// The taints that it tolerates; those of machines that are not ready, which Kubernetes adds to each pod, may be missing.
    pub tolerations: Vec<Toleration>,
    /// When it was made, in milliseconds.
    pub created: u64,
    /// Its deletion cost annotation.
    pub deletion_cost: Option<i32>,
    /// The operator's own annotations, which describe the template that the pod was made from.
    pub annotations: BTreeMap<String, String>,
    /// Whether its endpoint is ready in the Service; none when no endpoint is known.
    pub endpoint_ready: Option<bool>,
    /// Names of the sysctls that it has.
    pub sysctls: Vec<String>,
    /// What the node last said of itself, if that is fresh.
    pub node: Option<NodeView>,
    /// How hard that is for it, of the same answer.
    pub bearing: Option<Bearing>,
}

/// What a node said of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeView {
    /// Where it is in its life.
    pub phase: NodePhase,
    /// Connections held.
    pub connections: u64,
    /// Messages delivered per second; none when not known yet.
    pub writes_per_second: Option<f64>,
    /// Whether it answered when it was asked last.
    pub answers: bool,
}

/// How a node bears its load, and what it moves to others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bearing {
    /// Whether it is full, whatever it writes.
    pub full: bool,
    /// Milliseconds within which 99 of 100 connections of the last second were accepted.
    pub handshake_p99_millis: u64,
    /// Handshakes refused per second; none when not known yet.
    pub refused_per_second: Option<f64>,
    /// The request to move clients that it goes on with.
    pub rebalance: Option<RebalanceStatus>,
}

/// Pods that are not being deleted.
#[must_use]
pub fn alive(pods: &[PodView]) -> i32 {
    count(pods.iter().filter(|pod| !pod.terminating))
}

/// Pods of a Deployment that are not being deleted.
#[must_use]
pub fn alive_of(pods: &[PodView], deployment: &str) -> i32 {
    count(pods.iter().filter(|pod| !pod.terminating && pod.deployment == deployment))
}

fn count<'a>(pods: impl Iterator<Item = &'a PodView>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

/// Whether it has ended for good: it is no node any more.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The kubelet's status of the container with the node in it. An admission webhook may have put others beside it.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|c| c.name == NODE_CONTAINER)
}

/// Whether the API server took an eviction of it (`DisruptionTarget` of k8s.io/api/core/v1).
fn is_evicted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("EvictionByEvictionAPI")
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

fn sysctls(pod: &Pod) -> Vec<String> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let all = context.and_then(|context| context.sysctls.as_ref());
    all.map(|all| all.iter().map(|sysctl| sysctl.name.clone()).collect()).unwrap_or_default()
}

impl PodView {
    /// Reads a pod of a Deployment. `endpoint_ready` says whether its endpoint is ready in the Service; none when no endpoint
    /// is known.
    #[must_use]
    pub fn of(pod: &Pod, deployment: &str, endpoint_ready: Option<bool>) -> Self {
        let meta = &pod.metadata;
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        let container = container(pod);
        let state = container.and_then(|c| c.state.as_ref());
        let stopped =
            state.is_some_and(|s| s.running.is_none() && (s.waiting.is_some() || s.terminated.is_some()));
        let created = meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
        let annotations = || meta.annotations.iter().flatten();
        let cost = annotations().find(|(name, _)| *name == DELETION_COST).map(|(_, cost)| cost);
        let is_own = |name: &str| name.split_once('/').is_some_and(|(prefix, _)| prefix == crds::GROUP);
        let own = annotations().filter(|(name, _)| is_own(name));
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            deployment: deployment.to_owned(),
            machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ready,
            pending: phase(pod) == "Pending",
            dead: phase(pod) == "Running" && !ready && stopped,
            restarts: container.map_or(0, |c| c.restart_count),
            terminating: meta.deletion_timestamp.is_some(),
            evicted: meta.deletion_timestamp.is_some() && is_evicted(pod),
            fate: Fate::Unknown,
            tolerations: pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default(),
            created: u64::try_from(created).unwrap_or_default(),
            deletion_cost: cost.and_then(|cost| cost.parse().ok()),
            annotations: own.map(|(name, value)| (name.clone(), value.clone())).collect(),
            endpoint_ready,
            sysctls: sysctls(pod),
            node: None,
            bearing: None,
        }
    }

    /// The hash of the configuration keys that a running node cannot reload, from the template of the pod.
    #[must_use]
    pub fn restart_hash(&self) -> Option<&String> {
        self.annotations.get(RESTART_HASH_ANNOTATION)
    }

    /// Whether no process of it can hold a connection: it never ran, or does not run now.
    #[must_use]
    pub fn vacant(&self) -> bool {
        self.pending || self.dead
    }

    /// Whether it moves clients to others: it is not in the Service meanwhile, and serves.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.bearing.as_ref().is_some_and(|bearing| bearing.rebalance.is_some())
    }

    /// Whether a person wants it to go, whatever the load is.
    #[must_use]
    pub fn is_asked_to_go(&self) -> bool {
        is_set(Some(&self.annotations), DRAIN_ANNOTATION)
    }

    /// Whether a person wants it to stay, as far as another one can go: the annotation is there and says no.
    #[must_use]
    pub fn is_asked_to_stay(&self) -> bool {
        !self.vacant() && self.annotations.contains_key(DRAIN_ANNOTATION) && !self.is_asked_to_go()
    }

    /// Whether it can take an order.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.node.is_some_and(|node| node.answers)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{PodView, has_ended};

    fn pod(status: &Value) -> Pod {
        let annotations = json!({
            "channelcluster.io/restart-hash": "h", "channelcluster.io.example/mark": "x", "note": "x",
            "controller.kubernetes.io/pod-deletion-cost": "-7",
        });
        let meta = json!({"name": "a", "uid": "1", "annotations": annotations});
        let pod = json!({"metadata": meta, "spec": {"nodeName": "m", "containers": []}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn what_it_was_made_with_is_in_the_operators_own_annotations() {
        let view = PodView::of(&pod(&json!({"phase": "Running"})), "d", Some(true));
        assert_eq!((view.name.as_str(), view.uid.as_str(), view.deployment.as_str()), ("a", "1", "d"));
        assert_eq!((view.endpoint_ready, view.machine.as_deref()), (Some(true), Some("m")));
        assert_eq!((view.deletion_cost, view.annotations.len()), (Some(-7), 1));
        assert_eq!(view.restart_hash().map(String::as_str), Some("h"));
    }

    #[test]
    fn only_the_container_of_the_node_tells_that_its_process_does_not_run() {
        let with = |name: &str, state: Value| {
            let container = json!({"name": name, "state": state, "restartCount": 2, "ready": false, "image": "", "imageID": ""});
            PodView::of(&pod(&json!({"phase": "Running", "containerStatuses": [container]})), "d", None)
        };
        let waits = with("channel-node", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        assert!(waits.dead && waits.vacant() && waits.restarts == 2, "{waits:?}");
        assert!(!with("channel-node", json!({"running": {}})).dead);
        assert!(!with("beside", json!({"waiting": {}})).dead, "another may be beside it");
        let new = PodView::of(&Pod::default(), "d", None);
        assert!(new.pending && new.vacant() && !new.ready && !new.dead, "{new:?}");
        assert!(!has_ended(&Pod::default()) && has_ended(&pod(&json!({"phase": "Failed"}))));
    }
}
