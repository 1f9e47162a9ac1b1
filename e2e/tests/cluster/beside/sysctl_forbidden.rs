//! The kubelet does not allow a sysctl: the status says so, the fleet comes up without it, and no more pods fail.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use serde_json::Value;

const SPEC: &str = "{targetConnections: 2000, rooms: {maxMembers: 150}, nodes: {min: 2, max: 4, capacity: {connections: 2000, \
    writesPerSecond: 5000}}, autoscaling: {mode: Auto}, auth: {anonymous: true}, \
    tuning: {profile: None, sysctls: {net.core.somaxconn: '4096'}}}";
/// The ReplicaSet makes a new pod for each that is rejected, several a second, for ever: it would be seen within this
/// time.
const WATCHED: Duration = Duration::from_secs(10);

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
        ensure!(status == "True", "{message}");
        let serving = fleet.node_pods()?.iter().filter(|pod| pod.ready && !pod.terminating).count();
        Ok((serving == 2).then_some(()))
    })
    .unwrap();
    record("sysctl_forbidden", "said_to_ready", elapsed.as_secs_f64()).unwrap();

    // The old template has no pods any more, so nothing is left that could be rejected.
    eventually("the rollout is complete", || {
        let deployment =
            fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "deployment", "chat-node"])?;
        let count = |key: &str| deployment["status"][key].as_i64();
        ensure!(
            count("replicas") == Some(2) && count("updatedReplicas") == Some(2),
            "{}",
            deployment["status"]
        );
        Ok(Some(()))
    })
    .unwrap();
    let rejected = failed(&fleet).unwrap().len();
    assert!(rejected > 0, "the kubelet rejected nothing");
    let start = Instant::now();
    while start.elapsed() < WATCHED {
        assert!(failed(&fleet).unwrap().len() <= rejected, "pods go on failing");
    }
    record("sysctl_forbidden", "failed_pods", f64::from(u32::try_from(rejected).unwrap())).unwrap();

    let object = fleet.object().unwrap();
    assert_eq!(object["status"]["refusedSysctls"]["leftOut"][0], "net.core.somaxconn", "{object}");
    assert_eq!(told(&fleet), 1);
}

/// Events about the ChannelCluster with this reason. The kubelet writes others of this reason, about its pods.
fn told(fleet: &Fleet) -> usize {
    let list = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "events"]).unwrap();
    let ours = |event: &&Value| {
        event["reason"] == "SysctlForbidden" && event["involvedObject"]["kind"] == "ChannelCluster"
    };
    list["items"].as_array().unwrap().iter().filter(ours).count()
}
