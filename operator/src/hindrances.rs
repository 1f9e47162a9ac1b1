//! Collects what keeps pods from starting: Deployments and pods come from the watches; Events of the few pods that
//! wait on their machine are asked for by the pod's UID.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::ObjectRef;
use operator_core::hindrance::{self, FleetPart, Hindrance};
use operator_core::names::{Component, Names};
use tracing::debug;

use crate::observe::{self, is_owned};
use crate::shared::Shared;

/// Most pods whose Events are asked for in one look; the Events of one tell as much as those of all.
const MAX_ASKED: usize = 2;
/// Events that are read of one pod.
const MAX_EVENTS: u32 = 20;

/// The objects of one part of a fleet.
struct Found {
    component: Component,
    deployment: Option<Arc<Deployment>>,
    pods: Vec<Arc<Pod>>,
    events: Vec<Event>,
}

/// What hinders the fleet of the ChannelCluster with `uid` at `now` (milliseconds since 1970).
pub async fn look(shared: &Shared, namespace: &str, names: &Names, uid: &str, now: u64) -> Vec<Hindrance> {
    let mut found = Vec::with_capacity(2);
    for (component, name) in [(Component::Node, names.deployment()), (Component::Nats, names.nats())] {
        let deployment = deployment(shared, namespace, &name, uid);
        let pods = observe::pods_of(&shared.stores, namespace, names, component, &name);
        let events = events(shared, namespace, &pods, now).await;
        found.push(Found { component, deployment, pods, events });
    }
    let pods: Vec<Vec<&Pod>> = found.iter().map(|f| f.pods.iter().map(Arc::as_ref).collect()).collect();
    let parts: Vec<_> = found
        .iter()
        .zip(&pods)
        .map(|(found, pods)| FleetPart {
            component: found.component,
            deployment: found.deployment.as_deref(),
            pods,
            events: &found.events,
        })
        .collect();
    hindrance::find(&parts, now)
}

/// A Deployment that the ChannelCluster with `uid` owns.
#[must_use]
pub fn deployment(shared: &Shared, namespace: &str, name: &str, uid: &str) -> Option<Arc<Deployment>> {
    let key = ObjectRef::<Deployment>::new(name).within(namespace);
    shared.stores.deployments.get(&key).filter(|live| is_owned(live.as_ref(), uid))
}

async fn events(shared: &Shared, namespace: &str, pods: &[Arc<Pod>], now: u64) -> Vec<Event> {
    let waiting = pods.iter().filter(|pod| hindrance::waits_for_machine(pod, now)).take(MAX_ASKED);
    let api: Api<Event> = Api::namespaced(shared.client.clone(), namespace);
    let mut all = Vec::new();
    for pod in waiting {
        let Some(uid) = pod.uid() else { continue };
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(MAX_EVENTS);
        match api.list(&params).await {
            Ok(list) => all.extend(list.items),
            Err(error) => debug!(namespace, %error, "cannot read the Events of a pod"),
        }
    }
    all
}
