//! Requests of long-poll for sessions of other nodes.
//!
//! A token names the node of its session. Where that is another one, the bus carries what the two shards say to each other;
//! each of them goes on as if it were the other's neighbour, but for three things. What is carried may be lost, so the
//! shard of the HTTP connection waits for a bounded time only, and not at all for a node that is gone or while the bus is
//! away. An answer with messages is kept by the session until the other node has confirmed it: when it is known that nobody
//! was given the messages, the next poll gets them, and when nothing is known its client is told that it missed something.
//! And the node of the session verifies the token, because it alone can.

use super::{
    event::{Effect, Outgoing},
    state::Shard,
};
use crate::{
    limits::CARRIED_MILLIS,
    longpoll::{Answer, Ask, Asker, Carried, Goal, Outcome, Waiting, What, peers::Whereabouts, token::Token},
    session::id::Slot,
};

impl Shard {
    /// Whether a token names another node.
    pub(super) fn is_elsewhere(&self, token: &Token) -> bool {
        token.node() != self.options.poll_key.node()
    }

    /// Hands something to the bus.
    pub(super) fn carry(&mut self, carried: Carried) {
        self.effects.push(Effect::Tell(Outgoing::Carry(Box::new(carried))));
    }

    /// The bus has no room, or is away.
    pub(super) fn on_not_carried(&mut self, carried: &Carried) {
        match *carried {
            Carried::Ask(Ask { from, token, what: What::Poll | What::Post(_) }) => {
                self.counters.carried_unreached += 1;
                self.on_answer(Answer { to: from, token, outcome: Outcome::Away });
            }
            Carried::Answer(Answer { to, token, outcome: Outcome::Messages(_) }) => {
                self.on_ask(Ask { from: to, token, what: What::Undelivered });
            }
            // The other side gives up waiting in time.
            Carried::Ask(_) | Carried::Answer(_) => {}
        }
    }

    /// Nobody listens at the node that a request was carried to.
    pub(super) fn on_nobody_there(&mut self, asker: Asker) {
        let Some(slot) = self.sessions.slot(asker.connection) else { return };
        if let Some((number, waiting)) = self.polls.waiting(slot)
            && number == asker.number
        {
            self.counters.carried_orphans += 1;
            self.end_carried((slot, number), &waiting, Outcome::Missed);
        }
    }

    /// Ends the waiting of a connection for a session of another node that will not be answered; `waited_millis` is how long
    /// it has waited. False when it goes on, or does not wait for another node.
    pub(super) fn gives_up_carried(&mut self, slot: Slot, waited_millis: u64) -> bool {
        let Some((number, waiting)) = self.carried(slot) else { return false };
        let outcome = match self.options.peers.find(waiting.token.node()) {
            Whereabouts::There if waited_millis <= CARRIED_MILLIS => return false,
            Whereabouts::There => {
                self.counters.carried_timeouts += 1;
                Outcome::Away
            }
            Whereabouts::Unknown => {
                self.counters.carried_unreached += 1;
                Outcome::Away
            }
            Whereabouts::Nowhere => {
                self.counters.carried_orphans += 1;
                Outcome::Missed
            }
        };
        self.end_carried((slot, number), &waiting, outcome);
        true
    }

    /// This shard ends: a client that waits for a session of another node polls again, and comes to one that stays.
    pub(super) fn let_go_of_carried(&mut self, slot: Slot) {
        if let Some((number, waiting)) = self.carried(slot)
            && matches!(waiting.goal, Goal::Poll(_))
        {
            self.end_carried((slot, number), &waiting, Outcome::Nothing);
        }
    }

    fn carried(&self, slot: Slot) -> Option<(u32, Waiting)> {
        self.polls.waiting(slot).filter(|(_, waiting)| self.is_elsewhere(&waiting.token))
    }

    fn end_carried(&mut self, (slot, number): (Slot, u32), waiting: &Waiting, outcome: Outcome) {
        let (token, to) = (waiting.token, self.asker(slot, number));
        if matches!(waiting.goal, Goal::Poll(_)) {
            self.tell_session(token, to, What::Abandoned);
        }
        self.on_answer(Answer { to, token, outcome });
    }
}
