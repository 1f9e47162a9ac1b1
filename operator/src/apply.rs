//! Writes a bundle: everything is looked at, then tried, then written with server-side apply in the bundle's order;
//! an object that the spec no longer asks for is removed once no node uses it. An object that is not ours is never
//! touched. An object that is to be as this process last applied it, and that has not changed since, is neither read
//! nor written.
//!
//! The node count has a field manager of its own. It is written here only when the Deployment is made; from then on
//! this file leaves the field out and only scaling writes it. Whatever comes between two writes, the records of which
//! manager has which field are put right before the next one ([`operator_core::ownership`]).

mod nodes;
mod piece;

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt};
use operator_core::build::{self, Bundle, NatsBundle};
use operator_core::contest::Part;
use operator_core::names::FIELD_MANAGER;
use operator_core::ownership::{self, Owner};
use operator_core::validate::ValidatedCluster;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use crate::ours::{ApplyError, Touched, adoption, failed, is_leftover, touched, whose};
use crate::secrets::{self, SecretSeen};
use crate::shared::Shared;
use crate::written::Left;

use piece::Piece;

/// Attempts to put right the records of field managers of an object that others write to.
const REPAIRS: u32 = 5;
/// Most refusals that are reported.
const MAX_REFUSALS: usize = 3;

/// What is left to do after an apply; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether objects that the last spec asked for, and that nodes still use, are there. The caller applies again
    /// when they may be gone.
    pub leftovers: bool,
    /// For how long an object is not written, since another manager keeps writing it too.
    pub contested: Option<Duration>,
}

/// What is known of a spec before it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was never applied: all of it is tried first, and any refusal ends the apply.
    New,
    /// It was applied, perhaps by another version of this program: all of it is tried first, and objects that the
    /// server does not refuse are written.
    Before,
    /// Exactly these objects were applied: they are written.
    Known,
}

/// Applies everything of a cluster; `replicas` counts only when the Deployment does not exist yet.
///
/// # Errors
/// The objects that could not be written.
pub async fn apply(
    shared: &Shared,
    cluster: &ValidatedCluster,
    replicas: i32,
    trial: Trial,
) -> Result<Applied, ApplyError> {
    // The future of all these requests is some 20 kB, so it is put on the heap.
    Box::pin(Applier { shared, cluster }.all(replicas, trial)).await
}

/// A text that differs when the spec, or another version of this program, makes other objects.
#[must_use]
pub fn fingerprint(cluster: &ValidatedCluster) -> String {
    build::fingerprint(cluster)
}

struct Applier<'a> {
    shared: &'a Shared,
    cluster: &'a ValidatedCluster,
}

