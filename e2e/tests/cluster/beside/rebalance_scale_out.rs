//! The load grows, nodes are added, and clients of the nodes that had too much are moved to them: no node is above the
//! target then, and nobody is moved twice.

use std::time::Instant;

use e2e::fleet::{
    Fleet, eventually,
    uneven::{self, Uneven},
};
use e2e::report::record;
use e2e::scaling::{events, status};

/// `rebalance.connectionsPerSecond`.
const PACE: u32 = 20;

#[test]
fn clients_move_to_nodes_that_were_added_and_nobody_twice() {
    let fleet = Fleet::create("rebalance", &uneven::spec("Observe", PACE)).unwrap();
    let clients = Uneven::fill(&fleet, env!("CARGO_BIN_EXE_loadgen"), PACE).unwrap();
    let ready = Instant::now();

    let (moved, _) = eventually("no node is above its target", || {
        let status = status(&fleet)?;
        anyhow::ensure!(uneven::is_over(&status), "{}; {}", status["nodes"], status["operation"]);
        Ok(status["moves"]["moved"].as_i64())
    })
    .unwrap();
    record("rebalance", "ready_to_even", ready.elapsed().as_secs_f64()).unwrap();
    assert!(moved > 0, "nobody was moved");
    assert!(!events(&fleet, "RebalanceStarted").unwrap().is_empty());
    assert!(!events(&fleet, "RebalanceDone").unwrap().is_empty());
    assert_eq!(events(&fleet, "RebalanceStopped").unwrap(), [""; 0]);
    clients.end("rebalance").unwrap();
}
