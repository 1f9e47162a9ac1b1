//! What a cluster's spec says about its size, and what is observed at one tick.

use crds::{AutoscalingMode, CapacityStatus, DerivedCapacity, LearnedCapacity};

use super::behavior;
use crate::capacity::Sizing;
use crate::holds::Holds;
use crate::samples::NodeLoad;
use crate::schedule;
use crate::validate::{Pace, ValidatedCluster};

/// What a cluster's spec says about its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether the load decides, or `nodes.replicas`.
    pub mode: AutoscalingMode,
    /// Node count given by the user for the modes `Manual` and `Observe`.
    pub manual: Option<i32>,
    /// Fewest nodes.
    pub min: i32,
    /// Most nodes.
    pub max: i32,
    /// Nodes that `targetConnections` needs.
    pub floor: i32,
    /// What the schedule asks for at this time.
    pub schedule: Option<schedule::Now>,
    /// The directions that annotations hold.
    pub holds: Holds,
    /// The connections that `floor` is for.
    pub target_connections: u64,
    /// What a node carries.
    pub sizing: Sizing,
    /// Where the writes/s of it are from, when they were learned.
    pub learned: Option<LearnedCapacity>,
    /// Where the connections of it are from, when they were derived.
    pub derived: Option<DerivedCapacity>,
    /// Stable window in milliseconds.
    pub stable: u64,
    /// Burst window in milliseconds.
    pub burst: u64,
    /// Pace of growth.
    pub up: Pace,
    /// Pace of shrinking.
    pub down: Pace,
}

impl Settings {
    /// Reads the settings of a checked cluster.
    #[must_use]
    pub fn of(cluster: &ValidatedCluster) -> Self {
        let (scaling, sizing) = (&cluster.scaling, Sizing::of(cluster));
        Self {
            mode: scaling.mode,
            manual: cluster.bounds.replicas,
            min: cluster.bounds.min,
            max: cluster.bounds.max,
            floor: sizing.floor(cluster.target_connections),
            schedule: None,
            holds: Holds::default(),
            target_connections: cluster.target_connections,
            sizing,
            learned: None,
            derived: None,
            stable: behavior::millis(scaling.stable),
            burst: behavior::millis(scaling.burst),
            up: scaling.up.clone(),
            down: scaling.down.clone(),
        }
    }

    /// The settings at `now` (milliseconds since 1970), with what annotations hold.
    #[must_use]
    pub fn at(self, cluster: &ValidatedCluster, holds: Holds, now: u64) -> Self {
        Self { schedule: schedule::now(&cluster.schedule, now), holds, ..self }
    }

    /// The settings with what was learned of the nodes of this cluster.
    #[must_use]
    pub fn knowing(self, cluster: &ValidatedCluster, known: Option<&CapacityStatus>) -> Self {
        let learned = known.and_then(|known| known.writes_per_second.clone());
        let derived = known.and_then(|known| known.connections.clone());
        let sizing = Sizing::live(cluster, known);
        Self { floor: sizing.floor(cluster.target_connections), sizing, learned, derived, ..self }
    }

    /// For how long recommendations count, in milliseconds.
    pub(super) fn stabilization(&self) -> u64 {
        behavior::millis(self.up.stabilization.max(self.down.stabilization))
    }

    /// For how long changes count, in milliseconds.
    pub(super) fn longest_period(&self) -> u64 {
        let policies = self.up.policies.iter().chain(&self.down.policies);
        behavior::millis(policies.map(|policy| policy.period).max().unwrap_or_default())
    }

    /// What the schedule asks for, unless scale-out is held.
    pub(super) fn scheduled(&self) -> Option<&schedule::Now> {
        self.schedule.as_ref().filter(|_| !self.holds.scale_out)
    }

    /// Node count of a Deployment that does not exist. `last` is what was wanted last: when a user deletes the
    /// Deployment of a large fleet, all its clients come back at once.
    #[must_use]
    pub fn initial(&self, last: Option<i32>) -> i32 {
        match (self.mode, self.manual) {
            (AutoscalingMode::Manual | AutoscalingMode::Observe, Some(replicas)) => replicas,
            _ => self.floor.max(last.unwrap_or(0)).clamp(self.min, self.max),
        }
    }
}

/// What was observed at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Milliseconds.
    pub now: u64,
    /// Nodes that are there to stay: the Deployment's replicas without one that is being drained.
    pub current: i32,
    /// The Deployment's replicas.
    pub replicas: i32,
    /// The nodes that run, draining ones included.
    pub nodes: &'a [NodeLoad],
}
