//! A fleet in virtual time: traces of load, nodes that can do only so much, clients that stay where they are, and what
//! decides the node count: the operator's own core, or a controller of others with its exact algorithm.
//!
//! The world, whose figures are those of the spec where the spec has them:
//!
//! - A pod is ready [`trace::Trace::starts_in`] seconds after it was asked for, and carries as many writes/s as the spec
//!   says (times the speed of its machine).
//! - Clients are sticky. New clients, and clients whose connection was closed, go to each node in the Service alike, a
//!   second later. They are counted in cohorts, not held one by one.
//! - A node delivers at most what it can; its counter of writes ends there. It queues what it would deliver in 5 s, and
//!   what is more is overload, as are the writes to clients whom no node takes.
//! - The operator asks the nodes each 2 s, and the others as their projects do. The operator's actions, orders to nodes
//!   included, are carried out by the world; the other controllers delete pods, whose clients are bounced.
//!
//! All of it is a pure function of the trace, the spec and the controller.

pub mod chance;
mod cohort;
mod control;
pub mod curve;
mod fleet;
mod invariants;
pub mod measures;
mod moving;
mod node;
pub mod plot;
pub mod random;
pub mod report;
pub mod trace;
pub mod traces;

use std::collections::BTreeMap;

use crds::ChannelCluster;

use self::control::Control;
use self::fleet::World;
use crate::capacity::Sizing;
use crate::validate::{Fetched, OperatorEnv, Problem, ValidatedCluster, validate};

pub use control::Controller;
pub use measures::Measures;
pub use trace::Trace;

/// When a trace begins, in milliseconds since 1970.
const START_MILLIS: u64 = 1_800_000_000_000;
/// Most points of a run.
const MOST_POINTS: u32 = 720;

/// A fleet at one moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Seconds since the beginning.
    pub second: u32,
    /// Writes/s that the clients ask for, as nodes' worth at the target utilization.
    pub need: f64,
    /// Pods.
    pub nodes: i32,
    /// Overload since the point before, in percent of the writes.
    pub overload_percent: f64,
}

/// What became of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Name of the trace.
    pub trace: String,
    /// What decided.
    pub controller: Controller,
    /// The fleet over time, at even distances.
    pub points: Vec<Point>,
    /// What was measured.
    pub measures: Measures,
}

/// Runs a trace with a controller. The bounds of the trace count, and all else of the manifest; the capacity, the
/// target, the pace of scaling and of drains are the manifest's.
///
/// # Errors
/// What is wrong with the manifest.
pub fn run(trace: &Trace, manifest: &ChannelCluster, controller: Controller) -> Result<Run, Vec<Problem>> {
    let mut cluster = manifest.clone();
    let spec = &mut cluster.spec;
    (spec.nodes.min, spec.nodes.max) = (trace.bounds.min, trace.bounds.max);
    spec.target_connections = trace.bounds.target_connections;
    spec.rebalance.mode = match controller {
        Controller::OperatorMoving | Controller::OperatorLearning => crds::RebalanceMode::Auto,
        _ => crds::RebalanceMode::Observe,
    };
    if controller == Controller::OperatorLearning {
        spec.nodes.capacity.writes_per_second = crds::WritesPerSecond::Learned;
    }
    let (cluster, valid) = checked(cluster)?;
    let mut control = controller.begin(&cluster, &valid);
    let mut world = World::new(trace, Sizing::of(&valid));
    let points = watch(&mut world, control.as_mut());
    let mut measures = world.watch.measures;
    if trace.constant {
        measures.back_under_constant_load = measures.back;
    }
    Ok(Run { trace: trace.name.clone(), controller, points, measures })
}

fn watch(world: &mut World<'_>, control: &mut dyn Control) -> Vec<Point> {
    let every = world.trace.seconds.div_ceil(MOST_POINTS).max(1);
    let (mut points, mut writes, mut lost) = (Vec::new(), 0.0, 0.0);
    while world.now < world.trace.seconds {
        world.pass();
        control.look(world);
        if world.now.is_multiple_of(every) {
            let measures = &world.watch.measures;
            let overload_percent = 100.0 * (measures.overload - lost) / (measures.writes - writes).max(1.0);
            (writes, lost) = (measures.writes, measures.overload);
            let (second, need) = (world.now, world.need(world.now));
            points.push(Point { second, need, nodes: fleet::count_of(world.nodes.len()), overload_percent });
        }
    }
    points
}

/// Checks a manifest by what it says of sizes. The rest of it, which may need other objects, is left out.
fn checked(cluster: ChannelCluster) -> Result<(ChannelCluster, ValidatedCluster), Vec<Problem>> {
    let problem = |message| vec![Problem { reason: "InvalidConfiguration", message }];
    let mut sized = traces::manifest().map_err(problem)?;
    let (spec, own) = (&mut sized.spec, cluster.spec);
    spec.target_connections = own.target_connections;
    (spec.nodes.min, spec.nodes.max, spec.nodes.replicas) =
        (own.nodes.min, own.nodes.max, own.nodes.replicas);
    // The memory limit says how many connections a node holds, where that is derived.
    (spec.nodes.capacity, spec.nodes.resources) = (own.nodes.capacity, own.nodes.resources);
    (spec.autoscaling, spec.drain, spec.rebalance) = (own.autoscaling, own.drain, own.rebalance);
    // There is no Prometheus of the fleet in the world: the nodes are asked.
    spec.autoscaling.metrics = None;
    sized.metadata.generation = cluster.metadata.generation.or(sized.metadata.generation);
    let env = OperatorEnv {
        node_image: "channel-node".to_owned(),
        nats_image: "nats-server".to_owned(),
        server_minor: 34,
        namespace: "channelcluster-system".to_owned(),
        allowed_images: Vec::new(),
    };
    let valid = validate(&sized, &env, &Fetched::default())?;
    Ok((sized, valid))
}

/// Sums of measures by controller.
pub type Sums = BTreeMap<Controller, Measures>;

#[cfg(test)]
mod tests;
