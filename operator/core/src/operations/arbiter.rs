//! Which operation runs. [`plan`] looks at the operation recorded in the status and at what is there now, and answers
//! with the operation to record and the actions to take *after* it was recorded. It never counts on an earlier action
//! having worked: it looks, and repeats what is not done yet. An operator may die at any point.
//!
//! One operation runs at a time, and goes on until it ends by itself. Where none runs, a fleet that is too small
//! grows, and only then the types of operations are asked, one after the other, whether one of them begins. The
//! arbiter makes the fleet's [`Budget`] for closing connections anew in each look, and an operation takes from it the
//! pace that it tells a node. A node that is drained without an operation that holds it is taken back.

use crds::Operation;
use node_core::admin::NodePhase;

use super::budget::Budget;
use super::plan::{Action, FleetView, Plan, Running};
use super::scale_in::{self, LOWEST_COST};
use crate::pod::PodView;

/// The operation as a [`Running`], which every type is.
#[must_use]
pub fn running(operation: &Operation) -> &dyn Running {
    match operation {
        Operation::ScaleIn(scale_in) => scale_in,
    }
}

/// The same for changes.
pub fn running_mut(operation: &mut Operation) -> &mut dyn Running {
    match operation {
        Operation::ScaleIn(scale_in) => scale_in,
    }
}

/// Nodes that are there to stay: the Deployment's replicas without a node that is being drained and still counted.
#[must_use]
pub fn staying(operation: Option<&Operation>, pods: &[PodView], replicas: i32) -> i32 {
    match operation {
        Some(Operation::ScaleIn(scale_in)) => scale_in::staying(scale_in, pods, replicas),
        None => replicas,
    }
}

/// One look at a fleet: what to record and what to do. See the module.
#[must_use]
pub fn plan(operation: Option<&Operation>, fleet: &FleetView<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut budget = Budget::new(fleet.connections_per_second);
    match operation {
        Some(Operation::ScaleIn(scale_in)) => scale_in::go_on(scale_in, fleet, &mut budget, &mut plan),
        None if fleet.desired > fleet.replicas => {
            plan.actions.push(Action::Replicas { from: fleet.replicas, to: fleet.desired });
        }
        None => scale_in::begin(fleet, &mut plan),
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
    use crds::{Operation, ScaleIn, ScaleInStep};
    use node_core::admin::NodePhase;

    use super::{plan, running};
    use crate::operations::plan::{Action, FleetView};
    use crate::operations::scale_in::LOWEST_COST;
    use crate::pod::{NodeView, PodView};
    use crate::timestamp::time;

    const NOW: u64 = 1_800_000_000_000;

    fn drained(name: &str) -> PodView {
        let node =
            NodeView { phase: NodePhase::Closing, connections: 9, writes_per_second: None, answers: true };
        PodView {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            deletion_cost: Some(LOWEST_COST),
            node: Some(node),
            ..PodView::default()
        }
    }

    fn fleet(pods: &[PodView], replicas: i32, desired: i32) -> FleetView<'_> {
        FleetView {
            now: NOW,
            pods,
            replicas,
            existing: replicas,
            settled: true,
            desired,
            quorum: true,
            heard: true,
            connections_per_second: 500,
            told: false,
            deadline: 600_000,
        }
    }

    fn scale_in(pod: &str) -> Operation {
        Operation::ScaleIn(ScaleIn {
            pod: pod.to_owned(),
            pod_uid: format!("uid-{pod}"),
            step: ScaleInStep::Closing,
            started_at: time(NOW),
            step_at: time(NOW),
            connections: None,
            connections_per_second: None,
        })
    }

    #[test]
    fn what_no_operation_holds_is_taken_back_and_the_budget_goes_to_the_one_that_runs() {
        let pods = [drained("a"), drained("b")];
        let back = |pod: &str| Action::TakeBack { pod: pod.to_owned() };
        let cheap = |pod: &str| Action::DeletionCost { pod: pod.to_owned(), cost: None };
        let operation = scale_in("a");
        assert!(running(&operation).holds("uid-a") && !running(&operation).holds("uid-b"));
        let going = plan(Some(&operation), &fleet(&pods, 2, 1));
        let close = Action::Close { pod: "a".to_owned(), rate: 500 };
        assert_eq!(going.actions, [close, back("b"), cheap("b")]);
        let none = plan(None, &fleet(&pods, 2, 2));
        assert_eq!(none.actions, [back("a"), cheap("a"), back("b"), cheap("b")]);
    }

    #[test]
    fn a_fleet_that_is_too_small_grows_before_anything_begins() {
        let pods = [drained("a"), drained("b")];
        let grown = plan(None, &fleet(&pods, 2, 4));
        assert_eq!(grown.actions[0], Action::Replicas { from: 2, to: 4 });
        assert_eq!((grown.operation, grown.waiting), (None, None));
    }
}
