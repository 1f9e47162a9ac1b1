//! (e) A node is killed: its clients are back on other nodes, and the fleet is whole again.

use e2e::fleet::{Fleet, signal};
use e2e::report::record;
use e2e::stock::StockClients;

const SPEC: &str = "{targetConnections: 1000, rooms: {maxMembers: 150}, nodes: {min: 2, max: 2}, \
    drain: {delay: 1s, deadline: 20s}, auth: {anonymous: true}, expose: {chatPage: true}}";
/// Stock clients, about half of them on the node that is killed.
const CLIENTS: usize = 200;

#[test]
fn clients_of_a_killed_node_are_back() {
    let fleet = Fleet::create("killed", SPEC).unwrap();
    let (pods, _) = fleet.wait_ready(2).unwrap();
    let url = fleet.socket_url().unwrap();
    let mut clients = StockClients::spread(&fleet.instance, &url, CLIENTS, 50, 2).unwrap();

    let pid = Fleet::process_of(&pods[0].uid, "channel-node").unwrap();
    signal(pid, libc::SIGKILL).unwrap();

    let (summary, elapsed) = e2e::fleet::eventually("every client is back in its room", || {
        let summary = clients.summary()?;
        Ok((summary.reconnects > 0 && summary.all_back()).then_some(summary))
    })
    .unwrap();
    record("node_killed", "killed_to_all_back", elapsed.as_secs_f64()).unwrap();
    record("node_killed", "reconnect_p99", summary.p99_millis.unwrap() / 1_000.0).unwrap();
    record("node_killed", "reconnect_max", summary.max_millis.unwrap() / 1_000.0).unwrap();
    assert!(summary.reconnects < CLIENTS as u64, "clients of the other node were hit too: {summary:?}");

    let (_, elapsed) = fleet.wait_ready(2).unwrap();
    record("node_killed", "killed_to_whole", elapsed.as_secs_f64()).unwrap();
    clients.stop().unwrap();
}
