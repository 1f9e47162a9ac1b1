//! (d) The load ends: nodes are drained together and removed, and their clients are back in the room.
//! Each client of a node that goes moves once.

use std::collections::BTreeSet;
use std::time::Instant;

use e2e::fleet::{Fleet, Lasting, eventually};
use e2e::report::record;
use e2e::scaling::{FOR_FOUR_NODES, Load, SMALL_STEPS, draining, events, status, wait_replicas};
use e2e::stock::StockClients;

/// Stock clients, about 50 on each of the four nodes.
const CLIENTS: usize = 200;

#[test]
fn nodes_are_drained_together_and_nobody_is_stranded_or_moved_twice() {
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 60s, connectionsPerSecond: 50}}}}");
    let fleet = Fleet::create("scale-in", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    wait_replicas(&fleet, 4).unwrap();
    let (before, _) = fleet.wait_ready(4).unwrap();

    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, 50, 4).unwrap();
    load.stop().unwrap();
    // Each client that comes back speaks once, to all others: at the small capacity of these nodes that is a load for which
    // the fleet would grow again, rightly.
    fleet.kubectl(&["annotate", "channelcluster", "chat", "channelcluster.io/pause-scale-out=true"]).unwrap();

    let mut drained = BTreeSet::new();
    let mut many_out = Lasting::default();
    let (after, elapsed) = eventually("two nodes are left", || {
        let status = status(&fleet)?;
        assert!(draining(&status).len() <= 2, "more than are to go: {status}");
        let nodes = status["operation"]["nodes"].as_array().cloned().unwrap_or_default();
        drained.extend(nodes.iter().filter_map(|node| node["pod"].as_str().map(str::to_owned)));
        let pods = fleet.node_pods()?;
        let out: Vec<_> = pods.iter().filter(|pod| !pod.ready && !pod.terminating).collect();
        assert!(!many_out.seen(out.len() > 2, Instant::now()), "more than two out of service: {out:?}");
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

    let summary = clients.wait_back().unwrap();
    assert!(summary.reconnects > 0, "nobody was on a node that went: {summary:?}");
    assert_eq!(summary.codes(), ["1012"], "{summary:?}");
    assert_eq!(summary.most_closes, 1, "a client was sent to a node that was to go: {summary:?}");
    record("drain_scale_in", "reconnect_p99", summary.p99_millis.unwrap() / 1_000.0).unwrap();
    record("drain_scale_in", "reconnect_max", summary.max_millis.unwrap() / 1_000.0).unwrap();
    clients.stop().unwrap();
}
