//! Objects of others beside the fleets.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{each, namespace, patiently};

/// Objects of each kind in a namespace.
const PER_NAMESPACE: usize = 1_000;

/// Makes so many pods and so many Secrets that belong to nobody.
pub(super) async fn make(client: &Client, count: usize) -> Result<()> {
    for space in 0..count.div_ceil(PER_NAMESPACE) {
        namespace(client, &format!("foreign-{space}")).await?;
    }
    each(0..count, |number| async move {
        let space = format!("foreign-{}", number / PER_NAMESPACE);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("web-{number}"), "labels": {"app.kubernetes.io/name": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1", "env": [{"name": "NUMBER", "value": number.to_string()}]}]},
        }))?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("web-{number}")}, "stringData": {"password": "x".repeat(200)},
        }))?;
        let (pods, secrets) = (Api::namespaced(client.clone(), &space), Api::namespaced(client.clone(), &space));
        patiently(|| async { pods.create(&PostParams::default(), &pod).await }).await?;
        patiently(|| async { secrets.create(&PostParams::default(), &secret).await }).await?;
        Ok(())
    })
    .await
}
