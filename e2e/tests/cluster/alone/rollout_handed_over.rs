//! (j) All operators are replaced, as by an upgrade of the chart: a fleet at rest does not notice, and a rollout goes on.

use std::collections::BTreeSet;

use e2e::fleet::{
    Fleet,
    crowd::{Crowd, NODES, are_replaced, spec},
    eventually,
};
use e2e::report::record;
use e2e::scaling::{replace_operators, status};

/// The rest of `drain` in the spec.
const DRAIN: &str = "deadline: 60s, connectionsPerSecond: 10";

#[test]
fn a_rollout_goes_on_and_each_client_moves_once_though_the_operators_are_replaced() {
    let fleet =
        Fleet::create_alone("rollout-handed-over", &spec("podLabels: {release: first}", DRAIN)).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let mut crowd = Crowd::join(&fleet, NODES).unwrap();
    replace_operators(&fleet).unwrap();
    assert_eq!(fleet.wait_ready(NODES).unwrap().0, before, "no pod is replaced");
    let rest = crowd.summary().unwrap();
    assert!(rest.all_back() && rest.reconnects == 0, "a fleet at rest: {rest:?}");

    fleet.apply_spec(&spec("podLabels: {release: second}", DRAIN)).unwrap();
    eventually("a node closes its connections", || {
        let nodes = status(&fleet)?["operation"]["nodes"].clone();
        let mut nodes = nodes.as_array().into_iter().flatten();
        Ok(nodes.any(|node| node["step"] == "Closing").then_some(()))
    })
    .unwrap();
    replace_operators(&fleet).unwrap();
    let before: BTreeSet<_> = before.into_iter().map(|pod| pod.uid).collect();
    let (_, elapsed) = eventually("all nodes are replaced", || {
        let (pods, status) = (fleet.node_pods()?, status(&fleet)?);
        let is_over = are_replaced(&pods, &before) && status["operation"].is_null();
        anyhow::ensure!(is_over, "{pods:?}; {}", status["reason"]);
        Ok(Some(()))
    })
    .unwrap();
    record("rollout_handed_over", "settled_after", elapsed.as_secs_f64()).unwrap();
    crowd.end("rollout_handed_over").unwrap().assert_moved_once();
}
