//! The leader's watches, and which objects are kept in memory. Only objects with our label are asked for, and of each only
//! the fields that are read are kept, see [`pruned`](crate::pruned).

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Client, Resource};
use operator_core::names::{Component, FIELD_MANAGER};
use operator_core::{refused, user_ids};
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use crate::machines::{self, Machines};
use crate::pending::{Guarded, Pending, Request};
use crate::pods::KeptPod;
use crate::pruned;
use crate::pulses::{Pulse, Pulses};
use crate::shelf::Shelf;
use crate::standings::Standings;
use crate::store::{Clusters, Filler, Kept, Rules, Sink, Unread};
use crate::watch::Source;

/// Label of an EndpointSlice with the name of its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Label selector of everything that the operator made.
#[must_use]
pub fn ours() -> String {
    format!("app.kubernetes.io/managed-by={FIELD_MANAGER}")
}

/// Kind of the watch of the Deployments, as its pulse says it.
pub const DEPLOYMENTS: &str = "deployments";

/// The objects that are there, as far as they are known.
#[derive(Clone, Debug)]
pub struct Stores {
    /// ChannelClusters.
    pub clusters: Store<Guarded>,
    /// Deployments of nodes and NATS, by the UID of their ChannelCluster.
    pub deployments: Shelf<Deployment>,
    /// UIDs of ReplicaSets, by the UID of their Deployment.
    pub replica_sets: Shelf<String>,
    /// Pods of nodes and NATS, by the UID of their ReplicaSet.
    pub pods: Shelf<KeptPod>,
    /// Endpoints, by [`service_key`] of their Service.
    pub endpoints: Shelf<Endpoints>,
    /// The machines.
    pub machines: Machines,
    /// The standing of each object that the operator applies, by kind.
    pub standings: Arc<HashMap<String, Standings>>,
    /// How well all of these are known.
    pub pulses: Pulses,
}

impl Stores {
    /// The ChannelCluster of this name, if it can be read.
    #[must_use]
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.clusters.get(&ObjectRef::new(name).within(namespace))
    }

    /// The standing of an object that the operator applies; none when it is not seen.
    #[must_use]
    pub fn standing(&self, kind: &str, namespace: &str, name: &str) -> Option<u64> {
        self.standings.get(kind).and_then(|all| all.of(namespace, name))
    }

    /// Waits for the first lists.
    pub async fn ready(&self) {
        let _writers_live_as_long_as_we = tokio::join!(
            self.clusters.wait_until_ready(),
            self.deployments.ready(),
            self.replica_sets.ready(),
            self.pods.ready(),
            self.endpoints.ready(),
        );
    }
}

/// The watches that [`start`] starts. Dropping this ends them.
pub struct Watches {
    /// The objects that the watches see.
    pub stores: Stores,
    /// The ChannelClusters that are to be reconciled.
    pub pending: Arc<Pending>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// Starts everything, each watch in a task of its own; `namespaces`: empty for all.
#[must_use]
pub fn start(client: &Client, namespaces: &[String]) -> Watches {
    let mut starting = Starting {
        client: client.clone(),
        namespaces: namespaces.to_vec(),
        pending: Arc::default(),
        tasks: Vec::new(),
        pulses: Vec::new(),
        standings: HashMap::new(),
    };
    let (clusters, writer) = reflector::store();
    starting.watch("channelclusters", "", false, clusters_rules(), Box::new(Clusters::new(writer)));
    let deployments = starting.keep(DEPLOYMENTS, false, deployment_rules(), |deployment| deployment);
    let replica_sets = starting.keep("replicasets", true, replica_set_rules(), uid_of);
    let pods = starting.keep("pods", false, pod_rules(), KeptPod::of);
    let endpoints = starting.keep("endpointslices", false, endpoint_rules(), endpoints_of);
    starting.trigger::<Service>("services");
    starting.trigger::<ConfigMap>("configmaps");
    starting.trigger::<ServiceAccount>("serviceaccounts");
    starting.trigger::<PodDisruptionBudget>("poddisruptionbudgets");
    starting.trigger::<NetworkPolicy>("networkpolicies");
    let machines = starting.machines();
    let pulses = Pulses::new(starting.pulses);
    Watches {
        stores: Stores {
            clusters,
            deployments,
            replica_sets,
            pods,
            endpoints,
            machines,
            standings: Arc::new(starting.standings),
            pulses,
        },
        pending: starting.pending,
        _tasks: starting.tasks,
    }
}

struct Starting {
    client: Client,
    namespaces: Vec<String>,
    pending: Arc<Pending>,
    tasks: Vec<AbortOnDropHandle<()>>,
    pulses: Vec<Arc<Pulse>>,
    standings: HashMap<String, Standings>,
}

impl Starting {
    fn watch<K>(
        &mut self,
        kind: &'static str,
        labels: &str,
        metadata_only: bool,
        rules: Rules<K>,
        sink: Box<dyn Sink<K>>,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let scopes: Vec<Option<String>> = match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let filler = Filler::new(rules, sink, scopes.len(), self.pending.clone());
        if rules.stands {
            self.standings.insert(K::kind(&()).into_owned(), filler.standings());
        }
        let filler = Arc::new(Mutex::new(filler));
        for (number, namespace) in scopes.into_iter().enumerate() {
            let pulse = Arc::new(Pulse::new(kind, namespace.as_deref()));
            let source = Source {
                client: self.client.clone(),
                namespace,
                labels: labels.to_owned(),
                metadata_only,
                filler: filler.clone(),
                number,
                pulse: pulse.clone(),
                without: None,
            };
            self.pulses.push(pulse);
            self.tasks.push(AbortOnDropHandle::new(tokio::spawn(source.run())));
        }
    }

