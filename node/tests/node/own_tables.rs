//! A node whose shards have descriptor tables of their own holds more connections than its limit of open files, in
//! balance, and whatever crosses threads works as with one table.

use std::{net::TcpStream, process::Command};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::process::{Process, command};
use crate::support::wait::wait;

/// Hard limit of the child.
const NOFILE: usize = 256;
/// The number needs [`SHARDS`] tables under that limit.
const CONNECTIONS: usize = 600;
const SHARDS: usize = 4;

fn node() -> Process {
    let original = command();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {NOFILE}; exec \"$0\" \"$@\"")]);
    command.arg(original.get_program()).args(original.get_args()).arg("--dev");
    // By itself a node takes at least one per CPU.
    command.args(["--shards", &SHARDS.to_string(), "--max-connections", &CONNECTIONS.to_string()]);
    Process::start(command)
}

/// Connections of each shard.
fn shards(node: &Process) -> Vec<usize> {
    let (_, text) = node.ask("GET", "/metrics", None, "");
    let lines = text.lines().filter(|line| line.starts_with("channelcluster_node_shard_connections{"));
    lines.map(|line| line.rsplit(' ').next().expect("a value").parse().expect("a number")).collect()
}

#[test]
fn more_connections_than_one_table_holds_are_served_balanced_and_drained() {
    let mut node = node();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::join(node.listen, "room:1")).collect();
    assert!(clients.iter().all(|(_, reply)| reply["status"] == "ok"));
    wait("all are counted", || shards(&node).iter().sum::<usize>() == CONNECTIONS);
    let held = shards(&node);
    assert_eq!(held.len(), SHARDS);
    let (least, most) = (held.iter().min().expect("four"), held.iter().max().expect("four"));
    assert!(most - least <= 2 * (16 + least / 50), "{held:?}");

    let said = json!([null, null, "room:1", "said", {"n": 1}]);
    clients[7].0.send(&json!(["1", null, "room:1", "said", {"n": 1}]));
    for (client, _) in &mut clients {
        client.until(|message| *message == said);
    }

    // A client too many is answered; the probes and the operator have descriptors left.
    let stream = TcpStream::connect(node.listen).expect("the accept queue takes it");
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", node.listen);
    assert!(tokio_tungstenite::tungstenite::client(url, stream).is_err(), "more than --max-connections");
    assert_eq!((node.ready(), node.ask("GET", "/healthz", None, "").0), (200, 200));

    // When connections of one shard end, the ones that come next even the shards out.
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for (number, client) in clients.into_iter().enumerate() {
        if number % 3 == 0 { gone.push(client) } else { kept.push(client) }
    }
    let left = kept.len();
    drop(gone);
    wait("they are gone", || shards(&node).iter().sum::<usize>() == left);
    kept.extend((left..CONNECTIONS).map(|_| Client::join(node.listen, "room:2")));
    wait("all are counted again", || shards(&node).iter().sum::<usize>() == CONNECTIONS);

    let order = r#"{"version":1,"stage":"Close","connectionsPerSecond":100000}"#;
    assert_eq!(node.ask("POST", "/v1/drain", None, order).0, 200);
    for (client, _) in &mut kept {
        assert_eq!(client.closed(), 1012);
    }
    drop(kept);
    wait("the node is empty", || shards(&node).iter().sum::<usize>() == 0);
    node.signal(Signal::TERM);
    assert!(node.exited().success());
}
