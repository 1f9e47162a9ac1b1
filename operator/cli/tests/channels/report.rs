//! `report`: all that helps is in the bundle, and none of the secrets that were planted.

use crate::support::{FLEETS, Server, fixture, run};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

/// Drawn as the operator draws them; in Secret chat-node.
const ADMIN: &str = "q7GfX2mLw9ZtRb4KpYs8Nc3VdHj6Ua1e";
/// A password that looks like a word; in the Secret that the spec names.
const PASSWORD: &str = "correct-horse";
/// A token of a client, which no Secret has.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmVkLWJ5LW5vYm9keQ";
/// A value of an environment variable.
const VARIABLE: &str = "hunter2xx";

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

fn pod(name: &str, restarts: i32) -> Value {
    let labels = json!({
        "channelcluster.io/cluster": "chat", "app.kubernetes.io/component": "node",
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "labels": labels,
            "managedFields": [{"manager": "somebody"}],
            "annotations": {"note": format!("password={VARIABLE}")},
        },
        "spec": {"containers": [{"name": "channel-node", "image": "node:1", "env": [{"name": "KEY", "value": VARIABLE}]}]},
        "status": {"containerStatuses": [{
            "name": "channel-node", "restartCount": restarts, "image": "node:1", "imageID": "", "ready": true,
        }]},
    })
}

/// A cluster with secrets in all places where any may be.
fn planted() -> Server {
    let server = Server::with(&["chat"]);
    let mut chat = fixture("chat");
    chat["spec"]["backplane"] =
        json!({"type": "Nats", "urls": ["nats://nats:4222"], "credentialsSecretRef": {"name": "own-nats"}});
    chat["spec"]["expose"] = json!({"tls": {"secretName": "chat-tls"}});
    chat["spec"]["auth"] = json!({"anonymous": true, "jwt": [{"jwks": {"url": "https://a", "caSecretRef": {"name": "chat-ca", "key": "a"}}}]});
    chat["spec"]["nodes"]["env"] = json!([{"name": "KEY", "value": VARIABLE}]);
    server.put(&format!("{FLEETS}/chat"), &chat);
    let secret = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "data": data});
    // base64 of ADMIN, of `nats` and of PASSWORD.
    let own = json!({"admin-token": "cTdHZlgybUx3OVp0UmI0S3BZczhOYzNWZEhqNlVhMWU="});
    server.put("/api/v1/namespaces/default/secrets/chat-node", &secret("chat-node", own));
    let credentials = json!({"username": "bmF0cw==", "password": "Y29ycmVjdC1ob3JzZQ=="});
    server.put("/api/v1/namespaces/default/secrets/own-nats", &secret("own-nats", credentials));
    for path in [
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/apps/v1/namespaces/default/replicasets",
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces/default/serviceaccounts",
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    ] {
        server.put(path, &list(&[]));
    }
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat-config", "namespace": "default"},
        "data": {"node.yaml": format!("cluster: {{name: chat}}\nbus: {{urls: ['nats://me:{VARIABLE}@nats:4222']}}\n")},
    });
    server.put("/api/v1/namespaces/default/configmaps", &list(&[config]));
    server.put("/api/v1/namespaces/default/pods", &list(&[pod("chat-node-a", 0), pod("chat-node-b", 1)]));
    let event = |name: &str, about: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"name": about}, "message": format!("Back-off: token={VARIABLE}"),
        })
    };
    let events = [event("e1", "chat-node-a"), event("e2", "of-somebody-else")];
    server.put("/api/v1/namespaces/default/events", &list(&events));
    let log = format!(
        "2026-11-29T10:00:00Z INFO nats says {PASSWORD} is wrong\nGET /socket/websocket?token={TOKEN}&vsn=2.0.0\n  admin {ADMIN}\n"
    );
    for pod in ["chat-node-a", "chat-node-b"] {
        server.say(&format!("/api/v1/namespaces/default/pods/{pod}/log"), 200, &log);
    }
    let metrics = "channelcluster_node_connections 301\n";
    server.say("/api/v1/namespaces/default/pods/chat-node-a:9400/proxy/metrics", 200, metrics);
    let operators = "/api/v1/namespaces/channelcluster-system/pods";
    let mut operator = pod("channelcluster-0", 0);
    operator["metadata"]["labels"] = json!({"app.kubernetes.io/name": "channel-operator"});
    server.put(operators, &list(&[operator]));
    server.say(
        &format!("{operators}/channelcluster-0/log"),
        200,
        &format!("WARN authorization: Bearer {ADMIN}\n"),
    );
    let version = json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    server.put("/version", &version);
    server
}

