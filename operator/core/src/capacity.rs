//! How many nodes a load needs.
//!
//! Everything follows from `writes/s = publishes/s x room size x active fraction`: the need for nodes is the largest of
//! load over (capacity x target utilization), over writes/s and connections. `targetConnections` is a floor beneath it,
//! at full capacity: the fleet can hold them, whether they are there or not.

use crds::{
    CapacityStatus, ChannelClusterSpec, Connections, DerivedCapacity, LearnedCapacity, WritesPerSecond,
};

use crate::footprint;
use crate::validate::ValidatedCluster;

pub mod derived;
mod evidence;
pub mod learned;

/// What the nodes of a cluster carry and how full they may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// Writes/s of one node at 100 %.
    pub writes_per_second: f64,
    /// Connections of one node at 100 %.
    pub connections: f64,
    /// Percent of both that the fleet is sized for.
    pub target_percent: u32,
}

impl Sizing {
    /// Reads the sizing of a checked cluster.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
    pub fn of(cluster: &ValidatedCluster) -> Self {
        Self {
            writes_per_second: cluster.capacity.writes_per_second as f64,
            connections: cluster.capacity.connections as f64,
            target_percent: cluster.scaling.target_utilization,
        }
    }

    /// The same with what was learned, where the spec asks for that.
    #[must_use]
    pub fn live(cluster: &ValidatedCluster, known: Option<&CapacityStatus>) -> Self {
        let (asked, given) = (cluster.capacity, Self::of(cluster));
        let writes = known.and_then(|known| known.writes_per_second.as_ref()).filter(|_| asked.learns_writes);
        let connections =
            known.and_then(|known| known.connections.as_ref()).filter(|_| asked.derived.is_some());
        given.with(writes, connections)
    }

    /// The sizing of a manifest, with what was learned where it asks for that.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "bounded by the schema far below 2^52")]
    pub fn of_spec(spec: &ChannelClusterSpec, known: Option<&CapacityStatus>) -> Self {
        let given = Self {
            writes_per_second: spec.nodes.capacity.writes_per_second.assumed() as f64,
            connections: footprint::assumed(spec) as f64,
            target_percent: spec.autoscaling.target_utilization,
        };
        let known = known.map(|known| asked_for(spec, known)).unwrap_or_default();
        given.with(known.writes_per_second.as_ref(), known.connections.as_ref())
    }

    /// The same with what was learned and derived.
    #[allow(clippy::cast_precision_loss, reason = "estimates have bounds far below 2^52")]
    fn with(self, writes: Option<&LearnedCapacity>, connections: Option<&DerivedCapacity>) -> Self {
        Self {
            writes_per_second: writes.map_or(self.writes_per_second, |known| known.estimate as f64).max(1.0),
            connections: connections.map_or(self.connections, |known| known.estimate as f64).max(1.0),
            ..self
        }
    }

    /// Nodes that hold `target_connections` at full capacity: the floor of the node count.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    pub fn floor(&self, target_connections: u64) -> i32 {
        let nodes = target_connections.div_ceil((self.connections as u64).max(1));
        i32::try_from(nodes).unwrap_or(i32::MAX)
    }

    /// Writes/s that one node is to carry.
    #[must_use]
    pub fn target_writes(&self) -> f64 {
        self.writes_per_second * f64::from(self.target_percent) / 100.0
    }

    /// Connections that one node is to hold.
    #[must_use]
    pub fn target_connections(&self) -> f64 {
        self.connections * f64::from(self.target_percent) / 100.0
    }

    /// Percent of the capacity of `nodes` nodes that a load of `writes` is; at most 9,999, and none without nodes.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "clamped")]
    pub fn utilization_percent(&self, writes: f64, nodes: u32) -> Option<i32> {
        let percent = writes * 100.0 / (self.writes_per_second * f64::from(nodes));
        (nodes > 0).then(|| percent.round().clamp(0.0, 9_999.0) as i32)
    }
}

/// What is known of a node as far as a manifest asks for it: a status may be that of the manifest before.
#[must_use]
pub fn asked_for(spec: &ChannelClusterSpec, known: &CapacityStatus) -> CapacityStatus {
    let (asked, known) = (&spec.nodes.capacity, known.clone());
    CapacityStatus {
        writes_per_second: known
            .writes_per_second
            .filter(|_| asked.writes_per_second == WritesPerSecond::Learned),
        connections: known.connections.filter(|_| asked.connections == Connections::Derived),
    }
}

/// A figure as the status has it.
#[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
fn rounded(figure: f64) -> i64 {
    figure.round() as i64
}

/// Whole nodes for a fractional need; at least 0.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "clamped")]
pub fn whole(need: f64) -> i32 {
    // A need of 3.0000000001 is 3: it comes from a division, not from one write more.
    (need - 1e-6).ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::{Sizing, whole};

    #[test]
    fn the_arithmetic_of_the_model() {
        let sizing = Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 100 };
        assert_eq!(whole(120_000.0 / sizing.target_writes()), 3, "2,000 publishes/s x 150 x 40 %");
        assert_eq!(sizing.utilization_percent(60_000.0, 3), Some(50));
        assert_eq!(sizing.utilization_percent(60_000.0, 0), None, "it is not idle");
        assert_eq!((sizing.floor(100_000), sizing.floor(100_001)), (10, 11));
        assert_eq!((whole(0.0), whole(2.000_000_000_1), whole(2.1)), (0, 2, 3));
    }
}
