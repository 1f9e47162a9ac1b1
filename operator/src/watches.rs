//! What the leader watches, kept in memory: ChannelClusters, node Deployments, node pods, and the EndpointSlices of the
//! Services. Only objects with our label are asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crds::ChannelCluster;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource, ResourceExt};
use operator_core::names::FIELD_MANAGER;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// A ChannelCluster, or what could not be read as one.
pub type Guarded = DeserializeGuard<ChannelCluster>;

/// Label selector of everything that the operator made.
#[must_use]
pub fn ours() -> String {
    format!("app.kubernetes.io/managed-by={FIELD_MANAGER}")
}

/// Whether every watch has seen its first list.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<AtomicBool>);

impl Synced {
    /// The present state.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets it.
    pub fn set(&self, synced: bool) {
        self.0.store(synced, Ordering::Release);
    }
}

/// What is there, as far as it is known.
#[derive(Clone, Debug)]
pub struct Stores {
    /// ChannelClusters.
    pub clusters: Store<Guarded>,
    /// Deployments of nodes and NATS.
    pub deployments: Store<Deployment>,
    /// Pods of nodes and NATS.
    pub pods: Store<Pod>,
    /// Endpoints of the Services.
    pub endpoints: Store<EndpointSlice>,
}

impl Stores {
    /// A ChannelCluster that can be read.
    #[must_use]
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<Guarded>> {
        self.clusters.get(&ObjectRef::new(name).within(namespace))
    }

    /// Waits for the first lists.
    pub async fn ready(&self) {
        let _writers_live_as_long_as_we = tokio::join!(
            self.clusters.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.endpoints.wait_until_ready(),
        );
    }
}

/// Watches that only fill a store; dropping them ends them.
pub struct Background {
    _pods: AbortOnDropHandle<()>,
    _endpoints: AbortOnDropHandle<()>,
}

/// A stream of objects that trigger reconciles.
pub type Trigger<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// What [`start`] starts.
pub struct Watches {
    /// What is there.
    pub stores: Stores,
    /// Fills the stores that trigger nothing.
    pub background: Background,
    /// A ChannelCluster is new, or its spec changed, or what its pods are to be made without. Fills its store while it is polled.
    pub clusters: Trigger<Guarded>,
    /// A Deployment's spec changed, or it is gone. Fills its store while it is polled.
    pub deployments: Trigger<Deployment>,
}

/// Starts everything.
#[must_use]
pub fn start(client: &Client) -> Watches {
    let (clusters, write_clusters) = reflector::store();
    let (deployments, write_deployments) = reflector::store();
    let cluster_events = watch(Api::all(client.clone()), watcher::Config::default());
    let labelled = watcher::Config::default().labels(&ours());
    let deployment_events = watch(Api::<Deployment>::all(client.clone()), labelled);
    let (pods, pods_task) = keep::<Pod>(client);
    let (endpoints, endpoints_task) = keep::<EndpointSlice>(client);
    Watches {
        stores: Stores { clusters, deployments, pods, endpoints },
        background: Background {
            _pods: AbortOnDropHandle::new(pods_task),
            _endpoints: AbortOnDropHandle::new(endpoints_task),
        },
        clusters: spec_changes(cluster_events.default_backoff().reflect(write_clusters), left_out).boxed(),
        deployments: spec_changes(
            deployment_events.default_backoff().modify(slim).reflect(write_deployments),
            |_| Vec::new(),
        )
        .boxed(),
    }
}

fn slim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn keep<K>(client: &Client) -> (Store<K>, JoinHandle<()>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().labels(&ours());
    let stream = watch(Api::<K>::all(client.clone()), config).default_backoff().modify(slim).reflect(writer);
    let task = tokio::spawn(stream.for_each(|event| async move {
        if let Err(error) = event {
            warn!(kind = %K::kind(&()), %error, "watch failed, trying again");
        }
    }));
    (store, task)
}

/// Sysctls that pods are to be made without: the part of a status that the pods depend on.
fn left_out(cluster: &Guarded) -> Vec<String> {
    let status = cluster.0.as_ref().ok().and_then(|cluster| cluster.status.as_ref());
    status.and_then(|s| s.refused_sysctls.as_ref()).map(|r| r.left_out.clone()).unwrap_or_default()
}

/// Objects whose generation, or what `also` reads of them, is new, and objects that are gone. Other status writes, ours
/// among them, pass by.
fn spec_changes<K: Resource + Clone>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    also: impl Fn(&K) -> Vec<String>,
) -> impl Stream<Item = Result<K, watcher::Error>> {
    let mut generations: HashMap<String, (Option<i64>, bool, Vec<String>)> = HashMap::new();
    events.filter_map(move |event| {
        let passes = match event {
            Err(error) => Some(Err(error)),
            Ok(Event::Delete(object)) => {
                generations.remove(&object.uid().unwrap_or_default());
                Some(Ok(object))
            }
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let meta = object.meta();
                let version = (meta.generation, meta.deletion_timestamp.is_some(), also(&object));
                let before = generations.insert(object.uid().unwrap_or_default(), version.clone());
                (before != Some(version)).then_some(Ok(object))
            }
            Ok(Event::Init) => {
                generations.clear(); // a new list: look at everything again
                None
            }
            Ok(Event::InitDone) => None,
        };
        std::future::ready(passes)
    })
}
