//! (g) No node can be asked any more: the fleet is left as it is, and shrinks once the nodes answer again.

use std::time::{Duration, Instant};

use e2e::cut::Cut;
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{
    FOR_FOUR_NODES, Load, SMALL_STEPS, operator_process, operators, replicas, status, wait_replicas,
};

/// The port at which operators ask nodes.
const ADMIN_PORT: u16 = 9400;
/// This is longer than stable window, stabilization and cool-down of the burst together: without the rule the fleet
/// would have shrunk by then.
const WATCHED: Duration = Duration::from_secs(40);

#[test]
fn without_figures_nothing_shrinks() {
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 30s}}}}");
    let fleet = Fleet::create("metric-loss", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    wait_replicas(&fleet, 4).unwrap();
    let (before, _) = fleet.wait_ready(4).unwrap();

    // The packets are dropped in the operators' own network namespaces, because the kubelet's probes use the same
    // port and must go through.
    let operators = operators(&fleet.instance).unwrap();
    let pids = operators.iter().map(|pod| operator_process(pod).unwrap()).collect();
    let addresses: Vec<_> = before.iter().map(|pod| pod.address.clone()).collect();
    let cut = Cut::to_port_of(pids, ADMIN_PORT, &addresses).unwrap();
    load.stop().unwrap();
    let (_, elapsed) = eventually("the status says that figures are missing", || {
        let (fresh, _) = fleet.condition("MetricsFresh")?;
        let (active, message) = fleet.condition("ScalingActive")?;
        Ok((fresh == "False" && active == "False" && message.contains("not shrinking")).then_some(()))
    })
    .unwrap();
    record("metric_loss", "cut_to_said", elapsed.as_secs_f64()).unwrap();
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        assert_eq!(replicas(&fleet).unwrap(), 4, "{}", status(&fleet).unwrap());
        let status = status(&fleet).unwrap();
        assert!(status["operation"].is_null(), "a drain began: {status}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let (after, _) = fleet.wait_ready(4).unwrap();
    assert_eq!(before, after, "serving went on with the very same nodes");

    drop(cut);
    let elapsed = wait_replicas(&fleet, 2).unwrap();
    record("metric_loss", "back_to_two_replicas", elapsed.as_secs_f64()).unwrap();
}
