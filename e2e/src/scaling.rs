//! What the scaling tests have in common: a load that makes a fleet grow, and the operators of the instance.

use anyhow::{Context, Result};
use cluster::Instance;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
};

use crate::fleet::{Fleet, eventually};

/// Namespace that the chart is installed in.
pub const OPERATOR_NAMESPACE: &str = "channelcluster-system";
/// Spec of a fleet that 600 writes/s per node fill to the target, and that shrinks after seconds. The capacity is a
/// number and the windows are short: the tests are about decisions, not about what this machine can carry.
pub const SMALL_STEPS: &str = "targetConnections: 400, rooms: {maxMembers: 150}, \
    nodes: {min: 2, max: 4, capacity: {connections: 2000, writesPerSecond: 1000}}, \
    autoscaling: {mode: Auto, targetUtilization: 60, windows: {stable: 12s, burst: 6s}, \
    behavior: {scaleDown: {stabilizationWindowSeconds: 5}}}, auth: {anonymous: true}, expose: {chatPage: true}";

/// Publishes per second of a [`Load`] that a fleet of [`SMALL_STEPS`] needs four nodes for, whatever it had before: 2,300
/// writes/s are 3.8 nodes' worth, so they stay more than three nodes' and the tolerance of a tenth where a busy machine
/// delivers an eighth less, and less than the four that it may have.
pub const FOR_FOUR_NODES: u32 = 46;

/// Publishes into rooms until it is dropped or stopped.
pub struct Load {
    child: Child,
}

impl Load {
    /// Starts `loadgen` (its path) in the client namespace: 100 connections in 2 rooms, `rate` publishes per second, so
    /// 50 writes each.
    ///
    /// # Errors
    /// When it cannot be started, or the fleet has no Service yet.
    pub fn start(fleet: &Fleet, loadgen: &str, rate: u32) -> Result<Self> {
        Self::start_in(fleet, loadgen, rate, "room:load-")
    }

    /// The same in rooms whose names begin with `topics`, each of which others may be in too.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_in(fleet: &Fleet, loadgen: &str, rate: u32, topics: &str) -> Result<Self> {
        let rate = rate.to_string();
        let rooms = ["--connections", "100", "--rooms", "2", "--rate", &rate, "--topic-prefix", topics];
        let times = ["--duration", "600", "--connect-rate", "500", "--reconnect", "--settle", "1"];
        Self::spawn(fleet, loadgen, rooms.into_iter().chain(times))
    }

    /// Holds so many connections, in rooms of 100, that say nothing. It ends when one of them does.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn hold(fleet: &Fleet, loadgen: &str, connections: u32) -> Result<Self> {
        let connections = connections.to_string();
        let args =
            ["--scenario", "idle", "--connections", &connections, "--connect-rate", "1000", "--hold", "10"];
        Self::spawn(fleet, loadgen, args)
    }

    fn spawn<'a>(fleet: &Fleet, loadgen: &str, args: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let url = format!("ws://{}/socket/websocket", fleet.service_address()?);
        let child = fleet
            .instance
            .client_command(loadgen)
            .args(["--url", &url])
            .args(args)
            .args(["--source-addresses", &fleet.instance.client_addresses().join(",")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the load generator")?;
        Ok(Self { child })
    }

    /// Ends the load.
    ///
    /// # Errors
    /// When the generator ended by itself.
    pub fn stop(mut self) -> Result<()> {
        let early = self.child.try_wait()?;
        anyhow::ensure!(early.is_none(), "the load ended early: {early:?}");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After `stop` it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The status of a fleet.
///
/// # Errors
/// When the API server does not answer.
pub fn status(fleet: &Fleet) -> Result<Value> {
    Ok(fleet.object()?["status"].clone())
}

/// Replicas that the Deployments of nodes ask for together.
///
/// # Errors
/// When the API server does not answer.
pub fn replicas(fleet: &Fleet) -> Result<i64> {
    let counts = node_deployments(fleet)?;
    let counts = counts.iter().map(|one| one["spec"]["replicas"].as_i64().context("no replicas"));
    counts.sum()
}

/// The Deployments of nodes, the current one first.
///
/// # Errors
/// When the API server does not answer.
pub fn node_deployments(fleet: &Fleet) -> Result<Vec<Value>> {
    let ours = format!("channelcluster.io/cluster={},app.kubernetes.io/component=node", fleet.name);
    let list = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "deployments", "-l", &ours])?;
    let mut all = list["items"].as_array().context("kubectl printed no list")?.clone();
    let revision = |one: &Value| {
        let text = one["metadata"]["annotations"]["channelcluster.io/revision"].as_str();
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
    };
    all.sort_by_key(|one| std::cmp::Reverse(revision(one)));
    Ok(all)
}

