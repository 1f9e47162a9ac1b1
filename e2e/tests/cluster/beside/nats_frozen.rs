//! NATS stands still for 15 s: the status says so, the node count stays the same, and messages that come late count
//! as no load.

use std::time::{Duration, Instant};

use e2e::{
    fleet::{Fleet, Stopped, eventually},
    report::record,
    scaling::{FOR_FOUR_NODES, Load, SMALL_STEPS, replicas, status, wait_replicas},
};

/// 2,000 writes/s: four nodes, close to needing one more or one fewer.
const NODES: usize = 4;
/// It stands still for so long at least.
const FROZEN: Duration = Duration::from_secs(15);
/// It also stands still for so long after the status says so: two looks of the operator.
const SAID: Duration = Duration::from_secs(5);
/// In this time after the thaw the backlog is delivered, and the windows of the fleet (12 s) have seen it.
const WATCHED: Duration = Duration::from_secs(25);

/// Checks that there is no operation, and as many nodes as before.
fn assert_held(fleet: &Fleet) {
    let status = status(fleet).unwrap();
    assert_eq!(replicas(fleet).unwrap(), NODES as i64, "{status}");
    assert!(status["operation"].is_null(), "{status}");
}

#[test]
fn a_silent_bus_is_said_and_decides_nothing() {
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 30s}}}}");
    let fleet = Fleet::create("nats-frozen", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    wait_replicas(&fleet, NODES as i64).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();

    let pod = fleet.nats_pod().unwrap();
    let stopped = Stopped::new(Fleet::process_of(&pod.uid, "nats-server").unwrap()).unwrap();
    let frozen = Instant::now();
    let (message, elapsed) = eventually("the status says that the bus is silent", || {
        let (ready, message) = fleet.condition("Ready")?;
        Ok((ready == "False").then_some(message))
    })
    .unwrap();
    record("nats_frozen", "frozen_to_said", elapsed.as_secs_f64()).unwrap();
    assert!(
        message.contains("NATS") || message.contains("bus") || message.contains("backplane"),
        "{message}"
    );
    // However late the status said it, the fleet is watched for a while after that.
    let thaw = (frozen + FROZEN).max(Instant::now() + SAID);
    while Instant::now() < thaw {
        assert_held(&fleet);
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(stopped);
    let (_, elapsed) = eventually("the fleet is Ready", || {
        assert_held(&fleet);
        Ok((fleet.condition("Ready")?.0 == "True").then_some(()))
    })
    .unwrap();
    record("nats_frozen", "thawed_to_ready", elapsed.as_secs_f64()).unwrap();
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        assert_held(&fleet);
        std::thread::sleep(Duration::from_millis(500));
    }
    let (after, _) = fleet.wait_ready(NODES).unwrap();
    assert_eq!(before, after, "serving went on with the very same nodes");
    load.stop().unwrap();
}
