//! More than one installation of the operator: two for the same namespaces by mistake, and several on purpose.

use std::process::Command;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity, OPERATOR_NAMESPACE, Operator};
use cluster::Tool;
use cluster::run::{self, Progress};
use crds::ChannelCluster;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{Api, PostParams};
use serde_json::json;

/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/channelcluster");

async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let started = Instant::now();
    while !look().await {
        assert!(started.elapsed() < HANG, "waited {} s for {what}", HANG.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn says(operator: &Operator, text: &str) -> bool {
    operator.get("/readyz").await.is_ok_and(|(_, said)| said.contains(text))
}

async fn server_with(namespaces: &[&str]) -> ApiServer {
    let server = ApiServer::start().await.unwrap();
    let api: Api<Namespace> = Api::all(server.client(Identity::Admin).unwrap());
    for name in namespaces {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        api.create(&PostParams::default(), &namespace).await.unwrap();
    }
    server
}

async fn chat(server: &ApiServer, namespace: &str) {
    let clusters: Api<ChannelCluster> = Api::namespaced(server.client(Identity::Admin).unwrap(), namespace);
    let chat = json!({
        "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "metadata": {"name": "chat"},
        "spec": {"targetConnections": 100, "rooms": {"maxMembers": 10}, "auth": {"anonymous": true}},
    });
    clusters.create(&PostParams::default(), &serde_json::from_value(chat).unwrap()).await.unwrap();
}

async fn has_service(server: &ApiServer, namespace: &str) -> bool {
    let services: Api<Service> = Api::namespaced(server.client(Identity::Admin).unwrap(), namespace);
    services.get_opt("chat").await.unwrap().is_some()
}

#[tokio::test]
async fn a_second_installation_stands_back_and_says_so() {
    let server = server_with(&[OPERATOR_NAMESPACE, "second"]).await;
    let kubeconfig = server.kubeconfig(Identity::Admin);
    let first = Operator::start(&kubeconfig, OPERATOR_NAMESPACE, &[]).await.unwrap();
    until("the first to lead", || says(&first, "leading")).await;
    let second = Operator::start(&kubeconfig, "second", &[]).await.unwrap();
    until("the second to stand back", || {
        says(&second, "standing back: the operator installed in namespace channelcluster-system")
    })
    .await;
    chat(&server, "default").await;
    until("the Service", || has_service(&server, "default")).await;
    let (_, metrics) = second.get("/metrics").await.unwrap();
    assert!(metrics.contains("channelcluster_operator_foreign_claims 1"), "{metrics}");
    assert!(!metrics.contains("reconciles_total{result=\"applied\"}"), "{metrics}");
    let events = server.kubectl(&["-n", "kube-system", "get", "events"], "").await.unwrap();
    assert!(events.contains("StandingBack"), "{events}");
}

/// The chart's rights, rendered with `values`.
fn rights(values: &str) -> String {
    let mut helm = Command::new(Tool::Helm.ready(&Progress::new()).unwrap());
    helm.args(["template", "channelcluster", CHART, "--namespace", OPERATOR_NAMESPACE]);
    helm.args(["--show-only", "templates/rbac.yaml", "--set", values]);
    run::output(&mut helm).unwrap()
}

#[tokio::test]
async fn installations_for_some_namespaces_live_beside_one_for_all() {
    let server = server_with(&[OPERATOR_NAMESPACE, "all", "a", "b"]).await;
    let for_all = Operator::start(&server.kubeconfig(Identity::Admin), "all", &[]).await.unwrap();
    until("the one for all to lead", || says(&for_all, "leading")).await;

    let rendered = rights("watchNamespaces={a}");
    assert!(!rendered.contains("kind: ClusterRole\n"), "{rendered}");
    server.kubectl(&["apply", "-f", "-"], &rendered).await.unwrap();
    let some = ["--watch-namespaces=a"];
    let for_a =
        Operator::start(&server.kubeconfig(Identity::Operator), OPERATOR_NAMESPACE, &some).await.unwrap();
    until("the one for a to lead", || says(&for_a, "leading")).await;
    let without = "going on without a look at the machines";
    until("a word about machines", async || for_a.log().contains(without)).await;
    until("the one for all to see the claim on a", || async {
        let (_, metrics) = for_all.get("/metrics").await.unwrap();
        metrics.contains("channelcluster_operator_foreign_claims 1")
    })
    .await;
    chat(&server, "a").await;
    chat(&server, "b").await;
    until("the Service in a", || has_service(&server, "a")).await;
    until("the Service in b", || has_service(&server, "b")).await;
    for (operator, own) in [(&for_a, "namespace=\"a\""), (&for_all, "namespace=\"b\"")] {
        until("figures of its fleet", async || operator.get("/metrics").await.unwrap().1.contains(own)).await;
    }
    let (_, of_a) = for_a.get("/metrics").await.unwrap();
    let (_, of_all) = for_all.get("/metrics").await.unwrap();
    assert!(of_a.contains("namespace=\"a\"") && !of_a.contains("namespace=\"b\""), "{of_a}");
    assert!(of_all.contains("namespace=\"b\"") && !of_all.contains("namespace=\"a\""), "{of_all}");

    assert!(!for_all.log().contains(without), "{}", for_all.log());
    let rendered = rights("watchNamespaces={a},watchMachines=always");
    assert!(
        rendered.contains("kind: ClusterRole\n")
            && !rendered.contains("resources: [leases]\n  verbs: [list]"),
        "{rendered}"
    );
    server.kubectl(&["apply", "-f", "-"], &rendered).await.unwrap();

    let user = Identity::Operator.user();
    for (namespace, what, may) in [
        ("a", "create deployments.apps", "yes"),
        ("b", "create deployments.apps", "no"),
        ("b", "get secrets", "no"),
        ("kube-system", "get secrets", "no"),
        ("a", "list secrets", "no"),
        ("a", "watch nodes", "yes"),
        ("b", "list pods", "no"),
    ] {
        let (verb, resource) = what.split_once(' ').unwrap();
        let ask = ["auth", "can-i", verb, resource, "-n", namespace, "--as", &user];
        // kubectl ends with an error when the answer is no.
        let said = server.kubectl(&ask, "").await.unwrap_or_else(|error| format!("{error:#}"));
        assert!(said.contains(may), "{what} in {namespace}: {said}");
    }
}

#[tokio::test]
async fn a_namespace_that_may_not_be_seen_takes_no_other_with_it() {
    let server = server_with(&[OPERATOR_NAMESPACE, "a", "b"]).await;
    server.kubectl(&["apply", "-f", "-"], &rights("watchNamespaces={a}")).await.unwrap();
    let both = ["--watch-namespaces=a,b"];
    let operator =
        Operator::start(&server.kubeconfig(Identity::Operator), OPERATOR_NAMESPACE, &both).await.unwrap();
    until("it to lead without b", || says(&operator, "cannot be seen: b")).await;
    chat(&server, "a").await;
    chat(&server, "b").await;
    until("the Service in a", || has_service(&server, "a")).await;
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    assert!(metrics.contains("channelcluster_operator_lost_namespaces 1"), "{metrics}");
    server.kubectl(&["apply", "-f", "-"], &rights("watchNamespaces={a,b}")).await.unwrap();
    until("the Service in b", || has_service(&server, "b")).await;
}
