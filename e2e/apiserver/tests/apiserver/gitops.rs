//! GitOps tools: what they applied stays as it was written while the operator works, and they tell how a fleet is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::pages;
use crate::support::{operator, until};
use apiserver::ApiServer;
use cluster::Tool;
use cluster::run::{self, Progress};
use serde_json::{Value, json};

/// The field manager of Argo CD.
const MANAGER: &str = "--field-manager=argocd-controller";
/// Fewest samples.
const FEWEST: usize = 6;

/// What the program that looks as Argo CD and Flux do says of `asked`.
async fn looked(verb: &'static str, asked: Value) -> Value {
    let answer = tokio::task::spawn_blocking(move || {
        let tool = Tool::GitOps.ready(&Progress::new())?;
        run::output_given(Command::new(tool).arg(verb), &asked.to_string())
    });
    serde_json::from_str(&answer.await.unwrap().unwrap()).unwrap()
}

fn file(path: &str) -> String {
    fs::read_to_string(pages::root().join(path)).unwrap()
}

/// What `docs/gitops` gives to both tools, to ask for the health of `objects`.
fn question(objects: &[Value]) -> Value {
    let argo: Value = serde_saphyr::from_str(&file("docs/gitops/argocd-cm.yaml")).unwrap();
    let flux: Value = serde_saphyr::from_str(&file("docs/gitops/flux-kustomization.yaml")).unwrap();
    let script = &argo["data"]["resource.customizations.health.channelcluster.io_ChannelCluster"];
    let expressions = &flux["spec"]["healthCheckExprs"][0];
    assert_eq!(
        (&expressions["apiVersion"], &expressions["kind"]),
        (&json!("channelcluster.io/v1alpha1"), &json!("ChannelCluster"))
    );
    json!({"lua": script, "flux": expressions, "objects": objects})
}

#[tokio::test]
async fn recorded_statuses_are_told_as_they_are() {
    let recorded: Vec<Value> = serde_saphyr::from_str(&file("e2e/manifests/health.yaml")).unwrap();
    assert!(recorded.len() > 10);
    let objects: Vec<Value> = recorded
        .iter()
        .map(|one| {
            let mut object = one["object"].clone();
            (object["apiVersion"], object["kind"]) =
                (json!("channelcluster.io/v1alpha1"), json!("ChannelCluster"));
            object
        })
        .collect();
    let said = looked("health", question(&objects)).await;
    for (one, mut said) in recorded.iter().zip(said.as_array().unwrap().clone()) {
        let message = said.as_object_mut().unwrap().remove("message").unwrap();
        assert_eq!(said, one["expect"], "{}: {message}", one["about"]);
        assert!(message.as_str().is_some_and(|text| text.len() > 3), "{}: {message}", one["about"]);
    }
}

/// A sample, applied in a namespace of its own.
struct Sample {
    path: PathBuf,
    text: String,
    namespace: String,
}

impl Sample {
    fn apply<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let words = ["-n", &self.namespace, "apply", "--server-side", MANAGER, "-f", "-"];
        [&words, more].concat()
    }

    /// Its ChannelClusters as they are written.
    fn fleets(&self) -> Vec<Value> {
        let documents = self.text.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
        documents.filter(|object| object["kind"] == "ChannelCluster").collect()
    }

    async fn live(&self, server: &ApiServer, fleet: &Value) -> Value {
        let name = fleet["metadata"]["name"].as_str().unwrap();
        let get = ["-n", &self.namespace, "get", "cc", name, "-o", "json", "--show-managed-fields"];
        serde_json::from_str(&server.kubectl(&get, "").await.unwrap()).unwrap()
    }
}

/// Whether the operator has looked at the spec as it is now.
fn is_looked_at(live: &Value) -> bool {
    live["status"]["observedGeneration"] == live["metadata"]["generation"]
}

#[tokio::test]
async fn what_another_manager_applied_stays_as_it_was_written() {
    let mut server = ApiServer::start().await.unwrap();
    server.start_controllers().unwrap();
    let _operator = operator(&server).await;
    let mut samples = Vec::new();
    for entry in fs::read_dir(pages::root().join("docs/samples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let namespace = server.namespace("sample").await.unwrap();
        let sample = Sample { path, text, namespace };
        server.kubectl(&sample.apply(&[]), &sample.text).await.unwrap();
        samples.push(sample);
    }
    assert!(samples.len() >= FEWEST, "only {} samples", samples.len());
    let mut fleets = 0;
    for sample in &samples {
        let at = sample.path.display();
        for fleet in sample.fleets() {
            let live = until("a fleet that the operator has looked at", async || {
                Some(sample.live(&server, &fleet).await).filter(is_looked_at)
            })
            .await;
            // Argo CD gives a manifest the namespace of its application.
            let mut config = fleet.clone();
            config["metadata"]["namespace"] = json!(sample.namespace);
            let dry = sample.apply(&["--dry-run=server", "-o", "json", "--show-managed-fields"]);
            let predicted: Value =
                serde_json::from_str(&server.kubectl(&dry, &config.to_string()).await.unwrap()).unwrap();
            let found = looked("diff", json!({"config": config, "live": live, "predicted": predicted})).await;
            for way in ["client", "server"] {
                assert_eq!(found[way], json!({"modified": false}), "{at}: Argo CD by its {way}-side diff");
            }
            let changed = json!({"targetConnections": 1, "rooms": config["spec"]["rooms"], "auth": config["spec"]["auth"]});
            let other = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": config["metadata"], "spec": changed});
            let found = looked("diff", json!({"config": other, "live": live, "predicted": live})).await;
            assert_eq!(found["client"]["modified"], true, "{at}: a difference is seen");
            fleets += 1;
        }
        // `kubectl diff` fails when it finds a difference, and an apply without force when another manager has a field.
        let diff = ["-n", &sample.namespace, "diff", "--server-side", MANAGER, "-f", "-"];
        server.kubectl(&diff, &sample.text).await.unwrap_or_else(|error| panic!("{at}: {error:#}"));
        let before = generations(&server, sample).await;
        server
            .kubectl(&sample.apply(&[]), &sample.text)
            .await
            .unwrap_or_else(|error| panic!("{at}: {error:#}"));
        assert_eq!(
            generations(&server, sample).await,
            before,
            "{at}: an apply of the same is a new generation"
        );
    }
    assert!(fleets >= FEWEST);
    let mut live = Vec::new();
    for sample in &samples {
        for fleet in sample.fleets() {
            live.push(sample.live(&server, &fleet).await);
        }
    }
    // There is no machine here, or a Secret is missing.
    for (said, live) in looked("health", question(&live)).await.as_array().unwrap().iter().zip(&live) {
        let argo = said["argo"].as_str().unwrap();
        assert!(["Progressing", "Degraded"].contains(&argo), "{said}: {live}");
        assert!(said["flux"] != "Current" && said["kstatus"] != "Current", "{said}: {live}");
    }
}

async fn generations(server: &ApiServer, sample: &Sample) -> Vec<i64> {
    let mut all = Vec::new();
    for fleet in sample.fleets() {
        all.push(sample.live(server, &fleet).await["metadata"]["generation"].as_i64().unwrap());
    }
    all
}
