//! (f) The leading operator is killed in the middle of a scale-in: serving goes on, and the next leader finishes with the
//! very node that was being drained.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use e2e::fleet::{Fleet, eventually, signal};
use e2e::report::record;
use e2e::scaling::{Load, SMALL_STEPS, events, leader, operator_process, operators, status, wait_replicas};
use e2e::stock::StockClients;

/// 1,600 writes/s: 2.7 nodes of 1,000 at 60 %.
const RATE: u32 = 32;
const CLIENTS: usize = 120;

#[test]
fn the_next_leader_finishes_what_the_killed_one_began() {
    // Slow enough that the drain is under way when its operator dies.
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 90s, connectionsPerSecond: 2}}}}");
    let fleet = Fleet::create("operator-killed", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), RATE).unwrap();
    wait_replicas(&fleet, 3).unwrap();
    fleet.wait_ready(3).unwrap();
    let url = format!("ws://{}/socket", fleet.service_address().unwrap());
    let mut clients = StockClients::start(&fleet.instance, &url, CLIENTS, 40).unwrap();
    clients.wait_ready().unwrap();
    load.stop().unwrap();

    let (victim, _) = eventually("a node closes its connections", || {
        let operation = status(&fleet)?["operation"].clone();
        let closing = operation["step"] == "Closing";
        Ok(operation["pod"].as_str().filter(|_| closing).map(str::to_owned))
    })
    .unwrap();
    let killed = leader(&fleet.instance).unwrap();
    let pod = operators(&fleet.instance).unwrap().into_iter().find(|pod| pod.name == killed).unwrap();
    signal(operator_process(&pod).unwrap(), libc::SIGKILL).unwrap();

    let (_, elapsed) = eventually("the fleet has two nodes", || {
        let pods = fleet.node_pods()?;
        let serving = pods.iter().filter(|pod| pod.ready && pod.name != victim).count();
        assert!(serving >= 2, "serving nodes went: {pods:?}");
        anyhow::ensure!(pods.len() == 2, "{} pods", pods.len());
        Ok(Some(()))
    })
    .unwrap();
    record("operator_killed", "killed_to_finished", elapsed.as_secs_f64()).unwrap();
    let pods = fleet.node_pods().unwrap();
    assert!(pods.iter().all(|pod| pod.name != victim), "{victim} was to go: {pods:?}");
    let ((), _) =
        eventually("the operation is over", || Ok(status(&fleet)?["operation"].is_null().then_some(())))
            .unwrap();
    assert_eq!(events(&fleet, "DrainCancelled").unwrap(), [""; 0], "begun anew instead of gone on with");

    let (summary, _) = eventually("every client is back in its room", || {
        let summary = clients.summary()?;
        Ok(summary.all_back().then_some(summary))
    })
    .unwrap();
    let codes: Vec<_> = summary.closes.as_object().unwrap().keys().cloned().collect();
    assert_eq!(codes, ["1012"], "only the drain closed connections: {summary:?}");
    clients.stop().unwrap();
}
