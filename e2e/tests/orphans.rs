//! A ChannelCluster is deleted and what belongs to it is left behind, then it is there again, as after a restore: it takes
//! back what was its own, and who is served notices nothing.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::time::Duration;

use e2e::{
    fleet::{Fleet, eventually},
    report::record,
    soak::{
        clients::{Clients, Place},
        ledger::Ledger,
    },
};

const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, nodes: {min: 2, max: 2}, \
    drain: {delay: 1s, deadline: 20s}, auth: {anonymous: true}, expose: {chatPage: true}}";
const NODES: usize = 2;
const CLIENTS: usize = 12;
const PERIOD: Duration = Duration::from_millis(500);
/// Objects that name their owner.
const OWNED: [&str; 5] = [
    "service/chat",
    "deployment/chat-node",
    "configmap/chat-config",
    "secret/chat-node",
    "service/chat-nats",
];

#[test]
fn left_behind_objects_are_taken_back_without_a_disconnect() {
    let fleet = Fleet::create("orphans", SPEC).unwrap();
    let (before, _) = fleet.wait_ready(NODES).unwrap();
    let place = Place { address: format!("{}:80", fleet.service_address().unwrap()), round_trip: None };
    let periods = vec![Some(PERIOD); CLIENTS];
    let clients = Clients::start(&fleet.instance, place, Ledger::new(CLIENTS, CLIENTS), periods).unwrap();
    clients.wait_there(1).unwrap();
    clients.wait_whole().unwrap();

    fleet.kubectl(&["delete", "channelcluster", &fleet.name, "--cascade=orphan", "--wait=true"]).unwrap();
    fleet.apply_spec(SPEC).unwrap();
    let uid = fleet.object().unwrap()["metadata"]["uid"].clone();
    let (_, elapsed) = eventually("all objects belong to the new ChannelCluster, and it is Ready", || {
        for object in OWNED {
            let found = fleet.instance.kubectl_json(["-n", &fleet.namespace, "get", object])?;
            let owners = &found["metadata"]["ownerReferences"];
            anyhow::ensure!(owners[0]["uid"] == uid, "{object} belongs to {owners}");
        }
        let (ready, message) = fleet.condition("Ready")?;
        anyhow::ensure!(ready == "True", "{message}");
        Ok(Some(()))
    })
    .unwrap();
    record("orphans", "restored_to_ready", elapsed.as_secs_f64()).unwrap();

    clients.wait_whole().unwrap();
    assert_eq!(clients.ledger.lock().ends().count(), 0, "nobody was disconnected");
    let (after, _) = fleet.wait_ready(NODES).unwrap();
    assert_eq!(before, after, "serving went on with the very same nodes");
    clients.stop().unwrap();
}
