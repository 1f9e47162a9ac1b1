//! How near a shard is to the memory that it may hold.

use crate::ledger::{Ledger, Stage};

/// The ledger of the shard, and the stage that the last look found.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) ledger: Ledger,
    /// How near the budget the shard was when it looked last.
    pub(super) stage: Stage,
    /// Up to so many bytes held there is no need to look at the stage. At 0 the first look finds out what is held.
    pub(super) calm_below: u64,
    /// Bytes that the thread holds for the shard: in its mailbox, and for other shards.
    pub(super) mail: u64,
    /// Bytes that the transports hold.
    pub(super) transport: u64,
    /// Bytes that neither frames of clients nor the thread change, when all were last counted: with each connection that
    /// comes, and with each tick.
    pub(super) besides_frames: u64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            stage: Stage::Free,
            calm_below: 0,
            mail: 0,
            transport: 0,
            besides_frames: 0,
        }
    }
}
