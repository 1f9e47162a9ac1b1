//! (h) Pods are asked for that are made otherwise: nodes are added, all of before leave the Service together, and each of
//! their clients moves once.

use std::collections::BTreeSet;

use e2e::fleet::{
    Fleet,
    crowd::{Crowd, NODES, are_replaced, spec},
    eventually,
};
use e2e::report::record;
use e2e::scaling::{events, status};

/// A quarter of the nodes, rounded up.
const SURGE: usize = 1;

/// The rest of `drain` in the spec.
const DRAIN: &str = "deadline: 60s, connectionsPerSecond: 50";

#[test]
fn every_node_is_replaced_and_each_client_moves_once() {
    let fleet = Fleet::create("rollout", &spec("podLabels: {release: first}", DRAIN)).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let before: BTreeSet<_> = before.into_iter().map(|pod| pod.uid).collect();
    let crowd = Crowd::join(&fleet, NODES).unwrap();

    fleet.apply_spec(&spec("podLabels: {release: second}", DRAIN)).unwrap();
    let mut most = 0;
    let (_, elapsed) = eventually("all nodes are replaced", || {
        let pods = fleet.node_pods()?;
        let alive = pods.iter().filter(|pod| !pod.terminating).count();
        most = most.max(alive);
        let status = status(&fleet)?;
        let shown = status["rollout"]["deployments"].as_array().map_or(0, Vec::len);
        let is_over = are_replaced(&pods, &before) && shown == 1 && status["operation"].is_null();
        anyhow::ensure!(is_over, "{pods:?}; {}, {}", status["reason"], status["rollout"]);
        Ok(Some(()))
    })
    .unwrap();
    record("rollout", "settled", elapsed.as_secs_f64()).unwrap();
    assert!(most <= NODES + SURGE, "{most} nodes at a time");

    crowd.end("rollout").unwrap().assert_moved_once();
    for reason in ["RolloutStarted", "RolloutDone"] {
        assert_eq!(events(&fleet, reason).unwrap().len(), 1, "{reason}");
    }
    for reason in ["RolloutPaused", "DrainDeadline", "DrainReplanned", "DrainedNodeGone", "DrainCancelled"] {
        assert_eq!(events(&fleet, reason).unwrap(), [""; 0], "{reason}");
    }
}
