//! A circuit breaker (M. Nygard, *Release It!*, 2nd edition, section 5.2): a backend that does not answer is not asked for a while,
//! so that clients do not wait for it, and it is not asked more than it can bear when it comes back.
//!
//! A backend that answers, however badly, is there. What one connection asks does not open the breaker for all: its message
//! may be what the backend cannot bear.

use crate::api::order::ConnectionRef;

/// So many questions in a row without an answer open it.
const FAILURES: u32 = 10;
/// They have to be of so many connections, unless it is sure that the backend is away.
const CONNECTIONS: usize = 3;
/// For how long it is open at first, in milliseconds; twice as long each time that the backend, tried once, does not answer.
const LEAST_MILLIS: u64 = 500;
/// The longest time.
const MOST_MILLIS: u64 = 15_000;

/// What became of a question, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered something.
    There,
    /// It did not answer this connection, whatever the reason.
    Silent(ConnectionRef),
    /// It cannot be reached, or says itself that it is overloaded.
    Away,
    /// It was not asked.
    Unasked,
}

/// Belongs to a question that may be asked, and is given back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u32,
    tries: bool,
}

/// Whether the backend is asked. Times are milliseconds of any one clock.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    /// Some of the connections of these failures.
    silent: Vec<ConnectionRef>,
    away: bool,
    /// Since when it is open, and for how long.
    open: Option<(u64, u64)>,
    /// One question is under way that tries whether the backend is back.
    tries: bool,
    /// Changes when it opens and when it closes: what was under way then tells nothing new.
    generation: u32,
}

impl Breaker {
    /// Whether the backend may be asked now.
    pub const fn may_ask(&mut self, now: u64) -> Option<Ticket> {
        match self.open {
            None => Some(Ticket { generation: self.generation, tries: false }),
            Some((since, millis)) if now.saturating_sub(since) >= millis && !self.tries => {
                self.tries = true;
                Some(Ticket { generation: self.generation, tries: true })
            }
            Some(_) => None,
        }
    }

    /// What became of a question. `spread` in thousandths makes the time longer by up to a quarter, so that the nodes of a
    /// fleet do not come at once.
    pub fn settle(&mut self, now: u64, ticket: Ticket, outcome: Outcome, spread: u64) {
        if ticket.generation != self.generation {
            return;
        }
        self.tries &= !ticket.tries;
        match outcome {
            Outcome::Unasked => return,
            Outcome::There => {
                let generation = self.generation.wrapping_add(u32::from(self.open.is_some()));
                *self = Self { generation, ..Self::default() };
                return;
            }
            Outcome::Away => self.away = true,
            Outcome::Silent(connection) if self.silent.len() < CONNECTIONS => {
                if !self.silent.contains(&connection) {
                    self.silent.push(connection);
                }
            }
            Outcome::Silent(_) => {}
        }
        self.failures = self.failures.saturating_add(1);
        let all = self.away || self.silent.len() >= CONNECTIONS;
        let next = match self.open {
            Some((_, millis)) => millis * 2,
            None if self.failures >= FAILURES && all => {
                self.generation = self.generation.wrapping_add(1);
                LEAST_MILLIS
            }
            None => return,
        };
        let millis = next.min(MOST_MILLIS);
        self.open = Some((now, millis + millis * spread.min(1_000) / 4_000));
    }

    /// Whether it is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broadcast::NodeTag, session::id::ConnId};

    fn settle(breaker: &mut Breaker, now: u64, outcome: Outcome, times: u32) {
        for _ in 0..times {
            let ticket = breaker.may_ask(now).expect("it may");
            breaker.settle(now, ticket, outcome, 0);
        }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        settle(&mut breaker, 0, Outcome::Away, 10);
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_one_answer_closes_it() {
        let mut breaker = Breaker::default();
        settle(&mut breaker, 0, Outcome::Away, 9);
        settle(&mut breaker, 0, Outcome::There, 1);
        settle(&mut breaker, 0, Outcome::Away, 9);
        assert!(!breaker.is_open());
        settle(&mut breaker, 100, Outcome::Away, 1);
        assert!(breaker.is_open() && breaker.may_ask(599).is_none());
        let ticket = breaker.may_ask(600).expect("one tries");
        assert!(breaker.may_ask(600).is_none());
        breaker.settle(650, ticket, Outcome::There, 0);
        assert!(breaker.may_ask(650).is_some() && breaker.may_ask(650).is_some());
    }

    #[test]
    fn what_one_connection_asks_does_not_open_it_for_all() {
        let mut breaker = Breaker::default();
        let node = NodeTag::of(1);
        let of = |number| Outcome::Silent(ConnectionRef { node, shard: 0, id: ConnId::from_token(number) });
        settle(&mut breaker, 0, of(1), 100);
        settle(&mut breaker, 0, of(2), 100);
        assert!(!breaker.is_open());
        settle(&mut breaker, 0, of(3), 1);
        assert!(breaker.is_open());
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_within_a_bound() {
        let mut breaker = opened();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..7 {
            let before = now;
            let ticket = loop {
                match breaker.may_ask(now) {
                    Some(ticket) => break ticket,
                    None => now += 10,
                }
            };
            waits.push(now - before);
            breaker.settle(now, ticket, Outcome::Away, 0);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        let mut spread = Breaker::default();
        for _ in 0..10 {
            let ticket = spread.may_ask(0).expect("it may");
            spread.settle(0, ticket, Outcome::Away, 1_000);
        }
        assert!(spread.may_ask(624).is_none() && spread.may_ask(625).is_some());
    }

    #[test]
    fn what_was_under_way_when_it_opened_or_closed_tells_nothing_new() {
        let mut breaker = Breaker::default();
        let tickets: Vec<_> = (0..200).filter_map(|_| breaker.may_ask(0)).collect();
        for ticket in &tickets[..100] {
            breaker.settle(0, *ticket, Outcome::Away, 0);
        }
        let tries = breaker.may_ask(500).expect("it was open for no longer");
        for ticket in &tickets[100..150] {
            breaker.settle(500, *ticket, Outcome::Away, 0);
        }
        assert!(breaker.may_ask(500).is_none(), "one tries, and nothing was doubled");
        breaker.settle(501, tries, Outcome::There, 0);
        for ticket in &tickets[150..] {
            breaker.settle(502, *ticket, Outcome::Away, 0);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_question_that_was_not_asked_lets_the_next_one_try() {
        let mut breaker = opened();
        let ticket = breaker.may_ask(500).expect("it tries");
        breaker.settle(500, ticket, Outcome::Unasked, 0);
        assert!(breaker.is_open() && breaker.may_ask(500).is_some());
    }
}
