//! One term of leadership: watches, the controller and, through its reconciles, the fleet loops. Dropping the future
//! ends all of them at their next await.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kube::core::DynamicObject;
use kube::runtime::controller::{self, applier};
use kube::runtime::reflector::ObjectRef;
use operator_core::validate::OperatorEnv;
use tracing::{info, warn};

use crate::claim::Claims;
use crate::context::Context;
use crate::events::Events;
use crate::lease::Fence;
use crate::metrics::{ClusterLabels, Metrics};
use crate::pending::{CONCURRENCY, Request};
use crate::pulses::{Pulses, Sight};
use crate::reconcile::{error_policy, reconcile};
use crate::scrape::Nodes;
use crate::shared::Shared;
use crate::watches::{self, Watches};

/// How often the watches are looked at.
const LOOK: Duration = Duration::from_secs(1);

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
    /// Where the watches of the term are made known.
    pub sight: Sight,
    /// Name of this process in Events.
    pub identity: String,
    /// Where this installation may act.
    pub claims: Arc<Claims>,
    /// Namespaces that are watched; none: all.
    pub namespaces: Arc<[String]>,
}

/// Makes [`Sight`] show no watches when the term ends.
struct Seeing(Sight);

impl Drop for Seeing {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// Leads until dropped, or until a watch has seen nothing for too long: then another process, which may see more,
/// should lead.
pub async fn run(term: Term) {
    let Term { client, fence, env, metrics, sight, identity, claims, namespaces } = term;
    let events = Events::new(client.clone(), identity);
    claims.look(&client, &events).await;
    let watches = watches::start(&client, &namespaces);
    let Watches { stores, pending, .. } = &watches;
    sight.set(Some(stores.pulses.clone()));
    let _seeing = Seeing(sight);
    let shared = Shared {
        events: events.clone(),
        claims: claims.clone(),
        nodes: Nodes::default(),
        contests: Arc::default(),
        written: Arc::default(),
        secrets: Arc::default(),
        client: client.clone(),
        fence: fence.clone(),
        env,
        stores: stores.clone(),
        pending: pending.clone(),
        metrics,
    };
    let context = Arc::new(Context::new(shared));
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let reconcile = |object, context| Box::pin(reconcile(object, context));
    let queue = Box::pin(pending.clone().stream());
    let reconciles =
        applier(reconcile, error_policy, context.clone(), stores.clusters.clone(), queue, config).for_each(
            |result| {
                match result {
                    Ok((of, _)) => pending.done(&of),
                    // The error policy has logged it.
                    Err(controller::Error::ReconcilerFailed(_, of)) => pending.done(&request(&of)),
                    Err(controller::Error::ObjectNotFound(gone)) => {
                        pending.done(&request(&gone));
                        context.stop(&ClusterLabels {
                            namespace: gone.namespace.unwrap_or_default(),
                            name: gone.name,
                        });
                    }
                    Err(error) => warn!(%error, "the controller's queue failed, trying again"),
                }
                std::future::ready(())
            },
        );
    let sync = async {
        stores.ready().await;
        info!("the watches are synced");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reconciles => warn!("the controller ended"),
        () = sync => {}
        () = claims.run(&client, &events) => {}
        (kind, age) = stale(&stores.pulses) => {
            warn!(kind, age_ms = age, "a watch has seen nothing for too long: leaving the lease to others");
            fence.stand_back();
        }
    }
}

/// What the controller was given.
fn request(of: &ObjectRef<DynamicObject>) -> Request {
    Request::new(&of.name).within(of.namespace.as_deref().unwrap_or_default())
}

/// Returns when a watch has seen nothing for too long.
async fn stale(pulses: &Pulses) -> (&'static str, u64) {
    loop {
        if let Some(stale) = pulses.stale() {
            return stale;
        }
        tokio::time::sleep(LOOK).await;
    }
}
