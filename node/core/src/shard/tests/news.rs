//! What shards tell those who listen.

use std::collections::{HashMap, HashSet};

use super::harness::Sim;
use crate::{
    api::{
        news::{News, Sorts, What},
        order::ConnectionRef,
    },
    counters::{CloseReason, Counters},
    shard::{Outgoing, Shard},
};

/// What somebody knows who hears everything from the beginning.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// The connections with their topics, also those that are being closed.
    known: HashMap<ConnectionRef, (bool, HashSet<String>)>,
    connects: u64,
    joins: u64,
    closed: [u64; CloseReason::COUNT],
}

impl Sim {
    /// Listens for everything from now on.
    pub(super) fn listen(&self) {
        self.listening.listen(Sorts::ALL);
    }

    /// Ends the turns of all shards, and takes what these tell.
    pub(super) fn news(&mut self) -> Vec<News> {
        let told = self.shards.iter_mut().filter_map(Shard::take_news);
        told.flat_map(|told| {
            let Outgoing::News(batch) = told else { panic!("{told:?}") };
            assert_eq!(batch.lost, 0);
            batch.news
        })
        .collect()
    }
}

impl Listener {
    /// Hears what happened; each event has to fit to those before.
    pub(super) fn hear(&mut self, sim: &mut Sim) {
        for News { connection, what, .. } in sim.news() {
            match what {
                What::Connect { .. } => {
                    self.connects += 1;
                    let new = (true, HashSet::new());
                    assert!(self.known.insert(connection, new).is_none(), "{connection} is new");
                }
                What::Disconnect { cause, .. } => {
                    self.closed[cause as usize] += 1;
                    let known = self.known.get_mut(&connection).expect("it was connected");
                    assert!(std::mem::replace(&mut known.0, false), "{connection} ends once");
                }
                What::Join { topic } => {
                    self.joins += 1;
                    let (_, topics) = self.known.get_mut(&connection).expect("it was connected");
                    assert!(topics.insert(topic.to_string()), "{connection} joins once");
                }
                What::Leave { topic } => {
                    let (_, topics) = self.known.get_mut(&connection).expect("it was connected");
                    assert!(topics.remove(&*topic), "{connection} leaves once");
                }
            }
        }
        let topics: usize = self.known.values().map(|(_, topics)| topics.len()).sum();
        assert_eq!(topics as u64, sim.counters().memberships);
    }

