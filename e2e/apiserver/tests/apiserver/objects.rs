//! Which manager owns an object and its fields, on a real API server: what server-side apply keeps, drops and
//! refuses.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "test code outside of test functions")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{cluster, namespace, nodes as current, shared, valid};
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
use operator_core::names::{FIELD_MANAGER, MADE_WITH_ANNOTATION, TEMPLATE_LABEL};
use operator_core::ownership::{self, SCALING_MANAGER, TICKETS_MANAGER};
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
            let nodes = request.uri().path().contains("/deployments/chat-node");
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

async fn scale(api: &Api<Deployment>, name: &str, to: i32) -> Deployment {
    let count = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": to},
    });
    let params = PatchParams::apply(SCALING_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(count)).await.unwrap()
}

/// Applies, then changes to the managed NATS, then scales; checks after each step.
async fn goes_on(server: &ApiServer, namespace: &str, story: &str) {
    let client = server.client(Identity::Admin).unwrap();
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let before = cluster(&client, namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&before), 2, Trial::New).await.unwrap();
    let made = current(&client, namespace).await.unwrap();
    assert_eq!(managers(&made), right(), "{story}");
    assert_eq!((made.spec.as_ref().unwrap().replicas, volumes(&made).len()), (Some(2), 3), "{story}");
    apply(&shared(client.clone()), &valid(&before), 9, Trial::Before).await.unwrap();
    assert_eq!(nodes.get(&made.name_any()).await.unwrap().spec, made.spec, "{story}: a second look");

    let after = cluster(&client, namespace, &managed()).await;
    apply(&shared(client.clone()), &valid(&after), 2, Trial::New).await.unwrap();
    let moved = current(&client, namespace).await.unwrap();
    assert_eq!(volumes(&moved), ["config", "secrets"], "{story}: the credentials are no longer mounted");
    assert_eq!(managers(&moved), right(), "{story}");
    assert_eq!(moved.spec.as_ref().unwrap().replicas, Some(0), "{story}: they come as the others go");
    let left = nodes.get(&made.name_any()).await.unwrap();
    assert_eq!(left.spec, made.spec, "{story}: the others serve on");

    let scaled = scale(&nodes, &moved.name_any(), 3).await;
    let template = |deployment: &Deployment| deployment.spec.clone().unwrap().template;
    assert_eq!(template(&scaled), template(&moved), "{story}: a new count starts no rollout");
    apply(&shared(client), &valid(&after), 2, Trial::Known).await.unwrap();
    assert_eq!(nodes.get(&moved.name_any()).await.unwrap().spec.unwrap().replicas, Some(3), "{story}");
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
        let name = whole.name_any();
        let params = |manager| PatchParams::apply(manager).force();
        nodes.patch(&name, &params(SCALING_MANAGER), &Patch::Apply(&whole)).await.unwrap();
        if second {
            whole.spec.as_mut().unwrap().replicas = None;
            nodes.patch(&name, &params(FIELD_MANAGER), &Patch::Apply(&whole)).await.unwrap();
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
    let name = current(&client, &namespace).await.unwrap().name_any();
    scale(&nodes, &name, 3).await;
    let again = cluster(&client, &namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&again), 2, Trial::New).await.unwrap();
    let now = nodes.get(&name).await.unwrap();
    let owners: Vec<_> = now.owner_references().iter().map(|owner| owner.uid.clone()).collect();
    assert_eq!(owners, [again.uid().unwrap()]);
    assert_eq!(now.spec.as_ref().unwrap().replicas, Some(3), "its nodes serve on");
    let kept = Api::<Secret>::namespaced(client, &namespace).get("chat-node").await.unwrap();
    assert_eq!((kept.data, kept.metadata.uid), (secret.data, secret.metadata.uid));
}

#[tokio::test]
async fn the_keys_of_tickets_are_rotated_by_a_manager_of_their_own() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("tickets").await.unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let mut spec = external();
    spec["expose"] = json!({"tls": {"secretName": "chat-tls"}});
    let spec = cluster(&client, &namespace, &spec).await;
    apply(&shared(client.clone()), &valid(&spec), 2, Trial::New).await.unwrap();
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let text =
        |secret: &Secret, key: &str| String::from_utf8(secret.data.clone().unwrap()[key].0.clone()).unwrap();
    let time = |secret: &Secret, manager: &str| {
        let records = secret.managed_fields().iter();
        records
            .filter(|record| record.manager.as_deref() == Some(manager))
            .map(|record| record.time.clone())
            .max()
    };
    let made = api.get("chat-node").await.unwrap();
    let first = text(&made, "tls-ticket-keys");
    assert_eq!(first.lines().count(), 1);
    assert_eq!(time(&made, TICKETS_MANAGER), None);

    // The key becomes one of long ago, and the next second begins, or no time would differ.
    let old = json!({"stringData": {"tls-ticket-keys": "1 old\n"}});
    api.patch("chat-node", &PatchParams::default(), &Patch::Merge(old)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    apply(&shared(client.clone()), &valid(&spec), 2, Trial::Known).await.unwrap();
    let rotated = api.get("chat-node").await.unwrap();
    let list = text(&rotated, "tls-ticket-keys");
    assert!(list.starts_with("1 old\n") && list.lines().count() == 2, "{} lines", list.lines().count());
    for key in ["admin-token", "nats-password"] {
        assert_eq!(text(&rotated, key), text(&made, key));
    }
    assert_eq!(time(&rotated, FIELD_MANAGER), time(&made, FIELD_MANAGER), "that of the last other write");
    assert!(time(&rotated, TICKETS_MANAGER) > time(&made, FIELD_MANAGER));
    apply(&shared(client), &valid(&spec), 2, Trial::Known).await.unwrap();
    assert_eq!(api.get("chat-node").await.unwrap().resource_version(), rotated.resource_version());
}

