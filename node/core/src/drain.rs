//! How a node leaves: the stages, and the orders to its shards.
//!
//! Two parties ask: the operator through the admin port (and it may take the node back), and the kubelet with
//! SIGTERM, after which nothing takes it back. Shards know only "close at this rate" and "stop closing"; readiness is
//! decided here. A request is first planned, then carried out by the code that can reach the shards, and counts once
//! all shards have taken it.

use crate::admin::{DrainRequest, DrainStage, NodePhase};

/// The pace that closes everything in one turn, in connections per second.
pub const AT_ONCE: u32 = u32::MAX;

/// An order to a shard about ending its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOrder {
    /// Close connections of this shard with 1012 at this rate and refuse new ones with HTTP 503.
    Close {
        /// Connections per second on this shard, at least 1.
        connections_per_second: u32,
    },
    /// Accept and serve again.
    Stop,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainRefusal {
    /// SIGTERM came first.
    #[error("the process is ending and cannot be taken back; start another node instead")]
    Ending,
    /// The pace is zero.
    #[error("connectionsPerSecond: 0 never ends; use at least 1")]
    Pace,
}

/// The plan of a request: the orders, one for each shard or none at all, and the stage once all shards have taken
/// theirs.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// By the shard's position.
    pub orders: Vec<DrainOrder>,
    stage: Option<DrainStage>,
}

/// How far a node has left.
#[derive(Debug, Default)]
pub struct Leaving {
    stage: Option<DrainStage>,
    ending: bool,
}

impl Leaving {
    /// The phase of the node, given how many connections it has and whether it may have become ready at all.
    #[must_use]
    pub const fn phase(&self, connections: u64, started: bool) -> NodePhase {
        match self.stage {
            Some(DrainStage::Close) if connections == 0 => NodePhase::Closed,
            Some(DrainStage::Close) => NodePhase::Closing,
            Some(DrainStage::Unready) => NodePhase::Unready,
            None if started => NodePhase::Serving,
            None => NodePhase::Starting,
        }
    }

    /// Whether the node leaves in any way: it was told to be unready, to close, or to end.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.stage.is_some() || self.ending
    }

    /// The plan for the operator's request, given how many connections each shard has.
    ///
    /// # Errors
    /// When the process ends anyway and the request would hold it back, or when the pace is zero.
    pub fn request(
        &self,
        request: &DrainRequest,
        default_pace: u32,
        connections: &[u64],
    ) -> Result<Plan, DrainRefusal> {
        if self.ending && request.stage == DrainStage::Unready {
            return Err(DrainRefusal::Ending);
        }
        let pace = request.connections_per_second.unwrap_or(default_pace);
        if pace == 0 {
            return Err(DrainRefusal::Pace);
        }
        let orders = match request.stage {
            // From Close back to Unready the node serves again, but stays out of the endpoints.
            DrainStage::Unready if self.stage == Some(DrainStage::Close) => stop(connections),
            DrainStage::Unready => Vec::new(),
            DrainStage::Close => split(pace, connections)
                .into_iter()
                .map(|connections_per_second| DrainOrder::Close { connections_per_second })
                .collect(),
        };
        Ok(Plan { orders, stage: Some(request.stage) })
    }

    /// The plan by which the node is taken back into service.
    ///
    /// # Errors
    /// When the process is ending.
    pub fn cancel(&self, connections: &[u64]) -> Result<Plan, DrainRefusal> {
        if self.ending {
            return Err(DrainRefusal::Ending);
        }
        Ok(Plan { orders: stop(connections), stage: None })
    }

    /// Records that all shards have taken their orders.
    #[expect(clippy::needless_pass_by_value, reason = "a plan is carried out once")]
    pub fn done(&mut self, plan: Plan) {
        self.stage = plan.stage;
    }

    /// Records that the process was told to end: it is unready from now on, and nothing takes it back. A close under
    /// way goes on. Returns whether there is one, because then endpoints have long been told.
    pub fn end(&mut self) -> bool {
        self.ending = true;
        *self.stage.get_or_insert(DrainStage::Unready) == DrainStage::Close
    }
}

