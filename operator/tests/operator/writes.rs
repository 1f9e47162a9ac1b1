//! What the operator writes, and above all what it does not write, against an API server in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    NODES, Server, UID, cluster, kept_pods, node_pod, node_replica_set, nodes, pod_of, replica_set, sets,
    valid, watched,
};
use crds::ChannelCluster;
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PostParams, WatchParams};
use kube::core::DeserializeGuard;
use operator::apply::{Trial, apply};
use operator::client::REQUEST_TIMEOUT;
use operator::context::Context;
use operator::metrics::ClusterLabels;
use operator::observe;
use operator::ours::ApplyError;
use operator::publish::{PublishError, Publisher};
use operator::shared::{Reconciled, Shared};
use operator_core::conditions::first_sight;
use operator_core::names::Names;
use operator_core::status::WORDS_MILLIS;
use operator_core::view::Outcome;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn none() -> Value {
    json!({})
}

#[tokio::test]
async fn a_new_cluster_is_written_in_order_and_the_count_has_its_own_manager() {
    let server = Server::default();
    apply(&server.shared(), &valid(&none()), 3, Trial::New).await.unwrap();
    let writes = server.writes();
    assert!(writes[0].path.ends_with("/secrets") && writes[0].method == Method::POST, "{:?}", writes[0]);
    let nodes: Vec<_> = writes.iter().filter(|w| w.path == *NODES).collect();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    assert_eq!(nodes[0].body["spec"]["replicas"], 3);
    assert!(nodes[0].query.contains("fieldManager=channel-operator") && !nodes[0].query.contains("scaling"));
    assert_eq!(counters(&nodes[1].body["metadata"]["managedFields"]), ["channel-operator-scaling"]);
    assert!(nodes[1].body["spec"].is_null(), "it changes nothing else");
    let position = |name: &str| writes.iter().position(|w| w.path.ends_with(name)).unwrap();
    assert!(
        position("/chat-config") < position("/deployments/chat-nats")
            && position("/deployments/chat-nats") < position(&NODES)
    );
    for write in &writes {
        let meta = &write.body["metadata"];
        let records_only = meta["managedFields"].is_array() && meta["ownerReferences"].is_null();
        assert!(records_only || meta["ownerReferences"][0]["uid"] == UID, "{write:?}");
    }
}

