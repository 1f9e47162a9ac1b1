//! The rooms of a shard that are said most.

use super::harness::Sim;
use crate::{
    api::{
        order::{Order, Ordered, Report},
        top::{By, Figures, LOOKS, NAMED, Top},
    },
    config::TopicPattern,
    shard::{Event, Mail},
};

fn order(sim: &mut Sim, by: By, patterns: &[&str], from: usize) -> Report {
    let topics = patterns.iter().map(|pattern| TopicPattern((*pattern).to_owned())).collect();
    let order = Order::Top { by, topics, from };
    sim.shards[0].handle(Event::Mail(Mail::Order(Box::new(Ordered { number: 7, order }))));
    sim.settle();
    sim.reports.pop().expect("a report")
}

/// All rooms in their order, which a walk of one part has seen.
fn top(sim: &mut Sim, by: By, patterns: &[&str]) -> Vec<(String, Figures)> {
    let report = order(sim, by, patterns, 0);
    assert_eq!((report.number, report.next, report.top.unseen), (7, None, 0));
    report.top.rooms
}

fn named(rooms: &[(String, Figures)]) -> Vec<&str> {
    rooms.iter().map(|(topic, _)| topic.as_str()).collect()
}

/// Each second, in a room of two a short message twenty times, in one of four a long one once, and nothing in one of five and in
/// the topic of the server.
fn sim() -> (Sim, usize) {
    let mut sim = Sim::dev();
    let mut join = |topic: &str, members: usize| -> Vec<_> {
        let clients: Vec<_> = (0..members).map(|_| sim.connect()).collect();
        clients.iter().for_each(|client| sim.join(*client, topic, "1"));
        clients
    };
    let (loud, long) = (join("room:loud", 2), join("room:long", 4));
    join("room:big", 5);
    let own = sim.connect();
    sim.text(own, r#"["1","1","$cluster","phx_join",{}]"#);
    let text = "x".repeat(1_000);
    let mut length = 0;
    for second in 0..8 {
        for _ in 0..20 {
            sim.text(loud[0], r#"["1","2","room:loud","m",{}]"#);
            sim.pass(50);
        }
        sim.text(long[0], &format!(r#"["1","2","room:long","m",{{"text":"{text}"}}]"#));
        length = sim.take_output(long[1]).len();
        assert!(length > 1_000, "{second}: {length}");
    }
    (sim, length)
}

#[test]
fn rooms_are_ranked_by_what_their_members_are_told_and_by_these() {
    let (mut sim, length) = sim();
    let writes = top(&mut sim, By::Writes, &[]);
    assert_eq!(named(&writes), ["room:loud", "room:long"], "none that says nothing, and none of the server");
    let (loud, long) = (&writes[0].1, &writes[1].1);
    // Two windows of 2,048 ms at most: one message more or fewer may be in them.
    assert!((38_000..=42_000).contains(&loud.milliwrites), "{loud:?}");
    assert!((2_000..=6_000).contains(&long.milliwrites), "{long:?}");
    assert_eq!((loud.members, loud.nodes, long.members), (2, 1, 4));
    // Both are rounded down.
    assert!(long.bytes.abs_diff(long.milliwrites * length as u64 / 1_000) <= 8, "{long:?} of {length}");
    assert_eq!(named(&top(&mut sim, By::Bytes, &[])), ["room:long", "room:loud"]);
    let members = top(&mut sim, By::Members, &[]);
    assert_eq!(named(&members), ["room:big", "room:long", "room:loud"]);
    assert_eq!(members[0].1, Figures { members: 5, nodes: 1, ..Figures::default() });
    sim.pass(10_000);
    assert!(top(&mut sim, By::Writes, &[]).is_empty(), "nothing is said any more");
}

#[test]
fn only_rooms_that_match_are_named() {
    let (mut sim, _) = sim();
    assert_eq!(named(&top(&mut sim, By::Members, &["room:l*"])), ["room:long", "room:loud"]);
    assert_eq!(named(&top(&mut sim, By::Members, &["room:x", "room:big"])), ["room:big"]);
    assert!(top(&mut sim, By::Members, &["room"]).is_empty());
    assert_eq!(named(&top(&mut sim, By::Members, &["*"])), ["room:big", "room:long", "room:loud"]);
}

#[test]
fn a_walk_goes_on_where_an_order_ended_and_says_what_it_left_out() {
    const ROOMS: usize = NAMED + 40;
    let mut sim = Sim::dev();
    let mut client = sim.connect();
    for number in 0..ROOMS {
        if number % 50 == 49 {
            client = sim.connect();
        }
        sim.join(client, &format!("room:{number}"), "1");
    }
    let second = sim.connect();
    sim.join(second, &format!("room:{}", ROOMS - 1), "1");
    let whole = order(&mut sim, By::Members, &[], 0);
    assert_eq!((whole.top.rooms.len(), whole.top.unseen, whole.next), (NAMED, 1, None));
    // A third of the looks for each room: an order has three rooms.
    let patterns = vec!["room:*"; LOOKS / 3];
    let (mut all, mut from, mut orders) = (Top::default(), 0, 0);
    while let Some(next) = {
        let report = order(&mut sim, By::Members, &patterns, from);
        assert!(report.top.rooms.len() <= 3, "{}", report.top.rooms.len());
        all.append(report.top, By::Members);
        orders += 1;
        report.next
    } {
        from = next;
    }
    assert!(orders >= ROOMS / 3, "{orders}");
    assert_eq!((all.rooms.len(), all.unseen), (NAMED, 1));
    assert_eq!(
        all.rooms[0],
        (format!("room:{}", ROOMS - 1), Figures { members: 2, nodes: 1, ..Figures::default() })
    );
}
