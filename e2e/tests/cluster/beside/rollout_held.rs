//! (i) Pods are asked for that cannot serve: the rollout stops and says why, and nobody on the nodes of before notices,
//! neither then nor when the spec goes back.

use std::time::Instant;

use cluster::Instance;
use e2e::fleet::{
    Fleet,
    crowd::{Crowd, NODES, spec},
    eventually,
};
use e2e::report::record;
use e2e::scaling::{events, node_deployments, node_image, operator_image, status};

/// Rolls out an image that cannot serve, and goes back.
fn holds(test: &str, bad: &str) {
    let instance = Instance::attach("test").unwrap();
    let of = |image: &str| spec(&format!("image: '{image}'"), "deadline: 60s, connectionsPerSecond: 50");
    let good = of(&node_image(&instance).unwrap());
    let fleet = Fleet::create(test, &good).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let mut crowd = Crowd::join(&fleet, NODES).unwrap();

    fleet.apply_spec(&of(bad)).unwrap();
    let begun = Instant::now();
    let paused = || {
        let (paused, message) = fleet.condition("RolloutPaused")?;
        anyhow::ensure!(paused == "True", "RolloutPaused is {paused}: {message}");
        Ok(Some(status(&fleet)?["rollout"]["paused"].clone()))
    };
    // A node may take 120 s until it is ready, which is as long as the hang guard.
    let (paused, _) =
        eventually("the rollout stops", paused).or_else(|_| eventually("the rollout stops", paused)).unwrap();
    record(test, "stopped", begun.elapsed().as_secs_f64()).unwrap();
    assert_eq!(paused["reason"], "NodesNotReady", "{paused}");
    eventually("an Event says so", || Ok(events(&fleet, "RolloutPaused")?.first().map(|_| ()))).unwrap();
    let mut serving = fleet.node_pods().unwrap();
    serving.retain(|pod| pod.ready);
    assert_eq!(serving, before, "the nodes of before serve");
    let held = crowd.summary().unwrap();
    assert!(held.all_back() && held.reconnects == 0, "{held:?}");

    fleet.apply_spec(&good).unwrap();
    let (_, elapsed) = eventually("only the nodes of before are there", || {
        let (pods, status) = (fleet.node_pods()?, status(&fleet)?);
        let current = node_deployments(&fleet)?.first().map(|one| one["spec"]["replicas"].clone());
        let is_back =
            pods == before && status["operation"].is_null() && status["rollout"]["paused"].is_null();
        anyhow::ensure!(is_back && current == Some(NODES.into()), "{pods:?}; {status}");
        Ok(Some(()))
    })
    .unwrap();
    record(test, "back", elapsed.as_secs_f64()).unwrap();
    crowd.end(test).unwrap().assert_undisturbed();
}

#[test]
fn an_image_that_does_not_exist_stops_the_rollout_and_moves_nobody() {
    holds("rollout-no-image", "nobody.invalid/nobody:1");
}

#[test]
fn a_process_that_ends_stops_the_rollout_and_moves_nobody() {
    holds("rollout-crash", &operator_image(&Instance::attach("test").unwrap()).unwrap());
}
