//! The generated Secret is deleted: it is there again at once, those who read it have what it says, and nodes and NATS
//! that come later know each other.
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
const PERIOD: Duration = Duration::from_millis(200);
const SECRET: &str = "chat-node";

#[test]
fn a_deleted_secret_is_made_again_and_all_who_read_it_follow() {
    let fleet = Fleet::create("secret", SPEC).unwrap();
    let (pods, _) = fleet.wait_ready(NODES).unwrap();
    let uid = || fleet.kubectl(&["get", "secret", SECRET, "-o", "jsonpath={.metadata.uid}"]);
    let old = uid().unwrap();
    fleet.kubectl(&["delete", "secret", SECRET]).unwrap();
    let (_, elapsed) = eventually("the Secret is there again", || {
        let now = uid()?;
        anyhow::ensure!(now != old, "the old one");
        Ok(Some(()))
    })
    .unwrap();
    record("secret_deleted", "deleted_to_made_again", elapsed.as_secs_f64()).unwrap();

    // A node that starts now reads the new one, the other may still have the old.
    fleet.kubectl(&["delete", "pod", &pods[0].name, "--wait=false"]).unwrap();
    let (_, elapsed) = eventually("the fleet is whole with another node", || {
        let now = fleet.node_pods()?;
        let whole = now.len() == NODES && now.iter().all(|pod| pod.ready && pod.uid != pods[0].uid);
        anyhow::ensure!(whole, "{now:?}");
        let (ready, message) = fleet.condition("Ready")?;
        anyhow::ensure!(ready == "True", "{message}");
        Ok(Some(()))
    })
    .unwrap();
    record("secret_deleted", "node_deleted_to_whole", elapsed.as_secs_f64()).unwrap();

    let place = Place { address: format!("{}:80", fleet.service_address().unwrap()), round_trip: None };
    let periods = vec![Some(PERIOD); CLIENTS];
    let clients = Clients::start(&fleet.instance, place, Ledger::new(CLIENTS, CLIENTS), periods).unwrap();
    clients.wait_there(NODES).unwrap();
    clients.wait_whole().unwrap();
    clients.stop().unwrap();
}
