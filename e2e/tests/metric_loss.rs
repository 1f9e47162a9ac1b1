//! (g) No node can be asked any more: the fleet is left as it is, and shrinks once they answer again.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, eventually};
use e2e::report::record;
use e2e::scaling::{
    Load, OperatorPod, SMALL_STEPS, operator_process, operators, replicas, status, wait_replicas,
};

const RATE: u32 = 40;
/// Longer than stable window, stabilization and cool-down of the burst together: without the rule the fleet would have
/// shrunk by then.
const WATCHED: Duration = Duration::from_secs(40);

/// Packets from the operators to the nodes' admin port are dropped while this lives. It is done inside the operators' own
/// network namespaces: the kubelet's probes use the same port and must go through.
struct Cut {
    pods: Vec<OperatorPod>,
}

impl Cut {
    fn new(pods: Vec<OperatorPod>) -> Result<Self> {
        let cut = Self { pods };
        cut.rule("-I")?;
        Ok(cut)
    }

    fn rule(&self, how: &str) -> Result<()> {
        for pod in &self.pods {
            let net = format!("--net=/proc/{}/ns/net", operator_process(pod)?);
            let status = Command::new("nsenter")
                .args([&net, "iptables", how, "OUTPUT", "-p", "tcp", "--dport", "9400", "-j", "DROP"])
                .status()
                .context("cannot run nsenter")?;
            ensure!(status.success(), "iptables {how} in {}: {status}", pod.name);
        }
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Err(error) = self.rule("-D") {
            eprintln!("the operators stay cut off: {error:#}");
        }
    }
}

#[test]
fn without_figures_nothing_shrinks() {
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 30s}}}}");
    let fleet = Fleet::create("metric-loss", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), RATE).unwrap();
    wait_replicas(&fleet, 4).unwrap();
    let (before, _) = fleet.wait_ready(4).unwrap();

    let cut = Cut::new(operators(&fleet.instance).unwrap()).unwrap();
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
