//! Does each kind of fault to a fleet, and undoes it.

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
/// The port of NATS.
const NATS_PORT: u16 = 4222;
/// The port of a node for clients.
const CLIENT_PORT: u16 = 4000;
/// The port of a node for the operator.
const ADMIN_PORT: u16 = 9400;
/// The values of `nodes.min` among which a step chooses.
const LEAST: [usize; 3] = [2, 3, 4];

/// The target of a fault, and when it was undone.
pub(super) struct Done {
    pub(super) target: String,
    pub(super) from: Millis,
    pub(super) undone: Millis,
}

/// The spec of the soak's fleet. The capacity is a number, so that the machine's speed decides nothing.
pub(super) fn spec(least: usize) -> String {
    format!(
        "{{targetConnections: 2000, rooms: {{maxMembers: 150}}, nodes: {{min: {least}, max: 5, \
         capacity: {{connections: 2000, writesPerSecond: 2000}}}}, autoscaling: {{mode: Auto, \
         windows: {{stable: 12s, burst: 6s}}, behavior: {{scaleDown: {{stabilizationWindowSeconds: 5}}}}}}, \
         drain: {{delay: 1s, deadline: 30s, connectionsPerSecond: 50}}, auth: {{anonymous: true}}, \
         expose: {{chatPage: true}}}}"
    )
}

/// Does a step's fault, and undoes it where it lasts.
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
            // Only operators that run count: one that was killed before may still wait for the kubelet's back-off.
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

/// Name and process of the leading operator. An operator that was killed before may have the lease for a while yet,
/// and wait for the kubelet's back-off.
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
