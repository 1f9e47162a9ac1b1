//! The Secret of a fleet: the operator makes it once, keeps it as it is but for the keys of tickets, which it rotates, puts
//! it back when it was deleted, and makes the pods that read it follow.
//!
//! This process remembers its content for as long as it leads, so that a Secret that is put back is the same one for
//! all pods that have read it. If the content is not known any more, or somebody wrote another password, NATS gets
//! another pod template and the kubelets of the nodes are woken, so that the mounted files change at once and not
//! within a minute and a half.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret as Object};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, PostParams};
use operator_core::names::{
    ADMIN_TOKEN_KEY, FIELD_MANAGER, NATS_PASSWORD_KEY, Names, SECRET_MARK_ANNOTATION,
};
use operator_core::ownership::TICKETS_MANAGER;
use operator_core::pod::PodView;
use operator_core::validate::ValidatedCluster;
use operator_core::{build, tickets};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::clock;
use crate::observe;
use crate::ours::{ApplyError, adoption, failed, is_leftover};
use crate::remembered::Values;
use crate::shared::{Reconciled, Shared};

/// Length of generated secrets, in letters and digits: 190 bits.
const SECRET_LENGTH: usize = 32;
/// Pause between looks at the Secret of a fleet, in milliseconds: one that is gone is back within 10 s.
const LOOK_MILLIS: u64 = 5_000;
/// Pause in milliseconds before keys of tickets are written again that the API server refused. They are written a day early.
const REFUSED_MILLIS: u64 = 600_000;
/// The keys that the Secret has, besides those of tickets.
const KEYS: [&str; 2] = [ADMIN_TOKEN_KEY, NATS_PASSWORD_KEY];

/// The Secret that is there, if one is.
pub struct SecretSeen {
    live: Option<Object>,
    leftover: bool,
}

/// The Secret as it is now.
pub struct KeptSecret {
    /// A hash that differs when its content does, and from which nobody can tell the content.
    pub mark: String,
    /// Whether it has another token or password than when it was last looked at.
    pub changed: bool,
    /// When it was made.
    pub made: Option<Time>,
    /// When anything but its keys of tickets was last written.
    written: Option<Time>,
}

impl KeptSecret {
    /// The Secret as it is now, which is remembered.
    fn note(shared: &Shared, cluster: &ValidatedCluster, object: &Object) -> Self {
        let (meta, values) = (&object.metadata, values(object));
        let records = meta.managed_fields.iter().flatten();
        let others = records.filter(|record| record.manager.as_deref() != Some(TICKETS_MANAGER));
        let written =
            others.filter_map(|record| record.time.clone()).chain(meta.creation_timestamp.clone()).max();
        let mark = build::secret_mark(&values);
        let known = shared.secrets.get(&cluster.uid);
        let changed = known.is_some_and(|known| build::secret_mark(&known) != mark);
        shared.secrets.put(&cluster.uid, &values, meta.resource_version.as_deref());
        Self { mark, changed, made: meta.creation_timestamp.clone(), written }
    }
}

/// Looks at the Secret that is there.
///
/// # Errors
/// When it has another owner, or cannot be read.
pub async fn look(shared: &Shared, cluster: &ValidatedCluster) -> Result<SecretSeen, ApplyError> {
    let name = cluster.names.secret();
    let live = api(shared, cluster).get_opt(&name).await.map_err(|e| failed::<Object>(&name, e))?;
    let leftover = match &live {
        Some(live) => is_leftover(shared, cluster, "Secret", &name, &live.metadata)?,
        None => false,
    };
    Ok(SecretSeen { live, leftover })
}

/// Has the server try to make a Secret that is not there; gives the server's refusal.
pub async fn rehearse(shared: &Shared, cluster: &ValidatedCluster, seen: &SecretSeen) -> Option<ApplyError> {
    if seen.live.is_some() {
        return None;
    }
    let secret = fresh(cluster);
    let params = PostParams { dry_run: true, ..made_by_us() };
    let tried = api(shared, cluster).create(&params, &secret).await;
    tried.err().map(|error| failed::<Object>(&cluster.names.secret(), error))
}

