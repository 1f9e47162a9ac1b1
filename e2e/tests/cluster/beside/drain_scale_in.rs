//! (d) The load ends: nodes are drained and removed, one at a time, and their clients are back in the room.

use std::collections::BTreeSet;
use std::time::Instant;

use e2e::fleet::{Fleet, Lasting, eventually};
use e2e::report::record;
use e2e::scaling::{Load, SMALL_STEPS, draining, events, status, wait_replicas};
use e2e::stock::StockClients;

const RATE: u32 = 40;
/// Stock clients, about 50 on each of the four nodes.
const CLIENTS: usize = 200;

#[test]
fn nodes_are_drained_one_at_a_time_and_nobody_is_stranded() {
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 60s, connectionsPerSecond: 50}}}}");
    let fleet = Fleet::create("scale-in", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), RATE).unwrap();
    wait_replicas(&fleet, 4).unwrap();
    let (before, _) = fleet.wait_ready(4).unwrap();

    let url = format!("ws://{}/socket", fleet.service_address().unwrap());
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, 50, 4).unwrap();
    load.stop().unwrap();

    let mut drained = BTreeSet::new();
    let mut many_out = Lasting::default();
    let (after, elapsed) = eventually("two nodes are left", || {
        let status = status(&fleet)?;
        assert!(draining(&status).len() <= 1, "more than one at a time: {status}");
        if let Some(pod) = status["operation"]["pod"].as_str() {
            drained.insert(pod.to_owned());
        }
        let pods = fleet.node_pods()?;
        let out: Vec<_> = pods.iter().filter(|pod| !pod.ready && !pod.terminating).collect();
        assert!(!many_out.seen(out.len() > 1, Instant::now()), "more than one out of service: {out:?}");
        anyhow::ensure!(pods.len() == 2, "{} pods; {}", pods.len(), status["reason"]);
        Ok(Some(pods))
    })
    .unwrap();
    record("drain_scale_in", "load_end_to_two_nodes", elapsed.as_secs_f64()).unwrap();

    // The pods that were drained are the ones that were removed.
    let left: BTreeSet<_> = after.iter().map(|pod| pod.name.clone()).collect();
    let gone: BTreeSet<_> =
        before.iter().map(|pod| pod.name.clone()).filter(|name| !left.contains(name)).collect();
    assert_eq!(gone, drained);
    for reason in ["DrainDeadline", "DrainReplanned", "DrainedNodeGone"] {
        assert_eq!(events(&fleet, reason).unwrap(), [""; 0], "{reason}");
    }

    let (summary, _) = eventually("every client is back in its room", || {
        let summary = clients.summary()?;
        Ok(summary.all_back().then_some(summary))
    })
    .unwrap();
    assert!(summary.reconnects > 0, "nobody was on a node that went: {summary:?}");
    let codes: Vec<_> = summary.closes.as_object().unwrap().keys().cloned().collect();
    assert_eq!(codes, ["1012"], "{summary:?}");
    record("drain_scale_in", "reconnect_p99", summary.p99_millis.unwrap() / 1_000.0).unwrap();
    record("drain_scale_in", "reconnect_max", summary.max_millis.unwrap() / 1_000.0).unwrap();
    clients.stop().unwrap();
}
