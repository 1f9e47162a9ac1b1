//! `status` and `top`.

use crate::support::{FLEETS, Server, fixture, printed, run};
use serde_json::{Value, json};

const CHAT: &str = "\
chat in namespace default: Ready, 4 of 4 nodes (WithinTolerance)
1,204 connections, 9,800 writes/s from 98 publishes/s, 49 % of capacity

All conditions are as they should be.

Nodes:
  NAME          PHASE     CONNS   ROOMS   WRITES/S   BUSY   NOTE
  chat-node-a   Serving   301     12      2,450      31 %
  chat-node-b   Serving   302     12      2,350      30 %
  chat-node-c   Serving   300     11      2,500      33 %
  chat-node-d   Serving   301     12      2,500      32 %

Last decisions (kubectl channels explain chat has all):
  AGE   NODES    RULE                   WHY
  2m    2 -> 4   WritesPerSecondBurst   10000 writes/s over 6 s need 3.33 nodes of 5000 writes/s at 60 %: 4
";

const LOBBY: &str = "\
lobby in namespace default: not Ready, 1 of 2 nodes (ImagePullFailed)
40 connections, - writes/s from - publishes/s, - of capacity, without 1 unknown nodes

Not as it should be:
  The status is that of an earlier spec
    it speaks of generation 4, and the spec has generation 5
  Ready is False (ImagePullFailed) for 2m
    1 of 2 nodes are ready: the image registry.test/node:2 cannot be pulled: check its name
  Reconciling is True (RollingOut) for 60s
    nodes are replaced
  HotNodes is True (Saturated) for 2m
    lobby-node-a: 95 % busy

Under way:
  ALaterOperation for 2m
  lobby-node-a: Rollout, Closing for 30s, 40 connections left at 500/s
  lobby-node-c: Removing for 30s, 0 connections left

Nodes:
  NAME           PHASE      CONNS   ROOMS   WRITES/S   BUSY   NOTE
  lobby-node-a   Draining   40      1       7          95 %   net.ipv4.tcp_fin_timeout: asked 10, got 60
  lobby-node-b   Unknown    -       -       -          -

Last decisions (kubectl channels explain lobby has all):
  AGE   NODES    RULE         WHY
  2m    3 -> 2   ALaterRule   a sentence
";

#[tokio::test]
async fn a_fleet_that_is_well_says_so() {
    assert_eq!(printed(&Server::with(&["chat"]), "status chat").await, CHAT);
}

/// Conditions, rules, operations and fields of a later operator are shown as far as they can be.
#[tokio::test]
async fn what_is_not_as_it_should_be_comes_first() {
    assert_eq!(printed(&Server::with(&["lobby"]), "status lobby").await, LOBBY);
}

#[tokio::test]
async fn all_fleets_are_a_table_with_the_troubles_below() {
    let server = Server::with(&["lobby", "chat"]);
    let text = printed(&server, "status").await;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("NAME "), "{text}");
    assert!(lines[1].starts_with("chat ") && lines[2].starts_with("lobby "), "{text}");
    assert!(text.contains("default/lobby:\n") && !text.contains("default/chat:"), "{text}");
    assert!(printed(&server, "status -A").await.starts_with("NAMESPACE "));
    assert!(printed(&Server::with(&[]), "status").await.contains("--all-namespaces"));
}

#[tokio::test]
async fn the_same_in_json_and_yaml() {
    let server = Server::with(&["chat", "lobby"]);
    let one: Value = serde_json::from_str(&printed(&server, "status lobby -o json").await).unwrap();
    assert_eq!(one["troubles"][1]["what"], "Ready");
    assert_eq!(one["operation"]["type"], "ALaterOperation");
    let all: Value = serde_saphyr::from_str(&printed(&server, "status -o yaml").await).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["totals"]["connections"], 1_204);
}

#[tokio::test]
async fn a_fleet_that_nobody_looks_at_says_so() {
    let server = Server::with(&["chat"]);
    let mut object = fixture("chat");
    object.as_object_mut().unwrap().remove("status");
    server.put(&format!("{FLEETS}/chat"), &object);
    let text = printed(&server, "status chat").await;
    assert!(text.contains("not known to be Ready") && text.contains("does channel-operator run"), "{text}");
}

#[tokio::test]
async fn errors_name_the_thing_and_the_remedy() {
    let server = Server::with(&["chat"]);
    let said = async |line: &str| format!("{:#}", Box::pin(run(&server, line)).await.unwrap_err());
    let missing = said("status chta").await;
    assert!(missing.contains("\"chta\"") && missing.contains("\"default\""), "{missing}");
    let forbidden = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "User \"eve\" cannot get resource",
    });
    server.say(&format!("{FLEETS}/chat"), 403, &forbidden.to_string());
    let forbidden = said("status chat").await;
    assert!(forbidden.contains("eve") && forbidden.contains("--as"), "{forbidden}");
    server.say(FLEETS, 404, "404 page not found\n");
    let no_kind = said("status").await;
    assert!(no_kind.contains("install the chart"), "{no_kind}");
    server.put(
        &format!("{FLEETS}/chat"),
        &json!({"metadata": {"name": "chat"}, "status": {"replicas": "four"}}),
    );
    let later = said("status chat").await;
    assert!(later.contains("another version"), "{later}");
}

#[tokio::test]
async fn top_shows_each_node_in_the_order_that_is_asked_for() {
    let server = Server::with(&["chat"]);
    let names = |text: &str| -> Vec<String> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("  chat-node-"));
        rows.map(|row| row[..1].to_owned()).collect()
    };
    assert_eq!(names(&printed(&server, "top chat --once").await), ["a", "b", "c", "d"]);
    assert_eq!(names(&printed(&server, "top --once --sort connections").await), ["b", "a", "d", "c"]);
    assert_eq!(names(&printed(&server, "top --once --sort busy").await), ["c", "d", "a", "b"]);
    let json: Value = serde_json::from_str(&printed(&server, "top chat -o json").await).unwrap();
    assert_eq!(json[0]["nodes"][0]["name"], "chat-node-a");
}
