//! A node that runs out of memory refuses clients by the priority that their tokens say.

use std::{io::Write, net::TcpStream};

use aws_lc_rs::hmac;
use serde_json::json;

use crate::{
    support::{
        client::Client,
        forgery::{SECRET, seconds_from_now},
        process::Process,
        wait::wait,
    },
    tokens::{Mounts, signed},
};

const CONFIG: &str = "\
limits: {memoryBudget: 16777216}
auth:
  jwt:
  - {issuer: backend, algorithms: [HS256], keyFile: tokens/secret, priorityClaim: tier}
";
/// More clients than are enough to fill the budget.
const MOST: usize = 800;

fn token(tier: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let claims = json!({"iss": "backend", "sub": tier, "exp": seconds_from_now(600), "tier": tier});
    signed(&json!({"alg": "HS256"}), &claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

/// Whether a client of this priority is let in.
fn gets_in(node: &Process, tier: &str) -> bool {
    match Client::connect(node.listen, Some(&token(tier))) {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status, 503, "{tier}");
            false
        }
    }
}

/// A client of high priority that makes the node hold so many bytes of a message that does not end.
fn filler(node: &Process, bytes: usize) -> Client {
    let mut client = Client::connect(node.listen, Some(&token("high"))).expect("let in");
    let [high, low] = 60_000_u16.to_be_bytes();
    let stream: &mut TcpStream = client.stream();
    stream
        .write_all(&[&[0x81, 0xfe, high, low, 0, 0, 0, 0][..], &vec![b'x'; bytes]].concat())
        .expect("taken");
    client
}

#[test]
fn a_node_short_of_memory_refuses_low_priorities_first_and_high_ones_last() {
    let mounts = Mounts::new(CONFIG);
    let mut command = mounts.command();
    command.args(["--shards", "1"]);
    let node = Process::start(command);
    let mut fillers = Vec::new();
    // The last steps are small, because a little more memory would make the node close somebody.
    for (tier, others, bytes) in
        [("low", &["normal", "high"][..], 50_000), ("normal", &["high"], 50_000), ("high", &[], 8_000)]
    {
        while gets_in(&node, tier) {
            assert!(fillers.len() < MOST, "{tier} is refused");
            fillers.push(filler(&node, bytes));
        }
        for other in others {
            assert!(gets_in(&node, other), "{other} comes after {tier}");
        }
    }
    assert!(!gets_in(&node, "low"), "and nobody else does");
    let refused = |reason: &str| {
        let name = format!("channelcluster_node_refused_total{{reason=\"{reason}\"}}");
        node.metric(&name).expect("a counter")
    };
    wait("the counters", || refused("memory_low_priority") >= 1.0 && refused("memory") >= 3.0);
    let closed = node.metric("channelcluster_node_closed_total{reason=\"memory\"}");
    assert_eq!(closed, Some(0.0), "nobody was closed for it");
    drop(fillers);
    wait("memory to be free", || gets_in(&node, "low"));
}
