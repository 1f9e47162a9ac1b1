//! The chart, rendered and applied to a real API server: names of releases, objects that an earlier release left, and
//! the ids of pods on a cluster that assigns ids.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use apiserver::{ApiServer, Identity};
use cluster::Tool;
use cluster::run::{self, Progress};
use serde_json::{Value, json};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/channelcluster");
const CRD: &str = "customresourcedefinition/channelclusters.channelcluster.io";

async fn helm() -> PathBuf {
    tokio::task::spawn_blocking(|| Tool::Helm.ready(&Progress::new())).await.unwrap().unwrap()
}

async fn rendered(release: &str, more: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(helm().await);
    command.args(["template", release, CHART, "--namespace", "here", "--kube-version", "1.34.0"]).args(more);
    let text = tokio::task::spawn_blocking(move || run::output(&mut command)).await??;
    let documents = text.split("\n---\n").filter(|text| text.contains("kind: "));
    Ok(documents.map(|text| serde_saphyr::from_str(text).unwrap()).collect())
}

fn of<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

#[tokio::test]
async fn every_release_name_gives_names_that_the_server_takes() {
    let server = ApiServer::shared().await;
    let long = "l".repeat(53);
    let names = [
        ("channelcluster", "channel-operator".to_owned()),
        ("mine", "mine-channel-operator".to_owned()),
        ("my.rel", "my-rel-channel-operator".to_owned()),
        ("1st", "release-1st-channel-operator".to_owned()),
        (&long, "l".repeat(52)),
        ("9.1", "release-9-1-channel-operator".to_owned()),
    ];
    for (number, (release, name)) in names.into_iter().enumerate() {
        let namespace = server.namespace(&format!("name-{number}")).await.unwrap();
        let mut objects = rendered(release, &["--set", "crds.install=false"]).await.unwrap();
        for object in &mut objects {
            if object["metadata"]["namespace"] == "here" {
                object["metadata"]["namespace"] = namespace.as_str().into();
            }
        }
        assert_eq!(of(&objects, "Service")["metadata"]["name"], name);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        server.kubectl(&["create", "--dry-run=server", "-f", "-"], &list).await.unwrap();
    }
}

/// The output of `helm install`, which makes nothing here.
async fn installed(server: &ApiServer, release: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new(helm().await);
    command.args(["install", release, CHART, "--namespace", "default", "--dry-run=server"]).args(more);
    command.arg("--kubeconfig").arg(server.kubeconfig(Identity::Admin));
    tokio::task::spawn_blocking(move || run::output(&mut command)).await?
}

/// The cases come one after the other on a server of their own, because there is one CRD.
#[tokio::test]
async fn what_an_earlier_release_left_is_named_with_what_to_do() {
    let server = ApiServer::start().await.unwrap();
    // The rig made the CRD, and no Helm release.
    let refused = format!("{:#}", installed(&server, "mine", &[]).await.unwrap_err());
    for part in
        ["channelclusters.channelcluster.io is there and belongs to no Helm release", "crds.install=false"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    installed(&server, "mine", &["--set", "crds.install=false"]).await.unwrap();

    // The CRD is handed over as the sentence says.
    let command = refused.split("this release: ").nth(1).unwrap();
    for part in command.split("&&") {
        let words: Vec<_> = part.split_whitespace().take_while(|word| !word.ends_with(':')).collect();
        let words: Vec<_> = words.into_iter().filter(|word| *word != "kubectl").collect();
        server.kubectl(&words, "").await.unwrap();
    }
    installed(&server, "mine", &[]).await.unwrap();

    // Another release has the CRD.
    let other = format!("{:#}", installed(&server, "other", &[]).await.unwrap_err());
    assert!(other.contains("belongs to release mine in namespace default"), "{other}");
    assert!(server.kubectl(&["get", CRD, "-o", "name"], "").await.is_ok());

    // It is the same with objects of the other kinds.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "default:mine-channel-operator"}, "rules": []});
    server.kubectl(&["create", "-f", "-"], &role.to_string()).await.unwrap();
    let refused = format!("{:#}", installed(&server, "mine", &[]).await.unwrap_err());
    assert!(refused.contains("clusterrole default:mine-channel-operator is there"), "{refused}");
    // A user who installs for some namespaces may not look at objects of the whole cluster, and makes none.
    let some = ["--set", "watchNamespaces={default}"];
    installed(&server, "mine", &some).await.unwrap();

    // One namespace has one Lease of operators, so a second release there is refused.
    let labels = json!({"app.kubernetes.io/name": "channel-operator", "app.kubernetes.io/instance": "first"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let operator = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "first-channel-operator", "namespace": "default", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}});
    server.kubectl(&["create", "-f", "-"], &operator.to_string()).await.unwrap();
    let refused = format!("{:#}", installed(&server, "mine", &some).await.unwrap_err());
    assert!(refused.contains("release first has an operator in namespace default already"), "{refused}");
}

#[tokio::test]
async fn the_operators_pods_are_shaped_as_the_values_say() {
    let plain = rendered("mine", &[]).await.unwrap();
    let pod = &of(&plain, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 65_532);
    assert!(pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].is_object());

    let shaped = [
        "--set",
        "operator.podSecurityContext.runAsUser=null",
        "--set",
        "operator.podSecurityContext.runAsGroup=null",
        "--set",
        "operator.runtimeClassName=gvisor",
        "--set",
        "operator.priorityClassName=high",
        "--set",
        "operator.imagePullSecrets[0].name=registry",
        "--set",
        "operator.env[0].name=EXTRA,operator.env[0].value=x",
        "--set",
        "operator.resources.limits.cpu=1",
        "--set",
        "operator.topologySpreadConstraints=null",
        "--set",
        "operator.allowedImages={registry.example/rt/*,node:1}",
    ];
    let shaped = rendered("mine", &shaped).await.unwrap();
    let pod = &of(&shaped, "Deployment")["spec"]["template"]["spec"];
    let security = &pod["securityContext"];
    assert!(security.get("runAsUser").is_none() && security.get("runAsGroup").is_none(), "{security}");
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!((&pod["runtimeClassName"], &pod["priorityClassName"]), (&json!("gvisor"), &json!("high")));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    assert!(pod.get("topologySpreadConstraints").is_none());
    let container = &pod["containers"][0];
    assert!(container["env"].as_array().unwrap().contains(&json!({"name": "EXTRA", "value": "x"})));
    assert_eq!(container["resources"]["limits"], json!({"cpu": 1, "memory": "512Mi"}));
    let args = container["args"].as_array().unwrap();
    for image in ["registry.example/rt/*", "node:1"] {
        assert!(args.contains(&json!(format!("--allowed-image={image}"))), "{args:?}");
    }
    let openshift = rendered("mine", &["--api-versions", "security.openshift.io/v1"]).await.unwrap();
    let security = &of(&openshift, "Deployment")["spec"]["template"]["spec"]["securityContext"];
    assert!(security.get("runAsUser").is_none() && security.get("runAsGroup").is_none(), "{security}");
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let openshift =
        ["--api-versions", "security.openshift.io/v1", "--set", "operator.podSecurityContext.runAsUser=7"];
    let chosen = rendered("mine", &openshift).await.unwrap();
    assert_eq!(of(&chosen, "Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"], 7);
    // A value may not set a variable that the operator sets.
    assert!(rendered("mine", &["--set", "operator.env[0].name=POD_NAME"]).await.is_err());
}
