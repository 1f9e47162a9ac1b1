//! How this node moves clients to others: what [`node_core::moving`] plans, brought to the shards.

use node_core::{
    admin::{RebalanceRequest, RebalanceStatus},
    moving::{MoveOrder, MoveRefusal, MoveReport, Weight},
    shard::Mail,
};

use crate::{drain::Departure, mailbox::ShardHandle};

/// Why a request to move clients was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The node does not do that, or not now.
    #[error(transparent)]
    Refused(#[from] MoveRefusal),
    /// A shard's mailbox was full.
    #[error("a shard did not take the order because its mailbox is full; send it again")]
    Busy,
}

impl Departure {
    /// Carries out a request to move clients at this time in milliseconds since the process started.
    ///
    /// # Errors
    /// When a value is out of its range, the node drains or ends, or a shard is too busy.
    pub fn rebalance_by(
        &self,
        request: &RebalanceRequest,
        now_millis: u64,
        shards: &[ShardHandle],
    ) -> Result<(), MoveError> {
        let mut steps = self.steps();
        if steps.leaving.is_leaving() {
            return Err(MoveRefusal::Leaving.into());
        }
        let orders = steps.moving.request(request, now_millis, &weights(shards))?;
        for (shard, order) in shards.iter().zip(orders) {
            shard.send(Mail::Move(order)).map_err(|_| MoveError::Busy)?;
        }
        Ok(())
    }

    /// Ends the operation that moves clients, if there is one.
    ///
    /// # Errors
    /// When a shard is too busy.
    pub fn end_rebalance(&self, now_millis: u64, shards: &[ShardHandle]) -> Result<(), MoveError> {
        let mut steps = self.steps();
        if steps.moving.is_under_way(now_millis) {
            for shard in shards {
                shard.send(Mail::Move(MoveOrder::Stop)).map_err(|_| MoveError::Busy)?;
            }
            steps.moving.end(now_millis);
        }
        Ok(())
    }

    /// Whether clients are moved now, so that the node is not ready.
    pub fn is_moving(&self, now_millis: u64) -> bool {
        self.steps().moving.is_under_way(now_millis)
    }

    /// The operation that moves clients now.
    pub fn rebalance(&self, now_millis: u64, shards: &[ShardHandle]) -> Option<RebalanceStatus> {
        self.steps().moving.status(now_millis, &reports(shards))
    }

    /// The last operation that moved clients, also when it has ended.
    pub fn last_rebalance(&self, shards: &[ShardHandle]) -> RebalanceStatus {
        self.steps().moving.last_status(&reports(shards))
    }
}

fn reports(shards: &[ShardHandle]) -> Vec<MoveReport> {
    shards.iter().map(|shard| shard.stats().moves()).collect()
}

fn weights(shards: &[ShardHandle]) -> Vec<Weight> {
    let weight = |shard: &ShardHandle| Weight {
        connections: shard.stats().load().connections,
        writes_per_second: shard.stats().writes_per_second(),
    };
    shards.iter().map(weight).collect()
}
