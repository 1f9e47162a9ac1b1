//! Makes, finds and deletes the pods that try a fleet's unsafe sysctls.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use operator_core::build;
use operator_core::names::Names;
use operator_core::sysctl_probes::{Order, Pool, ProbePod};
use operator_core::validate::ValidatedCluster;
use tracing::{debug, info};

use crate::clock;
use crate::observe::is_owned;
use crate::shared::Shared;

/// What one fleet's loop knows of them besides what the API server tells.
#[derive(Debug, Default)]
pub struct Probes {
    /// Those that could not be made.
    refused: Vec<ProbePod>,
    /// Whether they were listed: an operator before this one may have left some.
    listed: bool,
}

impl Probes {
    /// Whether they were listed since this operator leads.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.listed
    }

    /// The probes of the ChannelCluster with this UID; none while the API server does not answer. They are few and live for
    /// seconds, so they are listed and not watched.
    pub async fn look(
        &mut self,
        shared: &Shared,
        namespace: &str,
        names: &Names,
        uid: &str,
    ) -> Vec<ProbePod> {
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
        let live = match api.list(&ListParams::default().labels(&names.probe_selector())).await {
            Ok(list) => {
                self.listed = true;
                list.items
            }
            Err(error) => {
                debug!(namespace, %error, "cannot list the pods that try sysctls");
                Vec::new()
            }
        };
        let mut seen: Vec<_> =
            live.iter().filter(|pod| is_owned(*pod, uid)).filter_map(ProbePod::of).collect();
        seen.extend(self.refused.iter().cloned());
        seen
    }

    /// Carries orders out for the spec that the probes are for. What fails is ordered again at the next look.
    pub async fn act(
        &mut self,
        shared: &Shared,
        cluster: Option<&ValidatedCluster>,
        namespace: &str,
        orders: Vec<Order>,
    ) {
        self.refused.clear();
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
        for order in orders {
            if shared.check().is_err() {
                return;
            }
            match (order, cluster) {
                (Order::Delete(name), _) => {
                    if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
                        debug!(namespace, name, %error, "cannot delete a pod that tried sysctls");
                    }
                }
                (Order::Make(pool), Some(cluster)) => self.make(&api, cluster, &pool).await,
                (Order::Make(_), None) => {}
            }
        }
    }

    async fn make(&mut self, api: &Api<Pod>, cluster: &ValidatedCluster, pool: &Pool) {
        let Some(wish) = cluster.sysctl_wish() else { return };
        let pod = build::probe(cluster, &wish, pool);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => info!(
                namespace = cluster.namespace,
                name = cluster.name,
                pool = pool.name(),
                "trying sysctls"
            ),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let words = match &error {
                    kube::Error::Api(status) => status.message.clone(),
                    other => other.to_string(),
                };
                debug!(namespace = cluster.namespace, name = cluster.name, %error, "cannot make a pod that tries sysctls");
                self.refused.push(ProbePod::refused(
                    pool.name(),
                    wish.key(),
                    &wish.names,
                    &words,
                    clock::now(),
                ));
            }
        }
    }
}