/// Notes of the Events about the ChannelCluster with that reason.
///
/// # Errors
/// When the API server does not answer.
pub fn events(fleet: &Fleet, reason: &str) -> Result<Vec<String>> {
    let selector = format!("regarding.kind=ChannelCluster,reason={reason}");
    let list = fleet.instance.kubectl_json([
        "-n",
        &fleet.namespace,
        "get",
        "events.events.k8s.io",
        "--field-selector",
        &selector,
    ])?;
    let notes = list["items"].as_array().context("kubectl printed no list")?;
    Ok(notes.iter().filter_map(|event| event["note"].as_str().map(str::to_owned)).collect())
}

/// The image that the operators name for the nodes of fleets which name none.
///
/// # Errors
/// When the API server does not answer, or the operators name none.
pub fn node_image(instance: &Instance) -> Result<String> {
    let args: Vec<String> = serde_json::from_str(&of_operators(instance, "args")?)?;
    let named = args.iter().find_map(|arg| arg.strip_prefix("--node-image="));
    named.map(str::to_owned).with_context(|| format!("no --node-image in {args:?}"))
}

/// The image of the operators. As a node its process ends at once, since it does not know a node's flags.
///
/// # Errors
/// When the API server does not answer.
pub fn operator_image(instance: &Instance) -> Result<String> {
    of_operators(instance, "image")
}

/// A field of the operators' container.
fn of_operators(instance: &Instance, field: &str) -> Result<String> {
    let path = format!("jsonpath={{.items[0].spec.template.spec.containers[0].{field}}}");
    instance.kubectl(["-n", OPERATOR_NAMESPACE, "get", "deployments", "-o", &path])
}

/// An operator pod: its name and UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPod {
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
}

/// The operator pods that run.
///
/// # Errors
/// When the API server does not answer.
pub fn operators(instance: &Instance) -> Result<Vec<OperatorPod>> {
    let list = instance.kubectl_json([
        "-n",
        OPERATOR_NAMESPACE,
        "get",
        "pods",
        "--field-selector",
        "status.phase=Running",
    ])?;
    let pods = list["items"].as_array().context("kubectl printed no list")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(pods
        .iter()
        .map(|pod| OperatorPod { name: text(&pod["metadata"]["name"]), uid: text(&pod["metadata"]["uid"]) })
        .filter(|pod| pod.name.contains("operator"))
        .collect())
}

