//! `plan`.

use crate::pages;
use crate::support::{Server, Written, known, run};
use serde_json::{Value, json};

async fn plan(line: &str) -> (u8, String) {
    Box::pin(run(&Server::default(), line)).await.unwrap_or_else(|error| panic!("{line}: {error:#}"))
}

#[tokio::test]
async fn the_example_of_the_model() {
    let line =
        "plan --publishes-per-second 2000 --room-size 150 --active-fraction 0.4 --peak-connections 20000";
    let (code, text) = plan(line).await;
    assert_eq!(code, 0);
    assert!(
        text.starts_with("120,000 writes/s need 5 nodes; when one is gone the others have 75 %"),
        "{text}"
    );
    assert!(text.contains("2,000 publishes/s x 150 members x 0.4 active"), "{text}");
    assert!(text.contains("120,000 / (40,000 writes/s x 60 %)"), "{text}");
    let (_, json) = plan(&format!("{line} --capacity-writes 60000 --target 100 -o json")).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["worksheet"]["nodes"], 2);
}

#[tokio::test]
async fn a_manifest_is_asked_the_ten_rules() {
    let sample = pages::root().join("docs/samples/chat.yaml");
    let (code, text) = plan(&format!("plan -f {}", sample.display())).await;
    assert_eq!(code, 2, "it says nothing of memory: {text}");
    for number in 1..=10 {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(&format!("{number}. "))),
            "{number}: {text}"
        );
    }
    let (_, json) = plan(&format!("plan -f {} --publishes-per-second 500 -o json", sample.display())).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let found = &json["manifests"][0];
    assert_eq!((&found["problems"], &found["unknownFields"]), (&json!([]), &json!([])));
    assert_eq!(found["worksheet"]["nodes"], 25, "rooms.maxMembers is the size of a room where none is given");
    assert_eq!(found["checks"][0]["verdict"], "Lacking");
    assert!(found["checks"][0]["findings"][0].as_str().unwrap().contains("nodes.max is 4"), "{found}");
}

#[tokio::test]
async fn fields_and_specs_that_cannot_work_are_named() {
    let text = "\
# Two objects, one of which is another kind.
apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: channelcluster.io/v1alpha1
kind: ChannelCluster
metadata: {name: chat}
spec:
  targetConnections: 100
  rooms: {maxMembers: 10, maxMember: 3}
  nodes: {min: 3, max: 2}
  auth: {anonymous: true, jwt: [{algorithms: [HS256], secretRef: {name: keys, key: a}}]}
";
    let manifest = Written::new("wrong.yaml", text);
    let (code, text) = plan(&format!("plan -f {}", manifest.path())).await;
    assert_eq!(code, 2);
    assert!(text.contains("spec.rooms.maxMember:"), "{text}");
    assert!(text.contains("InvalidNodeRange: nodes.max (2) is below nodes.min (3)"), "{text}");
    assert!(!text.contains("SecretNotFound"), "whether a Secret is there is not known: {text}");
}

#[tokio::test]
async fn files_that_are_none_are_refused_with_a_sentence() {
    for (name, text, part) in [
        ("yaml", "a: [", "is no YAML"),
        ("kind", "kind: Pod", "no object of kind ChannelCluster"),
        ("spec", "kind: ChannelCluster\nspec: {targetConnections: x}", "no ChannelCluster:"),
    ] {
        let manifest = Written::new(name, text);
        let line = format!("plan -f {}", manifest.path());
        let error = Box::pin(run(&Server::default(), &line)).await.unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(part) && said.contains("--file"), "{name}: {said}");
    }
    let error = Box::pin(run(&Server::default(), "plan -f /nowhere.yaml")).await.unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere.yaml"));
}

#[tokio::test]
async fn a_load_that_cannot_be_is_a_wrong_command_line() {
    let line = "plan --publishes-per-second 1 --room-size 2 --peak-connections 3 --active-fraction 40";
    assert_eq!(plan(line).await.0, 64);
}

/// A manifest has what is assumed of its nodes, and an object of the cluster what its status knows of them.
#[tokio::test]
async fn capacity_that_is_found_out_is_assumed_or_taken_from_the_status() {
    let mut manifest = json!({
        "apiVersion": "channelcluster.io/v1alpha1", "kind": "ChannelCluster", "metadata": {"name": "chat"},
        "spec": {
            "targetConnections": 12_000, "rooms": {"maxMembers": 150}, "auth": {"anonymous": true},
            "nodes": {
                "max": 20, "resources": {"limits": {"memory": "512Mi"}},
                "capacity": {"connections": "Derived", "writesPerSecond": "Learned"},
            },
        },
    });
    let line = |file: &Written| format!("plan -f {} --publishes-per-second 10", file.path());
    let file = Written::new("derived.json", &manifest.to_string());
    let (_, text) = plan(&line(&file)).await;
    for part in [
        "nodes.capacity.writesPerSecond is Learned: 40,000 are assumed until the nodes have shown more\n",
        "nodes.capacity.connections is Derived: 12,131 are assumed until the nodes have shown more \
         ((512Mi x 40 % - 16 MB) / 8,192 bytes / 2)\n",
        "12,000 / (12,131 connections x 60 %)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    manifest["status"] = json!({"capacity": known()});
    let file = Written::new("known.json", &manifest.to_string());
    let (_, text) = plan(&line(&file)).await;
    for part in [
        "nodes.capacity.writesPerSecond is Learned: a node delivers 6,000 writes/s as was learned",
        "nodes.capacity.connections is Derived: a node holds 1,500 connections as was derived",
        "12,000 / (1,500 connections x 60 %)",
        "/ (6,000 writes/s x 60 %)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text) = plan(&format!("{} --capacity-connections 3000", line(&file))).await;
    assert!(text.contains("12,000 / (3,000 connections x 60 %)"), "the flag counts first: {text}");
}
