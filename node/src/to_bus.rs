//! A shard's way into the queue of the bus. Commands that the queue has no room for go into a [`Backlog`], which
//! decides what is kept and what is dropped.

use node_core::{
    bus::{Command, backlog::Backlog},
    longpoll::Carried,
};

use crate::mailbox::BusSender;

/// The bus as one shard sees it.
#[derive(Debug)]
pub(crate) struct ToBus {
    queue: BusSender,
    backlog: Backlog,
    used: bool,
}

impl ToBus {
    pub(crate) fn new(queue: BusSender) -> Self {
        Self { queue, backlog: Backlog::default(), used: false }
    }

    /// See [`BusSender::bound`].
    pub(crate) fn bound(&self, budget: Option<u64>) {
        self.queue.bound(budget);
    }

    /// Changes of interest that wait in the backlog.
    pub(crate) fn interest_waiting(&self) -> usize {
        self.backlog.interest_waiting()
    }

    /// Whether commands wait for another turn.
    pub(crate) fn is_waiting(&self) -> bool {
        self.backlog.is_waiting()
    }

    /// Hands over a command; returns false when it was a publish that was dropped.
    pub(crate) fn push(&mut self, command: Command) -> bool {
        let Self { queue, backlog, used } = self;
        backlog.push(command, |command| offer(queue, used, command))
    }

    /// Hands over something for another node, ahead of the commands that wait; gives it back when the queue is full.
    pub(crate) fn carry(&mut self, carried: Box<Carried>) -> Result<(), Box<Carried>> {
        match offer(&self.queue, &mut self.used, Command::Carry(carried)) {
            Err(Command::Carry(carried)) => Err(carried),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Hands over the waiting commands, as far as there is room.
    pub(crate) fn retry(&mut self) {
        let Self { queue, backlog, used } = self;
        backlog.retry(|command| offer(queue, used, command));
    }

    /// Wakes the bus if it was given anything.
    pub(crate) fn ring(&mut self) {
        if std::mem::take(&mut self.used) {
            self.queue.ring();
        }
    }
}

fn offer(queue: &BusSender, used: &mut bool, command: Command) -> Result<(), Command> {
    let pushed = queue.push(command);
    *used |= pushed.is_ok();
    pushed
}
