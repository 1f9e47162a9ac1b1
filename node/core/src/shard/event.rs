//! The events that the thread tells a shard, with the mail of other threads among them, and the effects that the shard
//! asks the thread for.

use std::{net::IpAddr, sync::Arc};

use crate::{
    api::{
        news::Batch,
        order::{Ordered, Report},
    },
    backend::{Inquiry, Verdict},
    broadcast::{Broadcast, Origin},
    config::NodeConfig,
    counters::RefuseReason,
    drain::DrainOrder,
    longpoll::{Answer, Ask, Asker, Carried},
    moving::MoveOrder,
    route::{ShardMask, Topic},
    session::id::{ConnId, Slot},
};

/// Something that happened around a shard.
#[derive(Debug)]
pub enum Event {
    /// Input of a connection has arrived, to be read in its turn. The connection is not idle then, however long its turn
    /// takes to come.
    Input(ConnId),
    /// A socket that took less than it was offered takes data again.
    Writable(ConnId),
    /// The peer is gone: its input has ended, or its socket failed.
    Lost(Slot),
    /// The transport of a connection that has not said its request cannot go on, for this reason.
    Unfit(Slot, RefuseReason),
    /// The transport of a connection cannot carry much more: the client is to come again.
    Worn(Slot),
    /// The transports hold so many bytes for their connections, as at the beginning of this turn.
    Transport(usize),
    /// A connection has begun with a header of the PROXY protocol, which names the client; none when the proxy speaks for
    /// itself.
    Introduced(Slot, Option<IpAddr>),
    /// Another thread has sent this.
    Mail(Mail),
    /// So many accepts failed for lack of descriptors or memory.
    AcceptsFailed(u64),
    /// The bus had no room for so many things that were to be sent.
    BusFull(u64),
    /// The time of day, in milliseconds since 1970. It is told at each tick, so that a clock that is set is followed.
    TimeOfDay(u64),
}

/// A socket that the shard has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Names the connection.
    pub id: ConnId,
    /// A header of the PROXY protocol is to be read first, for [`Event::Introduced`].
    pub awaits_header: bool,
}

/// Something that another thread tells a shard: an item of its mailbox, in which it takes at most
/// [`crate::ledger::MAIL_ITEM_BYTES`].
#[derive(Debug)]
pub enum Mail {
    /// A broadcast for the local members of a topic. One that cannot be unpacked is dropped.
    Remote {
        /// What was said.
        broadcast: Broadcast,
        /// The part of the fleet that it comes from.
        origin: Origin,
    },
    /// Figures of the fleet, a JSON object, for the members of the reserved topic `$cluster`, as event `stats`.
    ClusterStats(Arc<str>),
    /// A long-poll request for a session of this shard.
    Ask(Box<Ask>),
    /// What a session says to a request of this shard.
    Answer(Box<Answer>),
    /// Something of this shard for another node that the bus could not take.
    NotCarried(Box<Carried>),
    /// The node to which this request of a client was carried is gone.
    NobodyThere(Asker),
    /// Something that the server API asks for, to be answered by [`Outgoing::Report`].
    Order(Box<Ordered>),
    /// The backend has answered [`Outgoing::Inquire`]. There are as many as clients wait, and what the backend has done for one
    /// must not be lost to a crowd of messages.
    Verdict(Box<Verdict>),
    /// Begin, change or end a drain: connections are closed at a pace and new ones refused.
    Drain(DrainOrder),
    /// Begin, go on with, or end moving clients to other nodes: some connections are closed at a pace, and nobody is refused.
    Move(MoveOrder),
    /// The node ends: all connections are closed with 1012 at the next tick, and connections whose request is
    /// not complete are dropped. Nothing takes that back.
    Shutdown,
    /// New configuration. What is open stays open; new limits hold from now on.
    Reload(Arc<NodeConfig>),
}

impl Mail {
    /// Bytes of a message; none for an order. The mailbox takes an order however many messages wait, and hands it out
    /// before them.
    #[must_use]
    pub fn message_bytes(&self) -> Option<usize> {
        match self {
            Self::Remote { broadcast, .. } => Some(broadcast.len()),
            Self::ClusterStats(json) => Some(json.len()),
            Self::Ask(ask) => Some(ask.bytes()),
            Self::Answer(answer) => Some(answer.bytes()),
            Self::NotCarried(carried) => Some(carried.bytes()),
            Self::NobodyThere(_) => Some(size_of::<Asker>()),
            Self::Order(ordered) => Some(ordered.bytes()),
            Self::Verdict(_) | Self::Drain(_) | Self::Move(_) | Self::Shutdown | Self::Reload(_) => None,
        }
    }
}

/// Something that the thread of a shard has to do. The order matters.
#[derive(Debug)]
pub enum Effect {
    /// Other threads are to be told.
    Tell(Outgoing),
    /// The connection may be read again after [`super::Shard::may_read`] denied it.
    Resume(Slot),
    /// Input of the connection waits here, as after [`Progress::Paused`].
    Paused(Slot),
    /// The output of the connection ends; its input is still read.
    EndOutput(Slot),
    /// The connection has ended: its transport, if it has one, is to be closed. Its slot is free for the next one.
    Ended(Slot),
}

/// Something that a shard tells other shards and the bus.
#[derive(Debug)]
pub enum Outgoing {
    /// A client published.
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
    /// A long-poll request or its answer, for another shard.
    Deliver {
        /// The shard.
        shard: u8,
        /// What it is told.
        mail: Mail,
    },
    /// A long-poll request or its answer, for another node: see [`Carried::to`]. When the bus cannot take it, the shard is
    /// told [`Mail::NotCarried`]. Only with a bus.
    Carry(Box<Carried>),
    /// The backend is asked something, to be answered by [`Mail::Verdict`].
    Inquire(Box<Inquiry>),
    /// An order of the server API was carried out.
    Report(Box<Report>),
    /// What happened to connections in a turn, for those who listen. At most twice in a turn, before clients are written and at its end.
    News(Box<Batch>),
    /// The shard has got its first member of a topic, or lost its last; the registry knows which. Only with a bus.
    Interest(Topic),
}

/// Whether a connection's input is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input is used or kept until more arrives.
    Done,
    /// The turn's budget ended first: call [`super::Shard::go_on`] in a later turn.
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
