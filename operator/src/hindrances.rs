//! Collects what keeps pods from starting: Deployments and pods come from the watches; Events of the few pods that
//! wait on their machine are asked for by the pod's UID.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use operator_core::hindrance::{self, FleetPart, Hindrance};
use operator_core::names::{Component, Names};
use tracing::debug;

use crate::observe::{self, is_owned};
use crate::pods::KeptPod;
use crate::shared::Shared;

/// Most pods whose Events are asked for in one look; the Events of one tell as much as those of all.
const MAX_ASKED: usize = 2;
/// Events that are read of one pod.
const MAX_EVENTS: u32 = 20;

/// The objects of one Deployment of a fleet.
struct Found {
    component: Component,
    deployment: Arc<Deployment>,
    pods: Vec<Arc<KeptPod>>,
    events: Vec<Event>,
}

/// What hinders the fleet of the ChannelCluster with `uid` at `now` (milliseconds since 1970). `leaving` are the UIDs of the
/// pods that the operator has taken out of service.
pub async fn look(
    shared: &Shared,
    namespace: &str,
    names: &Names,
    uid: &str,
    leaving: &HashSet<String>,
    now: u64,
) -> Vec<Hindrance> {
    let nodes = observe::node_deployments(&shared.stores, namespace, names, uid);
    let nodes = nodes.into_iter().map(|deployment| (Component::Node, deployment));
    let nats = deployment(shared, namespace, &names.nats(), uid).map(|nats| (Component::Nats, nats));
    let mut found = Vec::with_capacity(2);
    for (component, deployment) in nodes.chain(nats) {
        let mut pods = observe::pods_of(&shared.stores, namespace, names, component, &deployment);
        pods.retain(|pod| !leaving.contains(&pod.view.uid));
        let events = events(shared, namespace, &pods, now).await;
        found.push(Found { component, deployment, pods, events });
    }
    let pods: Vec<Vec<&Pod>> = found.iter().map(|found| unwell(&found.pods).collect()).collect();
    let parts: Vec<_> = found
        .iter()
        .zip(&pods)
        .map(|(found, pods)| FleetPart {
            component: found.component,
            deployment: Some(&found.deployment),
            pods,
            events: &found.events,
        })
        .collect();
    hindrance::find(&parts, now)
}

/// A Deployment that the ChannelCluster with `uid` owns.
#[must_use]
pub fn deployment(shared: &Shared, namespace: &str, name: &str, uid: &str) -> Option<Arc<Deployment>> {
    shared.stores.deployments.get(namespace, name).filter(|live| is_owned(live.as_ref(), uid))
}

/// The pods that may have something to tell.
fn unwell(pods: &[Arc<KeptPod>]) -> impl Iterator<Item = &Pod> {
    pods.iter().filter_map(|pod| pod.unwell.as_deref())
}

async fn events(shared: &Shared, namespace: &str, pods: &[Arc<KeptPod>], now: u64) -> Vec<Event> {
    let waiting = unwell(pods).filter(|pod| hindrance::waits_for_machine(pod, now)).take(MAX_ASKED);
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
