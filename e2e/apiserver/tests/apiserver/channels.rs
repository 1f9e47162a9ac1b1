//! `kubectl channels` with a real API server and the objects that the operator, as a program, made there.
#![allow(clippy::large_futures, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::support::{cluster, operator, until};
use apiserver::{ApiServer, Identity};
use clap::Parser;
use crds::ChannelCluster;
use flate2::read::GzDecoder;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use kubectl_channels::args::Args;
use serde_json::{Value, json};

/// Runs a command line, with its exit code.
async fn channels(server: &ApiServer, line: &str) -> anyhow::Result<(u8, String)> {
    let kubeconfig = server.kubeconfig(Identity::Admin).display().to_string();
    let words = ["kubectl-channels", "--kubeconfig", kubeconfig.as_str()].into_iter();
    let args = Args::try_parse_from(words.chain(line.split_whitespace()))?;
    let mut out = Vec::new();
    let code = kubectl_channels::run(&args, &mut out).await?;
    Ok((code, String::from_utf8(out)?))
}

async fn printed(server: &ApiServer, line: &str) -> String {
    let (code, text) = channels(server, line).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    assert_eq!(code, 0, "{line}: {text}");
    text
}

fn files(path: &std::path::Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

/// The names of a fleet's node pods that are not being deleted.
async fn pods(client: &Client, namespace: &str) -> BTreeSet<String> {
    let params = ListParams::default().labels("app.kubernetes.io/component=node");
    let all = Api::<Pod>::namespaced(client.clone(), namespace).list(&params).await.unwrap();
    let alive = all.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    alive.map(ResourceExt::name_any).collect()
}

/// From the command line over the annotation and the operator's watch to the ReplicaSet: the named pod is the one that goes. No
/// machine is here, so it never ran, and nobody has to be moved.
#[tokio::test]
async fn a_node_that_is_named_goes_and_another_comes() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let _operator = operator(&server).await;
    let here = server.namespace("drain").await.unwrap();
    cluster(&client, &here, &json!({"nodes": {"min": 3, "max": 3}})).await;
    let before =
        until("three nodes", async || Some(pods(&client, &here).await).filter(|all| all.len() == 3)).await;
    let named = before.first().unwrap();
    let refused = channels(&server, &format!("drain {named} -n {here} --as somebody")).await.unwrap_err();
    assert!(format!("{refused:#}").contains("you may not get pod"), "{refused:#}");
    let said = printed(&server, &format!("drain {named} -n {here}")).await;
    assert!(said.contains("another node comes first"), "{said}");
    let gone = async || {
        let now = pods(&client, &here).await;
        (now.len() == 3 && !now.contains(named)).then_some(now)
    };
    let after = until("another node in the stead of the named one", gone).await;
    assert_eq!(before.intersection(&after).count(), 2, "no other node went: {before:?}, {after:?}");
    let deployments = Api::<Deployment>::namespaced(client.clone(), &here);
    let settled = async || {
        let nodes = deployments
            .list(&ListParams::default().labels("app.kubernetes.io/component=node"))
            .await
            .unwrap();
        let spec = nodes.items.first().and_then(|of| of.spec.clone()).unwrap_or_default();
        (spec.replicas == Some(3)).then_some(())
    };
    until("three replicas", settled).await;

    printed(&server, &format!("rollout pause chat -n {here}")).await;
    printed(&server, &format!("rebalance chat -n {here}")).await;
    let live = Api::<ChannelCluster>::namespaced(client.clone(), &here).get("chat").await.unwrap();
    let annotations = live.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(
        (live.metadata.generation, annotations.len()),
        (Some(1), 2),
        "the spec is as it was: {annotations:?}"
    );
    let error = channels(&server, &format!("rollout undo chat -n {here}")).await.unwrap_err();
    assert!(format!("{error:#}").contains("no template to go back to"), "{error:#}");
}

#[tokio::test]
async fn what_the_operator_made_is_shown_explained_and_reported() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let client = server.client(Identity::Admin).unwrap();
    let _operator = operator(&server).await;
    let here = server.namespace("channels").await.unwrap();
    assert!(printed(&server, &format!("status -n {here}")).await.contains("There is no ChannelCluster"));

    cluster(&client, &here, &json!({"nodes": {"env": [{"name": "KEY", "value": "hunter2xx"}]}})).await;
    let line = format!("status chat -n {here} -o json");
    let story = until("a fleet with nodes that wait for machines", async || {
        let story: Value = serde_json::from_str(&printed(&server, &line).await).unwrap();
        (story["nodes"].as_array().unwrap().len() == 2 && story["desiredNodes"] == 2).then_some(story)
    })
    .await;
    assert_eq!(story["ready"], "False", "there is no machine: {story}");
    let text = printed(&server, &format!("status -n {here} chat")).await;
    assert!(text.contains("Not as it should be:") && text.contains("chat-node"), "{text}");
    assert!(printed(&server, "status --all-namespaces").await.contains(&here));
    assert!(printed(&server, &format!("top -n {here} --once")).await.contains("Pending"));
    let text = printed(&server, &format!("explain chat -n {here}")).await;
    assert!(text.contains("floor: targetConnections 100"), "{text}");

    let refused = channels(&server, &format!("status chat -n {here} --as somebody")).await.unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("you may not get") && said.contains("somebody"), "{said}");
    let missing = channels(&server, &format!("explain lobby -n {here}")).await.unwrap_err();
    assert!(format!("{missing:#}").contains("\"lobby\""), "{missing:#}");

    let path = std::env::temp_dir().join(format!("channels-apiserver-{}.tar.gz", std::process::id()));
    let said = printed(&server, &format!("report chat -n {here} --to {}", path.display())).await;
    let files = files(&path);
    std::fs::remove_file(&path).unwrap();
    let secret = Api::<Secret>::namespaced(client, &here).get("chat-node").await.unwrap();
    let values: Vec<_> =
        secret.data.into_iter().flatten().map(|(_, value)| String::from_utf8(value.0).unwrap()).collect();
    assert!(values.len() >= 2, "the Secret has values to look for");
    for (name, text) in &files {
        assert!(!text.contains("hunter2xx"), "{name}");
        for value in &values {
            assert!(!text.contains(value.trim()), "{name} has a value of the Secret");
        }
    }
    let of = |kind: &str| files.keys().any(|name| name.contains(&format!("objects/{kind}-chat")));
    for kind in
        ["deployment", "replicaset", "pod", "service", "configmap", "poddisruptionbudget", "networkpolicy"]
    {
        assert!(of(kind), "no {kind}: {said}\n{:?}", files.keys());
    }
    assert!(files["chat-report/secrets.txt"].contains("admin-token"), "{said}");
    assert!(said.contains("--operator-namespace"), "the operator is no pod here: {said}");
}
