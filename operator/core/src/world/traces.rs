//! The traces that controllers are judged by.
//!
//! Capacity is 40,000 writes/s and 10,000 connections per node, the target 60 %: 24,000 writes/s are one node's worth,
//! and a client that gets 5 messages per second is one 4,800th of it. Sessions last 30 minutes unless the name says
//! otherwise.

mod doubts;
mod loads;

use crds::ChannelCluster;

use super::chance::Chance;
use super::curve::Curve;
use super::trace::{Group, Jump, Trace};

/// Writes/s that are one node's worth.
const NODE: f64 = 24_000.0;
/// Messages per second that a client gets, where nothing else is said.
const EACH: f64 = 5.0;
/// How long clients stay, in seconds, where nothing else is said.
const SESSION: f64 = 1_800.0;
/// Seconds before something happens.
const CALM: f64 = 600.0;

/// What the fleets of these traces are asked for, apart from their bounds.
pub const MANIFEST: &str = "
apiVersion: channelcluster.io/v1alpha1
kind: ChannelCluster
metadata: {name: chat, namespace: default, generation: 1}
spec:
  targetConnections: 1000
  rooms: {maxMembers: 1000, onFull: Reject}
  nodes: {min: 2, max: 20, capacity: {connections: 10000, writesPerSecond: 40000}}
  autoscaling: {mode: Auto, targetUtilization: 60}
  drain: {connectionsPerSecond: 500}
  auth: {anonymous: true}
";

/// [`MANIFEST`], read.
///
/// # Errors
/// When it cannot be read, which a test rules out.
pub fn manifest() -> Result<ChannelCluster, String> {
    serde_saphyr::from_str(MANIFEST).map_err(|error| error.to_string())
}

/// All traces, in the order of the report.
#[must_use]
pub fn all(seed: u64) -> Vec<Trace> {
    let mut chance = Chance::new(seed);
    let mut traces = loads::all(&mut chance);
    traces.extend(doubts::all(&mut chance));
    traces
}

/// The traces that a short look takes: one of each kind, and none that takes a day.
#[must_use]
pub fn short(seed: u64) -> Vec<Trace> {
    let wanted = [
        "crowd-joins-5s",
        "crowd-talks",
        "step",
        "saw-240s",
        "spikes-30s",
        "hot-room",
        "nodes-deleted",
        "slow-third",
        "sessions-1m",
        "lost-half",
        "repeats-all",
        "wild-one",
        "mute-one",
        "crashes-one",
        "max-lowered",
        "constant-tight",
    ];
    all(seed).into_iter().filter(|trace| wanted.contains(&trace.name.as_str())).collect()
}

/// Fleets whose nodes can do other than the manifest says: all half as much, all twice as much, and a third of them half as much,
/// under a load that goes up and down between 2 and 8 nodes' worth twice in four hours.
#[must_use]
pub fn learning(seed: u64) -> Vec<Trace> {
    let mut chance = Chance::new(seed);
    let speeds: [(&str, &[f64]); 4] =
        [("true", &[1.0]), ("half", &[0.5]), ("double", &[2.0]), ("third-half", &[1.0, 1.0, 0.5])];
    speeds
        .map(|(name, speeds)| {
            let wave =
                Curve::sampled(14_400, 30, |at| 5.0 - 3.0 * (std::f64::consts::TAU * at / 7_200.0).cos());
            let group = talks(20_000.0, wave.noisy(0.03, &mut chance));
            let mut made = trace(&format!("capacity-{name}"), 14_400.0, 3, group);
            made.speeds = speeds.to_vec();
            made
        })
        .into()
}

/// Clients that get [`EACH`] messages per second, as many as these nodes' worth.
fn joins(nodes: Curve) -> Group {
    Group { clients: nodes.times(NODE / EACH), writes: Curve::flat(EACH), session_seconds: SESSION }
}

/// So many clients, who talk as much as these nodes' worth.
fn talks(clients: f64, nodes: Curve) -> Group {
    Group { clients: Curve::flat(clients), writes: nodes.times(NODE / clients), session_seconds: SESSION }
}

/// A trace of a day or a part of it, with its load in nodes' worth.
fn trace(name: &str, seconds: f64, nodes: i32, group: Group) -> Trace {
    Trace::of(name, seconds as u32, nodes, group)
}

fn jump(at: f64, whole: f64) -> Jump {
    Jump { at: at as u32, whole: whole as u32 }
}
