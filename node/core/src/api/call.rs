//! What one node asks the others for the server API, and what they answer, as JSON on the bus.
//!
//! Versions of nodes are dealt with as for other messages: a new field is added, and a call that a node does not know is not
//! answered, so the one who asked says that its answer is not whole.

use serde::{Deserialize, Serialize};

use super::{
    order::{Goodbye, Listed, Who},
    request::Publication,
    seen::{Claim, Outcome, Use, hex},
    top::{By, Top},
};
use crate::config::TopicPattern;

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// After so many milliseconds on its way a question is dropped: nobody waits for the answer any more.
pub const DEADLINE_MILLIS: u64 = 2_000;

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Call {
    /// How many members a topic has there.
    Members {
        /// The topic.
        topic: String,
    },
    /// Topics with members there, by name.
    Topics {
        /// Only those that begin with this.
        prefix: String,
        /// Only those behind this one.
        after: String,
        /// At most so many.
        limit: usize,
    },
    /// Connections there.
    List {
        /// Whose.
        who: Who,
        /// At most so many.
        limit: usize,
    },
    /// Close connections.
    Disconnect {
        /// Whose; none for the members of the topic.
        who: Option<Who>,
        /// Only members of this topic.
        topic: Option<String>,
        /// With which words.
        goodbye: Goodbye,
    },
    /// End channels.
    Leave {
        /// Of which topic.
        topic: String,
        /// Whose; none for all members.
        who: Option<Who>,
    },
    /// Ask for new tokens.
    Refresh {
        /// Of which user.
        user: String,
        /// Within so many milliseconds.
        within_millis: u32,
    },
    /// The rooms there that are said most.
    Top {
        /// By what they are ranked.
        by: By,
        /// Only those whose topics match; none is all.
        topics: Vec<TopicPattern>,
    },
    /// Say something to all members but some.
    Say(Box<Publication>),
    /// Claim an idempotency key.
    Claim(Use),
    /// A publication with such a key has ended so; none when nothing was said.
    Settle(Use, Option<Outcome>),
}

/// A question on the bus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// The boot id of the node that asks.
    #[serde(with = "hex")]
    pub from: u128,
    /// Its number there.
    pub number: u64,
    /// When it was sent, as in [`crate::envelope::Envelope::sent_millis`].
    pub sent_millis: u64,
    /// What is asked.
    pub call: Call,
}

/// Topics with members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicLine {
    /// The topic.
    pub topic: String,
    /// Its members.
    pub members: u64,
    /// The nodes that have some.
    pub nodes: u64,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// So many members.
    Members(u64),
    /// These topics.
    Topics {
        /// By name.
        topics: Vec<TopicLine>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// These connections.
    Connections {
        /// In no order.
        connections: Vec<Listed>,
        /// Whether there are more.
        more: bool,
        /// Whether some shard did not report in time.
        partial: bool,
    },
    /// These rooms.
    Top {
        /// In their order.
        top: Top,
        /// Whether some shard did not report in time.
        partial: bool,
    },
    /// It was done on so many connections.
    Done {
        /// How many.
        count: u64,
        /// Whether some shard did not report in time.
        partial: bool,
    },
    /// What is known of an idempotency key.
    Claim(Claim),
}

impl Said {
    /// Leaves out the second half of a list, which can be asked for again; false when there is nothing to leave out.
    pub fn halve(&mut self) -> bool {
        match self {
            Self::Topics { topics, more } if topics.len() > 1 => {
                topics.truncate(topics.len() / 2);
                *more = true;
            }
            Self::Connections { connections, more, .. } if connections.len() > 1 => {
                connections.truncate(connections.len() / 2);
                *more = true;
            }
            _ => return false,
        }
        true
    }
}

/// An answer on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// [`VERSION`].
    pub version: u32,
    /// The boot id of the node that answers.
    #[serde(with = "hex")]
    pub from: u128,
    /// Its name.
    pub node: String,
    /// [`Question::number`].
    pub number: u64,
    /// What it says.
    pub said: Said,
}

/// One page of the topics of several nodes: those that all of them have looked for, by name.
#[must_use]
pub fn merge(pages: Vec<(Vec<TopicLine>, bool)>, limit: usize) -> (Vec<TopicLine>, bool) {
    // Behind the last topic of a page that was cut, its node may have others that it did not list.
    let cut = |(topics, more): &(Vec<TopicLine>, bool)| {
        topics.last().filter(|_| *more).map(|line| line.topic.clone())
    };
    let end = pages.iter().filter_map(cut).min();
    let mut merged = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for line in pages.into_iter().flat_map(|(topics, _)| topics) {
        if end.as_ref().is_none_or(|end| line.topic <= *end) {
            let (members, nodes) = merged.entry(line.topic).or_default();
            *members = members.saturating_add(line.members);
            *nodes = nodes.saturating_add(line.nodes);
        }
    }
    let more = end.is_some() || merged.len() > limit;
    let line = |(topic, (members, nodes))| TopicLine { topic, members, nodes };
    (merged.into_iter().take(limit).map(line).collect(), more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: &[(&str, u64)]) -> Vec<TopicLine> {
        of.iter()
            .map(|(topic, members)| TopicLine { topic: (*topic).to_owned(), members: *members, nodes: 1 })
            .collect()
    }

    #[test]
    fn pages_of_nodes_are_one_page_without_holes() {
        let first = (lines(&[("a", 1), ("c", 2)]), true);
        let second = (lines(&[("a", 5), ("b", 1), ("d", 1), ("e", 1)]), false);
        let (topics, more) = merge(vec![first.clone(), second.clone()], 10);
        let named: Vec<_> = topics.iter().map(|line| (&*line.topic, line.members, line.nodes)).collect();
        assert_eq!(
            (named, more),
            (vec![("a", 6, 2), ("b", 1, 1), ("c", 2, 1)], true),
            "d may be on the first node, too"
        );
        let (topics, more) = merge(vec![(first.0, false), second], 3);
        assert_eq!((topics.len(), topics[2].topic.as_str(), more), (3, "c", true));
        assert_eq!(merge(vec![(lines(&[("a", 1)]), false)], 1), (lines(&[("a", 1)]), false));
        assert_eq!(merge(Vec::new(), 1), (Vec::new(), false));
        let mut said = Said::Topics { topics: lines(&[("a", 1), ("b", 1), ("c", 1)]), more: false };
        assert!(
            said.halve() && said == Said::Topics { topics: lines(&[("a", 1)]), more: true } && !said.halve()
        );
    }

    #[test]
    fn what_a_node_asks_and_answers_is_the_same_after_the_bus() {
        let question = Question {
            version: VERSION,
            from: 0,
            number: 7,
            sent_millis: 1,
            call: Call::Leave { topic: "room:1".to_owned(), who: Some(Who::User("ann".to_owned())) },
        };
        let json = serde_json::to_string(&question).unwrap();
        let again: Question = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
        assert!(json.contains(r#""call":{"leave":{"topic":"room:1","who":{"user":"ann"}}}"#), "{json}");
        let unknown = json.replace("leave", "dance");
        assert!(serde_json::from_str::<Question>(&unknown).is_err());
        let answer = Answer {
            version: VERSION,
            from: 1 << 127,
            node: "n".to_owned(),
            number: 7,
            said: Said::Done { count: 3, partial: false },
        };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&json).ok(), Some(answer));
    }
}