/// Makes the Secret if it is not there, takes it over if it was left, adds keys that were removed from it, and rotates the
/// keys of tickets when that is due. It writes over no other value that is there.
///
/// # Errors
/// When it cannot be written.
pub async fn ensure(
    shared: &Shared,
    cluster: &ValidatedCluster,
    seen: SecretSeen,
) -> Result<KeptSecret, ApplyError> {
    let object = match seen.live {
        None => make(shared, cluster).await?,
        Some(live) => {
            let live = complete(shared, cluster, live, seen.leftover).await?;
            rotate(shared, cluster, live).await?
        }
    };
    Ok(KeptSecret::note(shared, cluster, &object))
}

/// Takes a Secret over that was left, and adds the keys that it lacks.
async fn complete(
    shared: &Shared,
    cluster: &ValidatedCluster,
    live: Object,
    leftover: bool,
) -> Result<Object, ApplyError> {
    let (name, missing) = (cluster.names.secret(), missing(shared, cluster, &live));
    if missing.is_empty() && !leftover {
        return Ok(live);
    }
    shared.check()?;
    let mut patch = adoption(cluster, &live.metadata, None);
    if !missing.is_empty() {
        warn!(namespace = cluster.namespace, name, keys = ?missing.keys(), "the Secret lacks keys: added");
        patch["data"] = json!(missing);
    }
    merge(shared, cluster, FIELD_MANAGER, patch).await
}

/// Writes the keys of tickets as they should be now, if nodes use them, if they are not so, and if the Secret is as it was
/// looked at. When the API server refuses that, everything else goes on with the keys that are there.
async fn rotate(shared: &Shared, cluster: &ValidatedCluster, live: Object) -> Result<Object, ApplyError> {
    let (namespace, name, uid, now) =
        (&cluster.namespace, cluster.names.secret(), &cluster.uid, clock::now());
    if cluster.mounted.tls.is_none() || !shared.secrets.may_write_tickets(uid, now) {
        return Ok(live);
    }
    let known = shared.secrets.get(uid).unwrap_or_default();
    let changes = tickets::changes(&values(&live), &known, now, &random_text());
    if changes.is_empty() {
        return Ok(live);
    }
    shared.check()?;
    let meta = json!({"uid": live.metadata.uid, "resourceVersion": live.metadata.resource_version});
    let patch = json!({"metadata": meta, "data": changes});
    match merge(shared, cluster, TICKETS_MANAGER, patch).await {
        Ok(written) => {
            shared.secrets.take_tickets(uid);
            info!(namespace, name, "the keys of TLS tickets are changed");
            Ok(written)
        }
        // Somebody else has written it: the reconcile is tried again with what is there then.
        Err(error) if is_conflict(&error) => Err(error),
        Err(error) => {
            if shared.secrets.refuse_tickets(uid, &error.to_string(), now + REFUSED_MILLIS) {
                warn!(namespace, name, %error, "the keys of TLS tickets stay as they are: trying again each 10 minutes");
            }
            Ok(live)
        }
    }
}

fn is_conflict(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Api { source: kube::Error::Api(status), .. } if status.code == 409)
}

async fn merge(
    shared: &Shared,
    cluster: &ValidatedCluster,
    manager: &str,
    patch: Value,
) -> Result<Object, ApplyError> {
    let name = cluster.names.secret();
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let patched = api(shared, cluster).patch(&name, &params, &Patch::Merge(patch)).await;
    patched.map_err(|error| failed::<Object>(&name, error))
}

async fn make(shared: &Shared, cluster: &ValidatedCluster) -> Result<Object, ApplyError> {
    shared.check()?;
    let name = cluster.names.secret();
    let mut secret = fresh(cluster);
    if let Some(known) = shared.secrets.get(&cluster.uid) {
        info!(namespace = cluster.namespace, name, "the Secret is gone: made again as it was");
        secret.string_data = None;
        secret.data = Some(known);
    }
    let made = api(shared, cluster).create(&made_by_us(), &secret).await;
    made.map_err(|error| failed::<Object>(&name, error))
}

