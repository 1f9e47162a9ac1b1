//! On a real API server another field manager keeps setting or removing fields that the operator keeps: the operator
//! names it, and does not write in a loop.
#![allow(clippy::unwrap_used, clippy::large_futures, reason = "test code outside of test functions")]

use std::time::{Duration, Instant};

use crate::support::{cluster, nodes_name, operator, until};
use apiserver::{ApiServer, Identity};
use crds::ChannelCluster;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

/// For so long both write against each other.
const WATCHED: Duration = Duration::from_secs(20);
/// Most writes of the operator in that time: three until it is sure, and one that was under way.
const MOST_WRITES: i64 = 4;

fn nodes(client: &Client, here: &str) -> Api<Deployment> {
    Api::namespaced(client.clone(), here)
}

/// Sets `spec` in the Deployment `name` as `manager` whenever it is different; null removes a field.
fn rival(api: Api<Deployment>, name: String, manager: &'static str, spec: Value) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        loop {
            api.patch(&name, &params, &Patch::Merge(json!({"spec": spec}))).await.ok();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }))
}

/// Status, reason and message of Reconciling.
async fn reconciling(client: &Client, here: &str) -> Option<(String, String, String)> {
    let api: Api<ChannelCluster> = Api::namespaced(client.clone(), here);
    let conditions = api.get("chat").await.unwrap().status?.conditions;
    let found = conditions.into_iter().find(|c| c.type_ == "Reconciling")?;
    Some((found.status, found.reason, found.message))
}

/// A fleet in whose Deployment `manager` keeps setting `spec`. Gives the message of the condition Reconciling, and how
/// often the Deployment changed since both began.
async fn contested(server: &ApiServer, manager: &'static str, spec: Value) -> (String, i64) {
    let client = server.client(Identity::Admin).unwrap();
    let here = server.namespace("contest").await.unwrap();
    cluster(&client, &here, &json!({})).await;
    let api = nodes(&client, &here);
    let name = nodes_name(&client, &here).await;
    let generation = async || api.get_opt(&name).await.unwrap()?.metadata.generation;
    let before = until("the Deployment", generation).await;
    let started = Instant::now();
    let _rival = rival(api.clone(), name.clone(), manager, spec);
    let said = until("it is said", async || {
        let (status, reason, message) = reconciling(&client, &here).await?;
        (status == "True" && reason == "FieldsContested").then_some(message)
    })
    .await;
    println!("{manager}: said after {} ms", started.elapsed().as_millis());
    tokio::time::sleep(WATCHED.saturating_sub(started.elapsed())).await;
    let changes = generation().await.unwrap() - before;
    let events = server.kubectl(&["-n", &here, "get", "events"], "").await.unwrap();
    assert!(events.contains("FieldsContested"), "{events}");
    (said, changes)
}

/// Another manager that writes its own fields takes none of the operator's. Gives the namespace.
async fn beside(server: &ApiServer) -> String {
    let client = server.client(Identity::Admin).unwrap();
    let here = server.namespace("beside").await.unwrap();
    cluster(&client, &here, &json!({})).await;
    let api = nodes(&client, &here);
    let name = nodes_name(&client, &here).await;
    let params = PatchParams { field_manager: Some("kubectl-annotate".to_owned()), ..PatchParams::default() };
    for note in ["1", "2", "3", "4", "5"] {
        let patch = json!({"metadata": {"annotations": {"example.com/note": note}}});
        api.patch(&name, &params, &Patch::Merge(patch)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await; // longer than the reconciles' debounce
    }
    here
}

#[tokio::test]
async fn who_keeps_setting_our_fields_is_named_and_not_fought() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let operator = operator(&server).await;
    let here = beside(&server).await;
    let noted = |here: &str| {
        let log = operator.log();
        log.lines()
            .filter(|line| line.contains(here) && line.contains("somebody else had set or removed"))
            .count()
    };
    assert_eq!(noted(&here), 0, "{}", operator.log());
    let template = json!({"template": {"spec": {"terminationGracePeriodSeconds": 5}}});
    // It replaces the object as a manifest from Git does: without the fields that the operator has added.
    let less = json!({"minReadySeconds": 1, "template": {"spec": {"topologySpreadConstraints": null}}});
    for (manager, spec, field) in [
        ("argocd-controller", template, "spec.template.spec.terminationGracePeriodSeconds"),
        ("gitops-scaler", json!({"replicas": 1}), "spec.replicas"),
        ("gitops-replacer", less, "spec.template.spec.topologySpreadConstraints"),
    ] {
        let (said, changes) = contested(&server, manager, spec).await;
        println!("{manager}: the Deployment changed {changes} times");
        assert!(said.contains(manager) && said.contains(field), "{said}");
        assert!(said.contains("Deployment chat-node-"), "{said}");
        // The other manager answers each of our writes with one of its own.
        assert!(changes <= 2 * MOST_WRITES, "{changes} changes in {WATCHED:?}");
    }
    assert!(noted("contest") > 0, "that is how it is logged");
}
