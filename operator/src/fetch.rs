//! Reads what validation needs besides the ChannelCluster itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{BackplaneType, ChannelCluster, Jwt, Prometheus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use operator_core::names::{CREDENTIALS_LABEL, Names, SERVERS_ANNOTATION, TUNED_FOR_ANNOTATION};
use operator_core::observation::{image, sysctls};
use operator_core::validate::{Credentials, Fetched};

use crate::observe::{self, is_owned};
use crate::ours::{Touched, touched};
use crate::shared::Shared;

/// Fetches the objects that validation needs. A Deployment that has not changed since this process applied it is taken from the watch.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn fetch(shared: &Shared, cluster: &ChannelCluster) -> Result<Fetched, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.uid().unwrap_or_default();
    let names = Names::new(&cluster.name_any());
    let (node, nats) = (current(shared, &namespace, &names, &uid), names.nats());
    let (node, nats) = tokio::try_join!(node, deployment(shared, &namespace, &nats, &uid))?;
    let node = node.as_deref().filter(|deployment| is_owned(*deployment, &uid));
    Ok(Fetched {
        node_image: node.and_then(image),
        tuned_for: node.and_then(|d| d.annotations().get(TUNED_FOR_ANNOTATION).cloned()),
        sysctls: node.map(sysctls).unwrap_or_default(),
        nats_image: nats.as_deref().filter(|d| is_owned(*d, &uid)).and_then(image),
        credentials: credentials(&shared.client, &namespace, cluster).await?,
        named_secrets: named_secrets(&shared.client, &namespace, cluster).await?,
    })
}

/// The Deployment that the nodes are in, or came to be in last.
async fn current(
    shared: &Shared,
    namespace: &str,
    names: &Names,
    uid: &str,
) -> Result<Option<Arc<Deployment>>, kube::Error> {
    match observe::current(&shared.stores, namespace, names, uid) {
        Some(seen) => deployment(shared, namespace, &seen.name_any(), uid).await,
        None => Ok(None),
    }
}

async fn deployment(
    shared: &Shared,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<Option<Arc<Deployment>>, kube::Error> {
    match touched(shared, namespace, uid, "Deployment", name) {
        Touched::No(_) => {
            let seen = shared.stores.deployments.get(namespace, name);
            if seen.is_some() {
                return Ok(seen);
            }
        }
        Touched::Absent => return Ok(None),
        Touched::Perhaps => {}
    }
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), namespace);
    Ok(api.get_opt(name).await?.map(Arc::new))
}

async fn credentials(
    client: &Client,
    namespace: &str,
    cluster: &ChannelCluster,
) -> Result<Option<Credentials>, kube::Error> {
    let backplane = &cluster.spec.backplane;
    let Some(reference) =
        backplane.credentials_secret_ref.as_ref().filter(|_| backplane.type_ == BackplaneType::Nats)
    else {
        return Ok(None);
    };
    secret(client, namespace, &reference.name).await
}

/// The Secrets that entries of `auth.jwt`, `expose.tls`, `expose.api`, `hooks` and `autoscaling.metrics` name, each asked for once.
async fn named_secrets(
    client: &Client,
    namespace: &str,
    cluster: &ChannelCluster,
) -> Result<BTreeMap<String, Credentials>, kube::Error> {
    let issuers = cluster.spec.auth.iter().flat_map(|auth| &auth.jwt);
    let mut names: BTreeSet<&str> =
        issuers.flat_map(Jwt::secrets).map(|(_, reference)| &*reference.name).collect();
    if let Some(tls) = &cluster.spec.expose.tls {
        names.insert(&tls.secret_name);
        names.extend(tls.client_ca_secret_name.as_deref());
    }
    names.extend(cluster.spec.expose.api.as_ref().map(|api| api.secret_name.as_str()));
    names.extend(cluster.spec.hooks.as_ref().map(|hooks| hooks.secret_name.as_str()));
    names.extend(
        cluster
            .spec
            .autoscaling
            .prometheus()
            .into_iter()
            .flat_map(Prometheus::secrets)
            .map(|(_, name, _)| name),
    );
    let mut found = BTreeMap::new();
    for name in names {
        if let Some(read) = secret(client, namespace, name).await? {
            found.insert(name.to_owned(), read);
        }
    }
    Ok(found)
}

/// What is read of a Secret; none when it does not exist.
async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Credentials>, kube::Error> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await?;
    Ok(secret.map(|secret| {
        let servers = secret.annotations().get(SERVERS_ANNOTATION);
        let urls = |text: &String| {
            text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
        };
        Credentials {
            labelled: secret.labels().get(CREDENTIALS_LABEL).is_some_and(|value| value == "true"),
            servers: servers.map(urls),
            keys: secret.data.unwrap_or_default().into_keys().collect(),
        }
    }))
}
