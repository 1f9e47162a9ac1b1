//! Unsafe sysctls are tried by a pod on each machine before nodes ask for them. Where a kubelet refuses, the fleet comes up without
//! and says so; where those that may run nodes allow it, nodes have it from the beginning. No pod of a node fails in either.

use anyhow::ensure;
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{node_deployments, status};
use serde_json::Value;

const SYSCTL: &str = "net.core.somaxconn";
/// Its value: another than that of a network namespace by itself, which is 4096.
const VALUE: &str = "2048";
/// The only machine of the local cluster whose kubelet allows it.
const ALLOWS: &str = "node-2";

/// A fleet on the machines that this selector finds.
fn spec(selector: &str) -> String {
    format!(
        "{{targetConnections: 2000, rooms: {{maxMembers: 150}}, nodes: {{min: 2, max: 4, nodeSelector: {selector}, \
         capacity: {{connections: 2000, writesPerSecond: 5000}}}}, auth: {{anonymous: true}}, \
         tuning: {{profile: None, sysctls: {{{SYSCTL}: '{VALUE}'}}}}}}"
    )
}

/// Names of the pods that a kubelet rejected, and of those that try sysctls.
fn left(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    let failed = fleet.kubectl(&["get", "pods", "--field-selector=status.phase=Failed", "-o", "name"])?;
    let tries = fleet.kubectl(&["get", "pods", "-l", "channelcluster.io/sysctl-probe", "-o", "name"])?;
    Ok(failed.lines().chain(tries.lines()).map(str::to_owned).collect())
}

/// Waits until two nodes serve and the pods that tried the sysctl are gone; seconds since the fleet was made.
fn settled(fleet: &Fleet) -> f64 {
    let (_, elapsed) = eventually("two nodes serve, and nothing is tried any more", || {
        let (ready, message) = fleet.condition("Ready")?;
        ensure!(ready == "True", "{message}");
        let left = left(fleet)?;
        ensure!(left.is_empty(), "{left:?}");
        let serving = fleet.node_pods()?.iter().filter(|pod| pod.ready && !pod.terminating).count();
        Ok((serving == 2).then_some(()))
    })
    .unwrap();
    elapsed.as_secs_f64()
}

/// What each machine answered, by the status.
fn verdicts(fleet: &Fleet) -> Vec<String> {
    let probes = status(fleet).unwrap()["sysctlProbes"]["pools"].clone();
    probes.as_array().unwrap().iter().map(|pool| pool["verdict"].as_str().unwrap().to_owned()).collect()
}

/// How often a kubelet refused a pod of the fleet, by its Events.
fn refusals(fleet: &Fleet, kind: &str) -> usize {
    let list = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "events"]).unwrap();
    let ours =
        |event: &&Value| event["reason"] == "SysctlForbidden" && event["involvedObject"]["kind"] == kind;
    list["items"].as_array().unwrap().iter().filter(ours).count()
}

#[test]
fn a_refused_sysctl_is_left_out_before_any_node_asks_for_it() {
    let fleet = Fleet::create("sysctl", &spec("{}")).unwrap();
    let (message, elapsed) = eventually("TuningApplied says SysctlForbidden", || {
        let conditions = status(&fleet)?["conditions"].clone();
        let found = conditions.as_array().into_iter().flatten();
        let mut found = found.filter(|c| c["type"] == "TuningApplied" && c["reason"] == "SysctlForbidden");
        Ok(found.next().map(|condition| condition["message"].to_string()))
    })
    .unwrap();
    record("sysctl_forbidden", "applied_to_said", elapsed.as_secs_f64()).unwrap();
    assert!(message.contains(SYSCTL) && message.contains("allowedUnsafeSysctls"), "{message}");
    record("sysctl_forbidden", "applied_to_ready_without", settled(&fleet)).unwrap();

    assert_eq!(node_deployments(&fleet).unwrap().len(), 1, "nodes were made once");
    assert_eq!(refusals(&fleet, "Pod"), 1, "one kubelet was asked once");
    assert_eq!(refusals(&fleet, "ChannelCluster"), 1);
    let status = status(&fleet).unwrap();
    assert_eq!(status["refusedSysctls"]["leftOut"][0], SYSCTL, "{status}");
}

#[test]
fn nodes_have_a_sysctl_that_the_kubelets_of_their_machines_allow() {
    let fleet =
        Fleet::create("sysctl-allowed", &spec(&format!("{{kubernetes.io/hostname: {ALLOWS}}}"))).unwrap();
    record("sysctl_forbidden", "applied_to_ready_with", settled(&fleet)).unwrap();
    let mut verdicts = verdicts(&fleet);
    verdicts.sort();
    assert_eq!(verdicts, ["Allowed", "NotPlaced"], "the other machine may not run nodes");
    assert_eq!(node_deployments(&fleet).unwrap().len(), 1, "nodes were made once");
    assert_eq!(refusals(&fleet, "Pod"), 0);
    let (_, elapsed) = eventually("nodes read the value back", || {
        let (applied, message) = fleet.condition("TuningApplied")?;
        ensure!(applied == "True", "{message}");
        Ok(Some(()))
    })
    .unwrap();
    record("sysctl_forbidden", "ready_to_read_back", elapsed.as_secs_f64()).unwrap();
}