fn stop(connections: &[u64]) -> Vec<DrainOrder> {
    connections.iter().map(|_| DrainOrder::Stop).collect()
}

/// Splits a pace by how many connections each shard has, so that all are empty at about the same time. Each gets at
/// least 1, for connections that arrived since.
fn split(pace: u32, connections: &[u64]) -> Vec<u32> {
    let total: u64 = connections.iter().sum::<u64>().max(1);
    let share = |count: u64| u128::from(pace) * u128::from(count) / u128::from(total);
    connections.iter().map(|&count| u32::try_from(share(count)).unwrap_or(AT_ONCE).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(stage: DrainStage, pace: Option<u32>) -> DrainRequest {
        DrainRequest { version: 1, stage, connections_per_second: pace }
    }

    /// Makes a plan for a request and records that all shards took its orders.
    fn carried_out(leaving: &mut Leaving, stage: DrainStage, pace: Option<u32>) -> Vec<DrainOrder> {
        let plan = leaving.request(&request(stage, pace), 500, &[3, 1]).expect("a plan");
        let orders = plan.orders.clone();
        leaving.done(plan);
        orders
    }

    #[test]
    fn the_pace_follows_the_connections() {
        assert_eq!(split(500, &[300, 100]), [375, 125]);
        assert_eq!(split(500, &[0, 0]), [1, 1]);
        assert_eq!(split(1, &[10, 10]), [1, 1]);
        assert_eq!(split(AT_ONCE, &[u64::MAX / 4, 1]).len(), 2);
    }

    #[test]
    fn the_operator_goes_back_and_forth() {
        let mut leaving = Leaving::default();
        assert_eq!(
            (leaving.phase(1, false), leaving.phase(1, true)),
            (NodePhase::Starting, NodePhase::Serving)
        );
        assert_eq!(carried_out(&mut leaving, DrainStage::Unready, None), []);
        assert_eq!(leaving.phase(1, true), NodePhase::Unready);
        let close = |connections_per_second| DrainOrder::Close { connections_per_second };
        assert_eq!(carried_out(&mut leaving, DrainStage::Close, Some(8)), [close(6), close(2)]);
        assert_eq!((leaving.phase(1, true), leaving.phase(0, true)), (NodePhase::Closing, NodePhase::Closed));
        assert_eq!(carried_out(&mut leaving, DrainStage::Unready, None), [DrainOrder::Stop; 2]);
        assert_eq!(leaving.phase(1, true), NodePhase::Unready);
        let back = leaving.cancel(&[3, 1]).expect("a plan");
        assert_eq!((&*back.orders, leaving.phase(1, true)), (&[DrainOrder::Stop; 2][..], NodePhase::Unready));
        leaving.done(back);
        assert_eq!(leaving.phase(1, true), NodePhase::Serving);
        let zero = leaving.request(&request(DrainStage::Close, Some(0)), 500, &[1]);
        assert_eq!((zero, leaving.phase(1, true)), (Err(DrainRefusal::Pace), NodePhase::Serving));
    }

    #[test]
    fn a_plan_that_nobody_carried_out_changes_nothing() {
        let leaving = Leaving::default();
        let plan = leaving.request(&request(DrainStage::Close, None), 500, &[1]);
        assert!(plan.is_ok_and(|plan| plan.orders == [DrainOrder::Close { connections_per_second: 500 }]));
        assert_eq!(leaving.phase(1, true), NodePhase::Serving);
    }

    #[test]
    fn nothing_takes_an_ending_process_back() {
        let mut leaving = Leaving::default();
        assert!(!leaving.end());
        assert_eq!(leaving.phase(1, true), NodePhase::Unready);
        assert_eq!(leaving.cancel(&[1]), Err(DrainRefusal::Ending));
        assert_eq!(carried_out(&mut leaving, DrainStage::Close, None).len(), 2);
        assert!(leaving.end());
        assert_eq!(leaving.phase(1, true), NodePhase::Closing);
        let back = leaving.request(&request(DrainStage::Unready, None), 500, &[1]);
        assert_eq!(back, Err(DrainRefusal::Ending));
    }
}