/// Managers of the node count.
fn counters(records: &Value) -> Vec<&str> {
    let records = records.as_array().unwrap().iter();
    let counts = records.filter(|record| record["fieldsV1"]["f:spec"]["f:replicas"].is_object());
    counts.map(|record| record["manager"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_second_pass_writes_no_count_and_no_secret() {
    let server = Server::default();
    let shared = server.shared();
    apply(&shared, &valid(&none()), 3, Trial::Known).await.unwrap();
    let before = server.writes().len();
    apply(&shared, &valid(&none()), 7, Trial::Known).await.unwrap();
    for write in &server.writes()[before..] {
        assert_eq!(write.method, Method::PATCH, "{write:?}");
        let nodes = write.path == *NODES;
        assert!(!nodes || write.body["spec"]["replicas"].is_null(), "{write:?}");
    }
}

#[tokio::test]
async fn a_name_of_somebody_elses_stops_everything_before_it_begins() {
    let server = Server::default();
    let path = "/api/v1/namespaces/default/services/chat";
    server.put(
        path,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat", "namespace": "default"}}),
    );
    let error = apply(&server.shared(), &valid(&none()), 2, Trial::Known).await.unwrap_err();
    assert!(
        matches!(&error, ApplyError::NotOurs { kind, name, .. } if kind == "Service" && name == "chat"),
        "{error}"
    );
    let advice = error.to_string();
    assert!(advice.contains("name the ChannelCluster otherwise") && !advice.contains("delete"), "{advice}");
    assert_eq!(server.writes().len(), 0, "nothing is begun that cannot be finished");
}

#[tokio::test]
async fn a_spec_that_is_refused_is_not_begun_and_what_was_taken_before_does_not_stop_the_rest() {
    let server = Server::default();
    let shared = server.shared();
    server.refuse(&NODES);
    let error = apply(&shared, &valid(&none()), 2, Trial::New).await.unwrap_err();
    assert!(matches!(&error, ApplyError::Refused(_)), "{error}");
    let said = error.to_string();
    assert!(said.contains("Deployment chat-node-") && said.contains("since a test says so"), "{said}");
    assert_eq!(server.writes().len(), 0, "nothing is begun");

    server.refuse("/services/chat");
    for trial in [Trial::Before, Trial::Known] {
        let before = server.writes().len();
        let error = apply(&shared, &valid(&none()), 2, trial).await.unwrap_err();
        assert!(matches!(&error, ApplyError::Partly(_)), "{error}");
        assert!(server.writes()[before..].iter().any(|w| w.path == *NODES), "{trial:?}");
    }
    server.refuse("/configmaps/chat-config");
    let before = server.writes().len();
    apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap_err();
    let written: Vec<_> = server.writes()[before..].iter().map(|w| w.path.clone()).collect();
    assert!(!written.contains(&*NODES), "its pods mount what is refused: {written:?}");
    assert!(written.iter().any(|path| path.ends_with("/deployments/chat-nats")), "{written:?}");
}

const SECRET: &str = "/api/v1/namespaces/default/secrets/chat-node";

/// The Secret as the API server stores it, with `stringData` turned into `data`.
fn stored(secret: &Value) -> Value {
    let encode =
        |text: &str| serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap();
    let mut secret = secret.clone();
    let texts = secret["stringData"].as_object().unwrap().clone();
    for (key, text) in texts {
        secret["data"][key] = encode(text.as_str().unwrap());
    }
    secret
}

#[tokio::test]
async fn a_secret_that_is_gone_comes_back_as_it_was_and_another_password_reaches_nats() {
    let server = Server::default();
    let shared = server.shared();
    let again = async || apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    let mark = || {
        let nats = server.get(&format!("{DEPLOYMENTS}/chat-nats"));
        let template = &nats["spec"]["template"]["metadata"]["annotations"]["channelcluster.io/secret-mark"];
        template.as_str().unwrap_or_default().to_owned()
    };
    again().await;
    let first = stored(&server.get(SECRET));
    server.put(SECRET, first.clone());
    again().await;
    let before = mark();
    assert!(!before.is_empty());

    server.remove(SECRET);
    again().await;
    assert_eq!(server.get(SECRET)["data"], first["data"], "those who have read it need not read it again");
    again().await;
    assert_eq!(mark(), before);

    server.edit(SECRET, &json!({"data": {"nats-password": null}}));
    again().await;
    assert_eq!(server.get(SECRET)["data"], first["data"], "a key that is gone comes back too");

    server.edit(SECRET, &json!({"data": {"nats-password": "b3RoZXI="}}));
    again().await;
    assert_ne!(mark(), before, "NATS reads it when it starts");
    assert_eq!(server.get(SECRET)["data"]["nats-password"], "b3RoZXI=", "what somebody wrote is kept");
}

#[tokio::test]
async fn a_server_from_before_there_were_marks_is_restarted_by_a_newer_secret_only() {
    let server = Server::default();
    let shared = server.shared();
    let nats = format!("{DEPLOYMENTS}/chat-nats");
    apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    let mut old = server.get(&nats);
    for path in ["/metadata", "/spec/template/metadata"] {
        old.pointer_mut(path).unwrap().as_object_mut().unwrap().remove("annotations");
    }
    old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    server.put(&nats, old);
    server.edit(SECRET, &json!({"metadata": {"creationTimestamp": "2025-12-31T23:59:59Z"}}));
    let marked = || !server.get(&nats)["metadata"]["annotations"].is_null();
    apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    assert!(!marked());
    server.edit(SECRET, &json!({"metadata": {"creationTimestamp": "2026-01-02T00:00:00Z"}}));
    apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    assert!(marked());
}

/// Makes a Deployment of nodes have so many of them, and all of them made.
fn made(server: &Server, path: &str, replicas: i32) {
    let status = json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": replicas});
    let change =
        json!({"metadata": {"generation": 2, "uid": path}, "spec": {"replicas": replicas}, "status": status});
    server.edit(path, &change);
}

/// The paths of the deletions after the first `before` writes.
fn removals(server: &Server, before: usize) -> Vec<String> {
    let writes = server.writes().into_iter().skip(before);
    writes.filter(|w| w.method == Method::DELETE).map(|w| w.path).collect()
}

#[tokio::test]
async fn the_managed_nats_goes_after_the_last_node_that_uses_it() {
    let server = Server::default();
    let mut shared = server.shared();
    let (before, after) = (valid(&none()), valid(&own_nats()));
    let (old, new) = (nodes(&before), nodes(&after));
    let written = server.writes().len();
    apply(&shared, &before, 2, Trial::New).await.unwrap();
    assert!(apply(&shared, &after, 2, Trial::New).await.unwrap().leftovers, "no node is made otherwise yet");
    assert_eq!(server.get(&new)["spec"]["replicas"], 0, "the nodes come one after the other");
    shared.stores.replica_sets = sets(vec![replica_set("old", &old), replica_set("new", &new)]);
    let of = |name: &str, set: &str, more: Value| pod_of(name, set, &more);
    let (a, b) = (of("a", "old", none()), of("b", "old", none()));
    let (c, d) = (of("c", "new", none()), of("d", "new", none()));
    let leaves = of("b", "old", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let failed = of("e", "old", json!({"status": {"phase": "Failed"}}));

    shared.stores.pods = kept_pods(vec![c.clone(), d.clone()]);
    for counts in [(1, 2), (0, 1)] {
        made(&server, &old, counts.0);
        made(&server, &new, counts.1);
        server.edit(&new, &json!({"spec": {"replicas": 2}}));
        server.show(&mut shared);
        let applied = apply(&shared, &after, 2, Trial::Known).await.unwrap();
        assert!(applied.leftovers, "nodes are replaced: {counts:?}");
    }
    made(&server, &new, 2);
    server.edit(&new, &json!({"metadata": {"generation": 3}}));
    server.show(&mut shared);
    assert!(apply(&shared, &after, 2, Trial::Known).await.unwrap().leftovers, "the change was not seen yet");
    made(&server, &new, 2);
    server.show(&mut shared);
    for pods in [vec![a, b], vec![c.clone(), d.clone(), leaves], vec![c.clone()]] {
        shared.stores.pods = kept_pods(pods);
        assert!(apply(&shared, &after, 2, Trial::Known).await.unwrap().leftovers, "one uses it, perhaps");
    }
    assert_eq!(removals(&server, written), [""; 0]);

    shared.stores.pods = kept_pods(vec![c, d, failed]);
    assert!(!apply(&shared, &after, 2, Trial::Known).await.unwrap().leftovers);
    let removed = removals(&server, written);
    assert_eq!(removed[0], format!("{DEPLOYMENTS}/chat-nats"));
    assert_eq!(removed.len(), 4, "and the rest of it: {removed:?}");
    assert!(!apply(&shared, &after, 2, Trial::Known).await.unwrap().leftovers);
}

fn own_nats() -> Value {
    json!({"backplane": {"type": "Nats", "urls": ["nats://nats.example:4222"]}})
}

#[tokio::test]
async fn what_a_spec_no_longer_asks_for_is_removed_if_it_is_ours() {
    let server = Server::default();
    let mut shared = server.shared();
    apply(&shared, &valid(&none()), 1, Trial::Known).await.unwrap();
    let before = server.writes().len();
    let users = "/api/v1/namespaces/default/configmaps/chat-nats";
    server.put(users, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat-nats"}}));
    let alone = valid(&json!({"nodes": {"min": 1, "max": 1}, "backplane": {"type": "None"}}));
    apply(&shared, &alone, 1, Trial::New).await.unwrap();
    made(&server, &NODES, 0);
    made(&server, &nodes(&alone), 1);
    server.show(&mut shared);
    shared.stores.replica_sets = sets(vec![replica_set("new", &nodes(&alone))]);
    shared.stores.pods = kept_pods(vec![pod_of("a", "new", &none())]);
    apply(&shared, &alone, 1, Trial::Known).await.unwrap();
    let deleted = removals(&server, before);
    assert!(deleted.contains(&format!("{DEPLOYMENTS}/chat-nats")), "{deleted:?}");
    assert!(!deleted.contains(&users.to_owned()), "it is the user's: {deleted:?}");
}

#[tokio::test]
async fn nothing_is_written_without_the_lease() {
    let server = Server::default();
    let mut shared = server.shared();
    shared.fence = Arc::default();
    let error = apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap_err();
    assert!(matches!(error, ApplyError::Fenced(_)), "{error}");
    assert_eq!(server.writes().len(), 0);
}

#[tokio::test]
async fn a_pod_with_our_labels_that_the_deployment_did_not_make_is_no_node() {
    let owned = |more: Value| json!({"metadata": {"ownerReferences": [more]}});
    let of = |kind: &str, name: &str, controller: bool| {
        owned(json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": controller}))
    };
    let made_by = |set: &str| {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-node-5d4f", "uid": set, "controller": true});
        owned(owner)
    };
    let mut stores = Server::default().shared().stores;
    // Somebody who knows names and labels made these ReplicaSets: for a Deployment of that name, or not as its
    // controller.
    let forged = |uid: &str, deployment: &str, controller: bool| {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-node", "uid": deployment, "controller": controller,
        });
        let mut set = node_replica_set();
        set.metadata.name = Some(format!("chat-node-{uid}")); // a store has one object of a name
        set.metadata.uid = Some(uid.to_owned());
        set.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
        set
    };
    stores.replica_sets = sets(vec![
        node_replica_set(),
        forged("other-deployment", "x", true),
        forged("not-controlled", "deployment", false),
    ]);
    stores.pods = kept_pods(vec![
        node_pod("ours", &none()),
        node_pod("of-a-forged-set", &made_by("other-deployment")),
        node_pod("of-a-set-without-controller", &made_by("not-controlled")),
        node_pod("of-a-set-that-is-not-there", &made_by("replica-set-of-before")),
        node_pod("bare", &json!({"metadata": {"ownerReferences": []}})),
        node_pod("another-deployments", &of("ReplicaSet", "canary-5d4f", true)),
        node_pod("a-jobs", &of("Job", "chat-node-5d4f", true)),
        node_pod("not-controlled", &of("ReplicaSet", "chat-node-5d4f", false)),
    ]);
    let pods = observe::pods(&stores, "default", &Names::new("chat"), UID);
    let names: Vec<_> = pods.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["ours"]);
}

const CLUSTER: &str = "/apis/channelcluster.io/v1alpha1/namespaces/default/channelclusters/chat";

fn labels() -> ClusterLabels {
    ClusterLabels { namespace: "default".to_owned(), name: "chat".to_owned() }
}

/// The ChannelCluster is there, and its status is about to be written.
async fn published(server: &Server) -> (Shared, Publisher) {
    server.put(CLUSTER, serde_json::to_value(cluster(&none())).unwrap());
    let shared = server.shared();
    let publisher = Publisher::load(shared.client.clone(), &labels(), UID).await.unwrap();
    (shared, publisher)
}

#[tokio::test]
async fn a_status_goes_with_the_version_that_was_seen_and_again_when_only_the_spec_moved() {
    let server = Server::default();
    let (shared, mut publisher) = published(&server).await;
    let mut status = publisher.last().clone();
    status.conditions = first_sight(1, 0);
    assert!(publisher.publish(&shared, status.clone(), 1_000_000).await.unwrap());
    assert_eq!(server.writes()[0].body["metadata"]["resourceVersion"], "1");
    assert!(!publisher.publish(&shared, status.clone(), 1_000_001).await.unwrap(), "it says nothing new");

    server.edit(CLUSTER, &json!({"spec": {"targetConnections": 200}}));
    status.reason = Some("New".to_owned());
    let soon = 1_000_000 + WORDS_MILLIS - 1;
    assert!(!publisher.publish(&shared, status.clone(), soon).await.unwrap(), "words can wait");
    assert!(publisher.publish(&shared, status, soon + 1).await.unwrap());
    assert_eq!(server.writes().len(), 2);
    assert_eq!(server.get(CLUSTER)["status"]["reason"], "New");
}

#[tokio::test]
async fn a_status_of_another_operator_is_not_written_over() {
    let server = Server::default();
    let (shared, mut publisher) = published(&server).await;
    let mut status = publisher.last().clone();
    status.reason = Some("Ours".to_owned());
    assert!(publisher.publish(&shared, status.clone(), 1_000_000).await.unwrap());

    server.edit(CLUSTER, &json!({"status": {"reason": "Theirs"}}));
    status.desired_replicas = Some(3);
    for _ in 0..2 {
        let error = publisher.publish(&shared, status.clone(), 1_000_001).await.unwrap_err();
        assert!(matches!(error, PublishError::Overtaken), "{error}");
        assert_eq!(server.get(CLUSTER)["status"]["reason"], "Theirs");
    }
    let mut publisher = Publisher::load(shared.client.clone(), &labels(), UID).await.unwrap();
    assert_eq!(publisher.last().reason.as_deref(), Some("Theirs"));
    assert!(publisher.publish(&shared, status, 1_000_002).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_never_answered_holds_nothing_up() {
    let server = Server::default();
    let object = cluster(&none());
    server.put(CLUSTER, serde_json::to_value(&object).unwrap());
    let mut shared = server.shared();
    shared.stores.clusters = watched(vec![DeserializeGuard(Ok(object))]);
    let context = Context::new(shared);
    let tell = |outcome| {
        let cluster = Some(Arc::new(valid(&none())));
        context.tell(
            &labels(),
            Reconciled { uid: UID.to_owned(), generation: 1, outcome, cluster, waiting: None },
        );
    };
    let reads = |what: &'static str| {
        let server = server.clone();
        move || server.get(CLUSTER)["status"].to_string().contains(what)
    };
    tell(Outcome::Applied);
    until(reads("NodesNotReady")).await;

    server.swallow(1);
    tell(Outcome::Conflict("the first".to_owned()));
    until(|| server.swallowed() == 1).await;
    tell(Outcome::Applied);
    let reads_first = reads("the first");
    until(|| !reads_first()).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_gone_has_its_fleet_reconciled() {
    let server = Server::default();
    let object = cluster(&none());
    server.put(CLUSTER, serde_json::to_value(&object).unwrap());
    let mut shared = server.shared();
    shared.stores.clusters = watched(vec![DeserializeGuard(Ok(object))]);
    let pending = shared.pending.clone();
    let context = Context::new(shared);
    let cluster = Some(Arc::new(valid(&none())));
    let outcome = Outcome::Applied;
    context
        .tell(&labels(), Reconciled { uid: UID.to_owned(), generation: 1, outcome, cluster, waiting: None });
    until(|| pending.pop().is_some_and(|due| due.name == "chat")).await;
    let beside =
        server.writes().iter().any(|w| w.path.contains("/secrets") || w.path.contains("/deployments"));
    assert!(!beside, "the loop writes nothing beside the reconcile");
}

/// Waits for something that comes sooner or later.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("it never came");
}

#[tokio::test(start_paused = true)]
async fn every_request_has_a_bound_and_a_watch_until_it_begins() {
    let server = Server::default();
    server.put(CLUSTER, serde_json::to_value(cluster(&none())).unwrap());
    let client = server.client();
    server.swallow(1);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let error = secrets.create(&PostParams::default(), &Secret::default()).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 10 s"), "{error}");
    let all = WatchParams::default();
    let watch = tokio::time::timeout(REQUEST_TIMEOUT, secrets.watch(&all, "0")).await.unwrap();
    let error = watch.err().unwrap();
    assert!(error.to_string().contains("no answer within 4 s"), "{error}");
    let clusters: Api<ChannelCluster> = Api::namespaced(client, "default");
    assert_eq!(clusters.get("chat").await.unwrap().uid().as_deref(), Some(UID), "and so do others");
}

#[tokio::test]
async fn a_namesake_is_not_taken_for_the_cluster() {
    let server = Server::default();
    server.put(CLUSTER, serde_json::to_value(cluster(&none())).unwrap());
    let loaded = Publisher::load(server.client(), &labels(), "another-uid").await;
    assert!(matches!(loaded, Err(PublishError::Gone)));
}

#[tokio::test]
async fn a_term_that_is_over_leaves_no_node_counts_in_the_metrics() {
    let server = Server::default();
    let context = Context::new(server.shared());
    let metrics = context.shared.metrics.clone();
    let outcome = Outcome::Applied;
    context.tell(
        &labels(),
        Reconciled { uid: UID.to_owned(), generation: 1, outcome, cluster: None, waiting: None },
    );
    metrics.desired.get_or_create(&labels()).set(3);
    assert!(metrics.encode().unwrap().contains("chat"));
    drop(context);
    assert!(!metrics.encode().unwrap().contains("chat"), "the next leader tells");
}
