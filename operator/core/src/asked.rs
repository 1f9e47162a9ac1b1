//! The fields of a manifest that count at once, whether or not the rest of the manifest is valid.

use crds::{AutoscalingMode, ChannelCluster, PodOptions};

use crate::footprint;
use crate::holds::Holds;
use crate::names::{Component, Names};
use crate::refused;
use crate::wishes::Wishes;

/// The wishes that a tick reads of a manifest. A fleet whose new spec is not valid goes on by the last valid one;
/// these fields are taken from the new spec all the same, so that the user can pause the fleet and the status speaks
/// of the present manifest.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Names of the objects of the fleet.
    pub names: Names,
    /// Generation of the spec.
    pub generation: i64,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.autoscaling.mode`.
    pub mode: AutoscalingMode,
    /// `spec.autoscaling.targetUtilization`, in percent.
    pub target_utilization: u32,
    /// `spec.nodes.min`.
    pub min: i32,
    /// `spec.nodes.capacity.writesPerSecond`.
    pub writes_per_second: u64,
    /// `spec.nodes.capacity.connections`.
    pub connections: u64,
    /// `spec.tuning.nofile`.
    pub nofile: Option<u64>,
    /// The directions that annotations hold.
    pub holds: Holds,
    /// What a person asks for by other annotations.
    pub wishes: Wishes,
    /// What identifies `spec.tuning` ([`refused::key`]).
    pub tuning: String,
    /// What is asked of the node pods.
    nodes: &'a PodOptions,
    /// What is asked of the pods of the managed NATS.
    backplane: &'a PodOptions,
}

impl<'a> Asked<'a> {
    /// Reads these fields of a manifest.
    #[must_use]
    pub fn of(cluster: &'a ChannelCluster) -> Self {
        let (spec, meta) = (&cluster.spec, &cluster.metadata);
        Self {
            names: Names::new(meta.name.as_deref().unwrap_or_default()),
            generation: meta.generation.unwrap_or_default(),
            paused: spec.paused,
            mode: spec.autoscaling.mode,
            target_utilization: spec.autoscaling.target_utilization,
            min: spec.nodes.min,
            writes_per_second: spec.nodes.capacity.writes_per_second.assumed(),
            connections: footprint::assumed(spec),
            nofile: spec.tuning.nofile,
            holds: Holds::of(meta.annotations.as_ref()),
            wishes: Wishes::of(meta.annotations.as_ref()),
            tuning: refused::key(&spec.tuning),
            nodes: &spec.nodes.pod,
            backplane: &spec.backplane.pod,
        }
    }

    /// What is asked of the pods of one part of the fleet.
    #[must_use]
    pub const fn pods(&self, component: Component) -> &'a PodOptions {
        match component {
            Component::Node => self.nodes,
            Component::Nats => self.backplane,
        }
    }
}
