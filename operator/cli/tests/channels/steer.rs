//! `drain`, `undrain`, `rebalance` and `rollout`.

use std::collections::BTreeMap;

use crate::support::{FLEETS, NOW, Server, fixture, printed, run};
use operator_core::wishes::{DRAIN_ANNOTATION, PATIENCE_MILLIS, Wishes};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, component: &str) -> Value {
    let labels = json!({"channelcluster.io/cluster": "chat", "app.kubernetes.io/component": component});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": []},
    })
}

fn deployment(template: &str, revision: u64) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {
            "name": format!("chat-node-{template}"), "namespace": "default",
            "labels": {"channelcluster.io/cluster": "chat", "channelcluster.io/template": template},
            "annotations": {"channelcluster.io/revision": revision.to_string()},
        },
    })
}

fn deployments(server: &Server, all: &[Value]) {
    let list = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": all,
    });
    server.put("/apis/apps/v1/namespaces/default/deployments", &list);
}

/// A server with the fleet `chat`, changed by `change`.
fn with(change: impl FnOnce(&mut Value)) -> Server {
    let server = Server::with(&["chat"]);
    let mut chat = fixture("chat");
    change(&mut chat);
    server.put(&format!("{FLEETS}/chat"), &chat);
    for (name, component) in [("chat-node-a", "node"), ("chat-node-b", "node"), ("chat-nats-0", "nats")] {
        server.put(&format!("{PODS}/{name}"), &pod(name, component));
    }
    server
}

/// The annotations that were written, by the path of their object; nothing else was written.
fn written(server: &Server) -> Vec<(String, BTreeMap<String, Option<String>>)> {
    let all = server.asked().into_iter().map(|(method, path, body)| {
        assert_eq!(method, "PATCH", "{path}");
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["metadata"], "never the spec");
        assert_eq!(body["metadata"].as_object().unwrap().len(), 1, "{body}");
        (path, serde_json::from_value(body["metadata"]["annotations"].clone()).unwrap())
    });
    all.collect()
}

/// What the operator reads of the annotations that were written last.
fn wished(server: &Server) -> Wishes {
    let (path, annotations) = written(server).pop().unwrap();
    assert_eq!(path, format!("{FLEETS}/chat"));
    let set: BTreeMap<_, _> =
        annotations.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Wishes::of(Some(&set))
}

#[tokio::test]
async fn named_nodes_are_annotated_and_named_no_more() {
    let server = with(|_| {});
    let text = printed(&server, "drain chat-node-a chat-node-b").await;
    assert!(text.starts_with("chat-node-a, chat-node-b go: another node comes first"), "{text}");
    let text = printed(&server, "undrain chat-node-a -o json").await;
    let done: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&done["names"], &done["annotations"]),
        (&json!(["chat-node-a"]), &json!({DRAIN_ANNOTATION: "false"}))
    );
    let set = |name: &str, value: &str| {
        (format!("{PODS}/{name}"), [(DRAIN_ANNOTATION.to_owned(), Some(value.to_owned()))].into())
    };
    let expected = [set("chat-node-a", "true"), set("chat-node-b", "true"), set("chat-node-a", "false")];
    assert_eq!(written(&server), expected);
}

#[tokio::test]
async fn only_nodes_are_drained_and_all_are_looked_at_before_one_is() {
    let server = with(|_| {});
    for (line, says) in [
        ("drain chat-node-a chat-nats-0", "\"chat-nats-0\" in namespace \"default\" is no node"),
        ("drain chat-node-a chat-node-z", "there is no pod \"chat-node-z\""),
    ] {
        let error = Box::pin(run(&server, line)).await.unwrap_err();
        assert!(format!("{error:#}").contains(says), "{line}: {error:#}");
    }
    assert_eq!(written(&server), []);
}

#[tokio::test]
async fn a_fleet_in_which_nothing_is_done_is_said_to_be_one() {
    let server = with(|chat| chat["spec"]["paused"] = json!(true));
    for line in [
        "drain chat-node-a",
        "undrain chat-node-a",
        "rebalance chat",
        "rollout pause chat",
        "rollout resume chat",
    ] {
        let text = printed(&server, line).await;
        assert!(text.contains("spec.paused of chat is set"), "{line}: {text}");
    }
}

#[tokio::test]
async fn the_operator_reads_when_a_rebalance_was_asked_for() {
    let server = with(|_| {});
    let text = printed(&server, "rebalance chat").await;
    let within = format!("within {} minutes", PATIENCE_MILLIS / 60_000);
    assert!(text.contains(&within) && text.contains("--stop"), "{text}");
    assert_eq!(wished(&server), Wishes { rebalance: Some(NOW), ..Wishes::default() });
    printed(&server, "rebalance chat --stop").await;
    assert_eq!(wished(&server), Wishes::default());
}

#[tokio::test]
async fn a_rollout_is_paused_resumed_and_undone() {
    let server = with(|_| {});
    deployments(&server, &[deployment("old", 1), deployment("new", 2), deployment("older", 0)]);
    assert!(printed(&server, "rollout pause chat").await.contains("rollout resume chat"));
    assert_eq!(wished(&server), Wishes { pause_rollout: true, ..Wishes::default() });
    let text = printed(&server, "rollout undo chat").await;
    assert!(text.contains("goes back from chat-node-new to chat-node-old"), "{text}");
    assert_eq!(wished(&server), Wishes { undo: Some("new".to_owned()), ..Wishes::default() });
    let text = printed(&server, "rollout resume chat").await;
    assert_eq!(text, "What kubectl channels said to the rollout of chat is taken back.\n");
    assert_eq!(wished(&server), Wishes::default());

    deployments(&server, &[deployment("new", 2)]);
    let error = Box::pin(run(&server, "rollout undo chat")).await.unwrap_err();
    assert!(format!("{error:#}").contains("no template to go back to"), "{error:#}");
}

#[tokio::test]
async fn how_a_rollout_stands_is_told_with_what_holds_it() {
    let entry = |name: &str, replicas: i32, ready: i32| json!({"name": name, "template": name, "image": "node:2", "replicas": replicas, "ready": ready});
    let server = with(|chat| {
        chat["spec"]["rollout"] = json!({"pause": true});
        chat["status"]["rollout"] = json!({
            "deployments": [entry("chat-node-new", 2, 1), entry("chat-node-old", 3, 3)],
            "paused": {"reason": "PauseAsked", "message": "rollout.pause is set", "generation": 3},
        });
    });
    let text = printed(&server, "rollout status chat").await;
    assert!(text.starts_with("Nodes of chat come to be made by chat-node-new: 1 of its 2 nodes are ready, and 3 others are left.\nPaused (PauseAsked)"), "{text}");
    let row = ["chat-node-new", "1", "2", "node:2"];
    assert!(text.lines().any(|line| row.iter().all(|word| line.contains(word))), "{text}");
    assert!(printed(&server, "rollout resume chat").await.contains("rollout.pause of the spec is set"));

    let server = with(|chat| {
        chat["status"]["rollout"] = json!({
            "deployments": [entry("chat-node-old", 3, 3)],
            "rolledBack": {"from": "new", "to": "old", "message": "went back from chat-node-new"},
        });
    });
    let (code, text) = Box::pin(run(&server, "rollout status chat -o yaml")).await.unwrap();
    assert_eq!(code, 2, "it went back by itself: {text}");
    assert!(text.contains("underWay: false") && text.contains("Rolled back: went back"), "{text}");
    let error = Box::pin(run(&server, "rollout undo chat")).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "chat went back from chat-node-new");
}
