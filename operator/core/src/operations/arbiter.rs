//! Which operation runs. [`plan`] looks at the operation recorded in the status and at what is there now, and answers
//! with the operation to record and the actions to take *after* it was recorded. It never counts on an earlier action
//! having worked: it looks, and repeats what is not done yet. An operator may die at any point.
//!
//! One operation runs at a time, and goes on until it ends by itself. Where none runs, a fleet that is too small
//! grows, and only then the types of operations are asked, one after the other, whether one of them begins. The
//! arbiter makes the fleet's [`Budget`] for closing connections anew in each look, and an operation takes from it the
//! pace that it tells a node. A node that is drained without an operation that holds it is taken back.

use crds::{LeaveCause, Operation};
use node_core::admin::NodePhase;

use super::budget::Budget;
use super::drain;
use super::going::LOWEST_COST;
use super::leave;
use super::plan::{Action, FleetView, Plan, Running};
use super::rebalance;
use crate::observation::DeploymentView;
use crate::pod::PodView;

/// The operation as a [`Running`], which every type is.
#[must_use]
pub fn running(operation: &Operation) -> &dyn Running {
    match operation {
        Operation::Drain(drain) => drain,
        Operation::Rebalance(rebalance) => rebalance,
    }
}

/// The same for changes.
pub fn running_mut(operation: &mut Operation) -> &mut dyn Running {
    match operation {
        Operation::Drain(drain) => drain,
        Operation::Rebalance(rebalance) => rebalance,
    }
}

/// Nodes that are there to stay: the Deployments' replicas without the nodes that are to go and still counted.
#[must_use]
pub fn staying(operation: Option<&Operation>, pods: &[PodView], deployments: &[DeploymentView]) -> i32 {
    let going = match operation {
        Some(Operation::Drain(drain)) => &drain.nodes[..],
        Some(Operation::Rebalance(_)) | None => &[],
    };
    leave::staying(going, pods, deployments)
}

/// Whether nodes are there in the stead of others whose machines are about to go.
#[must_use]
pub fn replaces(operation: Option<&Operation>) -> bool {
    let Some(Operation::Drain(drain)) = operation else { return false };
    drain.nodes.iter().any(|node| node.cause == LeaveCause::Machine)
}

/// One look at a fleet: what to record and what to do. See the module.
#[must_use]
pub fn plan(operation: Option<&Operation>, fleet: &FleetView<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut budget = Budget::new(fleet.connections_per_second);
    match operation {
        Some(Operation::Drain(drain)) => drain::look(Some(drain), fleet, &mut budget, &mut plan),
        Some(Operation::Rebalance(rebalance)) => {
            plan.actions.extend(fleet.grow(fleet.desired));
            rebalance::go_on(rebalance, fleet, &mut budget, &mut plan);
        }
        None => {
            drain::look(None, fleet, &mut budget, &mut plan);
            if plan.operation.is_none() {
                rebalance::begin(fleet, &mut budget, &mut plan);
            }
        }
    }
    take_back(fleet, &mut plan);
    plan
}

/// Takes back the nodes that are drained without an operation: a node must never stay out of service because an
/// operator died between two steps.
fn take_back(fleet: &FleetView<'_>, plan: &mut Plan) {
    for pod in fleet.pods.iter().filter(|pod| !pod.terminating) {
        if plan.operation.as_ref().is_some_and(|operation| running(operation).holds(&pod.uid)) {
            continue;
        }
        let drains = |phase| matches!(phase, NodePhase::Unready | NodePhase::Closing | NodePhase::Closed);
        if pod.answers() && pod.node.is_some_and(|node| drains(node.phase)) {
            plan.actions.push(Action::TakeBack { pod: pod.name.clone() });
        }
        if pod.deletion_cost == Some(LOWEST_COST) {
            plan.actions.push(Action::DeletionCost { pod: pod.name.clone(), cost: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::{DrainOperation, DrainStep, LeaveCause, LeavingNode, Operation};
    use node_core::admin::NodePhase;

    use super::{plan, running};
    use crate::operations::going::LOWEST_COST;
    use crate::operations::paces::Paces;
    use crate::operations::plan::{Action, FleetView};
    use crate::operations::{one, whole};
    use crate::pod::{NodeView, PodView};
    use crate::timestamp::time;

    const NOW: u64 = 1_800_000_000_000;

    fn pod(name: &str, phase: NodePhase) -> PodView {
        let node = NodeView { phase, connections: 2_000, writes_per_second: None, answers: true };
        PodView {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            deployment: "d".to_owned(),
            ready: phase == NodePhase::Serving,
            node: Some(node),
            ..PodView::default()
        }
    }

    fn drained(name: &str) -> PodView {
        PodView { deletion_cost: Some(LOWEST_COST), ..pod(name, NodePhase::Closing) }
    }

    fn fleet<'a>(pods: &'a [PodView], paces: &'a Paces, desired: i32) -> FleetView<'a> {
        let replicas = i32::try_from(pods.len()).unwrap();
        FleetView { desired, ..whole(NOW, pods, one(replicas), paces) }
    }

    fn drain(pod: &str) -> Operation {
        let node = LeavingNode {
            pod: pod.to_owned(),
            pod_uid: format!("uid-{pod}"),
            cause: LeaveCause::ScaleIn,
            why: None,
            step: DrainStep::Closing,
            step_at: time(NOW),
            connections: None,
            connections_per_second: None,
        };
        Operation::Drain(DrainOperation { started_at: time(NOW), nodes: vec![node] })
    }

    #[test]
    fn what_no_operation_holds_is_taken_back_and_the_budget_goes_to_those_that_go() {
        let pods = [drained("a"), drained("b"), pod("c", NodePhase::Serving)];
        let back = |pod: &str| Action::TakeBack { pod: pod.to_owned() };
        let cheap = |pod: &str| Action::DeletionCost { pod: pod.to_owned(), cost: None };
        let close = |pod: &str, rate| Action::Close { pod: pod.to_owned(), rate, slower: false };
        let operation = drain("a");
        assert!(running(&operation).holds("uid-a") && !running(&operation).holds("uid-b"));
        let mut paces = Paces::default();
        let going = plan(Some(&operation), &fleet(&pods, &paces, 2));
        assert_eq!(going.actions, [close("a", 500), back("b"), cheap("b")]);
        // The one that is taken back closes until it hears of it.
        paces.note(&close("b", 300), true);
        let going = plan(Some(&operation), &fleet(&pods, &paces, 2));
        assert_eq!(going.actions, [close("a", 200), back("b"), cheap("b")]);
        let none = plan(None, &fleet(&pods, &paces, 3));
        assert_eq!(none.actions, [back("a"), cheap("a"), back("b"), cheap("b")]);
    }

    #[test]
    fn a_fleet_that_is_too_small_grows_before_anything_begins() {
        let pods = [drained("a"), drained("b")];
        let grown = plan(None, &fleet(&pods, &Paces::default(), 4));
        assert_eq!(grown.actions[0], Action::Replicas { deployment: "d".to_owned(), from: 2, to: 4 });
        assert_eq!((grown.operation, grown.waiting), (None, None));
    }
}
