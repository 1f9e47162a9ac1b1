//! How a node moves clients to other nodes while it serves.
//!
//! The operator asks through the admin port for an operation ([`crate::admin::RebalanceRequest`]): so many connections, or so many
//! writes/s, at a pace. [`Moving`] splits it over the shards and remembers what each was allowed; each shard chooses its
//! connections by a [`course`] and reports ([`MoveReport`]). What a shard may close is counted from the begin of the operation
//! and never given back, so that neither a request that comes twice nor a report that comes late makes it more than was asked.
//! A moved client is closed as a drain would close it, and comes back through the load balancer, to which the node is not
//! ready meanwhile.

pub(crate) mod course;
mod plan;
pub(crate) mod scale;

pub use plan::{Moving, Weight};

use crate::{
    admin::HotRoom,
    limits::{MAX_AGE_MILLIS, MAX_LEASE_MILLIS, MAX_OPERATION_BYTES, MIN_LEASE_MILLIS},
};

/// Operations that a node remembers beside the one under way, so that one of them can go on.
pub const REMEMBERED: usize = 8;

/// What a shard has closed in an operation, or may close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Connections.
    pub connections: u64,
    /// Thousandths of the writes/s that they had. In what may be closed, [`Share::NO_BOUND`] leaves the connections alone to
    /// count.
    pub milliwrites: u64,
}

impl Share {
    /// Writes/s are no bound.
    pub const NO_BOUND: u64 = u64::MAX;
}

/// An order to a shard about moving its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveOrder {
    /// Begin or go on with an operation.
    Close(MoveTask),
    /// End it.
    Stop,
}

/// What a shard is to do in an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveTask {
    /// The number of the operation on this node: no other one has it.
    pub operation: u64,
    /// What the shard may close in all of the operation.
    pub share: Share,
    /// Pace in thousandths of connections per second.
    pub milliconnections_per_second: u64,
    /// Only connections that are at least so old are closed, in milliseconds.
    pub min_age_millis: u32,
    /// The shard ends the operation after so many milliseconds without another order.
    pub lease_millis: u32,
}

/// What a shard has done in an operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MoveReport {
    /// [`MoveTask::operation`].
    pub operation: u64,
    /// What was closed until now.
    pub moved: Share,
    /// Whether nothing is left to be done, or can be.
    pub done: bool,
    /// A room that is larger than what moving can help with.
    pub hot_room: Option<HotRoom>,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// The node drains, or ends.
    #[error(
        "the node drains or ends, which goes before moving clients; take it back by DELETE /v1/drain first"
    )]
    Leaving,
    /// The operation has no name, or a long one.
    #[error("operation: use 1 to {MAX_OPERATION_BYTES} bytes")]
    Operation,
    /// The pace is zero.
    #[error("connectionsPerSecond: 0 never ends; use at least 1")]
    Pace,
    /// The lease is too short or too long.
    #[error("leaseMillis: use {MIN_LEASE_MILLIS} to {MAX_LEASE_MILLIS}")]
    Lease,
    /// The node cannot tell connections of this age from older ones.
    #[error("minAgeMillis: use at most {MAX_AGE_MILLIS}")]
    Age,
}
