//! Which manager owns an object and its fields, on a real API server: what server-side apply keeps, drops and
//! refuses.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "test code outside of test functions")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{cluster, namespace, shared, valid};
use apiserver::{ApiServer, Identity};
use http::{Method, Request, Response};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Client, ResourceExt};
use operator::apply::{Trial, apply};
use operator::ours::ApplyError;
use operator_core::build;
use operator_core::names::FIELD_MANAGER;
use operator_core::ownership::SCALING_MANAGER;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

fn external() -> Value {
    json!({"backplane": {"type": "Nats", "urls": ["nats://nats:4222"], "credentialsSecretRef": {"name": "creds"}}})
}

fn managed() -> Value {
    json!({"backplane": {"type": "Managed"}})
}

/// A client whose write number `bad` to the nodes' Deployment fails, before the server sees it or after.
fn failing(server: &ApiServer, bad: usize, after: bool) -> Client {
    let inner = server.client(Identity::Admin).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |request: Request<Body>| {
        let (inner, count) = (inner.clone(), count.clone());
        async move {
            let nodes = request.uri().path().ends_with("/deployments/chat-node");
            let number =
                (nodes && request.method() == Method::PATCH).then(|| count.fetch_add(1, Ordering::Relaxed));
            if number == Some(bad) && !after {
                return Err(BoxError::from("lost on the way there"));
            }
            let answer: Response<Body> = inner.send(request).await?;
            if number == Some(bad) { Err(BoxError::from("lost on the way back")) } else { Ok(answer) }
        }
    });
    ClientBuilder::new(service, "default").build()
}

/// Each of our managers, with whether it has the node count and whether it has anything else.
fn managers(deployment: &Deployment) -> Vec<(String, bool, bool)> {
    let of = |record: &ManagedFieldsEntry| {
        let mut fields = record.fields_v1.clone().unwrap().0;
        let count = fields.pointer("/f:spec/f:replicas").is_some();
        if let Some(spec) = fields.pointer_mut("/f:spec").and_then(Value::as_object_mut) {
            spec.remove("f:replicas");
        }
        let rest = fields != json!({"f:spec": {}}) && fields != json!({});
        (record.manager.clone().unwrap(), count, rest)
    };
    let mut all: Vec<_> = deployment.managed_fields().iter().map(of).collect();
    all.sort();
    all
}

fn right() -> Vec<(String, bool, bool)> {
    vec![(FIELD_MANAGER.to_owned(), false, true), (SCALING_MANAGER.to_owned(), true, false)]
}

fn volumes(deployment: &Deployment) -> Vec<String> {
    let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    pod.volumes.iter().flatten().map(|volume| volume.name.clone()).collect()
}

async fn scale(api: &Api<Deployment>, to: i32) -> Deployment {
    let count = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat-node"}, "spec": {"replicas": to},
    });
    let params = PatchParams::apply(SCALING_MANAGER).force();
    api.patch("chat-node", &params, &Patch::Apply(count)).await.unwrap()
}

/// Applies, then changes to the managed NATS, then scales; checks after each step.
async fn goes_on(server: &ApiServer, namespace: &str, story: &str) {
    let client = server.client(Identity::Admin).unwrap();
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let before = cluster(&client, namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&before), 2, Trial::New).await.unwrap();
    let made = nodes.get("chat-node").await.unwrap();
    assert_eq!(managers(&made), right(), "{story}");
    assert_eq!((made.spec.as_ref().unwrap().replicas, volumes(&made).len()), (Some(2), 3), "{story}");

    let after = cluster(&client, namespace, &managed()).await;
    apply(&shared(client.clone()), &valid(&after), 2, Trial::New).await.unwrap();
    let moved = nodes.get("chat-node").await.unwrap();
    assert_eq!(volumes(&moved), ["config", "secrets"], "{story}: the credentials are no longer mounted");
    assert_eq!(managers(&moved), right(), "{story}");

    let scaled = scale(&nodes, 3).await;
    let template = |deployment: &Deployment| deployment.spec.clone().unwrap().template;
    assert_eq!(template(&scaled), template(&moved), "{story}: a new count starts no rollout");
    apply(&shared(client), &valid(&after), 2, Trial::Known).await.unwrap();
    assert_eq!(nodes.get("chat-node").await.unwrap().spec.unwrap().replicas, Some(3), "{story}");
}

#[tokio::test]
async fn each_field_has_one_manager_whatever_fails_while_a_deployment_is_made() {
    let server = ApiServer::shared().await;
    for bad in 0..4 {
        for after in [false, true] {
            let story = format!("write {bad} fails, seen by the server: {after}");
            let namespace = server.namespace("owners").await.unwrap();
            let client = server.client(Identity::Admin).unwrap();
            let spec = cluster(&client, &namespace, &external()).await;
            // The first write is the dry run.
            let tried = apply(&shared(failing(server, bad, after)), &valid(&spec), 2, Trial::New).await;
            assert_eq!(tried.is_err(), bad < 3, "{story}: {tried:?}");
            goes_on(server, &namespace, &story).await;
        }
    }
}

