//! Operations, which change a fleet over several looks: one file for each type, and [`arbiter`], which decides which
//! of them runs and gives it its share of the fleet's budget for closing connections.

pub mod action;
pub mod arbiter;
pub mod budget;
pub mod drain;
pub mod evenness;
mod going;
mod leave;
mod machine;
pub mod paces;
mod pick;
pub mod plan;
pub mod rebalance;
pub mod replace;
pub mod rollout;
mod said;
#[cfg(test)]
mod simulation;

/// A fleet's only Deployment, `d`, for tests.
#[cfg(test)]
pub(crate) fn one(replicas: i32) -> &'static [crate::observation::DeploymentView] {
    let name = "d".to_owned();
    let (pods, current, observed) = (replicas, true, true);
    let only = crate::observation::DeploymentView {
        name,
        current,
        replicas,
        pods,
        observed,
        ..crate::observation::DeploymentView::default()
    };
    Vec::leak(vec![only])
}

/// A fleet whose clients are not moved, for tests.
#[cfg(test)]
pub(crate) const fn still() -> crate::validate::RebalanceLimits {
    crate::validate::RebalanceLimits {
        mode: crds::RebalanceMode::Disabled,
        tolerance_percent: 20,
        connections_per_second: 500,
        max_moves_per_hour: 100_000,
    }
}

/// What a node carries, for tests.
#[cfg(test)]
pub(crate) const fn sizing() -> crate::capacity::Sizing {
    crate::capacity::Sizing { writes_per_second: 40_000.0, connections: 10_000.0, target_percent: 60 }
}

/// A fleet of which everything is known, with as many nodes as are wanted, for tests.
#[cfg(test)]
pub(crate) fn whole<'a>(
    now: u64,
    pods: &'a [crate::pod::PodView],
    deployments: &'a [crate::observation::DeploymentView],
    paces: &'a paces::Paces,
) -> plan::FleetView<'a> {
    let replicas = deployments.iter().map(|of| of.replicas).sum();
    plan::FleetView {
        now,
        pods,
        deployments,
        replicas,
        existing: crate::pod::alive(pods),
        settled: true,
        desired: replicas,
        quorum: true,
        heard: true,
        connections_per_second: 500,
        paces,
        deadline: 600_000,
        rollout: plan::Terms::default(),
        rebalance: still(),
        rebalance_asked: None,
        sizing: sizing(),
        moves: None,
    }
}