    /// Watches objects of ours, and keeps of each what `make` makes of it.
    fn keep<K, T>(
        &mut self,
        kind: &'static str,
        metadata_only: bool,
        rules: Rules<K>,
        make: fn(K) -> T,
    ) -> Shelf<T>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let shelf = Shelf::default();
        let sink = Kept { shelf: shelf.clone(), make };
        self.watch(kind, &ours(), metadata_only, rules, Box::new(sink));
        shelf
    }

    /// Watches the machines, which are of no namespace. An operator of single namespaces may have no right to see them, so this
    /// watch has no part in what the operator has to see.
    fn machines(&mut self) -> Machines {
        let shelf = Shelf::default();
        let sink = Kept { shelf: shelf.clone(), make: |node| node };
        let filler = Filler::new(machines::rules(), Box::new(sink), 1, self.pending.clone());
        let pulse = Arc::new(Pulse::new("nodes", None));
        let source = Source {
            client: self.client.clone(),
            namespace: None,
            labels: String::new(),
            metadata_only: false,
            filler: Arc::new(Mutex::new(filler)),
            number: 0,
            pulse: pulse.clone(),
            without: Some("a look at the machines: nodes of machines that go are not replaced ahead"),
        };
        self.tasks.push(AbortOnDropHandle::new(tokio::spawn(source.run())));
        Machines::new(shelf, pulse)
    }

    /// Watches objects that the operator does not read; when one of ours changes or is gone, its owner is looked at.
    fn trigger<K>(&mut self, kind: &'static str)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.watch::<PartialObjectMeta<K>>(kind, &ours(), true, trigger_rules::<K>(), Box::new(Unread));
    }
}

/// The ChannelCluster that owns an object.
fn owner(object: &impl Resource) -> Option<Request> {
    let owner = owner_reference(object)?;
    Some(ObjectRef::new(&owner.name).within(object.meta().namespace.as_deref()?))
}

fn owner_reference(object: &impl Resource) -> Option<&OwnerReference> {
    let group = format!("{}/", crds::GROUP);
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.kind == "ChannelCluster" && owner.api_version.starts_with(&group))
}

/// UID of the ChannelCluster that owns an object.
#[must_use]
pub fn cluster_uid<K: Resource>(object: &K) -> Option<String> {
    owner_reference(object).map(|owner| owner.uid.clone())
}

/// UID of the controller that makes and replaces an object.
#[must_use]
pub fn controller_uid<K: Resource>(object: &K) -> Option<String> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
}

/// The key of a Service's endpoints.
#[must_use]
pub fn service_key(namespace: &str, service: &str) -> String {
    format!("{namespace}/{service}")
}

/// [`service_key`] of the Service that an EndpointSlice is of.
#[must_use]
pub fn service_of(slice: &EndpointSlice) -> Option<String> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(service_key(slice.metadata.namespace.as_deref()?, service))
}

/// Whether a controller of that kind makes and replaces the object.
fn controlled(object: &impl Resource, kind: &str) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.kind == kind)
}

/// A value that changes with the object's spec and when its deletion begins, and not with writes of its status. For
/// objects without a generation it changes with every write.
fn spec_version(object: &impl Resource) -> String {
    let meta = object.meta();
    let deleted = meta.deletion_timestamp.is_some();
    match meta.generation {
        Some(generation) => format!("{generation} {deleted}"),
        None => format!("{:?} {deleted}", meta.resource_version),
    }
}

fn clusters_rules() -> Rules<Guarded> {
    Rules {
        keep: |_| true,
        prune: pruned::cluster,
        version: |cluster| format!("{} {}", spec_version(cluster), left_out(cluster)),
        about: |cluster| Some(ObjectRef::from_obj(cluster)),
        parent: |_| None,
        stands: false,
    }
}

