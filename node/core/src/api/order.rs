//! What a shard is ordered to do for the server API, and what it reports.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::top::{By, Top};
use crate::{
    broadcast::{Broadcast, NodeTag},
    config::TopicPattern,
    session::id::ConnId,
};

/// Most connections that one order closes or takes out of a room: a shard is kept from its clients for so long. Who orders asks
/// again for the rest.
pub const STEP: usize = 1_000;
/// Most connections in one report.
pub const LISTED: usize = 1_000;
/// Most topics that a connection is listed with.
pub const LISTED_TOPICS: usize = 100;

/// A connection of the fleet: its node, its shard, and its id there. Its text is what the API calls a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionRef {
    /// The node.
    pub node: NodeTag,
    /// The shard.
    pub shard: u8,
    /// The connection there.
    pub id: ConnId,
}

impl fmt::Display for ConnectionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02x}-{:014x}", self.node, self.shard, self.id.to_token())
    }
}

/// A text that names no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no connection; take one as a list of connections says it")]
pub struct NotAConnection;

impl FromStr for ConnectionRef {
    type Err = NotAConnection;

    fn from_str(text: &str) -> Result<Self, NotAConnection> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.bytes().all(is_digit).then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let read = (part(14), part(2), part(14));
        let (Some(node), Some(shard), Some(id)) = read else { return Err(NotAConnection) };
        let [_, tag @ ..] = node.to_be_bytes();
        let shard = u8::try_from(shard).map_err(|_| NotAConnection)?;
        let found = Self { node: NodeTag::from_bytes(tag), shard, id: ConnId::from_token(id) };
        parts.next().is_none().then_some(found).ok_or(NotAConnection)
    }
}

impl Serialize for ConnectionRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Connections that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Who {
    /// All of this user, whichever issuer vouches for it.
    User(String),
    /// This one.
    Connection(ConnectionRef),
}

impl Who {
    /// Memory in bytes beside its own.
    fn bytes(&self) -> usize {
        match self {
            Self::User(user) => user.len(),
            Self::Connection(_) => 0,
        }
    }
}

/// How a client is closed: code and reason of a close frame (RFC 6455, section 7.1.5 and 7.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Goodbye {
    /// The code.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

/// What a shard is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// List connections.
    List {
        /// Whose.
        who: Who,
        /// At most so many, and [`LISTED`].
        limit: usize,
    },
    /// Close connections: those that are meant, or the members of a topic.
    Disconnect {
        /// Who; none for the members of the topic.
        who: Option<Who>,
        /// Only members of this topic; none for all.
        topic: Option<String>,
        /// With which words.
        goodbye: Goodbye,
    },
    /// End the channel that these connections have for a topic, so that their clients do not join again by themselves.
    Leave {
        /// The topic.
        topic: String,
        /// Who; none for all members.
        who: Option<Who>,
    },
    /// Ask the clients of a user for new tokens: without one its connections end with their rights after this time.
    Refresh {
        /// The user.
        user: String,
        /// The time in milliseconds.
        within_millis: u32,
    },
    /// Say something to the members of a topic but these.
    Say {
        /// What.
        broadcast: Broadcast,
        /// To whom not.
        except: Who,
    },
    /// Name the first rooms of those from a place of the table on.
    Top {
        /// By what they are ranked.
        by: By,
        /// Only those whose topics match; none is all.
        topics: Arc<[TopicPattern]>,
        /// The place: 0, or [`Report::next`].
        from: usize,
    },
}

/// An order with its number, by which the report is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The number.
    pub number: u64,
    /// The order.
    pub order: Order,
}

impl Ordered {
    /// Memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of_who = |who: &Option<Who>| who.as_ref().map_or(0, Who::bytes);
        let own = match &self.order {
            Order::List { who, .. } => who.bytes(),
            Order::Disconnect { who, topic, goodbye } => of_who(who) + text(topic) + goodbye.reason.len(),
            Order::Leave { topic, who } => topic.len() + of_who(who),
            Order::Refresh { user, .. } => user.len(),
            Order::Say { broadcast, except } => broadcast.len() + except.bytes(),
            Order::Top { topics, .. } => {
                topics.iter().map(|pattern| size_of_val(pattern) + pattern.0.len()).sum()
            }
        };
        size_of::<Self>() + own
    }
}

/// One connection in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The connection.
    pub connection: ConnectionRef,
    /// Its user, where it has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Milliseconds since its handshake, to within a sixteenth.
    pub age_millis: u64,
    /// The topics that it has joined, at most [`LISTED_TOPICS`].
    pub topics: Vec<String>,
}

/// What a shard has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of the order.
    pub number: u64,
    /// On how many connections it was carried out.
    pub done: u64,
    /// Whether there are more, for which it is to be given again.
    pub more: bool,
    /// Connections, of [`Order::List`].
    pub connections: Vec<Listed>,
    /// Rooms, of [`Order::Top`].
    pub top: Top,
    /// Where the next order of this kind goes on, if there are rooms that were not looked at.
    pub next: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_as_it_is_written_and_nothing_else_is() {
        let id = ConnId::from_token(0x00ab_cdef_0000_0007);
        let connection = ConnectionRef { node: NodeTag::from_bytes([1, 2, 3, 4, 5, 6, 255]), shard: 3, id };
        let text = connection.to_string();
        assert_eq!(text, "010203040506ff-03-abcdef00000007");
        assert_eq!(text.parse(), Ok(connection));
        assert_eq!(serde_json::to_string(&connection).ok(), Some(format!("\"{text}\"")));
        assert_eq!(serde_json::from_str::<ConnectionRef>(&format!("\"{text}\"")).ok(), Some(connection));
        for bad in [
            "",
            "-",
            "010203040506ff-03",
            "010203040506ff-03-abcdef00000007-",
            "010203040506fF-03-abcdef00000007",
        ] {
            assert_eq!(bad.parse::<ConnectionRef>(), Err(NotAConnection), "{bad}");
        }
        assert_eq!("+10203040506ff-03-abcdef00000007".parse::<ConnectionRef>(), Err(NotAConnection));
    }
}