/// The files of the bundle that the command wrote, without their directory; and what it said.
async fn bundle(server: &Server, name: &str) -> (BTreeMap<String, String>, String) {
    let path = std::env::temp_dir().join(format!("channels-{name}-{}.tar.gz", std::process::id()));
    let line = format!("report chat --to {}", path.display());
    let (code, said) = Box::pin(run(server, &line)).await.unwrap();
    assert_eq!(code, 0, "{said}");
    let again = Box::pin(run(server, &line)).await.unwrap_err();
    assert!(format!("{again:#}").contains("--to"), "no file is written over: {again:#}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut archive = tar::Archive::new(GzDecoder::new(std::fs::File::open(&path).unwrap()));
    std::fs::remove_file(&path).unwrap();
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().strip_prefix("chat-report").unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    (files, said)
}

#[tokio::test]
async fn no_planted_secret_is_in_the_bundle() {
    let (files, said) = bundle(&planted(), "planted").await;
    for (path, text) in &files {
        for secret in [ADMIN, PASSWORD, TOKEN, VARIABLE, "c2lnbmVk", "cTdHZlgy"] {
            assert!(!text.contains(secret), "{path} has {secret}:\n{text}");
        }
        assert!(!text.contains("managedFields"), "{path}");
    }
    assert!(!said.contains(ADMIN), "{said}");
}

#[tokio::test]
async fn what_helps_is_in_the_bundle() {
    let (files, said) = bundle(&planted(), "whole").await;
    for path in [
        "channelcluster.yaml",
        "status.txt",
        "explain.txt",
        "events.yaml",
        "server.yaml",
        "objects/configmap-chat-config.yaml",
        "objects/pod-chat-node-a.yaml",
        "logs/nodes/chat-node-a-channel-node.log",
        "logs/nodes/chat-node-b-channel-node-previous.log",
        "logs/operator/channelcluster-0-channel-node.log",
        "metrics/chat-node-a.txt",
    ] {
        assert!(files.contains_key(path), "no {path}: {:?}", files.keys());
    }
    assert_eq!(
        files["secrets.txt"],
        "chat-ca: is not there\nchat-node: keys admin-token\nchat-tls: is not there\nown-nats: keys password, username\n"
    );
    assert!(!files.contains_key("logs/nodes/chat-node-a-channel-node-previous.log"), "it was not restarted");
    assert!(
        files["events.yaml"].contains("e1") && !files["events.yaml"].contains("e2"),
        "{}",
        files["events.yaml"]
    );
    assert!(files["logs/nodes/chat-node-a-channel-node.log"].contains("INFO nats says"), "{files:?}");
    assert!(files["objects/pod-chat-node-a.yaml"].contains("name: KEY"), "{files:?}");
    // What could not be had is said, in the bundle and to the person.
    for part in ["metrics/chat-node-b.txt", "NetworkPolicy"] {
        assert!(files["MISSING.txt"].contains(part) && said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn a_person_who_may_read_little_still_gets_a_bundle() {
    let (files, said) = bundle(&Server::with(&["chat"]), "little").await;
    assert!(files.contains_key("channelcluster.yaml") && files.contains_key("status.txt"), "{files:?}");
    assert!(said.contains("--operator-namespace"), "{said}");
    assert!(files["secrets.txt"].contains("chat-node: is not there"), "{files:?}");
}

#[tokio::test]
async fn events_are_read_page_by_page_and_what_is_left_out_is_said() {
    let server = planted();
    let path = "/api/v1/namespaces/default/events";
    let page = |name: &str, next: &str| {
        let about = json!({"involvedObject": {"name": "chat-node-a"}});
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "involvedObject": about["involvedObject"]});
        json!({"apiVersion": "v1", "kind": "EventList", "metadata": {"continue": next}, "items": [event]})
    };
    server.put(path, &page("e1", "2"));
    server.put(&format!("{path}?2"), &page("e3", ""));
    let (files, _) = bundle(&server, "pages").await;
    assert!(files["events.yaml"].contains("e1") && files["events.yaml"].contains("e3"), "{files:?}");
    assert!(!files["MISSING.txt"].contains("Events"), "{}", files["MISSING.txt"]);

    server.put(&format!("{path}?2"), &page("e4", "2"));
    let (files, said) = bundle(&server, "endless").await;
    assert!(files["events.yaml"].contains("e4"), "{files:?}");
    assert!(
        files["MISSING.txt"].contains("some Events: there are more than") && said.contains("some Events"),
        "{said}"
    );
}

/// The annotation in which the operator keeps a pod template has the values of its environment variables too.
#[tokio::test]
async fn an_object_in_an_annotation_loses_its_values_too() {
    let server = planted();
    let template =
        json!({"spec": {"containers": [{"env": [{"name": "KEY", "value": VARIABLE}]}]}}).to_string();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "chat-node-a", "namespace": "default", "annotations": {"channelcluster.io/made-with": template}},
    });
    server.put("/apis/apps/v1/namespaces/default/deployments", &list(&[deployment]));
    server.say("/api/v1/namespaces/default/pods/chat-node-a/log", 200, &format!("KEY is {VARIABLE}\n"));
    let (files, _) = bundle(&server, "annotation").await;
    for (path, text) in &files {
        assert!(!text.contains(VARIABLE), "{path} has {VARIABLE}:\n{text}");
    }
    assert!(files["objects/deployment-chat-node-a.yaml"].contains("made-with"), "{files:?}");
}
