//! (f) The leading operator is taken away in the middle of a scale-in, and the fleet goes on serving. When it is
//! killed, its container starts again, still has the lease and goes on with the operation of the status. When it is
//! stopped, it loses the lease: another operator finishes with the very node that was being drained, and the old
//! leader changes nothing when it wakes up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::fleet::{Fleet, Lasting, NodePod, eventually, signal};
use e2e::report::record;
use e2e::scaling::{
    FOR_FOUR_NODES, Load, OperatorPod, SMALL_STEPS, acts, events, leader, operator_metric, operator_process,
    operators, replicas, status, wait_replicas,
};
use e2e::stock::StockClients;
use serde_json::Value;

/// 2,000 writes/s: 3.3 nodes of 1,000 at 60 %.
/// Stock clients, 30 on each of the four nodes: 15 s of closing, in the second scale-in 20 s. Another operator takes
/// over 15 to 20 s after its leader was stopped.
const CLIENTS: usize = 120;
/// `nodes.min` of the fleet.
const MIN: usize = 2;

#[test]
fn a_scale_in_is_finished_whatever_becomes_of_its_leader() {
    // The drain is slow enough to be under way when its operator goes.
    let spec = format!("{{{SMALL_STEPS}, drain: {{delay: 1s, deadline: 90s, connectionsPerSecond: 2}}}}");
    let fleet = Fleet::create_alone("operator-killed", &spec).unwrap();
    fleet.wait_ready(2).unwrap();
    let load = Load::start(&fleet, env!("CARGO_BIN_EXE_loadgen"), FOR_FOUR_NODES).unwrap();
    wait_replicas(&fleet, 4).unwrap();
    fleet.wait_ready(4).unwrap();
    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, 40, 4).unwrap();
    load.stop().unwrap();

    let first = closing(&fleet, "");
    signal(operator_process(&leading(&fleet).unwrap()).unwrap(), libc::SIGKILL).unwrap();
    let elapsed = finished(&fleet, &first, 3);
    record("operator_killed", "killed_to_finished", elapsed.as_secs_f64()).unwrap();

    let second = closing(&fleet, &first);
    let stopped = Stopped::leader(&fleet).unwrap();
    let begun = Instant::now();
    let successor = taken_over(&fleet, &stopped.pod.name, &second);
    record("operator_killed", "stopped_to_taken_over", begun.elapsed().as_secs_f64()).unwrap();
    let before = stopped.goes_on();
    eventually("the old leader says that it does not lead", || {
        let leads = operator_metric(&fleet.instance, &before.pod, "leader")?;
        anyhow::ensure!(leads < 0.5, "it says {leads}");
        Ok(Some(()))
    })
    .unwrap();
    finished(&fleet, &second, MIN);
    record("operator_killed", "stopped_to_finished", begun.elapsed().as_secs_f64()).unwrap();
    eventually("the operation is over", || Ok(status(&fleet)?["operation"].is_null().then_some(()))).unwrap();
    assert_eq!(events(&fleet, "DrainCancelled").unwrap(), [""; 0], "begun anew instead of gone on with");

    let summary = clients.wait_back().unwrap();
    assert_eq!(summary.codes(), ["1012"], "only the drain closed connections: {summary:?}");

    assert_eq!(leader(&fleet.instance).unwrap(), successor, "the one that finished leads on");
    assert_ne!(acts(&fleet, &successor).unwrap(), [""; 0], "the successor did what was left to do");
    before.assert_unchanged(&fleet);
    assert_eq!(replicas(&fleet).unwrap(), 2);
    clients.stop().unwrap();
}

/// Waits for a node other than `before` that closes its connections.
fn closing(fleet: &Fleet, before: &str) -> String {
    let (victim, _) = eventually("a node closes its connections", || {
        let nodes = status(fleet)?["operation"]["nodes"].clone();
        let closing = |node: &&Value| node["step"] == "Closing" && node["pod"] != before;
        let node = nodes.as_array().and_then(|nodes| nodes.iter().find(closing));
        Ok(node.and_then(|node| node["pod"].as_str()).map(str::to_owned))
    })
    .unwrap();
    victim
}

