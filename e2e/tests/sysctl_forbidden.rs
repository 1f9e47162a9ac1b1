//! A sysctl that the kubelet does not allow: the status says so, the fleet comes up without it, and the pods that fail
//! meanwhile stay few.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use anyhow::Context;
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;

const SPEC: &str = "{targetConnections: 2000, rooms: {maxMembers: 150}, nodes: {min: 2, max: 4, capacity: {connections: 2000, \
    writesPerSecond: 5000}}, autoscaling: {mode: Auto}, auth: {anonymous: true}, \
    tuning: {profile: None, sysctls: {net.core.somaxconn: '4096'}}}";
/// Most pods that may fail. Nobody stops the ReplicaSet by itself: it made 80 in 25 s.
const MOST_FAILED: usize = 60;

/// Names of the pods that the kubelet rejected.
fn failed(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    let args = ["get", "pods", "--field-selector=status.phase=Failed", "-o", "name"];
    Ok(fleet.kubectl(&args)?.lines().map(str::to_owned).collect())
}

#[test]
fn a_refused_sysctl_is_said_and_left_out() {
    let fleet = Fleet::create("sysctl", SPEC).unwrap();
    let (message, elapsed) = eventually("TuningApplied says SysctlForbidden", || {
        let object = fleet.object()?;
        let conditions = object["status"]["conditions"].as_array().context("no conditions yet")?.clone();
        let found =
            conditions.into_iter().find(|c| c["type"] == "TuningApplied" && c["reason"] == "SysctlForbidden");
        Ok(found.map(|condition| condition["message"].to_string()))
    })
    .unwrap();
    record("sysctl_forbidden", "applied_to_said", elapsed.as_secs_f64()).unwrap();
    assert!(message.contains("net.core.somaxconn") && message.contains("allowedUnsafeSysctls"), "{message}");

    let (_, elapsed) = eventually("the fleet is Ready without the sysctl", || {
        let (status, message) = fleet.condition("Ready")?;
        anyhow::ensure!(status == "True", "{message}");
        let serving = fleet.node_pods()?.iter().filter(|pod| pod.ready && !pod.terminating).count();
        Ok((serving == 2).then_some(()))
    })
    .unwrap();
    record("sysctl_forbidden", "said_to_ready", elapsed.as_secs_f64()).unwrap();

    // Ready with both nodes of the new template: what the old one made is all that there will be.
    let rejected = failed(&fleet).unwrap();
    assert!(!rejected.is_empty() && rejected.len() <= MOST_FAILED, "{} pods failed", rejected.len());
    record("sysctl_forbidden", "failed_pods", f64::from(u32::try_from(rejected.len()).unwrap())).unwrap();
    let object = fleet.object().unwrap();
    assert_eq!(object["status"]["refusedSysctls"]["leftOut"][0], "net.core.somaxconn", "{object}");
    let events = fleet.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).unwrap();
    assert_eq!(events.matches("SysctlForbidden").count() - rejected_events(&fleet), 1, "{events}");
}

/// Events of that reason about pods, which the kubelet writes.
fn rejected_events(fleet: &Fleet) -> usize {
    let path = "jsonpath={.items[?(@.involvedObject.kind=='Pod')].reason}";
    let events = fleet.kubectl(&["get", "events", "-o", path]).unwrap();
    events.matches("SysctlForbidden").count()
}