/// Keys that the Secret should have and does not have, with their former values if they are known.
fn missing(shared: &Shared, cluster: &ValidatedCluster, live: &Object) -> Values {
    let there = values(live);
    let lacks = |key: &&str| there.get(*key).is_none_or(|value| value.0.is_empty());
    let keys: Vec<_> = KEYS.into_iter().filter(lacks).collect();
    if keys.is_empty() {
        return Values::new();
    }
    let known = shared.secrets.get(&cluster.uid).unwrap_or_default();
    let fresh = fresh(cluster).string_data.unwrap_or_default();
    let value = |key: &str| {
        let fresh = || fresh.get(key).map(|text| ByteString(text.clone().into_bytes()));
        known.get(key).cloned().or_else(fresh)
    };
    keys.into_iter().filter_map(|key| Some((key.to_owned(), value(key)?))).collect()
}

/// Makes the kubelets look at the files of node pods that are older than the last write of the Secret: a kubelet
/// syncs a pod that changes at once.
pub async fn hurry(shared: &Shared, cluster: &ValidatedCluster, secret: &KeptSecret) {
    let ValidatedCluster { namespace, names, uid, .. } = cluster;
    let pods = observe::node_pods(&shared.stores, namespace, names, uid);
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &cluster.namespace);
    let patch = json!({"metadata": {"annotations": {SECRET_MARK_ANNOTATION: secret.mark}}});
    let written = secret.written.as_ref().and_then(|time| u64::try_from(time.0.as_millisecond()).ok());
    let late = |pod: &PodView| {
        pod.annotations.get(SECRET_MARK_ANNOTATION) != Some(&secret.mark)
            && written.is_some_and(|written| pod.created < written)
            && !pod.terminating
    };
    for pod in pods.iter().map(|(pod, _)| &pod.view).filter(|pod| late(pod)) {
        if shared.check().is_err() {
            return;
        }
        let name = &pod.name;
        let told = api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        if let Err(error) = told {
            // The kubelet of that pod looks by itself, only later.
            warn!(namespace = cluster.namespace, name, %error, "cannot wake the kubelet of a node");
        }
    }
}

/// Whether the Secret of one fleet is still the one that was last seen. It is asked for by name: a watch of Secrets
/// would need the right to read all of them.
#[derive(Debug, Default)]
pub struct SecretPoll {
    version: Option<String>,
    looked: u64,
}

impl SecretPoll {
    /// Whether the Secret is to be looked at again: it was deleted or written since the last look, or its keys of tickets
    /// are to change. Looks each [`LOOK_MILLIS`] at most. `told` is of the last reconcile, `now` in milliseconds.
    pub async fn is_due(
        &mut self,
        shared: &Shared,
        (namespace, told): (&str, &Reconciled),
        names: &Names,
        now: u64,
    ) -> bool {
        if now.saturating_sub(self.looked) < LOOK_MILLIS {
            return false;
        }
        self.looked = now;
        let uid = &told.uid;
        let has_tickets = told.cluster.as_ref().is_some_and(|cluster| cluster.mounted.tls.is_some());
        if has_tickets
            && shared.secrets.may_write_tickets(uid, now)
            && shared.secrets.get(uid).is_some_and(|values| tickets::is_due(&values, now))
        {
            return true;
        }
        let api: Api<Object> = Api::namespaced(shared.client.clone(), namespace);
        let version = match api.get_metadata_opt(&names.secret()).await {
            Ok(live) => live.and_then(|live| live.metadata.resource_version),
            Err(error) => {
                debug!(namespace, %error, "cannot look at the Secret");
                return false;
            }
        };
        let known = self.version.is_some();
        // What the last reconcile has seen or written itself is nothing new.
        let same = version == self.version || version == shared.secrets.version(uid);
        self.version.clone_from(&version);
        version.is_none() || (known && !same)
    }
}

fn api(shared: &Shared, cluster: &ValidatedCluster) -> Api<Object> {
    Api::namespaced(shared.client.clone(), &cluster.namespace)
}

fn values(object: &Object) -> Values {
    object.data.clone().unwrap_or_default()
}

fn made_by_us() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// A Secret of random texts.
fn fresh(cluster: &ValidatedCluster) -> Object {
    let tickets = tickets::first(clock::now(), &random_text());
    build::secret(cluster, &random_text(), &random_text(), &tickets)
}

fn random_text() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH)
}
