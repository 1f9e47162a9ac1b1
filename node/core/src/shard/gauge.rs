//! How near a shard is to what it may hold.

use crate::ledger::{Ledger, Stage};

/// The ledger of the shard, and the stage that was found when it was looked at last.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) ledger: Ledger,
    /// How near the budget the shard was when it looked last.
    pub(super) stage: Stage,
    /// Up to so many bytes held nothing needs to be looked at. The first look finds out what there is.
    pub(super) calm_below: u64,
    /// Bytes that the thread holds for the shard: in its mailbox, and for other shards.
    pub(super) mail: u64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { ledger: Ledger::default(), stage: Stage::Free, calm_below: 0, mail: 0 }
    }
}
