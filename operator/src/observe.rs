//! From watched objects to what the core decides on.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use operator_core::names::{Component, Names};
use operator_core::observation::DeploymentView;
use operator_core::pod::PodView;
use operator_core::refused::{self, Rejected};
use operator_core::templates::Made;

use crate::pods::{KeptPod, Part};
use crate::watches::{Stores, service_key};

/// The node pods of a cluster, with their addresses.
#[derive(Clone, Debug, Default)]
pub struct SeenPods {
    /// What the core reads, by name.
    pub views: Vec<PodView>,
    /// The pods in the same order, which have the addresses.
    kept: Vec<Arc<KeptPod>>,
}

impl SeenPods {
    /// The IP of each pod, once it has one, with what the core reads.
    pub fn addressed(&self) -> impl Iterator<Item = (&PodView, Option<&str>)> {
        self.views.iter().zip(&self.kept).map(|(view, pod)| (view, pod.ip.as_deref()))
    }
}

/// A Deployment of nodes.
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

/// The Deployments of a cluster's nodes which the ChannelCluster with `uid` owns, the newest first: that one is current.
/// A Deployment that is being deleted is none of them.
#[must_use]
pub fn node_deployments(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Vec<Arc<Deployment>> {
    let is_node = |live: &Arc<Deployment>| {
        live.namespace().as_deref() == Some(namespace)
            && live.metadata.deletion_timestamp.is_none()
            && Made::of(&live.metadata).is_named(names)
    };
    let mut all: Vec<_> = stores.deployments.children(uid).into_iter().filter(is_node).collect();
    all.sort_by_cached_key(|live| Reverse(Made::of(&live.metadata).rank()));
    all
}

/// The Deployment that the nodes of a cluster are in, or came to be in last.
#[must_use]
pub fn current(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Option<Arc<Deployment>> {
    node_deployments(stores, namespace, names, uid).into_iter().next()
}

/// The same as the decisions see them, the current one first.
#[must_use]
pub fn deployments(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Vec<SeenDeployment> {
    let live = node_deployments(stores, namespace, names, uid).into_iter().enumerate();
    live.filter_map(|(index, live)| {
        let view = DeploymentView::of(&live, index == 0)?;
        Some(SeenDeployment { view, resource_version: live.resource_version()? })
    })
    .collect()
}

/// The node pods of a cluster that have not ended, terminating ones included.
#[must_use]
pub fn pods(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> SeenPods {
    let ready = ready_endpoints(stores, namespace, &names.service());
    let mut live = node_pods(stores, namespace, names, uid);
    live.retain(|(pod, _)| !pod.has_ended());
    live.sort_by(|(a, _), (b, _)| a.view.name.cmp(&b.view.name));
    let view = |(pod, deployment): &(Arc<KeptPod>, Arc<Deployment>)| PodView {
        deployment: deployment.name_any(),
        endpoint_ready: ready.get(&pod.view.uid).copied(),
        ..pod.view.clone()
    };
    let mut views: Vec<PodView> = live.iter().map(view).collect();
    stores.machines.judge(&mut views);
    SeenPods { views, kept: live.into_iter().map(|(pod, _)| pod).collect() }
}

/// The node pods of a cluster that a kubelet rejected for a sysctl.
#[must_use]
pub fn rejected(stores: &Stores, namespace: &str, names: &Names, uid: &str) -> Vec<Rejected> {
    let all = node_pods(stores, namespace, names, uid);
    let template = |deployment: &Deployment| Made::of(&deployment.metadata).template;
    let unwell = all.iter().filter_map(|(pod, of)| Some((pod.unwell.as_deref()?, of)));
    unwell.filter_map(|(pod, of)| refused::by_kubelet(pod, template(of).as_deref())).collect()
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
    deployment: &Deployment,
) -> Vec<Arc<KeptPod>> {
    let Some(deployment) = deployment.uid() else { return Vec::new() };
    let sets = stores.replica_sets.children(&deployment);
    let pods = sets.iter().flat_map(|set| stores.pods.children(set));
    let part = Part::of(namespace, names, component);
    pods.filter(|pod| pod.is_of(part)).collect()
}

/// Pods of the Deployments of nodes, each with its Deployment; those that have ended are among them.
#[must_use]
pub fn node_pods(
    stores: &Stores,
    namespace: &str,
    names: &Names,
    uid: &str,
) -> Vec<(Arc<KeptPod>, Arc<Deployment>)> {
    let of = |deployment: Arc<Deployment>| {
        let pods = pods_of(stores, namespace, names, Component::Node, &deployment);
        pods.into_iter().map(move |pod| (pod, deployment.clone()))
    };
    node_deployments(stores, namespace, names, uid).into_iter().flat_map(of).collect()
}

/// UID of each pod in a Service's EndpointSlices, and whether its endpoint is ready.
fn ready_endpoints(stores: &Stores, namespace: &str, service: &str) -> HashMap<String, bool> {
    let slices = stores.endpoints.children(&service_key(namespace, service));
    slices.iter().flat_map(|slice| slice.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use kube::core::PartialObjectMeta;
    use kube::runtime::reflector;
    use serde_json::{Value, json};

    use super::*;
    use crate::machines::Machines;
    use crate::pulses::Pulses;
    use crate::shelf::{LOOKED_AT, Shelf};
    use crate::watches::{cluster_uid, controller_uid, endpoints_of, service_of, uid_of};

    fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).unwrap()
    }

    fn owned(name: &str, uid: &str, kind: &str, owner: &str) -> Value {
        let owner =
            json!({"apiVersion": "v1", "kind": kind, "name": "any", "uid": owner, "controller": true});
        json!({"name": name, "namespace": "default", "uid": uid, "ownerReferences": [owner]})
    }

    /// Fleets `f0`, `f1` and so on in one namespace, at rest, of two nodes each.
    fn fleets(count: usize) -> Stores {
        let (mut deployments, mut sets, mut pods, mut slices) = (vec![], vec![], vec![], vec![]);
        for fleet in 0..count {
            let names = Names::new(&format!("f{fleet}"));
            let (deployment, set) = (format!("d{fleet}"), format!("s{fleet}"));
            let mut meta =
                owned(&names.first_deployment(), &deployment, "ChannelCluster", &format!("c{fleet}"));
            meta["ownerReferences"][0]["apiVersion"] = json!("channelcluster.io/v1alpha1");
            deployments.push(read::<Deployment>(json!({"metadata": meta})));
            let meta = owned(&set, &set, "Deployment", &deployment);
            sets.push(read::<PartialObjectMeta<ReplicaSet>>(json!({"metadata": meta})));
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
            deployments: Shelf::of(deployments, cluster_uid, |deployment| deployment),
            replica_sets: Shelf::of(sets, controller_uid, uid_of),
            pods: Shelf::of(pods, controller_uid, KeptPod::of),
            endpoints: Shelf::of(slices, service_of, endpoints_of),
            machines: Machines::unseen(),
            standings: Arc::default(),
            pulses: Pulses::default(),
        }
    }

    #[test]
    fn a_look_at_one_of_many_fleets_touches_no_other() {
        let looked_at = |count| {
            let (stores, names) = (fleets(count), Names::new("f0"));
            LOOKED_AT.set(0);
            assert_eq!(pods(&stores, "default", &names, "c0").views.len(), 2);
            assert!(rejected(&stores, "default", &names, "c0").is_empty());
            LOOKED_AT.get()
        };
        // Each look finds a Deployment, a ReplicaSet and two pods, and the first one an EndpointSlice.
        assert_eq!((looked_at(1), looked_at(2_000)), (9, 9));
    }
}