/// What pods are to be made without: the part of a status on which the pods depend.
fn left_out(cluster: &Guarded) -> String {
    let Ok(cluster) = &cluster.0 else { return String::new() };
    let ids = [Component::Node, Component::Nats].map(|part| user_ids::left_out(cluster, part));
    let rollout = cluster.status.as_ref().and_then(|status| status.rollout.as_ref());
    let back = rollout.and_then(|rollout| rollout.rolled_back.as_ref()).map(|back| (&back.from, &back.to));
    let tried = cluster.status.as_ref().and_then(|status| status.sysctl_probes.as_ref());
    let tried = tried.map(|tried| {
        (&tried.tuning, &tried.names, tried.pools.iter().map(|p| p.verdict).collect::<Vec<_>>())
    });
    format!("{:?} {ids:?} {back:?} {tried:?}", refused::left_out(cluster))
}

fn deployment_rules() -> Rules<Deployment> {
    Rules {
        keep: |deployment| owner(deployment).is_some(),
        prune: pruned::deployment,
        version: |deployment| spec_version(deployment),
        about: |deployment| owner(deployment),
        parent: cluster_uid,
        stands: true,
    }
}

fn replica_set_rules() -> Rules<PartialObjectMeta<ReplicaSet>> {
    Rules {
        keep: |set| controlled(set, "Deployment"),
        prune: pruned::unread,
        version: |_| String::new(),
        about: |_| None,
        parent: controller_uid,
        stands: false,
    }
}

fn pod_rules() -> Rules<Pod> {
    Rules {
        keep: |pod| controlled(pod, "ReplicaSet"),
        prune: pruned::pod,
        version: |_| String::new(),
        about: |_| None,
        parent: controller_uid,
        stands: false,
    }
}

fn endpoint_rules() -> Rules<EndpointSlice> {
    Rules {
        keep: |slice| controlled(slice, "Service"),
        prune: pruned::slice,
        version: |_| String::new(),
        about: |_| None,
        parent: service_of,
        stands: false,
    }
}

/// Which pod each endpoint of a slice is, by UID, and whether it is ready.
pub type Endpoints = Vec<(String, bool)>;

/// What is read of an EndpointSlice.
#[must_use]
pub fn endpoints_of(slice: EndpointSlice) -> Endpoints {
    let pods = slice.endpoints.into_iter().filter_map(|endpoint| {
        // Unset means ready (EndpointConditions).
        let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        Some((endpoint.target_ref?.uid?, ready))
    });
    pods.collect()
}

/// The UID of a ReplicaSet.
#[must_use]
pub fn uid_of(object: PartialObjectMeta<ReplicaSet>) -> String {
    object.metadata.uid.unwrap_or_default()
}

fn trigger_rules<K: Resource<DynamicType = ()>>() -> Rules<PartialObjectMeta<K>> {
    Rules {
        keep: |object| owner(object).is_some(),
        prune: pruned::unread,
        version: |object| spec_version(object),
        about: |object| owner(object),
        parent: |_| None,
        stands: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(owner: &Value) -> Deployment {
        let containers =
            json!([{"name": "node", "image": "a:1", "env": [{"name": "A", "value": "x".repeat(1_000_000)}]}]);
        serde_json::from_value(json!({
            "metadata": {"name": "chat-node", "namespace": "default", "ownerReferences": [owner],
                "labels": {"app.kubernetes.io/name": "a", "else": "b"}, "annotations": {"note": "y".repeat(1_000)}},
            "spec": {"replicas": 3, "selector": {}, "template": {"spec": {"containers": containers}}},
            "status": {"replicas": 2},
        }))
        .unwrap()
    }

    #[test]
    fn of_a_deployment_only_what_is_read_is_kept() {
        let owner = json!({"apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "name": "chat", "uid": "1"});
        let mut ours = deployment(&owner);
        let rules = deployment_rules();
        assert!((rules.keep)(&ours) && (rules.about)(&ours).is_some());
        (rules.prune)(&mut ours);
        assert!(serde_json::to_string(&ours).unwrap().len() < 600, "{ours:?}");
        assert_eq!(operator_core::observation::image(&ours).as_deref(), Some("a:1"));
        assert_eq!(ours.spec.unwrap().replicas, Some(3));
        assert_eq!(ours.metadata.labels.unwrap().len(), 1);
    }

    #[test]
    fn of_a_pod_its_own_tolerations_are_kept() {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": [],
            "tolerations": [{"key": "k", "operator": "Exists"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}}))
        .unwrap();
        (pod_rules().prune)(&mut pod);
        assert_eq!(pod.spec.unwrap().tolerations.map(|all| all.len()), Some(1));
    }

    #[test]
    fn what_no_channelcluster_owns_is_dropped() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ChannelCluster", "name": "chat", "uid": "1"});
        assert!(!(deployment_rules().keep)(&deployment(&owner)), "another group's");
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert!(!(pod_rules().keep)(&pod));
    }
}
