//! (a) The chart is installed, a manifest is applied, and one line of `kubectl get cc` shows the state of the fleet.

use e2e::fleet::{Fleet, eventually};
use e2e::report::record;

const SPEC: &str = "{targetConnections: 2000, rooms: {maxMembers: 150, onFull: Reject}, \
    nodes: {min: 2, max: 4, capacity: {connections: 2000, writesPerSecond: 5000}}, \
    autoscaling: {mode: Auto, targetUtilization: 60}, auth: {anonymous: true}, expose: {chatPage: true}}";

#[test]
fn a_manifest_becomes_a_ready_fleet_and_one_line_says_so() {
    let fleet = Fleet::create("install", SPEC).unwrap();
    let (pods, elapsed) = fleet.wait_ready(2).unwrap();
    record("install_ready", "applied_to_ready", elapsed.as_secs_f64()).unwrap();

    let table = fleet.kubectl(&["get", "cc"]).unwrap();
    let mut lines = table.lines();
    let header: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    let columns =
        ["NAME", "READY", "NODES", "DESIRED", "CONNS", "WRITES/S", "UTIL", "DRAINING", "REASON", "AGE"];
    assert_eq!(header, columns, "{table}");
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["chat", "True", "2", "2"], "{table}");

    let (_, elapsed) = eventually("the status names both nodes and what they got", || {
        let object = fleet.object()?;
        let status = &object["status"];
        let nodes = status["nodes"].as_array().map_or(0, Vec::len);
        let seen = status["observedGeneration"] == object["metadata"]["generation"]
            && nodes == 2
            && status["nodes"][0]["nofile"].as_i64() > Some(1024)
            && status["nodeImage"].as_str().is_some_and(|image| image.contains("channel-node"));
        Ok(seen.then_some(()))
    })
    .unwrap();
    record("install_ready", "ready_to_full_status", elapsed.as_secs_f64()).unwrap();
    for kind in ["Available", "MetricsFresh", "TuningApplied"] {
        eventually(&format!("{kind} is True"), || {
            let (status, message) = fleet.condition(kind)?;
            anyhow::ensure!(status == "True", "{kind} is {status}: {message}");
            Ok(Some(()))
        })
        .unwrap();
    }

    let context = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "pod", &pods[0].name]).unwrap();
    let pod = &context["spec"]["securityContext"];
    assert_eq!(pod["runAsNonRoot"], true);
    assert!(pod["sysctls"].as_array().is_some_and(|all| !all.is_empty()), "no sysctls: {pod}");
    let container = &context["spec"]["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
}
