//! The rules that can win a decision.

use std::fmt;

/// The reason for the node count. It is also the `rule` label of the decision metric, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Writes/s over the stable window.
    WritesPerSecond,
    /// Writes/s over the burst window.
    WritesPerSecondBurst,
    /// Connections held.
    Connections,
    /// `targetConnections` over the capacity of a node.
    TargetConnectionsFloor,
    /// `nodes.min`.
    MinNodes,
    /// `nodes.max`.
    MaxNodes,
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
    /// The CamelCase word that status, events and metrics show.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WritesPerSecond => "WritesPerSecond",
            Self::WritesPerSecondBurst => "WritesPerSecondBurst",
            Self::Connections => "Connections",
            Self::TargetConnectionsFloor => "TargetConnectionsFloor",
            Self::MinNodes => "MinNodes",
            Self::MaxNodes => "MaxNodes",
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