#[tokio::test]
async fn what_a_backup_restored_is_taken_over_with_what_others_wrote_into_it() {
    let server = ApiServer::shared().await;
    let namespace = server.namespace("restored").await.unwrap();
    let (client, _) = orphaned(server, &namespace).await;
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let mut backup = current(&client, &namespace).await.unwrap();
    let name = backup.name_any();
    nodes.delete(&name, &DeleteParams::background()).await.unwrap();
    let pod = backup.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    let stale = json!({"name": "stale", "emptyDir": {}});
    pod.volumes.as_mut().unwrap().push(serde_json::from_value(stale).unwrap());
    backup.metadata.managed_fields = None;
    backup.metadata.resource_version = None;
    backup.metadata.uid = None;
    let velero = PostParams { field_manager: Some("velero".to_owned()), ..PostParams::default() };
    nodes.create(&velero, &backup).await.unwrap();

    let again = cluster(&client, &namespace, &external()).await;
    apply(&shared(client.clone()), &valid(&again), 2, Trial::New).await.unwrap();
    let now = nodes.get(&name).await.unwrap();
    assert_eq!(volumes(&now), ["config", "secrets", "nats"], "what the spec does not ask for is gone");
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

/// The Deployment of a fleet as the version before wrote it, which knew no templates.
async fn first(client: &Client, namespace: &str, spec: &Value) -> Deployment {
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let object = cluster(client, namespace, spec).await;
    let mut first = build::first_deployment(&valid(&object), 2);
    first.metadata.labels.as_mut().unwrap().remove(TEMPLATE_LABEL).unwrap();
    let params = |manager| PatchParams::apply(manager).force();
    let name = first.name_any();
    nodes.patch(&name, &params(FIELD_MANAGER), &Patch::Apply(&first)).await.unwrap();
    let live = scale(&nodes, &name, 3).await;
    let right = ownership::repair(live.managed_fields(), true, false);
    if let Some(right) = right {
        let patch = json!({"metadata": {"managedFields": right}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        nodes.patch_metadata(&name, &params, &Patch::Merge(patch)).await.unwrap();
    }
    nodes.get(&name).await.unwrap()
}

#[tokio::test]
async fn the_only_deployment_of_before_replaces_no_pod_if_they_are_as_wanted() {
    let server = ApiServer::shared().await;
    let client = server.client(Identity::Admin).unwrap();
    let namespace = server.namespace("migration").await.unwrap();
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    // Quantities that the server writes in its own way, and defaults that it adds.
    let spec = json!({"nodes": {
        "resources": {"requests": {"cpu": "0.25", "memory": "128Mi"}},
        "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}],
    }});
    let before = first(&client, &namespace, &spec).await;
    let object = cluster(&client, &namespace, &spec).await;
    for trial in [Trial::Before, Trial::Known, Trial::Before] {
        apply(&shared(client.clone()), &valid(&object), 7, trial).await.unwrap();
    }
    let now = current(&client, &namespace).await.unwrap();
    assert_eq!((now.name_any(), &now.spec), ("chat-node".to_owned(), &before.spec));
    assert_eq!(now.labels()[TEMPLATE_LABEL], valid(&object).template);
    assert_eq!(managers(&now), right());
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 2, "and NATS");

    // Other pods come into a Deployment of their own.
    let other = json!({"nodes": {"image": "node:2"}});
    let object = cluster(&client, &namespace, &other).await;
    apply(&shared(client.clone()), &valid(&object), 7, Trial::New).await.unwrap();
    let new = current(&client, &namespace).await.unwrap();
    assert_eq!(new.name_any(), valid(&object).names.deployment(&valid(&object).template));
    let old = nodes.get("chat-node").await.unwrap();
    assert_eq!(old.spec, before.spec);
}

#[tokio::test]
async fn a_template_stays_as_it_was_made_whoever_writes_it() {
    let server = ApiServer::shared().await;
    let client = server.client(Identity::Admin).unwrap();
    let namespace = server.namespace("made-with").await.unwrap();
    let nodes: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let object = cluster(&client, &namespace, &json!({})).await;
    // An earlier version wrote the template of this spec otherwise.
    let mut earlier = serde_json::to_value(build::bundle(&valid(&object), 2).deployment).unwrap();
    earlier["apiVersion"] = json!("apps/v1");
    earlier["kind"] = json!("Deployment");
    earlier["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(77);
    let note = earlier["spec"]["template"].to_string();
    earlier["metadata"]["annotations"][MADE_WITH_ANNOTATION] = json!(note);
    let name = valid(&object).names.deployment(&valid(&object).template);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let made = nodes.patch(&name, &params, &Patch::Apply(earlier)).await.unwrap();
    let template = |deployment: &Deployment| deployment.spec.clone().unwrap().template;
    apply(&shared(client.clone()), &valid(&object), 7, Trial::Before).await.unwrap();
    let now = nodes.get(&name).await.unwrap();
    assert_eq!(
        (template(&now), template(&now).spec.unwrap().termination_grace_period_seconds),
        (template(&made), Some(77))
    );

    // Somebody sets a field of it: it comes back as it was made.
    let drift = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}});
    let kubectl = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    nodes.patch(&name, &kubectl, &Patch::Merge(drift)).await.unwrap();
    apply(&shared(client.clone()), &valid(&object), 7, Trial::Known).await.unwrap();
    assert_eq!(template(&nodes.get(&name).await.unwrap()), template(&made));
}
