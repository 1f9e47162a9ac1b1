//! One term of leadership: watches, the controller and, through its reconciles, the fleet loops. Dropping the future ends
//! all of them at their next await.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::Api;
use kube::runtime::{Controller, controller, watcher};
use operator_core::validate::OperatorEnv;
use tracing::{info, warn};

use crate::context::{Context, Shared};
use crate::events::Events;
use crate::lease::Fence;
use crate::metrics::{ClusterLabels, Metrics};
use crate::reconcile::{error_policy, reconcile};
use crate::scrape::Nodes;
use crate::watches::{self, Synced, Watches};

/// Reconciles at a time.
const CONCURRENCY: u16 = 16;
/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// What a term needs from the process.
#[derive(Clone)]
pub struct Term {
    /// Client of the API server.
    pub client: Client,
    /// Whether this process leads.
    pub fence: Arc<Fence>,
    /// What the operator knows by itself.
    pub env: Arc<OperatorEnv>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Set once the watches are synced.
    pub synced: Synced,
    /// Name of this process in Events.
    pub identity: String,
}

/// Leads until dropped.
pub async fn run(term: Term) {
    let Term { client, fence, env, metrics, synced, identity } = term;
    synced.set(false);
    let Watches { stores, background: _background, clusters, deployments } = watches::start(&client);
    let shared = Shared {
        events: Events::new(client.clone(), identity),
        nodes: Nodes::default(),
        secrets: Arc::default(),
        client: client.clone(),
        fence,
        env,
        stores: stores.clone(),
        metrics,
    };
    let context = Arc::new(Context::new(shared));
    let labelled = || watcher::Config::default().labels(&watches::ours());
    let reconciles = Controller::for_stream(clusters, stores.clusters.clone())
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns_stream(deployments)
        .owns(Api::<Service>::all(client.clone()), labelled())
        .owns(Api::<ConfigMap>::all(client.clone()), labelled())
        .owns(Api::<ServiceAccount>::all(client.clone()), labelled())
        .owns(Api::<PodDisruptionBudget>::all(client.clone()), labelled())
        .owns(Api::<NetworkPolicy>::all(client), labelled())
        .run(reconcile, error_policy, context.clone())
        .for_each(|result| {
            match result {
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {} // said by the error policy
                Err(controller::Error::ObjectNotFound(gone)) => context
                    .stop(&ClusterLabels { namespace: gone.namespace.unwrap_or_default(), name: gone.name }),
                Err(error) => warn!(%error, "the controller's queue failed, trying again"),
            }
            std::future::ready(())
        });
    let sync = async {
        stores.ready().await;
        synced.set(true);
        info!("the watches are synced");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reconciles => warn!("the controller ended"),
        () = sync => {}
    }
    synced.set(false);
}
