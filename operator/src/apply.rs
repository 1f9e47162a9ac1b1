//! Writes a bundle: server-side apply in the bundle's order, and the removal of what a spec no longer asks for once no node
//! uses it. An object of that name that is not ours is never touched.
//!
//! The node count has a field manager of its own. The bundle's is applied once, by that manager, when the Deployment is
//! made; from then on this file leaves the field out and only scaling writes it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use operator_core::build::{self, Bundle, NatsBundle};
use operator_core::names::FIELD_MANAGER;
use operator_core::validate::ValidatedCluster;
use rand::distr::{Alphanumeric, SampleString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::{Fenced, Shared};
use crate::fetch::is_owned;
use crate::observe;

/// Field manager of the node count.
pub const SCALING_MANAGER: &str = "channel-operator-scaling";
/// Length of generated secrets, in letters and digits: 190 bits.
const SECRET_LENGTH: usize = 32;

/// Why a bundle could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of that name belongs to somebody else.
    #[error(
        "{kind} {name} exists and is not ours: delete or rename it, or choose another name for the ChannelCluster"
    )]
    NotOurs {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server refused or did not answer.
    #[error("cannot write {what}: {source}")]
    Api {
        /// Kind and name.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// This process no longer leads.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

/// What an apply has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: all is as the spec says.
    Whole,
    /// What nodes of the spec before still use. Apply again when they may be gone.
    Leftovers,
}

/// Applies everything of a cluster; `replicas` counts only when the Deployment does not exist yet.
///
/// # Errors
/// The first object that could not be written.
pub async fn apply(
    shared: &Shared,
    cluster: &ValidatedCluster,
    replicas: i32,
) -> Result<Applied, ApplyError> {
    // On the heap: the future of all these requests is some 20 kB.
    Box::pin(Applier { shared, cluster }.all(replicas)).await
}

struct Applier<'a> {
    shared: &'a Shared,
    cluster: &'a ValidatedCluster,
}