impl Applier<'_> {
    async fn all(&self, replicas: i32, trial: Trial) -> Result<Applied, ApplyError> {
        let nodes = self.nodes(trial).await?;
        let (mut pieces, has_nats) = self.pieces(self.target(&nodes, replicas).await?)?;
        let target = pieces.last().map(|piece| piece.name.clone()).unwrap_or_default();
        // Nothing is written before every name is known to be free or ours.
        let secret = secrets::look(self.shared, self.cluster).await?;
        for piece in &mut pieces {
            match self.touched(piece.kind(), &piece.name) {
                Touched::No(left) => (piece.live, piece.left) = (Some(left.meta.clone()), Some(left)),
                Touched::Absent | Touched::Perhaps => self.look(piece).await?,
            }
        }
        if let Some(lost) = pieces.iter().find(|piece| piece.is_lost()) {
            let why =
                "has lost the note of its pod template, to which the fleet is to go back: change the spec";
            return Err(ApplyError::Refused(format!("{} {why}", lost.object())));
        }
        for piece in &mut pieces {
            if piece.leftover
                && let Some(live) = &piece.live
            {
                piece.live = Some(self.adopt(&self.api(piece), live, piece.counted).await?);
            }
        }
        for old in nodes.leftovers.iter().filter(|old| old.name.as_deref() != Some(&target)) {
            let resource = ApiResource::erase::<Deployment>(&());
            self.adopt(&self.dynamic(&resource), old, true).await?;
        }
        if trial != Trial::Known {
            let refused = self.rehearse(&pieces, &secret).await?;
            if !refused.is_empty() && trial == Trial::New {
                return Err(ApplyError::Refused(refused.join("; ")));
            }
        }
        let secret = secrets::ensure(self.shared, self.cluster, secret).await?;
        pieces.iter_mut().for_each(|piece| piece.mark(&secret));
        for piece in pieces.iter_mut().filter(|piece| piece.left.is_some()) {
            if !piece.stays() {
                // The object is to be written after all, which needs the records of its field managers.
                (piece.left, piece.live) = (None, None);
                self.look(piece).await?;
            }
        }
        let (nodes, contested) = self.write(&pieces, trial).await?;
        secrets::hurry(self.shared, self.cluster, &secret).await;
        self.prune(&target).await?;
        if self.cluster.mounted.api.is_none() {
            self.remove::<Service>(&self.cluster.names.api(), true).await?;
        }
        let leftovers = match nodes {
            Some(nodes) if !has_nats => self.no_nats(self.moved(&nodes)).await?,
            _ => false,
        };
        Ok(Applied { leftovers, contested })
    }

    /// The bundle in its order with this Deployment of nodes, and whether NATS is in it.
    fn pieces(&self, nodes: Piece) -> Result<(Vec<Piece>, bool), ApplyError> {
        // No `..`: a new object in the bundle does not compile until it is applied here.
        let Bundle {
            service_account,
            config_map,
            network_policy,
            nats,
            headless,
            service,
            api,
            pdb,
            deployment: _,
        } = build::bundle(self.cluster, 0);
        let mut pieces =
            vec![Piece::of(&service_account)?, Piece::of(&config_map)?, Piece::of(&network_policy)?];
        let has_nats = nats.is_some();
        if let Some(NatsBundle { config_map, network_policy, service, deployment }) = nats {
            pieces.push(Piece::of(&config_map)?);
            pieces.push(Piece::of(&network_policy)?);
            pieces.push(Piece::of(&service)?);
            pieces.push(Piece::of(&deployment)?);
        }
        pieces.extend([Piece::of(&headless)?, Piece::of(&service)?, Piece::of(&pdb)?]);
        pieces.extend(api.as_ref().map(Piece::of).transpose()?);
        pieces.push(nodes);
        Ok((pieces, has_nats))
    }

    /// Looks at the live object of a piece; refuses one that is not ours.
    async fn look(&self, piece: &mut Piece) -> Result<(), ApplyError> {
        let live = self.api(piece).get_metadata_opt(&piece.name).await.map_err(|e| piece.failed(e))?;
        let Some(live) = live else { return Ok(()) };
        piece.leftover = is_leftover(self.shared, self.cluster, piece.kind(), &piece.name, &live.metadata)?;
        piece.live = Some(live.metadata);
        piece.keep();
        Ok(())
    }

    fn api(&self, piece: &Piece) -> Api<DynamicObject> {
        self.dynamic(&piece.resource)
    }

    fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.shared.client.clone(), &self.cluster.namespace, resource)
    }

    /// Takes over an object that was made for a ChannelCluster of this name that is gone. Gives its metadata after that.
    async fn adopt(
        &self,
        api: &Api<DynamicObject>,
        live: &ObjectMeta,
        counted: bool,
    ) -> Result<ObjectMeta, ApplyError> {
        self.shared.check()?;
        let records = live.managed_fields.as_deref().unwrap_or_default();
        let patch = adoption(self.cluster, live, ownership::repair(records, counted, true).as_deref());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let name = live.name.clone().unwrap_or_default();
        let taken = api.patch(&name, &params, &Patch::Merge(patch)).await;
        let taken = taken.map_err(|source| ApplyError::Api { what: name.clone(), source })?;
        info!(namespace = self.cluster.namespace, name, "taken over");
        Ok(taken.metadata)
    }

    /// Has the server try everything without keeping it. Gives the refusals in the server's own words.
    async fn rehearse(&self, pieces: &[Piece], secret: &SecretSeen) -> Result<Vec<String>, ApplyError> {
        let params = PatchParams::apply(FIELD_MANAGER).force().dry_run();
        let mut refused = Vec::new();
        if let Some(error) = secrets::rehearse(self.shared, self.cluster, secret).await {
            refused.push(refusal(error)?);
        }
        for piece in pieces {
            let tried = self.api(piece).patch(&piece.name, &params, &Patch::Apply(piece.body())).await;
            if let Err(error) = tried {
                refused.push(refusal(piece.failed(error))?);
            }
        }
        refused.truncate(MAX_REFUSALS);
        Ok(refused)
    }

    /// Writes everything. A refused object was taken before, so the refusal does not keep the others from being
    /// written, except pods that use the refused object as their configuration. An unchanged object is not asked for,
    /// and a contested one is only read. Gives the nodes' Deployment, and for how long the first contested object
    /// waits.
    async fn write(
        &self,
        pieces: &[Piece],
        trial: Trial,
    ) -> Result<(Option<Deployment>, Option<Duration>), ApplyError> {
        let (mut refused, mut nodes) = (Vec::new(), None);
        let mut contested: Option<Duration> = None;
        let mut missing: Vec<&Piece> = Vec::new();
        for piece in pieces {
            if missing.iter().any(|other| piece.needs(other)) {
                continue;
            }
            let pause = self.pause(piece, trial);
            contested = contested.into_iter().chain(pause).min();
            if piece.left.is_some() {
                nodes = nodes.or_else(|| self.seen(piece));
                continue;
            }
            let live = match pause {
                Some(_) => self.api(piece).get(&piece.name).await.map_err(|error| piece.failed(error)),
                None => self.one(piece).await,
            };
            match live {
                Ok(live) if piece.counted => nodes = live.try_parse().ok(),
                Ok(_) => {}
                Err(error) => {
                    refused.push(refusal(error)?);
                    missing.push(piece);
                }
            }
        }
        refused.truncate(MAX_REFUSALS);
        if refused.is_empty() { Ok((nodes, contested)) } else { Err(ApplyError::Partly(refused.join("; "))) }
    }

    /// The nodes' Deployment as the watch saw it, if the piece is that.
    fn seen(&self, piece: &Piece) -> Option<Deployment> {
        let seen = || self.shared.stores.deployments.get(&self.cluster.namespace, &piece.name);
        piece.counted.then(seen).flatten().map(|seen| Deployment::clone(&seen))
    }

    /// For how long a piece is left as it is: the operator has written it, and another manager keeps changing it.
    fn pause(&self, piece: &Piece, trial: Trial) -> Option<Duration> {
        if trial != Trial::Known || piece.live.is_none() || piece.leftover || piece.follows {
            return None;
        }
        let ValidatedCluster { namespace, name, .. } = self.cluster;
        let part = piece.counted.then_some(Part::Rest);
        self.shared.contests.pause(namespace, name, &piece.object(), part)
    }

    /// Writes one piece, and puts right its records of field managers: before the write, if the object is there, and
    /// after it, if it was made now.
    async fn one(&self, piece: &Piece) -> Result<DynamicObject, ApplyError> {
        if let Some(live) = &piece.live {
            self.repair(piece, live).await?;
        }
        self.shared.check()?;
        let ValidatedCluster { namespace, name, uid, .. } = self.cluster;
        self.shared.written.doubt(uid, &piece.object());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api(piece);
        let applied = api.patch(&piece.name, &params, &Patch::Apply(piece.body())).await;
        let applied = applied.map_err(|error| piece.failed(error))?;
        let before = piece.live.clone().unwrap_or_default();
        self.shared.contests.note(namespace, name, &piece.object(), &before, &applied.metadata);
        let repaired = match piece.live {
            Some(_) => None,
            None => self.repair(piece, &applied.metadata).await?,
        };
        // Another writer may have come before the records were put right. How the object stands is then not how it
        // was left, and the next look has to find that.
        if repaired.as_ref().is_none_or(|after| ownership::is_as_before(&applied.metadata, after)) {
            let left = Left::new(piece.hash(), repaired.as_ref().unwrap_or(&applied.metadata));
            self.shared.written.note(uid, &piece.object(), left);
        }
        Ok(applied)
    }

    /// Puts right which manager has which field. The Deployment controller writes to a new object at once, so after a
    /// conflict with such a write the object is looked at again. Gives the metadata after the repair, if there was
    /// something to put right.
    async fn repair(&self, piece: &Piece, live: &ObjectMeta) -> Result<Option<ObjectMeta>, ApplyError> {
        let api = self.api(piece);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let mut live = live.clone();
        for attempt in 1.. {
            let records = live.managed_fields.as_deref().unwrap_or_default();
            let Some(right) = ownership::repair(records, piece.counted, false) else { break };
            self.shared.check()?;
            let patch = json!({"metadata": {
                "uid": live.uid, "resourceVersion": live.resource_version, "managedFields": right,
            }});
            match api.patch_metadata(&piece.name, &params, &Patch::Merge(patch)).await {
                Ok(repaired) => return Ok(Some(repaired.metadata)),
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < REPAIRS => {
                    live = api.get_metadata(&piece.name).await.map_err(|e| piece.failed(e))?.metadata;
                }
                Err(error) => return Err(piece.failed(error)),
            }
        }
        Ok(None)
    }

    /// Whether another writer may have touched an object of this ChannelCluster.
    fn touched(&self, kind: &str, name: &str) -> Touched {
        touched(self.shared, &self.cluster.namespace, &self.cluster.uid, kind, name)
    }

    /// Removes the managed NATS, if nodes have `moved` away from it. Says whether it is still there.
    async fn no_nats(&self, moved: bool) -> Result<bool, ApplyError> {
        let name = self.cluster.names.nats();
        let left = [
            self.remove::<Deployment>(&name, moved).await?,
            self.remove::<Service>(&name, moved).await?,
            self.remove::<NetworkPolicy>(&name, moved).await?,
            self.remove::<ConfigMap>(&name, moved).await?,
        ];
        Ok(left.contains(&true))
    }

    /// Removes an object of ours if `now` allows it. Says whether it is still there.
    async fn remove<K>(&self, name: &str, now: bool) -> Result<bool, ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let (kind, uid) = (K::kind(&()), &self.cluster.uid);
        let object = format!("{kind} {name}");
        if matches!(self.touched(&kind, name), Touched::Absent) {
            return Ok(false);
        }
        let api: Api<K> = Api::namespaced(self.shared.client.clone(), &self.cluster.namespace);
        let live = api.get_metadata_opt(name).await.map_err(|e| failed::<K>(name, e))?;
        let Some(live) = live.filter(|live| {
            matches!(whose(self.shared, self.cluster, &live.metadata), Owner::Ours | Owner::Leftover)
        }) else {
            self.shared.written.note_absent(uid, &object);
            return Ok(false);
        };
        if !now {
            return Ok(true);
        }
        self.shared.check()?;
        self.shared.written.doubt(uid, &object);
        let exactly = Preconditions { uid: live.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(exactly);
        match api.delete(name, &params).await {
            Ok(_) => Ok(false),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(error) => Err(failed::<K>(name, error)),
        }
    }
}

/// The server's sentence, if it refuses; an error that is worth another try soon stays an error.
fn refusal(error: ApplyError) -> Result<String, ApplyError> {
    match &error {
        ApplyError::Api { what, source: kube::Error::Api(status) }
            if matches!(status.code, 400 | 403 | 405 | 413 | 415 | 422) =>
        {
            Ok(format!("the API server refuses {what}: {}", status.message))
        }
        _ => Err(error),
    }
}
