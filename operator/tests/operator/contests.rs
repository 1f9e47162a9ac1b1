//! Another writer keeps writing what the operator writes, against an API server in memory. Objects that it does not
//! write are kept as always.

use std::io;
use std::sync::{Arc, Mutex};

use crate::support::{
    NODES, Server, Write, cluster, kept_pods, nodes, pod_of, replica_set, sets, valid, watched,
};
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use operator::act::Target;
use operator::apply::{Applied, Trial, apply};
use operator::context::Context;
use operator::observe::SeenDeployment;
use operator::reconcile::{Error, reconcile};
use operator::shared::Shared;
use operator_core::observation::DeploymentView;
use operator_core::operations::plan;
use serde_json::{Value, json};
use tracing::Level;
use tracing_subscriber::fmt;

const NATS: &str = "/apis/apps/v1/namespaces/default/deployments/chat-nats";
const SERVICE: &str = "/api/v1/namespaces/default/services/chat";
const CONFIG: &str = "/api/v1/namespaces/default/configmaps/chat-config";
const SECRET: &str = "/api/v1/namespaces/default/secrets/chat-node";

fn none() -> Value {
    json!({})
}

/// The Deployment of the nodes, as it is called where a contest is noted.
fn deployment() -> String {
    format!("Deployment {}", name_of(&NODES))
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// Metadata of an object with these records of who manages `spec`.
fn managed(records: &[(&str, Value)]) -> ObjectMeta {
    let record = |(manager, spec): &(&str, Value)| {
        let operation = if *manager == "argocd" { "Update" } else { "Apply" };
        json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec}})
    };
    let records: Vec<_> = records.iter().map(record).collect();
    serde_json::from_value(json!({"managedFields": records})).unwrap()
}

/// Has `argocd` take a field of an object so often that it is contested.
fn contest(shared: &Shared, object: &str, field: &str) {
    let both = json!({"f:selector": {}, field: {}});
    let before = managed(&[("channel-operator", json!({"f:selector": {}})), ("argocd", json!({field: {}}))]);
    for _ in 0..3 {
        shared.contests.note(
            "default",
            "chat",
            object,
            &before,
            &managed(&[("channel-operator", both.clone())]),
        );
    }
    assert!(shared.contests.now("default", "chat").is_some());
}

/// The objects that were written to after the first `before` writes.
fn written(server: &Server, before: usize) -> Vec<String> {
    server.writes().into_iter().skip(before).map(|write| write.path).collect()
}

/// A reconcile of `default/chat`.
async fn look(context: &Arc<Context>) -> Result<Action, Error> {
    reconcile(Arc::new(DeserializeGuard(Ok(cluster(&none())))), context.clone()).await
}

/// A fleet that was applied.
async fn reconciled(server: &Server) -> Arc<Context> {
    let mut shared = server.shared();
    shared.stores.clusters = watched(vec![DeserializeGuard(Ok(cluster(&none())))]);
    let context = Arc::new(Context::new(shared));
    look(&context).await.unwrap();
    context
}

#[tokio::test]
async fn what_is_not_contested_comes_back_when_it_is_gone() {
    let server = Server::default();
    let context = reconciled(&server).await;
    contest(&context.shared, &deployment(), "f:template");
    for path in [SERVICE, CONFIG, SECRET] {
        server.remove(path);
    }
    let before = server.writes().len();
    look(&context).await.unwrap();
    for path in [SERVICE, CONFIG, SECRET] {
        assert!(!server.get(path).is_null(), "{path}");
    }
    let paths = written(&server, before);
    assert!(!paths.contains(&*NODES), "that waits: {paths:?}");
    assert!(paths.iter().any(|path| path == NATS), "that does not: {paths:?}");

    server.remove(&NODES);
    look(&context).await.unwrap();
    assert!(!server.get(&NODES).is_null(), "nobody sets what is not there");
}

#[tokio::test]
async fn a_refusal_of_something_else_is_told_for_as_long_as_it_lasts() {
    let server = Server::default();
    let context = reconciled(&server).await;
    contest(&context.shared, &deployment(), "f:template");
    server.refuse("/services/chat");
    for _ in 0..2 {
        let error = look(&context).await.unwrap_err();
        assert!(error.to_string().contains("Service chat"), "{error}");
    }
    server.refuse("");
    look(&context).await.unwrap();
}

#[tokio::test]
async fn another_spec_is_written_at_once_and_so_is_the_one_before_after_it_failed() {
    let server = Server::default();
    let context = reconciled(&server).await;
    let of = async |more: &Value| {
        let mut object = cluster(more);
        // Another operator applied it before.
        object.status = serde_json::from_value(json!({"observedGeneration": 1})).unwrap();
        reconcile(Arc::new(DeserializeGuard(Ok(object))), context.clone()).await
    };
    contest(&context.shared, &deployment(), "f:template");
    server.refuse("/services/chat");
    let other = json!({"nodes": {"priorityClassName": "high"}});
    let before = server.writes().len();
    of(&other).await.unwrap_err();
    let theirs = nodes(&valid(&other));
    assert!(written(&server, before).contains(&theirs));
    server.refuse("");
    let before = server.writes().len();
    of(&none()).await.unwrap();
    assert!(written(&server, before).contains(&*NODES), "it is not the current one");
}