impl Applier<'_> {
    async fn all(&self, replicas: i32) -> Result<Applied, ApplyError> {
        // No `..`: an object that nobody applies does not compile.
        let Bundle { service_account, config_map, network_policy, nats, headless, service, pdb, deployment } =
            build::bundle(self.cluster, replicas);
        // Nothing is written before every name is known to be free or ours.
        let has_secret = self.exists::<Secret>(&self.cluster.names.secret()).await?;
        let has_nodes = self.exists::<Deployment>(&deployment.name_any()).await?;
        self.exists::<ServiceAccount>(&service_account.name_any()).await?;
        self.exists::<ConfigMap>(&config_map.name_any()).await?;
        self.exists::<NetworkPolicy>(&network_policy.name_any()).await?;
        self.exists::<Service>(&headless.name_any()).await?;
        self.exists::<Service>(&service.name_any()).await?;
        self.exists::<PodDisruptionBudget>(&pdb.name_any()).await?;
        if let Some(nats) = &nats {
            self.exists::<ConfigMap>(&nats.config_map.name_any()).await?;
            self.exists::<NetworkPolicy>(&nats.network_policy.name_any()).await?;
            self.exists::<Service>(&nats.service.name_any()).await?;
            self.exists::<Deployment>(&nats.deployment.name_any()).await?;
        }

        if !has_secret {
            self.secret().await?;
        }
        self.one(&service_account).await?;
        self.one(&config_map).await?;
        self.one(&network_policy).await?;
        let has_nats = nats.is_some();
        if let Some(NatsBundle { config_map, network_policy, service, deployment }) = nats {
            self.one(&config_map).await?;
            self.one(&network_policy).await?;
            self.one(&service).await?;
            self.one(&deployment).await?;
        }
        self.one(&headless).await?;
        self.one(&service).await?;
        self.one(&pdb).await?;
        let nodes = self.nodes(deployment, !has_nodes).await?;
        if has_nats { Ok(Applied::Whole) } else { self.no_nats(self.moved(&nodes)).await }
    }

    /// Removes the managed NATS, if nodes have `moved` away from it.
    async fn no_nats(&self, moved: bool) -> Result<Applied, ApplyError> {
        let name = self.cluster.names.nats();
        let left = [
            self.remove::<Deployment>(&name, moved).await?,
            self.remove::<Service>(&name, moved).await?,
            self.remove::<NetworkPolicy>(&name, moved).await?,
            self.remove::<ConfigMap>(&name, moved).await?,
        ];
        Ok(if left.contains(&Applied::Leftovers) { Applied::Leftovers } else { Applied::Whole })
    }

    /// Whether every node is one of this spec. A node that leaves no longer counts in the Deployment's status and still
    /// uses what it was made with, hence the look at the pods.
    fn moved(&self, nodes: &Deployment) -> bool {
        let status = nodes.status.clone().unwrap_or_default();
        let wanted = nodes.spec.as_ref().and_then(|spec| spec.replicas);
        let ValidatedCluster { namespace, names, restart_hash, .. } = self.cluster;
        let pods = observe::restart_hashes(&self.shared.stores, namespace, names);
        status.observed_generation >= nodes.metadata.generation
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && i32::try_from(pods.len()).ok() >= wanted
            && pods.iter().all(|hash| hash.as_ref() == Some(restart_hash))
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.shared.client.clone(), &self.cluster.namespace)
    }

    /// Whether the object exists; refuses one that is not ours.
    async fn exists<K>(&self, name: &str) -> Result<bool, ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let live = self.api::<K>().get_metadata_opt(name).await.map_err(|e| failed::<K>(name, e))?;
        match live {
            None => Ok(false),
            Some(live) if is_owned(&live, &self.cluster.uid) => Ok(true),
            Some(_) => Err(ApplyError::NotOurs { kind: K::kind(&()).into_owned(), name: name.to_owned() }),
        }
    }

    async fn one<K>(&self, desired: &K) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        self.patch(&self.api::<K>(), desired, FIELD_MANAGER).await?;
        Ok(())
    }

    /// Gives the object as it is then.
    async fn patch<K>(&self, api: &Api<K>, desired: &K, manager: &str) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        self.shared.check()?;
        let name = desired.name_any();
        let params = PatchParams::apply(manager).force();
        api.patch(&name, &params, &Patch::Apply(desired)).await.map_err(|e| failed::<K>(&name, e))
    }

    async fn nodes(&self, mut desired: Deployment, new: bool) -> Result<Deployment, ApplyError> {
        let api = self.api::<Deployment>();
        let name = desired.name_any();
        let replicas = desired.spec.as_ref().and_then(|s| s.replicas);
        if new {
            self.patch(&api, &desired, SCALING_MANAGER).await?;
        }
        if let Some(spec) = &mut desired.spec {
            spec.replicas = None;
        }
        let applied = self.patch(&api, &desired, FIELD_MANAGER).await?;
        if new {
            // The scaling manager lets go of everything but the count.
            self.shared.check()?;
            let only = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name}, "spec": {"replicas": replicas},
            });
            let params = PatchParams::apply(SCALING_MANAGER).force();
            api.patch(&name, &params, &Patch::Apply(only))
                .await
                .map_err(|e| failed::<Deployment>(&name, e))?;
        }
        Ok(applied)
    }

    /// Removes an object if it is ours, or says that it is there if this is not the time.
    async fn remove<K>(&self, name: &str, now: bool) -> Result<Applied, ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        let live = api.get_metadata_opt(name).await.map_err(|e| failed::<K>(name, e))?;
        let Some(live) = live.filter(|live| is_owned(live, &self.cluster.uid)) else {
            return Ok(Applied::Whole);
        };
        if !now {
            return Ok(Applied::Leftovers);
        }
        self.shared.check()?;
        let exactly = Preconditions { uid: live.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(exactly);
        match api.delete(name, &params).await {
            Ok(_) => Ok(Applied::Whole),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Applied::Whole),
            Err(error) => Err(failed::<K>(name, error)),
        }
    }

    /// Makes the Secret. It is never written again.
    async fn secret(&self) -> Result<(), ApplyError> {
        let api = self.api::<Secret>();
        let name = self.cluster.names.secret();
        self.shared.check()?;
        let secret = build::secret(self.cluster, &random_text(), &random_text());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&params, &secret).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed::<Secret>(&name, error)),
        }
    }
}

fn random_text() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH)
}

fn failed<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api { what: format!("{} {name}", K::kind(&())), source }
}
