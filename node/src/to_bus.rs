//! A shard's way into the queue of the bus.
//!
//! The bus never holds clients back: publishes that its queue cannot take are dropped. Each of them still uses up a
//! sequence number, so that the receivers see the gap: the drops of a topic are added up here and told to the bus as one
//! command when the queue has room again. Changes of interest are never dropped and wait in their order.

use std::collections::{HashMap, VecDeque};

use node_core::route::Topic;

use crate::mailbox::{BusCommand, BusSender};

/// Topics whose drops are added up for the bus. Drops of further topics are counted but leave no gap.
const SKIPPED_TOPICS: usize = 4_096;

/// The bus as one shard sees it.
#[derive(Debug)]
pub(crate) struct ToBus {
    queue: BusSender,
    waiting: VecDeque<BusCommand>,
    skipped: HashMap<Topic, u64>,
    used: bool,
}

impl ToBus {
    pub(crate) fn new(queue: BusSender) -> Self {
        Self { queue, waiting: VecDeque::new(), skipped: HashMap::new(), used: false }
    }

    /// See [`BusSender::bound`].
    pub(crate) fn bound(&self, budget: Option<u64>) {
        self.queue.bound(budget);
    }

    /// Changes of interest that wait.
    pub(crate) fn interest_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether anything waits for another turn.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.skipped.is_empty()
    }

    /// Hands over a command; says false when it was a publish and dropped.
    pub(crate) fn push(&mut self, command: BusCommand) -> bool {
        // Nothing overtakes what waits.
        let blocked = !self.waiting.is_empty()
            || matches!(&command, BusCommand::Publish { topic, .. } if self.skipped.contains_key(topic));
        let rejected = if blocked { Some(command) } else { self.try_push(command).err() };
        match rejected {
            None => true,
            Some(BusCommand::Publish { topic, .. }) => {
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

    /// Hands over what waits, as far as there is room.
    pub(crate) fn retry(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = self.try_push(command) {
                self.waiting.push_front(command);
                return;
            }
        }
        let (queue, used) = (&self.queue, &mut self.used);
        let mut room = true;
        self.skipped.retain(|topic, &mut count| {
            room = room && queue.push(BusCommand::Skipped { topic: Topic::clone(topic), count }).is_ok();
            *used |= room;
            !room
        });
        if self.skipped.is_empty() {
            // After a flood of topics the table would be walked at its size for ever.
            self.skipped = HashMap::new();
        }
    }

    fn try_push(&mut self, command: BusCommand) -> Result<(), BusCommand> {
        let pushed = self.queue.push(command);
        self.used |= pushed.is_ok();
        pushed
    }

    /// Wakes the bus if it was given anything.
    pub(crate) fn ring(&mut self) {
        if std::mem::take(&mut self.used) {
            self.queue.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::broadcast::{Broadcast, Content};

    use super::*;
    use crate::mailbox::{BUS_QUEUE_ITEMS, BusReceiver, bus_queue};

    fn topic(n: usize) -> Topic {
        Topic::from(format!("room:{n}"))
    }

    fn said(topic: &str) -> Broadcast {
        Broadcast::pack(&Content::json(topic, "said", "{}")).expect("short names")
    }

    fn publish(n: usize) -> BusCommand {
        BusCommand::Publish { topic: topic(n), broadcast: said(&topic(n)) }
    }

    fn full() -> (ToBus, BusReceiver) {
        let (queue, receiver) = bus_queue();
        let mut bus = ToBus::new(queue);
        assert!((0..BUS_QUEUE_ITEMS).all(|_| bus.push(publish(0))));
        (bus, receiver)
    }

    fn take(receiver: &BusReceiver) -> Vec<BusCommand> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn drops_of_a_topic_are_told_once_before_its_next_publish_and_after_the_interest() {
        let (mut bus, receiver) = full();
        assert!(!bus.push(publish(1)));
        assert!(bus.push(BusCommand::Join { shard: 0, topic: topic(2) }));
        assert!(!bus.push(publish(1)));
        bus.retry();
        assert!(bus.is_waiting(), "the queue is still full");
        assert_eq!(take(&receiver).len(), BUS_QUEUE_ITEMS);
        assert!(!bus.push(publish(1)), "it would overtake what was dropped before it");
        bus.retry();
        assert!(bus.push(publish(1)) && !bus.is_waiting());
        let got = take(&receiver);
        let [
            BusCommand::Join { .. },
            BusCommand::Skipped { topic: skipped, count: 3 },
            BusCommand::Publish { topic: published, .. },
        ] = &got[..]
        else {
            panic!("{got:?}")
        };
        assert_eq!((skipped, published), (&topic(1), &topic(1)));
    }

    #[test]
    fn topics_with_drops_are_bounded() {
        let (mut bus, receiver) = full();
        for n in 0..2 * SKIPPED_TOPICS {
            assert!(!bus.push(publish(n)));
        }
        assert!(!bus.push(publish(0)));
        assert_eq!(
            (bus.skipped.len(), bus.skipped[&topic(0)], bus.interest_waiting()),
            (SKIPPED_TOPICS, 2, 0)
        );
        take(&receiver);
        bus.retry();
        assert_eq!((take(&receiver).len(), bus.is_waiting()), (SKIPPED_TOPICS, false));
    }
}
