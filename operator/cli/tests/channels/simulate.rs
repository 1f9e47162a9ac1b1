//! `simulate`.

use crate::support::{Server, Written, run};
use serde_json::Value;

async fn simulated(line: &str) -> String {
    let (code, text) =
        Box::pin(run(&Server::default(), line)).await.unwrap_or_else(|error| panic!("{line}: {error:#}"));
    assert_eq!(code, 0, "{line}: {text}");
    text
}

/// A manifest of small nodes: 1,000 writes/s and 500 connections each, at most 8.
const SMALL: &str = "\
apiVersion: channelcluster.io/v1alpha1
kind: ChannelCluster
metadata: {name: small}
spec:
  targetConnections: 100
  rooms: {maxMembers: 100}
  nodes: {min: 2, max: 8, capacity: {writesPerSecond: 1000, connections: 500}}
  auth: {anonymous: true}
";

/// 200 clients with 5 messages per second each; after five minutes three times as many.
const RECORDED: &str = "second,clients,writes\n0,200,1000\n300,200,1000\n301,600,3000\n900,600,3000\n";

#[tokio::test]
async fn a_recorded_load_is_followed_and_drawn() {
    let (manifest, trace) = (Written::new("small.yaml", SMALL), Written::new("friday.csv", RECORDED));
    let svg = Written::new("friday.svg", "");
    let line = format!("simulate -f {} --trace {} --svg {}", manifest.path(), trace.path(), svg.path());
    let text = simulated(&line).await;
    assert!(text.contains("small under") && text.contains("operator") && text.contains('░'), "{text}");
    let drawn = std::fs::read_to_string(&svg.0).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    let json: Value =
        serde_json::from_str(&simulated(&format!("{line} --beside hpa-cpu,ideal -o json")).await).unwrap();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    // 3,000 writes/s are five nodes' worth at 60 %. How soon the operator asks for all of them is judged elsewhere.
    let most = runs[0]["mostNodes"].as_i64().unwrap();
    assert!((4..=8).contains(&most), "{json}");
    assert!(
        runs[2]["overloadPercent"].as_f64().unwrap() <= runs[0]["overloadPercent"].as_f64().unwrap() + 0.01
    );
    // It is a function of its arguments.
    assert_eq!(text, simulated(&line).await);
}

#[tokio::test]
async fn a_kind_is_scaled_to_the_manifest() {
    let manifest = Written::new("scaled.yaml", SMALL);
    let kinds = simulated("simulate --list").await;
    assert!(kinds.lines().count() > 20, "{kinds}");
    let line = format!("simulate --kind step -f {} -o json", manifest.path());
    let small: Value = serde_json::from_str(&simulated(&line).await).unwrap();
    let usual: Value = serde_json::from_str(&simulated("simulate --kind step -o json").await).unwrap();
    let most = |value: &Value| value["runs"][0]["mostNodes"].as_i64().unwrap();
    assert!(
        most(&small) > 2,
        "the load of 24,000 writes/s per node would be far beyond, that of nobody below: {small}"
    );
    assert!(most(&small) <= 8 && most(&small) <= most(&usual) + 1, "{small} {usual}");
}

#[tokio::test]
async fn what_cannot_be_simulated_is_named() {
    let torn = Written::new("torn.csv", "0,1,1\n1,one,2\n");
    let wrong = Written::new("max.yaml", &SMALL.replace("max: 8", "max: 1"));
    for (line, part) in [
        ("simulate --kind flash".to_owned(), "crowd-"),
        ("simulate".to_owned(), "--kind"),
        (format!("simulate --trace {}", torn.path()), "line 2"),
        ("simulate --trace /nowhere.csv".to_owned(), "/nowhere.csv"),
        (format!("simulate --kind step -f {}", wrong.path()), "nodes.max"),
    ] {
        let error = Box::pin(run(&Server::default(), &line)).await.unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(part), "{line}: {said}");
    }
}