#[tokio::test]
async fn a_nats_that_somebody_writes_too_waits_whatever_the_field_and_follows_its_password() {
    let server = Server::default();
    let shared = server.shared();
    let again = async || apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    again().await;
    let mut secret = server.get(SECRET);
    secret["data"] = json!({"admin-token": "YQ==", "nats-password": "Yg=="});
    server.put(SECRET, secret);
    again().await;
    contest(&shared, "Deployment chat-nats", "f:replicas");
    let before = server.writes().len();
    let Applied { contested, leftovers } = again().await;
    assert!(contested.is_some() && !leftovers);
    assert!(!written(&server, before).iter().any(|path| path == NATS), "nobody else scales it");
    assert!(written(&server, before).contains(&*NODES));

    server.edit(SECRET, &json!({"data": {"nats-password": "b3RoZXI="}}));
    for writes in [true, false] {
        let before = server.writes().len();
        again().await;
        assert_eq!(written(&server, before).iter().any(|path| path == NATS), writes);
    }
}

#[tokio::test]
async fn a_nats_that_no_node_uses_goes_while_the_nodes_are_contested() {
    let server = Server::default();
    let mut shared = server.shared();
    let alone = valid(&json!({"nodes": {"min": 1, "max": 1}, "backplane": {"type": "None"}}));
    let path = nodes(&alone);
    apply(&shared, &alone, 1, Trial::New).await.unwrap();
    server.put(NATS, nats(&shared).await);
    contest(&shared, &format!("Deployment {}", name_of(&path)), "f:template");
    shared.stores.replica_sets = sets(vec![replica_set("new", "new")]);
    for (pods, goes) in [(vec![], false), (vec![pod_of("a", "new", &none())], true)] {
        let status = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1});
        server.edit(&path, &json!({"metadata": {"generation": 2, "uid": "new"}, "status": status}));
        server.show(&mut shared);
        shared.stores.pods = kept_pods(pods);
        let applied = apply(&shared, &alone, 1, Trial::Known).await.unwrap();
        assert_eq!((applied.leftovers, applied.contested.is_some()), (!goes, true), "{applied:?}");
        let gone = |write: &Write| write.method == Method::DELETE && write.path == NATS;
        assert_eq!(server.writes().iter().any(gone), goes);
    }
}

/// The Deployment of a managed NATS of `default/chat`.
async fn nats(shared: &Shared) -> Value {
    let server = Server::default();
    let other = Shared { client: server.client(), ..shared.clone() };
    apply(&other, &valid(&none()), 1, Trial::New).await.unwrap();
    server.get(NATS)
}

#[tokio::test]
async fn who_removes_a_field_again_and_again_is_not_fought() {
    let server = Server::default();
    let context = reconciled(&server).await;
    // After a replacement without the field, nobody manages it any more.
    let remove = || {
        let mut records = server.get(SERVICE)["metadata"]["managedFields"].clone();
        let record = records.as_array_mut().unwrap().iter_mut().find(|r| r["manager"] == "channel-operator");
        record.unwrap()["fieldsV1"]["f:spec"].as_object_mut().unwrap().remove("f:ports").unwrap();
        server.edit(SERVICE, &json!({"metadata": {"managedFields": records}}));
    };
    let written = async || {
        remove();
        let before = server.writes().len();
        look(&context).await.unwrap();
        written(&server, before).iter().any(|path| path == SERVICE)
    };
    for _ in 0..3 {
        assert!(context.shared.contests.now("default", "chat").is_none(), "so far it may be an accident");
        assert!(written().await);
    }
    let said = context.shared.contests.now("default", "chat").unwrap().sentence();
    assert!(said.contains("spec.ports") && said.contains("of Service chat is removed"), "{said}");
    let before = server.writes().len();
    look(&context).await.unwrap();
    assert!(!self::written(&server, before).iter().any(|path| path == SERVICE));
}

/// The log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_count_that_waits_is_not_said_to_be_written() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber = fmt().with_max_level(Level::INFO).with_writer(move || lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::default();
    let shared = server.shared();
    apply(&shared, &valid(&none()), 2, Trial::Known).await.unwrap();
    let act = async || {
        log.take();
        let before = server.writes().len();
        let resource_version = server.get(&NODES)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let name = name_of(&NODES).to_owned();
        let view = DeploymentView { name, current: true, replicas: 2, ..DeploymentView::default() };
        let target = Target {
            shared: &shared,
            namespace: "default",
            name: "chat",
            deployments: &[SeenDeployment { view, resource_version }],
            pods: &operator::observe::SeenPods::default(),
            token: "",
            decided: std::time::Instant::now(),
        };
        let deployment = name_of(&NODES).to_owned();
        target.act(vec![plan::Action::Replicas { deployment, from: 2, to: 3 }]).await;
        (written(&server, before).len(), log.take().contains("acting"))
    };
    assert_eq!(act().await, (1, true));
    contest(&shared, &deployment(), "f:replicas");
    assert_eq!(act().await, (0, false), "each 2 s it would be the same line again");
}
