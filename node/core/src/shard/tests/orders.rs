//! Orders of the server API.

use super::{
    harness::{Client, Sent, Sim},
    tokens::{NOW, auth, connect, joins},
};
use crate::{
    api::order::{ConnectionRef, Goodbye, Order, Ordered, Report, STEP, Who},
    broadcast::{Broadcast, Content},
    counters::CloseReason,
    shard::{Event, Mail},
};

fn sim() -> Sim {
    let mut sim = Sim::new(1, false, |config| {
        config.auth = auth(false);
        config.limits.max_connections = 5_000;
    });
    sim.shards[0].handle(Event::TimeOfDay(NOW * 1_000));
    sim
}

fn member(sim: &mut Sim, user: &str) -> Client {
    let client = connect(sim, user, 100);
    assert!(joins(sim, client, "room:1"));
    client
}

fn order(sim: &mut Sim, order: Order) -> Report {
    sim.shards[0].handle(Event::Mail(Mail::Order(Box::new(Ordered { number: 7, order }))));
    sim.settle();
    let report = sim.reports.pop().expect("a report");
    assert_eq!((report.number, sim.reports.len()), (7, 0));
    report
}

fn listing(who: Who) -> Order {
    Order::List { who, limit: 100 }
}

fn user(name: &str) -> Who {
    Who::User(name.to_owned())
}

fn heard(sim: &mut Sim, client: Client) -> usize {
    sim.texts(client).iter().filter(|text| text.contains("\"said\"")).count()
}

#[test]
fn a_user_is_spared_with_all_connections_and_others_hear_it_once() {
    let mut sim = sim();
    let [ann, again, ben] = ["ann", "ann", "ben"].map(|name| member(&mut sim, name));
    let broadcast = || Broadcast::pack(&Content::json("room:1", "said", "{}")).expect("short names");
    let say = |except| Order::Say { broadcast: broadcast(), except };
    order(&mut sim, say(user("ann")));
    assert_eq!([ann, again, ben].map(|client| heard(&mut sim, client)), [0, 0, 1]);
    order(&mut sim, say(user("ben")));
    assert_eq!([ann, again, ben].map(|client| heard(&mut sim, client)), [1, 1, 0]);
    order(&mut sim, say(user("nobody")));
    let list = order(&mut sim, listing(user("ann"))).connections;
    order(&mut sim, say(Who::Connection(list[0].connection)));
    let both = [ann, again].map(|client| heard(&mut sim, client));
    assert_eq!((both[0] + both[1], heard(&mut sim, ben)), (3, 2));
}

#[test]
fn connections_are_listed_closed_and_taken_out_by_whom_they_are_of() {
    let mut sim = sim();
    let [ann, again, ben] = ["ann", "ann", "ben"].map(|name| member(&mut sim, name));
    let outside = connect(&mut sim, "ann", 100);
    let list = order(&mut sim, listing(user("ann")));
    assert_eq!((list.done, list.more, list.connections.len()), (3, false, 3));
    assert!(list.connections.iter().all(|one| one.user.as_deref() == Some("ann")));
    let joined: usize = list.connections.iter().map(|one| one.topics.len()).sum();
    assert_eq!(joined, 2);
    let elsewhere = ConnectionRef { shard: 9, ..list.connections[0].connection };
    assert_eq!(order(&mut sim, listing(Who::Connection(elsewhere))).done, 0);

    let leave = |who| Order::Leave { topic: "room:1".to_owned(), who };
    assert_eq!(order(&mut sim, leave(Some(user("ann")))).done, 2);
    for client in [ann, again] {
        assert!(sim.texts(client).iter().any(|text| text.contains("phx_close")));
    }
    assert_eq!(order(&mut sim, leave(Some(user("ann")))).done, 0);
    let goodbye = Goodbye { code: 4_321, reason: "out".to_owned() };
    let close = |who, topic: Option<&str>| Order::Disconnect {
        who,
        topic: topic.map(str::to_owned),
        goodbye: goodbye.clone(),
    };
    assert_eq!(order(&mut sim, close(Some(user("ann")), Some("room:1"))).done, 0, "none of them is a member");
    assert_eq!(order(&mut sim, close(Some(user("ann")), None)).done, 3);
    for client in [ann, again, outside] {
        assert_eq!(sim.sent(client).pop(), Some(Sent::Close(4_321)));
    }
    assert_eq!(order(&mut sim, close(None, Some("room:1"))).done, 1);
    assert_eq!(sim.sent(ben).pop(), Some(Sent::Close(4_321)));
    assert_eq!(sim.counters().closed[CloseReason::Server as usize], 4);
}

#[test]
fn who_is_asked_for_a_new_token_loses_its_rights_without_one() {
    let mut sim = sim();
    let [ann, ben] = ["ann", "ben"].map(|name| member(&mut sim, name));
    let refresh = Order::Refresh { user: "ann".to_owned(), within_millis: 5_000 };
    assert_eq!(order(&mut sim, refresh.clone()).done, 1);
    assert_eq!(order(&mut sim, refresh).done, 0, "it was told");
    assert!(sim.texts(ann).iter().any(|text| text.contains(r#""expires_in_ms":5000"#)));
    sim.pass(4_500);
    assert!(sim.sent(ann).is_empty());
    sim.pass(1_500);
    assert_eq!(sim.sent(ann).pop(), Some(Sent::Close(4001)));
    assert!(sim.sent(ben).is_empty(), "it has its token");
}

#[test]
fn one_order_closes_no_more_than_a_step() {
    let mut sim = sim();
    for _ in 0..STEP + 3 {
        member(&mut sim, "ann");
    }
    let leave = || Order::Leave { topic: "room:1".to_owned(), who: None };
    let first = order(&mut sim, leave());
    assert_eq!((first.done, first.more), (STEP as u64, true));
    let second = order(&mut sim, leave());
    assert_eq!((second.done, second.more), (3, false));
}
