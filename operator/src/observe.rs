//! From watched objects to what the core decides on.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use operator_core::names::{Component, NODE_CONTAINER, Names, RESTART_HASH_ANNOTATION};
use operator_core::pod::PodView;
use operator_core::refused::{self, Rejected};
use operator_core::tick::DeploymentView;

use crate::watches::{Stores, service_key};

/// Annotation that the ReplicaSet controller reads when it chooses which pod goes.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A node pod with its address.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// What the core reads.
    pub view: PodView,
    /// Its IP, once it has one.
    pub ip: Option<String>,
}

/// The node Deployment.
#[derive(Clone, Debug)]
pub struct SeenDeployment {
    /// What the core reads.
    pub view: DeploymentView,
    /// Version of the object, so that nothing is written over a newer one.
    pub resource_version: String,
}

/// Whether the ChannelCluster with this UID owns the object.
pub(crate) fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Image of a Deployment's first container; ours have one.
#[must_use]
pub fn image(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

/// The Deployment of a cluster's nodes; one of that name which the ChannelCluster with `uid` does not own is not seen.
#[must_use]
pub fn deployment(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Option<SeenDeployment> {
    let key = ObjectRef::<Deployment>::new(&names.deployment()).within(namespace);
    let live = stores.deployments.get(&key).filter(|live| is_owned(live.as_ref(), uid))?;
    let status = live.status.clone().unwrap_or_default();
    let pods = status.replicas.unwrap_or_default();
    let view = DeploymentView {
        replicas: live.spec.as_ref()?.replicas.unwrap_or(1),
        pods,
        rolling: status.updated_replicas.unwrap_or_default() < pods,
        observed: status.observed_generation >= live.metadata.generation,
        image: image(&live),
    };
    Some(SeenDeployment { view, resource_version: live.resource_version()? })
}

/// The node pods of a cluster that have not ended.
#[must_use]
pub fn pods(stores: &Stores, namespace: &str, names: &Names) -> Vec<SeenPod> {
    let ready = ready_endpoints(stores, namespace, &names.service());
    let live = node_pods(stores, namespace, names, has_not_ended);
    let mut pods: Vec<_> = live.iter().map(|pod| seen(pod, &ready)).collect();
    pods.sort_by(|a, b| a.view.name.cmp(&b.view.name));
    pods
}

/// What each node pod that has not ended, terminating ones included, was made with.
#[must_use]
pub fn restart_hashes(stores: &Stores, namespace: &str, names: &Names) -> Vec<Option<String>> {
    let pods = node_pods(stores, namespace, names, has_not_ended);
    pods.iter().map(|pod| restart_hash(pod)).collect()
}

/// The node pods of a cluster that a kubelet rejected for a sysctl.
#[must_use]
pub fn rejected(stores: &Stores, namespace: &str, names: &Names) -> Vec<Rejected> {
    let reason = |pod: &Pod| pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some(refused::REASON);
    let pods = node_pods(stores, namespace, names, |pod| pod_phase(pod) == "Failed" && reason(pod));
    let rejected = |pod: &Arc<Pod>| Rejected {
        created: created(pod),
        restart_hash: restart_hash(pod),
        message: pod.status.as_ref().and_then(|s| s.message.clone()).unwrap_or_default(),
        sysctls: sysctls(pod),
    };
    pods.iter().map(rejected).collect()
}

/// All pods of one Deployment of a cluster, those that have ended included. Labels and names do not prove that a
/// pod belongs to the fleet: any user who may make pods can set them, and the operator would send such a pod the admin token
/// and, since no controller counts it, wait for it in every scale-in. The UIDs of pod, ReplicaSet and Deployment form a chain that only their controllers make.
#[must_use]
pub fn pods_of(
    stores: &Stores,
    namespace: &str,
    names: &Names,
    component: Component,
    deployment: &str,
) -> Vec<Arc<Pod>> {
    let labels = names.selector_labels(component);
    let key = ObjectRef::<Deployment>::new(deployment).within(namespace);
    let Some(deployment) = stores.deployments.get(&key).and_then(|live| live.uid()) else {
        return Vec::new();
    };
    let sets = stores.replica_sets.children(&deployment);
    let pods = sets.iter().filter_map(|set| set.uid()).flat_map(|set| stores.pods.children(&set));
    pods.filter(|pod| {
        pod.namespace().as_deref() == Some(namespace)
            && labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    })
    .collect()
}

/// Pods of the node Deployment.
fn node_pods(
    stores: &Stores,
    namespace: &str,
    names: &Names,
    wanted: impl Fn(&Pod) -> bool,
) -> Vec<Arc<Pod>> {
    let mut pods = pods_of(stores, namespace, names, Component::Node, &names.deployment());
    pods.retain(|pod| wanted(pod));
    pods
}

fn created(pod: &Pod) -> u64 {
    let created = pod.creation_timestamp().map_or(0, |t| t.0.as_millisecond());
    u64::try_from(created).unwrap_or_default()
}

fn sysctls(pod: &Pod) -> Vec<String> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let all = context.and_then(|context| context.sysctls.as_ref());
    all.map(|all| all.iter().map(|sysctl| sysctl.name.clone()).collect()).unwrap_or_default()
}

fn restart_hash(pod: &Pod) -> Option<String> {
    pod.annotations().get(RESTART_HASH_ANNOTATION).cloned()
}

fn has_not_ended(pod: &Pod) -> bool {
    !matches!(pod_phase(pod), "Succeeded" | "Failed")
}

fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

fn seen(pod: &Arc<Pod>, endpoints: &HashMap<String, bool>) -> SeenPod {
    let uid = pod.uid().unwrap_or_default();
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let container = container(pod);
    let state = container.and_then(|c| c.state.as_ref());
    let stopped =
        state.is_some_and(|s| s.running.is_none() && (s.waiting.is_some() || s.terminated.is_some()));
    SeenPod {
        ip: status.and_then(|s| s.pod_ip.clone()).filter(|ip| !ip.is_empty()),
        view: PodView {
            name: pod.name_any(),
            ready,
            pending: pod_phase(pod) == "Pending",
            dead: pod_phase(pod) == "Running" && !ready && stopped,
            restarts: container.map_or(0, |c| c.restart_count),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            created: created(pod),
            deletion_cost: pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse().ok()),
            endpoint_ready: endpoints.get(&uid).copied(),
            uid,
            sysctls: sysctls(pod),
            node: None,
        },
    }
}

