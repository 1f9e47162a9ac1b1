//! What a shard tells of its connections while somebody listens to the stream of events of the server API.
//!
//! Nobody listens most of the time: then a connect, a disconnect, a join and a leave cost a shard one look at [`Listening`] each,
//! and nothing else costs it anything.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::order::ConnectionRef;
use crate::{counters::CloseReason, route::Topic};

/// Most events that a shard keeps until the end of its turn; further ones are counted as lost.
pub const TURN_EVENTS: usize = 1_024;

/// The sorts of events, each with a bit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Sort {
    /// A connection was made: its upgrade, or its session of long-poll, was accepted.
    Connect = 1,
    /// A connection has ended, or is being closed.
    Disconnect = 1 << 1,
    /// A connection has joined a topic.
    Join = 1 << 2,
    /// A connection is no member of a topic any more.
    Leave = 1 << 3,
    /// A limit was hit.
    Limit = 1 << 4,
    /// The node began to leave, stays after all, or has left.
    Drain = 1 << 5,
    /// A changed file was taken or refused.
    Config = 1 << 6,
    /// The bus was lost, or is back.
    Bus = 1 << 7,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Disconnect,
        Self::Join,
        Self::Leave,
        Self::Limit,
        Self::Drain,
        Self::Config,
        Self::Bus,
    ];

    /// Its name in the stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Limit => "limit",
            Self::Drain => "drain",
            Self::Config => "config",
            Self::Bus => "bus",
        }
    }
}

/// Some sorts of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sorts(u8);

impl Sorts {
    /// All sorts.
    pub const ALL: Self = Self(u8::MAX);
    /// Those that are about members of a topic.
    pub const OF_TOPICS: Self = Self(Sort::Join as u8 | Sort::Leave as u8);
    /// Those that shards tell.
    pub const OF_SHARDS: Self = Self(Sort::Connect as u8 | Sort::Disconnect as u8 | Self::OF_TOPICS.0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, sort: Sort) -> Self {
        Self(self.0 | sort as u8)
    }

    /// All that are among these or among others.
    #[must_use]
    pub const fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are among these and among others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, sort: Sort) -> bool {
        self.0 & sort as u8 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What somebody listens for, which all shards of a node look at, and how many events did not reach those who listen.
#[derive(Debug, Default)]
pub struct Listening {
    sorts: AtomicU8,
    untold: AtomicU64,
}

impl Listening {
    /// From now on shards tell these sorts of events.
    pub fn listen(&self, sorts: Sorts) {
        self.sorts.store(sorts.and(Sorts::OF_SHARDS).0, Relaxed);
    }

    /// Whether somebody listens for a sort of events of shards.
    #[inline]
    #[must_use]
    pub fn wants(&self, sort: Sort) -> bool {
        self.sorts.load(Relaxed) & sort as u8 != 0
    }

    /// Counts events of shards that could not be handed over.
    pub fn lose(&self, events: u64) {
        self.untold.fetch_add(events, Relaxed);
    }

    /// How many events were lost so since the last call.
    pub fn take_lost(&self) -> u64 {
        self.untold.swap(0, Relaxed)
    }
}

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By a WebSocket.
    WebSocket,
    /// By a session of long-poll.
    LongPoll,
}

impl Transport {
    /// Its name in the stream.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPoll => "longpoll",
        }
    }
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was made.
    Connect {
        /// How.
        transport: Transport,
    },
    /// It has ended, or is being closed.
    Disconnect {
        /// Why.
        cause: CloseReason,
        /// The code of the close frame, of whichever side closed first; none when there was none.
        code: Option<u16>,
    },
    /// It has joined.
    Join {
        /// The topic.
        topic: Topic,
    },
    /// It is no member any more.
    Leave {
        /// The topic.
        topic: Topic,
    },
}

impl What {
    /// The sort of event that this is.
    #[must_use]
    pub const fn sort(&self) -> Sort {
        match self {
            Self::Connect { .. } => Sort::Connect,
            Self::Disconnect { .. } => Sort::Disconnect,
            Self::Join { .. } => Sort::Join,
            Self::Leave { .. } => Sort::Leave,
        }
    }
}

/// One event of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// When, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Which connection.
    pub connection: ConnectionRef,
    /// Its user, if it has a token.
    pub user: Option<Box<str>>,
    /// What happened.
    pub what: What,
}

/// The events of one turn of a shard, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The events.
    pub news: Vec<News>,
    /// How many there were beyond [`TURN_EVENTS`].
    pub lost: u64,
}

impl Batch {
    /// Adds an event if there is room.
    pub(crate) fn push(&mut self, news: News) {
        if self.news.len() < TURN_EVENTS {
            self.news.push(news);
        } else {
            self.lost += 1;
        }
    }

    /// Whether nothing happened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.news.is_empty() && self.lost == 0
    }

    /// How many events it stands for.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.news.len() as u64 + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_has_a_bit_and_a_name_of_its_own() {
        let all = Sort::ALL.iter().fold(Sorts::default(), |all, sort| {
            assert!(!all.has(*sort), "{sort:?}");
            all.with(*sort)
        });
        assert_eq!(all, Sorts::ALL);
        let names: std::collections::HashSet<_> = Sort::ALL.iter().map(|sort| sort.name()).collect();
        assert_eq!(names.len(), Sort::ALL.len());
    }

    #[test]
    fn shards_are_asked_for_what_they_can_tell_alone() {
        let listening = Listening::default();
        let wanted = || Sort::ALL.into_iter().filter(|sort| listening.wants(*sort)).collect::<Vec<_>>();
        assert!(wanted().is_empty());
        listening.listen(Sorts::ALL);
        assert_eq!(wanted(), [Sort::Connect, Sort::Disconnect, Sort::Join, Sort::Leave]);
        listening.listen(Sorts::default().with(Sort::Join).with(Sort::Drain));
        assert_eq!(wanted(), [Sort::Join]);
        listening.lose(2);
        listening.lose(3);
        assert_eq!((listening.take_lost(), listening.take_lost()), (5, 0));
    }
}
