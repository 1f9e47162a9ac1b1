//! `explain`.

use crate::support::{FLEETS, Server, fixture, known, printed, run};
use crds::{CapacityStatus, DecisionInputs, WindowLoad};
use kubectl_channels::explain::meaning;
use operator_core::autoscale::judge;
use serde_json::{Value, json};

const CHAT: &str = "\
chat in namespace default: Ready, 4 of 4 nodes (WithinTolerance)

What the figures of the status ask for:
  writes/s: 9,800 / (5,000 x 60 %) = 3.27 nodes
  connections: 1,204 / (2,000 x 60 %) = 1.00 nodes
  floor: targetConnections 2,000 / 2,000 connections of a node = 1 nodes, nodes.min 2
  ceiling: nodes.max 4

ScalingActive is True (Deciding): the node count follows the load
ScalingLimited is False (WithinBounds)
MetricsFresh is True (AllNodes): every ready node answers

Decisions, newest first:
  2m ago: 2 -> 4 nodes by WritesPerSecondBurst
    rule: writes/s over the burst window decide; grows only
    arithmetic: 10000 writes/s over 6 s need 3.33 nodes of 5000 writes/s at 60 %: 4
";

#[tokio::test]
async fn the_count_is_explained_by_its_arithmetic() {
    let server = Server::with(&["chat"]);
    assert_eq!(printed(&server, "explain chat").await, CHAT);
    let yaml: Value = serde_saphyr::from_str(&printed(&server, "explain chat -o yaml").await).unwrap();
    assert_eq!(yaml["decisions"][0]["rule"], "WritesPerSecondBurst");
    assert!(yaml["decisions"][0]["meaning"].is_string());
}

/// A spec and a rule of a later operator leave the recorded sentence.
#[tokio::test]
async fn what_is_not_known_is_left_out() {
    let text = printed(&Server::with(&["lobby"]), "explain lobby").await;
    assert!(text.contains("3 -> 2 nodes by ALaterRule\n    arithmetic: a sentence"), "{text}");
}

#[test]
fn every_rule_of_the_operator_has_a_meaning() {
    let source = include_str!("../../../core/src/autoscale/rule.rs");
    let rules: Vec<_> = source.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(rules.len() >= 16, "only {rules:?}: is the search broken?");
    let unexplained: Vec<_> = rules.iter().filter(|rule| meaning(rule).is_none()).collect();
    assert!(unexplained.is_empty(), "no meaning of {unexplained:?}");
}

/// The inputs of a burst: 10,000 writes/s on two nodes that are meant to carry 3,000 each.
fn burst() -> DecisionInputs {
    DecisionInputs {
        min: 2,
        max: 4,
        floor: 1,
        target_connections: 2_000,
        node_writes_per_second: 5_000,
        node_connections: 2_000,
        target_percent: 60,
        current: 2,
        replicas: 2,
        ready: 2,
        fresh: 2,
        stable: Some(WindowLoad { millis: 60_000, writes: 1_000, presumed: 1_000, ..WindowLoad::default() }),
        burst: Some(WindowLoad { millis: 6_000, writes: 10_000, presumed: 10_000, ..WindowLoad::default() }),
        connections: 1_204,
        presumed_connections: 1_204,
        most_recommended: Some(2),
        ..DecisionInputs::default()
    }
}

#[tokio::test]
async fn a_recorded_decision_is_made_again_from_the_status_alone() {
    let decision = judge(&burst()).decision;
    assert_eq!((decision.desired, decision.rule.as_str()), (4, "WritesPerSecondBurst"), "{decision:?}");
    let server = Server::with(&["chat"]);
    let mut chat = fixture("chat");
    chat["status"]["decisions"][0] = json!({
        "time": "2026-11-29T10:00:00Z", "from": 2, "to": decision.desired, "rule": decision.rule.as_str(),
        "message": decision.message, "inputs": serde_json::to_value(&decision.inputs).unwrap(),
    });
    let path = format!("{FLEETS}/chat");
    server.put(&path, &chat);
    let text = printed(&server, "explain chat").await;
    assert!(text.contains("judged again: the same"), "{text}");
    assert!(text.contains("10,000 writes/s over 6 s; 1,204 connections; fresh figures of 2 of 2"), "{text}");

    // An operator of another version decided otherwise of the same.
    chat["status"]["decisions"][0]["to"] = json!(3);
    server.put(&path, &chat);
    let (code, text) = Box::pin(run(&server, "explain chat")).await.unwrap();
    assert_eq!(code, 2);
    assert!(text.contains("judged again: 4 nodes by WritesPerSecondBurst"), "{text}");

    // What an operator of a later version records may not be readable; the sentence is.
    chat["status"]["decisions"][0]["inputs"]["mode"] = json!("ALaterMode");
    server.put(&path, &chat);
    let text = printed(&server, "explain chat").await;
    assert!(!text.contains("judged again") && text.contains("arithmetic: "), "{text}");
}

/// What was learned and derived is in the record: the numbers that counts are made with, and where they are from.
#[tokio::test]
async fn a_decision_by_learned_and_derived_capacity_is_made_again() {
    let CapacityStatus { writes_per_second, connections } = known();
    let inputs = DecisionInputs {
        node_writes_per_second: writes_per_second.as_ref().unwrap().estimate,
        node_connections: connections.as_ref().unwrap().estimate,
        learned: writes_per_second,
        derived: connections,
        ..burst()
    };
    let decision = judge(&inputs).decision;
    assert_eq!((decision.desired, decision.rule.as_str()), (3, "WritesPerSecondBurst"), "{decision:?}");
    let server = Server::with(&["chat"]);
    let mut chat = fixture("chat");
    chat["spec"]["nodes"]["capacity"] = json!({"connections": "Derived", "writesPerSecond": "Learned"});
    chat["status"]["capacity"] = serde_json::to_value(known()).unwrap();
    chat["status"]["decisions"][0] = json!({
        "time": "2026-11-29T10:00:00Z", "from": 2, "to": decision.desired, "rule": decision.rule.as_str(),
        "message": decision.message, "inputs": serde_json::to_value(&decision.inputs).unwrap(),
    });
    server.put(&format!("{FLEETS}/chat"), &chat);
    let text = printed(&server, "explain chat").await;
    let learned = "a node delivers 6,000 writes/s as was learned, confidence High: much evidence";
    let derived = "a node holds 1,500 connections as was derived, confidence Medium: \
        memory holds 20,100 ((512Mi x 40 % - 16 MB) / 4,944 bytes / 2), descriptors hold 1,500; nodes differ";
    for part in [
        "judged again: the same",
        &format!("2 of 2 ready nodes; {learned}; {derived}"),
        &format!("capacity: {learned}"),
        &format!("capacity: {derived}"),
        "writes/s: 9,800 / (6,000 x 60 %) = 2.72 nodes",
        "connections: 1,204 / (1,500 x 60 %) = 1.34 nodes",
        "floor: targetConnections 2,000 / 1,500 connections of a node = 2 nodes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let status = printed(&server, "status chat").await;
    assert!(status.contains(&format!("\n{learned}\n{derived}\n")), "{status}");

    // A spec that gives numbers is explained by them, whatever the status still knows.
    chat["spec"]["nodes"]["capacity"] = json!({"connections": 2_000, "writesPerSecond": 5_000});
    server.put(&format!("{FLEETS}/chat"), &chat);
    let text = printed(&server, "explain chat").await;
    assert!(text.contains("1,204 / (2,000 x 60 %)") && !text.contains("capacity: a node"), "{text}");
}
