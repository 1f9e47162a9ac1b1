//! What is asked of the other nodes, over the bus.

use std::{
    collections::HashSet,
    sync::PoisonError,
    time::{Duration, Instant},
};

use node_core::{
    api::call::{Answer, Call, Question, Said, VERSION},
    broadcast::NodeTag,
    bus::{Command, LETTER_BYTES, Letter, To},
};
use tokio::time::timeout_at;

use super::Api;

/// How long other nodes may take. A node that asks its shards takes less than a second.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What all nodes say.
#[derive(Debug)]
pub(super) struct Everywhere {
    /// This node.
    pub(super) here: Said,
    /// The others that answered, each with its name.
    pub(super) others: Vec<(String, Said)>,
    /// How many did not answer.
    pub(super) missing: usize,
    /// Whether some part of the fleet may not have been asked at all, because the bus is away.
    pub(super) is_cut_off: bool,
}

impl Everywhere {
    /// Whether a node did not answer, or could not.
    pub(super) const fn is_partial(&self) -> bool {
        self.missing > 0 || self.is_cut_off
    }

    /// How many nodes answered, this one among them.
    pub(super) fn answered(&self) -> usize {
        self.others.len() + 1
    }

    /// All that was said.
    pub(super) fn said(&self) -> impl Iterator<Item = &Said> {
        std::iter::once(&self.here).chain(self.others.iter().map(|(_, said)| said))
    }
}

impl Api {
    /// The other nodes that were heard of lately and answer; and how many do not, which are of a version of before this.
    pub(super) fn others(&self) -> (HashSet<NodeTag>, usize) {
        if self.app.bus.is_none() {
            return Default::default();
        }
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut tags, deaf) = fleet.answering(Instant::now());
        tags.remove(&self.tag());
        (tags, deaf)
    }

    /// Whether there may be nodes that cannot be reached, or were not heard of yet: the bus is away, or came a moment ago.
    pub(super) fn is_cut_off(&self) -> bool {
        self.app.bus.as_ref().is_some_and(|bus| !bus.connected() || !self.peers.are_known())
    }

    /// Asks this node and all others at the same time.
    pub(super) async fn everywhere(&self, call: Call) -> Everywhere {
        let (others, deaf) = self.others();
        let is_cut_off = self.is_cut_off();
        let expected = others.len() + deaf;
        let (here, answers) = tokio::join!(self.here(&call), self.ask(&call, To::All, others));
        let answers: Vec<_> = answers.into_iter().map(|answer| (answer.node, answer.said)).collect();
        let missing = expected.saturating_sub(answers.len());
        Everywhere { here, others: answers, missing, is_cut_off }
    }

    /// Asks one node, which may be this one.
    pub(super) async fn at(&self, node: NodeTag, call: Call) -> Option<Said> {
        if node == self.tag() {
            return Some(self.here(&call).await);
        }
        let answers = self.ask(&call, To::Node(node), HashSet::from([node])).await;
        answers.into_iter().next().map(|answer| answer.said)
    }

    /// Asks other nodes, and gathers what these answer in time.
    async fn ask(&self, call: &Call, to: To, mut expected: HashSet<NodeTag>) -> Vec<Answer> {
        let (number, deadline) = (self.number(), tokio::time::Instant::now() + PATIENCE);
        let mut wait = self.answers.wait(number);
        let mut answers = Vec::new();
        if expected.is_empty() || !self.post(number, call, to) {
            return answers;
        }
        while !expected.is_empty() {
            let Ok(Some(answer)) = timeout_at(deadline, wait.next()).await else { break };
            if expected.remove(&NodeTag::of(answer.from)) {
                answers.push(answer);
            }
        }
        answers
    }

    /// Gives a question to the bus; false when that has no room or is away.
    fn post(&self, number: u64, call: &Call, to: To) -> bool {
        let (Some(bus), Some(state)) = (&self.bus, &self.app.bus) else { return false };
        let question = Question {
            version: VERSION,
            from: self.app.boot_id,
            number,
            sent_millis: state.clock_millis(),
            call: call.clone(),
        };
        let Ok(bytes) = serde_json::to_vec(&question) else { return false };
        let is_taken = state.connected() && bus.push(Command::Post(Box::new(Letter { to, bytes }))).is_ok();
        bus.ring();
        is_taken
    }

    /// Answers a question of another node.
    pub(super) async fn reply(&self, question: Question) {
        let mut said = self.here(&question.call).await;
        let Some(bus) = &self.bus else { return };
        let bytes = loop {
            let answer = Answer {
                version: VERSION,
                from: self.app.boot_id,
                node: self.app.node_name.clone(),
                number: question.number,
                said,
            };
            let Ok(bytes) = serde_json::to_vec(&answer) else { return };
            said = answer.said;
            if bytes.len() <= LETTER_BYTES || !said.halve() {
                break bytes;
            }
        };
        // When it does not get there, the node that asks says that its answer is not whole.
        bus.push(Command::Post(Box::new(Letter { to: To::Asker(NodeTag::of(question.from)), bytes }))).ok();
        bus.ring();
    }
}
