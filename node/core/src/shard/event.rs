//! The events that the thread tells a shard, and the effects that the shard asks the thread for.

use std::sync::Arc;

use crate::{
    broadcast::Broadcast,
    config::NodeConfig,
    route::{ShardMask, Topic},
    session::id::{ConnId, Slot},
};

/// Something that happened around a shard.
#[derive(Debug)]
pub enum Event<'a> {
    /// Input of a connection has arrived, to be read in its turn. The connection is not idle then, however long its turn
    /// takes to come.
    Input(ConnId),
    /// A socket that took less than it was offered takes data again.
    Writable(ConnId),
    /// The peer is gone: its input has ended, or its socket failed.
    Lost(Slot),
    /// A broadcast came from another shard or node. One that cannot be unpacked is dropped.
    Remote {
        /// What was said.
        broadcast: &'a Broadcast,
        /// It comes so late that it is counted apart.
        late: bool,
    },
    /// Figures of the fleet, a JSON object, for the members of the reserved topic.
    ClusterStats(&'a str),
    /// Connections are to be closed at this pace per second, or all at once with [`u32::MAX`], and new ones refused.
    Drain(u32),
    /// The drain ends: new connections are welcome again.
    DrainStopped,
    /// The node ends: all connections are closed with 1012 at the next tick, and connections whose request is
    /// not complete are dropped. Nothing takes that back.
    Shutdown,
    /// New configuration. What is open stays open; new limits hold from now on.
    Reload(Arc<NodeConfig>),
    /// So many accepts failed for lack of descriptors or memory.
    AcceptsFailed(u64),
    /// The bus had no room for so many things that were to be sent.
    BusFull(u64),
}

/// Something that the thread of a shard has to do. The order matters.
#[derive(Debug)]
pub enum Effect {
    /// A client published: other shards and nodes are told.
    Publish {
        /// The topic.
        topic: Topic,
        /// What was said.
        broadcast: Broadcast,
        /// Other shards with members.
        shards: ShardMask,
        /// Whether other nodes are told.
        nodes: bool,
    },
    /// The shard has members of this topic from now on. Only with a bus.
    Opened(Topic),
    /// The shard has no members of this topic any more. Only with a bus.
    Closed(Topic),
    /// The connection may be read again after [`super::Shard::may_read`] denied it.
    Resume(Slot),
    /// The output of the connection ends; its input is still read.
    EndOutput(Slot),
    /// The connection has ended: its transport is to be closed. Its slot is free for the next one.
    Ended(Slot),
}

/// Whether a connection's input is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input is used or kept until more arrives.
    Done,
    /// The turn's budget ended first: call [`super::Shard::on_data`] again with no new data, in a later turn.
    Paused,
}

/// How long a shard's thread has lived, waited and worked, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Since it started.
    pub wall: u64,
    /// Of these, parked.
    pub parked: u64,
    /// CPU time, when it was looked up.
    pub cpu: Option<u64>,
}