    /// All connections have ended.
    pub(super) fn check_end(mut self, sim: &mut Sim, counters: &Counters) {
        self.hear(sim);
        assert_eq!((self.connects, self.joins), (counters.opened, counters.joins));
        assert_eq!(self.closed, counters.closed);
        assert!(self.known.values().all(|(is_open, topics)| !is_open && topics.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            news::{Sort, TURN_EVENTS, Transport},
            order::{Goodbye, Listed, Order, Ordered, Who},
        },
        shard::{
            Event, Mail,
            tests::{
                harness::{Client, drain, masked},
                polls,
                tokens::{self, NOW, auth, connect, joins},
            },
        },
    };

    fn sim() -> Sim {
        let sim = tokens::sim(auth(true));
        sim.listen();
        sim
    }

    fn whats(sim: &mut Sim) -> Vec<What> {
        sim.news().into_iter().map(|news| news.what).collect()
    }

    fn connected() -> What {
        What::Connect { transport: Transport::WebSocket }
    }

    fn joined() -> What {
        What::Join { topic: "room:1".into() }
    }

    fn left() -> What {
        What::Leave { topic: "room:1".into() }
    }

    fn ended(cause: CloseReason, code: Option<u16>) -> What {
        What::Disconnect { cause, code }
    }

    fn member(sim: &mut Sim) -> Client {
        let client = connect(sim, "ann", 100);
        assert!(joins(sim, client, "room:1"));
        client
    }

    #[test]
    fn a_shard_tells_what_is_listened_for_and_nothing_else() {
        let mut sim = sim();
        sim.listening.listen(Sorts::default());
        let client = member(&mut sim);
        assert!(sim.shards[0].take_news().is_none(), "nobody listens");
        sim.listening.listen(Sorts::default().with(Sort::Leave));
        let second = member(&mut sim);
        sim.lose(client);
        assert_eq!(whats(&mut sim), [left()]);
        sim.listening.listen(Sorts::default().with(Sort::Disconnect));
        sim.lose(second);
        assert_eq!(whats(&mut sim), [ended(CloseReason::Lost, None)]);
    }

    #[test]
    fn a_connection_is_told_with_its_user_and_as_the_api_calls_it() {
        let mut sim = sim();
        let client = member(&mut sim);
        sim.text(client, r#"[null,"2","room:1","phx_leave",{}]"#);
        let news = sim.news();
        let whats: Vec<_> = news.iter().map(|news| news.what.clone()).collect();
        assert_eq!(whats, [connected(), joined(), left()]);
        let list = Order::List { who: Who::User("ann".to_owned()), limit: 1 };
        sim.shards[0].handle(Event::Mail(Mail::Order(Box::new(Ordered { number: 1, order: list }))));
        sim.settle();
        let [Listed { connection, .. }] = &*sim.reports.remove(0).connections else {
            panic!("one is listed")
        };
        for one in news {
            assert_eq!((&one.connection, one.user.as_deref()), (connection, Some("ann")));
            assert_eq!(one.unix_millis, NOW * 1_000);
        }
        let anonymous = sim.connect();
        sim.join(anonymous, "room:1", "1");
        assert!(sim.news().iter().all(|news| news.user.is_none()));
    }

    #[test]
    fn an_end_is_told_with_its_cause_and_the_code_of_its_close_frame() {
        let mut sim = sim();
        let mut end = |act: fn(&mut Sim, Client)| {
            let client = member(&mut sim);
            sim.news();
            act(&mut sim, client);
            let news = sim.news();
            assert!(news.iter().all(|news| news.user.as_deref() == Some("ann")), "{news:?}");
            news.into_iter().map(|news| news.what).collect::<Vec<_>>()
        };
        let peer = |sim: &mut Sim, client| sim.bytes(client, &masked(0x88, &1001u16.to_be_bytes()));
        assert_eq!(end(peer), [left(), ended(CloseReason::Peer, Some(1001))]);
        let silent = |sim: &mut Sim, client| sim.bytes(client, &masked(0x88, &[]));
        assert_eq!(end(silent), [left(), ended(CloseReason::Peer, None)]);
        let malformed = |sim: &mut Sim, client| sim.text(client, "x");
        assert_eq!(end(malformed), [left(), ended(CloseReason::Malformed, Some(1011))]);
        let broken = |sim: &mut Sim, client| sim.bytes(client, &masked(0xbf, b"x"));
        assert_eq!(end(broken), [left(), ended(CloseReason::Protocol, Some(1002))]);
        let server = |sim: &mut Sim, client: Client| {
            let goodbye = Goodbye { code: 4_321, reason: String::new() };
            let order = Order::Disconnect { who: Some(Who::User("ann".to_owned())), topic: None, goodbye };
            sim.shards[client.0].handle(Event::Mail(Mail::Order(Box::new(Ordered { number: 1, order }))));
            sim.settle();
        };
        assert_eq!(end(server), [left(), ended(CloseReason::Server, Some(4_321))]);
        // A client that is sent away politely stays a member until it answers.
        let drained = |sim: &mut Sim, client: Client| {
            sim.shards[client.0].handle(drain(u32::MAX));
            sim.settle();
            sim.lose(client);
        };
        assert_eq!(end(drained), [ended(CloseReason::Drain, Some(1012)), left()]);
    }

    #[test]
    fn whose_token_ends_is_told_by_name() {
        let mut sim = sim();
        let client = connect(&mut sim, "ann", 1);
        assert!(joins(&mut sim, client, "room:1"));
        sim.news();
        sim.pass(2_000);
        let news = sim.news();
        assert!(news.iter().all(|news| news.user.as_deref() == Some("ann")), "{news:?}");
        let whats: Vec<_> = news.into_iter().map(|news| news.what).collect();
        assert_eq!(whats, [left(), ended(CloseReason::Token, Some(4001))]);
        sim.check_ledgers();
    }

    #[test]
    fn a_session_of_long_poll_is_told_as_one() {
        let mut sim = sim();
        let http = sim.accept(0);
        sim.http(http, &polls::text("GET", "", "", ""));
        assert_eq!(whats(&mut sim), [What::Connect { transport: Transport::LongPoll }]);
        sim.pass(30_000);
        assert_eq!(whats(&mut sim), [ended(CloseReason::Lost, None)]);
    }

    #[test]
    fn a_turn_with_too_many_events_counts_the_rest() {
        let mut sim = Sim::dev();
        sim.listen();
        for _ in 0..TURN_EVENTS + 3 {
            sim.connect();
        }
        let Some(Outgoing::News(batch)) = sim.shards[0].take_news() else { panic!("something happened") };
        assert_eq!((batch.news.len(), batch.lost), (TURN_EVENTS, 3));
        assert_eq!(batch.events(), TURN_EVENTS as u64 + 3);
        assert!(sim.shards[0].take_news().is_none());
    }
}
