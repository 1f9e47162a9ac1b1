//! Machines go: by `kubectl drain`, and by a taint that tells of it ahead. Nobody is stranded, and nobody is sent from one node
//! that goes to another.

use std::process::Child;

use anyhow::{Result, ensure};
use cluster::Instance;
use e2e::fleet::{Fleet, NodePod, eventually};
use e2e::report::record;
use e2e::scaling::{events, status};
use e2e::stock::{StockClients, StockSummary};
use serde_json::Value;

/// What a person taints a machine with to have it emptied.
const TAINT: &str = "channelcluster.io/drain";
/// The label of the nodes' pods; others on the machine stay.
const NODES: &str = "app.kubernetes.io/component=node";

fn spec(nodes: u32) -> String {
    format!(
        "{{targetConnections: 400, rooms: {{maxMembers: 150}}, nodes: {{min: {nodes}, max: {nodes}, \
         capacity: {{connections: 2000, writesPerSecond: 5000}}}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true}}, drain: {{delay: 5s, deadline: 60s, connectionsPerSecond: 50}}}}"
    )
}

/// A machine that is drained, or tainted; it takes pods again when the value is dropped.
struct Leaving<'a> {
    instance: &'a Instance,
    machine: String,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        for args in
            [vec!["uncordon", &self.machine], vec!["taint", "node", &self.machine, &format!("{TAINT}-")]]
        {
            // It has one of both only.
            self.instance.kubectl(args).ok();
        }
    }
}

impl<'a> Leaving<'a> {
    fn tainted(fleet: &'a Fleet, machine: &str) -> Self {
        let leaving = Self { instance: &fleet.instance, machine: machine.to_owned() };
        fleet.instance.kubectl(["taint", "node", machine, &format!("{TAINT}=:NoSchedule")]).unwrap();
        leaving
    }

    fn drained(fleet: &'a Fleet, machine: &str) -> (Self, Child) {
        let leaving = Self { instance: &fleet.instance, machine: machine.to_owned() };
        let mut kubectl = fleet.instance.kubectl_command().unwrap();
        kubectl.args(["drain", machine, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=110s"]);
        (leaving, kubectl.args(["--pod-selector", NODES]).spawn().unwrap())
    }
}

/// The machine of each of the fleet's nodes that is not being deleted.
fn machines(fleet: &Fleet) -> Result<Vec<(String, String)>> {
    let list = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", "pods", "-l", NODES])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(alive.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]))).collect())
}

/// The machine with the most nodes, and those nodes.
fn fullest(fleet: &Fleet) -> (String, Vec<String>) {
    let placed = machines(fleet).unwrap();
    let on = |machine: &str| -> Vec<String> {
        placed.iter().filter(|(_, of)| of == machine).map(|(pod, _)| pod.clone()).collect()
    };
    let all = fleet.instance.node_names().into_iter().map(|machine| (on(&machine), machine));
    let (pods, machine): (Vec<String>, String) = all.max_by_key(|(pods, _)| pods.len()).unwrap();
    (machine, pods)
}

/// Waits until the fleet is at rest with so many nodes, none of them on the machine.
fn wait_gone(fleet: &Fleet, machine: &str, nodes: usize) -> (f64, usize) {
    let mut fewest = usize::MAX;
    let (_, elapsed) = eventually(&format!("{nodes} nodes elsewhere than on {machine}"), || {
        let pods: Vec<NodePod> = fleet.node_pods()?;
        fewest = fewest.min(pods.iter().filter(|pod| pod.ready).count());
        let placed = machines(fleet)?;
        ensure!(placed.iter().all(|(_, of)| of != machine), "{placed:?}");
        ensure!(pods.len() == nodes && pods.iter().all(|pod| pod.ready), "{pods:?}");
        let status = status(fleet)?;
        ensure!(status["operation"].is_null(), "{}", status["operation"]);
        Ok(Some(()))
    })
    .unwrap();
    (elapsed.as_secs_f64(), fewest)
}

/// Waits until all clients are back, and checks that each was sent away once at most.
fn all_back(clients: &mut StockClients, what: &str) -> StockSummary {
    let summary = clients.wait_back().unwrap();
    assert!(summary.reconnects > 0, "nobody was on a node that went: {summary:?}");
    assert_eq!(summary.codes(), ["1012"], "{summary:?}");
    assert_eq!(summary.most_closes, 1, "a client was sent to a node that was to go: {summary:?}");
    let seconds = |millis: Option<f64>| millis.unwrap() / 1_000.0;
    let reconnects = f64::from(u32::try_from(summary.reconnects).unwrap());
    for (figure, value) in [
        ("disconnects", reconnects),
        ("reconnect_p50", seconds(summary.p50_millis)),
        ("reconnect_p99", seconds(summary.p99_millis)),
        ("reconnect_max", seconds(summary.max_millis)),
    ] {
        record("machine_goes", &format!("{what}_{figure}"), value).unwrap();
    }
    summary
}

#[test]
fn kubectl_drain_strands_nobody() {
    let fleet = Fleet::create_alone("machine-drain", &spec(4)).unwrap();
    fleet.wait_ready(4).unwrap();
    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, 200, 50, 4).unwrap();
    let (machine, pods) = fullest(&fleet);
    let begun = std::time::Instant::now();
    let (_leaving, mut kubectl) = Leaving::drained(&fleet, &machine);
    let (seconds, _) = wait_gone(&fleet, &machine, 4);
    assert!(kubectl.wait().unwrap().success(), "kubectl drain gave up");
    record("machine_goes", "drain_kubectl", begun.elapsed().as_secs_f64()).unwrap();
    record("machine_goes", "drain_settled", seconds).unwrap();
    let summary = all_back(&mut clients, "drain");
    assert!(summary.reconnects <= 200, "{summary:?}");
    let said = events(&fleet, "MachineGoes").unwrap().join("; ");
    assert!(said.contains(&machine) && said.contains("cordoned"), "{said}");
    assert!(pods.iter().any(|pod| said.contains(pod)), "{said}");
    clients.stop().unwrap();
}

#[test]
fn a_taint_empties_a_machine_ahead_and_an_only_node_is_replaced_first() {
    let fleet = Fleet::create_alone("machine-taint", &spec(1)).unwrap();
    fleet.wait_ready(1).unwrap();
    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, 50, 50, 1).unwrap();
    let (machine, _) = fullest(&fleet);
    let _leaving = Leaving::tainted(&fleet, &machine);
    let (message, _) = eventually("the condition says why", || {
        let (status, message) = fleet.condition("Draining")?;
        ensure!(status == "True" && message.contains(TAINT), "{message}");
        Ok(Some(message))
    })
    .unwrap();
    assert!(message.contains(&format!("machine {machine}")), "{message}");
    let (seconds, fewest) = wait_gone(&fleet, &machine, 1);
    record("machine_goes", "taint_settled", seconds).unwrap();
    assert_eq!(fewest, 1, "no node was in the Service for a while");
    assert_eq!(all_back(&mut clients, "taint").reconnects, 50);
    assert_eq!(events(&fleet, "NodeEvicted").unwrap(), [""; 0]);
    clients.stop().unwrap();
}
