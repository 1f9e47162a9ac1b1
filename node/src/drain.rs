//! How this node leaves: what [`node_core::drain`] plans, brought to the shards. Moving clients to other nodes is kept under
//! the same lock ([`crate::moving`]), because a drain and the end of the process go before it.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use node_core::drain::AT_ONCE;
use node_core::{
    admin::{DrainRequest, NodePhase},
    drain::{DrainRefusal, Leaving, Plan},
    moving::{MoveOrder, Moving},
    shard::Mail,
};

use crate::mailbox::ShardHandle;

/// Why a drain order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// The node does not do that now.
    #[error(transparent)]
    Refused(#[from] DrainRefusal),
    /// A shard's mailbox was full.
    #[error("a shard did not take the order because its mailbox is full; send it again")]
    Busy,
}

/// The departure of this node, and the moving of clients while it stays.
#[derive(Debug, Default)]
pub struct Departure(Mutex<Steps>);

/// What the lock protects.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) leaving: Leaving,
    pub(crate) moving: Moving,
}

impl Departure {
    /// See [`Leaving::phase`].
    pub fn phase(&self, connections: u64, started: bool) -> NodePhase {
        self.steps().leaving.phase(connections, started)
    }

    /// Carries out the operator's request at this time in milliseconds since the process started. Clients are no longer
    /// moved then.
    ///
    /// # Errors
    /// When the process ends anyway and the request would hold it back, when the pace is zero, or a shard is too busy.
    pub fn request(
        &self,
        request: &DrainRequest,
        default_pace: u32,
        now_millis: u64,
        shards: &[ShardHandle],
    ) -> Result<(), DrainError> {
        let mut steps = self.steps();
        let plan = steps.leaving.request(request, default_pace, &connections(shards))?;
        steps.carry_out(plan, shards)?;
        steps.end_moves(now_millis, shards);
        Ok(())
    }

    /// Takes the node back into service.
    ///
    /// # Errors
    /// When the process is ending, or a shard is too busy.
    pub fn cancel(&self, shards: &[ShardHandle]) -> Result<(), DrainError> {
        let mut steps = self.steps();
        let plan = steps.leaving.cancel(&connections(shards))?;
        steps.carry_out(plan, shards)
    }

    /// See [`Leaving::end`]. Clients are no longer moved then.
    pub fn end(&self, now_millis: u64, shards: &[ShardHandle]) -> bool {
        let mut steps = self.steps();
        steps.end_moves(now_millis, shards);
        steps.leaving.end()
    }

    pub(crate) fn steps(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn connections(shards: &[ShardHandle]) -> Vec<u64> {
    shards.iter().map(|shard| shard.stats().load().connections).collect()
}

impl Steps {
    fn carry_out(&mut self, plan: Plan, shards: &[ShardHandle]) -> Result<(), DrainError> {
        for (shard, order) in shards.iter().zip(&plan.orders) {
            shard.send(Mail::Drain(*order)).map_err(|_| DrainError::Busy)?;
        }
        self.leaving.done(plan);
        Ok(())
    }

    /// Moves no more clients. A shard whose mailbox is full moves on until it drains, or until its lease ends.
    fn end_moves(&mut self, now_millis: u64, shards: &[ShardHandle]) {
        if self.moving.end(now_millis) {
            for shard in shards {
                shard.send(Mail::Move(MoveOrder::Stop)).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::{admin::DrainStage, drain::DrainOrder};

    use super::*;
    use crate::mailbox::mailbox;

    const CLOSE: DrainRequest =
        DrainRequest { version: 1, stage: DrainStage::Close, connections_per_second: None };

    #[test]
    fn the_orders_reach_the_shards() {
        let (shard, inbox) = mailbox(0).unwrap();
        let drain = Departure::default();
        drain.request(&CLOSE, 500, 0, std::slice::from_ref(&shard)).unwrap();
        drain.cancel(&[shard]).unwrap();
        let orders: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert!(
            matches!(orders[..], [Mail::Drain(DrainOrder::Close { .. }), Mail::Drain(DrainOrder::Stop)]),
            "{orders:?}"
        );
    }

    #[test]
    fn a_full_mailbox_is_told_and_changes_nothing() {
        let (shard, _inbox) = mailbox(0).unwrap();
        while shard.push(Mail::Shutdown).is_ok() {}
        let drain = Departure::default();
        let result = drain.request(&CLOSE, 500, 0, &[shard]);
        assert_eq!((result, drain.phase(1, true)), (Err(DrainError::Busy), NodePhase::Serving));
    }
}
