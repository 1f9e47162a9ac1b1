//! The pod of NATS is deleted: as soon as the next one listens the nodes hear each other again.

use std::time::Duration;

use e2e::{
    fleet::{
        Fleet, eventually,
        pair::{NODES, Pair},
    },
    report::record,
    soak::{Millis, now},
};

/// Time between two messages of a client.
const PERIOD: Duration = Duration::from_millis(50);
const ROUNDS: usize = 3;
/// A message that was said so shortly ago, in milliseconds, may not have arrived yet.
const UNDER_WAY: Millis = 1_000;
/// The port of NATS as /proc/net/tcp writes it, and the state of a socket that listens (tcp_states.h).
const LISTENING: (&str, &str) = (":107E", "0A");

/// The time at which the server in this pod listens.
fn listens_at(pod_uid: &str) -> Millis {
    let (at, _) = eventually("NATS listens", || {
        let pid = Fleet::process_of(pod_uid, "nats-server")?;
        let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
        let listens = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().is_some_and(|local| local.ends_with(LISTENING.0));
            local && words.nth(1) == Some(LISTENING.1)
        };
        let any = tables.iter().flatten().flat_map(|table| table.lines()).any(listens);
        Ok(any.then(now))
    })
    .unwrap();
    at
}

#[test]
fn nodes_are_back_as_soon_as_nats_is() {
    let pair = Pair::create("nats-deleted").unwrap();
    let fleet = &pair.fleet;
    let clients = pair.talk(&pair.service().unwrap(), PERIOD, NODES).unwrap();
    for _ in 0..ROUNDS {
        let old = fleet.nats_pod().unwrap();
        let begun = now();
        fleet.kubectl(&["delete", "pod", &old.name, "--wait=false"]).unwrap();
        let (new, _) = eventually("another pod of NATS", || {
            let pod = fleet.nats_pod()?;
            Ok((pod.uid != old.uid).then_some(pod))
        })
        .unwrap();
        let listening = listens_at(&new.uid);
        clients.wait_whole().unwrap();
        // The last message between two nodes that was missed was said before the nodes heard each other again.
        let misses = clients.ledger.lock().misses(begun, now().saturating_sub(UNDER_WAY));
        let last = misses.iter().map(|miss| miss.at).max().unwrap_or(listening);
        let back = last.saturating_sub(listening) as f64 / 1e3;
        record("nats_deleted", "listening_to_all_hear_all", back).unwrap();
        for miss in &misses {
            assert_ne!(miss.from_node, miss.to_node, "who is on one node needs no NATS: {miss:?}");
        }
    }
    pair.undisturbed(clients).unwrap();
}
