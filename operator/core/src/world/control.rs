//! The controllers that are compared.

mod hpa;
mod ideal;
mod kpa;
mod ours;
mod prometheus;

use super::fleet::World;
use crate::validate::ValidatedCluster;

/// What decides the node count of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// The operator: [`crate::tick::tick`] each 2 s.
    Operator,
    /// The same with `rebalance.mode: Auto`, whatever the manifest says.
    OperatorMoving,
    /// The same with `nodes.capacity.writesPerSecond: Learned` as well.
    OperatorLearning,
    /// HorizontalPodAutoscaler v2 on CPU by the metrics server.
    HpaCpu,
    /// HorizontalPodAutoscaler v2 on writes/s per pod, from a Prometheus that scrapes each 30 s.
    HpaWrites,
    /// The autoscaler of Knative on writes/s.
    Kpa,
    /// KEDA on the sum of writes/s, from a Prometheus that scrapes each 30 s.
    Keda,
    /// One that knows the load: it asks for what the load needs 8 s later, and keeps what the next 620 s need.
    Ideal,
    /// The same, which moves clients from full nodes to others, 500 per second.
    IdealMoving,
}

impl Controller {
    /// All that are compared over all traces.
    pub const ALL: [Self; 8] = [
        Self::Operator,
        Self::OperatorMoving,
        Self::HpaCpu,
        Self::HpaWrites,
        Self::Kpa,
        Self::Keda,
        Self::Ideal,
        Self::IdealMoving,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::OperatorMoving => "operator that moves",
            Self::OperatorLearning => "operator that moves and learns",
            Self::HpaCpu => "HPA, CPU",
            Self::HpaWrites => "HPA, writes/s",
            Self::Kpa => "KPA",
            Self::Keda => "KEDA",
            Self::Ideal => "ideal",
            Self::IdealMoving => "ideal that moves",
        }
    }

    /// One that has just begun to look at a fleet.
    pub(super) fn begin(self, cluster: &crds::ChannelCluster, valid: &ValidatedCluster) -> Box<dyn Control> {
        match self {
            Self::Operator | Self::OperatorMoving | Self::OperatorLearning => {
                Box::new(ours::Operator::new(cluster.clone(), valid.clone()))
            }
            Self::HpaCpu => Box::new(hpa::Hpa::on_cpu()),
            Self::HpaWrites => Box::new(hpa::Hpa::on_pods()),
            Self::Keda => Box::new(hpa::Hpa::of_keda()),
            Self::Kpa => Box::new(kpa::Kpa::default()),
            Self::Ideal => Box::new(ideal::Ideal { moves: false }),
            Self::IdealMoving => Box::new(ideal::Ideal { moves: true }),
        }
    }
}

/// A controller at work.
pub(super) trait Control {
    /// Looks at the fleet after each second, and acts if it is time.
    fn look(&mut self, world: &mut World<'_>);
}