/// The operator that holds the lease.
fn leading(fleet: &Fleet) -> Result<OperatorPod> {
    let name = leader(&fleet.instance)?;
    let all = operators(&fleet.instance)?;
    all.into_iter().find(|pod| pod.name == name).with_context(|| format!("{name:?} leads and does not run"))
}

/// Checks that as many nodes serve as the fleet must have, without the one that is to go.
fn assert_serving(pods: &[NodePod], victim: &str, short: &mut Lasting) {
    let serving = pods.iter().filter(|pod| pod.ready && pod.name != victim).count();
    assert!(!short.seen(serving < MIN, Instant::now()), "serving nodes went: {pods:?}");
}

/// Waits until the victim is gone and `left` nodes are there, while the others serve.
fn finished(fleet: &Fleet, victim: &str, left: usize) -> Duration {
    let mut short = Lasting::default();
    let (pods, elapsed) = eventually(&format!("the fleet has {left} nodes"), || {
        let pods = fleet.node_pods()?;
        assert_serving(&pods, victim, &mut short);
        anyhow::ensure!(pods.len() == left, "{} pods", pods.len());
        Ok(Some(pods))
    })
    .unwrap();
    assert!(pods.iter().all(|pod| pod.name != victim), "{victim} was to go: {pods:?}");
    elapsed
}

/// Waits until an operator other than `old` leads, while the fleet serves; gives its name.
fn taken_over(fleet: &Fleet, old: &str, victim: &str) -> String {
    let mut short = Lasting::default();
    let (successor, _) = eventually("another operator leads", || {
        assert_serving(&fleet.node_pods()?, victim, &mut short);
        let now = leader(&fleet.instance)?;
        Ok((!now.is_empty() && now != old).then_some(now))
    })
    .unwrap();
    successor
}

/// A leader whose process stands still, until the value is dropped.
struct Stopped {
    pod: OperatorPod,
    process: i32,
    did: Did,
}

/// The actions of an operator until it was stopped.
#[derive(Clone)]
struct Did {
    pod: String,
    status_writes: f64,
    acts: usize,
}

impl Stopped {
    /// Stops the leader between two writes of the status, so that its number of writes is known exactly: once it
    /// stands still it cannot be asked any more.
    fn leader(fleet: &Fleet) -> Result<Self> {
        let pod = leading(fleet)?;
        let process = operator_process(&pod)?;
        let version = || anyhow::Ok(fleet.object()?["metadata"]["resourceVersion"].clone());
        let (mut stopped, _) = eventually("the leader stands still between two writes", || {
            let before = version()?;
            let status_writes = operator_metric(&fleet.instance, &pod.name, "status_writes_total")?;
            signal(process, libc::SIGSTOP)?;
            let did = Did { pod: pod.name.clone(), status_writes, acts: 0 };
            let stopped = Self { pod: pod.clone(), process, did };
            Ok((version()? == before).then_some(stopped))
        })?;
        stopped.did.acts = acts(fleet, &pod.name)?.len();
        anyhow::ensure!(stopped.did.status_writes > 0.0 && stopped.did.acts > 0, "it did not lead");
        Ok(stopped)
    }

    /// Lets the leader go on.
    fn goes_on(self) -> Did {
        self.did.clone()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = signal(self.process, libc::SIGCONT) {
            eprintln!("{} stays stopped: {error:#}", self.pod.name);
        }
    }
}

impl Did {
    /// Checks that the old leader has written no status, drained nothing and changed no node count since.
    fn assert_unchanged(&self, fleet: &Fleet) {
        let writes = operator_metric(&fleet.instance, &self.pod, "status_writes_total").unwrap();
        let acts = acts(fleet, &self.pod).unwrap();
        // The numbers need not be equal: if its liveness probe ended it while it stood still, it counts from 0 again.
        assert!(writes <= self.status_writes, "{} writes of a status became {writes}", self.status_writes);
        assert!(acts.len() <= self.acts, "{} acts became {acts:?}", self.acts);
    }
}
