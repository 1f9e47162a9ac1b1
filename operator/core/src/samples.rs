//! What is known of the nodes' load, from the statistics they answer.
//!
//! Two series. [`NodeSeries`] holds one node's recent statistics; its rates come from the node's own clock and
//! counters, so that a slow or late scrape does not bend them, and a restart (another boot id) starts anew instead of
//! going negative. [`FleetSeries`] holds the sum over the nodes at each tick. The windows of the autoscaler are
//! averages over the *fleet's* series: when a node is drained its load reappears on the others, and an average of
//! per-node windows would miss it for a whole window.
//!
//! Missing data is unknown, never zero: each point says how many running nodes it does not know. Figures that were
//! measured while a node did not hear the bus, and for [`SETTLE_MILLIS`] after that, are unknown too: load that the
//! bus held back is not gone, and messages that then come at once are no higher load. Figures end with the process
//! that gave them.

mod asked;
mod fleet;
mod node;
#[cfg(test)]
mod tests;

pub use fleet::{FleetPoint, FleetSeries, NodeLoad};
pub use node::{Missed, NodeSeries, Rates};

/// A node's statistics older than this are no longer trusted, in milliseconds: two scrapes of the slow pace (5 s) and
/// one time-out.
pub const FRESH_MILLIS: u64 = 12_000;
/// For how long a node's rates say nothing after it hears the bus again, in milliseconds: messages that gathered
/// meanwhile arrive within about a second, and two scrapes of the slow pace later the rates no longer contain them.
pub const SETTLE_MILLIS: u64 = 10_000;
/// A point stands for so long at most, in milliseconds; what is longer is a gap.
pub(crate) const MAX_POINT_MILLIS: u64 = 15_000;
