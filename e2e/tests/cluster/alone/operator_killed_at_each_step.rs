//! (k) The leading operator is killed in each step of a rollout, and of moving clients to nodes that were added: another one
//! or its next process goes on, and each client is moved once.

use std::collections::BTreeSet;

use anyhow::Result;
use e2e::fleet::{
    Fleet,
    crowd::{Crowd, NODES, are_replaced, spec},
    eventually, signal,
    uneven::{self, Uneven},
};
use e2e::report::record;
use e2e::scaling::{events, leader, operator_process, operators, replace_operators, status};
use serde_json::Value;

/// The rest of `drain` in the spec.
const DRAIN: &str = "deadline: 120s, connectionsPerSecond: 20";

/// Replaces the operators at its end, also when the test fails: the kubelet waits longer with each start of a container that was
/// killed, and the next test begins with new ones.
struct NewOperators<'a>(&'a Fleet);

impl Drop for NewOperators<'_> {
    fn drop(&mut self) {
        if let Err(error) = replace_operators(self.0) {
            eprintln!("the operators are those that were killed: {error:#}");
        }
    }
}

/// Kills the leader whenever an operation reaches a step in which none was killed before.
#[derive(Default)]
struct Killer {
    steps: BTreeSet<String>,
}

impl Killer {
    /// Looks at the status, and kills the leader if there is a new step.
    fn look(&mut self, fleet: &Fleet, status: &Value) -> Result<()> {
        let mut new = steps(status);
        new.retain(|step| !self.steps.contains(step));
        if new.is_empty() {
            return Ok(());
        }
        let name = leader(&fleet.instance)?;
        let leading = operators(&fleet.instance)?.into_iter().find(|pod| pod.name == name);
        // Another one is about to take over from the one that was killed last.
        let Some(process) = leading.and_then(|pod| operator_process(&pod).ok()) else { return Ok(()) };
        signal(process, libc::SIGKILL)?;
        self.steps.extend(new);
        Ok(())
    }

    /// Goes on until all is over; from one change of the operation to the next the hang guard counts anew.
    fn until(&mut self, fleet: &Fleet, what: &str, is_over: impl Fn(&Value) -> Result<bool>) {
        loop {
            let mut before = None;
            let (over, _) = eventually(what, || {
                let status = status(fleet)?;
                self.look(fleet, &status)?;
                let over = is_over(&status)?;
                let now = status["operation"].clone();
                let moves = before.get_or_insert_with(|| now.clone()) != &now;
                anyhow::ensure!(over || moves, "{now}; killed in {:?}", self.steps);
                Ok(Some(over))
            })
            .unwrap();
            if over {
                return;
            }
        }
    }

    fn assert_killed_in(&self, steps: &[&str]) {
        let missing: Vec<_> = steps.iter().filter(|step| !self.steps.contains(**step)).collect();
        assert!(missing.is_empty(), "nobody was killed in {missing:?} but in {:?}", self.steps);
    }
}

/// The steps that are under way.
fn steps(status: &Value) -> BTreeSet<String> {
    let operation = &status["operation"];
    let mut steps: BTreeSet<_> = operation["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["step"].as_str().map(str::to_owned))
        .collect();
    let deployments = status["rollout"]["deployments"].as_array().map_or(0, Vec::len);
    if deployments > 1 {
        steps.insert("Surge".to_owned());
    }
    if operation["type"] == "Rebalance" {
        steps.insert("Asked".to_owned());
        let moved = |donor: &Value| donor["moved"].as_i64().is_some_and(|moved| moved > 0);
        if operation["donors"].as_array().is_some_and(|donors| donors.iter().any(moved)) {
            steps.insert("Moving".to_owned());
        }
    }
    steps
}

#[test]
fn a_rollout_goes_on_whatever_step_its_operator_is_killed_in() {
    let fleet = Fleet::create_alone("killed-rollout", &spec("podLabels: {release: first}", DRAIN)).unwrap();
    let _new = NewOperators(&fleet);
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let before: BTreeSet<_> = before.into_iter().map(|pod| pod.uid).collect();
    let crowd = Crowd::join(&fleet, NODES).unwrap();

    fleet.apply_spec(&spec("podLabels: {release: second}", DRAIN)).unwrap();
    let begun = std::time::Instant::now();
    let mut killer = Killer::default();
    killer.until(&fleet, "all nodes are replaced", |status| {
        Ok(are_replaced(&fleet.node_pods()?, &before) && status["operation"].is_null())
    });
    record("killed_in_rollout", "settled", begun.elapsed().as_secs_f64()).unwrap();
    killer.assert_killed_in(&["Surge", "Unready", "Closing", "Removing"]);

    crowd.end("killed_in_rollout").unwrap().assert_moved_once();
    for reason in ["RolloutPaused", "DrainDeadline", "DrainedNodeGone", "DrainCancelled"] {
        assert_eq!(events(&fleet, reason).unwrap(), [""; 0], "{reason}");
    }
}

/// `rebalance.connectionsPerSecond`.
const PACE: u32 = 5;

#[test]
fn clients_are_moved_once_whatever_step_the_operator_is_killed_in() {
    let fleet = Fleet::create_alone("killed-rebalance", &uneven::spec("Observe", PACE)).unwrap();
    let _new = NewOperators(&fleet);
    let clients = Uneven::fill(&fleet, env!("CARGO_BIN_EXE_loadgen"), PACE).unwrap();

    let begun = std::time::Instant::now();
    let mut killer = Killer::default();
    killer.until(&fleet, "no node is above its target", |status| Ok(uneven::is_over(status)));
    record("killed_in_rebalance", "settled", begun.elapsed().as_secs_f64()).unwrap();
    killer.assert_killed_in(&["Asked", "Moving"]);
    clients.end("killed_in_rebalance").unwrap();
}
