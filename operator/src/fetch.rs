//! Reads what validation needs besides the ChannelCluster itself.

use crds::{BackplaneType, ChannelCluster};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use operator_core::names::{CREDENTIALS_LABEL, Names, SERVERS_ANNOTATION, TUNED_FOR_ANNOTATION};
use operator_core::validate::{Credentials, Fetched};

/// Fetches.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn fetch(client: &Client, cluster: &ChannelCluster) -> Result<Fetched, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.uid().unwrap_or_default();
    let names = Names::new(&cluster.name_any());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let (node, nats) = (names.deployment(), names.nats());
    let (node, nats) = tokio::try_join!(deployments.get_opt(&node), deployments.get_opt(&nats))?;
    Ok(Fetched {
        node_image: node.as_ref().filter(|d| is_owned(*d, &uid)).and_then(image),
        tuned_for: node
            .as_ref()
            .filter(|d| is_owned(*d, &uid))
            .and_then(|d| d.annotations().get(TUNED_FOR_ANNOTATION).cloned()),
        nats_image: nats.as_ref().filter(|d| is_owned(*d, &uid)).and_then(image),
        credentials: credentials(client, &namespace, cluster).await?,
    })
}

/// Whether the ChannelCluster with this UID owns the object.
pub(crate) fn is_owned(object: &impl ResourceExt, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Image of a Deployment's first container; ours have one.
#[must_use]
pub fn image(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
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
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(&reference.name).await?;
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
