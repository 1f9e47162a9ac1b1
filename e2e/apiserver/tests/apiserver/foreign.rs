//! Objects that others put into the cluster under our label cost the operator next to nothing.

use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity, OPERATOR_NAMESPACE, Operator};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use serde_json::json;

const DEPLOYMENTS: usize = 300;
/// Size of each object, in bytes.
const SIZE: usize = 1_000_000;
/// Most that the operator may grow by, in KiB.
const MOST_GROWTH: u64 = 32 * 1_024;
/// A test that has not seen what it waits for by then has failed.
const HANG: Duration = Duration::from_secs(120);

async fn until_leading(operator: &Operator) {
    let started = Instant::now();
    while !operator.get("/readyz").await.is_ok_and(|(_, said)| said.contains("leading")) {
        assert!(started.elapsed() < HANG, "{}", operator.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The most memory that it ever had, in KiB.
fn peak(operator: &Operator) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn foreign(number: usize) -> Deployment {
    let labels = json!({"app.kubernetes.io/managed-by": "channel-operator"});
    let container = json!({"name": "a", "image": "a", "env": [{"name": "A", "value": "x".repeat(SIZE)}]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    serde_json::from_value(json!({
        "metadata": {"name": format!("foreign-{number}"), "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }))
    .unwrap()
}

#[tokio::test]
async fn large_objects_of_others_are_not_kept() {
    let server = ApiServer::start().await.unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let own: Namespace = serde_json::from_value(json!({"metadata": {"name": OPERATOR_NAMESPACE}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &own).await.unwrap();
    let kubeconfig = server.kubeconfig(Identity::Admin);
    let first = Operator::start(&kubeconfig, OPERATOR_NAMESPACE, &[]).await.unwrap();
    until_leading(&first).await;
    let before = peak(&first);
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    stream::iter(0..DEPLOYMENTS)
        .for_each_concurrent(4, |number| {
            let deployments = deployments.clone();
            async move {
                deployments.create(&PostParams::default(), &foreign(number)).await.unwrap();
            }
        })
        .await;
    // Each object makes one event.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let watched = peak(&first).saturating_sub(before);
    first.stop().await.unwrap();
    // The second operator lists all of them.
    let second = Operator::start(&kubeconfig, OPERATOR_NAMESPACE, &[]).await.unwrap();
    until_leading(&second).await;
    let listed = peak(&second).saturating_sub(before);
    println!("{DEPLOYMENTS} of {SIZE} bytes: {watched} KiB more by watching, {listed} KiB by listing");
    assert!(watched < MOST_GROWTH && listed < MOST_GROWTH, "{watched} {listed}");
}
