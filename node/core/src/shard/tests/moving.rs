//! Clients are moved to other nodes while the shard serves.

use super::harness::{Client, Sent, Sim, drain};
use crate::{
    counters::CloseReason,
    limits::MOVE_LOOKS_PER_TICK,
    moving::{MoveOrder, MoveReport, MoveTask, Share},
    shard::{Event, Mail},
};

/// The order to close so many connections at so many per second.
fn closing(connections: u64, pace: u64) -> MoveTask {
    MoveTask {
        operation: 1,
        share: Share { connections, milliwrites: Share::NO_BOUND },
        milliconnections_per_second: pace * 1_000,
        min_age_millis: 0,
        lease_millis: 60_000,
    }
}

fn order(sim: &mut Sim, order: MoveOrder) {
    sim.shards[0].handle(Event::Mail(Mail::Move(order)));
    sim.settle();
}

/// Clients that have been in these rooms for a while.
fn clients(sim: &mut Sim, rooms: &[&str]) -> Vec<Client> {
    let clients: Vec<_> = rooms
        .iter()
        .map(|room| {
            let client = sim.connect();
            sim.join(client, room, "1");
            client
        })
        .collect();
    sim.pass(10_000);
    clients
}

fn moved(sim: &mut Sim) -> u64 {
    sim.counters().closed[CloseReason::Moved as usize]
}

fn report(sim: &mut Sim) -> MoveReport {
    sim.shards[0].take_move_report().expect("news")
}

#[test]
fn moved_clients_get_1012_at_the_pace_and_new_ones_are_served() {
    let mut sim = Sim::dev();
    let all = clients(&mut sim, &["room:1"; 40]);
    order(&mut sim, MoveOrder::Close(closing(20, 10)));
    sim.pass(1_000);
    let first = moved(&mut sim);
    assert!((8..=10).contains(&first), "{first} in a second at 10/s");
    let late = sim.connect();
    sim.join(late, "room:1", "1");
    sim.pass(9_000);
    assert_eq!(moved(&mut sim), 20);
    let told = all.iter().filter(|client| sim.sent(**client).contains(&Sent::Close(1012))).count();
    assert_eq!(told, 20);
    let report = report(&mut sim);
    assert_eq!((report.moved.connections, report.done, report.operation), (20, true, 1));
    sim.text(late, r#"["1","2","room:1","m",{}]"#);
    assert!(!sim.texts(late).is_empty(), "who came meanwhile stays");
    assert!(sim.shards[0].take_move_report().is_none());
}

#[test]
fn the_clients_of_busy_rooms_go_when_writes_are_asked_for() {
    let mut sim = Sim::dev();
    let rooms = ["room:loud", "room:loud", "room:loud", "room:quiet", "room:quiet", "room:other"];
    let all = clients(&mut sim, &rooms);
    for _ in 0..100 {
        sim.text(all[0], r#"["1","2","room:loud","m",{}]"#);
        sim.text(all[3], r#"["1","2","room:quiet","m",{}]"#);
        for _ in 0..9 {
            sim.text(all[0], r#"["1","2","room:loud","m",{}]"#);
        }
        sim.pass(100);
    }
    let share = Share { connections: 100, milliwrites: 210_000 };
    order(&mut sim, MoveOrder::Close(MoveTask { share, ..closing(100, 100) }));
    sim.pass(3_000);
    let report = report(&mut sim);
    assert_eq!((report.moved.connections, report.done), (2, true), "{report:?}");
    assert!((180_000..=210_000).contains(&report.moved.milliwrites), "{report:?}");
    let told: Vec<_> = all.iter().map(|client| sim.sent(*client).contains(&Sent::Close(1012))).collect();
    assert_eq!(told[..3].iter().filter(|told| **told).count(), 2);
    assert!(told[3..].iter().all(|told| !told), "{told:?}");
}

#[test]
fn a_session_of_long_poll_is_moved_too() {
    let mut sim = Sim::dev();
    let poll = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: n\r\n\r\n";
    let client = sim.accept(0);
    let answer = sim.http(client, poll);
    let token = answer.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let poll = format!("GET /socket/longpoll?vsn=2.0.0&token={token} HTTP/1.1\r\nhost: n\r\n\r\n");
    sim.pass(2_000);
    assert_eq!(sim.http(client, &poll), "", "it waits");
    order(&mut sim, MoveOrder::Close(closing(1, 100)));
    sim.pass(500);
    assert_eq!(moved(&mut sim), 1);
    let answer = sim.http(client, "");
    assert!(answer.contains("410"), "{answer}");
}

#[test]
fn the_young_stay_and_so_do_all_when_it_is_ended() {
    let mut sim = Sim::dev();
    clients(&mut sim, &["room:1"; 8]);
    let old = MoveTask { min_age_millis: 20_000, ..closing(8, 100) };
    order(&mut sim, MoveOrder::Close(old));
    sim.pass(2_000);
    assert_eq!((moved(&mut sim), report(&mut sim).done), (0, true));
    sim.pass(20_000);
    // An order is for those that were old enough when it came, not for those that become so while it is carried out.
    clients(&mut sim, &["room:2"; 4]);
    sim.pass(1_000);
    order(&mut sim, MoveOrder::Close(MoveTask { operation: 3, min_age_millis: 15_000, ..closing(12, 1) }));
    sim.pass(12_000);
    assert_eq!((moved(&mut sim), report(&mut sim).moved.connections), (8, 8));
    clients(&mut sim, &["room:1"; 8]);
    order(&mut sim, MoveOrder::Close(MoveTask { operation: 2, ..closing(8, 1) }));
    sim.pass(2_100);
    order(&mut sim, MoveOrder::Stop);
    sim.pass(10_000);
    let report = report(&mut sim);
    assert_eq!((moved(&mut sim), report.moved.connections, report.operation), (8 + 2, 2, 2));
}

#[test]
fn a_drain_ends_it_and_it_does_not_begin_in_a_drain() {
    let mut sim = Sim::dev();
    clients(&mut sim, &["room:1"; 8]);
    order(&mut sim, MoveOrder::Close(closing(8, 1)));
    sim.pass(1_100);
    assert_eq!(moved(&mut sim), 1);
    sim.shards[0].handle(drain(1));
    sim.settle();
    order(&mut sim, MoveOrder::Close(closing(8, 100)));
    sim.pass(2_000);
    let closed = sim.counters().closed;
    assert_eq!(closed[CloseReason::Moved as usize], 1);
    assert!(closed[CloseReason::Drain as usize] >= 2);
}

/// However many connections there are, a tick looks at so many at most.
#[test]
fn a_tick_has_a_bound() {
    let mut sim = Sim::new(1, false, |config| config.rooms.max_members = 100_000);
    let all = clients(&mut sim, &["room:1"; 3]);
    let topics: Vec<_> = (0..90).map(|number| format!("other:{number}")).collect();
    for client in &all {
        for topic in &topics {
            sim.text(*client, &format!(r#"["1","2","{topic}","phx_join",{{}}]"#));
        }
    }
    let share = Share { connections: 3, milliwrites: 1_000_000 };
    order(&mut sim, MoveOrder::Close(MoveTask { share, ..closing(3, 100) }));
    let walks_per_tick = MOVE_LOOKS_PER_TICK / (3 * 91);
    assert!(walks_per_tick > 10, "nobody has load: one walk is enough");
    sim.pass(6_000);
    assert_eq!((moved(&mut sim), report(&mut sim).done), (0, true), "nobody is moved for nothing");
}