/// Name of the pod that holds the operators' lease; empty while no operator does.
///
/// # Errors
/// When there is no lease yet.
pub fn leader(instance: &Instance) -> Result<String> {
    let lease = instance.kubectl_json(["-n", OPERATOR_NAMESPACE, "get", "lease", "channel-operator"])?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

/// Replaces all operators, as an upgrade of the chart does, and waits until others lead.
///
/// # Errors
/// When they are not others within the hang guard.
pub fn replace_operators(fleet: &Fleet) -> Result<()> {
    let before: BTreeSet<_> = operators(&fleet.instance)?.into_iter().map(|pod| pod.uid).collect();
    fleet.instance.kubectl(["-n", OPERATOR_NAMESPACE, "rollout", "restart", "deployments"])?;
    eventually("all operators are others", || {
        let now = operators(&fleet.instance)?;
        let others = now.iter().filter(|pod| !before.contains(&pod.uid)).count();
        anyhow::ensure!(others == now.len() && others == before.len(), "{now:?}");
        let leader = leader(&fleet.instance)?;
        Ok(now.iter().any(|pod| pod.name == leader).then_some(()))
    })
    .map(drop)
}

/// Process id of an operator. The kernel keeps 15 letters of a program's name.
///
/// # Errors
/// When it does not run.
pub fn operator_process(pod: &OperatorPod) -> Result<i32> {
    Fleet::process_of(&pod.uid, "channel-operato")
}

/// Names of the nodes that are being drained: by the operation in the status, or by their own answer.
#[must_use]
pub fn draining(status: &Value) -> Vec<&str> {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().filter(|node| node["phase"] == "Draining").filter_map(|node| node["name"].as_str()).collect()
}

/// Port of an operator's metrics.
const METRICS_PORT: u16 = 9410;

/// A metric without labels of an operator, asked through the API server; `name` goes without the prefix.
///
/// # Errors
/// When the operator does not answer within 5 s, because it stands still for instance, or has no such metric.
pub fn operator_metric(instance: &Instance, pod: &str, name: &str) -> Result<f64> {
    let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:{METRICS_PORT}/proxy/metrics");
    let text = instance.kubectl(["get", "--raw", &path, "--request-timeout", "5s"])?;
    metric(&text, name).with_context(|| format!("{pod} has no metric {name}"))
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let name = format!("channelcluster_operator_{name} ");
    text.lines().find_map(|line| line.strip_prefix(&name))?.trim().parse().ok()
}

/// What an operator did to the fleet by its own log: its drains, and its changes of the node count.
///
/// # Errors
/// When the log cannot be read.
pub fn acts(fleet: &Fleet, pod: &str) -> Result<Vec<String>> {
    let log = fleet.instance.kubectl(["-n", OPERATOR_NAMESPACE, "logs", pod])?;
    Ok(acts_in(&log, &fleet.namespace))
}

fn acts_in(log: &str, namespace: &str) -> Vec<String> {
    let of = format!("acting namespace=\"{namespace}\"");
    log.lines().filter(|line| line.contains(&of)).map(str::to_owned).collect()
}

/// Whether a status shows so many nodes, each with some writes/s and with at most so many.
#[must_use]
pub fn is_even(status: &Value, count: usize, most: i64) -> bool {
    let nodes = status["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let low =
        |node: &Value| node["writesPerSecond"].as_i64().is_some_and(|writes| (1..=most).contains(&writes));
    nodes.len() == count && nodes.iter().all(low)
}

/// Waits until the Deployment asks for `count` nodes.
///
/// # Errors
/// When it does not within the hang guard.
pub fn wait_replicas(fleet: &Fleet, count: i64) -> Result<std::time::Duration> {
    let (_, elapsed) = eventually(&format!("{count} replicas in {}", fleet.namespace), || {
        let now = replicas(fleet)?;
        anyhow::ensure!(now == count, "{now} replicas; {}", status(fleet)?["decisions"]);
        Ok(Some(()))
    })?;
    Ok(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE channelcluster_operator_leader gauge\nchannelcluster_operator_leader 1\n\
                    channelcluster_operator_status_writes_total 12\n# EOF\n";
        assert_eq!(metric(text, "leader"), Some(1.0));
        assert_eq!(metric(text, "status_writes_total"), Some(12.0));
        assert_eq!(metric(text, "status_writes"), None);
    }

    #[test]
    fn acts_are_those_on_the_fleet() {
        let log = "2026-01-01T00:00:00.1Z  INFO operator::act: acting namespace=\"a\" name=\"chat\" action=Replicas\n\
                   2026-01-01T00:00:00.2Z  INFO operator::act: acting namespace=\"b\" name=\"chat\" action=Unready\n\
                   2026-01-01T00:00:00.3Z  WARN channel_operator: lost the lease: stopped acting\n";
        let acts = acts_in(log, "a");
        assert!(acts.len() == 1 && acts[0].contains("Replicas"), "{acts:?}");
    }

    #[test]
    fn every_draining_node_counts() {
        let status = serde_json::json!({"draining": 1, "nodes": [
            {"name": "a", "phase": "Draining"}, {"name": "b", "phase": "Serving"}, {"name": "c", "phase": "Draining"},
        ]});
        assert_eq!(draining(&status), ["a", "c"]);
        assert!(draining(&serde_json::json!({})).is_empty());
    }
}
