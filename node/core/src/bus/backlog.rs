//! Commands that one shard could not hand to the queue of the bus.
//!
//! The bus never holds clients back: publishes that its queue cannot take are dropped. Each of them still uses up a
//! sequence number, so that the receivers see the gap: the drops of a topic are added up here and told to the bus as
//! one command when the queue has room again. Changes of interest are never dropped and wait in their order.

use std::collections::{HashMap, VecDeque};

use super::Command;
use crate::route::Topic;

/// Topics whose drops are added up for the bus. Drops of further topics are counted but leave no gap.
const SKIPPED_TOPICS: usize = 4_096;

/// The commands that wait, and the drops that the bus was not told of yet.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<Command>,
    skipped: HashMap<Topic, u64>,
}

impl Backlog {
    /// Changes of interest that wait.
    #[must_use]
    pub fn interest_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether any command waits for another turn.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.skipped.is_empty()
    }

    /// Hands a command to `push`, which gives it back when the queue is full. Returns false when it was a publish
    /// that was dropped.
    pub fn push(&mut self, command: Command, push: impl FnOnce(Command) -> Result<(), Command>) -> bool {
        // A command does not overtake others that wait.
        let blocked = !self.waiting.is_empty()
            || matches!(&command, Command::Publish { topic, .. } if self.skipped.contains_key(topic));
        let rejected = if blocked { Some(command) } else { push(command).err() };
        match rejected {
            None => true,
            Some(Command::Publish { topic, .. }) => {
                self.skip(topic);
                false
            }
            Some(interest) => {
                self.waiting.push_back(interest);
                true
            }
        }
    }

    fn skip(&mut self, topic: Topic) {
        if self.skipped.len() < SKIPPED_TOPICS {
            *self.skipped.entry(topic).or_default() += 1;
        } else if let Some(count) = self.skipped.get_mut(&topic) {
            *count += 1;
        }
    }

    /// Hands over the waiting commands, as far as `push` takes them.
    pub fn retry(&mut self, mut push: impl FnMut(Command) -> Result<(), Command>) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = push(command) {
                self.waiting.push_front(command);
                return;
            }
        }
        let mut room = true;
        self.skipped.retain(|topic, &mut count| {
            room = room && push(Command::Skipped { topic: Topic::clone(topic), count }).is_ok();
            !room
        });
        if self.skipped.is_empty() {
            // After a flood of topics the table would keep its size, and a walk over it would stay long.
            self.skipped = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broadcast::{Broadcast, Content};

    /// Commands that the queue of this test holds.
    const ROOM: usize = 16;

    fn topic(n: usize) -> Topic {
        format!("room:{n}").into()
    }

    fn publish(n: usize) -> Command {
        let broadcast = Broadcast::pack(&Content::json(&topic(n), "e", "{}")).expect("short names");
        Command::Publish { topic: topic(n), broadcast }
    }

    /// A queue of so many commands.
    fn into(queue: &mut Vec<Command>, room: usize) -> impl FnMut(Command) -> Result<(), Command> + '_ {
        move |command| {
            if queue.len() < room {
                queue.push(command);
                return Ok(());
            }
            Err(command)
        }
    }

    #[test]
    fn drops_of_a_topic_are_told_once_before_its_next_publish_and_after_the_interest() {
        let (mut backlog, mut queue) = (Backlog::default(), Vec::new());
        assert!((0..ROOM).all(|_| backlog.push(publish(0), into(&mut queue, ROOM))));
        assert!(!backlog.push(publish(1), into(&mut queue, ROOM)));
        assert!(backlog.push(Command::Interest { topic: topic(2) }, into(&mut queue, ROOM)));
        assert!(!backlog.push(publish(1), into(&mut queue, ROOM)));
        backlog.retry(into(&mut queue, ROOM));
        assert!(backlog.is_waiting() && queue.len() == ROOM, "the queue is still full");
        queue.clear();
        assert!(
            !backlog.push(publish(1), into(&mut queue, ROOM)),
            "it would overtake what was dropped before it"
        );
        backlog.retry(into(&mut queue, ROOM));
        assert!(backlog.push(publish(1), into(&mut queue, ROOM)) && !backlog.is_waiting());
        let told = [
            Command::Interest { topic: topic(2) },
            Command::Skipped { topic: topic(1), count: 3 },
            publish(1),
        ];
        assert_eq!(queue, told);
    }

    #[test]
    fn topics_with_drops_are_bounded() {
        let (mut backlog, mut queue) = (Backlog::default(), Vec::new());
        for n in 0..2 * SKIPPED_TOPICS {
            assert!(!backlog.push(publish(n), into(&mut queue, 0)));
        }
        assert!(!backlog.push(publish(0), into(&mut queue, 0)));
        assert_eq!(
            (backlog.skipped.len(), backlog.skipped[&topic(0)], backlog.interest_waiting()),
            (SKIPPED_TOPICS, 2, 0)
        );
        backlog.retry(into(&mut queue, usize::MAX));
        assert_eq!((queue.len(), backlog.is_waiting()), (SKIPPED_TOPICS, false));
    }
}
