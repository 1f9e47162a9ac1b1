//! How each kind of fault is done to a fleet, and undone.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    Millis,
    fault::{Kind, Step},
    now,
};
use crate::{
    cut::Cut,
    fleet::{Fleet, NodePod, Stopped, eventually, signal},
    scaling::{leader, operator_process, operators},
};

/// Name of the node's process.
const NODE: &str = "channel-node";
/// Name of NATS' process.
const NATS: &str = "nats-server";
/// Where NATS listens.
const NATS_PORT: u16 = 4222;
/// Where a node listens for clients.
const CLIENT_PORT: u16 = 4000;
/// Where the operator asks a node.
const ADMIN_PORT: u16 = 9400;
/// Least numbers of nodes that the fleet is given.
const LEAST: [usize; 3] = [2, 3, 4];

/// What was done to whom, and when it was undone.
pub(super) struct Done {
    pub(super) target: String,
    pub(super) from: Millis,
    pub(super) undone: Millis,
}

/// The spec of the soak's fleet. Numeric capacity: the machine's speed decides nothing.
pub(super) fn spec(least: usize) -> String {
    format!(
        "{{targetConnections: 2000, rooms: {{maxMembers: 150}}, nodes: {{min: {least}, max: 5, \
         capacity: {{connections: 2000, writesPerSecond: 2000}}}}, autoscaling: {{mode: Auto, \
         windows: {{stable: 12s, burst: 6s}}, behavior: {{scaleDown: {{stabilizationWindowSeconds: 5}}}}}}, \
         drain: {{delay: 1s, deadline: 30s, connectionsPerSecond: 50}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true}}}}"
    )
}

/// Does what the step says, and undoes it where it lasts.
pub(super) fn break_it(fleet: &Fleet, step: &Step) -> Result<Done> {
    let from = now();
    let lasts = Duration::from_millis(step.lasts);
    let mut target = String::new();
    match step.kind {
        Kind::DeletePod => {
            target = node(fleet, step.choice)?.name;
            fleet.kubectl(&["delete", "pod", &target, "--wait=false"])?;
        }
        Kind::KillNode => {
            let pod = node(fleet, step.choice)?;
            signal(Fleet::process_of(&pod.uid, NODE)?, libc::SIGKILL)?;
            target = pod.name;
        }
        Kind::FreezeNode => {
            let pod = node(fleet, step.choice)?;
            target = pod.name;
            let stopped = Stopped::new(Fleet::process_of(&pod.uid, NODE)?)?;
            sleep(lasts);
            drop(stopped);
        }
        Kind::DeleteNats => {
            target = fleet.nats_pod()?.name;
            fleet.kubectl(&["delete", "pod", &target, "--wait=false"])?;
        }
        Kind::FreezeNats => {
            let pod = fleet.nats_pod()?;
            target = pod.name;
            let stopped = Stopped::new(Fleet::process_of(&pod.uid, NATS)?)?;
            sleep(lasts);
            drop(stopped);
        }
        Kind::KillApi => {
            fleet.instance.kill_api_server()?;
            sleep(lasts);
            fleet.instance.start_api_server()?;
        }
        Kind::KillOperator => {
            let (name, pid) = leading(fleet)?;
            signal(pid, libc::SIGKILL)?;
            target = name;
        }
        Kind::Scale => {
            let least = LEAST[step.choice % LEAST.len()];
            target = format!("min {least}");
            fleet.apply_spec(&spec(least))?;
        }
        Kind::CutBus | Kind::CutClients => {
            let pod = node(fleet, step.choice)?;
            target = pod.name;
            let pids = vec![Fleet::process_of(&pod.uid, NODE)?];
            let cut = if step.kind == Kind::CutBus {
                Cut::from_server(pids, NATS_PORT)?
            } else {
                Cut::from_clients(pids, CLIENT_PORT)?
            };
            sleep(lasts);
            drop(cut);
        }
        Kind::CutAdmin => {
            // Those that run: one that was killed before may still wait for the kubelet's back-off.
            let all = operators(&fleet.instance)?;
            let pids: Vec<_> = all.iter().filter_map(|pod| operator_process(pod).ok()).collect();
            ensure!(!pids.is_empty(), "no operator runs");
            let cut = Cut::to_port(pids, ADMIN_PORT)?;
            sleep(lasts);
            drop(cut);
        }
    }
    Ok(Done { target, from, undone: now() })
}

/// Name and process of the leading operator. One that was killed before may hold the lease for a while, and wait for the
/// kubelet's back-off.
fn leading(fleet: &Fleet) -> Result<(String, i32)> {
    let (found, _) = eventually("the leading operator runs", || {
        let name = leader(&fleet.instance)?;
        let all = operators(&fleet.instance)?;
        let pod = all.iter().find(|pod| pod.name == name);
        let pod = pod.with_context(|| format!("{name:?} leads and does not run"))?;
        Ok(Some((name, operator_process(pod)?)))
    })?;
    Ok(found)
}

/// One of the nodes that serve.
fn node(fleet: &Fleet, choice: usize) -> Result<NodePod> {
    let mut serving = fleet.node_pods()?;
    serving.retain(|pod| pod.ready && !pod.terminating);
    ensure!(!serving.is_empty(), "no node serves");
    Ok(serving.swap_remove(choice % serving.len()))
}
