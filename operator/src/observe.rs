//! From watched objects to what the core decides on.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use operator_core::names::{Component, Names};
use operator_core::observation::DeploymentView;
use operator_core::pod::{PodView, has_ended};
use operator_core::refused::{self, Rejected};

use crate::watches::{Stores, service_key};

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

/// The Deployment of a cluster's nodes; one of that name which the ChannelCluster with `uid` does not own is not seen.
#[must_use]
pub fn deployment(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Option<SeenDeployment> {
    let key = ObjectRef::<Deployment>::new(&names.deployment()).within(namespace);
    let live = stores.deployments.get(&key).filter(|live| is_owned(live.as_ref(), uid))?;
    Some(SeenDeployment { view: DeploymentView::of(&live)?, resource_version: live.resource_version()? })
}

/// The node pods of a cluster that have not ended, terminating ones included.
#[must_use]
pub fn pods(stores: &Stores, namespace: &str, names: &Names) -> Vec<SeenPod> {
    let ready = ready_endpoints(stores, namespace, &names.service());
    let seen = |pod: &Arc<Pod>| SeenPod {
        ip: pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
        view: PodView::of(pod, pod.metadata.uid.as_ref().and_then(|uid| ready.get(uid).copied())),
    };
    let live = node_pods(stores, namespace, names);
    let mut pods: Vec<_> = live.iter().filter(|pod| !has_ended(pod)).map(seen).collect();
    pods.sort_by(|a, b| a.view.name.cmp(&b.view.name));
    pods
}

/// The node pods of a cluster that a kubelet rejected for a sysctl.
#[must_use]
pub fn rejected(stores: &Stores, namespace: &str, names: &Names) -> Vec<Rejected> {
    node_pods(stores, namespace, names).iter().filter_map(|pod| refused::by_kubelet(pod)).collect()
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
fn node_pods(stores: &Stores, namespace: &str, names: &Names) -> Vec<Arc<Pod>> {
    pods_of(stores, namespace, names, Component::Node, &names.deployment())
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
            assert!(rejected(&stores, "default", &names).is_empty());
            LOOKED_AT.get()
        };
        // Each look finds a ReplicaSet and two pods, and the first one an EndpointSlice.
        assert_eq!((looked_at(1), looked_at(2_000)), (7, 7));
    }
}
