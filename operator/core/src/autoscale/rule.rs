//! The rules that can win a decision.

use std::fmt;

use crate::holds::{Holds, PAUSE_SCALE_IN_ANNOTATION, PAUSE_SCALE_OUT_ANNOTATION};

/// The reason for the node count. It is also the `rule` label of the decision metric, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Writes/s over the stable window.
    WritesPerSecond,
    /// Writes/s over the burst window.
    WritesPerSecondBurst,
    /// Connections held.
    Connections,
    /// Nodes are hot: saturated ones are taken to carry more than they deliver, or a node that stays would be hot.
    HotNodes,
    /// `targetConnections` over the capacity of a node.
    TargetConnectionsFloor,
    /// `nodes.min`.
    MinNodes,
    /// `nodes.max`.
    MaxNodes,
    /// `autoscaling.schedule`.
    Schedule,
    /// The annotation that holds scale-in.
    PausedScaleIn,
    /// The annotation that holds scale-out.
    PausedScaleOut,
    /// The load is near what the fleet is sized for.
    WithinTolerance,
    /// A more cautious recommendation inside the stabilization window.
    StabilizationWindow,
    /// A policy of `behavior.scaleUp`.
    ScaleUpPolicy,
    /// A policy of `behavior.scaleDown`.
    ScaleDownPolicy,
    /// Too few nodes have fresh figures.
    MetricsMissing,
    /// The bus is silent, or a node that serves does not hear it or hears it late.
    BackplaneSilent,
    /// A burst was seen within the last stable window.
    BurstCooldown,
    /// The operator has not watched for a stable window yet.
    Warmup,
    /// `autoscaling.mode: Observe`.
    Observe,
    /// `autoscaling.mode: Manual`.
    Manual,
}

impl Rule {
    /// The rule by which a change from `current` to `desired` nodes is held, and the annotation that says so.
    pub(super) const fn of_hold(holds: Holds, current: i32, desired: i32) -> Option<(Self, &'static str)> {
        if desired < current && holds.scale_in {
            return Some((Self::PausedScaleIn, PAUSE_SCALE_IN_ANNOTATION));
        }
        if desired > current && holds.scale_out {
            return Some((Self::PausedScaleOut, PAUSE_SCALE_OUT_ANNOTATION));
        }
        None
    }

    /// The CamelCase word that status, events and metrics show.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WritesPerSecond => "WritesPerSecond",
            Self::WritesPerSecondBurst => "WritesPerSecondBurst",
            Self::Connections => "Connections",
            Self::HotNodes => "HotNodes",
            Self::TargetConnectionsFloor => "TargetConnectionsFloor",
            Self::MinNodes => "MinNodes",
            Self::MaxNodes => "MaxNodes",
            Self::Schedule => "Schedule",
            Self::PausedScaleIn => "PausedScaleIn",
            Self::PausedScaleOut => "PausedScaleOut",
            Self::WithinTolerance => "WithinTolerance",
            Self::StabilizationWindow => "StabilizationWindow",
            Self::ScaleUpPolicy => "ScaleUpPolicy",
            Self::ScaleDownPolicy => "ScaleDownPolicy",
            Self::MetricsMissing => "MetricsMissing",
            Self::BackplaneSilent => "BackplaneSilent",
            Self::BurstCooldown => "BurstCooldown",
            Self::Warmup => "Warmup",
            Self::Observe => "Observe",
            Self::Manual => "Manual",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
