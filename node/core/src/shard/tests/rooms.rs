//! How many channels a connection may join, members a room may have, and rooms a node may have.

use std::sync::Arc;

use super::harness::{Client, Sim};
use crate::{
    config::NodeConfig,
    counters::JoinRefusal,
    shard::{Event, Mail},
};

#[test]
fn too_many_channels_and_full_rooms_are_refused_with_a_reply() {
    let mut sim = Sim::new(2, false, |config| {
        config.limits.max_channels_per_connection = 2;
        config.rooms.max_members = 2;
    });
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.join(client, "room:2", "2");
    sim.text(client, r#"["3","3","room:3","phx_join",{}]"#);
    assert!(sim.texts(client)[0].contains("too many channels joined"));
    let other = sim.connect_to(1, "2.0.0");
    sim.join(other, "room:1", "1");
    let third = sim.connect_to(1, "2.0.0");
    sim.text(third, r#"["1","2","room:1","phx_join",{}]"#);
    assert_eq!(
        sim.texts(third),
        [r#"["1","2","room:1","phx_reply",{"status":"error","response":{"reason":"room full"}}]"#]
    );
    sim.lose(client);
    sim.join(third, "room:1", "1");
    let refused = sim.counters().joins_refused;
    assert_eq!(refused[JoinRefusal::TooManyChannels as usize], 1);
    assert_eq!(refused[JoinRefusal::RoomFull as usize], 1);
}

/// Asks to join and returns the answer.
fn join(sim: &mut Sim, client: Client, topic: &str) -> String {
    sim.text(client, &format!(r#"["1","1","{topic}","phx_join",{{}}]"#));
    sim.texts(client).remove(0)
}

fn leave(sim: &mut Sim, client: Client, topic: &str) {
    sim.text(client, &format!(r#"[null,"2","{topic}","phx_leave",{{}}]"#));
    assert_eq!(sim.texts(client).len(), 2, "a reply and a close");
}

#[test]
fn the_node_has_max_rooms_over_all_shards_and_a_room_that_empties_frees_its_place() {
    const FULL: &str =
        r#"["1","1","room:3","phx_reply",{"status":"error","response":{"reason":"too many rooms"}}]"#;
    let mut sim = Sim::new(2, false, |config| config.limits.max_rooms = Some(2));
    let (first, second) = (sim.connect(), sim.connect_to(1, "2.0.0"));
    sim.join(first, "room:1", "1");
    sim.join(second, "room:1", "1");
    sim.join(second, "room:2", "1");
    for client in [first, second] {
        assert_eq!(join(&mut sim, client, "room:3"), FULL);
    }
    // A room with members on one shard has its place already, also on a shard where it has none.
    sim.join(first, "room:2", "1");
    sim.lose(second);
    assert_eq!(join(&mut sim, first, "room:3"), FULL);
    leave(&mut sim, first, "room:1");
    sim.join(first, "room:3", "1");
    assert_eq!(sim.shards[0].options.registry.topics(), 2);
    let counters = sim.counters();
    assert_eq!((counters.joins_refused[JoinRefusal::TooManyRooms as usize], counters.rooms), (3, 2));
}

#[test]
fn a_lower_bound_of_rooms_ends_none_and_never_refuses_the_figures_of_the_node() {
    let mut sim = Sim::new(1, false, |config| config.limits.max_rooms = Some(2));
    let client = sim.connect();
    sim.join(client, "room:1", "1");
    sim.join(client, "room:2", "1");
    let mut config = NodeConfig::dev();
    config.limits.max_rooms = Some(1);
    sim.shards[0].handle(Event::Mail(Mail::Reload(Arc::new(config))));
    assert_eq!(sim.counters().memberships, 2);
    leave(&mut sim, client, "room:2");
    assert!(join(&mut sim, client, "room:2").contains("too many rooms"));
    assert!(join(&mut sim, client, "$cluster").contains(r#""status":"ok""#));
    leave(&mut sim, client, "room:1");
    assert!(join(&mut sim, client, "room:2").contains("too many rooms"), "$cluster is a room as well");
    leave(&mut sim, client, "$cluster");
    sim.join(client, "room:2", "1");
}

/// Between the two looks of the join the other shard may leave the topic, and the bus may ask the registry at that
/// moment.
#[test]
fn the_bus_is_told_again_when_a_shard_was_in_a_full_room_for_a_moment() {
    let mut sim = Sim::new(2, true, |config| config.rooms.max_members = 1);
    let first = sim.connect_to(0, "2.0.0");
    sim.join(first, "room:1", "1");
    assert_eq!(sim.bus, ["join room:1"]);
    let second = sim.connect_to(1, "2.0.0");
    sim.text(second, r#"["1","1","room:1","phx_join",{}]"#);
    assert!(sim.texts(second)[0].contains("room full"));
    assert_eq!(sim.bus, ["join room:1", "leave room:1"]);
}

#[test]
fn a_flush_window_that_ended_early_does_not_cut_the_next_one_short() {
    let mut sim = Sim::new(1, false, |config| {
        config.rooms.policies =
            serde_json::from_str(r#"[{"topics": "room:*", "flushWindowMillis": 100}]"#).expect("policies");
    });
    let (from, late) = (sim.connect(), sim.connect());
    sim.join(from, "room:1", "1");
    let say = |sim: &mut Sim| sim.text(from, r#"["1",null,"room:1","m",{}]"#);
    say(&mut sim);
    sim.pass(50);
    sim.join(late, "room:1", "1");
    assert_eq!(sim.texts(from).len(), 1, "the join ended the window");
    say(&mut sim);
    sim.pass(50);
    assert_eq!(sim.texts(late).len(), 0, "the deadline of the first window is none of the second");
    sim.pass(50);
    assert_eq!((sim.texts(late).len(), sim.texts(from).len()), (1, 1));
}