#[tokio::test]
async fn fields_that_the_scaling_manager_was_given_by_an_earlier_version_are_taken_from_it() {
    let server = ApiServer::shared().await;
    for second in [false, true] {
        let namespace = server.namespace("owners").await.unwrap();
        let client = server.client(Identity::Admin).unwrap();
        let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
        let spec = cluster(&client, &namespace, &external()).await;
        let mut whole = build::bundle(&valid(&spec), 2).deployment;
        let params = |manager| PatchParams::apply(manager).force();
        nodes.patch("chat-node", &params(SCALING_MANAGER), &Patch::Apply(&whole)).await.unwrap();
        if second {
            whole.spec.as_mut().unwrap().replicas = None;
            nodes.patch("chat-node", &params(FIELD_MANAGER), &Patch::Apply(&whole)).await.unwrap();
        }
        goes_on(server, &namespace, &format!("the second patch was made: {second}")).await;
    }
}

#[tokio::test]
async fn a_spec_that_the_server_refuses_leaves_nothing() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("refused").await.unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let expression = json!({"key": "a", "operator": "Nonsense"});
    let terms = json!([{"matchExpressions": [expression]}]);
    let bad = json!({"nodes": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    let spec = cluster(&client, &namespace, &bad).await;
    let error = apply(&shared(client.clone()), &valid(&spec), 2, Trial::New).await.unwrap_err();
    assert!(matches!(&error, ApplyError::Refused(_)), "{error}");
    assert!(error.to_string().contains("\"Nonsense\": not a valid selector operator"), "{error}");
    let all = ListParams::default();
    let ours = |name: &str| name.starts_with("chat");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client, &namespace);
    assert!(!maps.list(&all).await.unwrap().iter().any(|map| ours(&map.name_any())));
    assert!(secrets.list(&all).await.unwrap().items.is_empty());
    assert!(services.list(&all).await.unwrap().items.is_empty());
}

/// Makes a fleet, deletes its ChannelCluster while the objects stay, and gives the Secret with the password.
async fn orphaned(server: &ApiServer, namespace: &str) -> (Client, Secret) {
    let client = server.client(Identity::Admin).unwrap();
    let before = cluster(&client, namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&before), 2, Trial::New).await.unwrap();
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get("chat-node").await.unwrap();
    let clusters: Api<crds::ChannelCluster> = Api::namespaced(client.clone(), namespace);
    // No garbage collector runs here, so the objects keep their owner, which is gone.
    clusters.delete("chat", &DeleteParams::default()).await.unwrap();
    (client, secret)
}

#[tokio::test]
async fn what_an_owner_of_the_same_name_left_is_taken_over_as_it_is() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("orphans").await.unwrap();
    let (client, secret) = orphaned(server, &namespace).await;
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    scale(&nodes, 3).await;
    let again = cluster(&client, &namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&again), 2, Trial::New).await.unwrap();
    let now = nodes.get("chat-node").await.unwrap();
    let owners: Vec<_> = now.owner_references().iter().map(|owner| owner.uid.clone()).collect();
    assert_eq!(owners, [again.uid().unwrap()]);
    assert_eq!(now.spec.as_ref().unwrap().replicas, Some(3), "its nodes serve on");
    let kept = Api::<Secret>::namespaced(client, &namespace).get("chat-node").await.unwrap();
    assert_eq!((kept.data, kept.metadata.uid), (secret.data, secret.metadata.uid));
}

#[tokio::test]
async fn what_a_backup_restored_is_taken_over_with_what_others_wrote_into_it() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("restored").await.unwrap();
    let (client, _) = orphaned(server, &namespace).await;
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let mut backup = nodes.get("chat-node").await.unwrap();
    nodes.delete("chat-node", &DeleteParams::background()).await.unwrap();
    backup.metadata.managed_fields = None;
    backup.metadata.resource_version = None;
    backup.metadata.uid = None;
    let velero = PostParams { field_manager: Some("velero".to_owned()), ..PostParams::default() };
    nodes.create(&velero, &backup).await.unwrap();

    let again = cluster(&client, &namespace, &managed()).await;
    apply(&shared(client.clone()), &valid(&again), 2, Trial::New).await.unwrap();
    let now = nodes.get("chat-node").await.unwrap();
    assert_eq!(volumes(&now), ["config", "secrets"], "what the spec no longer asks for is gone");
    assert_eq!(now.owner_references().len(), 1);
    let services: Api<Service> = Api::namespaced(client, &namespace);
    assert!(services.get("chat").await.unwrap().spec.unwrap().cluster_ip.is_some());
}

#[tokio::test]
async fn what_somebody_else_owns_is_left_alone() {
    let server = ApiServer::shared().await;
    let namespace = namespace(server, "foreign", json!({})).await;
    let client = server.client(Identity::Admin).unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let theirs = json!({"metadata": {"name": "chat"}, "spec": {"ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
    let spec = cluster(&client, &namespace, &json!({})).await;
    let error = apply(&shared(client.clone()), &valid(&spec), 2, Trial::New).await.unwrap_err();
    assert!(matches!(error, ApplyError::NotOurs { .. }), "{error}");

    // The test does what the message advises.
    let labels = json!({"metadata": {"labels": {
        "app.kubernetes.io/managed-by": "channel-operator", "app.kubernetes.io/name": "channelcluster",
        "channelcluster.io/cluster": "chat"}}});
    services.patch("chat", &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
    apply(&shared(client), &valid(&spec), 2, Trial::New).await.unwrap();
}
