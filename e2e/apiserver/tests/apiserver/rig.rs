//! The rig itself: an API server that validates, dies and comes back, and a proxy that breaks the way to it.

use std::time::Duration;

use apiserver::{ApiServer, Faults, Identity, Traffic};
use crds::ChannelCluster;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams};

/// How long a request may take before it counts as never answered.
const PATIENCE: Duration = Duration::from_secs(3);
const SAMPLE: &str = include_str!("../../../../docs/samples/chat.yaml");

async fn lists(client: &Client) -> Result<usize, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let listed = tokio::time::timeout(PATIENCE, api.list(&ListParams::default())).await;
    listed.map_err(|_| "silence".to_owned())?.map(|list| list.items.len()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn it_validates_and_knows_who_may_what() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("rig").await.unwrap();
    server.kubectl(&["-n", &namespace, "apply", "-f", "-"], SAMPLE).await.unwrap();
    let bad = SAMPLE.replace("nodes:", "nodse:");
    let refused = server.kubectl(&["-n", &namespace, "apply", "-f", "-"], &bad).await.unwrap_err();
    assert!(format!("{refused:#}").contains("nodse"), "{refused:#}");
    let nobody: Api<ChannelCluster> = Api::all(server.client(Identity::Nobody).unwrap());
    assert!(nobody.list(&ListParams::default()).await.is_err());
    let admin: Api<ChannelCluster> = Api::namespaced(server.client(Identity::Admin).unwrap(), &namespace);
    assert_eq!(admin.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn it_dies_and_comes_back_with_its_data_on_its_port() {
    let mut server = ApiServer::start().await.unwrap();
    let namespace = server.namespace("kept").await.unwrap();
    let client = server.client(Identity::Admin).unwrap();
    assert!(lists(&client).await.is_ok());
    server.kill().await.unwrap();
    assert!(lists(&client).await.is_err());
    server.resume().await.unwrap();
    let namespaces = server.kubectl(&["get", "namespace", &namespace, "-o", "name"], "").await.unwrap();
    assert!(namespaces.contains(&namespace));
}

#[tokio::test]
async fn the_proxy_breaks_what_it_is_told_to() {
    let server = ApiServer::shared().await;
    let proxy = server.proxy().await.unwrap();
    let client = proxy.client(Identity::Admin).unwrap();
    assert!(lists(&client).await.is_ok());

    proxy.set(Faults { answer: Some((Traffic::All, 500)), ..Faults::default() });
    assert!(lists(&client).await.unwrap_err().contains("answers 500"));

    proxy.set(Faults { silent: Some(Traffic::Watches), ..Faults::default() });
    assert!(lists(&client).await.is_ok(), "only watches are silent");

    proxy.set(Faults { silent: Some(Traffic::All), ..Faults::default() });
    assert_eq!(lists(&client).await.unwrap_err(), "silence");
    proxy.heal();
    // The connection that was given up is dead; a new one is not.
    let fresh = proxy.client(Identity::Admin).unwrap();
    assert!(lists(&fresh).await.is_ok());

    let before = proxy.connections();
    assert!(before > 0);
    proxy.reset();
    assert_eq!(proxy.connections(), 0);
    assert!(lists(&fresh).await.is_ok() || lists(&fresh).await.is_ok(), "a new connection is made");
}