/// What the kubelet says of the container with the node in it; another may be beside it, put there by an admission webhook.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|c| c.name == NODE_CONTAINER)
}

/// UID of each pod in a Service's EndpointSlices, and whether its endpoint is ready.
fn ready_endpoints(stores: &Stores, namespace: &str, service: &str) -> HashMap<String, bool> {
    let slices = stores.endpoints.children(&service_key(namespace, service));
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter());
    endpoints
        .filter_map(|endpoint| {
            let uid = endpoint.target_ref.as_ref()?.uid.clone()?;
            // Unset means ready (EndpointConditions).
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            Some((uid, ready))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use kube::core::PartialObjectMeta;
    use kube::runtime::reflector::{self, Store};
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use kube::Resource;

    use super::*;
    use crate::pulses::Pulses;
    use crate::store::{Family, LOOKED_AT};
    use crate::watches::{controller_uid, service_of};

    fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).unwrap()
    }

    fn owned(name: &str, uid: &str, kind: &str, owner: &str) -> Value {
        let owner =
            json!({"apiVersion": "v1", "kind": kind, "name": "any", "uid": owner, "controller": true});
        json!({"name": name, "namespace": "default", "uid": uid, "ownerReferences": [owner]})
    }

    fn store<K: Resource<DynamicType = ()> + Clone + 'static>(objects: Vec<K>) -> Store<K> {
        let (store, mut writer) = reflector::store();
        objects.into_iter().for_each(|object| writer.apply_watcher_event(&Event::Apply(object)));
        store
    }

    /// Fleets `f0`, `f1` and so on in one namespace, at rest, of two nodes each.
    fn fleets(count: usize) -> Stores {
        let (mut deployments, mut sets, mut pods, mut slices) = (vec![], vec![], vec![], vec![]);
        for fleet in 0..count {
            let names = Names::new(&format!("f{fleet}"));
            let (deployment, set) = (format!("d{fleet}"), format!("s{fleet}"));
            let meta = owned(&names.deployment(), &deployment, "ChannelCluster", "c");
            deployments.push(read::<Deployment>(json!({"metadata": meta})));
            let meta = owned(&set, &set, "Deployment", &deployment);
            sets.push(read::<PartialObjectMeta<_>>(json!({"metadata": meta})));
            for node in 0..2 {
                let uid = format!("p{fleet}-{node}");
                let mut meta = owned(&uid, &uid, "ReplicaSet", &set);
                meta["labels"] = json!(names.selector_labels(Component::Node));
                pods.push(read::<Pod>(json!({"metadata": meta, "status": {"phase": "Running"}})));
            }
            let mut meta = owned(&format!("e{fleet}"), &format!("e{fleet}"), "Service", "v");
            meta["labels"] = json!({"kubernetes.io/service-name": names.service()});
            let slice = json!({"metadata": meta, "addressType": "IPv4", "endpoints": []});
            slices.push(read::<EndpointSlice>(slice));
        }
        Stores {
            clusters: reflector::store().0,
            deployments: store(deployments),
            replica_sets: Family::of(sets, controller_uid),
            pods: Family::of(pods, controller_uid),
            endpoints: Family::of(slices, service_of),
            standings: Arc::default(),
            pulses: Pulses::default(),
        }
    }

    #[test]
    fn a_look_at_one_of_many_fleets_touches_no_other() {
        let looked_at = |count| {
            let (stores, names) = (fleets(count), Names::new("f0"));
            LOOKED_AT.set(0);
            assert_eq!(pods(&stores, "default", &names).len(), 2);
            assert_eq!(restart_hashes(&stores, "default", &names).len(), 2);
            assert!(rejected(&stores, "default", &names).is_empty());
            LOOKED_AT.get()
        };
        // Each look finds a ReplicaSet and two pods, and the first one an EndpointSlice.
        assert_eq!((looked_at(1), looked_at(2_000)), (10, 10));
    }
}
